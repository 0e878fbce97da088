"""What docs/scenario.yml calls: arguments that are made, and the right result for them."""

import random


def numbers(dice: random.Random, _index: int) -> list[int]:
    """Return the arguments of a message; they depend on nothing but what comes in."""
    return [dice.randint(1, 15)]


def fibonacci(n: int) -> int:
    """Return the right result for a message's arguments, by other means than the task."""
    smaller, larger = 0, 1
    for _ in range(n):
        smaller, larger = larger, smaller + larger
    return smaller
