"""`gatehouse device rpc` and `device calls`: calling methods of devices."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from gateway.cli.options import (
    config_option,
    json_option,
    open_for_people,
    print_json,
    read_config,
    run,
    shown,
    the_device,
)
from gateway.cli.times import DURATION, lasting
from gateway.config import Config
from gateway.core.model import Device, Presence, RpcCall, RpcState
from gateway.core.ports import KnownCredentials
from gateway.core.registry import Registry

_MOST_PARAMS = 65_536
"""Bytes. MQTT packets end there by default, and CoAP bodies sooner."""
_MOST_METHOD = 255
_SLACK_S = 2.0
"""A gateway hears of a call within a moment, and tells its end within another."""


@click.command()
@click.argument("name_or_uuid")
@click.argument("method")
@click.argument("params", default="{}", metavar="[PARAMS]")
@click.option("--oneway", is_flag=True, help="Do not wait for an answer of the device.")
@click.option(
    "--timeout",
    type=DURATION,
    help="How long the answer may take. Default: as [rpc] timeout_s says, 10s.",
)
@click.option("--persistent", is_flag=True, help="Let the call wait for a device that is away.")
@click.option("--expires", type=DURATION, help="With --persistent: for so long. Default: 1h.")
@click.option(
    "--retries",
    type=click.IntRange(1, 1000),
    help="With --persistent: send it again so often, and then give up.",
)
@click.option("--wait", is_flag=True, help="With --persistent: until it is over.")
@config_option
@json_option
def rpc(
    name_or_uuid: str,
    method: str,
    params: str,
    oneway: bool,
    timeout: int | None,
    persistent: bool,
    expires: int | None,
    retries: int | None,
    wait: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Call a method of a device through a running gateway, and print the device's answer.

    PARAMS is JSON in single quotes, or - for standard input. The answer is laid out for a
    terminal, and otherwise printed as the device wrote it. When there is none, the exit status is
    1 and a sentence says what to do.

    \b
    Examples:
      gatehouse device rpc kitchen-1 getTemperature
      gatehouse device rpc kitchen-1 setLamp '{"on": true}' --timeout 3s
      gatehouse device rpc kitchen-1 reboot --oneway
      gatehouse device rpc meter-7 setInterval 60 --persistent --expires 7d
      cat schedule.json | gatehouse device rpc kitchen-1 setSchedule -
    """
    for option, given in (("--expires", expires), ("--retries", retries), ("--wait", wait)):
        if given and not persistent:
            raise click.UsageError(f"{option} goes with --persistent.")
    if timeout is not None and persistent:
        raise click.UsageError("a persistent call lasts as long as --expires says, not --timeout.")
    if not 0 < len(method) <= _MOST_METHOD:
        raise click.UsageError(f"a method's name has 1 to {_MOST_METHOD} characters.")
    config = read_config(config_path)
    lasts = expires if persistent else timeout
    if lasts is None:
        lasts = 3_600_000 if persistent else int(config.rpc.timeout_s * 1000)
    settings = {"two_way": not oneway, "persistent": persistent, "retries": retries or 0}
    waits = wait or not persistent
    work = _call(config, name_or_uuid, method, _json_of(params), lasts, waits, settings)
    call, device, presence = run(work)
    failed = waits and call.state is not RpcState.SUCCESSFUL
    if as_json:
        print_json(plain_call(call))
    elif not waits:
        click.echo(f"{call.uuid}  {call.state.value}")
        click.echo(f"`gatehouse device calls {shlex.quote(device.name)}` follows it.", err=True)
    elif not failed and call.response is not None:
        _print_answer(call.response)
    if failed:
        raise click.ClickException(_why(call, device, presence, lasts))


def _json_of(params: str) -> str:
    """The parameters as JSON text; a usage error that says how to quote them otherwise."""
    if params == "-":
        params = sys.stdin.buffer.read(_MOST_PARAMS + 1).decode("utf-8", "replace")
    try:
        json.loads(params)
        size = len(params.encode())
    except (ValueError, RecursionError):
        raise click.UsageError(
            f"PARAMS is not JSON: {shown(params)}. Put JSON in single quotes, and text within it "
            """in double ones: '{"on": true}', '"text"', 42. Or give - and pipe it in."""
        ) from None
    if size > _MOST_PARAMS:
        raise click.UsageError(f"PARAMS is larger than {_MOST_PARAMS} bytes.")
    return params.strip()


async def _call(
    config: Config,
    name: str,
    method: str,
    params: str,
    lasts_ms: int,
    waits: bool,
    settings: dict[str, Any],
) -> tuple[RpcCall, Device, Presence]:
    async with open_for_people(config) as registry:
        known = await the_device(registry, name)
        stored = await registry.calls.save(
            known, method, params, lasts_s=lasts_ms / 1000, **settings
        )
        if stored is None:
            raise click.ClickException(f"device {shown(name)} was removed just now.")
        if waits:
            stored = await _end_of(registry, stored, lasts_ms / 1000)
        presence = await registry.presence([known.device])
        return stored, known.device, presence.get(known.device.id, Presence())


