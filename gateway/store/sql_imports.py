"""The half of the store that importing and exporting need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.core.exporting import ExportedDevice, ExportQuery
from gateway.core.import_rows import ImportRow, Rejected
from gateway.core.importing import ImportBatch, ImportJob, RowOutcome, Tally
from gateway.core.model import (
    AccessToken,
    Actor,
    AttributeScope,
    DeviceCredentials,
    Event,
    EventKind,
)
from gateway.store.credentials import credentials_from_bytes
from gateway.store.driver import Row, Transaction
from gateway.store.events import tell
from gateway.store.identity import uuid7
from gateway.store.imports import ImportRows, Prepared, Rehearsed
from gateway.store.logins import kept_login
from gateway.store.presence import NODE_LIVES_MS
from gateway.store.sql_store import SqlStore
from gateway.store.values import from_columns
from gateway.store.writer import SingleDecision

_json = msgspec.json.Encoder()


class _Kept(Tally):
    """What is kept of a job as one text."""

    rejects_path: str = ""


_kept = msgspec.json.Decoder(_Kept)
_pending = msgspec.json.Decoder(tuple[Rejected, ...])
_info = msgspec.json.Decoder(dict[str, Any])

_MOST_JOBS = 100
"""Jobs that are remembered, the newest."""


class SqlImports:
    """Implements `core.importing.ImportStore` and `core.exporting.ExportStore`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    # ── importing ───────────────────────────────────────────────────────────────────────────

    async def import_rows(self, batch: ImportBatch) -> list[RowOutcome]:
        try:
            return await self._store.writer.submit(self._decision(batch))
        except Rehearsed as rehearsed:
            return rehearsed.outcomes

    def _decision(self, batch: ImportBatch) -> ImportRows:
        searched = self._store.driver.database == "sqlite"
        return ImportRows(batch, self._store.vault, searched=searched)

    def prepare(self, rows: Sequence[ImportRow], at: int) -> list[Prepared]:
        vault = self._store.vault
        prepared = []
        for row in rows:
            credentials = row.credentials
            if credentials is None:
                assert row.spare is not None, "a row without credentials has a spare token"
                credentials = AccessToken(row.spare)
            prepared.append(Prepared(row, uuid7(at), kept_login(vault, credentials)))
        return prepared

    async def has_neighbours(self, at: int) -> bool:
        driver = self._store.driver
        if driver.database != "sqlite":
            return False  # there a lock is had in the order of asking
        return await driver.point("import_neighbour", at - NODE_LIVES_MS) is not None

    async def begin_import(
        self, actor: Actor, fingerprint: bytes, source: str, at: int, *, anew: bool
    ) -> ImportJob:
        await self._store.driver.expect_many()
        return await self._store.writer.submit(_Begin(actor, fingerprint, source, at, anew=anew))

    async def end_import(self, actor: Actor, job: ImportJob, at: int) -> None:
        await self._store.writer.submit(_End(actor, job, at))

    # ── exporting ───────────────────────────────────────────────────────────────────────────

    async def attribute_keys(self, limit: int) -> list[tuple[AttributeScope, str]]:
        rows = await self._store.driver.rows("export_keys", limit)
        return [(AttributeScope(scope), key) for scope, key in rows]

    async def exported(
        self, actor: Actor, query: ExportQuery, after_id: int, limit: int
    ) -> list[ExportedDevice]:
        rows = await self._store.driver.rows(
            "export_devices",
            after_id,
            limit,
            actor.organisation.path,
            query.profile,
            query.customer,
            query.group,
        )
        found = {row[0]: self._exported(row, query) for row in rows}
        if found:
            await self._add_details(found, query)
        return list(found.values())

    def _exported(self, row: Row, query: ExportQuery) -> ExportedDevice:
        number, name, profile, label, info, gateway, state, customer, kind, digest, sealed = row
        credentials: DeviceCredentials | None = None
        if query.credentials:
            clear = self._store.vault.open(sealed, digest)
            credentials = credentials_from_bytes(kind, clear)
        description = _info.decode(info).get("description", "") if info != "{}" else ""
        return ExportedDevice(
            id=number,
            name=name,
            type=profile,
            label=label,
            description=description if isinstance(description, str) else "",
            gateway=bool(gateway),
            provision_state=state or "",
            customer=customer or "",
            credentials=credentials,
        )

    async def _add_details(self, found: dict[int, ExportedDevice], query: ExportQuery) -> None:
        listed = _json.encode(list(found)).decode()
        driver = self._store.driver
        for device_id, group in await driver.rows("export_groups", listed):
            found[device_id].groups.append(group)
        if query.attributes:
            for device_id, scope, key, *columns in await driver.rows("export_attributes", listed):
                place = (AttributeScope(scope), key)
                found[device_id].attributes[place] = from_columns(*columns)

    async def record_export(self, actor: Actor, event: Event) -> None:
        await self._store.record(event)


def _event(actor: Actor, at: int, source: str, detail: dict[str, str]) -> Event:
    return Event(
        kind=EventKind.DEVICE_IMPORT, at=at, peer=actor.peer, subject=source, detail=detail
    )


class _Begin(SingleDecision[ImportJob]):
    """Finds the job that was left, or begins one."""

    __slots__ = ("actor", "anew", "at", "fingerprint", "source")

    def __init__(
        self, actor: Actor, fingerprint: bytes, source: str, at: int, *, anew: bool
    ) -> None:
        self.actor = actor
        self.fingerprint = fingerprint
        self.source = source
        self.at = at
        self.anew = anew

    async def decide(self, tx: Transaction) -> ImportJob:
        found = await tx.fetch("import_job", self.fingerprint)
        if found and not self.anew:
            job = _job(found[0])
            detail = {"continues after row": str(job.position)}
            tell(tx, [_event(self.actor, self.at, self.source, detail)])
            return job
        number = (await tx.fetch("next_ids", "import", 1))[0][0]
        await tx.fetch("import_begin", number, self.fingerprint, self.source, self.at)
        await tx.fetch("import_forget", number - _MOST_JOBS)
        tell(tx, [_event(self.actor, self.at, self.source, {"step": "begin"})])
        return ImportJob(number, self.source, tally=Tally())


def _job(row: Sequence[Any]) -> ImportJob:
    number, source, position, text, rejects_bytes, pending = row
    kept = _kept.decode(text)
    tally = Tally(kept.created, kept.updated, kept.unchanged, kept.rejected)
    rejected = _pending.decode(pending)
    return ImportJob(number, source, position, tally, rejects_bytes, rejected, kept.rejects_path)


class _End(SingleDecision[None]):
    """The whole file is done."""

    __slots__ = ("actor", "at", "job")

    def __init__(self, actor: Actor, job: ImportJob, at: int) -> None:
        self.actor = actor
        self.job = job
        self.at = at

    async def decide(self, tx: Transaction) -> None:
        if not await tx.fetch("import_end", self.job.id, self.at):
            return
        tally = self.job.tally
        detail = {"step": "end"} | {
            name: str(getattr(tally, name)) for name in Tally.__struct_fields__
        }
        tell(tx, [_event(self.actor, self.at, self.job.source, detail)])
