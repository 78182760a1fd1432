"""`gatehouse admission`."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

RULES = """
[admission]
allow_list = true
deny = ["*-test"]
networks = ["10.0.0.0/8"]
hours = ["Mon-Fri 07:00-19:00 Europe/Berlin"]
max_devices = 1
"""


@pytest.fixture
def fleet(shell: Any) -> Any:
    """A shell whose profile `demo` asks for its allow-list."""
    with (shell.folder / "profiles" / "demo.toml").open("a") as file:
        file.write(RULES)
    return shell


def values(shell: Any, *options: str) -> list[str]:
    listed = shell.json("admission", "list", "demo", *options)
    assert listed["total"] == len(listed["entries"])
    return [f"{one['kind']}:{one['value']}" for one in listed["entries"]]


def test_devices_are_allowed_denied_listed_and_removed(fleet: Any) -> None:
    """Each list by itself, in normal forms; removed from both unless one is named."""
    assert "2 more allowed in `demo`" in fleet.ok("admission", "allow", "demo", "WM-1", "WM-2")
    assert "0 more" in fleet.ok("admission", "allow", "demo", "WM-1")
    fleet.ok("admission", "allow", "demo", "--kind", "mac", "AABB.CCDD.EEFF")
    fleet.ok("admission", "deny", "demo", "WM-2", "WM-3")
    assert values(fleet) == ["mac:aa:bb:cc:dd:ee:ff", "name:WM-1", "name:WM-2"]
    assert values(fleet, "--deny") == ["name:WM-2", "name:WM-3"]
    assert values(fleet, "--search", "wm-") == ["name:WM-1", "name:WM-2"]
    assert "WM-1" in fleet.ok("admission", "list", "demo")
    fleet.ok("admission", "remove", "demo", "WM-3", "--deny")
    assert "2 removed" in fleet.ok("admission", "remove", "demo", "WM-2")
    assert fleet("admission", "remove", "demo", "WM-2").exit_code == 1
    assert fleet("admission", "remove", "demo", "--allow", "--all").exit_code == 2
    fleet.ok("admission", "remove", "demo", "--allow", "--all", "--yes")
    assert values(fleet) == values(fleet, "--deny") == []


def test_what_cannot_be_listed_is_told(fleet: Any) -> None:
    """A value that is none, a profile that is not there, and a list nobody asks for."""
    result = fleet("admission", "allow", "demo", "--kind", "mac", "none")
    assert (result.exit_code, "six bytes" in result.output) == (2, True)
    result = fleet("admission", "allow", "dem", "x")
    assert (result.exit_code, "Did you mean `demo`?" in result.output) == (1, True)
    fleet.ok("profile", "add", "plain", "--type", "DISABLED")
    assert "allow_list = true" in fleet("admission", "allow", "plain", "x").stderr


def test_a_file_is_imported_whole_and_again(fleet: Any) -> None:
    """A table or lines, of a file or a pipe; what is there is passed over. Export writes it."""
    table = fleet.folder / "table.csv"
    table.write_text("Site;Serial;MAC\nA;SN-1;AA-BB-CC-DD-EE-FF\nB;SN-2;\n")
    told = fleet.json("admission", "import", "demo", str(table))
    assert told == {"added": 3, "known": 0, "skipped": 0, "first_bad": []}
    assert "0 more, 3 had been there" in fleet.ok("admission", "import", "demo", str(table))
    piped = fleet("admission", "import", "demo", "-", "--deny", input="a, b\n\nc\n")
    assert "2 more in the deny-list of `demo`" in piped.stdout
    assert values(fleet, "--deny") == ["name:a, b", "name:c"]
    text = fleet.ok("admission", "export", "demo")
    assert text.splitlines()[0] == "name,serial,mac"
    assert len(list(csv.reader(io.StringIO(text)))) == 4
    copy = fleet.folder / "copy.csv"
    fleet.ok("admission", "export", "demo", str(copy))
    assert copy.read_text() == text
    assert fleet("admission", "export", "demo", str(copy)).exit_code == 1
    fleet.ok("admission", "remove", "demo", "--all", "--yes")
    fleet.ok("admission", "import", "demo", str(copy))
    assert values(fleet) == ["mac:aa:bb:cc:dd:ee:ff", "serial:sn-1", "serial:sn-2"]


def test_a_table_without_its_header_is_told_of(fleet: Any) -> None:
    """Its lines are names that no device has: on a deny-list nobody would notice. A name may have a
    comma all the same."""
    warning = "its first line must name its columns: name, serial or mac"
    command = ("admission", "import", "demo", "-", "--deny")
    assert warning in fleet(*command, input="device,imei\nWM-1,86\nWM-2,87\n").stderr
    assert warning not in fleet(*command, input="a, b\nc\n").stderr
    assert warning not in fleet(*command, input="name,imei\nWM-1,86\n").stderr


def test_lines_that_cannot_be_read_stop_an_import_or_are_skipped(fleet: Any) -> None:
    """They are named with their numbers; without --skip-bad nothing is imported."""
    file = fleet.folder / "macs.txt"
    file.write_text("aabbccddeeff\n\nnone\n" + "bad\n" * 30 + "00:11:22:33:44:55\n")
    command = ("admission", "import", "demo", str(file), "--kind", "mac")
    refused = fleet(*command)
    assert refused.exit_code == 1
    assert "row 3: a MAC has six bytes" in refused.stderr
    assert "and 11 more" in refused.stderr
    assert "31 rows" in refused.output
    assert values(fleet) == []
    told = fleet.json(*command, "--skip-bad")
    assert (told["added"], told["skipped"], told["first_bad"][0]["row"]) == (2, 31, 3)
    assert fleet("admission", "import", "demo", "nowhere.csv").exit_code == 1


def test_an_interrupted_import_keeps_what_it_has(fleet: Any) -> None:
    """It says how far it came, and the same command does the rest."""
    file = fleet.folder / "many.txt"
    file.write_text("".join(f"WM-{number:07}\n" for number in range(60_000)))
    command = ("admission", "import", "demo", str(file))
    with fleet.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        _wait_for_entries(fleet.folder)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert "and they stay" in stderr
    kept = fleet.json("admission", "list", "demo", "--limit", "1")["total"]
    assert 0 < kept < 60_000
    assert kept % 5000 == 0
    told = fleet.json(*command)
    assert (told["added"], told["known"]) == (60_000 - kept, kept)


def _wait_for_entries(folder: Path) -> None:
    """Asked of the file itself: a command takes longer than the import."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(sqlite3.OperationalError), closing(_opened(folder)) as store:
            if store.execute("SELECT count(*) FROM admission_entry").fetchone()[0]:
                return
        time.sleep(0.005)
    raise AssertionError("nothing was imported")


