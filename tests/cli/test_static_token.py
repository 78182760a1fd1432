"""`gatehouse static-token`: pairs in files that only their owner reads, shown without secrets."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from click import ClickException

from gateway.cli.static_token import open_static_token_desk
from gateway.cli.static_token_run import PairSheet, make_pairs
from gateway.config import load_config
from gateway.core.model import Secret
from gateway.core.static_token_store import StaticToken

PROFILE = """
name = "Water Meter"
provision_type = "DISABLED"

[blynk]
template_id = "TMPLwater0001"
device_name = "Meter {id}"
"""
METERS = ("static-token", "issue", "--profile", "Water Meter")


@pytest.fixture
def meters(shell: Any) -> Any:
    """A shell whose profile `Water Meter` is a template, and an organisation `Acme`."""
    (shell.folder / "profiles" / "water.toml").write_text(PROFILE)
    shell.ok("org", "add", "Acme")
    return shell


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def claim(shell: Any, token: str, organisation: str = "Acme") -> StaticToken:
    async def attempt() -> Any:
        async with open_static_token_desk(load_config(None, shell.env)) as desk:
            people = desk.people
            place = await people.organisation(organisation)
            return await desk.static_tokens.claim(people.actor, Secret(token), place, None)

    made = asyncio.run(attempt())
    assert isinstance(made, StaticToken), made
    return made


def test_one_pair_is_printed(meters: Any) -> None:
    """As CSV on standard output; the claim token claims it."""
    result = meters(*METERS)
    assert result.exit_code == 0
    assert result.stderr.startswith("made 1 of 1\n")
    label = "`gatehouse label --static-tokens --profile 'Water Meter' -o labels.pdf`"
    assert label in result.stderr
    [one] = csv.DictReader(result.stdout.splitlines())
    assert list(one) == ["number", "device_id", "claim_token", "device_token"]
    assert (len(one["claim_token"]), len(one["device_token"])) == (36, 32)
    assert claim(meters, one["claim_token"]).device_id == int(one["device_id"])


def test_one_pair_as_json(meters: Any) -> None:
    [one] = meters.json(*METERS)
    assert claim(meters, one["claim_token"]).id == one["number"]


def test_many_pairs_go_into_a_file(meters: Any) -> None:
    """A new one that only its owner reads, with all of them, and nothing on the screen."""
    result = meters(*METERS, "--count", "2500", "--output", "lot.csv", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"file": "lot.csv", "pairs": 2500}
    path = meters.folder / "lot.csv"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = rows(path)
    assert len(made) == len({one["device_token"] for one in made}) == 2500
    assert not any(one["claim_token"] in result.output for one in made)
    again = meters(*METERS, "--output", "lot.csv")
    assert (again.exit_code, "File exists" in again.stderr) == (1, True)
    assert rows(path) == made


def test_ten_thousand_pairs_take_seconds(meters: Any) -> None:
    """So a lot is made while somebody waits."""
    began = time.monotonic()
    meters.ok(*METERS, "--count", "10000", "--output", "lot.csv")
    assert time.monotonic() - began < 30
    assert len(rows(meters.folder / "lot.csv")) == 10_000


def test_interrupted_after_some(meters: Any) -> None:
    """Ctrl-C ends it with 130; what was made is in the file, and in the store, and no more."""
    process = meters.start(
        *METERS, "--count", "1000000", "--output", "lot.csv", stderr=subprocess.PIPE
    )
    path = meters.folder / "lot.csv"
    deadline = time.monotonic() + 30
    while not (path.exists() and path.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    made = rows(path)
    assert f"stopped: made {len(made)} of 1000000" in told
    listed = meters.json("static-token", "list", "--limit", "10000")
    assert len(listed) == min(len(made), 10_000)


def test_a_full_disk_prints_what_was_made_last(
    meters: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The device's token is told once: what the file does not take is printed."""

    async def attempt() -> None:
        async with open_static_token_desk(load_config(None, meters.env), make=True) as desk:
            people = desk.people
            profile = await people.desk.registry.profile("Water Meter")
            assert profile is not None
            place = (desk.static_tokens, people.actor, profile, people.actor.organisation)
            await make_pairs(*place, 3, FullSheet(tmp_path / "x.csv", as_json=False))

    class FullSheet(PairSheet):
        """On a disk that is full from the beginning."""

        def __init__(self, output: Path, *, as_json: bool) -> None:
            super().__init__(Path("/dev/full"), as_json=as_json)
            self._file._handle = os.open("/dev/full", os.O_WRONLY)

    with pytest.raises(ClickException):
        asyncio.run(attempt())
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert all("sqr_" in line for line in printed)


def test_a_profile_that_is_no_template(meters: Any) -> None:
    """Says what is missing; an unknown one is answered with the nearest."""
    result = meters("static-token", "issue", "--profile", "demo", "--output", "lot.csv")
    assert result.exit_code == 1
    assert "[blynk]" in result.stderr
    assert not (meters.folder / "lot.csv").exists()
    result = meters("static-token", "issue", "--profile", "Water Metre")
    assert "Did you mean `Water Meter`?" in result.stderr


def test_the_list(meters: Any) -> None:
    """Who has which; claim tokens only with --reveal, and devices' tokens never."""
    made = meters.json(*METERS, "--count", "3")
    meters.ok(*METERS, "--org", "Acme")
    claim(meters, made[0]["claim_token"])
    table = meters.ok("static-token", "list")
    assert table.count("UNCLAIMED") == 3
    assert "Acme" in table
    shown = meters.ok("static-token", "list", "--reveal", "--json")
    assert all(one["claim_token"] in shown for one in made)
    assert not any(one["device_token"] in table + shown for one in made)
    assert not any(one["claim_token"] in table for one in made)
    [claimed] = meters.json("static-token", "list", "--state", "claimed")
    assert (claimed["number"], claimed["holder"]) == (made[0]["number"], "Acme")
    assert claimed["device"] is None
    assert len(meters.json("static-token", "list", "--org", "Acme")) == 1
    assert meters.json("static-token", "list", "--profile", "demo") == []
    later = meters.json("static-token", "list", "--after", str(made[1]["number"]), "--limit", "1")
    assert [one["number"] for one in later] == [made[2]["number"]]
    first = meters("static-token", "list", "--limit", "2")
    assert f"--after {made[1]['number']}" in first.stderr


def test_nothing_to_list(meters: Any) -> None:
    result = meters("static-token", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "static-token issue" in result.stderr


def test_pairs_are_revoked(meters: Any) -> None:
    """All that are named, or none where one is not there."""
    made = [str(one["number"]) for one in meters.json(*METERS, "--count", "3")]
    result = meters("static-token", "revoke", made[0], "99", "--yes")
    assert (result.exit_code, "no pair 99" in result.stderr) == (1, True)
    assert len(meters.json("static-token", "list")) == 3
    told = meters.ok("static-token", "revoke", *made[:2], "--yes")
    assert told == f"revoked pair {made[0]}\nrevoked pair {made[1]}\n"
    assert len(meters.json("static-token", "list")) == 1
    assert meters("static-token", "revoke", made[2]).exit_code == 2  # nobody there to ask


@pytest.mark.parametrize("command", [("static-token", "list"), ("device", "events")])
def test_a_place_in_a_list_that_no_number_has(meters: Any, command: tuple[str, ...]) -> None:
    """It is a wrong word, and not an error of ours: numbers have 63 bits."""
    assert meters(*command, "--after", str(2**63 - 1)).exit_code == 0
    result = meters(*command, "--after", str(2**63))
    assert result.exit_code == 2
    assert "--after" in result.stderr
