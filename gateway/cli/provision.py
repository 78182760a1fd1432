"""`gatehouse provision`: one device, from this shell, over any wire."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from gateway.cli.new_file import NewFile
from gateway.cli.options import (
    config_option,
    json_option,
    open_for_people,
    print_json,
    read_config,
    run,
    the_ticket,
)
from gateway.cli.provision_order import KINDS, PORTS, VERSIONS, Order, order_of, with_request
from gateway.cli.provision_proofs import with_proofs
from gateway.cli.rotate import secret_file
from gateway.config import Config
from gateway.core.model import FleetTicket, Secret
from gateway.simulator.device import SUCCESS, SimulatorError

if TYPE_CHECKING:
    import ssl

_NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--wire", type=click.Choice([one.value for one in PORTS]), help="Default: http.")
@click.option("--url", help="The gateway: http://…, mqtts://… and so on. Default: this machine.")
@click.option(
    "--cacert",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="For https and mqtts: PEM of whom to trust. Default: this system's authorities.",
)
@click.option("--profile", metavar="NAME", help="Take key and secret from the local store.")
@click.option("--key-env", metavar="VARIABLE", help="Environment variable with the key.")
@click.option("--secret-env", metavar="VARIABLE", help="Environment variable with the secret.")
@click.option("--device-name", default="", help="Default: the gateway makes one.")
@click.option("--credentials", type=click.Choice(list(KINDS)), help="Default: what is given.")
@click.option("--token-env", metavar="VARIABLE", help="Environment variable with a token of yours.")
@click.option("--client-id", default="", help="For mqtt-basic.")
@click.option("--username", default="", help="For mqtt-basic.")
@click.option("--password-env", metavar="VARIABLE", help="For mqtt-basic: where the password is.")
@click.option("--certificate", type=click.File("rb"), help="For x509: a PEM file; - is stdin.")
@click.option("--csr", type=click.File("rb"), help="Have this signing request's key certified.")
@click.option("--new-key", type=_NEW_FILE, help="Make a key in a new file and have it certified.")
@click.option("--out", type=_NEW_FILE, help="New file for the certificate. Default: print it.")
@click.option("--nonce-file", type=_NEW_FILE, help="Binds the answer; made if it is not there.")
@click.option("--hardware", multiple=True, metavar="KEY=VALUE", help="As in serial=A1; repeatable.")
@click.option(
    "--old-credential-file",
    "old_credential",
    type=_NEW_FILE,
    callback=secret_file,
    help="The credential it had, to get another (re-provisioning).",
)
@click.option("--old-credential-env", metavar="VARIABLE", help="The same, from the environment.")
@click.option("--claim-code-env", metavar="VARIABLE", help="Where an operator's code for it is.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen; change nothing.")
@click.option("--gateway", is_flag=True, help="The device is a gateway for others.")
@click.option("--protobuf", is_flag=True, help="Ask in protobuf (mqtt, coap).")
@click.option("--mqtt-version", type=click.Choice(list(VERSIONS)), help="Default: 3.1.1.")
@click.option("--timeout", default=10.0, show_default=True, type=click.FloatRange(0.1, 600))
@click.option(
    "--save",
    type=_NEW_FILE,
    help="Write the answer to a new file that only you can read.",
)
@config_option
@json_option
def command(
    config_path: Path | None,
    save: Path | None,
    csr: BinaryIO | None,
    new_key: Path | None,
    out: Path | None,
    nonce_file: Path | None,
    hardware: tuple[str, ...],
    old_credential: Secret | None,
    old_credential_env: str | None,
    claim_code_env: str | None,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Provision one device as a device would, and print the credentials it is given.

    Key and secret come from the local store (--profile), from environment variables, or are
    asked for: a secret on a command line would stay in the shell's history and show in `ps`.

    With --csr or --new-key the device is given a certificate; its private key stays here.
    Whoever repeats a request with the same --nonce-file gets the same answer, for as long as the
    profile's `retry_window` says. With --dry-run the gateway tells what would happen, step by step,
    and changes nothing.

    \b
    Examples:
      gatehouse provision --profile demo
      gatehouse provision --profile demo --wire coap --device-name kitchen-1
      gatehouse provision --url mqtt://gw.example.com --key-env KEY --secret-env SECRET
      gatehouse provision --profile demo --username u1 --password-env PW --save u1.json
      gatehouse provision --profile demo --wire https --new-key d1.key --out d1.pem
      openssl req -new -key d1.key -subj / | gatehouse provision --profile demo --csr -
      gatehouse provision --profile demo --device-name k-2 --hardware serial=A1 --dry-run
      gatehouse provision --profile demo --device-name k-2 --nonce-file k-2.nonce

    A name can be provisioned once. Exit status 1 is a refusal; --dry-run tells why, as `gatehouse
    explain NAME` does at the gateway.
    """
    config = read_config(config_path)
    order, key = order_of(config, **given), ""
    if csr is not None or new_key is not None or out is not None:
        order, key = with_request(order, csr, new_key, out)
    if dry_run and (new_key or out or save):
        raise click.UsageError(
            "--dry-run gives nothing to keep: leave --new-key, --out, --save out."
        )
    order = with_proofs(
        order,
        nonce_file,
        hardware,
        old_credential,
        old_credential_env,
        claim_code_env,
        dry_run=dry_run,
    )
    told = _asked(config, order, key, new_key=new_key, out=out, save=save)
    if as_json:
        print_json(told)
    elif dry_run:
        _print_trial(told, order)
    else:
        _print(told, order, save)
    if told["status"] != SUCCESS:
        raise SystemExit(1)
    if order.wish.csr and not dry_run:
        _tell_certificate(told, out, new_key, as_json=as_json)


