"""The tasks: one that asks every supplier, in a chord, and those of the chord."""

from celery import chord, shared_task

from prices import suppliers


@shared_task(bind=True)
def total(self, count: int) -> int:
    """Return the sum of the prices of ``count`` suppliers, once all have answered: a chord takes this task's place."""
    return self.replace(chord([ask.s(supplier) for supplier in range(count)], add.s()))


@shared_task(bind=True, autoretry_for=(suppliers.BusyError,), max_retries=5, default_retry_delay=0.2)
def ask(self, supplier: int) -> int:
    """Return the price of a supplier; ask again, a little later, where it is busy."""
    return suppliers.ask(supplier, self.request.retries)


@shared_task
def add(prices: list[int]) -> int:
    """Return the sum of the prices."""
    return sum(prices)
