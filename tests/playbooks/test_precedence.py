"""What an inventory sets for all hosts outranks the wiring, topic by topic; where it would not, playbooks refuse."""

from __future__ import annotations

import configparser
import json

import pytest
import wiring
import yaml
from ansible_playbook import ROOT, run_playbook

PLAYBOOKS = ROOT / "playbooks"
TOPICS = {path.stem: list(yaml.safe_load(path.read_text())) for path in (PLAYBOOKS / "group_vars/all").glob("*.yml")}
#: These speak to no host of an inventory, or only to this machine, by variables of the group lab alone.
NO_DOORS = {"compare-runs", "lab-down", "lab-up"}
#: What Ansible has when it reads no ansible.cfg.
OWN_ORDER = (
    "all_inventory,groups_inventory,all_plugins_inventory,all_plugins_play,groups_plugins_inventory,groups_plugins_play"
)


@pytest.fixture(scope="module", params=["group_vars/all", "hosts.yml"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what a play beside the wiring sees where an inventory sets every variable of the wiring to a mark."""
    folder = tmp_path_factory.mktemp("order")
    marks = {name: f"{name} of the inventory" for names in TOPICS.values() for name in names}
    inventory = {"all": {"hosts": {"one": {}}, "vars": marks if request.param == "hosts.yml" else {}}}
    if request.param == "group_vars/all":
        (folder / "inventory/group_vars").mkdir(parents=True)
        (folder / "inventory/group_vars/all.yml").write_text(json.dumps(marks))
    values = "{{ dict(names | zip(query('ansible.builtin.vars', *names))) | to_json }}"
    show = {"copy": {"content": values, "dest": f"{folder}/seen"}, "delegate_to": "localhost", "connection": "local"}
    wiring.play(folder, inventory, [show], names=list(marks))
    found: dict[str, str] = json.loads((folder / "seen").read_text())
    return found


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_every_variable_of_a_topic_holds_in_an_inventory(topic: str, seen: dict[str, str]) -> None:
    """Whether it stands in the inventory's group_vars/all or beside its hosts."""
    assert {name: seen[name] for name in TOPICS[topic]} == {name: f"{name} of the inventory" for name in TOPICS[topic]}


def test_site_refuses_another_order_in_words() -> None:
    """It names where the settings came from, and both ways out, before it looks at the inventory or touches a host."""
    done = run_playbook("-i", "inventory/vms", "site.yml", ANSIBLE_PRECEDENCE=OWN_ORDER)
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "would give way to" in said
    assert f"Run ansible-playbook in {ROOT}" in said
    assert f"ANSIBLE_CONFIG={ROOT}/ansible.cfg" in said
    assert "landscape | Fail if a part of the landscape has no host" not in said


@pytest.mark.parametrize("door", sorted(path.stem for path in PLAYBOOKS.glob("*.yml") if path.stem not in NO_DOORS))
def test_every_playbook_looks_at_the_order_first(door: str) -> None:
    """Its first task, or that of the playbook that it begins with, is the one that refuses."""
    first = yaml.safe_load((PLAYBOOKS / f"{door}.yml").read_text())[0]
    while "import_playbook" in first:
        first = yaml.safe_load((PLAYBOOKS / first["import_playbook"]).read_text())[0]
    [task, *_] = [*first.get("pre_tasks", []), *first.get("tasks", [])]
    assert task["ansible.builtin.import_role"] == {"name": "preflight"}


def test_molecule_has_the_same_order() -> None:
    """Its scenarios do not read ansible.cfg."""
    ours = configparser.ConfigParser()
    ours.read(ROOT / "ansible.cfg")
    molecule = yaml.safe_load((ROOT / ".config/molecule/config.yml").read_text())
    assert molecule["provisioner"]["config_options"]["defaults"]["precedence"] == ours["defaults"]["precedence"]
