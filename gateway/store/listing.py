"""The statements of a page of devices, composed of what is asked for.

Each finds numbers alone, in order, and walks an index as far as the page reaches; what is shown of
the devices is looked up by number afterwards. Where an index has the wanted order for one
organisation only, there is one part for each, and the database merges them.
"""

# ruff: noqa: S608 - numbers and words of our own are composed; what people say stands at `?1`.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.model import DeviceOrder, DeviceQuery
from gateway.store.identity import uuid_bytes

MOST_PARTS = 32
"""Organisations whose devices are merged from their indexes; of more the page is sorted."""
_OWNER = "coalesce(d.customer_id, d.organisation_id)"


class Clauses:
    """Conditions that all hold, and the values at their places."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.values: list[Any] = []

    def place(self, value: Any) -> str:
        self.values.append(value)
        return f"?{len(self.values)}"

    def add(self, text: str) -> None:
        self.texts.append(text)

    def where(self, *more: str) -> str:
        texts = [*more, *self.texts]
        return f" WHERE {' AND '.join(texts)}" if texts else ""


class Scope(Struct, frozen=True, kw_only=True):
    """Which devices may be seen. `organisations` None: all; else those of these owners, and those
    of the person `owner_id` besides. `below` is a path instead, of too many to name.

    `owning` are the organisations in which devices have their names; None: too many.
    """

    organisations: tuple[int, ...] | None = None
    below: str = ""
    owner_id: int = 0
    owning: tuple[int, ...] | None = (1,)

    @property
    def covers_all(self) -> bool:
        return self.organisations is None and not self.below


class Text(Struct, frozen=True, kw_only=True):
    """What is looked for: as a pattern, and the profiles that have it in their names."""

    pattern: str
    profiles: tuple[int, ...] = ()


class Words(Struct, frozen=True, kw_only=True):
    """Where databases differ: how a text is looked for in any (ASCII) case, how no customer is said
    as a text, and what puts it first."""

    like: str
    nobody: str
    first: str
    last: str


SQLITE = Words(like="LIKE", nobody="d.customer_id", first="", last="")
"""It must see that `nobody` is one value, or it sorts; nothing comes first as it is."""
POSTGRES = Words(
    like="ILIKE", nobody="CAST(d.customer_id AS text)", first=" NULLS FIRST", last=" NULLS LAST"
)


class Part(Struct, frozen=True):
    """Conditions of devices that one index has in order. `owner` is their one organisation."""

    conditions: tuple[str, ...] = ()
    owner: int | None = None


class Listing(Struct, frozen=True):
    """A statement whose rows begin with the numbers of devices, and its values."""

    statement: str
    values: tuple[Any, ...]


def pattern_of(text: str) -> str:
    """The pattern of what contains `text`, for `LIKE … ESCAPE '\\'`."""
    for sign in ("\\", "%", "_"):
        text = text.replace(sign, "\\" + sign)
    return f"%{text}%"


def clauses_of(query: DeviceQuery, text: Text | None, words: Words) -> Clauses:
    """What the query demands of a device `d`, less its scope."""
    found = Clauses()
    if query.profile_id is not None:
        found.add(f"d.profile_id = {found.place(query.profile_id)}")
    if query.customer_id is not None:
        found.add(f"d.customer_id = {found.place(query.customer_id)}")
    if query.group_id is not None:
        group = found.place(query.group_id)
        found.add(f"d.id IN (SELECT device_id FROM device_group_member WHERE group_id = {group})")
    if query.ids is not None:
        places = ", ".join(found.place(one) for one in _identities(query.ids))
        found.add(f"d.uuid IN ({places})" if places else "1 = 0")
    if text is not None:
        pattern = found.place(text.pattern)
        tests = [f"d.{column} {words.like} {pattern} ESCAPE '\\'" for column in ("name", "label")]
        if text.profiles:
            tests.append(f"d.profile_id IN ({', '.join(map(str, text.profiles))})")
        found.add(f"({' OR '.join(tests)})")
    return found


def _identities(uuids: Sequence[str]) -> list[bytes]:
    found = []
    for text in uuids:
        try:
            found.append(uuid_bytes(text))
        except ValueError:
            continue
    return found


# ── whose devices ─────────────────────────────────────────────────────────────────────────────


def _within(scope: Scope, clauses: Clauses) -> str | None:
    """The scope as one condition; None: no condition."""
    if scope.covers_all:
        return None
    tests = []
    if scope.below:
        path = clauses.place(scope.below)
        tests.append(f"{_OWNER} IN (SELECT id FROM organisation WHERE path LIKE {path} || '%')")
    elif scope.organisations:
        tests.append(f"{_OWNER} IN ({', '.join(map(str, scope.organisations))})")
    if scope.owner_id:
        tests.append(f"d.owner_id = {clauses.place(scope.owner_id)}")
    return f"({' OR '.join(tests)})" if tests else "1 = 0"


def _parts(scope: Scope, order: DeviceOrder, clauses: Clauses) -> list[Part]:
    """The scope as parts of which each device in it is in exactly one.

    Each goes with an index that has the wanted order. One alone, where there is no such index.
    """
    if scope.covers_all:
        if order is DeviceOrder.NAME and scope.owning:
            return [Part((f"d.organisation_id = {number}",)) for number in scope.owning]
        return [Part()]
    if order in (DeviceOrder.PROFILE, DeviceOrder.LABEL) or scope.below:
        within = _within(scope, clauses)
        return [Part((within,)) if within else Part()]
    organisations = scope.organisations or ()
    parts = [Part((f"{_OWNER} = {one}", f"{_OWNER} <> 1"), one) for one in organisations]
    if scope.owner_id:
        own = [f"d.owner_id = {clauses.place(scope.owner_id)}"]
        if organisations:
            own.append(f"{_OWNER} NOT IN ({', '.join(map(str, organisations))})")
        parts.append(Part(tuple(own)))
    return parts or [Part(("1 = 0",))]


# ── the statements ────────────────────────────────────────────────────────────────────────────


def walk(query: DeviceQuery, scope: Scope, text: Text | None, words: Words) -> Listing:
    """The page, with one more device than it has: whether another page follows."""
    clauses = clauses_of(query, text, words)
    parts = _parts(scope, query.order, clauses)
    match query.order:
        case DeviceOrder.CUSTOMER:
            selects = [one for part in parts for one in _by_customer(clauses, part, words)]
            keys = ["sorted", "customer", "id"]
        case DeviceOrder.PROFILE:
            columns = "d.id AS id, p.name AS sorted, p.id AS profile"
            source = f"SELECT {columns} FROM device_profile p CROSS JOIN device d"
            link = "d.profile_id = p.id"
            selects = [source + clauses.where(link, *part.conditions) for part in parts]
            keys = ["sorted", "profile", "id"]
        case DeviceOrder.CREATED:
            source = "SELECT d.id AS id FROM device d"
            selects = [source + clauses.where(*part.conditions) for part in parts]
            keys = ["id"]
        case order:
            column = "d.name" if order is DeviceOrder.NAME else "d.label"
            source = f"SELECT d.id AS id, {column} AS sorted FROM device d"
            selects = [source + clauses.where(*part.conditions) for part in parts]
            keys = ["sorted", "id"]
    return _cut(" UNION ALL ".join(selects), keys, query, clauses, words)


def _by_customer(clauses: Clauses, part: Part, words: Words) -> list[str]:
    """Those that no customer has come first."""
    if part.owner is not None:
        # The same devices, said so that an index of each half is seen.
        nobodys = [f"d.organisation_id = {part.owner}", "+d.customer_id IS NULL"]
        held = [f"o.id = {part.owner}"]
    else:
        nobodys = [*part.conditions, "d.customer_id IS NULL"]
        held = list(part.conditions)
    return [
        f"SELECT d.id AS id, {words.nobody} AS sorted, d.customer_id AS customer FROM device d"
        + clauses.where(*nobodys),
        "SELECT d.id AS id, o.name AS sorted, o.id AS customer"
        " FROM organisation o CROSS JOIN device d" + clauses.where("d.customer_id = o.id", *held),
    ]


def _cut(
    statement: str, keys: list[str], query: DeviceQuery, clauses: Clauses, words: Words
) -> Listing:
    direction = " DESC" if query.descending else ""
    nobodys = words.last if query.descending else words.first
    order = ", ".join(key + direction + nobodys for key in keys)
    limit = clauses.place(query.page_size + 1)
    offset = clauses.place(query.page * query.page_size)
    text = f"{statement} ORDER BY {order} LIMIT {limit} OFFSET {offset}"
    return Listing(text, tuple(clauses.values))


_PICKED = {
    DeviceOrder.CREATED: ("", ["+d.id"]),
    DeviceOrder.NAME: ("", ["+d.name", "+d.id"]),
    DeviceOrder.LABEL: ("", ["+d.label", "+d.id"]),
    DeviceOrder.PROFILE: (
        " JOIN device_profile p ON p.id = d.profile_id",
        ["+p.name", "+p.id", "+d.id"],
    ),
    DeviceOrder.CUSTOMER: (
        " LEFT JOIN organisation o ON o.id = d.customer_id",
        ["+o.name", "+o.id", "+d.id"],
    ),
}
"""What an order needs besides the devices, and by what it sorts."""


def pick(query: DeviceQuery, scope: Scope, text: Text | None, candidates: Sequence[int]) -> Listing:
    """The page out of some candidates, looked at one by one. Each row says how many there are.

    For SQLite: `+` keeps it from walking an index over all devices.
    """
    clauses = clauses_of(query, text, SQLITE)
    within = _within(scope, clauses)
    listed = clauses.place(msgspec.json.encode(candidates).decode())
    joined, keys = _PICKED[query.order]
    source = f"SELECT d.id AS id, count(*) OVER () FROM json_each({listed}) j CROSS JOIN device d"
    where = clauses.where("d.id = j.value", *([within] if within else []))
    return _cut(source + joined + where, keys, query, clauses, SQLITE)


def some(query: DeviceQuery, scope: Scope, most: int, words: Words) -> Listing:
    """At most so many of those that the query and the scope leave, whatever their texts."""
    clauses = clauses_of(query, None, words)
    return Listing(*_any("d.id", scope, clauses, most))


def count(query: DeviceQuery, scope: Scope, text: Text | None, most: int, words: Words) -> Listing:
    """How many there are, up to `most`."""
    clauses = clauses_of(query, text, words)
    inner, values = _any("1", scope, clauses, most)
    return Listing(f"SELECT count(*) FROM ({inner}) AS found", values)


def _any(column: str, scope: Scope, clauses: Clauses, most: int) -> tuple[str, tuple[Any, ...]]:
    parts = _parts(scope, DeviceOrder.CREATED, clauses)
    source = f"SELECT {column} FROM device d"
    selects = [source + clauses.where(*part.conditions) for part in parts]
    limit = clauses.place(most)
    return f"{' UNION ALL '.join(selects)} LIMIT {limit}", tuple(clauses.values)
