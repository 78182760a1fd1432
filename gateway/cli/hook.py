"""`gatehouse hook`: what profiles' hooks were not told, and trying whether they answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from gateway.cli.options import (
    config_option,
    confirm,
    json_option,
    open_desk,
    print_json,
    read_config,
    run,
    shell_peer,
    shown,
    the_profile,
    yes_option,
)
from gateway.cli.times import MOMENT
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.after_hooks import MOST_KEPT
from gateway.core.model import (
    DeadDelivery,
    DeviceProfile,
    Event,
    EventKind,
    HookBacklog,
)
from gateway.core.registry import Registry
from gateway.store.sql_hooks import SqlHooks

_NONE = "no profile has a hook; [hooks.before] and [hooks.after] of a profile file name one"


@click.group()
def command() -> None:
    """Show and mend what profiles' hooks were told.

    A profile's before-hook decides about each birth; its after-hook is told of events, in order for
    each device. What an after-hook does not take is tried again for a while, and then given up: it
    waits here until somebody replays or drops it. Commands act on the store; a running gateway
    sends what they replay within a second.

    \b
    Examples:
      gatehouse hook list
      gatehouse hook test meters
      gatehouse hook dead meters
      gatehouse hook replay meters
    """


class _Bench(NamedTuple):
    registry: Registry
    hooks: SqlHooks


@asynccontextmanager
async def _open(config: Config) -> AsyncIterator[_Bench]:
    async with open_desk(config) as desk:
        yield _Bench(desk.registry, SqlHooks(desk.store))


async def _after(bench: _Bench, name: str | None) -> list[DeviceProfile]:
    """The profile of that name, or all, that have an after-hook; there is one at least."""
    if name is not None:
        profile = await the_profile(bench.registry, name)
        if profile.policy.after is None:
            raise click.ClickException(
                f"{shown(name)} has no after-hook. [hooks.after] in its file names one."
            )
        return [profile]
    found = [one for one in await bench.registry.profiles() if one.policy.after is not None]
    if not found:
        raise click.ClickException("no profile has an after-hook.")
    return found


# ── looking ───────────────────────────────────────────────────────────────────────────────────


class _Line(NamedTuple):
    profile: DeviceProfile
    backlog: HookBacklog
    last_reason: str


@command.command("list")
@config_option
@json_option
def list_hooks(config_path: Path | None, as_json: bool) -> None:
    """List profiles with hooks, and how much each was not told.

    Of an address only the server is shown: what follows may hold a secret.
    """
    from gateway.cli.hook_views import COLUMNS, plain_line, row

    lines = run(_list(read_config(config_path)))
    told = [(one.profile, one.backlog, one.last_reason) for one in lines]
    if as_json:
        print_json([plain_line(*one) for one in told])
    elif not lines:
        click.echo(_NONE, err=True)
    else:
        from gateway.cli.tables import print_table

        print_table(COLUMNS, [row(*one) for one in told])


async def _list(config: Config) -> list[_Line]:
    async with _open(config) as bench:
        backlog = await bench.hooks.backlog()
        return [
            _Line(one, backlog.get(one.id, HookBacklog()), await bench.hooks.last_reason(one.id))
            for one in await bench.registry.profiles()
            if one.policy.before is not None or one.policy.after is not None
        ]


@command.command()
@click.argument("profile", required=False)
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True)
@config_option
@json_option
def dead(profile: str | None, limit: int, config_path: Path | None, as_json: bool) -> None:
    """List what was given up: events that an after-hook did not take.

    \b
    Examples:
      gatehouse hook dead
      gatehouse hook dead meters --json | jq '.[].event.deviceName'
    """
    from gateway.cli.hook_views import DEAD_COLUMNS, dead_row, plain_dead

    names, found = run(_dead(read_config(config_path), profile, limit + 1))
    if as_json:
        print_json([plain_dead(one, names[one.profile_id]) for one in found[:limit]])
    elif not found:
        click.echo("nothing was given up", err=True)
    else:
        from gateway.cli.tables import print_table

        print_table(DEAD_COLUMNS, [dead_row(one, names[one.profile_id]) for one in found[:limit]])
    if len(found) > limit:
        click.echo(f"these are the first {limit}; use a profile's name or --limit", err=True)


async def _dead(
    config: Config, profile: str | None, limit: int
) -> tuple[dict[int, str], list[DeadDelivery]]:
    async with _open(config) as bench:
        profiles = await _after(bench, profile)
        names = {one.id: one.name for one in profiles}
        return names, await bench.hooks.dead(list(names), limit)


# ── mending ───────────────────────────────────────────────────────────────────────────────────


@command.command()
@click.argument("profile", required=False)
@click.option("--seq", type=click.IntRange(1), help="This event alone, also if it was told.")
@click.option("--since", type=MOMENT, metavar="TIME", help="All since then, also what was told.")
@config_option
@json_option
def replay(
    profile: str | None,
    seq: int | None,
    since: int | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Tell an after-hook again what was given up; with --seq or --since also what it was told.

    The gateway sends it. A hook that was told before sees it by the X-Gatehouse-Delivery header,
    which is the same for the same event.

    \b
    Examples:
      gatehouse hook replay
      gatehouse hook replay meters --since 2026-11-21T10:00:00Z
      gatehouse hook replay meters --seq 4711
    """
    if seq is not None and since is not None:
        raise click.UsageError("use --seq or --since, not both.")
    done = run(_replay(read_config(config_path), profile, seq, since))
    if as_json:
        print_json({"replayed": done})
    elif seq is not None and not done:
        raise click.ClickException(
            f"event {seq} is none that the hook wants, or is forgotten. `gatehouse audit` shows "
            "events with their numbers."
        )
    else:
        click.echo(f"{done} to be told again")
        if since is not None and done >= MOST_KEPT:
            click.echo("there are more: repeat it with a later --since once these are told")


