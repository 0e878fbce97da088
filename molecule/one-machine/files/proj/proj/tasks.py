"""What it does."""

from proj.celery import app


@app.task
def add(x: int, y: int) -> int:
    """Return a sum."""
    return x + y


@app.task
def mul(x: int, y: int) -> int:
    """Return a product."""
    return x * y
