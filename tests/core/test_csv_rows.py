"""Reading tables: encodings, delimiters, quoting, and rows that cannot be read."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.csv_rows import (
    MOST_CELL_CHARACTERS,
    MOST_LINE_CHARACTERS,
    CsvError,
    Malformed,
    Row,
    open_table,
)

_CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), max_size=20)


def table(data: bytes, **options):
    return open_table(io.BytesIO(data), **options)


def rows(data: bytes, **options):
    return [(one.at, one.cells) for one in table(data, **options).rows if isinstance(one, Row)]


@pytest.mark.parametrize(
    ("encoding", "named", "found"),
    [
        ("utf-8", None, "utf-8"),
        ("utf-8-sig", None, "utf-8-sig"),
        ("utf-16", None, "utf-16"),
        ("latin-1", "latin-1", "latin-1"),
        ("utf-16-le", "utf-16-le", "utf-16-le"),
    ],
)
def test_encodings(encoding, named, found):
    """UTF-8 with and without a mark and marked UTF-16 are known; others are read when named."""
    read = table("näme,ort\nKüche,Fürth\n".encode(encoding), encoding=named)
    assert read.encoding == found
    assert [one.cells for one in read.rows] == [["näme", "ort"], ["Küche", "Fürth"]]


def test_latin_1_is_never_guessed():
    """Bytes that are no UTF-8 become surrogates, in their row alone."""
    assert rows("a\nKüche\nb\n".encode("latin-1"))[1] == (2, ["K\udcfcche"])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("a,b\n".encode("utf-32"), "UTF-32"),
        ("name,type\na,b\n".encode("utf-16-le"), "utf-16-le"),
    ],
)
def test_other_encodings_are_told(data, told):
    """What is none of the encodings we read is refused with a word that helps."""
    with pytest.raises(CsvError, match=told):
        table(data)


def test_broken_utf_16_ends_the_table_with_a_sentence():
    """Half a character of UTF-16 is an error of the whole file, after the rows before it."""
    read = table("a,b\nc,d\n".encode("utf-16") + b"\x00")
    with pytest.raises(CsvError, match="encoding"):
        list(read.rows)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(delimiter):
    """The delimiter is the one that divides the rows into equally many columns."""
    lines = [["name", "type", "label"], ["a", "x, y; z", "1"], ["b", "p|q", "2"]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(lines)
    read = table(text.getvalue().encode())
    assert read.delimiter == delimiter
    assert [one.cells for one in read.rows] == lines


def test_rows_are_numbered_as_a_spreadsheet_does():
    """The header is row 1; empty rows count, and lines inside quotes do not."""
    assert rows(b'a,b\n\n"1\n2",x\ny,z\n') == [
        (1, ["a", "b"]),
        (3, ["1\n2", "x"]),
        (4, ["y", "z"]),
    ]


def test_a_nul_and_control_characters_are_a_matter_of_the_row():
    """A NUL byte does not end the reading."""
    assert rows(b"a,b\nx\0y,\x07\nc,d\n")[1:] == [(2, ["x\0y", "\x07"]), (3, ["c", "d"])]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'"x"y,1', "not followed by a delimiter"),
        (b'"' + b"x" * (MOST_CELL_CHARACTERS + 1) + b'",1', "more than 131072 characters"),
        (b"x" * (MOST_LINE_CHARACTERS + 5) + b",1", "more than 4194304 characters"),
        (b"," * 3000, "more than 2000 cells"),
    ],
)
def test_a_row_that_cannot_be_read_does_not_end_the_table(line, told):
    """It is given with its number and reason, and the next row is read."""
    first, bad, after = table(b"a,b\n" + line + b"\nc,d\n", delimiter=",").rows
    assert isinstance(first, Row)
    assert isinstance(bad, Malformed)
    assert bad.at == 2
    assert told in bad.reason
    assert after == Row(3, ["c", "d"])


def test_a_quotation_mark_that_never_closes_is_told():
    """At the end of the file an open quotation mark is a bad row, not a silent long one."""
    *_, last = table(b'a,b\n"c,d\ne,f\n').rows
    assert isinstance(last, Malformed)
    assert "never closed" in last.reason
    assert (last.at, last.unread) == (2, 1)
    assert "row 3 was taken for its content" in last.reason


def test_rows_that_a_bad_cell_swallowed_are_counted():
    """Where a later quotation mark or the bound of a cell ends it, numbers go on as in the file."""
    _, bad, after = table(b'a,b\n"c,d\ne,f\n"g",h\ni,j\n').rows
    assert isinstance(bad, Malformed)
    assert (bad.at, bad.unread, after) == (2, 2, Row(5, ["i", "j"]))
    lines = b"e,f\n" * (MOST_CELL_CHARACTERS // 4 + 100)
    _, bad, *rest = table(b'a,b\n"c,d\n' + lines).rows
    assert isinstance(bad, Malformed)
    assert "perhaps a quotation mark is never closed; rows 3 to" in bad.reason
    assert bad.unread + len(rest) == MOST_CELL_CHARACTERS // 4 + 100
    assert rest[0].at == 3 + bad.unread


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(_CELLS, min_size=2, max_size=4), min_size=1, max_size=5),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_csv_writes_is_read(lines, encoding):
    """Any table, in any of the encodings that are known by themselves, is read as it was."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(lines)
    data = text.getvalue().encode(encoding)
    try:
        read = [one.cells for one in table(data, delimiter=",").rows if isinstance(one, Row)]
    except CsvError:
        assert data.count(0) > 60  # so many NULs in UTF-8 look like another encoding
    else:
        assert read == lines


@settings(deadline=None, max_examples=80)
@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_one_error(data):
    """Whatever a file holds, nothing but rows, bad rows and `CsvError` comes out."""
    try:
        for one in table(data).rows:
            assert isinstance(one, Row | Malformed)
    except CsvError:
        pass
