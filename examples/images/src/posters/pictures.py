"""The steps of the pipeline: a picture is PNG between them."""

import io

import cairocffi
from PIL import Image


def drawn(bars: list[int], width: int) -> bytes:
    """Return a chart of black bars on white, with a gap behind each bar."""
    surface = cairocffi.ImageSurface(cairocffi.FORMAT_RGB24, 2 * width * len(bars), max(bars))
    context = cairocffi.Context(surface)
    context.set_source_rgb(1, 1, 1)
    context.paint()
    context.set_source_rgb(0, 0, 0)
    for place, height in enumerate(bars):
        context.rectangle(2 * width * place, max(bars) - height, width, height)
    context.fill()
    stream = io.BytesIO()
    surface.write_to_png(stream)
    return stream.getvalue()


def halved(png: bytes) -> Image.Image:
    """Return the picture in greys, half as broad and half as high."""
    return Image.open(io.BytesIO(png)).convert("L").reduce(2)