def _asked(
    config: Config,
    order: Order,
    key: str,
    *,
    new_key: Path | None,
    out: Path | None,
    save: Path | None,
) -> dict[str, Any]:
    """The answer, kept in the files that were asked for.

    They are made before the request: credentials are given once, and must not be lost to a full
    disk. The key stays when no answer comes, because the device may exist with it.
    """
    from gateway.cli.signing import certificates_given

    with (
        NewFile(new_key, "--new-key") as keeps_key,
        NewFile(out, "--out", mode=0o644) as keeps_certificate,
        NewFile(save, "--save") as kept,
    ):
        if new_key is not None and not keeps_key.write(key.rstrip()):
            raise click.ClickException("nothing was asked for, as the key could not be kept.")
        try:
            told = run(_provision(config, order))
        except click.ClickException:
            if new_key is not None:
                click.echo(f"the key stays in {new_key}; remove it to try again", err=True)
            raise
        if told["status"] != SUCCESS:
            keeps_key.forget()
            return told
        kept.write(json.dumps(told, indent=2))
        if out is not None:
            keeps_certificate.write(certificates_given(told).rstrip())
    return told


def _tell_certificate(
    told: dict[str, Any], out: Path | None, new_key: Path | None, *, as_json: bool
) -> None:
    from gateway.cli.signing import certificates_given, tell_how_to_use

    if out is None and not as_json:
        click.echo(certificates_given(told), nl=False)
    tell_how_to_use(out, new_key)


# ── doing it ──────────────────────────────────────────────────────────────────────────────────


async def _provision(config: Config, order: Order) -> dict[str, Any]:
    """The answer as JSON has it, and what was asked for. Raises `ClickException`."""
    from gateway.simulator import Fleet

    key, secret = order.pair or await _local_pair(config, order)
    ports = {order.wire: order.port}
    async with Fleet(
        order.host, ports, order.timeout_s, mqtt_version=order.mqtt_version, tls=_trust(order)
    ) as fleet:
        device = fleet.device(order.wire)
        try:
            answer = await device.provision(_body(key, secret, order))
            told = _read(answer, protobuf=order.protobuf)
        except SimulatorError as exc:
            refusal = _refusal(exc.answer)
            if refusal is None:
                raise click.ClickException(
                    f"{exc}, at {order.host} port {order.port}. {_remedy(exc)}"
                ) from None
            told = refusal
        finally:
            await device.close()
    name = told.get("deviceName") or order.wish.device_name or None
    return told | {"deviceName": name, "wire": order.wire.value}


def _remedy(exc: SimulatorError) -> str:
    if "is not trusted" in str(exc):
        return (
            "--cacert names the certificate of whom to trust; for a lab it is lab-ca.pem, which "
            "`gatehouse cert init` made."
        )
    return "Check the address, and there whether the gateway runs: `gatehouse doctor`."


def _trust(order: Order) -> ssl.SSLContext | None:
    """Whom a secure wire trusts; None for the others."""
    import ssl

    if order.wire is order.wire.plain:
        return None
    try:
        context = ssl.create_default_context(cafile=order.cacert)
        if order.cacert is None and order.lab is not None:
            context.load_verify_locations(order.lab)
    except (OSError, ValueError):
        path = order.cacert or order.lab
        raise click.ClickException(f"{path}: holds no certificate in PEM to trust.") from None
    return context


async def _local_pair(config: Config, order: Order) -> tuple[Secret, Secret]:
    assert order.profile is not None
    async with open_for_people(config) as registry:
        ticket: FleetTicket = await the_ticket(registry, order.profile)
    return ticket.key, ticket.secret


