"""Sheets of labels, drawn: a QR code, a name and a code on each, as SVG and as PDF.

All lengths are millimetres. Where everything lies is decided once (`place`), and drawn twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from msgspec import Struct

if TYPE_CHECKING:
    from fpdf import FPDF

QUIET: Final = 4
"""Modules of white around a QR code (ISO/IEC 18004)."""
LEAST_MODULE: Final = 0.25
"""Below it telephones no longer read what ordinary printers print."""
_PAD: Final = 1.5
_LEADING: Final = 1.2
_NAME_SIZES: Final = (4.2, 3.8, 3.4, 3.0, 2.6, 2.3, 2.0, 1.8)
_CODE_SIZE: Final = 4.6
_NOTE_SIZE: Final = 2.4
_DOTS = "..."
_NARROW = frozenset("iljtfI.,:;|!'()[]/ ")
_POINTS = 72 / 25.4
_FONTS = (b"\0\1\0\0", b"OTTO", b"true", b"ttcf")
"""How a file of a font begins."""

PAPER: Final = {
    "A4": (210.0, 297.0),
    "A5": (148.0, 210.0),
    "A6": (105.0, 148.0),
    "LETTER": (215.9, 279.4),
}


class LabelTrouble(Exception):
    """The labels cannot be drawn like this; the message says what to change."""


class Label(Struct, frozen=True, kw_only=True):
    """`content` is what the QR code says; the others are printed, `note` small."""

    name: str
    code: str
    content: str
    note: str = ""

    def __repr__(self) -> str:
        return "Label(***)"


class Sheet(Struct, frozen=True, kw_only=True):
    """A sheet of paper, and how labels lie on it. `frame`: a line around each, to cut along."""

    width: float
    height: float
    columns: int
    rows: int
    margin: float = 8.0
    gap: float = 2.0
    frame: bool = False

    @property
    def per_page(self) -> int:
        return self.columns * self.rows

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of a label. Raises `LabelTrouble` when nothing is left for it."""
        width = (self.width - 2 * self.margin - (self.columns - 1) * self.gap) / self.columns
        height = (self.height - 2 * self.margin - (self.rows - 1) * self.gap) / self.rows
        if width < 2 * _PAD + 1 or height < 2 * _PAD + 1:
            raise LabelTrouble(
                "no room is left for the labels: take fewer columns or rows, or a smaller margin."
            )
        return width, height

    def corner(self, nth: int) -> tuple[float, float]:
        """Where the `nth` label of a page begins, row by row."""
        width, height = self.cell
        row, column = divmod(nth, self.columns)
        return (
            self.margin + column * (width + self.gap),
            self.margin + row * (height + self.gap),
        )


class Line(Struct, frozen=True):
    """One line of text; (`x`, `y`) is the left end of its base line."""

    x: float
    y: float
    size: float
    text: str
    bold: bool = False


class Placed(Struct, frozen=True):
    """A label where it is drawn. `dark` are the dark modules in runs: x, y, width; each is
    `module` high."""

    frame: tuple[float, float, float, float]
    module: float
    dark: list[tuple[float, float, float]]
    lines: list[Line]


def pages(labels: Sequence[Label], sheet: Sheet) -> Iterator[list[Placed]]:
    """Sheet by sheet. Raises `LabelTrouble`."""
    for begin in range(0, len(labels), sheet.per_page):
        some = labels[begin : begin + sheet.per_page]
        yield [place(label, sheet, nth) for nth, label in enumerate(some)]


# ── where things lie ──────────────────────────────────────────────────────────────────────────


def place(label: Label, sheet: Sheet, nth: int) -> Placed:
    """The `nth` label of a page. A wide one has its text beside the QR code, else below it."""
    width, height = sheet.cell
    left, top = sheet.corner(nth)
    inner_width, inner_height = width - 2 * _PAD, height - 2 * _PAD
    wide = width >= 1.4 * height
    side = min(inner_height, inner_width * 0.5) if wide else min(inner_width, inner_height * 0.64)
    x, y = left + _PAD, top + _PAD
    if wide:
        text_x, text_y = x + side + _PAD, y
        room = (inner_width - side - _PAD, inner_height)
    else:
        text_x, text_y = x, y + side
        room = (inner_width, inner_height - side)
        x += (inner_width - side) / 2
    module, dark = _modules(label.content, x, y, side)
    lines = _lines(label, text_x, text_y, *room)
    return Placed((left, top, width, height), module, dark, lines)


