"""What a picture has to be, by arithmetic."""


def chart(bars: list[int], width: int) -> dict[str, int]:
    """Return what the task of this name has to return; all numbers are even, so that no pixel is half black."""
    return {"width": width * len(bars), "height": max(bars) // 2, "black": sum(bars) * width // 4}
