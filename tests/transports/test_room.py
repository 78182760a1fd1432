"""Who has to go when there is no room for one more handshake."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.transports.room import Room, network_of


def full(*hosts: str) -> Room[int]:
    room: Room[int] = Room(len(hosts))
    for number, host in enumerate(hosts):
        room.enter(number, host, 100.0)
    return room


def test_the_oldest_goes_when_it_takes_long() -> None:
    """Two seconds are enough for who takes part; before, nobody goes for his own network's."""
    room = full("192.0.2.1", "192.0.2.1")
    assert room.in_the_way("192.0.2.1", 101.9) is None
    assert room.in_the_way("192.0.2.1", 102.0) == 0


def test_a_network_with_its_share_makes_room() -> None:
    """Of one that has a quarter the oldest goes, for those that have less."""
    room = full("198.51.100.1", *["192.0.2.1"] * 7)
    assert room.in_the_way("203.0.113.1", 101.0) == 1
    assert room.in_the_way("192.0.2.1", 101.0) is None


def test_a_crowd_is_not_thrown_out() -> None:
    """Where nobody has much, those that are being served stay."""
    room = full(*(f"192.0.2.{number}" for number in range(8)))
    assert room.in_the_way("203.0.113.1", 101.0) is None


def test_who_left_counts_no_more() -> None:
    """Leaving twice is leaving once, and nothing is remembered of who left."""
    room = full("192.0.2.1", "192.0.2.1")
    assert (room.leave(0), room.leave(0), room.leave(1), len(room)) == (True, False, True, 0)
    assert room._networks == {}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("no:address", "no:address", True),
    ],
)
def test_networks(one: str, other: str, same: bool) -> None:
    """Who has an IPv6 address has the 64 bits behind it."""
    assert (network_of(one) == network_of(other)) is same


def test_wires_in_the_open_do_without_openssls_bindings() -> None:
    """Listeners can be had without pyOpenSSL, which costs memory and a tenth of a second."""
    rooms = ("coap", "http", "mqtt")
    asked = "".join(f"import gateway.transports.{room};" for room in rooms)
    told = f"{asked}import sys; print([name for name in sys.modules if 'OpenSSL' in name])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
