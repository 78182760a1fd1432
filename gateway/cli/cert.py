"""`gatehouse cert`: the certificate this server shows to its clients."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from gateway.cli.options import config_option, json_option, print_json, read_config, shown
from gateway.config import Config
from gateway.core.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509

    from gateway.cli.lab_certificate import Lab

LAB_CA, LAB_KEY = "lab-ca.pem", "lab-ca.key"
_MOST_HOSTS = 100
_OPEN, _CLOSED, _FOLDER = 0o644, 0o600, 0o700


@click.group()
def command() -> None:
    """Make and show the certificate this server shows to its clients.

    HTTPS, MQTTS and CoAPS share it. A real one comes from your own authority or a public one:
    name its files in [tls]. For a lab, `cert init` makes one.

    \b
    Examples:
      gatehouse cert init --host gate.example --host 192.0.2.7
      gatehouse cert show
    """


# ── making one ────────────────────────────────────────────────────────────────────────────────


class _Places(Struct, frozen=True):
    """Where the four files are."""

    certificate: Path
    key: Path
    ca: Path
    ca_key: Path


@command.command(short_help="Make a server certificate for a lab.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name or IP address clients connect to; may be repeated. Besides, it is always for "
    "localhost, 127.0.0.1, ::1 and this machine's name.",
)
@click.option(
    "--days",
    default=825,
    show_default=True,
    type=click.IntRange(1, 3650),
    help="How long it is good; some clients take no more than 825.",
)
@click.option("--force", is_flag=True, help="Replace the certificate that is there.")
@config_option
@json_option
def init(
    hosts: tuple[str, ...], days: int, force: bool, config_path: Path | None, as_json: bool
) -> None:
    """Make a server certificate for a lab, and the authority that signs it.

    The authority is private: clients must be told to trust it, with the file lab-ca.pem. It is
    made once and kept; --force replaces the server's certificate alone, so that clients need
    nothing new. The new one is for the names given now: repeat each --host. A certificate in the
    place that [tls] names is never touched without --force.

    \b
    Examples:
      gatehouse cert init
      gatehouse cert init --host gate.example --host 192.0.2.7 --days 90 --force
    """
    from gateway.cli.lab_certificate import usual_hosts

    config = read_config(config_path)
    places = _places(config)
    if not force:
        _refuse_to_replace(places)
    names = list(dict.fromkeys([*(_plain(host) for host in hosts), *usual_hosts()]))
    lab, fresh = _make(places, _general_names(names), days)
    until = lab.certificate.not_valid_after_utc if lab else None
    told = {
        "certificate": str(places.certificate),
        "key": str(places.key),
        "authority": str(places.ca),
        "authority_made": fresh,
        "hosts": names,
    }
    if as_json:
        print_json(told)
        return
    _tell(config, places, names, fresh=fresh)
    if until is not None and not fresh:
        click.echo(f"\nThe lab authority is the one from before; it ends on {until:%Y-%m-%d}.")


def _plain(host: str) -> str:
    """`[::1]` and `gate.example.` as they are written elsewhere."""
    return host.strip("[]") if host.startswith("[") else host.rstrip(".")


def _places(config: Config) -> _Places:
    files = config.tls_files
    if files is None:
        raise click.ClickException(
            "this store has no folder to keep a certificate in. Name two files: [tls] "
            "certificate_file and key_file (GATEHOUSE_TLS_CERTIFICATE_FILE, "
            "GATEHOUSE_TLS_KEY_FILE)."
        )
    certificate, key = files
    return _Places(certificate, key, certificate.with_name(LAB_CA), key.with_name(LAB_KEY))


def _refuse_to_replace(places: _Places) -> None:
    for path in (places.certificate, places.key):
        if path.exists():
            raise click.ClickException(
                f"{path} is there already. `gatehouse cert show` shows the certificate; --force "
                "replaces it and its key."
            )


def _general_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    from gateway.cli.lab_certificate import host_name

    if len(hosts) > _MOST_HOSTS:
        raise click.UsageError(f"a certificate has room for {_MOST_HOSTS} names.")
    found = []
    for host in hosts:
        try:
            found.append(host_name(host))
        except ValueError as exc:
            raise click.UsageError(f"--host {shown(host)} {exc}.") from None
    return found


def _make(places: _Places, hosts: list[x509.GeneralName], days: int) -> tuple[Lab, bool]:
    """Write the files; whose certificate it is, and whether that authority is a new one."""
    from gateway.cli.lab_certificate import make_lab, make_server, utc_now
    from gateway.cli.new_file import put_file

    now = utc_now()
    kept = _kept(places)
    lab = kept or make_lab(now)
    certificate, key = make_server(lab, hosts, days, now)
    files = [(places.key, key, _CLOSED), (places.certificate, certificate, _OPEN)]
    if kept is None:
        files = [(places.ca_key, lab.key_pem, _CLOSED), (places.ca, lab.pem, _OPEN), *files]
    for path, content, mode in files:
        try:
            _make_folder(path.parent)
            put_file(path, content, mode=mode)
        except OSError as exc:
            raise click.ClickException(
                f"{path}: cannot be written ({exc.strerror}). Make its folder writable, or name "
                "other files in [tls], then repeat with --force."
            ) from None
    return lab, kept is None


def _make_folder(folder: Path) -> None:
    """With all above it that is missing, for this user alone: the store may come to lie there."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=_FOLDER, exist_ok=True)


