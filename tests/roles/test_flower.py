"""The role flower without a host: what it refuses, and what it writes."""

from __future__ import annotations

import re
import runpy
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Play = Callable[..., "subprocess.CompletedProcess[str]"]

ROLE = Path(__file__).parents[2] / "roles" / "flower"
INPUT: dict[str, Any] = {
    "flower_broker_url": "amqp://monitor:not-to-be-seen@127.0.0.1:5672/own",
    "flower_broker_api_url": "http://monitor:not-to-be-seen@127.0.0.1:15672/api/",
    "flower_basic_auth_user": "taskmill",
    "flower_basic_auth_password": "not-to-be-seen",
    "flower_requirements": str(ROLE.parents[1] / "requirements" / "flower.txt"),
}


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        ({"flower_broker_url": "10.0.0.11/not-to-be-seen"}, ["amqp://USER:PASSWORD@HOST:PORT/VHOST"]),
        ({"flower_broker_api_url": "http://not-to-be-seen@host:15672"}, ["flower_broker_api_url", "with the slash"]),
        ({"flower_basic_auth_user": "a:b"}, ["flower_basic_auth_user is 'a:b'", "no colon"]),
        ({"flower_basic_auth_password": ""}, ["flower_basic_auth_password must not be empty"]),
        ({"flower_basic_auth_password": "not-to-be-seen,"}, ["no comma, at which Flower would cut it"]),
        ({"flower_tls_certificate": "/nowhere.pem"}, ["flower_tls_certificate is '/nowhere.pem'", "both are files"]),
        ({"flower_max_tasks": 0}, ["flower_max_tasks is 0", "at least 1"]),
        ({"flower_memory_max": "lots"}, ["flower_memory_max is 'lots'", "for example 512M"]),
        ({"flower_port": "http"}, ["flower_port", "http"]),
        ({"flower_requirements": "/nowhere/flower.txt"}, ["no requirements file /nowhere/flower.txt"]),
    ],
)
def test_bad_input_is_refused_and_no_secret_is_shown(play: Play, settings: dict[str, Any], messages: list[str]) -> None:
    """The play fails, names the input and the fix, and shows no password."""
    done = play([{"import_role": {"name": "flower"}}], {**INPUT, **settings}, "--check")
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert done.returncode != 0
    assert [message for message in messages if message not in said] == []
    assert "flower : configure" not in said
    assert "not-to-be-seen" not in said


def environment(play: Play, folder: Path, **settings: Any) -> dict[str, str]:
    """Return what a shell, which reads the file as systemd does, finds in the rendered settings."""
    target = folder / "flower.env"
    variables = {
        **yaml.safe_load((ROLE / "defaults" / "main.yml").read_text()),
        **yaml.safe_load((ROLE / "vars" / "main.yml").read_text()),
        **INPUT,
        **settings,
    }
    done = play([{"template": {"src": str(ROLE / "templates" / "flower.env.j2"), "dest": str(target)}}], variables)
    assert done.returncode == 0, done.stdout
    read = subprocess.run(
        ["env", "-i", "sh", "-c", f"set -a; . {target}; env -0"], capture_output=True, text=True, check=True
    )
    return dict(entry.split("=", 1) for entry in read.stdout.split("\0") if entry)


def test_signs_that_a_shell_takes_for_its_own_reach_flower(play: Play, tmp_path: Path) -> None:
    """Quotes, dollar signs, backticks and backslashes of a password are kept."""
    odd = "a \"b\" $HOME `id` \\ 'c' #d"
    written = environment(play, tmp_path, flower_basic_auth_password=odd)
    assert written["FLOWER_BASIC_AUTH"] == f"taskmill:{odd}"


def test_limits_have_the_form_that_flower_reads(play: Play, tmp_path: Path) -> None:
    """Flower's names, numbers as digits; what is empty is left out."""
    written = environment(play, tmp_path, flower_max_tasks=7, flower_broker_api_url="")
    assert written["FLOWER_MAX_TASKS"] == "7"
    assert written["CELERY_BROKER_URL"] == INPUT["flower_broker_url"]
    assert "FLOWER_BROKER_API" not in written
    assert not {"CELERY_CONFIG_MODULE", "FLOWER_CERTFILE", "FLOWER_KEYFILE"} & set(written)


def test_a_broker_with_tls_has_its_certificate_and_name_checked(play: Play, tmp_path: Path) -> None:
    """Flower's Celery finds the module, and the module is Python that says so."""
    written = environment(play, tmp_path, flower_broker_url="amqps://monitor:not-to-be-seen@10.0.0.1/own")
    assert (written["CELERY_CONFIG_MODULE"], written["PYTHONPATH"]) == ("broker_tls", "/etc/flower")
    target = tmp_path / "broker_tls.py"
    source = {"src": str(ROLE / "templates" / "broker_tls.py.j2"), "dest": str(target)}
    assert play([{"template": source}], {"flower_broker_ca": "ca.pem"}).returncode == 0
    assert runpy.run_path(str(target))["broker_use_ssl"] == {
        "ca_certs": "/etc/flower/broker-ca.pem",
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": None,
    }


def test_with_a_certificate_the_page_is_at_https(play: Play, tmp_path: Path) -> None:
    """Flower's own options name the files on the host."""
    written = environment(play, tmp_path, flower_tls_certificate="page.pem", flower_tls_key="page.key")
    assert (written["FLOWER_CERTFILE"], written["FLOWER_KEYFILE"]) == (
        "/etc/flower/certificate.pem",
        "/etc/flower/key.pem",
    )
