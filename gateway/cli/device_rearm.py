"""`gatehouse device rearm`: a device may be provisioned once more."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

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
from gateway.config import Config
from gateway.core.labelling import new_claim_code
from gateway.core.model import DeviceProfile, Reprovisioning, Revoked, Secret
from gateway.core.ports import KnownCredentials
from gateway.core.registry import Registry

_HOUR_MS: Final = 3_600_000
_MOST_HOURS: Final = 30 * 24


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--code", "with_code", is_flag=True, help="Make a claim code that it has to show.")
@click.option(
    "--hours",
    default=24.0,
    show_default=True,
    type=click.FloatRange(0, _MOST_HOURS, min_open=True),
    help="How long it may ask for other credentials, where its profile lets it.",
)
@config_option
@json_option
def rearm(
    names: tuple[str, ...],
    with_code: bool,
    hours: float,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Let devices be provisioned once more.

    For a device that lost its credentials. What it gets says its profile: with `reprovisioning`
    other credentials, within --hours, and its old ones end when it first uses the new. Whoever
    knows the fleet's secret and the device's name may ask for them then; with --code only who shows
    the code, as `claimCode`. It is printed once.

    Otherwise it gets the same credentials again, once. Its profile must let existing devices be
    claimed then: CHECK_PRE_PROVISIONED_DEVICES, or pre_provision_allowed.

    \b
    Examples:
      gatehouse device rearm meter-7
      gatehouse device rearm meter-7 --code --hours 2
      gatehouse device rearm meter-7 meter-8 --json
    """
    armed = run(_rearm(read_config(config_path), names, with_code=with_code, hours=hours))
    if as_json:
        print_json([one.plain() for one in armed])
        return
    for one in armed:
        if one.warning:
            click.echo(f"warning: {one.warning}", err=True)
    for one in armed:
        if one.code is not None:
            click.echo(f"the claim code of {shown(one.name)}, shown this once:", err=True)
            click.echo(one.code.reveal())
    click.echo(_summary(armed, hours), err=with_code)


class _Armed(NamedTuple):
    """`anew`: it gets other credentials; else it may be claimed, unless there is a `warning`."""

    name: str
    anew: bool
    code: Secret | None
    done: bool
    warning: str

    def plain(self) -> dict[str, Any]:
        code = {} if self.code is None else {"claim_code": self.code.reveal()}
        told = {"warning": self.warning} if self.warning else {}
        gets = "other credentials" if self.anew else "the same credentials"
        return {"device": self.name, "rearmed": self.done, "gets": gets} | code | told


async def _rearm(
    config: Config, names: Sequence[str], *, with_code: bool, hours: float
) -> list[_Armed]:
    async with open_for_people(config) as registry:
        found = {one.device.id: one for one in [await the_device(registry, n) for n in names]}
        profiles = {one.id: one for one in await registry.profiles()}
        if with_code:
            _prove_codes_help(found.values(), profiles)
        lasts_ms = int(hours * _HOUR_MS)
        return list(
            await asyncio.gather(
                *(
                    _one(registry, known, profiles, lasts_ms, with_code=with_code)
                    for known in found.values()
                )
            )
        )


def _asks_anew(known: KnownCredentials, profiles: Mapping[int, DeviceProfile]) -> bool:
    """Whether it was provisioned, in a profile that lets it ask for other credentials."""
    profile = profiles.get(known.device.profile_id)
    never = profile is None or profile.policy.reprovisioning is Reprovisioning.NEVER
    return known.device.provision_state is not None and not never


def _prove_codes_help(
    found: Collection[KnownCredentials], profiles: Mapping[int, DeviceProfile]
) -> None:
    """A usage error, before anything is done, where a code would have no meaning."""
    for known in found:
        if not _asks_anew(known, profiles):
            name = shown(known.device.name)
            raise click.UsageError(
                f"{name} gets no other credentials, so a claim code is of no use to it: it waits "
                'for its claim, or its profile does not say `reprovisioning = "…"`. Leave --code '
                "out, or set that in the profile."
            )


async def _one(
    registry: Registry,
    known: KnownCredentials,
    profiles: Mapping[int, DeviceProfile],
    lasts_ms: int,
    *,
    with_code: bool,
) -> _Armed:
    name = known.device.name
    if _asks_anew(known, profiles):
        code = new_claim_code() if with_code else None
        if await registry.arm_device(known, lasts_ms, code):
            return _Armed(name, True, code, True, "")
    done = await registry.rearm_device(known)
    return _Armed(name, False, None, done, _bars(known, profiles))


def _bars(known: KnownCredentials, profiles: Mapping[int, DeviceProfile]) -> str:
    """Why the next claim of this device is refused; "" when it is not."""
    name, profile = shown(known.device.name), profiles.get(known.device.profile_id)
    if profile is not None and not profile.claims_existing:
        return (
            f"{name} cannot be claimed: its profile does not let existing "
            "devices be. Set pre_provision_allowed = true in the profile, or remove the device to "
            "free its name."
        )
    if isinstance(known.credentials, Revoked):
        return (
            f"the credentials of {name} are revoked, so there are none to "
            "give it. `gatehouse credential rotate` makes new ones."
        )
    return ""


def _summary(armed: Sequence[_Armed], hours: float) -> str:
    done = sum(one.done for one in armed)
    anew = sum(one.anew for one in armed)
    barred = sum(bool(one.warning) for one in armed)
    claims = done - anew - barred
    told = f"re-armed {_count(done)}"
    if anew == done:
        return f"{told}; each may ask for other credentials once, within {hours:g} h"
    if barred:
        rest = f"; the other {claims} may be claimed once" if claims > 0 else ""
        told += f", of which {barred} cannot be claimed as things are{rest}"
    else:
        told += "; each may be claimed once" if not anew else f"; {claims} may be claimed once"
    return told + (f"; {anew} may ask for other credentials, within {hours:g} h" if anew else "")


def _count(number: int) -> str:
    return "1 device" if number == 1 else f"{number} devices"
