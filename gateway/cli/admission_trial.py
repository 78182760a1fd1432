"""`admission test`: every rule of a profile, held against a device that need not exist."""

from __future__ import annotations

from collections.abc import Iterator

import click
from msgspec import Struct, structs

from gateway.cli.bureau import open_bureau
from gateway.cli.options import has_profile_files, print_json, the_profile
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.admission_entries import EntryKind, Marks, entry_of
from gateway.core.admitting import Listed, rules_of, why_not_now
from gateway.core.advice import wrong_with
from gateway.core.model import Admission, DeviceProfile, RefusalReason


class Newcomer(Struct, frozen=True, kw_only=True):
    """A device that might come. `address` None: networks are not asked; `at` None: now."""

    name: str | None
    serial: str | None
    mac: str | None
    address: str | None
    at: int | None


class Finding(Struct, frozen=True):
    """What one rule says. `refused`: why the device would not get in; None: it passes."""

    rule: str
    refused: RefusalReason | None
    said: str


async def judged(config: Config, name: str, newcomer: Newcomer) -> list[Finding]:
    """What each rule of the profile says, in the order in which they are asked."""
    from gateway.store.sql_admission import SqlAdmission

    marks = _marks(newcomer)
    async with open_bureau(config, make=has_profile_files(config)) as bureau:
        profile = await the_profile(bureau.desk.registry, name)
        lists = SqlAdmission(bureau.desk.store)
        listed = await lists.look_up(profile.id, marks, denying=True)
        devices = (await bureau.desk.registry.devices_per_profile()).get(profile.id, 0)
    return [*_rules(profile, newcomer, marks), *_lists(profile, listed), *_room(profile, devices)]


def _marks(newcomer: Newcomer) -> Marks:
    found: dict[str, str] = {}
    for kind in EntryKind:
        text = getattr(newcomer, kind.value)
        if text is None:
            continue
        try:
            found[kind.value] = entry_of(kind, text).value
        except ValueError as exc:
            raise click.UsageError(f"--{kind.value}: {exc}.") from None
    return Marks(**found)


def _rules(profile: DeviceProfile, newcomer: Newcomer, marks: Marks) -> Iterator[Finding]:
    """Each setting by itself, so that all that is wrong is told at once."""
    admission, plain = profile.policy.admission, Admission()
    now = now_ms() if newcomer.at is None else newcomer.at
    for names in (("opens_at", "closes_at"), ("hours",), ("networks",), ("deny",), ("allow",)):
        values = {name: getattr(admission, name) for name in names}
        if all(value == getattr(plain, name) for name, value in values.items()):
            continue
        rule = " and ".join(names)
        if rule == "networks" and newcomer.address is None:
            yield Finding(rule, None, "not asked; give --address")
            continue
        alone = rules_of(structs.replace(plain, **values))
        reason = why_not_now(alone, newcomer.address or "", marks.name, now)
        yield Finding(rule, reason, _said(reason))


def _lists(profile: DeviceProfile, listed: Listed) -> Iterator[Finding]:
    denied = RefusalReason.ON_DENY_LIST if listed.denied else None
    yield Finding("deny-list", denied, _said(denied))
    if profile.policy.admission.allow_list:
        missing = None if listed.allowed else RefusalReason.NOT_ON_ALLOW_LIST
        yield Finding("allow-list", missing, _said(missing))


def _room(profile: DeviceProfile, devices: int) -> Iterator[Finding]:
    admission = profile.policy.admission
    if admission.max_devices is not None:
        full = RefusalReason.PROFILE_FULL if devices >= admission.max_devices else None
        said = f"{devices:,} of {admission.max_devices:,} devices are there"
        yield Finding("max_devices", full, said)
    if admission.approval:
        yield Finding("approval", None, "it waits until an operator says yes")


def _said(reason: RefusalReason | None) -> str:
    return "" if reason is None else wrong_with(reason.value)


def print_findings(findings: list[Finding], *, as_json: bool) -> None:
    """What each rule says, and how it ends."""
    refused = next((one.refused for one in findings if one.refused), None)
    if as_json:
        rules = [
            {
                "rule": one.rule,
                "passes": one.refused is None,
                "reason": one.refused.value if one.refused else None,
                "said": one.said,
            }
            for one in findings
        ]
        print_json({"admitted": refused is None, "reason": refused, "rules": rules})
        return
    width = max(len(one.rule) for one in findings)
    for one in findings:
        mark = "✗" if one.refused else "✓"
        click.echo(f"{mark} {one.rule:<{width}}  {one.said}".rstrip())
    click.echo("it may come" if refused is None else f"it would be refused: {refused.value}")