async def _end_of(registry: Registry, call: RpcCall, lasts_s: float) -> RpcCall:
    """Wait for the call's end. Of one that waits long, tell its number first."""
    if lasts_s > 60 and sys.stderr.isatty():
        click.echo(f"waiting for call {call.uuid}; Ctrl-C leaves it to the gateway", err=True)
    return await registry.calls.end_of(call, lasts_s + _SLACK_S)


def _print_answer(response: str) -> None:
    if not sys.stdout.isatty():
        click.echo(response)
        return
    try:
        laid_out = json.dumps(json.loads(response), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        laid_out = response
    click.echo("\n".join(_clean(line) for line in laid_out.split("\n")))


def _clean(line: str) -> str:
    from gateway.toml_lines import plain

    return plain(line, len(line) + 1)


def _why(call: RpcCall, device: Device, presence: Presence, lasts_ms: int) -> str:
    """Why there is no answer, and what to do next."""
    name = shown(device.name)
    match call.state:
        case RpcState.QUEUED if not call.persistent:
            return (
                "no gateway took the call. Is one running on this store? `gatehouse serve` starts "
                "one, `gatehouse doctor` shows which store this is."
            )
        case RpcState.FAILED if call.persistent:
            return f"{name} never acknowledged the call, though it was sent {call.retries + 1}x."
        case RpcState.FAILED:
            return _not_reached(name, presence)
        case RpcState.EXPIRED | RpcState.QUEUED | RpcState.SENT if call.persistent:
            return f"{name} did not take the call within {lasting(lasts_ms)}. {_away(presence)}"
        case _:
            return (
                f"{name} took the call and did not answer within {lasting(lasts_ms)}. Does it "
                f"know the method {shown(call.method)}? Give it longer with --timeout, or call "
                "with --oneway if it never answers."
            )


def _not_reached(name: str, presence: Presence) -> str:
    if presence.online:
        return (
            f"{name} is connected and listens to no calls. Over MQTT it must subscribe to "
            "v1/devices/me/rpc/request/+, over CoAP observe its rpc resource, over HTTP poll it."
        )
    return f"{name} is not connected. {_away(presence)} With --persistent the call waits for it."


def _away(presence: Presence) -> str:
    from gateway.cli.tables import when

    if presence.online:
        return "It is connected; is it subscribed to calls?"
    last = max(presence.active_at, presence.disconnected_at, presence.connected_at)
    return f"It was last heard of at {when(last)}." if last else "It was never connected."


# ── stored calls ──────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("name_or_uuid")
@click.option("--limit", default=50, type=click.IntRange(1, 1000), show_default=True)
@config_option
@json_option
def calls(name_or_uuid: str, limit: int, config_path: Path | None, as_json: bool) -> None:
    """List a device's stored calls and how far they came, the newest first.

    \b
      QUEUED      waits for the device
      SENT        left, and is not acknowledged yet
      DELIVERED   acknowledged; its answer is awaited
      SUCCESSFUL  answered, or delivered if it was one-way
      TIMEOUT, EXPIRED, FAILED: never answered, never delivered, given up
    """
    known, found = run(_calls(read_config(config_path), name_or_uuid, limit))
    if as_json:
        print_json([plain_call(one) for one in found])
        return
    if not found:
        click.echo(f"no calls are stored for {shown(known.device.name)}", err=True)
        return
    from gateway.cli.tables import print_table, when

    print_table(
        ("created", "method", "kind", "state", "until", "response", "uuid"),
        [
            (
                when(one.created_at),
                one.method,
                _kind(one),
                one.state.value,
                when(one.expires_at),
                one.response or "",
                one.uuid,
            )
            for one in found
        ],
    )


async def _calls(config: Config, name: str, limit: int) -> tuple[KnownCredentials, list[RpcCall]]:
    async with open_for_people(config) as registry:
        known = await the_device(registry, name)
        return known, await registry.calls.of(known, limit=limit)


def _kind(call: RpcCall) -> str:
    way = "two-way" if call.two_way else "one-way"
    return f"{way}, persistent" if call.persistent else way


def plain_call(call: RpcCall) -> dict[str, Any]:
    """A call as JSON has it; what the device answered stays text when it is not JSON."""
    return {
        "uuid": call.uuid,
        "method": call.method,
        "params": _unfolded(call.params),
        "two_way": call.two_way,
        "persistent": call.persistent,
        "state": call.state.value,
        "created_at": call.created_at,
        "expires_at": call.expires_at,
        "response": None if call.response is None else _unfolded(call.response),
    }


def _unfolded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
