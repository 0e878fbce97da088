"""Arguments that are made for scenario.yml."""

import random


def bars(dice: random.Random, _index: int) -> list[object]:
    """Return the heights of up to a dozen bars, and how broad they are, all of them even, as the arithmetic needs."""
    return [[2 * dice.randint(1, 100) for _ in range(dice.randint(1, 12))], 2 * dice.randint(1, 20)]
