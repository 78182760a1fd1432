"""How far a migration came, in a file beside the store."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from msgspec import Struct

from gateway.cli.new_file import put_file


class _State(Struct):
    source: str
    pages: int


class FileJournal:
    """Implements `gateway.migration.Journal`. The file holds no secret, and goes at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, source: str) -> int:
        """The page to begin with: of another source, or without a readable file, the first."""
        try:
            state = msgspec.json.decode(self._path.read_bytes(), type=_State)
        except (OSError, msgspec.DecodeError):
            return 0
        if state.source != source or state.pages <= 0:
            return 0
        # Devices removed there since then move the others up: a page is read once more.
        return state.pages - 1

    def done(self, source: str, page: int) -> None:
        try:
            put_file(self._path, msgspec.json.encode(_State(source, page + 1)), mode=0o600)
        except OSError as exc:
            raise click.ClickException(
                f"{self._path}: cannot be written ({exc.strerror}); make room, and repeat."
            ) from None

    def finish(self) -> None:
        self._path.unlink(missing_ok=True)
