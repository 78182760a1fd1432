"""What `doctor` asks about certificates: the server's own, and who signs devices'."""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.cli.cert import lab_authority
from gateway.cli.certificates import (
    DAY_MS,
    Facts,
    chain_of,
    facts_of,
    facts_of_der,
    facts_of_pem,
    lasting_until,
    read_certificates,
)
from gateway.cli.checks import Finding, Level, doubtful, good, wrong
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.errors import ConfigError
from gateway.core.model import DeviceProfile, Secret

if TYPE_CHECKING:
    from gateway.core.pki.model import Authority

_SOON_DAYS = 30
_AUTHORITY_SOON_DAYS = 180
"""What is signed now must end before its issuer: a year of lifetime wants more than a year left,
and half of one is time enough to rotate."""
_MOST_KEY_BYTES = 65_536
_MAKE_ONE = (
    "`gatehouse cert init` makes one for a lab; for another, set [tls] certificate_file and "
    "key_file."
)


# ── the certificate clients are shown ─────────────────────────────────────────────────────────


def server_certificate(config: Config) -> Iterator[Finding]:
    """Is it there and readable, does its key belong, until when, for which names, from whom?"""
    check = "certificate"
    if not secure_wires(config):
        yield good(check, "not needed: [https], [mqtts] and [coaps] are switched off")
        return
    files = config.tls_files
    if files is None or not files[0].exists():
        yield _none_there(config, files)
        return
    certificate, key = files
    try:
        found = read_certificates(certificate)
        facts = facts_of(found[0])
    except (ConfigError, ValueError) as exc:
        yield wrong(check, str(exc), f"The gateway does not start with it. {_MAKE_ONE}")
        return
    yield _validity(check, f"{certificate} of {facts.subject}", facts, _SOON_DAYS)
    yield from _suspicions(facts)
    yield _chain(found, certificate)
    yield _names(config, facts)
    yield from _key(found[0], key)


def secure_wires(config: Config) -> list[str]:
    """The secure wires that are switched on."""
    wires = {
        "https": config.https.enabled,
        "mqtts": config.mqtts.enabled,
        "coaps": config.coaps.enabled,
    }
    return [name for name, enabled in wires.items() if enabled]


def _none_there(config: Config, files: tuple[Path, Path] | None) -> Finding:
    check = "certificate"
    if files is None and (config.tls.certificate_file or config.tls.key_file):
        todo = "Name both: without a folder for the store there is no usual place for the other."
        return wrong(check, "only one of [tls] certificate_file and key_file is named", todo)
    if files is not None and config.tls.certificate_file:
        todo = f"The gateway does not start without it. {_MAKE_ONE}"
        return wrong(check, f"{files[0]}: there is no such file", todo)
    off = "HTTPS, MQTTS and CoAPS are off"
    if files is None:
        todo = "Name two files: [tls] certificate_file and key_file."
        return Finding(check, Level.OK, f"this store has no folder for one: {off}", todo)
    return Finding(check, Level.OK, f"none at {files[0]}: {off}", _MAKE_ONE)


def _validity(check: str, what: str, facts: Facts, soon_days: int, todo: str = "") -> Finding:
    now = now_ms()
    todo = todo or (
        "Renew it where it was made (`gatehouse cert init --force` for one of ours); a running "
        "gateway takes the new files up by itself."
    )
    if facts.not_before > now:
        return wrong(check, f"{what} is not valid yet", f"Check this machine's clock. {todo}")
    told = f"{what}, {lasting_until(facts.not_after, now)}"
    if facts.not_after <= now:
        return wrong(check, told, todo)
    if facts.not_after - now < soon_days * DAY_MS:
        return doubtful(check, told, todo)
    return good(check, told)


def _suspicions(facts: Facts) -> Iterator[Finding]:
    """What clients refuse, or may, whatever the dates say."""
    for fault in facts.faults:
        yield wrong("certificate", fault, "Have another one made: today's clients refuse this one.")
    if not facts.for_servers:
        todo = "Have one made with the extended key usage serverAuth: clients refuse any other."
        yield wrong("certificate", "its extended key usage is not that of a server", todo)
    if facts.authority:
        todo = "Use one made for a server: some clients refuse an authority in its place."
        yield doubtful("certificate", "it is that of an authority, not of a server", todo)


def _chain(found: Sequence[x509.Certificate], path: Path) -> Finding:
    chain = chain_of(found, lab_authority(path))
    if chain.sound:
        return good("chain", chain.told)
    todo = (
        "Put the issuers' certificates into the file, after the server's own, each followed by "
        "the one that signed it: clients that know the root alone refuse it otherwise."
    )
    return doubtful("chain", chain.told, todo)


