"""`gatehouse ticket`, and what `explain` tells of one."""

from __future__ import annotations

import asyncio
import csv
import http.client
import json
import re
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.cli.ticket_run import Issuing, Sheet
from gateway.clock import now_ms
from gateway.core.errors import Overloaded
from gateway.core.model import (
    Event,
    EventKind,
    Organisation,
    Peer,
    Secret,
    Ticket,
    TicketKind,
    Wire,
)
from gateway.core.tickets import Issued
from gateway.store.audit import SqlAudit
from gateway.store.tickets import ExpireTickets

TEMPLATE = "TMPLwater0001"
PROFILE = f"""
name = "Water Meter"
provision_type = "DISABLED"

[blynk]
template_id = "{TEMPLATE}"
device_name = "Meter {{id}}"
"""
OTHER = PROFILE.replace("Water Meter", "Other").replace(TEMPLATE, "TMPLother0001")
TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")


@pytest.fixture
def meters(shell: Any) -> Any:
    """A shell whose profile `Water Meter` is a template."""
    (shell.folder / "profiles" / "water.toml").write_text(PROFILE)
    shell.ok("org", "add", "Unused")  # makes the store
    return shell


def file_of(shell: Any, name: str) -> list[dict[str, str]]:
    with (shell.folder / name).open() as file:
        return list(csv.DictReader(file))


def listed(shell: Any, *more: str) -> list[int]:
    return [one["ticket"] for one in shell.json("ticket", "list", *more)]


# ── issuing ───────────────────────────────────────────────────────────────────────────────────


def test_a_token_is_printed_once_and_nothing_else_there(meters: Any) -> None:
    """Standard output is the token; what it is for, and how to use it, is told beside."""
    result = meters("ticket", "issue", "--days", "1")
    assert result.exit_code == 0, result.output
    token = result.stdout.strip()
    assert TOKEN.fullmatch(token)
    assert "reserves device 1 for `root`" in result.stderr
    assert f"templateId={TEMPLATE}" in result.stderr
    assert token not in result.stderr
    (waiting,) = meters.json("ticket", "list")
    assert (waiting["device_id"], waiting["kind"]) == (1, "single")
    assert 0 < waiting["expires_at"] - now_ms() <= 86_400_000
    for command in ("ticket list", "explain 1", "audit", "device events"):
        assert token not in meters.ok(*command.split())
        assert token not in json.dumps(meters.json(*command.split()))


def test_a_ticket_is_for_an_organisation_and_an_owner(meters: Any) -> None:
    """Both are named as people know them; the list of one organisation has what is below it."""
    meters.ok("org", "add", "Acme")
    meters.ok("user", "add", "ann@acme.test", "--org", "Acme", "--generate")
    wish = ("--org", "Acme", "--owner", "ann@acme.test")
    made = meters.json("ticket", "issue", *wish)
    assert (made["organisation"], made["owner"]) == ("Acme", "ann@acme.test")
    other = meters.json("ticket", "issue")
    assert listed(meters) == [made["ticket"], other["ticket"]]
    assert listed(meters, "--org", "Acme") == [made["ticket"]]
    assert listed(meters, "--device", str(other["device_id"])) == [other["ticket"]]
    table = meters.ok("ticket", "list")
    assert "ann@acme.test" in table
    assert "a new device" in table


def test_the_numbers_of_blynks_api_are_shown(meters: Any) -> None:
    """`orgId` and `ownerId` stand in the lists of organisations and users."""
    meters.ok("org", "add", "Acme")
    meters.ok("user", "add", "ann@acme.test", "--org", "Acme", "--generate")
    numbers = {one["name"]: one["id"] for one in meters.json("org", "list")}
    assert re.search(rf"^ {numbers['Acme']} +Acme ", meters.ok("org", "list"), re.MULTILINE)
    (ann,) = meters.json("user", "list")
    assert re.search(rf"^ {ann['id']} +ann@acme.test ", meters.ok("user", "list"), re.MULTILINE)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--owner", "nobody@acme.test"), "there is no user"),
        (("--org", "Nowhere"), "there is no organisation"),
        (("--days", "0"), "--days"),
        (("--days", "4000"), "--days"),
        (("--count", "0"), "--count"),
        (("--output", "profiles"), "--output"),
        (("--output", "nowhere/tokens.csv"), "--output wants a new file"),
    ],
)
def test_a_wrong_wish_issues_nothing(meters: Any, args: tuple[str, ...], said: str) -> None:
    """It says what is wrong, and no number is used up."""
    result = meters("ticket", "issue", *args)
    assert result.exit_code != 0
    assert said in result.stderr
    assert listed(meters) == []


def test_an_owner_of_another_organisation_is_refused(meters: Any) -> None:
    """Only members of the organisation, or of one above it, may own its devices."""
    for name in ("Acme", "Beta"):
        meters.ok("org", "add", name)
    meters.ok("user", "add", "ben@beta.test", "--org", "Beta", "--generate")
    assert meters("ticket", "issue", "--org", "Acme", "--owner", "ben@beta.test").exit_code == 1
    assert listed(meters) == []


