"""Device profiles on the terminal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from msgspec import to_builtins

from gateway.cli.options import print_json
from gateway.core.model import DeviceProfile, FleetTicket, Policy
from gateway.core.pki.model import ChainRule

IN_STORE = "store"
"""The source of a profile that no file defines."""
_KEY_HEAD = 4


def print_profile(
    profile: DeviceProfile,
    ticket: FleetTicket | None,
    *,
    reveal: bool,
    as_json: bool,
    labels: Sequence[str] = (),
) -> None:
    """`labels` are those of its fleet secrets; the pair shown is that of `default`."""
    from gateway.cli.tables import masked, print_fields

    pair = {
        "provision_key": masked(ticket.key, reveal=reveal, head=_KEY_HEAD) if ticket else None,
        "provision_secret": masked(ticket.secret, reveal=reveal) if ticket else None,
    }
    fields = plain_profile(profile) | pair
    if labels:
        fields["secrets"] = list(labels)
    if as_json:
        print_json(fields)
        return
    sections = {**fields.pop("policy", {}), **fields.pop("sections")}
    if labels:
        fields["secrets"] = ", ".join(labels)
    rows = [(key.replace("_", " "), _text(value)) for key, value in fields.items()]
    print_fields([*rows, *_lines_of(sections)])
    if ticket and not reveal:
        click.echo(
            f"\n--reveal shows the key and secret: `{how_to_reveal(profile.name)}`", err=True
        )


def plain_profile(profile: DeviceProfile) -> dict[str, Any]:
    """The profile as JSON has it, without key and secret."""
    return {
        "name": profile.name,
        "provision_type": profile.provision_type.value,
        "description": profile.description,
        "transport": profile.transport.value,
        "pre_provision_allowed": profile.pre_provision_allowed,
        "require_readable_certificate": profile.require_readable_certificate,
        "claiming_allowed": profile.claiming_allowed,
        "gateway_may_adopt": profile.gateway_may_adopt,
        "readings_keep_days": profile.readings_keep_days,
        "limits": dict(profile.limits),
        "certificate": to_builtins(profile.certificate),
        "chain": _chain(profile.chain),
        "sections": dict(profile.sections),
        **_policy(profile.policy),
        "source": profile.source or IN_STORE,
    }


def _policy(policy: Policy) -> dict[str, Any]:
    """Who may come, what a newborn gets: in the words of a profile file, where there is any."""
    from gateway.policy_words import policy_settings

    settings = policy_settings(policy)
    return {"policy": settings} if settings else {}


def _chain(rule: ChainRule | None) -> dict[str, Any] | None:
    """Which factory certificates admit, without the certificate's text."""
    if rule is None:
        return None
    from gateway.cli.certificates import facts_of_pem
    from gateway.clock import now_ms

    facts = facts_of_pem(rule.certificate)
    anchor = facts.plain(now_ms()) if facts else None
    return {"pattern": rule.pattern, "create": rule.create, "anchor": anchor}


def _lines_of(sections: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The dialects' tables, by dotted names; a list has a line for each of its items."""
    for section, table in sections.items():
        for key, value in table.items() if isinstance(table, dict) else [("", table)]:
            name = f"{section}.{key}" if key else section
            for item in value if isinstance(value, list) and value else [value]:
                yield name, _text(item)
                name = ""


def _text(value: Any) -> str:
    match value:
        case None | "":
            return "-"
        case dict() | list() | tuple():  # the pattern {} would fit every mapping
            return _toml(value) if value else "-"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


def _toml(value: Any) -> str:
    """As it stands in a profile file, in one line. What is None is left out there."""
    match value:
        case dict():
            told = [
                f"{_key(name)} = {_toml(one)}" for name, one in value.items() if one is not None
            ]
            return f"{{ {', '.join(told)} }}" if told else "{}"
        case list() | tuple():
            return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    """Bare where TOML lets it be, else between quotes."""
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)


def how_to_reveal(name: str) -> str:
    """The command that shows a profile's key and secret."""
    return f"gatehouse profile show {shlex.quote(name)} --reveal"
