"""`gatehouse hook`: what profiles' hooks were not told, and trying whether they answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.bureau import Bureau, open_bureau
from gateway.cli.options import (
    config_option,
    confirm,
    json_option,
    print_json,
    read_config,
    run,
    shown,
    the_profile,
    yes_option,
)
from gateway.cli.times import MOMENT
from gateway.config import Config
from gateway.core.after_hooks import MOST_KEPT
from gateway.core.hook_queues import Hooked
from gateway.core.model import DeadDelivery, DeviceProfile

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


async def _after(bureau: Bureau, name: str | None) -> list[DeviceProfile]:
    """The profile of that name, or all, that have an after-hook; there is one at least."""
    if name is not None:
        profile = await the_profile(bureau.desk.registry, name)
        if profile.policy.after is None:
            raise click.ClickException(
                f"{shown(name)} has no after-hook. [hooks.after] in its file names one."
            )
        return [profile]
    profiles = (one.profile for one in await bureau.hooks.listed(bureau.actor))
    found = [one for one in profiles if one.policy.after is not None]
    if not found:
        raise click.ClickException("no profile has an after-hook.")
    return found


# ── looking ───────────────────────────────────────────────────────────────────────────────────


@command.command("list")
@config_option
@json_option
def list_hooks(config_path: Path | None, as_json: bool) -> None:
    """List profiles with hooks, and how much each was not told.

    Of an address only the server is shown: what follows may hold a secret.
    """
    from gateway.cli.hook_views import COLUMNS, plain_line, row

    lines = run(_list(read_config(config_path)))
    if as_json:
        print_json([plain_line(one) for one in lines])
    elif not lines:
        click.echo(_NONE, err=True)
    else:
        from gateway.cli.tables import print_table

        print_table(COLUMNS, [row(one) for one in lines])


async def _list(config: Config) -> list[Hooked]:
    async with open_bureau(config) as bureau:
        return await bureau.hooks.listed(bureau.actor)


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
    async with open_bureau(config) as bureau:
        profiles = await _after(bureau, profile)
        names = {one.id: one.name for one in profiles}
        return names, await bureau.hooks.dead(bureau.actor, profiles, limit)


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

    async with open_bureau(config) as bureau:
        profiles, done, hooks = await _after(bureau, name), 0, bureau.hooks
        for one in profiles:
            if seq is not None:
                done += await hooks.replay_one(bureau.actor, one, seq)
            elif since is not None:
                with advancing("reading events", None) as advance:
                    done += await hooks.replay_since(bureau.actor, one, since, advance)
            else:
                done += await hooks.replay(bureau.actor, one)
        return done


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
    async with open_bureau(config) as bureau:
        profiles = {one.id: one for one in await _after(bureau, name)}
        there = [
            one.backlog
            for one in await bureau.hooks.listed(bureau.actor)
            if one.profile.id in profiles
        ]
        many = sum(one.dead + (one.waiting if waiting else 0) for one in there)
        if many:
            confirm(f"Drop {many} events that hooks were not told?", yes=yes)
        done = 0
        for profile in profiles.values():
            done += await bureau.hooks.drop(bureau.actor, profile, waiting=waiting)
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

    async with open_bureau(config) as bureau:
        profile = await the_profile(bureau.desk.registry, profile_name)
    policy = profile.policy
    if policy.before is None and policy.after is None:
        raise click.ClickException(
            f"{shown(profile_name)} has no hook. [hooks.before] or [hooks.after] in its file "
            "names one."
        )
    return await try_hooks(profile, device_name)
