"""`/metrics` for Prometheus, answered within some networks alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from gateway.wire.call import Call, Format, Reply, Status
from gateway.wire.operation import Answer, Operation
from gateway.wire.route import Route

DEFAULT_NETWORKS: Final = (
    *("127.0.0.0/8", "::1/128"),
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
)
"""This machine, and private networks (RFC 1918, RFC 4193)."""

_NOTHING: Final = Reply(status=Status.NOT_FOUND, reason="nothing is served here")
"""As where there is no route: strangers do not learn that there are figures."""


class MetricsApi:
    """Gives what `text` writes to whoever asks from one of `networks`.

    Raises `ValueError` for what is no network. Behind a proxy all requests come from the proxy: it
    must then keep strangers out itself.
    """

    def __init__(
        self,
        text: Callable[[], Awaitable[bytes]],
        *,
        networks: Iterable[str] = DEFAULT_NETWORKS,
    ) -> None:
        self._text = text
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(network, strict=False) for network in networks
        ]

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                name="metrics",
                handler=self.metrics,
                http=("GET /metrics",),
                quiet=True,
                operation=Operation(
                    summary="Counters and timers for Prometheus",
                    about="Served to the networks of the configuration; to others it is not there.",
                    tag="Operation",
                    public=True,
                    answers={
                        200: Answer("Prometheus' text format", media="text/plain"),
                        404: Answer("Not served to this address"),
                    },
                ),
            ),
        )

    async def metrics(self, call: Call) -> Reply:
        if not self._serves(call.peer.address):
            return _NOTHING
        return Reply(await self._text(), format=Format.METRICS)

    def _serves(self, peer: str) -> bool:
        """Whether a peer (`192.0.2.7:50123`, `[2001:db8::1]:50123`) is in one of the networks."""
        host = peer.rpartition(":")[0].strip("[]").partition("%")[0]
        try:
            address = ip_address(host)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
