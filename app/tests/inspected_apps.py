"""Small Celery apps of others, as files, that tests of ``taskmill inspect`` write and look at."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from taskmill.cli.inspection import inspect_command
from taskmill.model.errors import TaskmillError

#: The first example of Celery's documentation ("Using Celery in your Application").
DOCS = {
    "proj/__init__.py": "",
    "proj/celery.py": """\
from celery import Celery

app = Celery('proj',
             broker='amqp://',
             backend='rpc://',
             include=['proj.tasks'])

# Optional configuration, see the application user guide.
app.conf.update(
    result_expires=3600,
)

if __name__ == '__main__':
    app.start()
""",
    "proj/tasks.py": """\
from .celery import app


@app.task
def add(x, y):
    return x + y


@app.task
def mul(x, y):
    return x * y


@app.task
def xsum(numbers):
    return sum(numbers)
""",
}

#: "First steps with Celery": one module.
SINGLE = {
    "tasks.py": """\
from celery import Celery

app = Celery('tasks', broker='pyamqp://guest@localhost//')

@app.task
def add(x, y):
    return x + y
"""
}

#: The example of stamping: the Celery object by itself, tasks that import it, and what the worker is given.
APART = {
    "config.py": "from celery import Celery\n\napp = Celery('myapp')\n",
    "tasks.py": "from config import app as celery\n\n\n@celery.task\ndef add(x, y):\n    return x + y\n",
    "worker.py": "import tasks\nfrom config import app\nfrom help import ready\n",
    "help.py": "ready = True\n",
    "unrelated.py": "from config import app\n",
}

#: As FastAPI's users write them: settings that pydantic reads, of which some have no default.
PYDANTIC = {
    "shop/settings.py": """\
from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Common(BaseSettings):
    broker_address: str


class Settings(Common):
    model_config = SettingsConfigDict(env_prefix="shop_")
    store: str
    token: str = Field(validation_alias=AliasChoices("API_TOKEN", "API_KEY"))
    retries: int = 3


class Unused(BaseSettings):
    nobody: str
""",
    "shop/worker.py": """\
from celery import Celery

from shop.settings import Common, Settings

settings = Settings()
app = Celery("shop", broker=Common().broker_address)


@app.task
def add(x, y):
    return x + y
""",
}

#: "First steps with Django", with settings of its own and a secret key from the environment.
DJANGO = {
    "manage.py": """\
import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
""",
    "mysite/__init__.py": """\
from .celery import app as celery_app

__all__ = ('celery_app',)
""",
    "mysite/celery.py": """\
import os

from celery import Celery

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings')

app = Celery('mysite')
app.config_from_object('django.conf:settings', namespace='CELERY')
app.autodiscover_tasks()
""",
    "mysite/settings.py": """\
import os

SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = True
INSTALLED_APPS = ["demoapp"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("DATABASE", "db.sqlite3")}}
CELERY_BROKER_URL = "redis://:hunter2@localhost:6379/0"
CELERY_TASK_TIME_LIMIT = 30 * 60
CELERY_BEAT_SCHEDULE = {
    "count": {"task": "demoapp.tasks.count_widgets", "schedule": 60.0},
    "gone": {"task": "demoapp.tasks.renamed", "schedule": 60.0},
}
""",
    "demoapp/__init__.py": "",
    "demoapp/models.py": """\
from django.db import models


class Widget(models.Model):
    name = models.CharField(max_length=140)
""",
    "demoapp/tasks.py": """\
from celery import shared_task

from demoapp.models import Widget


@shared_task
def count_widgets():
    return Widget.objects.count()


@shared_task(autoretry_for=(OSError,))
def rename_widget(widget_id: int, name: str):
    Widget.objects.filter(id=widget_id).update(name=name)
""",
}

#: Queues with priorities and of quorum, a topic exchange, routes by glob, by function, and none.
QUEUES = {
    "media/__init__.py": "",
    "media/app.py": """\
from celery import Celery
from kombu import Exchange, Queue

print("media is imported")
topics = Exchange("media", type="topic")


def by_name(name, args, kwargs, options, task=None, **kw):
    return {"queue": "mail"} if name.startswith("media.mail.") else None


app = Celery("media", include=["media.images", "media.mail"])
app.conf.update(
    task_queues=[
        Queue("default", queue_arguments={"x-queue-type": "quorum"}),
        Queue("images", topics, routing_key="image.#", max_priority=10),
        Queue("mail", no_declare=True),
        Queue("unused"),
    ],
    task_default_queue="default",
    task_routes=(by_name, {"media.images.*": {"exchange": "media", "routing_key": "image.resize", "priority": 5}}),
    task_serializer="pickle",
    accept_content=["json", "pickle"],
    broker_read_url="amqp://guest@elsewhere//",
)
""",
    "media/images.py": """\
from datetime import timedelta

from media.app import app


@app.task(acks_late=True, soft_time_limit=400, autoretry_for=(OSError,), retry_backoff=True, retry_backoff_max=7200)
def resize(width: int, height: int):
    later.apply_async(eta=now() + timedelta(hours=2))


@app.task(exchange="nowhere", routing_key="x")
def lost():
    later.apply_async(countdown=60 * 60)
""",
    "media/mail.py": """\
from media.app import app


@app.task(ignore_result=True, bind=True)
def send(self, to: str, *, subject: str):
    pass


@app.task
def count():
    pass
""",
}


def write(directory: Path, files: dict[str, str]) -> Path:
    """Write an app's files below a directory, and return it."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


@dataclass
class Inspected:
    """What the command left behind; ``error`` is what it would have said in one line."""

    out: str
    error: str
    code: int

    @property
    def json(self) -> Any:
        """What --json wrote."""
        return json.loads(self.out)

    @property
    def facts(self) -> list[tuple[str, str, str]]:
        """The facts."""
        return [(one["about"], one["value"], one["source"]) for one in self.json["facts"]]

    @property
    def hurts(self) -> list[tuple[str, str]]:
        """The problems, without what mends them."""
        return [(one["what"], one["source"]) for one in self.json["problems"]]


def inspected(app: Path | str, *options: str, python: str = sys.executable) -> Inspected:
    """Return what ``taskmill inspect`` says of an app, in an environment that is there: that of these tests."""
    # On a machine that has other work, an import takes long.
    arguments = [str(app), "--python", python, "--timeout", "150", *options]
    done = CliRunner(env={"COLUMNS": "300"}).invoke(inspect_command, arguments)
    if done.exception is not None and not isinstance(done.exception, TaskmillError | SystemExit):
        raise done.exception
    return Inspected(done.stdout, str(done.exception or "") + done.stderr, done.exit_code)
