"""`gatehouse audit`: what happened here, who did it, and whether the record is whole."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from gateway.cli.device_views import plain_event, subject
from gateway.cli.options import (
    config_option,
    json_option,
    print_json,
    read_config,
    run,
    the_device,
)
from gateway.cli.tables import print_table, when
from gateway.cli.times import DURATION, MOMENT
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.audit import FOREVER_MS, Audit, AuditEntry, AuditQuery, Break, Verdict, word_of
from gateway.core.model import Actor, EventKind, Outcome, Peer, Wire
from gateway.toml_lines import plain

if TYPE_CHECKING:
    from gateway.cli.options import Desk

_EVERY_S = 0.5
"""How often `--follow` looks."""
_PAGE = 1000


@click.group(invoke_without_command=True)
@click.option(
    "--last",
    "count",
    type=click.IntRange(1, 10_000),
    default=30,
    show_default=True,
    help="How many, the newest.",
)
@click.option("--for", "span", type=DURATION, metavar="1h", help="Of this last while.")
@click.option("--since", type=MOMENT, metavar="TIME", help="Not before.")
@click.option("--until", type=MOMENT, metavar="TIME", help="Before.")
@click.option("--device", metavar="NAME", help="Of this device (name or UUID).")
@click.option("--actor", metavar="WHO", help="What this person did (e-mail, or login name).")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="Of this kind (device:provision); a part of one (device:) means all of them.",
)
@click.option("--refused", is_flag=True, help="What was refused, alone.")
@click.option(
    "--search",
    "text",
    default="",
    metavar="TEXT",
    help="With this in name, person, kind or reason.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on.")
@config_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    count: int,
    span: int | None,
    since: int | None,
    until: int | None,
    device: str | None,
    actor: str | None,
    kinds: tuple[str, ...],
    refused: bool,
    text: str,
    follow: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Show what happened: who did what, from where, with which outcome. The newest last.

    Nobody can alter what is shown without it being found out: each event carries a digest of the
    one before it, and `gatehouse audit verify` follows them all. With --json and --follow there is
    one JSON document a line.

    \b
    Examples:
      gatehouse audit --follow
      gatehouse audit --refused --for 1h
      gatehouse audit --actor ann@example.com --kind device:
      gatehouse audit verify
    """
    if context.invoked_subcommand is not None:
        return
    query = AuditQuery(
        page_size=count,
        since=max(since or 0, now_ms() - span if span else 0),
        until=FOREVER_MS if until is None else until,
        words=_words(kinds, refused=refused),
        text=text,
        actor=actor or "",
    )
    run(_show(read_config(config_path), query, device, follow=follow, as_json=as_json))


def _words(kinds: Sequence[str], *, refused: bool) -> tuple[str, ...]:
    """What a query takes for these kinds. Raises `BadParameter` for one that there is not."""
    if not kinds and not refused:
        return ()
    wanted: set[EventKind] = set()
    for part in kinds or ("",):
        found = [one for one in EventKind if one.value.startswith(part)]
        if not found:
            there = ", ".join(sorted({one.value.partition(":")[0] for one in EventKind}))
            raise click.BadParameter(
                f"{part!r} is no kind of event. They begin with {there}.", param_hint="--kind"
            )
        wanted.update(found)
    outcomes = (Outcome.REFUSED,) if refused else tuple(Outcome)
    return tuple(
        word_of(kind, outcome, customer=customer)
        for kind in EventKind
        if kind in wanted
        for outcome in outcomes
        for customer in ((False, True) if kind is EventKind.DEVICE_ASSIGN else (False,))
    )


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[tuple[Audit, Actor, Desk]]:
    from gateway.cli.bureau import open_bureau
    from gateway.store.audit import SqlAudit

    async with open_bureau(config) as bureau:
        yield Audit(SqlAudit(bureau.desk.store)), bureau.actor, bureau.desk


async def _show(
    config: Config, query: AuditQuery, device: str | None, *, follow: bool, as_json: bool
) -> None:
    async with _opened(config) as (audit, actor, desk):
        if device is not None:
            known = await the_device(desk.registry, device)
            query = structs.replace(query, device=known.device.uuid)
        newest = await desk.registry.last_events(limit=1)
        seq = newest[0].seq if newest else 0
        entries = [*reversed((await audit.page(actor, query)).data)]
        if not follow:
            _print(entries, as_json=as_json)
            return
        _print_lines([one for one in entries if one.event.seq <= seq], as_json=as_json)
        await _follow(audit, actor, query, seq, as_json=as_json)


async def _follow(
    audit: Audit, actor: Actor, query: AuditQuery, seq: int, *, as_json: bool
) -> None:
    query = structs.replace(query, page_size=_PAGE, descending=False)
    while True:
        page = await audit.page(actor, structs.replace(query, after_seq=seq))
        _print_lines(page.data, as_json=as_json)
        if page.data:
            seq = page.data[-1].event.seq
        if not page.has_next:
            await asyncio.sleep(_EVERY_S)


