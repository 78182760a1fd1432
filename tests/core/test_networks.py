"""Networks: an address is within one whichever way it is written."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import Peer, Wire
from gateway.core.networks import check_network, host_of, is_within, network_of, subnet_of


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
        ("::/0", "2001:db8::1", "203.0.113.1"),
        ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.1"),
        ("2001:db8::/32", "2001:DB8:0::1", "2001:db9::1"),
        ("fe80::/10", "fe80::1%eth0", "fec0::1"),
    ],
)
def test_addresses_are_within_their_networks(network: str, inside: str, outside: str) -> None:
    """IPv4 in IPv6's clothes is IPv4, and a zone changes nothing."""
    networks = (network_of("198.51.100.0/24"), network_of(network))
    assert is_within(inside, networks)
    assert not is_within(outside, networks)


def test_what_is_no_address_is_in_no_network() -> None:
    everything = (network_of("0.0.0.0/0"), network_of("::/0"))
    assert not any(is_within(text, everything) for text in ("", "shell", "10.0.0", "10.0.0.1/8"))


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "ten", "10.0.0.0/8/8", "1" * 100, "10.0.0.0 "])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a network"):
        check_network(text)


def test_bits_behind_the_prefix_are_a_mistake() -> None:
    """The remedy names the network that was meant."""
    with pytest.raises(ValueError, match=r"write 10\.1\.0\.0/16"):
        check_network("10.1.2.3/16")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_they_are_what_the_library_says(number: int, prefix: int, address: int) -> None:
    network = IPv4Network((number >> (32 - prefix) << (32 - prefix), prefix))
    there = IPv4Address(address)
    for one in (there, network.network_address, network.broadcast_address):
        assert is_within(str(one), (network_of(str(network)),)) == (one in network)


@pytest.mark.parametrize(
    ("address", "host", "neighbour", "stranger"),
    [
        ("192.0.2.7:50123", "192.0.2.7", "192.0.2.7:1", "192.0.2.8:50123"),
        ("192.0.2.7:50123", "192.0.2.7", "[::ffff:192.0.2.7]:1", "[::ffff:192.0.2.8]:1"),
        (
            "[2001:db8:1:2:3:4:5:6]:50123",
            "2001:db8:1:2:3:4:5:6",
            "[2001:db8:1:2::1]:1",
            "[2001:db8:1:3::1]:1",
        ),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", "[fe80::2%eth0]:1", "[fe81::1%eth0]:1"),
        ("unknown", "unknown", "unknown", ""),
    ],
)
def test_a_peer_is_its_address_without_the_port(
    address: str, host: str, neighbour: str, stranger: str
) -> None:
    """Of IPv6, where who has one address has them all, whoever is in its /64 is the same."""
    one, same, other = (host_of(Peer(Wire.HTTP, text)) for text in (address, neighbour, stranger))
    assert one == host
    assert subnet_of(one) == subnet_of(same) != subnet_of(other)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_whatever_a_peer_is_called_it_counts_for_something(text: str) -> None:
    assert len(subnet_of(host_of(Peer(Wire.HTTP, text)))) <= max(len(text), 16)
