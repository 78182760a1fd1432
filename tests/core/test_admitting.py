"""Who may come: every rule refuses for its own reason, and no rule costs nothing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.admission_entries import Entry, EntryKind, Marks, entry_of
from gateway.core.admission_rows import BadRow, GoodRow, read_rows
from gateway.core.admitting import Admitting, Listed
from gateway.core.csv_rows import CsvError
from gateway.core.model import (
    Admission,
    DeviceProfile,
    Event,
    EventKind,
    Json,
    Peer,
    Policy,
    ProvisionKey,
    ProvisionRequest,
    Secret,
    Wire,
)
from gateway.core.model import RefusalReason as R
from gateway.core.opening_hours import hours_of
from gateway.store.sql_admission import SqlAdmission
from gateway.store.sql_store import SqlStore

MONDAY = round(datetime.fromisoformat("2026-12-07T12:00Z").timestamp() * 1000)
PROOF = ProvisionKey(Secret("k"), Secret("s"))
EVENT = Event(kind=EventKind.ADMISSION_CHANGE, at=1, peer=Peer(Wire.SHELL, "tester"))


def asking(
    name: str | None = "WM-1", address: str = "10.0.0.7:5683", hardware: str | None = None
) -> ProvisionRequest:
    told = None if hardware is None else Json(hardware)
    peer = Peer(Wire.COAP, address)
    return ProvisionRequest(proof=PROOF, peer=peer, device_name=name, hardware=told)


def profile(number: int = 1, **admission: Any) -> DeviceProfile:
    return DeviceProfile(id=number, name="p", policy=Policy(admission=Admission(**admission)))


async def why(rules: DeviceProfile, request: ProvisionRequest, now: int = MONDAY) -> R | None:
    return await Admitting().why_not(rules, request, now)


@pytest.mark.parametrize(
    ("rules", "comes", "is_refused", "reason"),
    [
        ({"allow": ("WM-*", "^X$")}, {"name": " WM-1 "}, {"name": "xWM-1"}, R.NOT_ON_ALLOW_LIST),
        ({"allow": ("*",)}, {"name": "a"}, {"name": None}, R.NOT_ON_ALLOW_LIST),
        ({"allow": ("*",)}, {"name": "a"}, {"name": "\ud800"}, R.NOT_ON_ALLOW_LIST),
        ({"deny": ("*-test",)}, {"name": None}, {"name": "a-test"}, R.ON_DENY_LIST),
        (
            {"networks": ("10.0.0.0/8", "2001:db8::/32")},
            {"address": "[::ffff:10.9.9.9]:5683"},
            {"address": "192.0.2.7:5683"},
            R.NETWORK_NOT_ALLOWED,
        ),
        (
            {"networks": ("2001:db8::/32",)},
            {"address": "[2001:db8::1]:5683"},
            {"address": "shell"},
            R.NETWORK_NOT_ALLOWED,
        ),
    ],
)
async def test_each_rule_refuses_for_its_own_reason(
    rules: dict[str, Any], comes: dict[str, Any], is_refused: dict[str, Any], reason: R
) -> None:
    assert await why(profile(**rules), asking(**comes)) is None
    assert await why(profile(**rules), asking(**is_refused)) is reason


async def test_outside_of_its_times_nobody_comes() -> None:
    """From the first millisecond on, up to the last, and in one of the hours."""
    window = profile(opens_at=MONDAY, closes_at=MONDAY + 1000)
    at = {now: await why(window, asking(), now) for now in (MONDAY - 1, MONDAY, MONDAY + 1000)}
    assert list(at.values()) == [R.OUTSIDE_HOURS, None, R.OUTSIDE_HOURS]
    hours = profile(hours=("Sun 00:00-24:00", "Mon 12:00-13:00"))
    assert await why(hours, asking()) is None
    assert await why(hours, asking(), MONDAY + 3_600_000) is R.OUTSIDE_HOURS


async def test_what_cannot_be_read_here_admits_nobody() -> None:
    """It was proven elsewhere, where more zones were known."""
    for rules in ({"hours": ("07:00-19:00 Mars/Base",)}, {"deny": ("^(",)}, {"networks": ("x",)}):
        assert await why(profile(**rules), asking()) is R.OUTSIDE_HOURS


async def test_rules_follow_the_profile() -> None:
    """A changed profile is held to its new rules with the next request."""
    gate = Admitting()
    assert await gate.why_not(profile(allow=("a",)), asking("b"), MONDAY) is R.NOT_ON_ALLOW_LIST
    assert await gate.why_not(profile(allow=("b",)), asking("b"), MONDAY) is None


class Counting(SqlAdmission):
    """Counts what is asked of the store."""

    def __init__(self, store: SqlStore) -> None:
        super().__init__(store)
        self.asked = 0

    async def look_up(self, profile_id: int, marks: Marks, *, denying: bool) -> Listed:
        self.asked += 1
        return await super().look_up(profile_id, marks, denying=denying)

    async def has_deny_list(self, profile_id: int) -> bool:
        self.asked += 1
        return await super().has_deny_list(profile_id)


async def put(lists: SqlAdmission, number: int, denied: bool, entries: Sequence[Entry]) -> None:
    assert await lists.add_entries(number, denied, entries, EVENT) == len(entries)


async def test_names_serials_and_macs_are_looked_up(store: SqlStore, new_fleet: Any) -> None:
    """One of the three must be allowed, none denied; the deny-list counts without any setting."""
    number, lists = (await new_fleet()).profile.id, Counting(store)
    listed, plain = profile(number, allow_list=True), DeviceProfile(id=number, name="p")
    gate = Admitting(lists)
    for kind, text in (("name", "WM-1"), ("serial", "SN-1"), ("mac", "aabbccddeeff")):
        await put(lists, number, False, [entry_of(EntryKind(kind), text)])
    hardware = '{"serial":"sn-1","mac":"00-00-00-00-00-00"}'
    assert await gate.why_not(listed, asking("WM-1"), MONDAY) is None
    assert await gate.why_not(listed, asking("x", hardware=hardware), MONDAY) is None
    mac = '{"mac":"AABB.CCDD.EEFF"}'
    assert await gate.why_not(listed, asking(None, hardware=mac), MONDAY) is None
    assert await gate.why_not(listed, asking("wm-1"), MONDAY) is R.NOT_ON_ALLOW_LIST
    assert await gate.why_not(plain, asking("x"), MONDAY) is None
    await put(lists, number, True, [entry_of(EntryKind.MAC, "AA:BB:CC:DD:EE:FF")])
    soon = MONDAY + 1000
    for rules in (listed, plain):
        denied = await gate.why_not(rules, asking("WM-1", hardware=mac), soon)
        assert denied is R.ON_DENY_LIST
    assert await gate.why_not(plain, asking("WM-1"), soon) is None


async def test_who_has_no_rules_is_not_looked_up(store: SqlStore) -> None:
    """Whether there is a deny-list is asked once a second; with rules, one look-up a request."""
    lists = Counting(store)
    gate = Admitting(lists)
    for number in range(100):
        assert await gate.why_not(DeviceProfile(id=7, name="p"), asking(f"d{number}"), 5) is None
    assert lists.asked == 1
    assert await gate.why_not(profile(7, allow_list=True), asking(), 6) is R.NOT_ON_ALLOW_LIST
    assert lists.asked == 2
    assert await gate.why_not(profile(7, allow=("*",)), asking(), 1005) is None
    assert lists.asked == 3


async def test_without_lists_nobody_is_listed() -> None:
    assert await why(profile(allow_list=True), asking()) is R.NOT_ON_ALLOW_LIST


# ── files of entries ──────────────────────────────────────────────────────────────────────────


def rows(content: bytes, kind: EntryKind = EntryKind.NAME) -> list[GoodRow | BadRow]:
    return list(read_rows(io.BytesIO(content), kind))


def shape(found: Sequence[GoodRow | BadRow]) -> list[Any]:
    return [
        (one.at, *(f"{entry.kind}:{entry.value}" for entry in one.entries))
        if isinstance(one, GoodRow)
        else one.at
        for one in found
    ]


def test_lines_are_one_value_each() -> None:
    """Commas and quotes belong to it; empty lines are passed over; bad ones keep their number."""
    content = b'\xef\xbb\xbfHall 3, "left"\r\n\n  WM-2 \n\xff\nlast'
    assert shape(rows(content)) == [
        (1, 'name:Hall 3, "left"'),
        (3, "name:WM-2"),
        4,
        (5, "name:last"),
    ]
    assert shape(rows(b"AA-BB-CC-DD-EE-FF\nnone\n", EntryKind.MAC)) == [
        (1, "mac:aa:bb:cc:dd:ee:ff"),
        2,
    ]
    assert shape(rows(b"x" * 10_000 + b"\nWM-2\n")) == [1, (2, "name:WM-2")]


def test_a_table_is_read_by_its_header() -> None:
    """Other columns are passed over; a row lists all that it has."""
    content = b'Site;MAC;Serial\nA;"aabbccddeeff";SN-1\nB;;\nC;bad;SN-2\nD;;SN-3\n'
    assert shape(rows(content, EntryKind.NAME)) == [
        (2, "mac:aa:bb:cc:dd:ee:ff", "serial:sn-1"),
        4,
        (5, "serial:sn-3"),
    ]
    assert shape(rows(b"name\nWM-1\n")) == [(2, "name:WM-1")]


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"name", b"mac", b",", b"\n", b'"', b"a", b"\xff", b"\x00"])).map(
        b"".join
    ),
    st.sampled_from(EntryKind),
)
def test_any_bytes_are_read_to_their_end(content: bytes, kind: EntryKind) -> None:
    """Every row is good or bad, in order; what is given can be kept."""
    try:
        found = rows(content, kind)
    except CsvError:
        return
    assert [one.at for one in found] == sorted({one.at for one in found})
    for one in found:
        if isinstance(one, GoodRow):
            assert all(entry_of(entry.kind, entry.value) == entry for entry in one.entries)


@pytest.mark.parametrize(
    ("rules", "opens"),
    [
        ({"hours": ("Tue 07:30-08:00",)}, "2026-12-08T07:30Z"),
        ({"hours": ("Mon 07:00-11:00", "Sun,Sat 20:00-22:00 Asia/Tokyo")}, "2026-12-12T11:00Z"),
        ({"hours": ("22:00-06:00",)}, "2026-12-07T22:00Z"),
        ({"hours": ("Mon 11:00-12:00",)}, "2026-12-14T11:00Z"),
        ({"opens_at": "2026-12-09T12:00Z"}, "2026-12-09T12:00Z"),
        ({"opens_at": "2026-12-09T12:00Z", "hours": ("13:00-14:00",)}, "2026-12-09T13:00Z"),
        ({"opens_at": "2026-12-09T12:00Z", "hours": ("11:00-14:00",)}, "2026-12-09T12:00Z"),
        ({"closes_at": "2026-12-07T11:00Z"}, None),
        ({"closes_at": "2026-12-07T21:00Z", "hours": ("22:00-06:00",)}, None),
        ({"hours": ("07:00-08:00 No/Where",)}, None),
    ],
)
async def test_who_comes_too_early_is_told_when_to_come_again(
    rules: dict[str, Any], opens: str | None
) -> None:
    """And is let in then; those of other names some time later, up to ten minutes."""
    for at in ("opens_at", "closes_at"):
        if at in rules:
            rules = rules | {at: round(datetime.fromisoformat(rules[at]).timestamp() * 1000)}
    gate, held = Admitting(), profile(**rules)
    assert await gate.why_not(held, asking(), MONDAY) is R.OUTSIDE_HOURS
    waits = [gate.wait_s(held, R.OUTSIDE_HOURS, f"d-{one}", MONDAY) for one in range(50)]
    if opens is None:
        assert set(waits) == {0}
        return
    least = round(datetime.fromisoformat(opens).timestamp() * 1000) - MONDAY
    assert least <= min(waits) * 1000 < max(waits) * 1000 <= least + 600_000
    assert await gate.why_not(held, asking(), MONDAY + least) is None
    assert gate.wait_s(held, R.NOT_ON_ALLOW_LIST, "d", MONDAY) == 0


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-03-28T12:00Z", "2026-03-29T01:30Z"),  # 02:30 is no time of that night
        ("2026-10-24T12:00Z", "2026-10-25T00:30Z"),  # 02:30 comes twice
        ("2026-10-25T00:30Z", "2026-10-26T01:30Z"),
    ],
)
def test_hours_begin_once_in_the_night_in_which_clocks_are_changed(now: str, opens: str) -> None:
    """As a clock on the wall has it."""
    begins, at = hours_of("02:30-05:00 Europe/Berlin"), datetime.fromisoformat(now)
    assert begins.next(round(at.timestamp() * 1000)) == round(
        datetime.fromisoformat(opens).timestamp() * 1000
    )
    assert begins.hold(begins.next(round(at.timestamp() * 1000)))


async def test_that_a_device_is_denied_goes_before_all_else() -> None:
    """Before hours and networks: it is not given again what it was given, either."""
    rules = profile(deny=("WM-*",), hours=("Tue 07:30-08:00",), networks=("192.0.2.0/24",))
    assert await why(rules, asking("WM-1")) is R.ON_DENY_LIST
    assert await why(rules, asking("x")) is R.OUTSIDE_HOURS