def _kept(places: _Places) -> Lab | None:
    """The lab authority that was made before, if there is one."""
    from gateway.cli.lab_certificate import read_lab

    if not places.ca.exists() and not places.ca_key.exists():
        return None
    try:
        return read_lab(places.ca.read_bytes(), places.ca_key.read_bytes())
    except (OSError, ValueError, TypeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "one is no PEM, or not the other's"
        raise click.ClickException(
            f"{places.ca} and {places.ca_key}: the lab authority from before cannot be used "
            f"({why}). Restore both, or move both away to have a new one made; clients must then "
            "be given the new one."
        ) from None


def _tell(config: Config, places: _Places, hosts: Sequence[str], *, fresh: bool) -> None:
    rows = [
        (places.certificate, f"the server's certificate, for {', '.join(hosts)}"),
        (places.key, "its key; only you can read it"),
    ]
    if fresh:
        rows += [
            (places.ca, "the lab authority: clients must be told to trust this one"),
            (places.ca_key, "its key; keep it here"),
        ]
    width = max(len(str(path)) for path, _ in rows)
    for path, what in rows:
        click.echo(f"{click.style('made', fg='green')}  {path!s:<{width}}  {what}")
    click.echo(
        "\nA gateway that serves TLS already takes it up by itself, without dropping anybody. One "
        "that was\nstarted without a certificate has to be started again."
    )
    click.echo("\nTry it, once the gateway runs:")
    for line in client_lines(config, places.ca, _reachable(hosts)):
        click.echo(f"  {line}")


def _reachable(hosts: Sequence[str]) -> str:
    """One of them that is no pattern, or a name that fits it."""
    plain = (host for host in hosts if not host.startswith("*"))
    return next(plain, hosts[0].replace("*", "name", 1))


def client_lines(config: Config, ca: Path, host: str) -> list[str]:
    """What one types to reach each secure wire of this gateway, trusting `ca`."""
    trusted = shlex.quote(str(ca))
    name = f"[{host}]" if ":" in host else host
    lines = []
    if config.https.enabled:
        lines.append(f"curl --cacert {trusted} https://{name}:{config.https.port or 'PORT'}/readyz")
    if config.mqtts.enabled:
        lines.append(
            f"mosquitto_pub --cafile {trusted} -h {host} -p {config.mqtts.port or 'PORT'} -u TOKEN "
            "-t v1/devices/me/telemetry -m '{\"temperature\":21.5}'"
        )
    if config.coaps.enabled:
        lines.append(
            f"coap-client-openssl -R {trusted} "
            f"coaps://{name}:{config.coaps.port or 'PORT'}/.well-known/core"
        )
    return lines


# ── looking ───────────────────────────────────────────────────────────────────────────────────


@command.command(short_help="Show a certificate file, by default this server's.")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@config_option
@json_option
def show(file: Path | None, config_path: Path | None, as_json: bool) -> None:
    """Show a certificate file; by default the one this server shows to its clients.

    Tells whose it is, from whom, for which names, how long, and whether each certificate in the
    file was signed by the next. Exit status 1 when the first has expired or the chain is broken.

    \b
    Examples:
      gatehouse cert show
      gatehouse cert show factory-root.pem --json | jq .days_left
    """
    from gateway.cli.certificates import chain_of, facts_of, read_certificates
    from gateway.clock import now_ms

    path = file or _places(read_config(config_path)).certificate
    if file is None and not path.exists():
        raise click.ClickException(
            f"there is no certificate at {path}, so HTTPS, MQTTS and CoAPS are off. `gatehouse "
            "cert init` makes one for a lab; for another, set [tls] certificate_file and key_file."
        )
    found, now = read_certificates(path), now_ms()
    try:
        facts = [facts_of(one) for one in found]
    except ValueError as exc:
        raise ConfigError(f"{path}: a certificate in it has parts that are broken.") from exc
    chain = chain_of(found, lab_authority(path))
    told: dict[str, Any] = {"file": str(path), **facts[0].plain(now)}
    told |= {"chain": {"sound": chain.sound, "told": chain.told}, "faults": [*facts[0].faults]}
    told["issuers"] = [one.plain(now) for one in facts[1:]]
    if as_json:
        print_json(told)
    else:
        from gateway.cli.tables import print_fields

        more = [("chain", chain.told), *(("fault", one) for one in facts[0].faults)]
        print_fields([("file", str(path)), *facts[0].fields(now), *more])
        for number, one in enumerate(facts[1:], 2):
            click.echo(f"\ncertificate {number} of the file")
            print_fields(one.fields(now))
    if facts[0].not_after < now or not chain.sound:
        raise SystemExit(1)


def lab_authority(certificate: Path) -> x509.Certificate | None:
    """The lab authority beside a server's certificate, if there is one."""
    from gateway.cli.certificates import read_certificates

    try:
        return read_certificates(certificate.with_name(LAB_CA))[0]
    except ConfigError:
        return None
