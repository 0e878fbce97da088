"""The tasks."""

from celery import shared_task

from posters import pictures


@shared_task
def chart(bars: list[int], width: int) -> dict[str, int]:
    """Draw a bar chart, halve the picture, and return its size and its black pixels.

    ``bars`` are the heights of the bars, and ``width`` is how broad each bar and each gap is, all in pixels.
    """
    picture = pictures.halved(pictures.drawn(bars, width))
    return {"width": picture.width, "height": picture.height, "black": picture.histogram()[0]}