def _modules(
    content: str, x: float, y: float, side: float
) -> tuple[float, list[tuple[float, float, float]]]:
    matrix = qr_matrix(content)
    module = side / (len(matrix) + 2 * QUIET)
    if module < LEAST_MODULE:
        raise LabelTrouble(
            f"a QR code of {len(matrix)} modules would be too fine to be read on these labels: "
            "take fewer columns or rows, a larger sheet, or a shorter --url-template."
        )
    begin_x, begin_y = x + QUIET * module, y + QUIET * module
    runs = (
        (begin_x + start * module, begin_y + row * module, length * module)
        for row, modules in enumerate(matrix)
        for start, length in _runs(modules)
    )
    return module, list(runs)


@lru_cache(maxsize=8192)
def qr_matrix(content: str) -> tuple[bytearray, ...]:
    """The modules of a QR code, row by row; 1 is dark. Raises `LabelTrouble`.

    Kept: each takes some 10 ms, and sheets are drawn again when a label of them is left out.
    """
    import segno

    try:
        code = segno.make_qr(content, error="m", encoding="utf-8", eci=False)
    except segno.DataOverflowError:
        raise LabelTrouble(
            "a QR code does not hold so much: take a shorter --url-template, or shorter names."
        ) from None
    matrix: tuple[bytearray, ...] = code.matrix
    return matrix


def _runs(modules: bytearray) -> Iterator[tuple[int, int]]:
    """Where dark modules begin, and how many stand beside one another."""
    start = None
    for at, dark in enumerate((*modules, 0)):
        if dark and start is None:
            start = at
        elif not dark and start is not None:
            yield start, at - start
            start = None


def _lines(label: Label, x: float, y: float, width: float, height: float) -> list[Line]:
    """The name, as large as it fits and on as many lines; then the code; then the note."""
    code_size = min(_CODE_SIZE, width / _ems(label.code), height * 0.4)
    note_size = min(_NOTE_SIZE, code_size) if label.note else 0.0
    room = height - (code_size + note_size) * _LEADING
    size, names = _fitted(label.name, width, room)
    lines = []
    for name in names:
        y += size * _LEADING
        lines.append(Line(x, y, size, name))
    y += code_size * _LEADING
    lines.append(Line(x, y, code_size, label.code, bold=True))
    if label.note:
        y += note_size * _LEADING
        lines.append(Line(x, y, note_size, _cut(label.note, width / note_size)))
    return lines


def _fitted(name: str, width: float, height: float) -> tuple[float, list[str]]:
    """The largest size at which the name fits, and its lines; cut if it never does."""
    for size in _NAME_SIZES:
        lines = _wrapped(name, width / size)
        if len(lines) * size * _LEADING <= height:
            return size, lines
    most = int(height / (size * _LEADING))
    kept = lines[:most]
    if kept:
        kept[-1] = _cut(kept[-1] + lines[most], width / size, dots=True)
    return size, kept


def _wrapped(text: str, ems: float) -> list[str]:
    """Lines of at most so many ems. A name has no words, so it is broken anywhere."""
    lines, line, used = [], "", 0.0
    for character in text:
        wide = _em(character)
        if line and used + wide > ems:
            lines.append(line)
            line, used = "", 0.0
        line += character
        used += wide
    return [*lines, line]


def _cut(text: str, ems: float, *, dots: bool = False) -> str:
    if not dots and _ems(text) <= ems:
        return text
    while text and _ems(text + _DOTS) > ems:
        text = text[:-1]
    return text + _DOTS


def _ems(text: str) -> float:
    return sum(map(_em, text))


def _em(character: str) -> float:
    """How wide a character is, in its size; at least as wide as in Helvetica, bold too."""
    if character in _NARROW:
        return 0.36
    if character.isascii() and character.isalnum() and character not in "MWmw":
        return 0.8 if character.isupper() else 0.64
    return 0.64 if character in "-_" else 1.05


