"""What a newborn begins with: its profile's settings with the device's own words filled in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from gateway.core.model import (
    HARDWARE_INFO,
    PLAIN_POLICY,
    Amendment,
    AttributeScope,
    BirthSettings,
    DeviceProfile,
    Json,
    PackageKind,
    ProvisionRequest,
    Value,
)
from gateway.core.names import is_device_name, printable
from gateway.core.terms import Gifts

MOST_BLANKS: Final = 16
"""Places in one text that are filled in: with those of 255 characters each it stays bounded."""
_MOST_PLANS = 4096
_BLANK = re.compile(r"\{(?:(\{)|(name|serial|mac|hardware(?:\.[A-Za-z0-9_-]{1,64}){1,8})\})|(\}\})")
_ANY_BRACE = re.compile(r"[{}]")
_NOT_ONE = (
    "{ begins {name}, {serial}, {mac} or {hardware.KEY}, and ends with }; "
    "write {{ and }} for the signs themselves"
)

_Words: TypeAlias = Callable[[str], str]
"""What stands in the place of `name`, `serial`, `hardware.KEY`: "" for what is not known."""


class Template(Struct, frozen=True):
    """A text, cut at its blanks: literal text and names of what is filled in, by turns."""

    parts: tuple[str, ...]

    def fill(self, words: _Words) -> str:
        return "".join(words(part) if place % 2 else part for place, part in enumerate(self.parts))


def template_of(text: str) -> Template:
    """Raises `ValueError` for a text whose `{...}` cannot be filled in."""
    parts, literal, end = list[str](), "", 0
    for found in _BLANK.finditer(text):
        literal += _literal(text[end : found.start()])
        end = found.end()
        blank = found[2]
        if blank is None:
            literal += "{" if found[1] else "}"
            continue
        parts += (literal, blank)
        literal = ""
    parts.append(literal + _literal(text[end:]))
    if len(parts) > 2 * MOST_BLANKS + 1:
        raise ValueError(f"at most {MOST_BLANKS} places to fill in")
    return Template(tuple(parts))


def check_text(text: str) -> None:
    """Raises `ValueError` for a text whose `{...}` cannot be filled in."""
    template_of(text)


def check_package(text: str) -> None:
    """Raises `ValueError` for what does not name a package by title and version."""
    template_of(text)
    if len(text.split()) < 2:
        raise ValueError("name a package by its title, a space and its version")


def _literal(text: str) -> str:
    if _ANY_BRACE.search(text):
        raise ValueError(_NOT_ONE)
    return text


# ── a profile's settings, read once ───────────────────────────────────────────────────────────


class _Plan(Struct, frozen=True, kw_only=True):
    """A profile's settings, their texts cut."""

    of: BirthSettings
    attributes: Mapping[AttributeScope, Mapping[str, Template | Value]]
    customer: Template
    groups: tuple[Template, ...]
    label: Template
    packages: Mapping[PackageKind, Template]


_plans: dict[int, _Plan] = {}
"""By profile number, as long as the profile's settings are the same."""


def _plan_of(profile: DeviceProfile) -> _Plan:
    settings, kept = profile.policy.newborn, _plans.get(profile.id)
    if kept is not None and (kept.of is settings or kept.of == settings):
        return kept
    if len(_plans) >= _MOST_PLANS:
        _plans.clear()
    plan = _plans[profile.id] = _Plan(
        of=settings,
        attributes={
            AttributeScope.SHARED: _cut_all(settings.shared),
            AttributeScope.SERVER: _cut_all(settings.server),
        },
        customer=_cut(settings.customer),
        groups=tuple(map(_cut, settings.groups)),
        label=_cut(settings.label),
        packages={
            kind: _cut(text)
            for kind, text in (
                (PackageKind.FIRMWARE, settings.firmware),
                (PackageKind.SOFTWARE, settings.software),
            )
            if text
        },
    )
    return plan


def _cut_all(values: Mapping[str, Any]) -> dict[str, Template | Value]:
    return {key: _cut(one) if isinstance(one, str) else one for key, one in values.items()}


