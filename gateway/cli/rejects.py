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
_MOST_FILES: Final = 1000
"""Files of rejects beside one table."""
_OF_BYTES: Final = frozenset({"latin-1", "windows-1252"})


def free_path(told: Path | None, default: Path, before: str) -> tuple[Path, bool]:
    """Where rejected rows go, and whether a file that is there is this import's own.

    `told` is --rejects; `before` is where the run that is continued wrote them, or is empty. A file
    of others is never chosen: beside the `default` there are `-2`, `-3`…
    """
    if told is not None:
        own = before == str(told.absolute())
        if not own and os.path.lexists(told):
            raise click.ClickException(_is_there(told))
        return told, own
    if before:
        return Path(before), True
    for number in range(1, _MOST_FILES + 1):
        mark = "" if number == 1 else f"-{number}"
        path = default.with_name(f"{default.stem}{mark}{default.suffix}")
        if not os.path.lexists(path):
            return path, False
    raise click.ClickException(_is_there(default))


def _is_there(path: Path) -> str:
    return (
        f"{path}: there is a file already, which this import did not write. Move it away, or name "
        "another file with --rejects."
    )


class Rejects:
    """Appends to the file, which is made with the first reject; mode 0600, for it has credentials.

    `own`: a file that is there already was written by the same import, its first `keep_bytes` are
    to stay; else none may be there: it is not cut off. Of one
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
        own: bool = False,
        keep_bytes: int = 0,
    ) -> None:
        self.path = path
        self.encoding = encoding if encoding in _OF_BYTES else UTF_8
        self._header = header
        self._delimiter = delimiter
        self._own = own
        self._keep = keep_bytes if own else 0
        self._handle: int | None = None

    def write(self, rejected: Sequence[Rejected], cells: Mapping[int, Sequence[str]]) -> int:
        """Append them, put them on disk, and return how long the file is now."""
        if not rejected:
            return self._keep
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self._delimiter, lineterminator="\r\n")
        first = self._handle is None
        if self._handle is None:
            self._handle = self._open()
            if not self._keep:
                writer.writerow(["row", "reason", *self._header])
        for one in rejected:
            writer.writerow([str(one.number), one.reason, *cells.get(one.number, ())])
        data = text.getvalue().encode(self.encoding, "surrogateescape")
        try:
            if first:
                self._cut(self._handle, data)
            written = 0
            while written < len(data):
                written += os.write(self._handle, data[written:])
            os.fsync(self._handle)
        except FileExistsError:
            raise click.ClickException(_is_there(self.path)) from None
        except OSError as exc:
            raise self._trouble(exc) from None
        self._keep += len(data)
        return self._keep

    def _open(self) -> int:
        try:
            made = os.O_CREAT if self._own else os.O_CREAT | os.O_EXCL
            handle = os.open(self.path, os.O_RDWR | made, 0o600)
            # Before anything of it is cut off: another import may be writing it.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._keep = min(self._keep, os.fstat(handle).st_size)
        except BlockingIOError:
            raise click.ClickException(
                f"{self.path}: another import writes its rejected rows there. Wait for it, or name "
                "another file with --rejects; the same command then goes on where it stopped."
            ) from None
        except FileExistsError:
            raise click.ClickException(_is_there(self.path)) from None
        except OSError as exc:
            raise self._trouble(exc) from None
        return handle

    def _cut(self, handle: int, data: bytes) -> None:
        """Drop what a crash left behind the part to keep.

        Raises `FileExistsError` when nothing is to be kept, and there is more than the beginning of
        `data`: then it is another's.
        """
        if not self._keep and not data.startswith(os.pread(handle, len(data) + 1, 0)):
            raise FileExistsError
        os.fchmod(handle, 0o600)
        os.ftruncate(handle, self._keep)
        os.lseek(handle, 0, os.SEEK_END)

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
