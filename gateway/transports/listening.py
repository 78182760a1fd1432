"""Sockets to listen on: which families an address means, and how their peers are written."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

Found: TypeAlias = tuple[int, int, int, str, Any]
"""One answer of `getaddrinfo`: family, kind, protocol, canonical name, address."""

_EVERY = "::"
_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""A name may have an address of a family this machine does not speak."""


async def resolve(host: str, port: int, kind: socket.SocketKind) -> list[Found]:
    """The addresses of `host` to bind a socket of `kind` to. Raises `OSError` for none."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))


def open_socket(host: str, found: Found) -> socket.socket:
    """A non-blocking socket, not bound yet, of the family of `found`.

    `::` means every address, IPv4 too; any other IPv6 address means itself, so that IPv4 may be
    listened on beside it. The system's default (`net.ipv6.bindv6only`) decides neither.
    """
    family, kind, protocol, _, _ = found
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != _EVERY))
    return opened


async def bind_tcp(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Sockets that listen on every address of `host` (`localhost` has two), all on one port.

    `port` 0 picks one. Raises `OSError` when an address is taken or none can be had.
    """
    taken: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for found in await resolve(host, port, socket.SOCK_STREAM):
            try:
                taken.append(_listen(host, found, port, backlog))
            except OSError as exc:
                if exc.errno not in _ABSENT:
                    raise
                absent = exc
            else:
                port = taken[0].getsockname()[1]
        if absent is not None and not taken:
            raise absent
    except BaseException:
        for opened in taken:
            opened.close()
        raise
    return taken


def _listen(host: str, found: Found, port: int, backlog: int) -> socket.socket:
    opened = open_socket(host, found)
    address = found[4]
    try:
        if os.name == "posix":
            # As asyncio does: a restart need not wait for the old connections' TIME_WAIT.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address[0], port, *address[2:]))
        # Two sockets may be bound to one port with SO_REUSEADDR; only listening tells them apart.
        opened.listen(backlog)
    except BaseException:
        opened.close()
        raise
    return opened


async def listen_tcp(
    protocol: Callable[[], asyncio.BaseProtocol], host: str, port: int, backlog: int
) -> list[asyncio.Server]:
    """Servers that give each connection to `host` and `port` a `protocol`; see `bind_tcp`."""
    loop = asyncio.get_running_loop()
    return [
        await loop.create_server(protocol, sock=opened, backlog=backlog)
        for opened in await bind_tcp(host, port, backlog)
    ]


def port_of(servers: list[asyncio.Server]) -> int:
    """The port that all of `servers` listen on."""
    number: int = servers[0].sockets[0].getsockname()[1]
    return number


def peer_name(name: Any) -> str:
    """`192.0.2.7:50123`, `[2001:db8::1]:50123`; IPv4 through an IPv6 socket is IPv4.

    The socket of a peer already gone has none: `unknown`.
    """
    if not isinstance(name, tuple):
        return "unknown"
    host, port = name[0], name[1]
    if host.startswith("::ffff:") and "." in host:
        host = host[7:]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