def _names(config: Config, facts: Facts) -> Finding:
    """Whether the names it is for include the addresses that are listened on."""
    check, told = "host names", ", ".join(facts.names)
    if not facts.names:
        todo = "Have one made with subject alternative names: clients look at nothing else."
        return wrong(check, "the certificate is for no host name", todo)
    hosts = {config.https.host, config.mqtts.host, config.coaps.host} - {"", "0.0.0.0", "::"}  # noqa: S104
    missing = sorted(host for host in hosts if not covers(facts.names, host))
    if missing:
        return doubtful(
            check,
            f"listens on {', '.join(missing)}, but the certificate is for {told}",
            "Clients that connect by that address refuse it; have it made for the names they use.",
        )
    return good(check, told)


def covers(names: Sequence[str], host: str) -> bool:
    """Whether a certificate for `names` (`DNS:…`, `IP:…`) is good for `host` (RFC 9525)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        host = host.lower().rstrip(".")
        parent = "*." + host.partition(".")[2]
        return any(name.lower() in (f"dns:{host}", f"dns:{parent}") for name in names)
    return f"IP:{address}" in names


def _key(certificate: x509.Certificate, path: Path) -> Iterator[Finding]:
    check = "server key"
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_KEY_BYTES)
        mode = stat.S_IMODE(path.stat().st_mode)
        key = load_pem_private_key(content, None)
    except OSError as exc:
        yield wrong(check, f"{path}: cannot be read ({exc.strerror})", "Give it to the server.")
        return
    except TypeError:
        todo = f"`openssl pkey -in {path} -out PLAIN` opens it; keep that file at mode 0600."
        yield wrong(check, f"{path} is encrypted", todo)
        return
    except (ValueError, UnsupportedAlgorithm):
        yield wrong(check, f"{path} holds no private key in PEM", "Check [tls] key_file.")
        return
    if key.public_key() != certificate.public_key():
        todo = "Name the two files that belong together; `gatehouse cert init --force` makes both."
        yield wrong(check, f"{path} does not belong to the certificate", todo)
    yield _mode(path, mode)


def _mode(path: Path, mode: int) -> Finding:
    check, told = "server key", f"{path}, mode {mode:04o}"
    if mode & 0o007:
        todo = f"`chmod 600 {path}`; if somebody did read it, have another certificate made."
        return wrong(check, f"{told}: everybody on this machine may read it", todo)
    if mode & 0o070:
        todo = f"`chmod 600 {path}`, unless that group is the server's own."
        return doubtful(check, f"{told}: its group may read it", todo)
    return good(check, told)


# ── the authority that signs devices' ─────────────────────────────────────────────────────────


def file_authority(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """An authority from elsewhere: do its files open, and until when is it good?"""
    if config.ca_files is None:
        return
    from gateway.core.pki.authority import file_signer

    check, todo = "authority", "The gateway does not start until then. See [ca]."
    passphrase = environ.get("GATEHOUSE_AUTHORITY_PASSPHRASE")
    try:
        certificate, key = (path.read_bytes() for path in config.ca_files)
        opened_by = Secret(passphrase) if passphrase else None
        signer = file_signer(certificate, key, opened_by, now=now_ms())
        facts = facts_of(signer.certificate)
    except OSError as exc:
        yield wrong(check, f"{exc.filename}: cannot be read ({exc.strerror})", todo)
        return
    except (ConfigError, ValueError) as exc:
        yield wrong(check, str(exc), todo)
        return
    todo = "Renew it where it was made, put the files in place, and start the gateway again."
    yield _validity(check, f"{facts.subject} from a file", facts, _AUTHORITY_SOON_DAYS, todo)
    yield from _key_of_authority(config.ca_files[1])


def _key_of_authority(path: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        todo = f"`chmod 600 {path}`: whoever has it makes certificates for any device."
        yield wrong("authority", f"{path} has mode {mode:04o}: others may read it", todo)


def stored_authorities(config: Config, kept: Sequence[Authority]) -> Iterator[Finding]:
    """Ours: until when are the ones in use good?"""
    if config.ca_files is not None:
        return
    active = [one for one in kept if one.active]
    if not active:
        yield good("authority", "none yet; made when the first device asks for a certificate")
    for one in active:
        facts = facts_of_der(one.certificate)
        if facts is None:
            yield wrong("authority", f"number {one.id} cannot be read", "Restore a backup.")
            continue
        flag = " --root" if one.role.value == "root" else ""
        todo = f"`gatehouse ca rotate{flag}` makes a new one; what was signed stays good."
        what = f"{one.role.value} {facts.subject}"
        yield _validity("authority", what, facts, _AUTHORITY_SOON_DAYS, todo)


def chain_anchors(profiles: Sequence[DeviceProfile]) -> Iterator[Finding]:
    """The factory authorities that profiles trust: an ended one admits nobody."""
    for profile in profiles:
        if profile.chain is None:
            continue
        what = f"profile {profile.name}: factory authority"
        facts = facts_of_pem(profile.chain.certificate)
        if facts is None:
            yield wrong("anchors", f"{what} cannot be read", _ANCHOR)
            continue
        yield _validity("anchors", f"{what} {facts.subject}", facts, _SOON_DAYS, _ANCHOR)


_ANCHOR = "Put the factory's newer certificate into the profile; devices of this one get nothing."
