"""The role certificates: what it makes, who accepts that, what it leaves alone, and what it refuses."""

from __future__ import annotations

import datetime
import re
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from python_file import load

Refused = Callable[[dict[str, Any]], tuple[Any, str]]

ROLE = Path(__file__).parents[2] / "roles" / "certificates"
REMEDY = "ansible-playbook playbooks/renew-certificates.yml"
HOST: dict[str, Any] = {"name": "broker1", "names": ["10.0.0.11", "broker1"]}
GIVEN = dict.fromkeys(["certificate", "key", "address", "ca"])

module: Any = load(ROLE / "library" / "certificates.py")


def keep(folder: Path, renew: str = "nothing", hosts: list[dict[str, Any]] | None = None, **settings: Any) -> Any:
    """Bring a folder to what the hosts need; return the keeper, with what is wrong as ``faults``."""
    keeper = module.Keeper(
        folder, "test", **{"days": 365, "authority_days": 3650, "warn_days": 30, **settings}, remedy=REMEDY
    )
    keeper.faults = keeper.keep([{**GIVEN, **host} for host in hosts or [HOST]], renew)
    return keeper


def accepts(trusted: bytes, folder: Path, name: str, host: str = "broker1") -> str:
    """Let a client that trusts these authorities connect to a server with the host's files; return why it does not."""
    client, server = ssl.create_default_context(cadata=trusted.decode()), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / f"{host}.pem", folder / f"{host}.key")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)]
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    assert ends[0].version() == "TLSv1.3"
    return ""


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_certificate_is_accepted_under_its_names_by_those_who_trust_its_authority(tmp_path: Path) -> None:
    """By name and by address; not under another name, and not by those who trust another authority."""
    folder, other = tmp_path / "one", tmp_path / "two"
    assert keep(folder).made == ["authority", "broker1"]
    keep(other)
    trusted = (folder / "ca.pem").read_bytes()
    assert accepts(trusted, folder, "broker1") == accepts(trusted, folder, "10.0.0.11") == ""
    assert "Hostname mismatch" in accepts(trusted, folder, "broker2")
    assert "IP address mismatch" in accepts(trusted, folder, "10.0.0.12")
    assert "unable to get local issuer" in accepts((other / "ca.pem").read_bytes(), folder, "broker1")


def test_everything_is_for_its_owner_alone(tmp_path: Path) -> None:
    """The folder and each file."""
    keep(tmp_path / "tls")
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "tls").iterdir()} == {0o600}


def test_what_fits_is_left_alone(tmp_path: Path) -> None:
    """Done again, nothing changes; with another name the host's certificate is made anew, and nothing else."""
    keep(tmp_path)
    before = contents(tmp_path)
    again = keep(tmp_path)
    assert (again.changed, again.made, contents(tmp_path)) == (False, [], before)
    renamed = keep(tmp_path, hosts=[{**HOST, "names": [*HOST["names"], "flower.example.org"]}])
    assert (renamed.changed, renamed.made) == (True, ["broker1"])
    assert accepts(before["ca.pem"], tmp_path, "flower.example.org") == ""


def test_a_key_of_another_certificate_is_mended(tmp_path: Path) -> None:
    """As an interruption between the two files leaves it."""
    keep(tmp_path)
    old = (tmp_path / "broker1.key").read_bytes()
    keep(tmp_path, "certificates")
    (tmp_path / "broker1.key").write_bytes(old)
    assert keep(tmp_path).made == ["broker1"]
    assert accepts((tmp_path / "ca.pem").read_bytes(), tmp_path, "broker1") == ""


def test_renewal_makes_other_keys_of_the_same_authority(tmp_path: Path) -> None:
    """What others trust stays as it is."""
    keep(tmp_path)
    before = contents(tmp_path)
    assert keep(tmp_path, "certificates").made == ["broker1"]
    after = contents(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"broker1.key", "broker1.pem"}


def test_those_who_trust_the_authority_of_before_accept_the_next(tmp_path: Path) -> None:
    """Until they have the next one, whose first certificate and later ones they accept; those of before it, too."""
    keep(tmp_path)
    before = contents(tmp_path)
    assert keep(tmp_path, "authority").made == ["authority", "broker1"]
    after = contents(tmp_path)
    assert not {name for name in after if after[name] == before[name]}
    for _ in range(2):
        assert accepts(before["ca.pem"], tmp_path, "broker1") == ""
        assert accepts(after["ca.pem"], tmp_path, "broker1") == ""
        keep(tmp_path, "certificates")
    keep(tmp_path, "authority")
    assert accepts(after["ca.pem"], tmp_path, "broker1") == ""
    assert "unable to get local issuer" in accepts(before["ca.pem"], tmp_path, "broker1")


def test_an_authority_that_would_not_outlive_certificates_is_renewed_with_them(tmp_path: Path) -> None:
    """And no certificate holds longer than its authority."""
    first = keep(tmp_path, authority_days=100)
    end = (first.now + datetime.timedelta(days=100)).strftime("%Y-%m-%d")
    assert first.ends["broker1"].startswith(end)
    assert keep(tmp_path, "certificates").made == ["authority", "broker1"]


