"""Labels drawn on sheets, with a bar where somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.labels import Label, Sheet, pages, pdf, qr_matrix, svg


def draw_codes(labels: Sequence[Label]) -> None:
    """The QR codes, which take longest, with a bar where somebody looks. Raises `LabelTrouble`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("drawing", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    shown_to = console.is_terminal and len(labels) > 1
    with Progress(*columns, console=console, transient=True, disable=not shown_to) as bar:
        for label in bar.track(labels):
            qr_matrix(label.content)


def draw(labels: Sequence[Label], sheet: Sheet, kind: str, font: Path | None) -> list[bytes]:
    """The files' contents, of a `kind` `.svg` or `.pdf`. Raises `LabelTrouble`."""
    sheets = pages(labels, sheet)
    if kind == ".svg":
        return [svg(placed, sheet).encode() for placed in sheets]
    return [pdf(sheets, sheet, font=font)]
