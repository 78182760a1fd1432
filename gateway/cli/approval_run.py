"""Finding and deciding devices that wait for an operator's word."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from functools import wraps
from typing import Any, Final, NamedTuple, TypeAlias

import click
from msgspec import Struct, structs

from gateway.cli.bar import advancing
from gateway.cli.bureau import Bureau, open_bureau
from gateway.cli.options import confirm, meant, shown, the_profile
from gateway.cli.tables import when
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.approvals import ApprovalQuery, Approvals
from gateway.core.model import Actor, Approval, ApprovalKind, ApprovalState

COLUMNS: Final = ("number", "device", "profile", "wants", "state", "tries", "last asked", "from")
_WANTS: Final = {ApprovalKind.BIRTH: "to come in", ApprovalKind.REPROVISIONING: "to come again"}
_MOST_PATTERN: Final = 255
_PAGE: Final = 1000
_PER_STEP: Final = 500
"""Decided in one transaction, some milliseconds, between which devices are served."""

Decide: TypeAlias = Callable[[Approvals, Actor, Sequence[int]], Awaitable[list[Approval]]]


class Queue(NamedTuple):
    """What such a command works with."""

    bureau: Bureau
    approvals: Approvals

    async def all(self, query: ApprovalQuery) -> list[Approval]:
        """All of a query, whatever its page."""
        found: list[Approval] = []
        while True:
            after = found[-1].id if found else query.after_id
            wanted = structs.replace(query, after_id=after, page=0, page_size=_PAGE)
            page = await self.approvals.page(self.bureau.actor, wanted)
            found += page.data
            if not page.has_next:
                return found


@asynccontextmanager
async def open_queue(config: Config) -> AsyncIterator[Queue]:
    """As `open_desk`."""
    from gateway.store.sql_approvals import SqlApprovals

    async with open_bureau(config) as bureau:
        yield Queue(bureau, Approvals(SqlApprovals(bureau.desk.store), clock=now_ms))


class Choice(Struct, frozen=True, kw_only=True):
    """Whom a command line means: some by name or number, or all that wait, of a profile."""

    names: tuple[str, ...]
    everybody: bool = False
    profile: str | None = None
    match: str | None = None

    def check(self) -> None:
        """Raises `click.UsageError`."""
        if self.everybody == bool(self.names):
            raise click.UsageError(
                "name devices, or all of a profile with --all --profile PROFILE; "
                "`gatehouse pending` shows who waits."
            )
        if (self.profile or self.match) and not self.everybody:
            raise click.UsageError("--profile and --match go with --all.")
        if self.everybody and not self.profile:
            raise click.UsageError("say with --profile whose devices --all means.")
        if self.match is not None and len(self.match) > _MOST_PATTERN:
            raise click.UsageError(f"--match takes at most {_MOST_PATTERN} characters.")

    async def find(self, queue: Queue, *, waiting: bool = False) -> list[Approval]:
        """Those that are meant. `waiting`: of all, those alone about whom nobody decided."""
        if not self.everybody:
            return [await _the_approval(queue, name) for name in dict.fromkeys(self.names)]
        profile = await the_profile(queue.bureau.desk.registry, self.profile or "")
        state = ApprovalState.WAITING if waiting else None
        found = await queue.all(ApprovalQuery(state=state, profile_id=profile.id))
        return [one for one in found if fnmatchcase(one.name, self.match or "*")]


def choice_options(command: Callable[..., None]) -> Callable[..., None]:
    """The argument and options of a `Choice`, which the command gets as `choice`."""

    @click.argument("devices", nargs=-1, metavar="[DEVICE…]")
    @click.option("--all", "everybody", is_flag=True, help="All that wait, of one profile.")
    @click.option("--profile", metavar="PROFILE", help="Whose devices --all means.")
    @click.option("--match", metavar="PATTERN", help="With --all: names like this (`*`, `?`).")
    @wraps(command)
    def chosen(
        devices: tuple[str, ...],
        everybody: bool,
        profile: str | None,
        match: str | None,
        **others: Any,
    ) -> None:
        choice = Choice(names=devices, everybody=everybody, profile=profile, match=match)
        command(choice=choice, **others)

    return chosen


async def _the_approval(queue: Queue, name: str) -> Approval:
    """The one of that name, or else number; a `ClickException` without it, or with several."""
    found = await queue.all(ApprovalQuery(names=(name,)))
    if len(found) > 1:
        # One may want to come in, in another organisation; or be decided already.
        found = [one for one in found if one.state is ApprovalState.WAITING] or found
    if not found and name.isdecimal() and len(name) < 19:
        numbered = await queue.approvals.find(queue.bureau.actor, int(name))
        found = [] if numbered is None else [numbered]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = ", ".join(str(one.id) for one in found)
        raise click.ClickException(
            f"several devices {shown(name)} asked. Name the one you mean by its number: {numbers}."
        )
    first = await queue.approvals.page(queue.bureau.actor, ApprovalQuery(page_size=_PAGE))
    see = "`gatehouse pending` shows who does."
    near = meant(name, [one.name for one in first.data])
    raise click.ClickException(f"no device {shown(name)} waits for an operator. {near or see}")


async def decide(
    config: Config, choice: Choice, verb: str, by: Decide, *, yes: bool, waiting: bool
) -> list[Approval]:
    """Decide about all that are meant; what changed. Asks before many."""
    choice.check()
    async with open_queue(config) as queue:
        found = await choice.find(queue, waiting=waiting)
        if choice.everybody and found:
            many = f"{len(found)} devices" if len(found) > 1 else shown(found[0].name)
            confirm(f"{verb.capitalize()} {many}?", yes=yes)
        changed: list[Approval] = []
        with advancing(verb, len(found)) as advance:
            for first in range(0, len(found), _PER_STEP):
                numbers = [one.id for one in found[first : first + _PER_STEP]]
                changed += await by(queue.approvals, queue.bureau.actor, numbers)
                advance(len(numbers))
        return changed


# ── how they are shown ────────────────────────────────────────────────────────────────────────


def row(approval: Approval) -> tuple[str, ...]:
    """A line of `COLUMNS`."""
    return (
        str(approval.id),
        approval.name,
        approval.profile_name,
        _WANTS[approval.kind],
        approval.state.value,
        str(approval.tries),
        when(approval.last_at),
        f"{approval.wire.value} {approval.address}",
    )


def plain_approval(approval: Approval) -> dict[str, Any]:
    """For JSON."""
    from json import loads

    return {
        "number": approval.id,
        "device": approval.name,
        "profile": approval.profile_name,
        "organisation": approval.organisation_name,
        "kind": approval.kind.value,
        "state": approval.state.value,
        "bound": approval.bound,
        "wire": approval.wire.value,
        "address": approval.address,
        "hardware": loads(approval.hardware.text) if approval.hardware else None,
        "asked_at": approval.asked_at,
        "last_at": approval.last_at,
        "tries": approval.tries,
        "decided_by": approval.decided_by or None,
        "decided_at": approval.decided_at,
    }


def told(changed: Sequence[Approval], what: str) -> None:
    """One line for each of a few, one for many."""
    if len(changed) > 20:
        click.echo(f"{what} {len(changed)} devices")
        return
    for one in changed:
        click.echo(f"{what} {shown(one.name)} (number {one.id}, profile {shown(one.profile_name)})")
