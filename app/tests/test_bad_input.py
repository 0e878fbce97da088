"""What a user can get wrong, or find broken, before the first message: one clear line each, and no run folder."""

from pathlib import Path

import amqp
import pytest
from click.testing import CliRunner

from conftest import TASKS, Result, Taskmill
from services import ADMIN, CLIENT, Memcached, RabbitMQ, Worker, channel, free_port, purge_queue
from taskmill.cli import cli
from taskmill.cluster import workers
from taskmill.cluster.broker import Broker
from taskmill.model.errors import TaskmillError

USUAL = ("run", *TASKS, "--tasks=10", "--n=5", "--expect=5")


def refused(done: Result, taskmill: Taskmill, code: int) -> str:
    """Check that nothing was begun, and return the message, which is no traceback and holds no password."""
    assert done.code == code, done.out + done.err
    assert not taskmill.runs.exists()
    assert "Traceback" not in done.err
    for user in (CLIENT, ADMIN):
        assert user.password not in done.out + done.err
    return done.err


def usage_error(*arguments: str) -> str:
    """Return what the command line says, in this process: it must come before anything else is looked at."""
    done = CliRunner().invoke(cli, [*arguments])
    assert done.exit_code == 2, done.output
    return done.output


@pytest.mark.parametrize("option", ["tasks", "threads", "processes", "n", "window"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", ""])
def test_numbers_must_be_whole_and_positive(option: str, value: str) -> None:
    """Zero, negative numbers and no numbers are refused, with the option's name."""
    assert f"'--{option}'" in usage_error(*USUAL, f"--{option}={value}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--deadline=0",), "'--deadline'"),
        (("--task=red",), "TASK=QUEUE"),
        (("--name=../up",), "begin with a letter"),
        (("--expect=five",), "is not JSON"),
        (("--args=[1]",), "one of --n and --args"),
        (("--environment=/does/not/exist",), "does not exist"),
        (("--surprise",), "No such option"),
    ],
)
def test_usage_is_explained(arguments: tuple[str, ...], words: str) -> None:
    """Options that make no sense end with exit code 2 and say which."""
    assert words in usage_error(*USUAL, *arguments)


def test_arguments_must_be_a_list() -> None:
    """--args takes a JSON list."""
    assert "JSON list" in usage_error("run", *TASKS, "--tasks=1", "--args=5")


def test_usage_error_ends_the_command_with_code_2(tmp_path: Path) -> None:
    """The installed command says it on stderr, without a traceback."""
    taskmill = Taskmill({}, tmp_path / "runs")
    assert "'--tasks'" in refused(taskmill(*USUAL, "--tasks=0"), taskmill, 2)


@pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"])
def test_missing_environment_names_the_file_that_sets_it(taskmill: Taskmill, name: str) -> None:
    """An address that is not set is missed only when it is needed, by the file it belongs in."""
    del taskmill.environment[name]
    message = refused(taskmill(*USUAL), taskmill, 3)
    assert f"{name} is not set" in message
    assert "/etc/taskmill/taskmill.env" in message


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CELERY_BROKER_URL", "redis://127.0.0.1/0", "must begin with amqp://"),
        ("CELERY_RESULT_BACKEND", "rpc://", "can read each of them once"),
        ("CELERY_RESULT_BACKEND", "cache+memcached:///", "cache+memcached://HOST:11211/"),
    ],
)
def test_address_of_another_kind_is_refused(taskmill: Taskmill, name: str, value: str, words: str) -> None:
    """Only AMQP will do, and a store that has results by their ids."""
    taskmill.environment[name] = value
    assert words in refused(taskmill(*USUAL), taskmill, 3)


def test_broker_that_is_not_there_is_named(taskmill: Taskmill) -> None:
    """A closed port: address, reason and remedy."""
    port = free_port()
    taskmill.environment["CELERY_BROKER_URL"] = f"amqp://client:{CLIENT.password}@127.0.0.1:{port}/taskmill"
    message = refused(taskmill(*USUAL), taskmill, 3)
    assert f"127.0.0.1:{port}" in message
    assert "Connection refused" in message
    assert "RabbitMQ runs" in message


def test_broker_whose_name_is_unknown_is_named(taskmill: Taskmill) -> None:
    """A host name that resolves to nothing."""
    taskmill.environment["CELERY_BROKER_URL"] = "amqp://client:x@no-such-host.invalid/taskmill"
    assert "no-such-host.invalid:5672" in refused(taskmill(*USUAL), taskmill, 3)


def test_wrong_password_is_said_without_it(taskmill: Taskmill, rabbitmq: RabbitMQ) -> None:
    """The broker refuses: user and address, and no password, neither the wrong nor the right one."""
    taskmill.environment["CELERY_BROKER_URL"] = rabbitmq.url(CLIENT, password="wrong-secret")
    message = refused(taskmill(*USUAL), taskmill, 3)
    assert "refuses the user or the password" in message
    assert "user 'client'" in message
    assert "wrong-secret" not in message


def test_unknown_virtual_host_is_said(taskmill: Taskmill, rabbitmq: RabbitMQ) -> None:
    """A virtual host that does not exist."""
    taskmill.environment["CELERY_BROKER_URL"] = rabbitmq.url(CLIENT, vhost="elsewhere")
    message = refused(taskmill(*USUAL), taskmill, 3)
    assert "no such virtual host" in message
    assert "'elsewhere'" in message


