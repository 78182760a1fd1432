"""`gatehouse explain`: what happened to a device, in plain words."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
from gateway.cli.story import chapters, sentence, to_do, wire_name
from gateway.cli.tables import when
from gateway.cli.ticket_views import plain_ticket, until
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.audit import Audit
from gateway.core.model import Actor, Event, Lineage, Presence, Ticket, TicketRecord
from gateway.core.ports import KnownCredentials
from gateway.core.presence import ACTIVITY_EVERY, WRITE_EVERY_S
from gateway.core.registry import Registry
from gateway.toml_lines import plain

if TYPE_CHECKING:
    from gateway.cli.bureau import Bureau
    from gateway.core.tickets import Tickets

_MOST_EVENTS = 1000
_MOST_NUMBER = 2**63 - 1
_NUMBER = click.IntRange(1, _MOST_NUMBER)


class _Story(Struct, frozen=True, kw_only=True):
    """`known` is None for a name or number that is no device (any more, or yet); `name` is "" for a
    number without a name. `number` is that of the device, None for a name that never was one.
    `ticket` waits: for this number to be born, or to be given a new token."""

    name: str
    number: int | None
    known: KnownCredentials | None
    ticket: TicketRecord | None
    profile: str = ""
    customer: str | None = None
    lineage: Lineage | None = None
    presence: Presence = Presence()
    events: Sequence[Event] = ()


@click.command()
@click.argument("device_or_name", required=False)
@click.option("--number", type=_NUMBER, help="A device by its number (Blynk's deviceId).")
@click.option("--ticket", type=_NUMBER, help="The device a ticket is, or was, for.")
@config_option
@json_option
def command(
    device_or_name: str | None,
    number: int | None,
    ticket: int | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Tell in plain words what happened to a device.

    Every attempt, why it was refused and what to do about it, each change of its credentials, when
    it was here, who claimed it. Also for a name that never became a device: its attempts are told,
    as far back as events are kept. And for a number that a ticket keeps for a device to come: who
    issued it, who tried to use it, how it ended. A device's number may stand for its name where
    nothing has that name. It ends with what to do next, if something is to be done.

    \b
    Examples:
      gatehouse explain meter-7
      gatehouse explain 01931b7e-2f3c-7a10-b2f4-0a1b2c3d4e5f
      gatehouse explain --ticket 17
    """
    if sum(one is not None for one in (device_or_name, number, ticket)) != 1:
        raise click.UsageError("give a name, or --number, or --ticket: exactly one of them.")
    story = run(_read(read_config(config_path), _Asked(device_or_name, number, ticket)))
    if as_json:
        print_json(_plain(story))
    else:
        _print(story)


class _Asked(NamedTuple):
    """One of these is given."""

    name: str | None
    number: int | None
    ticket: int | None


class _Sources(NamedTuple):
    bureau: Bureau
    audit: Audit
    tickets: Tickets

    async def numbered(self, number: int) -> _Story | None:
        """The story of a device's number, reserved, alive or removed; None when it has none."""
        registry, actor = self.bureau.desk.registry, self.bureau.actor
        device = await registry.device_numbered(number)
        if device is not None and (known := await registry.device(device.uuid)) is not None:
            return await self.of_device(known)
        ticket = await self._ticket(number)
        events = await self.audit.numbered(actor, number, _MOST_EVENTS)
        if ticket is None and not events:
            return None
        name = next((one.subject for one in reversed(events) if one.subject), "")
        return _Story(name=name, number=number, known=None, ticket=ticket, events=events)

    async def of_device(self, known: KnownCredentials) -> _Story:
        """What happened to it by its number, and in its name before it had one."""
        registry, device = self.bureau.desk.registry, known.device
        profiles = {one.id: one.name for one in await registry.profiles()}
        presence = await registry.presence([device])
        own = await registry.last_events(known, limit=_MOST_EVENTS)
        named = await self.audit.named(self.bureau.actor, device.name, _MOST_EVENTS)
        return _Story(
            name=device.name,
            number=device.id,
            known=known,
            ticket=await self._ticket(device.id),
            profile=profiles.get(device.profile_id, "?"),
            customer=await registry.customer_of(device),
            lineage=await registry.lineage(known),
            presence=presence.get(device.id, Presence()),
            events=_merged(own, named),
        )

    async def named(self, name: str) -> _Story | None:
        """What happened in a name that no device has; None when nothing did."""
        events = await self.audit.named(self.bureau.actor, name, _MOST_EVENTS)
        if not events:
            return None
        number = next((one.device_id for one in reversed(events) if one.device_id), None)
        if number is not None:  # what was told of it before it had its name
            own = await self.audit.numbered(self.bureau.actor, number, _MOST_EVENTS)
            events = _merged(own, events)
        return _Story(name=name, number=number, known=None, ticket=None, events=events)

    async def _ticket(self, number: int) -> TicketRecord | None:
        found = await self.tickets.waiting(self.bureau.actor, limit=1, device_id=number)
        return found[0] if found else None


