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

Play = Callable[..., "subprocess.CompletedProcess[str]"]
Render = Callable[[Path, dict[str, Any]], str]
Refused = Callable[[dict[str, Any]], tuple[Any, str]]

ROLE = Path(__file__).parents[2] / "roles" / "flower"
INPUT: dict[str, Any] = {
    "flower_broker_url": "amqp://monitor:not-to-be-seen@127.0.0.1:5672/own",
    "flower_broker_api_url": "http://monitor:not-to-be-seen@127.0.0.1:15672/api/",
    "flower_basic_auth_user": "taskmill",
    "flower_basic_auth_password": "not-to-be-seen",
    "flower_requirements": str(ROLE.parents[1] / "requirements" / "flower.txt"),
}


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"flower_broker_url": "10.0.0.11/not-to-be-seen"}, ["amqp://USER:PASSWORD@HOST:PORT/VHOST"]),
    ({"flower_broker_api_url": "http://not-to-be-seen@host:15672"}, ["flower_broker_api_url", "with the slash"]),
    ({"flower_basic_auth_user": "a:b"}, ["flower_basic_auth_user is 'a:b'", "no colon"]),
    ({"flower_basic_auth_password": ""}, ["flower_basic_auth_password must not be empty"]),
    ({"flower_basic_auth_password": "not-to-be-seen,"}, ["no comma, at which Flower would cut it"]),
    ({"flower_tls_certificate": "/nowhere.pem"}, ["flower_tls_certificate is '/nowhere.pem'", "both are files"]),
    ({"flower_max_tasks": 0}, ["flower_max_tasks is 0", "at least 1"]),
    ({"flower_memory_max": "lots"}, ["flower_memory_max is 'lots'", "for example 512M"]),
    ({"flower_port": "http"}, ["flower_port", "http"]),
]


@pytest.fixture(scope="module")
def refused(play_inputs: Callable[..., Refused]) -> Refused:
    """What became of every bad input."""
    return play_inputs("flower", INPUT, [{**INPUT, **settings} for settings, _ in REFUSED])


@pytest.mark.parametrize(("settings", "messages"), REFUSED)
def test_bad_input_is_refused_and_no_secret_is_shown(
    refused: Refused, settings: dict[str, Any], messages: list[str]
) -> None:
    """The play fails, names the input and the fix, and shows no password."""
    case, output = refused({**INPUT, **settings})
    said = case.refusal()
    assert [message for message in messages if message not in said] == []
    assert "not-to-be-seen" not in output


def test_requirements_that_are_not_there_are_refused(play: Play) -> None:
    """Before anything is configured, by the role that makes the environment."""
    settings = {**INPUT, "flower_requirements": "/nowhere/flower.txt"}
    done = play([{"import_role": {"name": "flower"}}], settings, "--check")
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert done.returncode != 0
    assert "no requirements file /nowhere/flower.txt" in said
    assert "flower : configure" not in said
    assert "not-to-be-seen" not in said


def environment(render: Render, folder: Path, **settings: Any) -> dict[str, str]:
    """Return what a shell, which reads the file as systemd does, finds in the rendered settings."""
    target = folder / "flower.env"
    target.write_text(render(ROLE / "templates" / "flower.env.j2", {**INPUT, **settings}))
    read = subprocess.run(
        ["env", "-i", "sh", "-c", f"set -a; . {target}; env -0"], capture_output=True, text=True, check=True
    )
    return dict(entry.split("=", 1) for entry in read.stdout.split("\0") if entry)


def test_signs_that_a_shell_takes_for_its_own_reach_flower(render: Render, tmp_path: Path) -> None:
    """Quotes, dollar signs, backticks and backslashes of a password are kept."""
    odd = "a \"b\" $HOME `id` \\ 'c' #d"
    written = environment(render, tmp_path, flower_basic_auth_password=odd)
    assert written["FLOWER_BASIC_AUTH"] == f"taskmill:{odd}"


def test_limits_have_the_form_that_flower_reads(render: Render, tmp_path: Path) -> None:
    """Flower's names, numbers as digits; what is empty is left out."""
    written = environment(render, tmp_path, flower_max_tasks=7, flower_broker_api_url="")
    assert written["FLOWER_MAX_TASKS"] == "7"
    assert written["CELERY_BROKER_URL"] == INPUT["flower_broker_url"]
    assert "FLOWER_BROKER_API" not in written
    assert not {"CELERY_CONFIG_MODULE", "FLOWER_CERTFILE", "FLOWER_KEYFILE"} & set(written)


def test_a_broker_with_tls_has_its_certificate_and_name_checked(render: Render, tmp_path: Path) -> None:
    """Flower's Celery finds the module, and the module is Python that says so."""
    written = environment(render, tmp_path, flower_broker_url="amqps://monitor:not-to-be-seen@10.0.0.1/own")
    assert (written["CELERY_CONFIG_MODULE"], written["PYTHONPATH"]) == ("broker_tls", "/etc/flower")
    target = tmp_path / "broker_tls.py"
    target.write_text(render(ROLE / "templates" / "broker_tls.py.j2", {"flower_broker_ca": "ca.pem"}))
    assert runpy.run_path(str(target))["broker_use_ssl"] == {
        "ca_certs": "/etc/flower/broker-ca.pem",
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": None,
    }


def test_with_a_certificate_the_page_is_at_https(render: Render, tmp_path: Path) -> None:
    """Flower's own options name the files on the host."""
    written = environment(render, tmp_path, flower_tls_certificate="page.pem", flower_tls_key="page.key")
    assert (written["FLOWER_CERTFILE"], written["FLOWER_KEYFILE"]) == (
        "/etc/flower/certificate.pem",
        "/etc/flower/key.pem",
    )
