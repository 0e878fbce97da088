"""The suppliers, which answer slowly and not always."""

import time

#: Seconds that a supplier takes to answer. It stands for a request over a network; gevent runs other tasks meanwhile.
SECONDS = 0.05


class BusyError(Exception):
    """A supplier does not answer now; asking again helps."""


def price(supplier: int) -> int:
    """Return a supplier's price in cents."""
    return 100 + supplier * supplier


def ask(supplier: int, attempt: int) -> int:
    """Return the price that a supplier answers with; raise ``BusyError`` for the first attempt at an odd one."""
    time.sleep(SECONDS)
    if supplier % 2 and not attempt:
        raise BusyError(f"supplier {supplier} is busy")
    return price(supplier)


def total(suppliers: int) -> int:
    """Return the sum of the prices of so many suppliers, as a program would have it that need not wait."""
    return sum(price(supplier) for supplier in range(suppliers))
