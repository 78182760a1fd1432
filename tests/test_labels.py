"""Labels as they are drawn: the QR code says what it should, and everything fits."""

from __future__ import annotations

import re
import zlib
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.labels import (
    LEAST_MODULE,
    PAPER,
    QUIET,
    Label,
    LabelTrouble,
    Sheet,
    _em,
    pages,
    pdf,
    place,
    qr_matrix,
    svg,
)

WIDTH, HEIGHT = PAPER["A4"]
SHEET = Sheet(width=WIDTH, height=HEIGHT, columns=3, rows=8)
NS = {"s": "http://www.w3.org/2000/svg"}


def label(name="meter-1", code="7KPM-Q3XD-9RTW", **more):
    return Label(name=name, code=code, content=f"https://example.com/{code}", **more)


def read_back(dark, module):
    """The modules of a drawn code, as rows of 0 and 1 without quiet zone."""
    left = min(x for x, _, _ in dark)
    top = min(y for _, y, _ in dark)
    size = round((max(x + w for x, _, w in dark) - left) / module)
    rows = [bytearray(size) for _ in range(size)]
    for x, y, width in dark:
        start = round((x - left) / module)
        row = rows[round((y - top) / module)]
        row[start : start + round(width / module)] = b"\1" * round(width / module)
    return tuple(rows)


def svg_runs(path, text):
    """The rectangles of a path of `svg`."""
    found = re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)h-", text)
    return [tuple(map(float, one[:3])) for one in found], float(found[0][3])


@pytest.mark.parametrize("content", ["https://example.com/7KPM", '{"deviceName":"Zähler 1"}', "x"])
def test_the_code_in_an_svg_says_the_content(content):
    """Read back module by module, it is the QR code of the content."""
    made = Label(name="n", code="c", content=content)
    root = ElementTree.fromstring(svg([place(made, SHEET, 0)], SHEET))
    path = root.find("s:path", NS)
    dark, module = svg_runs(path, path.get("d"))
    assert read_back(dark, module) == tuple(qr_matrix(content))


def test_the_code_in_a_pdf_says_the_content():
    """The same, out of the drawing of the PDF."""
    made = label()
    sheet = Sheet(width=62, height=29, columns=1, rows=1, margin=1)
    content = pdf(pages([made], sheet), sheet)
    drawing = b"".join(
        zlib.decompress(one)
        for one in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
        if one[:1] == b"x"
    ).decode("latin-1")
    found = re.findall(r"([\d.]+) ([\d.]+) ([\d.]+) -([\d.]+) re", drawing)
    scale = 72 / 25.4
    dark = [(float(x), -float(y), float(w)) for x, y, w, _ in found]
    module = float(found[0][3])
    assert module / scale >= LEAST_MODULE
    assert read_back(dark, module) == tuple(qr_matrix(made.content))
    assert "(7KPM-Q3XD-9RTW) Tj" in drawing
    assert "(meter-1) Tj" in drawing


def test_texts_are_told_and_escaped():
    """Name, code and note stand in the SVG, whatever letters they have."""
    made = label(name='<b>&"計器', note="meters")
    root = ElementTree.fromstring(svg([place(made, SHEET, 0)], SHEET))
    texts = [one.text for one in root.findall("s:text", NS)]
    *names, code, note = texts
    assert "".join(names) == '<b>&"計器'
    assert (code, note) == ("7KPM-Q3XD-9RTW", "meters")


SHEETS = st.builds(
    Sheet,
    width=st.sampled_from([62.0, 105.0, 210.0]),
    height=st.sampled_from([29.0, 148.0, 297.0]),
    columns=st.integers(1, 6),
    rows=st.integers(1, 12),
    margin=st.floats(0, 10),
    gap=st.floats(0, 5),
)


@given(
    sheet=SHEETS,
    name=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255),
)
@settings(deadline=None, max_examples=60)
def test_whatever_the_name_everything_stays_on_the_label(sheet, name):
    """No line of text and no module lies outside its label, on any sheet that is possible."""
    try:
        placed = place(label(name=name, note="a note"), sheet, sheet.per_page - 1)
    except LabelTrouble:
        return
    left, top, width, height = placed.frame
    assert left + width <= sheet.width + 0.001
    assert top + height <= sheet.height + 0.001
    assert placed.module >= LEAST_MODULE
    quiet = QUIET * placed.module
    for x, y, wide in placed.dark:
        assert left + quiet <= x + 0.001
        assert x + wide + quiet <= left + width + 0.001
        assert top + quiet <= y + 0.001
        assert y + placed.module + quiet <= top + height + 0.001
    for line in placed.lines:
        assert left <= line.x
        assert top <= line.y - line.size * 0.7
        assert line.y <= top + height