def _print(entries: Sequence[AuditEntry], *, as_json: bool) -> None:
    if as_json:
        print_json([_plain(one) for one in entries])
    elif entries:
        print_table(("number", "at", "what", "outcome", "about", "who", "from"), map(_row, entries))
    else:
        click.echo("nothing of that kind happened, as far back as events are kept", err=True)


def _print_lines(entries: Sequence[AuditEntry], *, as_json: bool) -> None:
    for one in entries:
        line = json.dumps(_plain(one), ensure_ascii=False) if as_json else "  ".join(_row(one)[1:])
        click.echo(line if as_json else plain(line, 2000))
    sys.stdout.flush()


def _row(entry: AuditEntry) -> tuple[str, ...]:
    event = entry.event
    outcome = event.outcome.value + (f" ({event.reason})" if event.reason else "")
    where = f"{event.peer.wire} {event.peer.address}"
    about = subject(event)
    return str(event.seq), when(event.at), event.kind.value, outcome, about, _who(event.peer), where


def _who(peer: Peer) -> str:
    """Who did it. A shell has a login name alone, which older events hold as its address."""
    if peer.wire is Wire.SHELL:
        return f"{peer.actor or peer.address} (shell)"
    return peer.actor or "-"


def _plain(entry: AuditEntry) -> dict[str, Any]:
    event = entry.event
    return plain_event(event) | {
        "actor": event.peer.actor or None,
        "request": event.peer.request or None,
        "object": event.object or None,
        "device_uuid": entry.device_uuid or None,
        "customer_uuid": entry.customer_uuid or None,
        "user_uuid": entry.user_uuid or None,
    }


# ── verify ────────────────────────────────────────────────────────────────────────────────────


@command.command()
@config_option
@json_option
def verify(config_path: Path | None, as_json: bool) -> None:
    """Follow the chain of all events, and find the first broken link.

    Each event carries the SHA-256 of the one before it; the newest is sealed with the master key.
    An event that was changed, removed, inserted or put elsewhere is found, and so is a tail that
    was cut off. Ends with status 1 when a link is broken. A gateway may run meanwhile.

    The digest that is printed at the end is that of the newest event: noted in another place, it
    proves later that this record is still the same.
    """
    verdict = run(_verify(read_config(config_path)))
    if as_json:
        print_json(_plain_verdict(verdict))
    else:
        click.echo(told(verdict))
    if verdict.broken is not None:
        raise SystemExit(1)


async def _verify(config: Config) -> Verdict:
    async with _opened(config) as (audit, _, _desk):
        with _progress() as progress:
            return await audit.verify(progress)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar, where somebody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress("verifying", *columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verifying", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


_SENTENCES = {
    Break.CHANGED: "event {seq} was changed after it was written",
    Break.REMOVED: "{events} removed: the chain goes on behind a gap",
    Break.INSERTED: "event {seq} was inserted by somebody who does not write the chain",
    Break.REORDERED: "event {seq} stands where another stood: events were put in another order",
    Break.CUT: "the newest of the chain are gone: {events} cut off",
    Break.HEAD: "the seal on the chain's end (event {seq}) is not ours: it was removed, or moved "
    "by somebody without the master key or set back to an older state, events that were altered "
    "have been forgotten since, or this is another master key",
}
_NEXT = (
    "Keep the database as it is, compare it with a backup, and find out who could write to it: "
    "Gatehouse itself never changes an event."
)


def told(verdict: Verdict) -> str:
    """The verdict in a sentence or two."""
    broken = verdict.broken
    if broken is not None:
        last = broken.to_seq or broken.seq
        events = (
            f"event {broken.seq} was"
            if last == broken.seq
            else f"events {broken.seq} to {last} were"
        )
        what = _SENTENCES[broken.how].format(seq=broken.seq, events=events)
        return f"The chain is broken: {what}.{_whole(verdict.events)} {_NEXT}"
    older = f" {verdict.older:,} are older than the chain." if verdict.older else ""
    if not verdict.events:
        return f"There is no event in the chain yet.{older}"
    return (
        f"The chain holds: {verdict.events:,} events up to number {verdict.newest}.{older}\n"
        f"newest digest  {verdict.digest}"
    )


def _whole(events: int) -> str:
    if events <= 1:
        return " (The one before it holds.)" if events else ""
    return f" (The {events:,} events before it hold together.)"


def _plain_verdict(verdict: Verdict) -> dict[str, Any]:
    broken = verdict.broken
    return {
        "holds": broken is None,
        "events": verdict.events,
        "older": verdict.older,
        "newest": verdict.newest,
        "digest": verdict.digest or None,
        "broken": broken
        and {"how": broken.how.value, "from": broken.seq, "to": broken.to_seq or broken.seq},
        "told": told(verdict),
    }