def test_many_tokens_go_to_a_file_that_only_its_owner_reads(meters: Any) -> None:
    """The file has all of them and the terminal none; a file that is there is not touched."""
    result = meters("ticket", "issue", "--count", "450", "--output", "tokens.csv")
    assert result.exit_code == 0, result.output
    rows = file_of(meters, "tokens.csv")
    assert len({row["token"] for row in rows}) == 450
    assert all(TOKEN.fullmatch(row["token"]) for row in rows)
    assert stat.S_IMODE((meters.folder / "tokens.csv").stat().st_mode) == 0o600
    assert not any(row["token"] in result.output for row in rows)
    assert [int(row["ticket"]) for row in rows] == listed(meters, "--limit", "1000")
    before = (meters.folder / "tokens.csv").read_bytes()
    again = meters("ticket", "issue", "--count", "2", "--output", "tokens.csv")
    assert again.exit_code == 1
    assert (meters.folder / "tokens.csv").read_bytes() == before


def test_many_tokens_are_printed_as_csv_or_json(meters: Any) -> None:
    """Lines as they are issued; JSON is one document; with a file the summary alone."""
    lines = meters.ok("ticket", "issue", "--count", "3").splitlines()
    assert lines[0] == "ticket,device_id,token,until"
    assert len(lines) == 4
    told = meters.json("ticket", "issue", "--count", "2")
    assert [TOKEN.fullmatch(one["token"]) is None for one in told] == [False, False]
    summary = meters.json("ticket", "issue", "--count", "2", "--output", "more.csv")
    assert summary == {"file": "more.csv", "issued": 2}


def test_no_more_wait_than_may(meters: Any) -> None:
    """What was issued before the bound is printed, and the sentence names the setting."""
    bound = {"GATEHOUSE_BLYNK_MAX_TICKETS": "1"}
    result = meters("ticket", "issue", "--count", "5", **bound)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1 + 1
    assert "max_tickets" in result.stderr
    assert "stopped: issued 1 of 5" in result.stderr
    single = meters("ticket", "issue", **bound)
    assert (single.exit_code, single.stdout) == (1, "")
    assert "max_tickets" in single.stderr
    assert len(listed(meters)) == 1


