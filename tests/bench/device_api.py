"""The rows of the device API: readings on every wire, changes to ten thousand, calls.

After each run the store is asked for what was acknowledged; anything lost is a `GeneratorError`.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from generators import GeneratorError, Load
from lab import Figures, Lab
from stored import Changed, add_devices, count_readings, count_shared, share

from gateway import log
from gateway.app import Gateway
from gateway.config import Config
from gateway.core.model import DeviceProfile, Provisioned, ProvisionType, RpcCall, Secret
from gateway.core.registry import ProfileDraft
from gateway.core.rpc import RpcOutcome
from gateway.heap import settled_heap
from gateway.opening import open_store
from gateway.settings import (
    CoapSettings,
    HttpSettings,
    MqttSettings,
    ProfilesSettings,
    StoreSettings,
)
from gateway.simulator.processes import Server, on_core

HTTP_AT_ONCE, COAP_AT_ONCE = 256, 256
DEVICES = 64
TELEMETRY = (16, 20)
"""Sessions, and unacknowledged readings of each."""
GATEWAY = (100, 10)
"""Children, and unacknowledged messages, each with one reading of each child."""
AUDIENCE = 10_000
CALLS = 2_000
KEY, VALUE = "interval", 42
PATIENCE_S = 60.0


# ── readings ──────────────────────────────────────────────────────────────────────────────────


def telemetry_http(lab: Lab) -> Figures:
    """wrk ends in the middle of requests: so many more than it counted may be stored."""
    with lab.gateway() as (server, database):
        tokens = add_devices(database, DEVICES).tokens
        told = lab.generators.http_telemetry(
            server.ports["http"], tokens, HTTP_AT_ONCE, lab.seconds
        )
        time.sleep(0.5)
        _check_stored(database, told.answered, spare=HTTP_AT_ONCE)
    return _figures(f"telemetry HTTP, {HTTP_AT_ONCE} at once", told)


def telemetry_coap(lab: Lab) -> Figures:
    with lab.gateway() as (server, database):
        tokens = add_devices(database, DEVICES).tokens
        told = lab.generators.coap_telemetry(
            server.ports["coap"], tokens, COAP_AT_ONCE, lab.seconds
        )
        _check_stored(database, told.answered)
    return _figures(f"telemetry CoAP, {COAP_AT_ONCE} at once", told)


def telemetry_mqtt(lab: Lab) -> Figures:
    sessions, window = TELEMETRY
    with lab.gateway() as (server, database):
        tokens = add_devices(database, sessions).tokens
        told = lab.generators.telemetry(server.ports["mqtt"], tokens, window, lab.seconds)
        _check_stored(database, told.answered * 2)  # two values in each message
    return _figures(f"telemetry QoS 1, {sessions} sessions of {window} in flight", told)


def telemetry_gateway(lab: Lab) -> Figures:
    children, window = GATEWAY
    with lab.gateway() as (server, database):
        told = lab.generators.telemetry(
            server.ports["mqtt"], [_gateway_token(lab, server)], window, lab.seconds, children
        )
        _check_stored(database, told.answered * children)
    title = f"gateway of {children} children, {window} in flight"
    return {f"{title}, points per second": told.rate * children, f"{title}, p99 ms": told.p99_ms}


def _gateway_token(lab: Lab, server: Server) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=10)
    body = {
        "deviceName": "gateway",
        "gateway": True,
        "provisionDeviceKey": lab.pair.key.reveal(),
        "provisionDeviceSecret": lab.pair.secret.reveal(),
    }
    connection.request("POST", "/api/v1/provision", json.dumps(body))
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return str(answer["credentialsValue"])


def _check_stored(database: Path, acknowledged: int, spare: int = 0) -> None:
    stored = count_readings(database)
    if not acknowledged <= stored <= acknowledged + spare:
        raise GeneratorError(f"{acknowledged} readings were acknowledged, {stored} are stored")


def _figures(title: str, told: Load) -> Figures:
    return {f"{title}, per second": told.rate, f"{title}, p99 ms": told.p99_ms}


# ── one change for many ───────────────────────────────────────────────────────────────────────


def told_over_mqtt(lab: Lab) -> Figures:
    return _told(lab, "audience", "mqtt", "MQTT sessions told of a change")


def told_over_coap(lab: Lab) -> Figures:
    return _told(lab, "observers", "coap", "CoAP observers told of a change")


def _told(lab: Lab, program: str, wire: str, title: str) -> Figures:
    """The change is made by another process than the gateway's, which has to hear of it."""
    with lab.gateway() as (server, database):
        devices = add_devices(database, AUDIENCE)
        text = json.dumps({KEY: VALUE}, separators=(",", ":"))
        with lab.generators.audience(
            program, server.ports[wire], devices.prefix, AUDIENCE, text, PATIENCE_S
        ) as outcome:
            changed: Changed = share(database, KEY, VALUE)
            heard = outcome()
        stored = count_shared(database, KEY, VALUE)
    if changed.devices != AUDIENCE or stored != AUDIENCE:
        raise GeneratorError(f"{AUDIENCE} devices should be changed, {stored} are")
    return {
        f"{AUDIENCE:,} {title}: the first, s": max(0.0, heard.first - changed.at),
        f"{AUDIENCE:,} {title}: the last, s": max(0.0, heard.last - changed.at),
        f"{AUDIENCE:,} {title}: told again": heard.again,
    }


