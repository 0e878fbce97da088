"""``taskmill dead-letters``."""

from __future__ import annotations

import click

from taskmill.cli.renamed import renamed_option
from taskmill.cluster import dead_letter_queue
from taskmill.cluster.broker import Broker
from taskmill.report.text import count
from taskmill.results import store


@click.command("dead-letters")
@click.option("--requeue", "action", flag_value="requeue", help="Send them to the queues that they came from.")
@click.option("--purge", "action", flag_value="purge", help="Delete them.")
@click.option("--id", "ids", multiple=True, help="Only the dead letter of this task; repeat it for more.")
@click.option("--queue", default="dead-letters", show_default=True, help="The queue of the dead letters.")
@renamed_option("--put-back", "--requeue")
@renamed_option("--drop", "--purge")
def dead_letters_command(action: str | None, ids: tuple[str, ...], queue: str) -> None:
    """Show the dead letters, which workers could not run or gave up, one line each and without their content."""
    broker, results = Broker.from_environment(), store.of_environment()
    number = 0
    for letter, outcome in dead_letter_queue.settle(broker, results, queue, action or "show", ids):
        number += 1
        click.echo(letter.line() + ("" if outcome == "show" else f"  {outcome}"))
    click.echo(count(number, "dead letter"))