def test_task_that_no_worker_has_is_refused_before_a_message_is_published(taskmill: Taskmill, worker: Worker) -> None:
    """A name that is not right: a load of it would be one of dead letters."""
    message = refused(taskmill("run", "--task=fibonacci.tasks.rad=red", "--tasks=10", "--n=5"), taskmill, 3)
    assert f"{worker.name}@" in message
    assert (
        " takes the messages of the queue red and has no task fibonacci.tasks.rad (the nearest is "
        "fibonacci.tasks.red): it would run none of them. It has fibonacci.tasks.blue, fibonacci.tasks.green, "
        "fibonacci.tasks.red. Mend the name of the task, or have the workers' app import the module that the task is in"
    ) in " ".join(message.split())


def test_queue_that_is_not_declared_is_named(taskmill: Taskmill) -> None:
    """A message to it would be confirmed and gone, so it is looked for first."""
    message = refused(taskmill("run", "--task=a.b=purple", "--tasks=1", "--n=5"), taskmill, 3)
    assert "no queue 'purple'" in message
    assert "rabbitmq_queues" in message


def test_queue_without_a_worker_is_named(taskmill: Taskmill, worker: Worker) -> None:
    """Tasks that nobody takes are not posted, unless asked for; the message says who consumes what."""
    message = refused(taskmill("run", *TASKS, "--task=a.b=yellow", "--tasks=4", "--n=5"), taskmill, 3)
    assert "no worker consumes the queue yellow" in message
    assert f"{worker.name}@" in message
    assert "blue, green, red" in message


def test_messages_that_wait_already_are_counted_and_refused(taskmill: Taskmill, rabbitmq: RabbitMQ) -> None:
    """A run among the messages of another would count their executions; how many wait is said, and what to do."""
    other = channel(rabbitmq)
    other.basic_publish_confirm(amqp.Message("left over"), routing_key="yellow")
    other.connection.close()
    try:
        message = refused(taskmill("run", "--task=a.b=yellow", "--tasks=1", "--n=5", "--no-workers"), taskmill, 3)
        assert "1 in yellow" in message
        assert "purge_queue" in message
        allowed = ("--task=a.b=yellow", "--tasks=1", "--n=5", "--no-workers", "--allow-waiting")
        assert taskmill("publish", *allowed).code == 0
    finally:
        purge_queue(rabbitmq, "yellow")


def test_no_worker_at_all_is_said(rabbitmq: RabbitMQ) -> None:
    """With nobody there the message points at the units."""
    broker = Broker(rabbitmq.url(CLIENT))
    with pytest.raises(TaskmillError, match=r"no worker answers.*celery-worker@"):
        workers.check(broker, [], ["red"])


def test_memcached_too_small_for_the_run_is_said_before_posting(taskmill: Taskmill) -> None:
    """A million results do not fit into 64 MiB: how much they need, and which setting."""
    message = refused(taskmill(*USUAL, "--tasks=1000000"), taskmill, 3)
    assert "too small" in message
    assert "1,000,000 results of 384 bytes need 368 MiB, and it has 64 MiB" in message
    assert "memcached_memory_mb" in message


def test_memcached_that_is_not_there_is_named(taskmill: Taskmill) -> None:
    """A closed port: address and remedy."""
    port = free_port()
    taskmill.environment["CELERY_RESULT_BACKEND"] = f"cache+memcached://127.0.0.1:{port}/"
    message = refused(taskmill(*USUAL), taskmill, 3)
    assert f"memcached at 127.0.0.1:{port} cannot be reached" in message


def test_runs_directory_that_cannot_be_written_is_named(
    taskmill: Taskmill, memcached: Memcached, tmp_path: Path
) -> None:
    """A file in the way of the directory."""
    assert memcached.process is not None
    (tmp_path / "file").touch()
    taskmill.runs = tmp_path / "file" / "runs"
    done = taskmill(*USUAL, "--no-workers")
    assert done.code == 3
    assert "--runs-directory" in done.err


@pytest.mark.parametrize("command", ["collect", "report"])
def test_folder_that_is_no_run_is_refused(taskmill: Taskmill, tmp_path: Path, command: str) -> None:
    """Any other folder, and none at all."""
    assert "no run folder" in refused(taskmill(command, str(tmp_path)), taskmill, 3)
    assert "does not exist" in refused(taskmill(command, str(tmp_path / "none")), taskmill, 2)


@pytest.mark.parametrize(
    ("arguments", "new"),
    [
        (("post", *TASKS), "`taskmill publish`"),
        (("letters",), "`taskmill dead-letters`"),
        (("dead-letters", "--put-back"), "`--requeue`"),
        (("dead-letters", "--drop"), "`--purge`"),
        (("run", "--stack", "post2017", *TASKS), "`--release`"),
        (("publish", "--stack=", *TASKS), "`--release`"),
    ],
)
def test_old_names_are_refused_with_the_new_ones(arguments: tuple[str, ...], new: str) -> None:
    """One line, whatever else stands beside it."""
    said = usage_error(*arguments)
    assert said.startswith("Error: ")
    assert new in said
    assert said.count("\n") == 1


def test_help_shows_what_a_user_uses() -> None:
    """What playbooks alone call is there, and is not listed."""
    said = CliRunner().invoke(cli, ["--help"]).output
    assert all(f"\n  {name} " in said for name in ("run", "publish", "collect", "report", "compare", "dead-letters"))
    for name in ("tune", "fault", "profile-cost"):
        assert f"\n  {name} " not in said
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0