# ── calls ─────────────────────────────────────────────────────────────────────────────────────


def round_trip(lab: Lab) -> Figures:
    """One call after the other, from inside of the gateway's process to a device and back."""
    import uvloop

    log.configure("warning", "auto")
    with (
        on_core(lab.server_core),
        tempfile.TemporaryDirectory(dir=lab.place) as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        waits = runner.run(_inside(lab, Path(folder), _call_on))
    centiles = statistics.quantiles(waits, n=100)
    return {"two-way call, p50 ms": centiles[49], "two-way call, p99 ms": centiles[98]}


async def _inside(
    lab: Lab, folder: Path, work: Callable[[Lab, Gateway, Provisioned], Awaitable[list[float]]]
) -> list[float]:
    """A whole gateway in this process, with one device; `work` with them."""
    config = Config(
        store=StoreSettings(url=f"sqlite:{folder / 'data' / 'gatehouse.db'}"),
        http=HttpSettings(host="127.0.0.1", port=0),
        mqtt=MqttSettings(host="127.0.0.1", port=0),
        coap=CoapSettings(host="127.0.0.1", port=0),
        profiles=ProfilesSettings(dir=str(folder / "profiles"), watch=False),
    )
    async with open_store(config, {}) as store:
        gateway = Gateway(config, store)
        try:
            await gateway.start()
            with settled_heap():
                return await work(lab, gateway, await _device(gateway))
        finally:
            await gateway.stop(2.0)


async def _device(gateway: Gateway) -> Provisioned:
    shape = DeviceProfile(id=0, name="bench", provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES)
    await gateway.registry.save_profile(ProfileDraft(profile=shape))
    profile = await gateway.registry.profile("bench")
    assert profile is not None
    added = await gateway.registry.add_device(
        profile, "answering", token=Secret("bench-token-0000")
    )
    assert isinstance(added, Provisioned)
    return added


async def _call_on(lab: Lab, gateway: Gateway, known: Provisioned) -> list[float]:
    """How long each call took, in ms."""
    assert gateway.mqtt is not None
    token = known.credentials.id.reveal()
    call = RpcCall(device_id=known.device.id, method="ping", two_way=True)
    waits: list[float] = []
    async with lab.generators.answering(gateway.mqtt.port, token):
        for _ in range(CALLS):
            began = time.perf_counter()
            result = await gateway.rpc.call(call, 5)
            waits.append((time.perf_counter() - began) * 1000)
            if result.outcome is not RpcOutcome.ANSWERED or result.response != '{"done":true}':
                raise GeneratorError(f"call {len(waits)} ended as {result.outcome.value}")
    return waits


EXPERIMENTS: dict[str, list[Callable[[Lab], Figures]]] = {
    "telemetry-http": [telemetry_http],
    "telemetry-coap": [telemetry_coap],
    "telemetry": [telemetry_mqtt],
    "gateway": [telemetry_gateway],
    "attributes": [told_over_mqtt],
    "observers": [told_over_coap],
    "rpc": [round_trip],
}
"""By the name after `--only`."""
