"""Prices in cents."""

import os

# As the SECRET_KEY of a Django project: nobody has it but workers, nor is anything of the app to run as root.
KEY = os.environ["SHOP_KEY"]
TAX = int(os.environ["SHOP_TAX"])
assert os.getuid() != 0


def gross(net: int) -> int:
    """Return the price with the tax."""
    return net + round(net * TAX / 100)


def expected(net: int) -> int:
    """Return the same by other means."""
    return (net * 119 + 50) // 100
