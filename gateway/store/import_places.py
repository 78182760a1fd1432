"""What rows of a table name: profiles, customers and groups, found or made for all of a batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.import_rows import ImportRow
from gateway.core.importing import ImportBatch
from gateway.core.model import Event, EventKind
from gateway.store.driver import Transaction
from gateway.store.events import tell
from gateway.store.identity import uuid7, uuid_text
from gateway.store.profiles import ensure_default, ensure_profile

_json = msgspec.json.Encoder()

DEFAULT_PROFILE = "default"
"""What the profile of devices that name none is called when it is made."""


class Places(Struct):
    """What rows name, by name. A name that may not be made, or means two, is in `troubles`."""

    organisation_id: int
    profiles: dict[str, int]
    customers: dict[str, int]
    groups: dict[str, int]
    troubles: dict[tuple[str, str], str]
    default: tuple[int, str] | None = None

    def profile(self, row: ImportRow) -> tuple[int, str]:
        """The number and the name of a new device's profile."""
        if row.type:
            return self.profiles[row.type], row.type
        assert self.default is not None, "a new device without a type"
        return self.default

    def trouble(self, row: ImportRow, *, new: bool = False) -> str | None:
        """Why what the row names cannot be had; None when it can."""
        if not self.troubles:
            return None
        if new and not row.type and ("profile", "") in self.troubles:
            return self.troubles["profile", ""]
        return (row.type and self.troubles.get(("profile", row.type))) or (
            self.troubles.get(("customer", row.customer)) if row.customer else None
        )


async def find_places(
    tx: Transaction, batch: ImportBatch, rows: Sequence[ImportRow], *, default: bool
) -> Places:
    """All that `rows` name. `default`: a new device among them names no type."""
    places = Places(batch.actor.organisation.id, {}, {}, {}, {})
    finder = _Finder(tx, batch, places)
    await finder.profiles(_distinct([row.type for row in rows]))
    await finder.customers(_distinct([row.customer for row in rows]))
    await finder.groups(_distinct([name for row in rows if row.groups for name in row.groups]))
    if default:
        await finder.default()
    return places


def _distinct(names: list[str]) -> list[str]:
    """In the order of their first mention, without the empty."""
    return [name for name in dict.fromkeys(names) if name]


class _Finder:
    """Fills `places`."""

    def __init__(self, tx: Transaction, batch: ImportBatch, places: Places) -> None:
        self._tx = tx
        self._at = batch.at
        self._actor = batch.actor
        self._powers = batch.powers
        self._places = places
        self._made = batch.made

    async def _look(self, statement: str, place: Any, names: Sequence[str]) -> list[Any]:
        return await self._tx.fetch(statement, place, _json.encode(names).decode())

    def _tell(self, kind: EventKind, name: str, identity: bytes | None = None) -> None:
        about = uuid_text(identity) if identity is not None else ""
        peer = self._actor.peer
        tell(self._tx, [Event(kind=kind, at=self._at, peer=peer, subject=name, object=about)])

    # ── profiles ────────────────────────────────────────────────────────────────────────────

    async def profiles(self, names: list[str]) -> None:
        if not names:
            return
        places = self._places
        for number, name, provision_only in await self._look(
            "import_profiles", places.organisation_id, names
        ):
            places.profiles[name] = number
            if provision_only:
                places.troubles["profile", name] = "the type names a provision profile"
        for name in names:
            if name not in places.profiles:
                await self._make_profile(name)

    async def _make_profile(self, name: str) -> None:
        places = self._places
        if not self._powers.make_profiles:
            places.troubles["profile", name] = (
                "there is no profile of that type, and you may not make one (PRODUCT_EDIT)"
            )
            return
        number, made = await ensure_profile(self._tx, places.organisation_id, name, self._at)
        places.profiles[name] = number
        if made:
            self._made.profiles.append(name)
            self._tell(EventKind.PROFILE_CREATE, name)

    async def default(self) -> None:
        """The profile of new devices that name none; made when there is none."""
        tx, places = self._tx, self._places
        found = await tx.fetch("import_default_profile", places.organisation_id)
        if not found and not self._powers.make_profiles:
            places.troubles["profile", ""] = (
                "the row names no type, and there is no default profile"
            )
            return
        if not found:
            place = (places.organisation_id, DEFAULT_PROFILE)
            _, made = await ensure_default(tx, *place, self._at)
            if made:
                self._made.profiles.append(DEFAULT_PROFILE)
                self._tell(EventKind.PROFILE_CREATE, DEFAULT_PROFILE)
            found = await tx.fetch("import_default_profile", places.organisation_id)
        places.default = (found[0][0], found[0][1])

    # ── customers, groups ───────────────────────────────────────────────────────────────────

    async def customers(self, names: list[str]) -> None:
        """Children of the actor's organisation, else the only one of that name further below."""
        if not names:
            return
        organisation, customers = self._actor.organisation, self._places.customers
        for number, name in await self._look("import_customers", organisation.id, names):
            customers[name] = number
        missing = [name for name in names if name not in customers]
        if not missing:
            return
        deeper: dict[str, list[int]] = {}
        for number, name in await self._look("import_customers_below", organisation.path, missing):
            deeper.setdefault(name, []).append(number)
        for name in missing:
            await self._one_customer(name, deeper.get(name, []))

    async def _one_customer(self, name: str, deeper: list[int]) -> None:
        troubles = self._places.troubles
        if len(deeper) == 1:
            self._places.customers[name] = deeper[0]
        elif deeper:
            troubles["customer", name] = "more than one customer has this name"
        elif not self._powers.make_customers:
            troubles["customer", name] = (
                "there is no such customer, and you may not make one (ORG_CREATE)"
            )
        else:
            self._places.customers[name] = await self._make_customer(name)

    async def _make_customer(self, name: str) -> int:
        parent = self._actor.organisation
        number: int = (await self._tx.fetch("next_ids", "organisation", 1))[0][0]
        identity = uuid7(self._at, os.urandom)
        path = f"{parent.path}{number}/"
        row = (number, identity, parent.id, name, path, self._at)
        await self._tx.insert_rows("import_insert_customers", [row])
        self._made.customers.append(name)
        self._tell(EventKind.ORGANISATION_CREATE, name, identity)
        return number

    async def groups(self, names: list[str]) -> None:
        if not names:
            return
        place, groups = self._places.organisation_id, self._places.groups
        for number, name in await self._look("import_groups", place, names):
            groups[name] = number
        missing = [name for name in names if name not in groups]
        if not missing:
            return
        last = (await self._tx.fetch("next_ids", "group", len(missing)))[0][0]
        rows = []
        for number, name in enumerate(missing, last - len(missing) + 1):
            groups[name] = number
            rows.append((number, uuid7(self._at, os.urandom), place, name, self._at))
        await self._tx.insert_rows("import_insert_groups", rows)
        self._made.groups += missing