async def _replay(config: Config, name: str | None, seq: int | None, since: int | None) -> int:
    from gateway.cli.bar import advancing

    async with _open(config) as bench:
        profiles, done, now = await _after(bench, name), 0, now_ms()
        for one in profiles:
            if seq is not None:
                done += await bench.hooks.replay_one(one.id, seq, now)
            elif since is not None:
                with advancing("reading events", None) as advance:
                    done += await bench.hooks.replay_since(one.id, since, now, MOST_KEPT, advance)
            else:
                done += await bench.hooks.replay_dead(one.id, now)
        await bench.hooks.record(_event(EventKind.HOOK_REPLAY, profiles, name, done))
        return done


def _event(
    kind: EventKind, profiles: Sequence[DeviceProfile], name: str | None, count: int
) -> Event:
    return Event(
        kind=kind,
        at=now_ms(),
        peer=shell_peer(),
        subject="" if name is None else profiles[0].name,
        object="" if name is None else profiles[0].uuid,
        detail={"events": str(count)},
    )


@command.command()
@click.argument("profile", required=False)
@click.option("--waiting", is_flag=True, help="Also what is still to be told.")
@yes_option
@config_option
@json_option
def drop(
    profile: str | None, waiting: bool, yes: bool, config_path: Path | None, as_json: bool
) -> None:
    """Forget what was given up: the after-hook is not told of it any more.

    The events themselves stay in the log; `gatehouse hook replay --since` can tell them again.
    """
    done = run(_drop(read_config(config_path), profile, waiting=waiting, yes=yes))
    if as_json:
        print_json({"dropped": done})
    else:
        click.echo(f"{done} dropped")


async def _drop(config: Config, name: str | None, *, waiting: bool, yes: bool) -> int:
    async with _open(config) as bench:
        profiles = await _after(bench, name)
        backlog = await bench.hooks.backlog()
        there = [backlog.get(one.id, HookBacklog()) for one in profiles]
        many = sum(one.dead + (one.waiting if waiting else 0) for one in there)
        if many:
            confirm(f"Drop {many} events that hooks were not told?", yes=yes)
        done = 0
        for one in profiles:
            for state in ("dead", "waiting") if waiting else ("dead",):
                done += await bench.hooks.drop(one.id, state, MOST_KEPT * 10)
        await bench.hooks.record(_event(EventKind.HOOK_DROP, profiles, name, done))
        return done


# ── trying ────────────────────────────────────────────────────────────────────────────────────


@command.command()
@click.argument("profile")
@click.option("--name", default="hook-test", show_default=True, help="Of the device asked about.")
@config_option
@json_option
def test(profile: str, name: str, config_path: Path | None, as_json: bool) -> None:
    """Call a profile's hooks with an event on trial, and print what they answer.

    The before-hook is asked about a device that is not there (`"trial": true`), the after-hook told
    of the event `hook:test`, number 0. Secrets are read from this shell's environment, as the
    gateway reads them from its own. Ends with status 1 when a hook did not answer.

    \b
    Examples:
      BIRTH_HOOK_SECRET=… gatehouse hook test meters
      gatehouse hook test meters --name WM-0001 --json
    """
    found = run(_test(read_config(config_path), profile, name))
    if as_json:
        print_json(found)
    else:
        for one in found:
            took = f" ({one['took_ms']} ms)" if one["took_ms"] is not None else ""
            click.echo(f"{one['hook']:<7} {one['told']}{took}")
    if not all(one["answered"] for one in found):
        raise SystemExit(1)


async def _test(config: Config, profile_name: str, device_name: str) -> list[dict[str, Any]]:
    from gateway.cli.hook_trial import try_hooks

    async with _open(config) as bench:
        profile = await the_profile(bench.registry, profile_name)
    policy = profile.policy
    if policy.before is None and policy.after is None:
        raise click.ClickException(
            f"{shown(profile_name)} has no hook. [hooks.before] or [hooks.after] in its file "
            "names one."
        )
    return await try_hooks(profile, device_name)
