"""Apps whose worker does not come up, one for each cause, and how each is started.

In texts {worker}, {admin}, {nowhere}, {closed} and {wrong} stand for URLs of a RabbitMQ, {tls} for one whose
certificate nobody trusts, {port} for RabbitMQ's port.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from task_messages import body, headers

APP = """import os
from celery import Celery
app = Celery("proj", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ.get("CELERY_RESULT_BACKEND"))
"""
TASK = APP + "@app.task(name='proj.add')\ndef add(x, y):\n    return x + y\n"
#: A module that is not there, whatever is installed.
ABSENT = "raise ModuleNotFoundError(\"No module named '{0}'\", name='{0}')\n"
#: The directory above the source as home, where nothing can be written.
READ_ONLY_HOME = 'mount --bind .. .. && mount -o remount,bind,ro ..; HOME=$(dirname "$PWD") exec "$@"'
#: As Django has it, whose settings are read from the environment.
DJANGO = """class ImproperlyConfigured(Exception):
    pass
if not os.environ.get("SECRET_KEY"):
    raise ImproperlyConfigured("The SECRET_KEY setting must not be empty.")
"""


@dataclass(frozen=True)
class Broken:
    """A worker that does not come up, or not for long."""

    name: str
    files: dict[str, str] = field(default_factory=lambda: {"proj.py": APP})
    app: str = "proj"
    broker: str = "{admin}"
    backend: str = ""
    queue: str = "red"
    options: Sequence[str] = ()
    #: Program and arguments before the worker's own.
    before: Sequence[str] = ()
    #: Program in the place of Celery's.
    program: str = ""
    #: Text of the log by which it has said all; without one it ends by itself.
    until: str = ""
    #: Messages for its queue: body, headers and content type.
    messages: Sequence[tuple[str, dict[str, object], str]] = ()


#: A text is enough: nobody unpickles it.
PICKLED = "gASVCQAAAAAAAAApfZR9lIeULg=="
ID = "5a1e1f6e-2c4b-4c53-9b0f-6f1d0c1f7a11"
ADD = (body(2, 3), headers("proj.add", id=ID), "application/json")
UNKNOWN = (body(), headers("shop.tasks.charge", id=ID), "application/json")
UNREADABLE = (PICKLED, headers("proj.add", id=ID), "application/x-python-serialize")
BROKEN = [
    Broken("app-module", files={}),
    Broken("app-submodule", files={"proj/__init__.py": ""}, app="proj.celery"),
    Broken(
        "app-module-of-its-own",
        files={"proj/__init__.py": "", "proj/celery.py": APP + "import proj.jobs\n"},
        app="proj.celery",
    ),
    # Celery says nothing of what went wrong in proj.celery.
    Broken("app-in-package", files={"proj/__init__.py": "", "proj/celery.py": APP + "import psycopg2_not_here\n"}),
    Broken("app-name", app="proj:shop"),
    Broken("app-without-celery", files={"proj.py": "settings = {}\n"}),
    Broken("app-of-another-type", files={"proj.py": "settings = 1\n"}, app="proj:settings"),
    Broken("dependency", files={"proj.py": APP + "import psycopg2_not_here\n"}),
    Broken("system-library", files={"proj.py": APP + "import ctypes\nctypes.CDLL('libsybdb.so.5')\n"}),
    Broken("system-library-unknown", files={"proj.py": APP + "import ctypes\nctypes.CDLL('libshop.so.7')\n"}),
    Broken("syntax", files={"proj.py": APP + "def add(x, y)\n    return x + y\n"}),
    Broken("indentation", files={"proj.py": APP + "def add(x, y):\nreturn x + y\n"}),
    Broken("environment", files={"proj.py": APP + "KEY = os.environ['SHOP_API_KEY']\n"}),
    Broken("environment-of-django", files={"proj.py": APP + DJANGO}),
    Broken(
        "permission",
        files={"proj.py": APP + "import subprocess\nsubprocess.run([os.path.abspath('convert')])\n", "convert": ""},
    ),
    Broken(
        "read-only",
        files={"proj.py": APP + "import logging\nlogging.FileHandler('log/shop.log')\n", "log/.keep": ""},
        before=["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro none log; exec "$@"', "sh"],
    ),
    # A library's cache, in the home that the role celery_app gives the user.
    Broken(
        "read-only-home",
        files={"proj.py": APP + "os.makedirs(os.path.expanduser('~/.cache/shop'))\n"},
        before=["unshare", "--mount", "sh", "-c", READ_ONLY_HOME, "sh"],
    ),
    # The same where the user has one in /home, which root would see all the same.
    Broken(
        "closed-home",
        files={"proj.py": APP + "raise PermissionError(13, 'Permission denied', '/home/shop/.cache')\n"},
    ),
    Broken("pool", options=["--pool=wings"]),
    Broken("pool-of-the-settings", files={"proj.py": APP + "app.conf.worker_pool = 'wings'\n"}),
    Broken("pool-gevent", files={"proj.py": APP, "gevent.py": ABSENT.format("gevent")}, options=["--pool=gevent"]),
    Broken("program", program="/nowhere/venv/bin/celery"),
    Broken("pid-file", files={"proj.py": APP, "w1.pid": "1\n"}, options=["--pidfile=w1.pid"]),
    Broken("port", files={"proj.py": APP + "import socket\nlistener = socket.create_server(('127.0.0.1', {port}))\n"}),
    Broken("login", broker="{wrong}"),
    Broken("virtual-host", broker="{nowhere}", until="not found"),
    Broken("virtual-host-permissions", broker="{closed}", until="refused for user"),
    Broken("queue-arguments", files={"proj.py": APP + "app.conf.task_queue_max_priority = 10\n"}),
    Broken("declare", broker="{worker}", queue="mails"),
    Broken(
        "consume",
        files={"proj.py": APP + "from kombu import Queue\napp.conf.task_queues = [Queue('yellow', no_declare=True)]\n"},
        broker="{worker}",
        queue="yellow",
    ),
    Broken(
        "certificate",
        files={
            "proj.py": APP
            + "import ssl\napp.conf.broker_use_ssl = {{'cert_reqs': ssl.CERT_REQUIRED, 'server_hostname': None}}\n"
        },
        broker="{tls}",
        until="CERTIFICATE_VERIFY_FAILED",
    ),
    Broken("broker", broker="amqp://shop:not-to-be-seen@127.0.0.1:1/shop", until="(1/100)"),
    Broken("broker-name", broker="amqp://shop:not-to-be-seen@broker.invalid:5672/shop", until="(1/100)"),
    Broken("store-redis-package", files={"proj.py": APP, "redis.py": ABSENT.format("redis")}, backend="redis://h/0"),
    Broken(
        "store-memcached-package",
        files={"proj.py": TASK, "pymemcache.py": ABSENT.format("pymemcache"), "pylibmc.py": ABSENT.format("pylibmc")},
        backend="cache+memcached://127.0.0.1:1/",
        messages=[ADD],
        until="ImproperlyConfigured",
    ),
    Broken(
        "store-database-package",
        files={"proj.py": APP, "sqlalchemy.py": ABSENT.format("sqlalchemy")},
        backend="db+sqlite:///results.sqlite",
    ),
    Broken("store-unknown", backend="mongo://127.0.0.1:1/"),
    Broken(
        "store-redis",
        files={"proj.py": TASK},
        backend="redis://:not-to-be-seen@127.0.0.1:1/0",
        messages=[ADD],
        until="Error 111 connecting",
    ),
    Broken(
        "store-memcached",
        files={"proj.py": TASK},
        backend="cache+memcached://127.0.0.1:1/",
        messages=[ADD],
        until="refused",
    ),
    Broken(
        "store-database",
        files={"proj.py": TASK},
        backend="db+sqlite:////nowhere/results.sqlite",
        messages=[ADD],
        until="OperationalError",
    ),
    Broken(
        "schedule-tables",
        files={
            "proj.py": APP + "import sqlite3\nsqlite3.connect('').execute('SELECT * FROM django_celery_beat_crontab')\n"
        },
    ),
    Broken("unregistered", messages=[UNKNOWN], until="unregistered task"),
    Broken(
        "serializer",
        files={"proj.py": TASK},
        messages=[UNREADABLE],
        until="Refusing to deserialize",
    ),
    Broken(
        "unregistered-dead-letter",
        options=["--include=taskmill_worker"],
        messages=[UNKNOWN],
        until="is rejected",
    ),
    Broken(
        "serializer-dead-letter",
        files={"proj.py": TASK},
        options=["--include=taskmill_worker"],
        messages=[UNREADABLE],
        until="is rejected",
    ),
    Broken(
        "store-memcached-dead-letter",
        files={"proj.py": TASK},
        backend="cache+memcached://127.0.0.1:1/",
        options=["--include=taskmill_worker"],
        messages=[ADD],
        until="MemcachedUnavailableError",
    ),
]
