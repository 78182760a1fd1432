"""Whose an address is, and which addresses are in which networks, of IPv4 and IPv6."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from gateway.core.model import Peer

Network: TypeAlias = tuple[int, int, int]
"""Version of IP, first address, mask."""

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_MOST_CHARACTERS: Final = 64
_SUBNET_BYTES: Final = 8
"""Of an IPv6 address: a customer's network has at least so many bits of its own to choose."""


def network_of(text: str) -> Network:
    """`10.0.0.0/8`, `2001:db8::/32`, or one address. Raises `ValueError` with a remedy."""
    try:
        if len(text) > _MOST_CHARACTERS:
            raise ValueError("too long")
        found = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("write a network like 10.0.0.0/8 or 2001:db8::/32") from None
    if "/" in text and found.network_address != ip_address(text.partition("/")[0]):
        raise ValueError(f"bits are set behind the prefix: write {found}")
    return _network(found)


def check_network(text: str) -> None:
    """Raises `ValueError` for what is no network prefix."""
    network_of(text)


def _network(found: IPv4Network | IPv6Network) -> Network:
    """Networks of IPv4 in IPv6's clothes (RFC 4291, section 2.5.5.2) are networks of IPv4."""
    first, mask = int(found.network_address), int(found.netmask)
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        return 4, first & 0xFFFF_FFFF, mask & 0xFFFF_FFFF
    return found.version, first, mask


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Whether an IP address (with a zone or without) is in one of `networks`.

    What is no address is in none.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return False
    version, number = found.version, int(found)
    if version == 6 and number >> 32 == 0xFFFF:
        version, number = 4, number & 0xFFFF_FFFF
    return any(of == version and number & mask == first for of, first, mask in networks)


def host_of(peer: Peer) -> str:
    """The IP address of a peer, without its port."""
    host, colon, _ = peer.address.rpartition(":")
    return host.strip("[]") if colon else peer.address


def subnet_of(address: str) -> str:
    """Whose an address is: itself in IPv4, its /64 in IPv6. What is no address is itself."""
    return _subnet(address) if ":" in address else address


@lru_cache(maxsize=1024)
def _subnet(address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return found.packed[:_SUBNET_BYTES].hex()