async def _read(config: Config, asked: _Asked) -> _Story:
    from gateway.cli.bureau import open_bureau
    from gateway.store.audit import SqlAudit
    from gateway.ticketing import open_tickets

    async with open_bureau(config) as bureau:
        store = bureau.desk.store
        sources = _Sources(bureau, Audit(SqlAudit(store)), open_tickets(config, store))
        if asked.ticket is not None:
            return await _of_ticket(sources, asked.ticket)
        if asked.number is not None:
            return await _of_number(sources, asked.number)
        return await _of_name(sources, asked.name or "")


async def _of_ticket(sources: _Sources, ticket: int) -> _Story:
    actor = sources.bureau.actor
    waiting = await sources.tickets.find(actor, ticket)
    number = (
        waiting.ticket.device_id
        if waiting is not None
        else await sources.audit.device_of_ticket(actor, ticket)
    )
    story = None if number is None else await sources.numbered(number)
    if story is not None:
        return story
    raise click.ClickException(
        f"nothing is known of a ticket {ticket}: none waits, and none was issued while events were "
        "kept. `gatehouse ticket list` shows those that wait."
    )


async def _of_number(sources: _Sources, number: int) -> _Story:
    story = await sources.numbered(number)
    if story is not None:
        return story
    raise click.ClickException(
        f"nothing is known of a device {number}: it is not there, no ticket keeps its number, and "
        "nothing happened to it while events were kept."
    )


async def _of_name(sources: _Sources, name: str) -> _Story:
    registry = sources.bureau.desk.registry
    known = await registry.device(name)
    if known is not None:
        return await sources.of_device(known)
    story = await sources.named(name)
    if story is None and name.isascii() and name.isdecimal() and int(name) <= _MOST_NUMBER:
        story = await sources.numbered(int(name))
    if story is not None:
        return story
    raise await _unheard_of(sources.audit, sources.bureau.actor, registry, name)


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
    if story.known is None:
        return [_absent(story)]
    device, presence, name = story.known.device, story.presence, shown(story.name)
    about = f"{name} is a device of profile {shown(story.profile)}, {state(device)}"
    whose = f"; customer {shown(story.customer)} has it" if story.customer else ""
    kind = story.known.credentials.type.value
    lines = [f"{about}{whose}. It logs in with {kind}.", f"It {_here(presence)}."]
    if story.lineage is not None and story.lineage.suspended:
        label = shown(story.lineage.secret)
        lines.append(
            f"It is suspended: the fleet secret {label} that bore it is in quarantine, until "
            "`gatehouse secret release`."
        )
    if story.ticket is not None:
        lines.append(_renewal(story.ticket.ticket))
    return lines


def _absent(story: _Story) -> str:
    """Of what is no device: whether it may become one."""
    if story.ticket is None:
        who = shown(story.name) if story.name else f"device {story.number}"
        if story.name or story.number is None:
            return f"{who} is no device. This is what happened in that name:"
        return f"There is no {who}, and no ticket for it. This is what happened to that number:"
    ticket = story.ticket.ticket
    whose = shown(story.ticket.organisation_name)
    owner = f", owner {shown(story.ticket.owner_email)}" if story.ticket.owner_email else ""
    kept = f"ticket {ticket.id} keeps its number for a device of {whose}{owner}"
    if ticket.expired(now_ms()):
        return f"Device {story.number} never came: {kept}, and expired at {until(ticket)}."
    return (
        f"Device {story.number} is not there yet: {kept}, until {until(ticket)}. The token was "
        f"shown once; if it is lost: `gatehouse ticket revoke {ticket.id}`, and issue another."
    )


def _renewal(ticket: Ticket) -> str:
    if ticket.expired(now_ms()):
        return f"Ticket {ticket.id} had a new token for it, which expired at {until(ticket)}."
    return (
        f"Ticket {ticket.id} has a new token for it, good until {until(ticket)}; its old one works "
        "until the new one is used."
    )


def _here(presence: Presence) -> str:
    if not (presence.active_at or presence.connected_at):
        moment = round(WRITE_EVERY_S * ACTIVITY_EVERY)
        return f"was never heard of with its credentials, as far as was known {moment} s ago"
    wire = presence.wire
    where = f", over {wire_name(wire)} from {presence.address}" if wire else ""
    if presence.online:
        return f"is online since {when(presence.connected_at)}{where}"
    return f"is offline, {seen(presence)}{where}"


def _plain(story: _Story) -> dict[str, Any]:
    device = story.known.device if story.known is not None else None
    presence = story.presence
    return {
        "name": story.name,
        "number": story.number,
        "exists": device is not None,
        "uuid": device.uuid if device is not None else None,
        "profile": story.profile or None,
        "state": state(device) if device is not None else None,
        "customer": story.customer,
        "online": presence.online,
        "active_at": presence.active_at or None,
        "ticket": None if story.ticket is None else plain_ticket(story.ticket),
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
