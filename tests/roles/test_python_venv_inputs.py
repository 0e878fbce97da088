"""The role python_venv without a host: what it refuses, and what pip is told of an index."""

from __future__ import annotations

from collections.abc import Callable
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

Refused = Callable[[dict[str, Any]], tuple[Any, str]]

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles/python_venv"
RIGHT = {"python_venv_path": "/opt/shop/venv", "python_venv_requirements": str(ROOT / "requirements/app.txt")}
SECRET = "not-to-be-seen"
BAD = {
    "missing": (
        {"python_venv_requirements": "/nowhere.txt"},
        "There is no requirements file /nowhere.txt on the controller.",
    ),
    "nothing": (
        {"python_venv_requirements": ""},
        (
            "python_venv_requirements is empty, and there are no python_venv_wheels: the environment /opt/shop/venv "
            "would hold nothing."
        ),
    ),
    "no wheel": (
        {"python_venv_wheels": ["/nowhere/shop-1-py3-none-any.whl"]},
        "There is no wheel /nowhere/shop-1-py3-none-any.whl on the controller.",
    ),
    "no index": (
        {"python_venv_index_url": f"ftp://{SECRET}@index.example"},
        "python_venv_index_url, python_venv_extra_index_urls: an address of an index begins with https:// or http://",
    ),
    "no proxy": (
        {"python_venv_proxy": f"shop:{SECRET}@proxy.example:3128"},
        (
            "python_venv_proxy: the address of a proxy begins with http:// or https://, such as "
            "http://USER:PASSWORD@HOST:3128. (What it holds may be a secret, and is not shown.)"
        ),
    ),
    "no further index": (
        {"python_venv_extra_index_urls": [f"https://shop:{SECRET}@index.example/simple https://other.example"]},
        "python_venv_index_url, python_venv_extra_index_urls: an address of an index begins with https:// or http://",
    ),
}


@pytest.fixture(scope="module")
def path_of_controller(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return inputs whose requirements name a path that no host has."""
    file = tmp_path_factory.mktemp("requirements") / "dev.txt"
    file.write_text("-e .\n")
    return {**RIGHT, "python_venv_requirements": str(file)}


@pytest.fixture(scope="module")
def refused(play_inputs: Callable[..., Refused], path_of_controller: dict[str, Any]) -> Refused:
    """What became of every bad input."""
    return play_inputs("python_venv", RIGHT, [path_of_controller, *({**RIGHT, **bad} for bad, _ in BAD.values())])


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_anything_is_touched(refused: Refused, name: str) -> None:
    """With what is wrong; an address of an index is not shown."""
    bad, said = BAD[name]
    case, output = refused({**RIGHT, **bad})
    assert said in case.refusal()
    assert SECRET not in output


def test_requirements_that_no_host_can_install_are_refused(
    refused: Refused, path_of_controller: dict[str, Any]
) -> None:
    """By their file and line, before there is an environment."""
    case, _ = refused(path_of_controller)
    assert "dev.txt, line 1: '-e .' is a path on this machine" in case.refusal()


def test_pip_reads_the_indexes_from_its_file(render: Callable[[Path, dict[str, Any]], str]) -> None:
    """As pip reads it, whatever signs a password has."""
    one = "https://shop:a%40b%23;c@index.example/simple"
    more = ["https://more.example/simple", "https://x:y@last.example/simple"]
    text = render(ROLE / "templates/pip.conf.j2", {"python_venv_index_url": one, "python_venv_extra_index_urls": more})
    config = RawConfigParser()
    config.read_string(text)
    assert config["global"]["index-url"] == one
    assert config["global"]["extra-index-url"].split() == more
    text = render(ROLE / "templates/pip.conf.j2", {"python_venv_index_url": one})
    assert "extra" not in text
    proxy = "http://shop:a%23b@proxy.example:3128"
    config.read_string(render(ROLE / "templates/pip.conf.j2", {"python_venv_proxy": proxy}))
    assert config["global"]["proxy"] == proxy


def test_no_index_is_in_an_argument_list_nor_shown() -> None:
    """The variables are read by the file of pip alone, whose task shows nothing, and which goes whatever happens."""
    build = yaml.safe_load((ROLE / "tasks/build.yml").read_text())
    [block] = [task for task in build if "block" in task]
    [write] = [task for task in block["block"] if "ansible.builtin.template" in task]
    assert write["ansible.builtin.template"]["dest"] == "{{ __python_venv_index_file }}"
    assert write["no_log"] is True
    assert write["ansible.builtin.template"]["mode"] == "0600"
    [remove] = block["always"]
    assert remove["ansible.builtin.file"]["state"] == "absent"
    assert "__python_venv_index_file" in remove["loop"]
    tasks = "".join(path.read_text() for path in (ROLE / "tasks").glob("*.yml") if path.stem != "validate")
    assert "index_url" not in tasks