def test_a_long_name_is_wrapped_and_then_cut():
    """It becomes smaller on more lines; what never fits ends in dots."""
    long = place(label(name="gateway-in-the-hall-" * 3), SHEET, 0)
    names = [one.text for one in long.lines if not one.bold]
    assert len(names) > 1
    assert "".join(names) == "gateway-in-the-hall-" * 3
    longest = place(label(name="w" * 255), SHEET, 0)
    names = [one.text for one in longest.lines if not one.bold]
    assert names[-1].endswith("...")


def test_no_letter_is_taken_for_narrower_than_it_is():
    """Lines are broken by estimate: it is never below the widths of Helvetica, plain or bold."""
    from fpdf import FPDF

    document = FPDF(unit="pt")
    for style in ("", "B"):
        document.set_font("Helvetica", style, 1)
        for character in map(chr, [*range(32, 127), *range(161, 256)]):
            assert document.get_string_width(character) <= _em(character) + 0.001, character


def test_labels_fill_pages_row_by_row():
    """Each sheet is full before the next begins, and labels do not overlap."""
    labels = [label(code=f"CODE-{nth:04d}") for nth in range(50)]
    made = list(pages(labels, SHEET))
    assert [len(page) for page in made] == [24, 24, 2]
    frames = [one.frame for one in made[0]]
    assert frames[1][0] > frames[0][0] + frames[0][2]
    assert frames[3][1] > frames[0][1] + frames[0][3]
    codes = [one.text for page in made for placed in page for one in placed.lines if one.bold]
    assert codes == [one.code for one in labels]


def test_a_code_that_could_not_be_read_is_not_drawn():
    """A sentence says what to change: too fine, too long, or no room at all."""
    fine = Sheet(width=WIDTH, height=HEIGHT, columns=20, rows=40)
    with pytest.raises(LabelTrouble, match="fewer columns"):
        place(label(), fine, 0)
    with pytest.raises(LabelTrouble, match="shorter"):
        qr_matrix("x" * 4000)
    with pytest.raises(LabelTrouble, match="room"):
        Sheet(width=20, height=20, columns=9, rows=9).cell  # noqa: B018


def test_letters_that_a_pdf_has_no_font_for():
    """A PDF without a font says so; nothing is replaced by question marks."""
    made = label(name="計器")
    with pytest.raises(LabelTrouble, match="--font"):
        pdf(pages([made], SHEET), SHEET)


def test_a_file_that_is_no_font(tmp_path):
    """It is named."""
    wrong = tmp_path / "wrong.ttf"
    wrong.write_bytes(b"no font at all")
    with pytest.raises(LabelTrouble, match=r"wrong\.ttf"):
        pdf(pages([label()], SHEET), SHEET, font=wrong)


def _font(path, letters):
    """A font with these letters alone, all of them empty."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.ttLib.tables._g_l_y_f import Glyph

    names = [".notdef", *(f"uni{ord(one):04X}" for one in letters)]
    made = FontBuilder(1000)
    made.setupGlyphOrder(names)
    made.setupCharacterMap({ord(one): f"uni{ord(one):04X}" for one in letters})
    made.setupGlyf({name: Glyph() for name in names})
    made.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    made.setupHorizontalHeader(ascent=800, descent=-200)
    made.setupNameTable({"familyName": "Made", "styleName": "Regular", "psName": "Made"})
    made.setupOS2(sTypoAscender=800, sTypoDescender=-200)
    made.setupPost()
    made.save(path)
    return path


def test_letters_that_a_given_font_lacks(tmp_path):
    """An empty box is no letter: the one that is missing is named."""
    made = label(name="計器")
    letters = set(made.name + made.code + made.note)
    whole = _font(tmp_path / "whole.ttf", sorted(letters))
    assert pdf(pages([made], SHEET), SHEET, font=whole).startswith(b"%PDF")
    poor = _font(tmp_path / "poor.ttf", sorted(letters - {"器"}))
    with pytest.raises(LabelTrouble, match=r"poor\.ttf: lacks the letter '器'"):
        pdf(pages([made], SHEET), SHEET, font=poor)


def test_a_label_does_not_show_itself():
    """What a label says stays out of logs."""
    assert "7KPM" not in repr(label())
