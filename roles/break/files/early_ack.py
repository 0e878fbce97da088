"""Acknowledge messages when their tasks begin: what late acknowledgement is for is then seen. Loaded into workers."""

from celery import signals


def acknowledge_early(sender, **_):
    """Tell every task, since a task takes the setting only when it is made."""
    for task in sender.app.tasks.values():
        task.acks_late = False


signals.worker_init.connect(acknowledge_early, weak=False)
