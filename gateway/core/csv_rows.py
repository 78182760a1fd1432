"""Reads tables of text: which encoding, which delimiter, and row after row what is in them.

Of any size in bounded memory. A row that cannot be read is given as such, with its number, and the
next one is read. Quoting is RFC 4180's; delimiters are those that programs write.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final, TextIO

from msgspec import Struct

MOST_CELL_CHARACTERS: Final = 131_072
"""Attributes may be JSON, certificates are some thousands; more is a quote that never ends."""
MOST_LINE_CHARACTERS: Final = 4_194_304
MOST_COLUMNS: Final = 2_000
DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_HEAD_BYTES: Final = 65_536
_SAMPLE_ROWS: Final = 20
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UTF32: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class CsvError(Exception):
    """The whole file cannot be read. The message is a sentence for a person."""


class Malformed(Struct, frozen=True):
    """A row that cannot be read, and why. `at` is its number, counted from 1, header included.

    `unread`: so many lines after it were taken for its content. Each is counted as a row, which it
    is when the quotation mark is closed.
    """

    at: int
    reason: str
    unread: int = 0


class Row(Struct, frozen=True):
    """A row: its number, counted from 1, header and empty ones included, and its cells."""

    at: int
    cells: list[str]


class Table(Struct):
    """A table that is being read. `encoding` and `delimiter` are as found, or as told."""

    encoding: str
    delimiter: str
    rows: Iterator[Row | Malformed]


def open_table(
    source: BinaryIO, *, encoding: str | None = None, delimiter: str | None = None
) -> Table:
    """A table out of `source`, which is read as rows are asked for.

    Without `encoding` it is UTF-8, or what a byte order mark says; Latin-1 is never guessed, for
    any bytes at all are Latin-1. Bytes that are no UTF-8 become lone surrogates, for the reader of
    a row to refuse. Raises `CsvError`; so do the rows, where text of another encoding breaks.
    """
    head = _peek(source)
    chosen = encoding or _encoding_of(head)
    # A decoder that cannot give back what it did not understand stops there.
    errors = "surrogateescape" if codecs.lookup(chosen).name.startswith("utf-8") else "strict"
    raw = io.BufferedReader(_Joined(head, source), _HEAD_BYTES)
    text = io.TextIOWrapper(raw, encoding=chosen, errors=errors, newline="")
    sample = _sample(head, chosen)
    found = delimiter or _delimiter_of(sample)
    return Table(chosen, found, _Rows(text, found))


def _peek(source: BinaryIO) -> bytes:
    """The first bytes. A pipe may give them in pieces."""
    pieces: list[bytes] = []
    missing = _HEAD_BYTES
    while missing and (piece := source.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


class _Joined(io.RawIOBase):
    """What was read ahead, and then the rest."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._head.read(len(buffer)) or self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _encoding_of(head: bytes) -> str:
    if head.startswith(_UTF32):
        raise CsvError("it is UTF-32, which is not read; save it as UTF-8")
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    if head[:200].count(0) > len(head[:200]) // 3:
        raise CsvError(
            "it looks like UTF-16 without a byte order mark; say so with --encoding utf-16-le"
        )
    return "utf-8"


def _sample(head: bytes, encoding: str) -> str:
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    # The last line may be cut off.
    whole, cut, _ = text.rpartition("\n")
    return whole if cut else text


def _delimiter_of(sample: str) -> str:
    """The delimiter that divides the first rows into most columns, all of them into as many."""

    def score(delimiter: str) -> tuple[int, int]:
        widths = [len(one.cells) for one in _sampled(sample, delimiter)]
        if not widths or widths[0] < 2:
            return 0, 0
        return widths.count(widths[0]) * 100 // len(widths), widths[0]

    best = max(DELIMITERS, key=score)
    return best if score(best) > (0, 0) else ","


def _sampled(sample: str, delimiter: str) -> Iterator[Row]:
    rows = _Rows(io.StringIO(sample, newline=""), delimiter)
    return (one for one in itertools.islice(rows, _SAMPLE_ROWS) if isinstance(one, Row))


class _TooLong(Exception):
    """A line of more than `MOST_LINE_CHARACTERS`."""


class _Lines:
    """Lines of bounded length: of a longer one nothing is kept."""

    def __init__(self, text: TextIO) -> None:
        self._read = text.readline

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._read(MOST_LINE_CHARACTERS)
        if not line:
            raise StopIteration
        if len(line) == MOST_LINE_CHARACTERS and line[-1] not in "\r\n":
            while (rest := self._read(MOST_LINE_CHARACTERS)) and rest[-1] not in "\r\n":
                pass
            raise _TooLong
        return line


class _Rows:
    """Rows of a text, in their order; empty ones are counted and left out."""

    def __init__(self, text: TextIO, delimiter: str) -> None:
        # One limit for the process: the library knows no other.
        csv.field_size_limit(MOST_CELL_CHARACTERS)
        lines: Iterable[str] = _Lines(text)
        self._reader = csv.reader(lines, delimiter=delimiter, strict=True)
        self._at = 0

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> Row | Malformed:
        while True:
            self._at += 1
            before = self._reader.line_num
            try:
                cells = next(self._reader)
            except (csv.Error, _TooLong) as exc:
                return self._malformed(exc, self._reader.line_num - before)
            except UnicodeError:
                raise CsvError(
                    f"after row {self._at - 1} comes something that is no text in this encoding; "
                    "name the right one with --encoding"
                ) from None
            if len(cells) > MOST_COLUMNS:
                return Malformed(self._at, f"it has more than {MOST_COLUMNS} cells")
            if cells:
                return Row(self._at, cells)

    def _malformed(self, exc: Exception, lines: int) -> Malformed:
        """After so many `lines`, without the one that was too long."""
        at, unread = self._at, lines if isinstance(exc, _TooLong) else lines - 1
        if unread < 1:
            return Malformed(at, _why(exc))
        self._at += unread
        rows = f"rows {at + 1} to {self._at} were" if unread > 1 else f"row {self._at} was"
        return Malformed(
            at,
            f"{_why(exc)}; {rows} taken for its content, and not read. Mend the quotation marks of "
            f"row {at} in the file itself, and import that again",
            unread,
        )


def _why(exc: Exception) -> str:
    """What csv says, in our words; it never repeats a cell."""
    told = str(exc)
    if isinstance(exc, _TooLong):
        return f"its line has more than {MOST_LINE_CHARACTERS} characters"
    if "larger than field limit" in told:
        return (
            f"a cell has more than {MOST_CELL_CHARACTERS} characters; perhaps a quotation mark is "
            "never closed"
        )
    if "unexpected end of data" in told:
        return "a quotation mark is never closed, up to the end of the file"
    return "a closing quotation mark is not followed by a delimiter"
