"""What `gatehouse serve` shows a person: where it listens, what it keeps, how to try it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import click

from gateway import __version__
from gateway.app import Gateway
from gateway.cli.templates import template_of
from gateway.cli.tls_checks import secure_wires
from gateway.config import Config
from gateway.core.model import DeviceProfile, ProvisionType
from gateway.transports.blynk import BlynkListener
from gateway.transports.coap import CoapListener
from gateway.transports.http import HttpListener
from gateway.transports.mqtt import MqttListener

_CREDENTIAL = r"""sed -n 's/.*"credentialsValue":"\([^"]*\)".*/\1/p'"""
_READING = "'{\"temperature\":21.5}'"
_COAP_CLIENTS = (
    "coap-client",
    "coap-client-notls",
    "coap-client-openssl",
    "coap-client-gnutls",
)

_Listener: TypeAlias = HttpListener | MqttListener | CoapListener | BlynkListener | None


def start_screen(gateway: Gateway, profiles: Sequence[DeviceProfile]) -> str:
    """The whole screen as text."""
    return "\n".join((*_head(gateway, profiles), *_try_it(gateway, profiles), ""))


def _head(gateway: Gateway, profiles: Sequence[DeviceProfile]) -> Iterator[str]:
    config = gateway.config
    yield ""
    title = click.style("Gatehouse", bold=True)
    yield f"  {title} {__version__} · the front gate of a device fleet"
    yield ""
    plain = (
        ("HTTP", config.http.host, gateway.http),
        ("MQTT", config.mqtt.host, gateway.mqtt),
        ("CoAP", config.coap.host, gateway.coap),
        ("Blynk", config.blynk_tcp.host, gateway.blynk_tcp),
    )
    secure = (
        ("HTTPS", config.https.host, gateway.https),
        ("MQTTS", config.mqtts.host, gateway.mqtts),
        ("CoAPS", config.coaps.host, gateway.coaps),
    )
    listening = _listening(plain)
    if listening:
        yield f"  {_label('listens')}{listening}"
    yield f"  {_label('secure')}{_listening(secure) or _why_off(config)}"
    yield f"  {_label('store')}{_store(config)}"
    names = [f"{one.name} ({_open_to(one)})" for one in profiles]
    yield f"  {_label('profiles')}{', '.join(names) or f'none yet; see {config.profiles_dir}'}"
    for error in gateway.profile_errors:
        yield f"  {click.style('!', fg='yellow')} {error}"


def _listening(wires: Sequence[tuple[str, str, _Listener]]) -> str:
    return "   ".join(
        f"{name} {click.style(f'{host}:{listener.port}', fg='green')}"
        for name, host, listener in wires
        if listener is not None
    )


def _why_off(config: Config) -> str:
    if secure_wires(config):
        return "HTTPS, MQTTS and CoAPS are off: no certificate; `gatehouse cert init` makes one"
    return "HTTPS, MQTTS and CoAPS are switched off"


def _store(config: Config) -> str:
    if config.server_url is not None:
        return config.store.shown_url
    return str(config.store_path or "in memory, gone when this process ends")


_SHORT = {
    ProvisionType.DISABLED: "closed",
    ProvisionType.ALLOW_CREATE_NEW_DEVICES: "open to new devices",
    ProvisionType.CHECK_PRE_PROVISIONED_DEVICES: "known names only",
    ProvisionType.X509_CERTIFICATE_CHAIN: "factory certificates",
}


def _open_to(profile: DeviceProfile) -> str:
    """Whom it lets in. Tokens of Blynk's kind admit devices of a closed profile, too."""
    if template_of(profile) is None:
        return _SHORT[profile.provision_type]
    if profile.provision_type is ProvisionType.DISABLED:
        return "Blynk tokens"
    return f"{_SHORT[profile.provision_type]}, Blynk tokens"


def _label(text: str) -> str:
    return click.style(f"{text:<10}", dim=True)


