"""`gatehouse explain`: what happened to a device, in plain words."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from gateway.cli.device_views import seen, state
from gateway.cli.options import (
    config_option,
    json_option,
    meant,
    print_json,
    read_config,
    run,
    shown,
)
from gateway.cli.story import chapters, sentence, to_do
from gateway.cli.tables import when
from gateway.config import Config
from gateway.core.audit import Audit
from gateway.core.model import Actor, Event, Presence
from gateway.core.ports import KnownCredentials
from gateway.core.registry import Registry
from gateway.toml_lines import plain

_MOST_EVENTS = 1000


class _Story(Struct, frozen=True, kw_only=True):
    """`known` is None for a name that is no device (any more, or yet)."""

    name: str
    known: KnownCredentials | None
    profile: str
    customer: str | None
    presence: Presence
    events: Sequence[Event]


@click.command()
@click.argument("device_or_name")
@config_option
@json_option
def command(device_or_name: str, config_path: Path | None, as_json: bool) -> None:
    """Tell in plain words what happened to a device.

    Every attempt, why it was refused and what to do about it, each change of its credentials, when
    it was here, who claimed it. Also for a name that never became a device: its attempts are told,
    as far back as events are kept. It ends with what to do next, if something is to be done.

    \b
    Examples:
      gatehouse explain meter-7
      gatehouse explain 01931b7e-2f3c-7a10-b2f4-0a1b2c3d4e5f
    """
    story = run(_read(read_config(config_path), device_or_name))
    if as_json:
        print_json(_plain(story))
    else:
        _print(story)


async def _read(config: Config, name: str) -> _Story:
    from gateway.cli.bureau import open_bureau
    from gateway.store.audit import SqlAudit

    async with open_bureau(config) as bureau:
        registry, actor = bureau.desk.registry, bureau.actor
        audit = Audit(SqlAudit(bureau.desk.store))
        known = await registry.device(name)
        subject = known.device.name if known is not None else name
        events = await audit.named(actor, subject, _MOST_EVENTS)
        if known is not None:
            own = await registry.last_events(known, limit=_MOST_EVENTS)
            events = _merged(own, events)
        elif not events:
            raise await _unheard_of(audit, actor, registry, name)
        return await _story(registry, subject, known, events)


def _merged(own: Sequence[Event], named: Sequence[Event]) -> list[Event]:
    """Both in one order, each once: a device may have had another name."""
    merged: list[Event] = []
    for event in heapq.merge(own, named, key=lambda one: one.seq):
        if not merged or merged[-1].seq != event.seq:
            merged.append(event)
    return merged


async def _unheard_of(
    audit: Audit, actor: Actor, registry: Registry, name: str
) -> click.ClickException:
    names = [one.device.name for one in await registry.devices(limit=2000, text=name[:3])]
    guess = meant(name, [*names, *await audit.subjects(actor)])
    return click.ClickException(
        f"nothing is known of {shown(name)}: there is no such device, and no request in that name "
        f"reached this gateway while events were kept. {guess or _LOOK_ELSEWHERE}"
    )


_LOOK_ELSEWHERE = (
    "Look whether the device reaches the gateway at all: `gatehouse audit --follow` shows what "
    "arrives; refusals without a name stand there, too."
)


async def _story(
    registry: Registry, name: str, known: KnownCredentials | None, events: Sequence[Event]
) -> _Story:
    profile, customer, presence = "", None, Presence()
    if known is not None:
        device = known.device
        profiles = {one.id: one.name for one in await registry.profiles()}
        profile = profiles.get(device.profile_id, "?")
        customer = await registry.customer_of(device)
        presence = (await registry.presence([device])).get(device.id, presence)
    return _Story(
        name=name,
        known=known,
        profile=profile,
        customer=customer,
        presence=presence,
        events=events,
    )


def _print(story: _Story) -> None:
    for line in _state(story):
        _say(line)
    click.echo()
    for chapter in chapters(story.events):
        _say(f"{when(chapter.first.at)}  {sentence(chapter, when)}")
    todo = to_do(story.events, story.name)
    if todo:
        click.echo()
        _say(f"What to do: {todo}")


def _say(line: str) -> None:
    click.echo(plain(line, len(line) + 1))


def _state(story: _Story) -> list[str]:
    """How things stand now."""
    name = shown(story.name)
    if story.known is None:
        return [f"{name} is no device. This is what happened in that name:"]
    device, presence = story.known.device, story.presence
    about = f"{name} is a device of profile {shown(story.profile)}, {state(device)}"
    whose = f"; customer {shown(story.customer)} has it" if story.customer else ""
    kind = story.known.credentials.type.value
    lines = [f"{about}{whose}. It logs in with {kind}."]
    lines.append(f"It {_here(presence)}.")
    return lines


def _here(presence: Presence) -> str:
    if not (presence.active_at or presence.connected_at):
        return "was never heard of with its credentials"
    where = f", over {presence.wire.value} from {presence.address}" if presence.wire else ""
    if presence.online:
        return f"is online since {when(presence.connected_at)}{where}"
    return f"is offline, {seen(presence)}{where}"


def _plain(story: _Story) -> dict[str, Any]:
    device = story.known.device if story.known is not None else None
    presence = story.presence
    return {
        "name": story.name,
        "exists": device is not None,
        "uuid": device.uuid if device is not None else None,
        "profile": story.profile or None,
        "state": state(device) if device is not None else None,
        "customer": story.customer,
        "online": presence.online,
        "active_at": presence.active_at or None,
        "story": [
            {
                "at": one.first.at,
                "last_at": one.last.at,
                "times": one.times,
                "event": one.last.kind.value,
                "outcome": one.last.outcome.value,
                "reason": one.last.reason or None,
                "told": sentence(one, when),
            }
            for one in chapters(story.events)
        ],
        "what_to_do": to_do(story.events, story.name) or None,
    }
