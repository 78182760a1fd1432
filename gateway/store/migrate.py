"""Numbered migrations, each applied once, in one transaction."""

from __future__ import annotations

from importlib import resources


def migrations(database: str) -> list[tuple[int, str]]:
    """The scripts for `database` (`sqlite` or `postgres`), by number: `0001_initial.sql` is 1."""
    folder = resources.files(__package__).joinpath("migrations", database)
    return sorted(
        (int(entry.name.split("_")[0]), entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    )
