"""Reads the statements: every statement under its name, and how many values a row takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources

import msgspec

_NAME = re.compile(r"^-- (\w+)$", re.MULTILINE)
_COLUMNS = re.compile(r"INSERT INTO \w+\s*\(([^)]*)\)")
_PLACE = re.compile(r"\?(\d+)")
_LIST = re.compile(r"\b(numbers|texts|digests)\(\?(\d+)\)")
_json = msgspec.json.Encoder()
_POSTGRES = "queries.postgres.sql"


def read_queries(text: str) -> dict[str, str]:
    """Split the file at its `-- name` lines. Comments of other shapes stay with the statement."""
    parts = _NAME.split(text)
    return {
        name: "\n".join(line for line in body.splitlines() if not line.startswith("--"))
        .strip()
        .rstrip(";")
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def columns_of(statement: str) -> int:
    """How many values a row of an `INSERT … VALUES (*)` statement takes."""
    columns = _COLUMNS.search(statement)
    assert columns is not None, statement
    return columns[1].count(",") + 1


def rows_statement(statement: str, rows: int) -> str:
    """A many-row form of an `INSERT … VALUES (*)` statement, with `?` for each value."""
    row = "(" + ",".join("?" * columns_of(statement)) + ")"
    return statement.replace("(*)", ",".join([row] * rows))


def _read(name: str) -> dict[str, str]:
    return read_queries(resources.files(__package__).joinpath(name).read_text("utf-8"))


def listed(values: Sequence[int] | Sequence[str]) -> str:
    """As `numbers(?1)` or `texts(?1)` reads them."""
    return _json.encode(values).decode()


def sqlite_words(statement: str) -> str:
    """A statement with its lists, which are given as JSON, as SQLite reads them."""
    return _LIST.sub(_sqlite_list, statement)


def _sqlite_list(found: re.Match[str]) -> str:
    value = f"?{found[2]}"
    if found[1] != "digests":
        return f"(SELECT value FROM json_each({value}))"  # noqa: S608 - our own words
    return (
        "(WITH RECURSIVE digest_at(at) AS (SELECT 1 UNION ALL SELECT at + 32 FROM digest_at "  # noqa: S608 - our own words
        f"WHERE at + 32 <= length({value})) SELECT substr({value}, at, 32) FROM digest_at)"
    )


def postgres_words(statement: str) -> str:
    """A statement with its lists as PostgreSQL reads them, and `$1` for `?1`."""
    return _PLACE.sub(r"$\1", _LIST.sub(_postgres_list, statement))


def _postgres_list(found: re.Match[str]) -> str:
    if found[1] == "digests":
        whole = f"CAST(?{found[2]} AS bytea)"
        return (
            f"(SELECT substring({whole} FROM at FOR 32) "  # noqa: S608 - our own words
            f"FROM generate_series(1, length({whole}), 32) AS at)"
        )
    value = "CAST(value AS bigint)" if found[1] == "numbers" else "value"
    return f"(SELECT {value} FROM json_array_elements_text(?{found[2]}) AS listed (value))"  # noqa: S608 - our own words


def postgres_queries() -> dict[str, str]:
    """All statements in PostgreSQL's words."""
    ours = _STATEMENTS | _read(_POSTGRES)
    return {name: postgres_words(statement) for name, statement in ours.items()}


def _read_all() -> dict[str, str]:
    """The statements of `queries*.sql`, but for PostgreSQL's own words."""
    names = {one.name for one in resources.files(__package__).iterdir()}
    files = (one for one in sorted(names) if one.startswith("queries") and one.endswith(".sql"))
    found: dict[str, str] = {}
    for name in files:
        if name != _POSTGRES:
            statements = _read(name)
            twice = statements.keys() & found
            assert not twice, f"{name}: {sorted(twice)} stand in another file too"
            found |= statements
    return found


_STATEMENTS = _read_all()
QUERIES = {name: sqlite_words(statement) for name, statement in _STATEMENTS.items()}
"""All statements in SQLite's words."""
