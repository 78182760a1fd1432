"""`gatehouse provision`: one device, from this shell, over any wire."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, BinaryIO

import click
from msgspec import Struct

from gateway.cli.new_file import NewFile
from gateway.cli.options import (
    config_option,
    json_option,
    open_for_people,
    print_json,
    read_config,
    run,
    secret_from,
    shown,
    the_ticket,
)
from gateway.config import Config
from gateway.core.model import FleetTicket, Secret, Wire
from gateway.simulator.device import SUCCESS, SimulatorError
from gateway.simulator.messages import Wish

_MOST_CERTIFICATE_BYTES = 65_536
_PORTS = {Wire.HTTP: 80, Wire.MQTT: 1883, Wire.COAP: 5683}
"""The ports of a URL without one."""
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_KINDS = {
    "access-token": "ACCESS_TOKEN",
    "mqtt-basic": "MQTT_BASIC",
    "x509": "X509_CERTIFICATE",
}
_VERSIONS = {"3.1": 3, "3.1.1": 4, "5": 5}


class Order(Struct, frozen=True, kw_only=True):
    """What is to be done, as far as the command line says it. `pair` None: `profile` has it."""

    wire: Wire
    host: str
    port: int
    wish: Wish
    profile: str | None
    pair: tuple[Secret, Secret] | None
    protobuf: bool
    mqtt_version: int
    timeout_s: float


@click.command()
@click.option("--wire", type=click.Choice(["http", "mqtt", "coap"]), help="Default: http.")
@click.option("--url", help="The gateway: http://…, mqtt://… or coap://… Default: this machine.")
@click.option("--profile", metavar="NAME", help="Take key and secret from the local store.")
@click.option("--key-env", metavar="VARIABLE", help="Environment variable with the key.")
@click.option("--secret-env", metavar="VARIABLE", help="Environment variable with the secret.")
@click.option("--device-name", default="", help="Default: the gateway makes one.")
@click.option("--credentials", type=click.Choice(list(_KINDS)), help="Default: what is given.")
@click.option("--token-env", metavar="VARIABLE", help="Environment variable with a token of yours.")
@click.option("--client-id", default="", help="For mqtt-basic.")
@click.option("--username", default="", help="For mqtt-basic.")
@click.option("--password-env", metavar="VARIABLE", help="For mqtt-basic: where the password is.")
@click.option("--certificate", type=click.File("rb"), help="For x509: a PEM file; - is stdin.")
@click.option("--gateway", is_flag=True, help="The device is a gateway for others.")
@click.option("--protobuf", is_flag=True, help="Ask in protobuf (mqtt, coap).")
@click.option("--mqtt-version", type=click.Choice(list(_VERSIONS)), help="Default: 3.1.1.")
@click.option("--timeout", default=10.0, show_default=True, type=click.FloatRange(0.1, 600))
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the answer to a new file that only you can read.",
)
@config_option
@json_option
def command(config_path: Path | None, save: Path | None, as_json: bool, **given: Any) -> None:
    """Provision one device as a device would, and print the credentials it is given.

    Key and secret come from the local store (--profile), from environment variables, or are
    asked for: a secret on a command line would stay in the shell's history and show in `ps`.

    \b
    Examples:
      gatehouse provision --profile demo
      gatehouse provision --profile demo --wire coap --device-name kitchen-1
      gatehouse provision --url mqtt://gw.example.com --key-env KEY --secret-env SECRET
      gatehouse provision --profile demo --username u1 --password-env PW --save u1.json

    A name can be provisioned once. Exit status 1 is a refusal; its true reason is told to the
    gateway's operator by `gatehouse device events`.
    """
    config = read_config(config_path)
    order = _order(config, **given)
    # Made before the request: credentials are given once, and must not be lost to a full disk.
    with NewFile(save, "--save") as kept:
        told = run(_provision(config, order))
        if told["status"] == SUCCESS:
            kept.write(json.dumps(told, indent=2))
    if as_json:
        print_json(told)
    else:
        _print(told, order, save)
    if told["status"] != SUCCESS:
        raise SystemExit(1)


# ── what is asked ─────────────────────────────────────────────────────────────────────────────


def _order(
    config: Config,
    wire: str | None,
    url: str | None,
    profile: str | None,
    key_env: str | None,
    secret_env: str | None,
    protobuf: bool,
    mqtt_version: str | None,
    timeout: float,
    **wished: Any,
) -> Order:
    target, host, port = _target(config, wire, url)
    if protobuf and target is Wire.HTTP:
        raise click.UsageError("--protobuf goes with --wire mqtt or coap: HTTP takes JSON only.")
    if mqtt_version is not None and target is not Wire.MQTT:
        raise click.UsageError("--mqtt-version goes with --wire mqtt.")
    return Order(
        wire=target,
        host=host,
        port=port,
        wish=_wish(**wished),
        profile=profile,
        pair=_pair(profile, key_env, secret_env),
        protobuf=protobuf,
        mqtt_version=_VERSIONS[mqtt_version or "3.1.1"],
        timeout_s=timeout,
    )


def _target(config: Config, wire: str | None, url: str | None) -> tuple[Wire, str, int]:
    """The wire, host and port: of the URL, else of the gateway this configuration describes."""
    if url is None:
        chosen = Wire(wire or "http")
        host, port = _here(config, chosen)
        if not port:
            raise click.UsageError(f"[{chosen}] port is 0, so say where it listens with --url.")
        return chosen, _EVERY_ADDRESS.get(host, host), port
    scheme, host, given = _parts(url)
    if wire is not None and wire != scheme:
        raise click.UsageError(f"--wire {wire} does not go with a URL of {scheme}://.")
    return Wire(scheme), host, given or _PORTS[Wire(scheme)]


def _here(config: Config, wire: Wire) -> tuple[str, int]:
    match wire:
        case Wire.MQTT:
            return config.mqtt.host, config.mqtt.port
        case Wire.COAP:
            return config.coap.host, config.coap.port
        case _:
            return config.http.host, config.http.port


def _parts(url: str) -> tuple[str, str, int | None]:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "mqtt", "coap"):
        raise click.UsageError(
            f"{shown(url)} is no address of a gateway. Write http://HOST:PORT, mqtt://HOST:PORT "
            "or coap://HOST:PORT; this command does not speak TLS."
        )
    if parts.path.strip("/") or parts.query or parts.username is not None:
        raise click.UsageError("--url is a wire, a host and a port only: the path is known.")
    return parts.scheme, host, port


def _pair(
    profile: str | None, key_env: str | None, secret_env: str | None
) -> tuple[Secret, Secret] | None:
    if profile is not None:
        if key_env or secret_env:
            raise click.UsageError("--profile brings key and secret: leave --key-env out.")
        return None
    if not (key_env and secret_env) and not sys.stdin.isatty():
        raise click.UsageError("say --profile NAME, or --key-env VARIABLE --secret-env VARIABLE.")
    return (
        secret_from(key_env) if key_env else _asked("Provision key"),
        secret_from(secret_env) if secret_env else _asked("Provision secret"),
    )


def _asked(what: str) -> Secret:
    return Secret(click.prompt(what, hide_input=True, err=True))


def _wish(
    device_name: str,
    credentials: str | None,
    token_env: str | None,
    client_id: str,
    username: str,
    password_env: str | None,
    certificate: BinaryIO | None,
    gateway: bool,
) -> Wish:
    kind = _KINDS[credentials] if credentials else ""
    if certificate is not None:
        kind = kind or "X509_CERTIFICATE"
    elif client_id or username or password_env:
        kind = kind or "MQTT_BASIC"
    return Wish(
        device_name=device_name,
        credentials_type=kind,
        token=secret_from(token_env) if token_env else Secret(""),
        client_id=client_id,
        username=username,
        password=secret_from(password_env) if password_env else Secret(""),
        certificate=_certificate(certificate) if certificate is not None else "",
        gateway=gateway,
    )


def _certificate(file: BinaryIO) -> str:
    content = file.read(_MOST_CERTIFICATE_BYTES + 1)
    if len(content) > _MOST_CERTIFICATE_BYTES or not content.isascii():
        raise click.UsageError(
            "--certificate wants a PEM file of at most 64 KiB. `openssl x509 -inform der -in FILE` "
            "makes one of a DER file."
        )
    return content.decode("ascii")


# ── doing it ──────────────────────────────────────────────────────────────────────────────────


async def _provision(config: Config, order: Order) -> dict[str, Any]:
    """The answer as JSON has it, and what was asked for. Raises `ClickException`."""
    from gateway.simulator import Fleet

    key, secret = order.pair or await _local_pair(config, order)
    ports = {order.wire: order.port}
    async with Fleet(order.host, ports, order.timeout_s, mqtt_version=order.mqtt_version) as fleet:
        device = fleet.device(order.wire)
        try:
            answer = await device.provision(_body(key, secret, order))
            told = _read(answer, protobuf=order.protobuf)
        except SimulatorError as exc:
            raise click.ClickException(
                f"{exc}, at {order.host} port {order.port}. Check the address, and there whether "
                "the gateway runs: `gatehouse doctor`."
            ) from None
        finally:
            await device.close()
    return told | {"deviceName": order.wish.device_name or None, "wire": order.wire.value}


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
    parse_credentials(answer)  # proves the shape; the members are told as they came
    told: dict[str, Any] = json.loads(answer)
    return told


# ── telling it ────────────────────────────────────────────────────────────────────────────────


def _print(told: dict[str, Any], order: Order, save: Path | None) -> None:
    from gateway.cli.tables import print_fields

    if told["status"] != SUCCESS:
        click.echo(f"{told['status']}: {told.get('errorMsg', 'refused')}")
        click.echo(_explained(str(told["status"]), order), err=True)
        return
    value = told.get("credentialsValue")
    given = value.items() if isinstance(value, dict) else [("value", value)]
    fields = [("status", SUCCESS), ("device name", told["deviceName"] or "made by the gateway")]
    fields.append(("credentials", str(told.get("credentialsType"))))
    print_fields(fields + [(str(name), str(text or "")) for name, text in given])
    if save is not None:
        click.echo(f"saved to {save}", err=True)


def _explained(status: str, order: Order) -> str:
    """What a refusal means, and where to look next."""
    name = order.profile or "NAME"
    if status == "NOT_FOUND":
        return (
            "The gateway does not take this key and secret: one of them is wrong, or the profile "
            "is DISABLED or\nadmits by certificate alone. It never says which. "
            f"Check with `gatehouse profile show {name} --reveal`."
        )
    return (
        "Key and secret are right, but this device gets nothing: its name is taken or was "
        "provisioned before, it\nwas never added to a profile that wants that, or its credentials "
        "are invalid or another's.\nThe reason stands in `gatehouse device events` at the gateway; "
        "`gatehouse device rearm NAME`\n"
        "lets it ask again where the profile claims existing devices, `gatehouse device remove "
        "NAME`\nfrees the name."
    )
