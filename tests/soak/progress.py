"""One line that is written over on a terminal; elsewhere one every ten seconds."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_EVERY_S = 10.0


class Progress:
    """Of something that takes `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._bar = Bar(
            BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"), transient=True
        )
        self._task = self._bar.add_task("", total=seconds)
        self._on_terminal = sys.stdout.isatty()
        self._told_at = -_EVERY_S

    def __enter__(self) -> Progress:
        if self._on_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._on_terminal:
            self._bar.stop()

    def tell(self, line: str, passed_s: float) -> None:
        if self._on_terminal:
            self._bar.update(self._task, completed=passed_s, description=line)
        elif passed_s >= self._told_at + _EVERY_S:
            self._told_at = passed_s
            print(f"{passed_s:6.0f} s  {line}", flush=True)
