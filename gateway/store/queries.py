"""Reads `queries.sql`: every statement under its name, and how many values a row takes."""

from __future__ import annotations

import re
from importlib import resources

_NAME = re.compile(r"^-- (\w+)$", re.MULTILINE)
_COLUMNS = re.compile(r"INSERT INTO \w+\s*\(([^)]*)\)")


def read_queries(text: str) -> dict[str, str]:
    """Split the file at its `-- name` lines. Comments of other shapes stay with the statement."""
    parts = _NAME.split(text)
    return {
        name: "\n".join(line for line in body.splitlines() if not line.startswith("--"))
        .strip()
        .rstrip(";")
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def rows_statement(statement: str, rows: int) -> str:
    """A many-row form of an `INSERT … VALUES (*)` statement, with `?` for each value."""
    columns = _COLUMNS.search(statement)
    assert columns is not None, statement
    row = "(" + ",".join("?" * (columns[1].count(",") + 1)) + ")"
    return statement.replace("(*)", ",".join([row] * rows))


QUERIES = read_queries(resources.files(__package__).joinpath("queries.sql").read_text("utf-8"))
