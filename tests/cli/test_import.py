"""`gatehouse import`: columns guessed and told, bad rows named, taken up again after a crash."""

from __future__ import annotations

import csv
import os
import re
import signal
import stat
import time
from pathlib import Path

import click
import pytest

from gateway.cli.rejects import Rejects
from gateway.core.import_rows import Rejected
from gateway.store.sql_imports import SqlImports

GOOD = "Device Name,Type,Token,Unknown\nm-1,meter,token-m-1,x\nm-2,meter,,y\n"


def put(shell, text: str | bytes, name: str = "devices.csv") -> Path:
    path = shell.folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def said(stdout: str) -> str:
    """What was said, but for the rate, which is told where an import takes more than a second."""
    return re.sub(r" \([\d,]+ rows/s\)$", "", stdout, flags=re.MULTILINE)


def names(shell) -> list[str]:
    return [one["name"] for one in shell.json("device", "list")]


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_columns_are_guessed_and_shown(shell):
    """The mapping is on standard error, with examples that show no secret."""
    put(shell, GOOD)
    result = shell("import", "devices.csv")
    assert result.exit_code == 0, result.output
    assert said(result.stdout) == "2 created, 0 updated\nnew profiles: 1 (`meter`)\n"
    assert "Device Name  → name" in result.stderr
    assert "Unknown      → ignore" in result.stderr
    assert "token-m-1" not in result.stderr
    assert sorted(names(shell)) == ["m-1", "m-2"]


def test_a_second_time_nothing_changes(shell):
    """The same file again leaves everything as it is."""
    put(shell, GOOD)
    shell.ok("import", "devices.csv")
    told = shell.json("import", "devices.csv")
    assert (told["created"], told["updated"], told["unchanged"]) == (0, 0, 2)


def test_a_dry_run_keeps_nothing(shell):
    """`--dry-run` tells what would be."""
    put(shell, GOOD)
    told = shell.json("import", "devices.csv", "--dry-run")
    assert (told["dry_run"], told["created"]) == (True, 2)
    assert names(shell) == []


def test_every_bad_row_is_named_and_written_down(shell):
    """Numbers count as in a spreadsheet; the file of rejects is its owner's alone, and is read
    again by the import itself."""
    put(
        shell,
        b'name,token,gateway\na,tok-1,\n,tok-2,\nb,tok-1,\n"x"y,,\nc,,perhaps\nd\xff,,\ne,,,,9\n',
    )
    result = shell("import", "devices.csv")
    assert result.exit_code == 1
    assert said(result.stdout).splitlines()[0] == "1 created, 0 updated, 6 rejected"
    rows = [line for line in result.stderr.splitlines() if line.startswith("row ")]
    assert [line.split(":")[0] for line in rows] == [f"row {n}" for n in range(3, 9)]
    rejects = shell.folder / "devices.rejects.csv"
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    raw = rejects.read_bytes()
    assert b"d\xff" in raw
    assert raw.splitlines()[0] == b"row,reason,name,token,gateway"
    assert raw.count(b"\n") == 7
    rejects.write_bytes(raw.replace(b"perhaps", b"true"))
    assert "1 created" in shell("import", "devices.rejects.csv").stdout


@pytest.mark.parametrize(
    ("text", "args", "made"),
    [
        ("Serial;Plant\n7;Fürth\n", ["--map", "Serial=name", "--map", "plant=customer"], "7"),
        ("a,meter\n", ["--no-header", "--map", "1=name", "--map", "2=type"], "a"),
        (
            "Küche;Typ\na;b\n".encode("latin-1"),
            ["--encoding", "latin-1", "--map", "Küche=name"],
            "a",
        ),
        ("\ufeffname\nb\n", [], "b"),
        ("name\ttype\nc\td\n".encode("utf-16"), [], "c"),
    ],
)
def test_files_of_others_are_read(shell, text, args, made):
    """Headers, numbers, encodings and delimiters of other programs."""
    put(shell, text)
    shell.ok("import", "devices.csv", *args)
    assert names(shell) == [made]


@pytest.mark.parametrize(
    ("text", "args", "told"),
    [
        ("a,b\n1,2\n", [], "no column looks like the name"),
        ("name,type\n1,2\n", ["--map", "nam=name"], "there is no column"),
        ("name,type\n1,2\n", ["--map", "type=colour"], "no meaning of a column"),
        ("name,type\n1,2\n", ["--map", "type"], "HEADER=MEANING"),
        ("name,server:a,server:a\n", [], "two columns are server:a"),
        ("", [], "it is empty"),
        ("name\n".encode("utf-32"), [], "UTF-32"),
    ],
)
def test_what_cannot_be_meant_is_told(shell, text, args, told):
    """A wrong mapping or file ends with a sentence, and nothing is imported."""
    put(shell, text)
    result = shell("import", "devices.csv", *args)
    assert result.exit_code in (1, 2)
    assert told in result.stderr
    assert "Traceback" not in result.output


