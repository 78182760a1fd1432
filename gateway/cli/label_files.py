"""The files that labels are written to: new ones, that only their owner may read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click


class LabelFiles:
    """Made before codes are stored, filled afterwards; what stays empty is gone at the end.

    One PDF holds all sheets; of SVG there is a file for each: FILE.svg, or FILE-1.svg and so on.
    """

    def __init__(
        self,
        output: Path,
        sheets: int,
        *,
        again: str = "The codes are lost: make room and repeat the command with --replace.",
    ) -> None:
        """`again` is what to do when a file cannot be written."""
        self._again = again
        several = output.suffix.lower() == ".svg" and sheets > 1
        digits = len(str(sheets))
        self._paths = (
            [
                output.with_name(f"{output.stem}-{nth:0{digits}}{output.suffix}")
                for nth in range(1, sheets + 1)
            ]
            if several
            else [output]
        )
        self._handles: dict[Path, int] = {}
        self.full: list[Path] = []

    def __enter__(self) -> LabelFiles:
        for path in self._paths:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                self._handles[path] = os.open(path, flags, 0o600)
            except OSError as exc:
                self.__exit__()
                raise click.ClickException(
                    f"{path}: cannot be made ({exc.strerror}). --output wants a new file in a "
                    "folder you can write to."
                ) from None
        return self

    def write(self, contents: Sequence[bytes]) -> None:
        """A content a file, in their order. The codes in them are stored already."""
        for path, content in zip(self._paths, contents, strict=False):
            try:
                with os.fdopen(os.dup(self._handles[path]), "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as exc:
                raise click.ClickException(
                    f"{path}: cannot be written ({exc.strerror}). {self._again}"
                ) from None
            self.full.append(path)

    def __exit__(self, *_: object) -> None:
        for path, handle in self._handles.items():
            os.close(handle)
            if path not in self.full:
                path.unlink(missing_ok=True)