def test_ctrl_c_loses_no_token(meters: Any) -> None:
    """Each ticket that was issued when the run was ended is in the file, with its token."""
    args = ("ticket", "issue", "--count", "100000", "--output", "tokens.csv")
    with meters.start(*args, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        path = Path(meters.folder / "tokens.csv")
        for _ in range(1500):
            if path.exists() and path.stat().st_size > 20_000:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    rows = file_of(meters, "tokens.csv")
    assert 0 < len(rows) < 100_000
    assert f"stopped: issued {len(rows)} of 100000" in err
    assert out == ""

    async def count() -> int:
        async with meters.inside() as inside:
            (row,) = await inside.store.driver.rows("count_tickets", 1)
            return int(row[0])

    assert asyncio.run(count()) == len(rows)


class _OneIsRefused:
    """Of two at once, the second is refused."""

    def __init__(self) -> None:
        self.asked = 0

    async def issue(self, *_: Any, **__: Any) -> Issued:
        self.asked += 1
        if self.asked > 2:
            raise Overloaded("enough")
        ticket = Ticket(
            id=self.asked, kind=TicketKind.SINGLE, organisation_id=1, device_id=7, path="/1/"
        )
        return Issued(ticket, Secret("t" * 32))


async def test_what_was_issued_beside_a_refusal_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refusal ends the run after the others of its chunk are kept."""
    root = Organisation(id=1, uuid="u", name="root", parent_id=None, path="/1/")
    tickets: Any = _OneIsRefused()
    with Sheet(tmp_path / "t.csv", root, None, as_json=False) as sheet:
        work = Issuing(tickets, None, root, None, None, sheet)  # type: ignore[arg-type]
        with pytest.raises(Overloaded):
            await work.run(5)
    assert work.issued == 2
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3
    assert capsys.readouterr().out == ""


# ── revoking ──────────────────────────────────────────────────────────────────────────────────


def test_a_revoked_ticket_admits_nobody(meters: Any) -> None:
    """It is gone from the list, asks first, and its number keeps its story."""
    made = meters.json("ticket", "issue")
    number = str(made["ticket"])
    assert meters("ticket", "revoke", number).exit_code == 2
    assert listed(meters) == [made["ticket"]]
    assert "admits nobody" in meters.ok("ticket", "revoke", number, "--yes")
    assert listed(meters) == []
    again = meters("ticket", "revoke", number, "--yes")
    assert again.exit_code == 1
    assert f"gatehouse explain --ticket {number}" in again.stderr
    told = meters.ok("explain", "--ticket", number)
    assert "There is no device 1, and no ticket for it." in told
    assert "Its ticket was revoked" in told


# ── the story ─────────────────────────────────────────────────────────────────────────────────


def test_a_number_that_is_only_reserved_is_explained(meters: Any) -> None:
    """By its own number and by its ticket's: for whom it is kept, how long, and what to do."""
    made = meters.json("ticket", "issue")
    text = meters.ok("explain", str(made["device_id"]))
    assert "Device 1 is not there yet: ticket" in text
    assert "Its number was reserved, and a token for it issued" in text
    assert f"gatehouse ticket revoke {made['ticket']}" in text
    assert meters.ok("explain", "--ticket", str(made["ticket"])) == text
    told = meters.json("explain", "--number", "1")
    assert (told["exists"], told["ticket"]["ticket"]) == (False, made["ticket"])


def test_numbers_that_nothing_is_known_of_are_errors(meters: Any) -> None:
    """Each says what was looked for; two at once are a usage error."""
    meters.ok("profile", "list")
    for args, said in (
        (("--ticket", "99"), "nothing is known of a ticket 99"),
        (("--number", "99"), "nothing is known of a device 99"),
        (("99",), "nothing is known of `99`"),
    ):
        result = meters("explain", *args)
        assert result.exit_code == 1
        assert said in result.stderr
    assert meters("explain", "a", "--ticket", "1").exit_code == 2
    assert meters("explain").exit_code == 2


def test_a_name_stands_before_a_number(meters: Any) -> None:
    """A device whose name is a number is found by it; --number means the other."""
    meters.json("ticket", "issue")
    meters.ok("device", "add", "--profile", "demo", "1")
    assert "`1` is a device of profile `demo`" in meters.ok("explain", "1")
    assert "Device 1 is not there yet" in meters.ok("explain", "--number", "1")


def test_an_expired_ticket_says_so(meters: Any) -> None:
    """Before it is swept, and after, with what to do."""
    made = meters.json("ticket", "issue", "--days", "0.00000001")
    assert "(expired)" in meters.ok("ticket", "list")
    assert "Device 1 never came" in meters.ok("explain", "1")

    async def sweep() -> None:
        async with meters.inside() as inside:
            await inside.store.writer.submit(ExpireTickets(now_ms(), 10))

    asyncio.run(sweep())
    text = meters.ok("explain", "--ticket", str(made["ticket"]))
    assert "Its ticket expired: no device had used the token in time" in text
    assert "What to do: Issue another: `gatehouse ticket issue`" in text


def ask(server: Any, **query: str) -> tuple[int, bytes]:
    """One claim over a real socket."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ports[Wire("http")], timeout=10)
    try:
        connection.request("GET", f"/external/api/provision?{urlencode(query)}")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_whole_story_of_a_ticket(server: Any) -> None:
    """Issued, tried with a wrong template, claimed, provisioned anew, the old token ended, an
    order: each is a sentence, in its order, and no token is in any of them."""
    shell = server.shell
    for name, text in (("water", PROFILE), ("other", OTHER)):
        (shell.folder / "profiles" / f"{name}.toml").write_text(text)
    shell.ok("profile", "list")
    made = shell.json("ticket", "issue")
    token, number = made["token"], made["device_id"]
    for _ in range(50):
        status, _body = ask(server, token=token, templateId=TEMPLATE)
        if status == 200:
            break
        time.sleep(0.1)
    assert status == 200
    name = f"Meter {number}"
    assert ask(server, token=token, templateId="TMPLother0001")[0] == 400
    renewed = shell.json("device", "reprovision", name)
    assert ask(server, token=token, templateId=TEMPLATE)[0] == 200
    assert "has a new token for it" in shell.ok("explain", name)
    assert ask(server, token=renewed["token"], templateId=TEMPLATE)[0] == 200
    assert ask(server, token=token, templateId=TEMPLATE)[0] == 400
    shell.ok("device", "reconfigure", name)
    story = shell.json("explain", name)
    steps = [one["told"].split(",")[0].split(" (")[0].split(";")[0] for one in story["story"]]
    expected = [
        "Its number was reserved",
        "It showed its token and came into being",
        "It showed its token and was refused",
        "A new token was issued for it",
        "It used its new token for the first time: the old one ended",
        "It was told to reconfigure",
    ]
    assert [step for step in steps if step in expected] == expected
    assert shell.json("explain", "--ticket", str(renewed["ticket"])) == story
    everything = json.dumps([story, shell.json("audit", "--last", "1000")])
    assert token not in everything
    assert renewed["token"] not in everything
    assert listed(shell) == []
    shell.ok("device", "remove", name, "--yes")
    gone = shell.ok("explain", name)
    assert "Its number was reserved" in gone
    assert "It was removed" in gone


async def test_events_of_a_ticket_are_found_by_its_number_alone(meters: Any) -> None:
    """A name with the same text in it, as JSON would have it, is none."""
    details = {7: {"organisation": '"ticket":"5"'}, 8: {"ticket": "55"}}
    async with meters.inside() as inside:
        for device, detail in details.items():
            peer = Peer(Wire.SHELL, "x")
            await inside.store.record(
                Event(kind=EventKind.TICKET_ISSUE, at=1, peer=peer, device_id=device, detail=detail)
            )
    async with meters.inside() as inside:  # all of them are written
        audit = SqlAudit(inside.store)
        assert await audit.audit_ticket(5) is None
        assert await audit.audit_ticket(55) == 8
