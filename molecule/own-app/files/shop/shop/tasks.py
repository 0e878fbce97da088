"""What the shop does."""

from celery import shared_task

from shop.prices import gross


@shared_task
def invoice(net: int) -> int:
    """Return the price with tax, in cents."""
    print(net)
    return gross(net)