def _try_it(gateway: Gateway, profiles: Sequence[DeviceProfile]) -> Iterator[str]:
    """One line per wire: provision a device, then send a reading with what it got.

    The fleet secret comes from a command, so that it is in no history, and through a pipe, so
    that it is in no process list; only mosquitto_rr sends nothing that comes through a pipe.
    """
    demo = next((one for one in profiles if _takes_strangers(one)), None)
    server = gateway.config.server_url is not None
    if demo is None or (gateway.config.store_path is None and not server):
        return
    yield ""
    yield "  Try it from another terminal; each line provisions a device and sends a reading:"
    if server:
        yield "  (GATEHOUSE_MASTER_KEY, and the database's password, must be set there as here.)"
    request = f"{_gatehouse(gateway)} profile request {shlex.quote(demo.name)}"
    if gateway.http is not None:
        url = f"http://{_host(gateway.config.http.host)}:{gateway.http.port}/api/v1"
        yield ""
        yield (
            f"T=$({request} | curl -s -d @- {url}/provision | {_CREDENTIAL}); "
            f'test "$T" && curl -s -d {_READING} "{url}/$T/telemetry" && echo "$T"'
        )
    if gateway.coap is not None:
        client = next((name for name in _COAP_CLIENTS if shutil.which(name)), _COAP_CLIENTS[0])
        url = f"coap://{_host(gateway.config.coap.host)}:{gateway.coap.port}/api/v1"
        yield ""
        yield (
            f"T=$({request} | {client} -m post -f - {url}/provision | {_CREDENTIAL}); "
            f'test "$T" && {client} -m post -e {_READING} "{url}/$T/telemetry" && echo "$T"'
        )
    if gateway.mqtt is not None:
        at = f"-h {_host(gateway.config.mqtt.host).strip('[]')} -p {gateway.mqtt.port}"
        yield ""
        yield (
            f"T=$(mosquitto_rr {at} -u provision -t /provision/request -e /provision/response "
            f'-m "$({request})" | {_CREDENTIAL}); test "$T" && mosquitto_pub {at} -q 1 -u "$T" '
            f'-t v1/devices/me/telemetry -m {_READING} && echo "$T"'
        )
    yield ""
    yield f"  Then: {_gatehouse(gateway)} device list"


def _takes_strangers(profile: DeviceProfile) -> bool:
    return profile.provision_type is ProvisionType.ALLOW_CREATE_NEW_DEVICES


def _host(listening: str) -> str:
    """Where a client on this machine finds a listener."""
    if listening in ("0.0.0.0", ""):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    if listening == "::":
        return "[::1]"
    return f"[{listening}]" if ":" in listening else listening


def _gatehouse(gateway: Gateway) -> str:
    """The command as it must be typed to act on this server's store, from any folder."""
    called = Path(sys.argv[0])
    found = shutil.which("gatehouse")
    if called.name != "gatehouse":
        command = f"{shlex.quote(sys.executable)} -m gateway"
    elif found and Path(found).resolve() == called.resolve():
        command = "gatehouse"
    else:
        command = shlex.quote(str(called.resolve()))
    settings = ""
    config = gateway.config
    if config.source is not None:
        settings = f"GATEHOUSE_CONFIG={shlex.quote(str(config.source.resolve()))} "
    if config.source is None or "GATEHOUSE_STORE_URL" in os.environ:
        url = config.store.shown_url  # a password comes from PGPASSWORD, never from a screen
        if config.store_path is not None:
            url = f"sqlite:{config.store_path.resolve()}"
        settings += f"GATEHOUSE_STORE_URL={shlex.quote(url)} "
    if config.source is None or "GATEHOUSE_PROFILES_DIR" in os.environ:
        settings += f"GATEHOUSE_PROFILES_DIR={shlex.quote(str(config.profiles_dir.resolve()))} "
    return settings + command
