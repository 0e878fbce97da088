"""The right sum, by a formula."""


def total(count: int) -> int:
    """Return the sum of 100 + n * n for the first ``count`` numbers n, from 0 on."""
    return 100 * count + (count - 1) * count * (2 * count - 1) // 6
