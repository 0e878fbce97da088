"""Ansible module: a certificate authority in a directory, and certificates of it for hosts."""

# More than 400 lines, a quarter of which is the documentation, which Ansible reads from the module itself.
from __future__ import annotations

import datetime
import ipaddress
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

DOCUMENTATION = """
module: certificates
short_description: A certificate authority in a directory, and certificates of it for hosts
description:
  - Makes what is missing or does not fit any more. What is there and fits is left alone, whatever its age; the module
    warns of what is about to expire, and fails over what has expired.
  - C(authority.key) holds the authority's key and certificate, C(ca.pem) what others trust, C(HOST.key) and C(HOST.pem)
    are a host's. All of them are readable by their owner alone.
options:
  directory:
    description: Where it all is.
    type: path
    required: true
  authority:
    description: What the authority calls itself; each new one gets a number of its own in addition.
    type: str
    required: true
  hosts:
    description: The hosts that have a certificate.
    type: list
    elements: dict
    required: true
    options:
      name:
        description: The host, and the name of its files.
        type: str
        required: true
      names:
        description: Names and IP addresses that the certificate is for.
        type: list
        elements: str
        required: true
      certificate:
        description: >-
          File with a certificate from elsewhere, those between it and its authority behind it. It is checked, not made.
        type: path
      key:
        description: File with the key of that certificate.
        type: path
      address:
        description: Name or IP address under which others connect, which a certificate from elsewhere has to be for.
        type: str
      ca:
        description: >-
          File with the authorities that the others trust, one of which a certificate from elsewhere has to be of.
        type: path
  days:
    description: How long new certificates hold.
    type: int
    default: 365
  authority_days:
    description: How long a new authority holds.
    type: int
    default: 3650
  warn_days:
    description: Days before the end from which the module warns.
    type: int
    default: 30
  renew:
    description:
      - What to make anew in any case. A new authority is signed by the one before it as well, so that those who trust
        that one accept its certificates.
    type: str
    choices: [nothing, certificates, authority]
    default: nothing
  remedy:
    description: What renews certificates, for the messages.
    type: str
    required: true
attributes:
  check_mode: {support: none}
  diff_mode: {support: none}
author: the authors of the role certificates
"""

EXAMPLES = """
- name: Make certificates
  certificates:
    directory: secrets/tls
    authority: shop
    hosts: [{name: broker1, names: [10.0.0.5, broker1]}]
    remedy: ansible-playbook renew.yml
"""

RETURN = """
made:
  description: Hosts that got a new certificate, and C(authority).
  type: list
  returned: always
ends:
  description: When the certificate of each host ends, UTC.
  type: dict
  returned: always
"""

#: A clock that is behind must not see a certificate as one of the future.
BACK = datetime.timedelta(hours=1)
#: What others trust of the authority; the authority itself; and the same, signed by the one before it.
TRUSTED, AUTHORITY, BRIDGE = "ca.pem", "authority.key", "bridge.pem"


class Fault(Exception):  # noqa: N818  # it is said, with others, and ends the module
    """A certificate cannot be used; the text says why and what mends it."""


@dataclass
class Pair:
    """A key and its certificate, with those between it and what others trust behind it."""

    key: PrivateKeyTypes
    chain: list[x509.Certificate]

    @property
    def certificate(self) -> x509.Certificate:
        """The key's own certificate."""
        return self.chain[0]


def pem(*certificates: x509.Certificate) -> bytes:
    """Return certificates as text."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def key_pem(key: Any) -> bytes:
    """Return a key as text, in the form that old Erlangs read too."""
    form = serialization.PrivateFormat.TraditionalOpenSSL
    text: bytes = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return text


def plain(key: PublicKeyTypes) -> bytes:
    """Return a public key in the one form in which it can be compared."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def write(path: Path, content: bytes) -> bool:
    """Keep a file equal to the content, for its owner alone, by one rename; say whether it was written."""
    if path.is_file() and path.read_bytes() == content and path.stat().st_mode & 0o777 == 0o600:
        return False
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    Path(temporary).replace(path)
    return True


