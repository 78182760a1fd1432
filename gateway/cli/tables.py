"""Tables and fields on a terminal. What strangers wrote is shown without control characters."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from gateway.core.model import Json, Secret, Value
from gateway.toml_lines import plain

if TYPE_CHECKING:
    from rich.console import Console

MASK = "********"
_WIDTH_OF_A_PIPE = 240
"""Columns when nobody looks: wide enough that no cell is folded."""
_MOST_IN_A_CELL = 400


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output, one line per row where it fits."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles, box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(plain(cell, _MOST_IN_A_CELL), overflow="fold") for cell in row))
    console().print(table)


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line; values may be as long as they are."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        click.echo(f"{name:<{width}}  {plain(value, len(value) + 1)}".rstrip())


def console() -> Console:
    """Standard output for rich, as wide as the terminal."""
    from rich.console import Console

    wide = None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE
    return Console(file=sys.stdout, width=wide, highlight=False, emoji=False)


def when(at: int) -> str:
    """Milliseconds since the epoch as a date and time, UTC."""
    try:
        return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"
    except (OverflowError, ValueError, OSError):
        return f"{at} ms"


def when_exactly(at: int) -> str:
    """The same, to the millisecond."""
    text = when(at)
    return f"{text[:-1]}.{at % 1000:03d}Z" if text.endswith("Z") else text


def value_text(value: Value) -> str:
    """A reading's value as JSON writes it, text without its quotes."""
    match value:
        case bool():
            return "true" if value else "false"
        case Json(text):
            return text
        case _:
            return str(value)


def masked(secret: Secret, *, reveal: bool, head: int = 0) -> str:
    """A secret, or what may be shown of it: its first `head` characters, if it has many more."""
    text = secret.reveal()
    if reveal or not text:
        return text
    return f"{text[:head]}…" if head and len(text) >= 2 * head else MASK
