"""How far work came, while it is done: a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def advancing(
    what: str, total: int | None, *, least: int = 2_000, wanted: bool = True
) -> Iterator[Callable[[int], None]]:
    """Gives what is to be called with how many more are done.

    No bar for less than `least` in all: that takes too short to look at it. `total` None: nobody
    knows how many.
    """
    if not wanted or not sys.stderr.isatty() or (total is not None and total < least):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda number: progress.advance(task, number)