def test_standard_input_is_read(shell):
    """`-` is standard input, whose rejects have a file too."""
    result = shell("import", "-", input="name\na\n{{\n")
    assert result.exit_code == 1
    assert names(shell) == ["a"]
    assert read(shell.folder / "stdin.rejects.csv")[1][0] == "3"


def test_a_formula_comes_back_as_it_was(shell):
    """An apostrophe before a formula is taken off, but with --verbatim."""
    put(shell, "name\n'=1+1\n")
    shell.ok("import", "devices.csv")
    shell.ok("import", "devices.csv", "--verbatim")
    assert sorted(names(shell)) == ["'=1+1", "=1+1"]


def many(rows: int) -> str:
    """A table with a bad row in every hundred."""
    lines = [f"{'' if n % 100 == 99 else f'd-{n:06d}'},label {n}\n" for n in range(rows)]
    return "name,label\n" + "".join(lines)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_import_that_was_stopped_is_taken_up_again(shell, how):
    """After a crash or Ctrl-C the same command goes on: nothing is done twice, nothing lost."""
    rows = 30_000
    put(shell, many(rows))
    with shell.start("import", "devices.csv", stdout=-1, stderr=-1) as process:
        deadline = time.monotonic() + 30
        rejects = shell.folder / "devices.rejects.csv"
        while not rejects.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, how)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == (130 if how is signal.SIGINT else -signal.SIGKILL), errors
    if how is signal.SIGINT:
        assert "the same command goes on from there" in errors
    result = shell("import", "devices.csv")
    assert result.exit_code == 1, result.output
    assert "going on after row" in result.stderr
    assert result.stdout.startswith("29,700 created, 0 updated, 300 rejected")
    numbers = [int(row[0]) for row in read(rejects)[1:]]
    assert numbers == [n + 2 for n in range(99, rows, 100)]


def test_rows_with_long_cells_are_written_a_few_at_a_time(shell, monkeypatch):
    """Memory is bounded by characters too, not by the number of rows alone."""
    written: list[int] = []
    whole = SqlImports.import_rows

    async def noted(self, batch):
        written.append(len(batch.prepared.rows))
        return await whole(self, batch)

    monkeypatch.setattr(SqlImports, "import_rows", noted)
    rows = [f"w-{n:03d},{'x' * 100_000}" for n in range(50)]
    put(shell, "name,server:long\n" + "\n".join(rows))
    assert shell.json("import", "devices.csv")["created"] == 50
    assert written == [20, 20, 10]


def test_one_file_of_rejects_is_not_written_by_two(shell):
    """What another import is writing is waited for; then the file goes on where it was left."""
    path = shell.folder / "r.csv"
    mine = Rejects(path, ["name"], ",")
    length = mine.write([Rejected(2, "why")], {2: ["é"]})
    other = Rejects(path, ["name"], ",", own=True, keep_bytes=length)
    with pytest.raises(click.ClickException, match="another import writes"):
        other.write([Rejected(3, "why")], {})
    mine.close()
    other.write([Rejected(3, "why")], {})
    other.close()
    assert [row[0] for row in read(path)] == ["row", "2", "3"]


def test_a_file_of_rejects_that_another_made_meanwhile_is_kept(shell):
    """Whether this import is new or continued, it cuts off only what is its own."""
    path = shell.folder / "r.csv"
    bad, cells = [Rejected(2, "why")], {2: ["x"]}
    path.write_text("theirs")
    for own in (False, True):
        rejects = Rejects(path, ["name"], ",", own=own)
        with pytest.raises(click.ClickException, match="did not write"):
            rejects.write(bad, cells)
        rejects.close()
    assert path.read_text() == "theirs"
    path.write_text("row,reason,na")  # what a crash left of one's own
    rejects = Rejects(path, ["name"], ",", own=True)
    rejects.write(bad, cells)
    rejects.close()
    assert read(path) == [["row", "reason", "name"], ["2", "why", "x"]]


def test_rejects_of_earlier_imports_stay(shell):
    """A real run writes beside them or refuses, a dry run writes nothing at all."""
    first = shell.folder / "devices.rejects.csv"
    first.write_text("mended for an hour")
    put(shell, "name,label\n,nameless\ngood,x\n")
    dry = shell("import", "devices.csv", "--dry-run")
    assert dry.exit_code == 1
    assert "row 2: Device name should be specified!" in dry.stderr
    assert "devices.rejects" not in dry.output
    assert sorted(one.name for one in shell.folder.glob("*rejects*")) == [first.name]
    refused = shell("import", "devices.csv", "--rejects", str(first))
    assert refused.exit_code == 1
    assert "name another file with --rejects" in " ".join(refused.stderr.split())
    assert names(shell) == []
    assert "`devices.rejects-2.csv`" in shell("import", "devices.csv").stderr
    assert [row[0] for row in read(shell.folder / "devices.rejects-2.csv")] == ["row", "2"]
    assert first.read_text() == "mended for an hour"


