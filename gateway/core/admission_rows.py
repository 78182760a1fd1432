"""Reads entries of allow-lists and deny-lists out of files: one value a line, or a table (CSV).

A table has a header with one or more of `name`, `serial` and `mac`; other columns are passed over.
Of any size in bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

from msgspec import Struct

from gateway.core.admission_entries import Entry, EntryKind, entry_of
from gateway.core.csv_rows import CsvError, Malformed, Row, open_table

_KINDS: Final = {kind.value: kind for kind in EntryKind}
_MOST_LINE_BYTES: Final = 4096
_MOST_HEADER_BYTES: Final = 65_536
_MARK: Final = b"\xef\xbb\xbf"


class GoodRow(Struct, frozen=True):
    """A line, counted from 1, and what it lists: in a table up to one entry of each kind."""

    at: int
    entries: tuple[Entry, ...]


class BadRow(Struct, frozen=True):
    """A line that lists nothing, and why; the sentence repeats nothing of it."""

    at: int
    reason: str


def read_rows(source: BinaryIO, kind: EntryKind = EntryKind.NAME) -> Iterator[GoodRow | BadRow]:
    """The rows of `source`, which can be sought in; empty ones are left out.

    `kind` is what the lines of a file without a header are. UTF-8. Raises `CsvError` for a table
    that cannot be read at all.
    """
    source.seek(0)
    first = source.readline(_MOST_HEADER_BYTES)
    source.seek(0)
    return _table_rows(source) if _is_header(first) else _lines(source, kind)


def _is_header(line: bytes) -> bool:
    """Whether all that is known of it are columns: one word alone is one, too."""
    text = line.removeprefix(_MARK).decode("utf-8", "replace").strip()
    for delimiter in ",;\t|":
        cells = [cell.strip(' "').lower() for cell in text.split(delimiter)]
        if any(cell in _KINDS for cell in cells):
            return True
    return False


def _table_rows(source: BinaryIO) -> Iterator[GoodRow | BadRow]:
    rows = open_table(source).rows
    header = next(rows, None)
    if not isinstance(header, Row):
        raise CsvError(f"its header cannot be read: {header.reason if header else 'it is empty'}")
    columns = [_KINDS.get(title.strip().lower()) for title in header.cells]
    for one in rows:
        if isinstance(one, Malformed):
            yield BadRow(one.at, one.reason)
        elif found := _table_row(one, columns):
            yield found


def _table_row(row: Row, columns: Sequence[EntryKind | None]) -> GoodRow | BadRow | None:
    entries: list[Entry] = []
    for kind, cell in zip(columns, row.cells, strict=False):
        if kind is None or not cell.strip():
            continue
        try:
            entries.append(entry_of(kind, cell))
        except ValueError as exc:
            return BadRow(row.at, str(exc))
    return GoodRow(row.at, tuple(entries)) if entries else None


def _lines(source: BinaryIO, kind: EntryKind) -> Iterator[GoodRow | BadRow]:
    at = 0
    while line := source.readline(_MOST_LINE_BYTES):
        at += 1
        if at == 1:
            line = line.removeprefix(_MARK)
        if len(line) == _MOST_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := source.readline(_MOST_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield BadRow(at, f"the line has more than {_MOST_LINE_BYTES} bytes")
        elif line.strip():
            yield _line(at, line, kind)


def _line(at: int, line: bytes, kind: EntryKind) -> GoodRow | BadRow:
    try:
        return GoodRow(at, (entry_of(kind, line.decode()),))
    except UnicodeDecodeError:
        return BadRow(at, "it is not UTF-8 text; save the file as UTF-8")
    except ValueError as exc:
        return BadRow(at, str(exc))