def test_an_expired_certificate_is_refused_with_what_renews_it(tmp_path: Path) -> None:
    """Before that there is a warning; renewed, neither is left."""
    soon = keep(tmp_path, days=12)
    assert not soon.faults
    assert re.fullmatch(rf"The certificate of broker1 expires in 12 days \(.* UTC\): run: {REMEDY}", soon.warnings[0])
    late = keep(tmp_path, now=soon.now + datetime.timedelta(days=12, seconds=1))
    assert re.fullmatch(rf"the certificate of broker1 has expired \(.* UTC\): run: {REMEDY}", late.faults[0])
    renewed = keep(tmp_path, "certificates", now=late.now)
    assert not renewed.faults + renewed.warnings


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, Any]:
    """A host with a certificate from elsewhere, and the authority that others trust it by."""
    folder = tmp_path / "elsewhere"
    keep(folder)
    files = {name: str(folder / file) for name, file in {"certificate": "broker1.pem", "key": "broker1.key"}.items()}
    return {**HOST, **files, "address": "10.0.0.11", "ca": str(folder / "ca.pem")}


def test_a_certificate_from_elsewhere_is_looked_at_and_nothing_is_made(
    tmp_path: Path, elsewhere: dict[str, Any]
) -> None:
    """Where all hosts have one, there is no authority. Renewal leaves it alone; expired, it is to be replaced."""
    keeper = keep(tmp_path / "tls", "authority", [elsewhere])
    assert (keeper.faults, keeper.made, contents(tmp_path / "tls")) == ([], [], {})
    [fault] = keep(tmp_path / "tls", hosts=[elsewhere], now=keeper.now + datetime.timedelta(days=400)).faults
    assert f"put a new one at {elsewhere['certificate']}, and run: {REMEDY}" in fault


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("address", "10.0.0.12", "is not for 10.0.0.12, where others connect to"),
        ("key", "other/broker1.key", "the key is not that of the certificate"),
        ("key", "other/missing.key", "No such file"),
        ("ca", "other/ca.pem", "is of no authority in"),
        ("certificate", "other/broker1.key", "cannot be used (tls_certificate, tls_key, tls_ca)"),
    ],
)
def test_a_certificate_that_others_would_not_accept_is_refused(
    tmp_path: Path, elsewhere: dict[str, Any], key: str, value: str, fault: str
) -> None:
    """Before any host has it, with the file and the host."""
    keep(tmp_path / "other")
    wrong = value if key == "address" else str(tmp_path / value)
    [said] = keep(tmp_path / "tls", hosts=[{**elsewhere, key: wrong}]).faults
    assert "of broker1" in said
    assert fault in said


def test_a_wildcard_is_for_the_hosts_below_it(tmp_path: Path, elsewhere: dict[str, Any]) -> None:
    """One step, and no further."""
    keep(Path(elsewhere["ca"]).parent, hosts=[{"name": "broker1", "names": ["*.example.org"]}])
    assert not keep(tmp_path, hosts=[{**elsewhere, "address": "broker1.example.org"}]).faults
    assert keep(tmp_path, hosts=[{**elsewhere, "address": "a.broker1.example.org"}]).faults


def test_the_role_fails_over_an_expired_certificate(play_cases: Callable[..., Any], tmp_path: Path) -> None:
    """It makes what is missing, also in check mode; and the message names the command."""
    keep(tmp_path / "expired", days=0)
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "certificates_remedy": REMEDY}
    here |= {"certificates_hosts": [HOST], "certificates_directory": str(tmp_path / "expired")}
    renewed = {**here, "certificates_renew": "certificates"}
    # One host after the other, each to its end.
    role = {"strategy": "ansible.builtin.host_pinned", "tasks": [{"import_role": {"name": "certificates"}}]}
    play = {"hosts": "all", "gather_facts": False, **role}

    new = {**here, "certificates_directory": str(tmp_path / "new")}
    checked = play_cases([play], {"new": new, "renewed": renewed}, "--check", "--forks=1").cases
    assert not checked["new"].failed
    assert (tmp_path / "new" / "broker1.pem").is_file()
    assert checked["renewed"].failed

    cases = play_cases([play], {"expired": here, "renewed": renewed, "again": here}, "--forks=1").cases
    assert cases["expired"].failed
    assert "TLS: the certificate of broker1 has expired" in cases["expired"].said
    assert REMEDY in cases["expired"].said
    for name in ("renewed", "again"):
        assert cases[name].passed[-1].startswith("certificates : create | ")
        assert not cases[name].failed


RIGHT: dict[str, Any] = {"certificates_hosts": [HOST], "certificates_remedy": REMEDY}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"certificates_days": 0}, "certificates_days is 0"),
    ({"certificates_days": 5000}, "certificates_authority_days 3650"),
    ({"certificates_warn_days": 365}, "certificates_warn_days 365"),
    ({"certificates_hosts": [{**HOST, "key": "/nowhere"}]}, "broker1: a certificate from elsewhere, and no key"),
    ({"certificates_renew": "all"}, "certificates_renew"),
]


@pytest.fixture(scope="module")
def refused(play_inputs: Callable[..., Refused], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Refused]:
    """Where each bad input would have its certificates made, by its place in the list, and what became of it."""
    folder = tmp_path_factory.mktemp("refused")
    wrong = [
        {**RIGHT, **settings, "certificates_directory": str(folder / str(number))}
        for number, (settings, _) in enumerate(REFUSED)
    ]
    right = {**RIGHT, "certificates_directory": str(folder / "right")}
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    told = play_inputs("certificates", right, wrong, **here)
    assert (folder / "right" / "broker1.pem").is_file()
    return folder, told


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_bad_input_is_refused(refused: tuple[Path, Refused], settings: dict[str, Any], message: str) -> None:
    """By name, and nothing is made."""
    folder, told = refused
    directory = folder / str(REFUSED.index((settings, message)))
    assert message in told({**RIGHT, **settings, "certificates_directory": str(directory)})[0].refusal()
    assert not directory.exists()
