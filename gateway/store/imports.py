"""Rows of a table, hundreds in one transaction: devices born or brought up to date by name.

What rows name is found or made first, each kind with one statement for all; then the devices. A row
that is rejected undoes nothing of its neighbours; what it named, and was made for it, stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from gateway.core.errors import Cause, Conflict, GatehouseError
from gateway.core.import_rows import ImportRow, Rejected
from gateway.core.importing import ImportBatch, Imported, ImportJob, RowOutcome, moved
from gateway.core.model import AttributeScope, Event, EventKind
from gateway.store.attributes import PROVISION_STATE, state_text
from gateway.store.driver import Row, Transaction
from gateway.store.events import tell
from gateway.store.import_places import Places, find_places
from gateway.store.import_updates import (
    Standing,
    attribute_rows,
    described,
    reading_rows,
    standing,
    update,
)
from gateway.store.logins import Login
from gateway.store.vault import Vault
from gateway.store.writer import SingleDecision

_json = msgspec.json.Encoder()

TAKEN = "Device credentials are already assigned to another device!"
NO_CREDENTIALS_POWER = "you may not set credentials (SET_AUTH_TOKEN)"
NO_SHARING = "you may not assign devices to customers (ORG_DEVICES_SHARE)"


class Prepared(Struct, gc=False, frozen=True):
    """A row with what the writer's thread must not make: randomness is the loop's."""

    row: ImportRow
    uuid: bytes
    login: Login


class Rehearsed(GatehouseError):
    """What a dry run would have done; raised so that nothing of it stays."""

    def __init__(self, outcomes: list[RowOutcome]) -> None:
        super().__init__("a dry run keeps nothing")
        self.outcomes = outcomes


class ImportRows(SingleDecision[list[RowOutcome]]):
    """Imports a batch; a transaction of its own, by its weight. A dry run raises `Rehearsed`.

    `searched`: names and labels are in an index of this database.
    """

    __slots__ = ("batch", "searched", "vault")

    weight = 1024

    def __init__(self, batch: ImportBatch, vault: Vault, *, searched: bool) -> None:
        self.batch = batch
        self.vault = vault
        self.searched = searched

    async def decide(self, tx: Transaction) -> list[RowOutcome]:
        self.batch.made.clear()
        outcomes = await _Batch(self, tx).run()
        if self.batch.dry:
            raise Rehearsed(outcomes)
        if self.batch.job is not None:
            await _move(tx, self.batch, self.batch.job, outcomes)
        return outcomes


async def _move(
    tx: Transaction, batch: ImportBatch, job: ImportJob, outcomes: Sequence[RowOutcome]
) -> None:
    """Write how far the job is. The transaction may be run again: `job` itself stays."""
    after = moved(batch, msgspec.structs.replace(job, tally=_copy(job)), outcomes)
    kept = msgspec.structs.asdict(after.tally) | {"rejects_path": after.rejects_path}
    tally, pending = _json.encode(kept).decode(), _json.encode(after.pending).decode()
    columns = (after.position, tally, after.rejects_bytes, pending)
    if not await tx.fetch("import_move", job.id, job.position, *columns):
        raise Conflict(Cause.VERSION, "another import of the same file is under way")


def _copy(job: ImportJob) -> Any:
    return msgspec.structs.replace(job.tally)


class _Batch:
    """One run of a batch inside a transaction."""

    def __init__(self, decision: ImportRows, tx: Transaction) -> None:
        self._batch = batch = decision.batch
        self._vault = decision.vault
        self._searched = decision.searched
        self._tx = tx
        self._prepared = cast("Sequence[Prepared]", batch.prepared.kept)
        self._outcomes: dict[int, RowOutcome] = {}
        self._attributes: dict[tuple[int, str, str], Row] = {}
        self._readings: dict[tuple[int, str], Row] = {}
        self._members: set[Row] = set()
        self._relabelled: list[int] = []

    async def run(self) -> list[RowOutcome]:
        waiting = [at for at in range(len(self._prepared)) if self._is_allowed(at)]
        first = True
        places: Places | None = None
        while waiting:
            found = await standing(self._tx, self._batch, self._names(waiting))
            births, updates, later = self._sort(waiting, found)
            if first:
                rows = [self._prepared[at].row for at in waiting]
                new = any(not self._prepared[at].row.type for at in (*births, *later))
                places = await find_places(self._tx, self._batch, rows, default=new)
                first = False
            assert places is not None
            for at in updates:
                await self._update(at, found, places)
            await self._bear(births, places)
            waiting = later
        await self._write()
        return [self._outcomes[at] for at in range(len(self._prepared))]

    def _names(self, waiting: Iterable[int]) -> set[str]:
        return {self._prepared[at].row.name for at in waiting}

    def _is_allowed(self, at: int) -> bool:
        row, powers = self._prepared[at].row, self._batch.powers
        if row.credentials is not None and not powers.set_credentials:
            return self._reject(at, NO_CREDENTIALS_POWER)
        if row.customer and not powers.share:
            return self._reject(at, NO_SHARING)
        return True

    def _reject(self, at: int, reason: str) -> bool:
        self._outcomes[at] = Rejected(self._prepared[at].row.number, reason)
        return False

    def _sort(
        self, waiting: Sequence[int], found: Mapping[str, Standing]
    ) -> tuple[list[int], list[int], list[int]]:
        """Those to be born, one of each name; those that exist; and further ones of a new name."""
        births: list[int] = []
        updates: list[int] = []
        later: list[int] = []
        new: set[str] = set()
        for at in waiting:
            name = self._prepared[at].row.name
            if name in found:
                updates.append(at)
            elif name in new:
                later.append(at)
            else:
                new.add(name)
                births.append(at)
        return births, updates, later

    # ── those that exist ────────────────────────────────────────────────────────────────────

    async def _update(self, at: int, found: Mapping[str, Standing], places: Places) -> None:
        one = self._prepared[at]
        trouble = places.trouble(one.row)
        if trouble is None and not self._batch.powers.update:
            trouble = "you may not change devices that exist (ORG_DEVICES_EDIT)"
        if trouble is not None:
            self._reject(at, trouble)
            return
        device = found[one.row.name]
        result = await update(
            self._tx, self._batch, one.row, one.login, device, places, self._vault
        )
        if result is None:
            self._reject(at, TAKEN)
            return
        self._members.update(result.members)
        if result.relabelled:
            self._relabelled.append(device.id)
        self._readings.update(result.readings)
        self._outcomes[at] = Imported.UPDATED if result.changed else Imported.UNCHANGED

    # ── those that do not ───────────────────────────────────────────────────────────────────

    async def _bear(self, births: Sequence[int], places: Places) -> None:
        fit = [at for at in births if self._fits(at, places)]
        if not fit:
            return
        last = (await self._tx.fetch("next_ids", "device", len(fit)))[0][0]
        first = last - len(fit) + 1
        numbered = dict(enumerate(fit, first))
        rows = [self._device_row(number, at, places) for number, at in numbered.items()]
        written = await self._tx.insert_rows("import_devices", rows)
        assert written == len(rows), "a name that was free is taken in the same transaction"
        lost = await self._insert_credentials(numbered, first)
        for number in lost:
            self._reject(numbered.pop(number), TAKEN)
        self._settle(numbered, places)

    def _fits(self, at: int, places: Places) -> bool:
        trouble = places.trouble(self._prepared[at].row, new=True)
        return trouble is None or self._reject(at, trouble)

    def _device_row(self, number: int, at: int, places: Places) -> Row:
        one = self._prepared[at]
        row = one.row
        profile_id, kind = places.profile(row)
        info = "{}" if not row.description else described("{}", row.description)
        return (
            number,
            one.uuid,
            places.organisation_id,
            profile_id,
            row.name,
            kind,
            int(bool(row.gateway)),
            _state(row) if row.attributes else None,
            self._batch.at,
            places.customers[row.customer] if row.customer else None,
            row.label or "",
            info,
        )

    async def _insert_credentials(self, numbered: Mapping[int, int], first: int) -> set[int]:
        """Insert the credentials of new devices. Those whose are another's are taken back."""
        tx, at = self._tx, self._batch.at
        logins = [(number, self._prepared[index].login) for number, index in numbered.items()]
        rows = [(number, 1, one.kind, one.digest, one.sealed, at) for number, one in logins]
        lost: set[int] = set()
        if await tx.insert_rows("insert_credentials", rows) != len(rows):
            lost = numbered.keys() - {
                row[0] for row in await tx.fetch("credentials_after", first - 1)
            }
        for row in await tx.fetch("credentials_pending_elsewhere", first - 1):
            await tx.fetch("delete_credentials", row[0])
            lost.add(row[0])
        for number in lost:
            await tx.fetch("delete_device", number)
        return lost

    def _settle(self, born: Mapping[int, int], places: Places) -> None:
        """What goes with those that are born."""
        at, peer = self._batch.at, self._batch.actor.peer
        events: list[Event] = []
        for number, index in born.items():
            row = self._prepared[index].row
            self._outcomes[index] = Imported.CREATED
            kind = EventKind.DEVICE_CREATE
            events.append(Event(kind=kind, at=at, peer=peer, subject=row.name, device_id=number))
            if row.attributes:
                self._attributes.update(attribute_rows(number, row, at))
            if row.readings:
                self._readings.update(reading_rows(number, row, at))
            for name in row.groups:
                self._members.add((places.groups[name], number))
        tell(self._tx, events)

    async def _write(self) -> None:
        tx = self._tx
        if self._attributes:
            await tx.insert_rows("insert_attributes", list(self._attributes.values()))
        if self._readings:
            rows = list(self._readings.values())
            await tx.insert_rows("insert_readings", rows)
            await tx.insert_rows("insert_latest", rows)
        if self._members:
            await tx.insert_rows("import_members", list(self._members))
        if self._relabelled and self._searched:
            await tx.fetch("index_again", _json.encode(self._relabelled).decode())


def _state(row: ImportRow) -> str | None:
    """The provision state is an attribute by its looks, and a column."""
    for scope, key, value in row.attributes:
        if key == PROVISION_STATE and scope is AttributeScope.SERVER:
            return state_text(value)
    return None