def test_rows_behind_an_open_quotation_mark_are_told(shell):
    """They are counted, and how to mend it is said; mended, the file is imported whole."""
    lines = [f"q-{n},x\n" for n in range(2, 1001)]
    lines[79] = 'q-81,"x\n'
    put(shell, "name,label\n" + "".join(lines))
    result = shell("import", "devices.csv")
    assert result.exit_code == 1
    assert said(result.stdout).splitlines()[0] == "79 created, 0 updated, 1 rejected, 919 not read"
    assert "row 81: a quotation mark is never closed" in result.stderr
    assert "rows 82 to 1000 were taken for its content, and not read" in result.stderr
    assert "Mend the quotation marks of row 81 in the file itself" in result.stderr
    assert shell("import", "devices.csv", "--json").stdout.count('"rows_not_read": 919') == 1
    put(shell, "name,label\n" + "".join(lines).replace('"', ""))
    told = shell.json("import", "devices.csv")
    assert (told["created"], told["unchanged"], told["rows_not_read"]) == (920, 79, 0)


def test_what_is_made_for_devices_is_told(shell):
    """Profiles, customers and groups, once each, and of a dry run what would be."""
    rows = "".join(f"m-{n},new,acme,g1;g{n}\n" for n in range(1, 1101))
    put(shell, "name,type,customer,groups\n" + rows)
    dry = shell.ok("import", "devices.csv", "--dry-run")
    assert "would be made: new profiles: 1 (`new`)\n" in dry
    assert "would be made: new groups: 1,100 (`g1`, `g2`" in dry
    made = shell.json("import", "devices.csv")["made"]
    assert made["profiles"] == {"count": 1, "names": ["new"]}
    assert made["customers"] == {"count": 1, "names": ["acme"]}
    assert made["groups"]["count"] == 1100
    assert "new " not in shell.ok("import", "devices.csv")


def test_a_credential_of_another_names_its_column(shell):
    """The column, and never the credential, on the terminal and in the file."""
    put(shell, "name,Device Token\na,sesame\nb,sesame\n")
    result = shell("import", "devices.csv", "--map", "Device Token=access_token")
    reason = "already assigned to another device! (column `Device Token`)"
    assert reason in result.stderr
    assert "sesame" not in result.output
    assert read(shell.folder / "devices.rejects.csv")[1][1].endswith(reason)


def test_an_ignored_column_can_be_kept(shell):
    """The hint is a --map that works; what was said to be ignored has none."""
    put(shell, "name,Bau-Ort 1\na,x\n")
    hint = "can be kept as attributes: --map 'Bau-Ort 1=server:bau_ort_1'"
    assert hint in shell("import", "devices.csv").stderr
    assert "can be kept" not in shell("import", "devices.csv", "--map", "2=ignore").stderr
    kept = shell("import", "devices.csv", "--map", "Bau-Ort 1=server:bau_ort_1")
    assert kept.exit_code == 0
    assert "can be kept" not in kept.stderr


def test_a_name_that_is_there_twice_is_warned_of(shell):
    """With both rows, also where they are in different batches."""
    rows = "".join(f"n-{n},\n" for n in range(2, 1502))
    put(shell, f"name,label\n{rows}n-7,later\n")
    result = shell("import", "devices.csv")
    assert result.exit_code == 0
    assert "warning: rows 7 and 1502 have the same name `n-7`" in result.stderr
    told = shell.json("import", "devices.csv", "--dry-run")
    assert (told["repeated_names"], told["first_repeated"][0]["rows"]) == (1, [7, 1502])


@pytest.mark.parametrize("encoding", ["latin-1", "windows-1252"])
def test_rejects_can_be_mended_in_the_encoding_they_came_in(shell, encoding):
    """The same options read them again."""
    put(shell, "name,label\n,Küche\n".encode(encoding))
    assert shell("import", "devices.csv", "--encoding", encoding).exit_code == 1
    rejects = shell.folder / "devices.rejects.csv"
    mended = rejects.read_bytes().replace(b",,", b",m\xf6bel,")
    put(shell, mended, "mended.csv")
    shell.ok("import", "mended.csv", "--encoding", encoding)
    assert names(shell) == ["möbel"]
    assert "Küche" in shell.ok("export")


def test_rejects_of_utf_16_are_utf_8_and_say_so(shell):
    """Which is what is read without being told."""
    put(shell, "name,label\n,Küche\n".encode("utf-16-le"))
    result = shell("import", "devices.csv", "--encoding", "utf-16-le")
    assert "in UTF-8" in result.stderr
    assert "Küche" in (shell.folder / "devices.rejects.csv").read_text()
