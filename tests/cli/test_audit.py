"""`gatehouse audit`: what happened, and whether the record is whole."""

from __future__ import annotations

import json
import sqlite3

import pytest

from gateway.cli.audit import _plain, _row, told
from gateway.core.audit import AuditEntry, Break, BrokenLink, Verdict
from gateway.core.model import Event, EventKind, Peer, Wire


@pytest.fixture
def busy(shell, waits):
    """A shell in whose store some things happened."""
    waits(shell)
    shell.ok("device", "add", "--profile", "valve", "valve-1", "valve-2")
    shell.ok("device", "remove", "valve-2", "--yes")
    return shell


def _alter(shell, statement):
    with sqlite3.connect(shell.folder / "data" / "gatehouse.db") as db:
        db.execute(statement)


def test_what_happened_is_shown_the_newest_last(busy):
    """Numbers, times, kinds, names, and who did it from where."""
    rows = busy.json("audit")
    assert [one["kind"] for one in rows][-3:] == ["device:create"] * 2 + ["device:remove"]
    assert [one["seq"] for one in rows] == sorted(one["seq"] for one in rows)
    assert "device:remove" in busy.ok("audit")
    assert [one["kind"] for one in busy.json("audit", "--last", "1")] == ["device:remove"]


def test_filters_narrow_what_is_shown(busy):
    """By kind or the beginning of one, by device, by outcome, text and time."""
    kinds = {one["kind"] for one in busy.json("audit", "--kind", "device:")}
    assert kinds == {"device:create", "device:remove"}
    assert {one["subject"] for one in busy.json("audit", "--device", "valve-1")} == {"valve-1"}
    assert {one["subject"] for one in busy.json("audit", "--search", "VALVE-2")} == {"valve-2"}
    assert busy.json("audit", "--refused") == []
    assert busy.json("audit", "--since", "2999-01-01") == []
    assert busy.json("audit", "--for", "1h")
    assert busy.json("audit", "--actor", "nobody@example.com") == []
    wrong = busy("audit", "--kind", "devcie")
    assert wrong.exit_code == 2
    assert "They begin with admission, approval, audit, " in wrong.output


def test_a_whole_chain_is_said_to_hold(busy):
    """With how many events, and the digest of the newest to note elsewhere."""
    verdict = busy.json("audit", "verify")
    assert verdict["holds"] is True
    assert verdict["events"] == verdict["newest"] >= 4
    text = busy.ok("audit", "verify")
    assert "The chain holds" in text
    assert verdict["digest"] in text


@pytest.mark.parametrize(
    ("statement", "how", "words"),
    [
        ("UPDATE event SET subject = 'x' WHERE seq = 3", "changed", "event 3 was changed"),
        ("DELETE FROM event WHERE seq = 3", "removed", "event 3 was removed"),
        ("DELETE FROM event WHERE seq > 2", "cut", "were cut off"),
        ("DELETE FROM event_chain", "head", "the seal on the chain's end"),
        ("UPDATE event SET subject = 'x' WHERE seq = 3", "changed", "(The 2 events before it hold"),
    ],
)
def test_a_broken_chain_ends_with_a_sentence_and_status_1(busy, statement, how, words):
    """What somebody did to the database is told with its place, and scripts hear of it."""
    _alter(busy, statement)
    result = busy("audit", "verify")
    assert result.exit_code == 1
    assert "The chain is broken: " in result.output
    assert words in result.output
    result = busy("audit", "verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["broken"]["how"] == how


def test_a_shell_is_not_taken_for_a_user():
    """Also in older events, which have its name as address alone; JSON stays as it is."""
    for peer in (Peer(Wire.SHELL, "root", actor="root"), Peer(Wire.SHELL, "root")):
        entry = AuditEntry(event=Event(kind=EventKind.DEVICE_CREATE, at=1, peer=peer))
        assert "root (shell)" in _row(entry)
        assert _plain(entry)["actor"] == (peer.actor or None)


@pytest.mark.parametrize("how", list(Break))
def test_each_break_has_a_sentence(how):
    """None is told as a bare word, and none leaves a brace."""
    text = told(Verdict(events=3, broken=BrokenLink(how, 5, 7)))
    assert text.startswith("The chain is broken: ")
    assert "{" not in text


def test_a_follower_sees_what_happens_next(busy):
    """Events that are written after it began arrive, a JSON document a line, each once."""
    with busy.start("audit", "--follow", "--json", "--last", "1", stdout=-1) as following:
        try:
            first = json.loads(following.stdout.readline())
            assert first["kind"] == "device:remove"
            busy.ok("device", "add", "--profile", "valve", "valve-9")
            then = json.loads(following.stdout.readline())
            assert (then["seq"], then["subject"]) == (first["seq"] + 1, "valve-9")
        finally:
            following.terminate()
