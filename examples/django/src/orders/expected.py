"""The right invoice, made without Django."""

import base64
import hashlib
import hmac
import os


def invoice(number: int, cents: int) -> str:
    """Return what the task of this name has to return."""
    text = f"Invoice {number}\nTotal: EUR {cents // 100}.{cents % 100:02}\n"
    key = hashlib.sha256(f"invoicesigner{os.environ['SECRET_KEY']}".encode()).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).digest()
    return text + base64.urlsafe_b64encode(signature).decode().rstrip("=")
