"""Names, serial numbers and MACs: one normal form each, however they are written."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.admission_entries import Entry, EntryKind, Marks, entry_of, marks_of
from gateway.core.model import Json, Peer, ProvisionKey, ProvisionRequest, Secret, Wire

PEER = Peer(Wire.HTTP, "192.0.2.7:50123")
PROOF = ProvisionKey(Secret("k"), Secret("s"))


def request(name: str | None, hardware: str | None) -> ProvisionRequest:
    told = None if hardware is None else Json(hardware)
    return ProvisionRequest(proof=PROOF, peer=PEER, device_name=name, hardware=told)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=6, max_size=6) | st.binary(min_size=8, max_size=8), st.booleans())
def test_a_mac_is_one_however_it_is_written(raw: bytes, upper: bool) -> None:
    """With colons, dashes, Cisco's dots or nothing, in either case of letters."""
    digits = raw.hex()
    cisco = ".".join(digits[at : at + 4] for at in range(0, len(digits), 4))
    for written in (raw.hex(":"), raw.hex("-"), cisco, digits):
        text = f" {written.upper() if upper else written}\n"
        assert entry_of(EntryKind.MAC, text).value == raw.hex(":")


@pytest.mark.parametrize(
    "text",
    [
        *("", "aa:bb:cc:dd:ee", "aa:bb:cc:dd:ee:ff:00", "aa:bb-cc:dd:ee:ff", "aabb.ccddee.ff"),
        *("gg:bb:cc:dd:ee:ff", "aabbccddeeff0", "٠٠:bb:cc:dd:ee:ff", "aa:bb:cc:dd:ee:ff\x00"),
    ],
)
def test_what_is_no_mac_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="six bytes"):
        entry_of(EntryKind.MAC, text)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EntryKind), st.text(max_size=300))
def test_a_normal_form_stays_what_it_is(kind: EntryKind, text: str) -> None:
    """Whatever is written is refused, or has a form that is its own."""
    try:
        entry = entry_of(kind, text)
    except ValueError:
        return
    assert entry_of(kind, entry.value) == entry
    assert 0 < len(entry.value) <= 255


def test_serial_numbers_are_alike_in_any_case() -> None:
    assert entry_of(EntryKind.SERIAL, " SN-47/Ä ") == Entry(EntryKind.SERIAL, "sn-47/ä")
    assert entry_of(EntryKind.NAME, " Meter 1 ") == Entry(EntryKind.NAME, "Meter 1")


@pytest.mark.parametrize(
    ("hardware", "serial", "mac"),
    [
        (None, None, None),
        ("{}", None, None),
        ('{"serial":"SN-1","mac":"AA-BB-CC-DD-EE-FF","model":"x"}', "sn-1", "aa:bb:cc:dd:ee:ff"),
        ('{"serial":4711}', "4711", None),
        ('{"serial":["x"],"mac":"aabbccddeeff"}', None, "aa:bb:cc:dd:ee:ff"),
        ('{"serial":"SN-1","mac":7}', "sn-1", None),
        ('{"serial":" ","mac":"none"}', None, None),
        ('{"serial":true}', None, None),
        ("[1]", None, None),
    ],
)
def test_what_a_device_tells_of_itself_is_read_leniently(
    hardware: str | None, serial: str | None, mac: str | None
) -> None:
    """A mark that is none counts as absent, and leaves the other as it is."""
    assert marks_of(request(" d ", hardware)) == Marks("d", serial, mac)


@settings(max_examples=60, deadline=None)
@given(
    st.none() | st.text(max_size=300),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.dictionaries(st.sampled_from(["serial", "mac", "x"]), inner, max_size=3),
    ),
)
def test_whatever_a_device_tells_can_be_looked_for(name: str | None, hardware: object) -> None:
    """Its marks are text of bounded length, or nothing."""
    marks = marks_of(request(name, msgspec.json.encode(hardware).decode()))
    for mark in (marks.name, marks.serial, marks.mac):
        assert mark is None or (0 < len(mark) <= 255 and mark.encode())
