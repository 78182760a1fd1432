"""`POST /api/device/bulk_import`: a table of devices in one request (contract, section 17.4)."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from msgspec import Struct

from gateway.core.csv_rows import CsvError, Malformed, Row, open_table
from gateway.core.errors import Overloaded
from gateway.core.import_rows import (
    KEYED,
    MOST_KEY_CHARACTERS,
    Column,
    ColumnKind,
    ImportRow,
    Rejected,
    RowReader,
)
from gateway.core.importing import Imported, Importer
from gateway.core.model import Actor, Permission
from gateway.core.names import is_plain
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import Desk, bad_request, body_of, json_reply
from gateway.dialects.thingsboard.payloads import strip_pem
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Answer, Operation
from gateway.wire.route import Route

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
_BATCH: Final = 250
"""Rows in one transaction, which others wait for: some hundredths of a second."""
_MOST_ERRORS: Final = 10_000
"""Told one by one; all are counted."""
_MOST_COLUMNS: Final = 2_000

_FOREIGN: Final = ("LWM2M_", "SNMP_")
_KINDS: Final = {kind.value: kind for kind in ColumnKind if kind.value != "UNSUPPORTED"}
"""ThingsBoard's names, and ours for what it has no column for."""


class ColumnMapping(Struct, rename="camel"):
    """What a column holds; `key` names the attribute or the time series."""

    type: str
    key: str | None = None


class TableMapping(Struct, rename="camel"):
    """How the table is read. `update` False leaves data of devices that exist alone."""

    columns: list[ColumnMapping]
    delimiter: str = ","
    header: bool = True
    update: bool = True


class BulkImportRequest(Struct, rename="camel"):
    """A table, as text, and what its columns mean."""

    file: str
    mapping: TableMapping


class BulkImportResult(Struct, rename="camel"):
    """How many rows came to which end; an error reads `Line <n>: <cause>`."""

    created: int = 0
    updated: int = 0
    errors: int = 0
    errors_list: list[str] = []


_OPERATION: Final = Operation(
    summary="Create and update devices from a table",
    tag="Devices",
    about="Rows are decided one by one: an error of one leaves the others as they are. A device "
    "that exists is found by its name and updated; empty cells are skipped.",
    body=BulkImportRequest,
    body_example={
        "file": "NAME,TYPE,DATA\ndev1,sensor,42\n",
        "mapping": {
            "columns": [
                {"type": "NAME"},
                {"type": "TYPE"},
                {"type": "SERVER_ATTRIBUTE", "key": "DATA"},
            ],
            "delimiter": ",",
            "header": True,
            "update": True,
        },
    },
    answers={
        **answers("what became of the rows", BulkImportResult, 400, 401, 403),
        413: Answer("the body is larger than it may be", str),
    },
)


class BulkImportRoutes:
    """The route. `most_at_once` bounds the tables that are imported side by side."""

    def __init__(
        self, importer: Importer, *, max_body_bytes: int = MAX_BODY_BYTES, most_at_once: int = 4
    ) -> None:
        self._importer = importer
        self._max_body_bytes = max_body_bytes
        self._most_at_once = most_at_once
        self._under_way = 0

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        return (
            desk.route(
                "device.bulk_import",
                "POST /api/device/bulk_import",
                self._import,
                needs=(Permission.ORG_DEVICES_CREATE,),
                operation=_OPERATION,
                max_body_bytes=self._max_body_bytes,
                patient=True,
            ),
        )

    async def _import(self, call: Call, actor: Actor) -> Reply:
        if self._under_way >= self._most_at_once:
            raise Overloaded("as many tables as may be are being imported")
        self._under_way += 1
        try:
            return await self._import_table(body_of(call, BulkImportRequest), actor)
        finally:
            self._under_way -= 1

    async def _import_table(self, asked: BulkImportRequest, actor: Actor) -> Reply:
        mapping = asked.mapping
        reader = RowReader(_columns(mapping), certificate_text=strip_pem)
        rows = _rows(asked)
        if mapping.header:
            next(rows, None)
        result = BulkImportResult(errors_list=[])
        try:
            while some := _some(rows, reader):
                await self._batch(some, actor, mapping.update, result)
        except CsvError as exc:
            raise bad_request(str(exc)) from None
        return json_reply(result)

    async def _batch(
        self,
        some: list[ImportRow | Rejected],
        actor: Actor,
        update: bool,
        result: BulkImportResult,
    ) -> None:
        good = [one for one in some if isinstance(one, ImportRow)]
        outcomes = await self._importer.import_rows(actor, good, update=update)
        refused = [one for one in some if isinstance(one, Rejected)]
        refused += [one for one in outcomes if isinstance(one, Rejected)]
        created = outcomes.count(Imported.CREATED)
        result.created += created
        result.updated += len(some) - len(refused) - created
        result.errors += len(refused)
        room = _MOST_ERRORS - len(result.errors_list)
        for one in sorted(refused, key=attrgetter("number"))[:room]:
            result.errors_list.append(f"Line {one.number}: {one.reason}")


def _rows(asked: BulkImportRequest) -> Iterator[Row | Malformed]:
    delimiter = asked.mapping.delimiter
    if len(delimiter) != 1 or delimiter in '"\r\n\0 ' or not delimiter.isascii():
        raise bad_request("delimiter must be one character, like , or ;")
    data = asked.file.removeprefix("\ufeff").encode("utf-8", "surrogatepass")
    return open_table(io.BytesIO(data), encoding="utf-8", delimiter=delimiter).rows


def _some(rows: Iterator[Row | Malformed], reader: RowReader) -> list[ImportRow | Rejected]:
    """The rows of a batch; none at the end. Cells without a column are left out."""
    found: list[ImportRow | Rejected] = []
    for one in itertools.islice(rows, _BATCH):
        if isinstance(one, Malformed):
            found.append(Rejected(one.at, one.reason))
        else:
            found.append(reader.read(one.at, one.cells))
    return found


def _columns(mapping: TableMapping) -> list[Column]:
    """The columns. Raises `Trouble` (400)."""
    if not 0 < len(mapping.columns) <= _MOST_COLUMNS:
        raise bad_request(f"mapping must have 1 to {_MOST_COLUMNS} columns")
    columns = [_column(one) for one in mapping.columns]
    if not any(one.kind is ColumnKind.NAME for one in columns):
        raise bad_request("mapping must have a column of type NAME")
    return columns


def _column(told: ColumnMapping) -> Column:
    if told.type.startswith(_FOREIGN):
        return Column(ColumnKind.UNSUPPORTED)
    kind = _KINDS.get(told.type)
    if kind is None:
        raise bad_request(f"column type must be one of {', '.join(_KINDS)}")
    if kind not in KEYED:
        return Column(kind)
    key = told.key or ""
    if not 0 < len(key) <= MOST_KEY_CHARACTERS or not is_plain(key):
        raise bad_request(f"a column of type {kind.value} must have a key")
    return Column(kind, key)