def _opened(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{folder}/data/gatehouse.db?mode=ro", uri=True)


def test_a_device_is_tested_against_every_rule(fleet: Any) -> None:
    """All that is wrong is told at once, and nothing is changed."""
    fleet.ok("admission", "allow", "demo", "--kind", "serial", "SN-1")
    noon, night = "2026-12-07T12:00:00Z", "2026-12-07T23:00:00Z"
    good = ("--name", "WM-1", "--serial", "sn-1", "--address", "10.1.2.3", "--at", noon)
    assert "it may come" in fleet.ok("admission", "test", "demo", *good)
    bad = ("--name", "a-test", "--address", "192.0.2.1", "--at", night)
    refused = fleet("admission", "test", "demo", *bad)
    assert refused.exit_code == 1
    assert refused.stdout.count("✗") == 4
    assert "it would be refused: outside_hours" in refused.stdout
    fleet.ok("admission", "deny", "demo", "WM-1")
    fleet.ok("device", "add", "other")
    result = fleet("admission", "test", "demo", *good, "--json")
    assert result.exit_code == 1
    assert '"reason": "on_deny_list"' in result.stdout
    assert "1 of 1 devices are there" in result.stdout
    assert fleet("admission", "test", "demo", "--mac", "none").exit_code == 2


def test_a_profile_shows_its_rules(fleet: Any) -> None:
    """In the words of its file, and nothing where there are none."""
    shown = fleet.json("profile", "show", "demo")
    assert shown["policy"]["admission"]["networks"] == ["10.0.0.0/8"]
    text = fleet.ok("profile", "show", "demo")
    assert "admission.max_devices" in text
    assert re.search(r'admission\.networks +\["10\.0\.0\.0/8"\]$', text, re.MULTILINE)
    assert re.search(r'certificate +\{ subject = \{ CN = "\{name\}" \} \}$', text, re.MULTILINE)
    fleet.ok("profile", "add", "plain", "--type", "DISABLED")
    assert "policy" not in fleet.json("profile", "show", "plain")
