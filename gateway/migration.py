"""Copies customers, profiles, devices, credentials and attributes from a running ThingsBoard.

What is there already is brought up to the source, so a copy can be repeated: it changes nothing
twice. It begins again where it was interrupted (`Journal`). Each thing that cannot be copied is
left, with its reason, and the next one is copied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct, structs

from gateway.core.catalogue import Catalogue
from gateway.core.errors import Cause, Conflict, Invalid, KeyTaken
from gateway.core.inventory import Inventory
from gateway.core.model import Actor, DeviceProfile, Organisation, Secret
from gateway.core.people import People
from gateway.core.registry import Registry
from gateway.dialects.thingsboard.admin.customers import CustomerBody, contact_info
from gateway.dialects.thingsboard.admin.desk import Trouble
from gateway.dialects.thingsboard.admin.profile_shapes import ProfileBody, read_profile
from gateway.dialects.thingsboard.admin.words import NULL_UUID
from gateway.migration_devices import DeviceCopy, Places
from gateway.migration_report import Fate, Left, Report
from gateway.migration_source import (
    PAGE_SIZE,
    Missing,
    Progress,
    SourceTrouble,
    ThingsBoardSource,
)

MOST_CUSTOMERS: Final = 100_000
"""They are held in memory, as devices name them."""
CONCURRENCY: Final = 8
"""Devices copied at a time; each takes four calls of the source."""


class Journal(Protocol):
    """Remembers how far a copy came: which pages of devices are done."""

    def begin(self, source: str) -> int:
        """The page to begin with, for this source."""

    def done(self, source: str, page: int) -> None:
        """All of this page is on disk."""

    def finish(self) -> None:
        """The copy is whole."""


class Services(Struct, frozen=True):
    """What writes the copy, and as whom."""

    actor: Actor
    people: People
    catalogue: Catalogue
    inventory: Inventory
    registry: Registry


class Migration:
    """One copy. `dry`: everything is read and compared, nothing is written.

    `new_only`: what is there already is left as it is.
    """

    def __init__(
        self,
        source: ThingsBoardSource,
        services: Services,
        *,
        dry: bool = False,
        new_only: bool = False,
        concurrency: int = CONCURRENCY,
        progress: Progress = lambda *_: None,
    ) -> None:
        self._source = source
        self._services = services
        self._dry = dry
        self._new_only = new_only
        self._concurrency = concurrency
        self._progress = progress
        self.report = Report()
        self._customers: dict[str, Organisation | None] = {}
        self._profiles: dict[str, DeviceProfile | None] = {}

    async def run(self, journal: Journal) -> Report:
        """Raises `SourceTrouble` and what the store raises; run again, it goes on."""
        await self._copy_customers()
        await self._copy_profiles()
        await self._copy_devices(journal)
        return self.report

    async def _tried(self, kind: str, name: str, work: Callable[[], Awaitable[Fate]]) -> None:
        """Copy one thing and count it; why it was left, if it was."""
        try:
            self.report.count(kind, await work())
        except Left as left:
            self.report.leave(kind, name, str(left))
        except Missing:
            self.report.leave(
                kind, name, "it went while it was read, or is out of the user's sight"
            )
        except (Trouble, Conflict, Invalid, KeyTaken) as exc:
            self.report.leave(kind, name, _why(exc))
        except msgspec.ValidationError as exc:
            self.report.leave(kind, name, f"the source describes it in another way: {exc}")

    # ── customers ───────────────────────────────────────────────────────────────────────────

    async def _copy_customers(self) -> None:
        found: list[dict[str, Any]] = []
        async for _, rows, total in self._source.pages("/api/customers"):
            found.extend(row for row in rows if isinstance(row, dict))
            if len(found) > MOST_CUSTOMERS:
                raise SourceTrouble(f"the source has more than {MOST_CUSTOMERS} customers.")
            self._progress("customers", 0, total)
        for done, row in enumerate(_parents_first(found), 1):
            await self._tried("customers", _name(row, "title"), lambda row=row: self._customer(row))  # type: ignore[misc]
            self._progress("customers", done, len(found))

    async def _customer(self, row: dict[str, Any]) -> Fate:
        body = msgspec.convert(row, CustomerBody)
        people, actor = self._services.people, self._services.actor
        parent = await self._parent(body)
        title, info = (body.title or "").strip(), contact_info(body)
        found = await self._child(parent, title) if parent is not None else None
        self._customers[_id(row)] = found
        if found is not None and (self._new_only or _same_json(found.info, info)):
            return Fate.UNCHANGED
        fate = Fate.CREATED if found is None else Fate.UPDATED
        if not self._dry:
            saved = await people.save_organisation(
                actor,
                name=title,
                parent=parent if found is None else None,
                uuid=found.uuid if found is not None else None,
                info=info,
            )
            self._customers[_id(row)] = saved
        return fate

    async def _parent(self, body: CustomerBody) -> Organisation | None:
        """None in a dry run that would have made it."""
        above = body.parent_customer_id
        if above is None or above.id == NULL_UUID:
            return self._services.actor.organisation
        if above.id not in self._customers:
            raise Left("the customer above it was not copied")
        return self._customers[above.id]

    async def _child(self, parent: Organisation, title: str) -> Organisation | None:
        """The one of this name directly below `parent`."""
        people, number, more = self._services.people, 0, True
        while more:
            page = await people.organisations(self._services.actor, page=number, text=title)
            for one in page.data:
                if one.name == title and one.parent_id == parent.id:
                    return one
            number, more = number + 1, page.has_next
        return None

    # ── profiles ────────────────────────────────────────────────────────────────────────────

    async def _copy_profiles(self) -> None:
        done = 0
        async for _, rows, total in self._source.pages("/api/deviceProfiles"):
            for row in rows:
                await self._tried("profiles", _name(row), lambda row=row: self._profile(row))  # type: ignore[misc]
                done += 1
                self._progress("profiles", done, total)

    async def _profile(self, row: dict[str, Any]) -> Fate:
        catalogue, actor = self._services.catalogue, self._services.actor
        body = _own_words(msgspec.convert(row, ProfileBody))
        before = await catalogue.named(actor, (body.name or "").strip())
        if before is not None and (self._new_only or before.source is not None):
            self._profiles[_id(row)] = before
            if before.source is None:
                return Fate.UNCHANGED
            raise Left(f"the file {before.source} defines a profile of this name; it stays so")
        wish = await asyncio.to_thread(read_profile, body, before)
        self._profiles[_id(row)] = before
        if before is not None and await self._is_same(before, wish.profile, wish.key, wish.secret):
            return Fate.UNCHANGED
        if not self._dry:
            saved = await catalogue.save(actor, wish.profile, key=wish.key, secret=wish.secret)
            if body.default and not saved.is_default:
                saved = await catalogue.make_default(actor, saved)
            self._profiles[_id(row)] = saved
        return Fate.CREATED if before is None else Fate.UPDATED

    async def _is_same(
        self,
        before: DeviceProfile,
        wanted: DeviceProfile,
        key: Secret | None,
        secret: Secret | None,
    ) -> bool:
        if structs.replace(wanted, info=before.info) != before:
            return False
        if not _same_json(before.info, wanted.info):
            return False
        ticket = await self._services.catalogue.ticket(before)
        if ticket is None:
            return key is None and secret is None
        return (key or ticket.key, secret or ticket.secret) == (ticket.key, ticket.secret)

    # ── devices ─────────────────────────────────────────────────────────────────────────────

    async def _copy_devices(self, journal: Journal) -> None:
        places = Places(self._customers, self._profiles)
        copy = DeviceCopy(
            self._source, self._services, places, dry=self._dry, new_only=self._new_only
        )
        gate = asyncio.Semaphore(self._concurrency)
        name = f"{self._source.user}@{self._source.url}"
        begin = 0 if self._dry else journal.begin(name)

        async def one(row: dict[str, Any]) -> None:
            async with gate:
                await self._tried("devices", _name(row), lambda: copy.device(row, self.report))

        async for page, rows, total in self._source.pages("/api/tenant/devices", since=begin):
            try:
                async with asyncio.TaskGroup() as group:
                    for row in rows:
                        group.create_task(one(row))
            except BaseExceptionGroup as several:
                raise several.exceptions[0] from None
            self._progress("devices", min(page * PAGE_SIZE + len(rows), total), total)
            if not self._dry:
                journal.done(name, page)
        if not self._dry:
            journal.finish()


def _why(exc: Exception) -> str:
    if isinstance(exc, Trouble):
        return exc.message
    if isinstance(exc, KeyTaken):
        return "its provision key is another profile's here"
    if isinstance(exc, Conflict) and exc.cause is Cause.CREDENTIALS_TAKEN:
        return "its credentials are another device's here"
    return str(exc)


def _own_words(body: ProfileBody) -> ProfileBody:
    """Without what names things that are not copied: rule chains, dashboards, packages."""
    return structs.replace(
        body,
        id=None,
        version=None,
        default_rule_chain_id=None,
        default_dashboard_id=None,
        default_edge_rule_chain_id=None,
        firmware_id=None,
        software_id=None,
    )


def _parents_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Customers in an order in which each comes after the one above it, if that is there."""
    by_id = {_id(row): row for row in rows}
    placed: dict[str, dict[str, Any]] = {}

    for row in rows:
        chain = [row]
        while (above := _above(chain[-1])) in by_id and above not in placed:
            if len(chain) > len(rows):
                break  # a circle
            chain.append(by_id[above])
        for one in reversed(chain):
            placed.setdefault(_id(one), one)
    return list(placed.values())


def _above(row: dict[str, Any]) -> str:
    above = row.get("parentCustomerId")
    return str(above.get("id", "")) if isinstance(above, dict) else ""


def _id(row: dict[str, Any]) -> str:
    """The UUID of an entity; "" without one."""
    found = row.get("id")
    return str(found.get("id", "")) if isinstance(found, dict) else ""


def _name(row: Any, member: str = "name") -> str:
    return str(row.get(member, "")) if isinstance(row, dict) else ""


def _same_json(one: str, other: str) -> bool:
    try:
        return bool(msgspec.json.decode(one) == msgspec.json.decode(other))
    except msgspec.DecodeError:
        return one == other
