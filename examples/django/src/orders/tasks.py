"""The tasks of the orders."""

from celery import shared_task
from django.core.signing import Signer
from django.template.loader import render_to_string
from django.utils import timezone


@shared_task
def invoice(number: int, cents: int) -> str:
    """Return an invoice as text, with the project's signature as its last line."""
    text = render_to_string("orders/invoice.txt", {"number": number, "total": cents / 100})
    return f"{text}{Signer(salt='invoice').signature(text)}"


@shared_task
def date_ledger() -> str:
    """Return the day on which the ledger stands, as ISO 8601 has it."""
    return timezone.localdate().isoformat()
