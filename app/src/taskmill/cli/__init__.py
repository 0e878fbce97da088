"""The command ``taskmill``."""

from __future__ import annotations

import sys

import click

from taskmill import __version__
from taskmill.cli.capacity import capacity_command, tune_group
from taskmill.cli.dead_letters import dead_letters_command
from taskmill.cli.fault import fault_group
from taskmill.cli.inspection import inspect_command
from taskmill.cli.recover import repair_command, resume_command
from taskmill.cli.renamed import Group
from taskmill.cli.report import check_command, compare_command, profile_cost_command, report_command
from taskmill.cli.run import collect_command, publish_command, run_command
from taskmill.cli.scenario import scenario_command
from taskmill.model import errors
from taskmill.model.errors import TaskmillError


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="taskmill")
def cli() -> None:
    """Publish tasks to a Celery cluster, fetch every result, and write down what happened.

    CELERY_BROKER_URL and CELERY_RESULT_BACKEND in the environment say where the cluster is.

    Exit codes: 0 all well; 1 something lost, wrong or failed; 2 wrong usage; 3 cannot start or go on; 4 publishing was
    not finished; 5 something required is not met; 130 interrupted.
    """


for command in (
    run_command,
    publish_command,
    collect_command,
    resume_command,
    repair_command,
    report_command,
    compare_command,
    check_command,
    capacity_command,
    dead_letters_command,
    inspect_command,
    scenario_command,
    tune_group,
    fault_group,
    profile_cost_command,
):
    cli.add_command(command)


def main() -> None:
    """Run the command; errors that a user can mend are one line, without a traceback."""
    try:
        code = cli.main(prog_name="taskmill", standalone_mode=False)
    except TaskmillError as error:
        click.echo(f"taskmill: {error}", err=True)
        code = error.exit_code
    except OSError as error:
        # A full disk, or a run folder that went away.
        click.echo(f"taskmill: {error.strerror or error}: {error.filename or 'while writing'}", err=True)
        code = TaskmillError.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "taskmill: stopped at once; what was posted is in ids/ of the run folder, and taskmill resume takes it up",
            err=True,
        )
        code = errors.INTERRUPTED
    sys.exit(code)
