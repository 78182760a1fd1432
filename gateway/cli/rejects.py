"""The file of rows that were not imported: as they came, each with its number and the reason."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from gateway.core.import_rows import Rejected

UTF_8: Final = "utf-8"
_OF_BYTES: Final = frozenset({"latin-1", "windows-1252"})


class Rejects:
    """Appends to the file, which is made with the first reject; mode 0600, for it has credentials.

    `keep_bytes`: so much of a file that is there already was written by the same import. Of one
    byte a character, it has the `encoding` of the table, so that the same options read it; else
    it is UTF-8.
    """

    def __init__(
        self,
        path: Path,
        header: Sequence[str],
        delimiter: str,
        *,
        encoding: str = UTF_8,
        keep_bytes: int = 0,
    ) -> None:
        self.path = path
        self.encoding = encoding if encoding in _OF_BYTES else UTF_8
        self._header = header
        self._delimiter = delimiter
        self._keep = keep_bytes
        self._handle: int | None = None

    def write(self, rejected: Sequence[Rejected], cells: Mapping[int, Sequence[str]]) -> int:
        """Append them, put them on disk, and return how long the file is now."""
        if not rejected:
            return self._keep
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self._delimiter, lineterminator="\r\n")
        if self._handle is None:
            self._handle = self._open()
            if not self._keep:
                writer.writerow(["row", "reason", *self._header])
        for one in rejected:
            writer.writerow([str(one.number), one.reason, *cells.get(one.number, ())])
        data = text.getvalue().encode(self.encoding, "surrogateescape")
        try:
            written = 0
            while written < len(data):
                written += os.write(self._handle, data[written:])
            os.fsync(self._handle)
        except OSError as exc:
            raise self._trouble(exc) from None
        self._keep += len(data)
        return self._keep

    def _open(self) -> int:
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            # Before anything of it is cut off: another import may be writing it.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(handle, 0o600)
            self._keep = min(self._keep, os.fstat(handle).st_size)
            os.ftruncate(handle, self._keep)
            os.lseek(handle, 0, os.SEEK_END)
        except BlockingIOError:
            raise click.ClickException(
                f"{self.path}: another import writes its rejected rows there. Wait for it, or name "
                "another file with --rejects; the same command then goes on where it stopped."
            ) from None
        except OSError as exc:
            raise self._trouble(exc) from None
        return handle

    def _trouble(self, exc: OSError) -> click.ClickException:
        return click.ClickException(
            f"{self.path}: rejected rows cannot be written there ({exc.strerror}). Name another "
            "file with --rejects; the same command then goes on where it stopped."
        )

    @property
    def exists(self) -> bool:
        """Whether there is anything in it."""
        return self._keep > 0

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
