"""What a `gatehouse provision` is to ask, where, and as whom: its command line, understood."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, BinaryIO

import click
from msgspec import Struct, structs

from gateway.cli.options import secret_from, shown
from gateway.config import Config
from gateway.core.model import Secret, Wire
from gateway.simulator.messages import Wish

_MOST_CERTIFICATE_BYTES = 65_536
PORTS = {
    Wire.HTTP: 80,
    Wire.MQTT: 1883,
    Wire.COAP: 5683,
    Wire.HTTPS: 443,
    Wire.MQTTS: 8883,
}
"""The ports of a URL without one."""
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
KINDS = {
    "access-token": "ACCESS_TOKEN",
    "mqtt-basic": "MQTT_BASIC",
    "x509": "X509_CERTIFICATE",
    "dtls-psk": "DTLS_PSK",
}
VERSIONS = {"3.1": 3, "3.1.1": 4, "5": 5}


class Order(Struct, frozen=True, kw_only=True):
    """What is to be done, as far as the command line says it. `pair` None: `profile` has it.

    On a secure wire `cacert` is whom to trust, None: this system's authorities; `lab` is one more.
    """

    wire: Wire
    host: str
    port: int
    wish: Wish
    profile: str | None
    pair: tuple[Secret, Secret] | None
    protobuf: bool
    mqtt_version: int
    timeout_s: float
    cacert: Path | None
    lab: Path | None


def order_of(
    config: Config,
    wire: str | None,
    url: str | None,
    cacert: Path | None,
    profile: str | None,
    key_env: str | None,
    secret_env: str | None,
    protobuf: bool,
    mqtt_version: str | None,
    timeout: float,
    **wished: Any,
) -> Order:
    """The order. A usage error when options do not go together."""
    target, host, port = _target(config, wire, url)
    wish = _wish(**wished)
    if protobuf and target.plain is Wire.HTTP:
        raise click.UsageError("--protobuf goes with --wire mqtt or coap: HTTP takes JSON only.")
    if protobuf and wish.credentials_type == "DTLS_PSK":
        raise click.UsageError("protobuf has no word for dtls-psk: leave --protobuf out.")
    if cacert is not None and target is target.plain:
        raise click.UsageError("--cacert goes with --wire https or mqtts.")
    if mqtt_version is not None and target.plain is not Wire.MQTT:
        raise click.UsageError("--mqtt-version goes with --wire mqtt.")
    return Order(
        wire=target,
        host=host,
        port=port,
        wish=wish,
        profile=profile,
        pair=_pair(profile, key_env, secret_env),
        protobuf=protobuf,
        mqtt_version=VERSIONS[mqtt_version or "3.1.1"],
        timeout_s=timeout,
        cacert=cacert,
        lab=_lab_authority(config) if url is None else None,
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
    return Wire(scheme), host, given or PORTS[Wire(scheme)]


def _here(config: Config, wire: Wire) -> tuple[str, int]:
    match wire:
        case Wire.MQTT:
            return config.mqtt.host, config.mqtt.port
        case Wire.COAP:
            return config.coap.host, config.coap.port
        case Wire.HTTPS:
            return config.https.host, config.https.port
        case Wire.MQTTS:
            return config.mqtts.host, config.mqtts.port
        case _:
            return config.http.host, config.http.port


def _lab_authority(config: Config) -> Path | None:
    """What `cert init` says clients are to trust; this machine may, without being told."""
    from gateway.cli.cert import LAB_CA

    path = config.tls_files[0].with_name(LAB_CA) if config.tls_files else None
    return path if path is not None and path.exists() else None


def with_request(
    order: Order, csr: BinaryIO | None, new_key: Path | None, out: Path | None
) -> tuple[Order, str]:
    """The order with a signing request, and the key it is for when that is made here (PEM)."""
    from gateway.cli.signing import new_request, read_request

    if (csr is None) == (new_key is None):
        told = "choose one of --csr and --new-key" if csr else "--out goes with --csr or --new-key"
        raise click.UsageError(f"{told}.")
    wish = order.wish
    if wish.credentials_type not in ("", "X509_CERTIFICATE") or wish.certificate or wish.token:
        raise click.UsageError("a signing request brings a certificate, and no other credentials.")
    if order.protobuf:
        raise click.UsageError("protobuf has no place for a signing request: leave --protobuf out.")
    key, request = new_request(wish.device_name) if csr is None else ("", read_request(csr))
    wish = structs.replace(wish, credentials_type="X509_CERTIFICATE", csr=request)
    return structs.replace(order, wish=wish), key


def _parts(url: str) -> tuple[str, str, int | None]:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise click.UsageError(f"{shown(url)} is no address of a gateway.") from None
    if parts.scheme == Wire.COAPS:
        raise click.UsageError(
            "this command does not speak DTLS: pipe `gatehouse profile request NAME` into "
            "`coap-client-openssl -m post -f - -R CA.pem coaps://HOST/api/v1/provision`."
        )
    if not host or parts.scheme not in PORTS:
        raise click.UsageError(
            f"{shown(url)} is no address of a gateway. Write http://HOST:PORT, mqtt://HOST:PORT "
            "or coap://HOST:PORT; https:// and mqtts:// for TLS."
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
    kind = KINDS[credentials] if credentials else ""
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
