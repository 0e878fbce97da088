"""Arguments that are made for generated.yml and large-arguments.yml, and the right result for them."""

import random


def numbers(dice: random.Random, _index: int) -> list[int]:
    """Return one argument, small numbers more often than large ones."""
    return [min(dice.randint(1, 22), dice.randint(1, 22))]


def long_text(_dice: random.Random, index: int) -> list[str]:
    """Return a text of 30,000 characters, another one for each message."""
    return [f"{index:010}" * 3000]


def fibonacci(n: int) -> int:
    """Return the right result, by other means than the task."""
    smaller, larger = 0, 1
    for _ in range(n):
        smaller, larger = larger, smaller + larger
    return smaller