def read(key: Path, certificate: Path) -> Pair:
    """Return what two files hold, which may be one; raise ``ValueError`` or ``OSError`` where they do not fit."""
    pair = Pair(
        serialization.load_pem_private_key(key.read_bytes(), None),
        x509.load_pem_x509_certificates(certificate.read_bytes()),
    )
    if plain(pair.key.public_key()) != plain(pair.certificate.public_key()):
        raise ValueError("the key is not that of the certificate")
    return pair


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether the authority signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def general(name: str) -> x509.GeneralName:
    """Return a host name or an IP address as certificates have it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """Return what a certificate is for."""
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def is_for(certificate: x509.Certificate, address: str) -> bool:
    """Tell whether one who connects to the address may accept the certificate."""
    above = f"*.{address.partition('.')[2]}"
    return any(name in names_of(certificate) for name in (general(address), x509.DNSName(above)))


def sign(
    subject: x509.Name, key: Any, by: Pair | None, until: datetime.datetime, names: Iterable[str] | None
) -> x509.Certificate:
    """Return a certificate of the key, for a server of these names or for an authority; by itself where by none."""
    now = datetime.datetime.now(datetime.timezone.utc)
    issuer, public = (by.certificate.subject, by.key) if by else (subject, key)
    authority = names is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACK)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                key_cert_sign=authority,
                crl_sign=authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public.public_key()), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([general(name) for name in names]), critical=False
        ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(public, hashes.SHA256())


@dataclass
class Keeper:
    """Keeps the directory of one inventory."""

    directory: Path
    authority_name: str
    days: int
    authority_days: int
    warn_days: int
    remedy: str
    now: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.timezone.utc))
    changed: bool = False
    made: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    ends: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, content: bytes) -> None:
        """Keep a file of the directory."""
        self.changed |= write(self.directory / name, content)

    def until(self, days: int) -> datetime.datetime:
        """Return the end of something that holds for so many days from now."""
        return self.now + datetime.timedelta(days=days)

    def authority(self, renew: str) -> tuple[Pair, list[x509.Certificate]]:
        """Return the authority, and it signed by the one before where there was one; make it if need be.

        With ``certificates`` it is made anew when it would not outlive them.
        """
        path, bridge = self.directory / AUTHORITY, self.directory / BRIDGE
        old = read(path, path) if path.exists() else None
        late = old is not None and old.certificate.not_valid_after_utc < self.until(self.days)
        if old is None or renew == "authority" or (renew == "certificates" and late):
            new = self.new_authority(old)
            self.write(BRIDGE, pem(*new.chain[1:]))
            # One file, so that whatever interrupts this leaves the one or the other, whole.
            self.write(AUTHORITY, key_pem(new.key) + pem(new.certificate))
            self.made.append("authority")
            old = new
        self.write(TRUSTED, pem(old.certificate))
        between = bridge.read_bytes() if bridge.is_file() else b""
        bridges = x509.load_pem_x509_certificates(between) if between else []
        return old, [one for one in bridges if one.subject == old.certificate.subject and self.left(one) > 0]

    def new_authority(self, old: Pair | None) -> Pair:
        """Return a new authority, with it signed by the old one behind its certificate while that one still holds."""
        number = f"{x509.random_serial_number():040x}"[:8]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{self.authority_name} {number}")])
        key = ec.generate_private_key(ec.SECP256R1())
        chain = [sign(subject, key, None, self.until(self.authority_days), None)]
        if old is not None and self.left(old.certificate) > 0:
            chain.append(sign(subject, key, old, old.certificate.not_valid_after_utc, None))
        return Pair(key, chain)

    def left(self, certificate: x509.Certificate) -> float:
        """Return the days that a certificate still holds; not more than 0 where it has expired."""
        return (certificate.not_valid_after_utc - self.now) / datetime.timedelta(days=1)

    def own(self, name: str, names: list[str], authority: Pair, bridges: list[x509.Certificate], renew: str) -> Pair:
        """Return a host's certificate; make it where it is missing, for other names, or of another authority."""
        key, path = self.directory / f"{name}.key", self.directory / f"{name}.pem"
        try:
            pair = read(key, path)
        except (OSError, ValueError):
            fits = False
        else:
            fits = is_issued_by(pair.certificate, authority.certificate) and set(names_of(pair.certificate)) == {
                general(one) for one in names
            }
        if renew != "nothing" or not fits:
            new = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
            until = min(self.until(self.days), authority.certificate.not_valid_after_utc)
            pair = Pair(new, [sign(subject, new, authority, until, names), *bridges])
            self.write(key.name, key_pem(new))
            self.write(path.name, pem(*pair.chain))
            self.made.append(name)
        return pair

    def given(self, host: dict[str, Any]) -> Pair:
        """Return a certificate from elsewhere; raise :class:`Fault` where the others would not accept it."""
        where = f"{host['certificate']} of {host['name']}"
        try:
            pair = read(Path(host["key"] or ""), Path(host["certificate"]))
            trusted = x509.load_pem_x509_certificates(Path(host["ca"]).read_bytes()) if host["ca"] else []
        except (OSError, ValueError) as error:
            raise Fault(f"{where} cannot be used (tls_certificate, tls_key, tls_ca): {error}") from error
        if host["address"] and not is_for(pair.certificate, host["address"]):
            raise Fault(f"{where} is not for {host['address']}, where others connect to; that has to be a name of it")
        last = pair.chain[-1]
        if host["ca"] and not any(one == last or is_issued_by(last, one) for one in trusted):
            raise Fault(
                f"{where} is of no authority in {host['ca']}, which the others trust. Put those between it and its "
                f"authority behind it, or set tls_ca"
            )
        return pair

    def look(self, name: str, chain: list[x509.Certificate], how: str) -> None:
        """Note when the first of a host's certificates ends; warn if that is soon, raise :class:`Fault` if it has."""
        first = min(chain, key=self.left)
        end, left = f"{first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", self.left(first)
        self.ends[name] = end
        if left <= 0:
            raise Fault(f"the certificate of {name} has expired ({end}): {how}")
        if left < self.warn_days:
            self.warnings.append(f"The certificate of {name} expires in {left:.0f} days ({end}): {how}")

    def keep(self, hosts: list[dict[str, Any]], renew: str) -> list[str]:
        """Bring the directory to what the hosts need; return what is wrong."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        faults = []
        if any(not host["certificate"] for host in hosts):
            authority, bridges = self.authority(renew)
        for host in hosts:
            try:
                if host["certificate"]:
                    how = f"put a new one at {host['certificate']}, and run: {self.remedy}"
                    self.look(host["name"], self.given(host).chain, how)
                else:
                    pair = self.own(host["name"], host["names"], authority, bridges, renew)
                    # What leads to the authority of before may end: whoever trusts that one alone has missed a year.
                    self.look(host["name"], [pair.certificate], f"run: {self.remedy}")
            except Fault as fault:
                faults.append(str(fault))
        return faults


def main() -> None:
    """Run as a module."""
    host = {
        "name": {"type": "str", "required": True},
        "names": {"type": "list", "elements": "str", "required": True},
        "certificate": {"type": "path"},
        "key": {"type": "path", "no_log": False},
        "address": {"type": "str"},
        "ca": {"type": "path"},
    }
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "authority": {"type": "str", "required": True},
            "hosts": {"type": "list", "elements": "dict", "required": True, "options": host},
            "days": {"type": "int", "default": 365},
            "authority_days": {"type": "int", "default": 3650},
            "warn_days": {"type": "int", "default": 30},
            "renew": {"type": "str", "choices": ["nothing", "certificates", "authority"], "default": "nothing"},
            "remedy": {"type": "str", "required": True},
        }
    )
    given = module.params
    keeper = Keeper(
        Path(given["directory"]),
        given["authority"],
        given["days"],
        given["authority_days"],
        given["warn_days"],
        given["remedy"],
    )
    faults = keeper.keep(given["hosts"], given["renew"])
    for warning in keeper.warnings:
        module.warn(warning)
    told = {"made": keeper.made, "ends": keeper.ends}
    if faults:
        module.fail_json(msg="TLS: " + "; ".join(faults), changed=keeper.changed, **told)
    module.exit_json(changed=keeper.changed, **told)


if __name__ == "__main__":
    main()