def _cut(text: str) -> Template:
    """A text that was proven when it was saved; one of an older version stands as it is."""
    try:
        return template_of(text)
    except ValueError:
        return Template((text,))


# ── one device ────────────────────────────────────────────────────────────────────────────────


def gifts_for(profile: DeviceProfile, request: ProvisionRequest, name: str) -> Gifts | None:
    """The gifts for a device called `name`; None: there are none.

    What is no name of a customer, a group or a package, once it is filled in, is left out and told
    in `left_out`.
    """
    if request.amended is None and _gives_nothing(profile):
        if request.hardware is None:
            return None
        return Gifts(said={AttributeScope.CLIENT: {HARDWARE_INFO: request.hardware}})
    return _filled(profile, name, request.hardware, request.amended)


def gifts_for_child(profile: DeviceProfile, name: str) -> Gifts | None:
    """The gifts for a device that a gateway mentions: nothing is known of it but its name."""
    return None if _gives_nothing(profile) else _filled(profile, name, None, None)


def _gives_nothing(profile: DeviceProfile) -> bool:
    return profile.policy is PLAIN_POLICY or profile.policy.newborn == _NOTHING


_NONE = Gifts()
_NOTHING = BirthSettings()


def _filled(
    profile: DeviceProfile, name: str, hardware: Json | None, amended: Amendment | None
) -> Gifts | None:
    plan, words, left_out = _plan_of(profile), _words(name, hardware), list[str]()
    names = [one.fill(words) for one in plan.groups]
    said: dict[AttributeScope, Mapping[str, Value]] = {}
    if hardware is not None:
        said[AttributeScope.CLIENT] = {HARDWARE_INFO: hardware}
    if amended is not None:
        names += amended.groups
        if amended.attributes:
            said[AttributeScope.SERVER] = amended.attributes
    customer = _name("customer", plan.customer.fill(words), left_out)
    groups = [_name("group", one, left_out) for one in names]
    gifts = Gifts(
        attributes={
            scope: {key: _value(one, words) for key, one in values.items()}
            for scope, values in plan.attributes.items()
            if values
        },
        said=said,
        customer=customer,
        groups=tuple(dict.fromkeys(filter(None, groups))),
        label=_name("label", plan.label.fill(words), left_out),
        packages=_packages(plan, words, left_out),
        left_out=tuple(left_out),
    )
    return None if gifts == _NONE else gifts


def _value(given: Template | Value, words: _Words) -> Value:
    return given.fill(words) if isinstance(given, Template) else given


def _name(what: str, text: str, left_out: list[str]) -> str:
    """A name as it can be kept; "" for one that is empty or, noted in `left_out`, is none."""
    found = text.strip()
    if found and not is_device_name(found):
        left_out.append(f"{what} {printable(found)[:80]}: not a name")
        return ""
    return found


def _packages(
    plan: _Plan, words: _Words, left_out: list[str]
) -> dict[PackageKind, tuple[str, str]]:
    packages = {}
    for kind, template in plan.packages.items():
        title, _, version = template.fill(words).strip().rpartition(" ")
        if title.strip():
            packages[kind] = (title.strip(), version)
        else:
            left_out.append(f"{kind.value}: no title and version")
    return packages


def _words(name: str, hardware: Json | None) -> _Words:
    """What blanks are filled with: of a stranger's words at most 255 characters, all printable."""
    told: Any = None

    def word(blank: str) -> str:
        nonlocal told
        if blank == "name":
            return name
        if told is None:
            told = _object(hardware)
        found = told
        for key in blank.removeprefix("hardware.").split("."):
            found = found.get(key) if isinstance(found, dict) else None
        return _text(found)

    return word


def _object(hardware: Json | None) -> Any:
    if hardware is None:
        return {}
    try:
        return msgspec.json.decode(hardware.text)
    except (msgspec.DecodeError, RecursionError):
        return {}


def _text(found: Any) -> str:
    if isinstance(found, bool):
        return "true" if found else "false"
    return printable(str(found)) if isinstance(found, str | int | float) else ""