def _body(key: Secret, secret: Secret, order: Order) -> bytes:
    from gateway.simulator.messages import json_request, protobuf_request

    make = protobuf_request if order.protobuf else json_request
    return make(key, secret, order.wish)


def _read(answer: bytes, *, protobuf: bool) -> dict[str, Any]:
    from gateway.simulator.device import parse_credentials
    from gateway.simulator.messages import json_of_protobuf

    if protobuf:
        answer = json_of_protobuf(answer)
    told = _trial(answer)
    if told is None:
        parse_credentials(answer)  # proves the shape; the members are told as they came
        told = json.loads(answer)
    return told


def _trial(answer: bytes) -> dict[str, Any] | None:
    """The answer to a dry run; None for any other."""
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    trial = isinstance(told, dict) and told.get("dryRun") is True and "status" in told
    return told if trial else None


def _refusal(answer: bytes) -> dict[str, Any] | None:
    """A refusal with a status of its own: to come again (HTTP 202 or 429, CoAP 4.29, …), or in
    detail. None for any other answer."""
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or "status" not in told:
        return None
    return told if told.keys() & {"retryAfter", "code"} else None


# ── telling it ────────────────────────────────────────────────────────────────────────────────


def _print(told: dict[str, Any], order: Order, save: Path | None) -> None:
    from gateway.cli.tables import print_fields

    if told["status"] != SUCCESS:
        said = told.get("title") or told.get("errorMsg") or "refused"
        click.echo(f"{told.get('code', told['status'])}: {said}")
        click.echo(_explained(told, order), err=True)
        return
    value = told.get("credentialsValue")
    given = value.items() if isinstance(value, dict) else [("value", value)]
    fields = [("status", SUCCESS), ("device name", told["deviceName"] or "made by the gateway")]
    fields.append(("credentials", str(told.get("credentialsType"))))
    if order.wish.csr:
        given = []  # printed as PEM, or written to a file
    print_fields(fields + [(str(name), str(text or "")) for name, text in given])
    if save is not None:
        click.echo(f"saved to {save}", err=True)


def _print_trial(told: dict[str, Any], order: Order) -> None:
    """What would have happened. A gateway of another make does it instead."""
    from gateway.cli.tables import print_fields

    if told.get("dryRun") is not True:
        click.echo("warning: this gateway knows no dry run: the request was answered", err=True)
        _print(told, order, None)
        return
    fields = [
        ("dry run", "nothing was changed"),
        ("it would end in", str(told["status"])),
        ("because", str(told.get("code", ""))),
        ("device name", str(told["deviceName"] or "made by the gateway")),
        ("profile", str(told.get("profile", ""))),
        ("credentials", str(told.get("credentialsType", ""))),
        ("it waits already", "yes" if told.get("claims") else ""),
    ]
    print_fields([field for field in fields if field[1]])
    for number, step in enumerate(told.get("steps", ()), 1):
        click.echo(f"{number}. {step}")
    if told["status"] != SUCCESS and not told.get("steps"):
        click.echo(_explained(told, order), err=True)


def _explained(told: dict[str, Any], order: Order) -> str:
    """What a refusal means, and where to look next."""
    name = order.profile or "NAME"
    if told["status"] == "PENDING":
        return (
            "`gatehouse pending` at the gateway shows it, `gatehouse approve` lets it in. Ask "
            f"again in {told.get('retryAfter', 60)} s,\nwith the same --nonce-file if there was "
            "one."
        )
    if "detail" in told:
        wait = f"Ask again in {told['retryAfter']} s. " if "retryAfter" in told else ""
        return f"{wait}{told['detail']}"
    if "retryAfter" in told:
        return (
            f"It is not for now: ask again in {told['retryAfter']} s. `gatehouse explain` at the "
            "gateway tells why."
        )
    if told["status"] == "NOT_FOUND":
        return (
            "The gateway does not take this key and secret: one of them is wrong, or the profile "
            "is DISABLED or\nadmits by certificate alone. It never says which. "
            f"Check with `gatehouse profile show {name} --reveal`."
        )
    credentials = "its credentials are invalid or another's"
    if order.wish.csr:
        credentials = "its key is too\nweak or was certified before, or the request asks for more"
    return (
        "Key and secret are right, but this device gets nothing: its name is taken or was "
        "provisioned before, it\nwas never added to a profile that wants that, or "
        f"{credentials}.\nThe same command with --dry-run tells which, as `gatehouse explain NAME` "
        "does at the gateway;\n`gatehouse device rearm NAME` lets it ask again where the profile "
        "claims existing devices or lets them\ncome back, `gatehouse device remove NAME` frees the "
        "name."
    )
