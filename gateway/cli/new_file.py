"""Files for what is given once, such as credentials: made before it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import click


class NewFile:
    """A file that is made first and filled at last; gone again when there is nothing to keep."""

    def __init__(self, path: Path | None, option: str) -> None:
        """`option` is how the command line named `path`; without a path nothing is kept."""
        self._path = path
        self._option = option
        self._handle: int | None = None
        self._full = False

    def __enter__(self) -> NewFile:
        if self._path is not None:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                self._handle = os.open(self._path, flags, 0o600)
            except OSError as exc:
                raise click.ClickException(
                    f"{self._path}: cannot be made ({exc.strerror}). {self._option} wants a new "
                    "file in a folder you can write to."
                ) from None
        return self

    def write(self, text: str) -> None:
        """Keep the text. A failure is told, not raised: what was given must still be printed."""
        if self._handle is None:
            return
        try:
            os.write(self._handle, text.encode() + b"\n")
            os.fsync(self._handle)
            self._full = True
        except OSError as exc:
            click.echo(f"{self._path}: cannot be written ({exc.strerror})", err=True)

    def __exit__(self, *_: object) -> None:
        if self._handle is not None and self._path is not None:
            os.close(self._handle)
            if not self._full:
                self._path.unlink()