# ── drawing ───────────────────────────────────────────────────────────────────────────────────


def svg(placed: Iterable[Placed], sheet: Sheet) -> str:
    """One sheet."""
    width, height = _mm(sheet.width), _mm(sheet.height)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}mm" height="{height}mm" '
        f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for label in placed:
        drawn.extend(_svg_label(label, sheet))
    return "\n".join([*drawn, "</svg>", ""])


def _svg_label(label: Placed, sheet: Sheet) -> Iterator[str]:
    high = _mm(label.module)
    path = "".join(f"M{_mm(x)} {_mm(y)}h{_mm(w)}v{high}h-{_mm(w)}z" for x, y, w in label.dark)
    yield f'<path d="{path}" shape-rendering="crispEdges"/>'
    for line in label.lines:
        bold = ' font-weight="bold"' if line.bold else ""
        yield (
            f'<text x="{_mm(line.x)}" y="{_mm(line.y)}" font-size="{_mm(line.size)}"{bold} '
            f'xml:space="preserve">{escape(line.text)}</text>'
        )
    if sheet.frame:
        x, y, width, height = map(_mm, label.frame)
        yield (
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="none" stroke="#999" '
            'stroke-width="0.1"/>'
        )


def _mm(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".")


def pdf(sheets: Iterable[Sequence[Placed]], sheet: Sheet, *, font: Path | None = None) -> bytes:
    """All sheets. `font` is a TrueType file; without one the letters of Latin-1 can be drawn.

    Raises `LabelTrouble` for letters that the font lacks, and a file that is no font.
    """
    from fpdf import FPDF
    from fpdf.errors import FPDFException

    document = FPDF(unit="mm", format=(sheet.width, sheet.height))
    document.set_auto_page_break(False)
    document.set_margin(0)
    family = _family(document, font)
    try:
        for placed in sheets:
            _prove_letters(document, placed, font)
            document.add_page()
            for label in placed:
                _pdf_label(document, label, sheet, family)
        return bytes(document.output())
    except FPDFException:
        raise LabelTrouble(
            "a name has letters that the fonts of PDF itself lack: give --font FILE.ttf, or make "
            "an SVG."
        ) from None


def _family(document: FPDF, font: Path | None) -> str:
    if font is None:
        return "Helvetica"
    try:
        with font.open("rb") as file:
            if file.read(4) not in _FONTS:
                raise LabelTrouble(f"{font}: is no TrueType font.")
        for style in ("", "B"):
            document.add_font("label", style, font)
    except LabelTrouble:
        raise
    except Exception as exc:  # whatever a broken font makes its reader raise
        raise LabelTrouble(f"{font}: cannot be read as a font ({type(exc).__name__}).") from None
    return "label"


def _prove_letters(document: FPDF, placed: Sequence[Placed], font: Path | None) -> None:
    """A letter that a font lacks would be printed as an empty box. Raises `LabelTrouble`."""
    if font is None:
        return
    known = getattr(document.fonts["label"], "cmap", {})
    for text in (line.text for label in placed for line in label.lines):
        for letter in text:
            if ord(letter) not in known:
                raise LabelTrouble(
                    f"{font}: lacks the letter {letter!r} (U+{ord(letter):04X}) of a name: give "
                    "another font, or make an SVG."
                )


def _pdf_label(document: FPDF, label: Placed, sheet: Sheet, family: str) -> None:
    # One path of all modules, in points from below: a call for each takes fifty times as long.
    high = label.module * _POINTS
    runs = (
        f"{x * _POINTS:.3f} {(sheet.height - y) * _POINTS:.3f} {width * _POINTS:.3f} -{high:.3f} re"
        for x, y, width in label.dark
    )
    document.set_fill_color(0)
    document._out(" ".join(("0 g", *runs, "f")))
    for line in label.lines:
        document.set_font(family, "B" if line.bold else "", line.size * _POINTS)
        document.text(line.x, line.y, line.text)
    if sheet.frame:
        document.set_draw_color(153)
        document.set_line_width(0.1)
        document.rect(*label.frame)
