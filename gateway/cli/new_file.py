"""Files for what is given once, such as credentials: made before it is asked for.

And files that others read while they are replaced, such as certificates: whole or not at all.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

import click


class NewFile:
    """A file that is made first and filled at last; gone again when there is nothing to keep."""

    def __init__(self, path: Path | None, option: str, *, mode: int = 0o600) -> None:
        """`option` is how the command line named `path`; without a path nothing is kept."""
        self._path = path
        self._mode = mode
        self._option = option
        self._handle: int | None = None
        self._full = False

    def __enter__(self) -> NewFile:
        if self._path is not None:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                self._handle = os.open(self._path, flags, self._mode)
            except OSError as exc:
                raise click.ClickException(
                    f"{self._path}: cannot be made ({exc.strerror}). {self._option} wants a new "
                    "file in a folder you can write to."
                ) from None
        return self

    def write(self, text: str) -> bool:
        """Keep the text. A failure is told, not raised: what was given must still be printed."""
        if self._handle is None:
            return False
        try:
            os.write(self._handle, text.encode() + b"\n")
            os.fsync(self._handle)
            self._full = True
        except OSError as exc:
            click.echo(f"{self._path}: cannot be written ({exc.strerror})", err=True)
        return self._full

    def forget(self) -> None:
        """What was written is of no use after all: the file goes at the end."""
        self._full = False

    def __exit__(self, *_: object) -> None:
        if self._handle is not None and self._path is not None:
            os.close(self._handle)
            if not self._full:
                self._path.unlink()


def put_file(path: Path, content: bytes, *, mode: int) -> None:
    """Make or replace a file: it is whole and on disk before it has its name.

    Raises `OSError`; what was there before then still is.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        try:
            os.fchmod(handle, mode)  # whatever the umask says
            os.write(handle, content)
            os.fsync(handle)
        finally:
            os.close(handle)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    _settle(path.parent)


def _settle(folder: Path) -> None:
    """Put a folder's names on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
