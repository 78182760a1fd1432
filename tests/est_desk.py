"""EST over a store in memory: what the transports would do is done by hand."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import certs
from certified import OPERATOR, Certified, identity_of
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from gateway.core.limits import RateLimiter
from gateway.core.model import (
    Device,
    Event,
    EventKind,
    Identity,
    Peer,
    PresharedKey,
    Secret,
    Wire,
)
from gateway.dialects.est import Est
from gateway.wire.call import NOTHING, Reply
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

ADDRESS = "192.0.2.7:50123"


class Desk:
    """The dialect, and devices that come to it over each wire."""

    def __init__(self, lab: Certified, fleet: Any, limiter: RateLimiter) -> None:
        self.lab = lab
        self.fleet = fleet
        self.est = Est(
            provisioner=lab.provisioner,
            certifier=lab.certifier,
            authorities=lab.authorities,
            access=lab.access,
            profiles=lab.profiles,
            tickets=lab.store.find_fleet_ticket,
            limiter=limiter,
            clock=lab.clock,
        )
        self._routers = {
            wire: Router(self.est.routes(), wire, Gauge(100)) for wire in (Wire.HTTP, Wire.COAP)
        }

    @property
    def login(self) -> Mapping[str, str]:
        """The headers of somebody who has the fleet's key and secret."""
        return basic(self.fleet.ticket.key.reveal(), self.fleet.ticket.secret.reveal())

    async def https(
        self,
        address: str,
        body: bytes | str = b"",
        *,
        headers: Mapping[str, str] = NOTHING,
        identity: Identity | None = None,
        wire: Wire = Wire.HTTPS,
        agent: str = "curl/8.0",
    ) -> tuple[int, Reply]:
        """The HTTP status and the reply of `POST simpleenroll` (below `/.well-known/est/`).

        `agent` is what the client calls itself; "": it does not.
        """
        from gateway.transports.http_answers import CODES

        method, _, path = address.partition(" ")
        route, reply = await self._routers[Wire.HTTP].answer(
            f"{method} /.well-known/est/{path}",
            body.encode() if isinstance(body, str) else body,
            Peer(wire, ADDRESS),
            identity=identity,
            headers={"User-Agent": agent, **headers} if agent else headers,
        )
        assert route is not None
        return route.http_codes.get(reply.status) or CODES[reply.status], reply

    async def coaps(
        self,
        address: str,
        body: bytes = b"",
        *,
        identity: Identity | None = None,
        accept: int | None = None,
        wire: Wire = Wire.COAPS,
    ) -> tuple[str, int | None, Reply]:
        """The code (`2.04`), the Content-Format and the reply of `POST /est/sen`."""
        from gateway.transports.coap.resources import _LABELS, _code

        route, reply = await self._routers[Wire.COAP].answer(
            address, body, Peer(wire, ADDRESS), identity=identity, accept=accept
        )
        assert isinstance(route, Route)
        code = _code(route, reply, 1 if address.startswith("GET") else 2)
        if reply.format in route.coap_formats:
            label = route.coap_formats[reply.format]
        else:
            value = _LABELS[reply.format]
            label = None if value is None else int.from_bytes(value, "big")
        return f"{code >> 5}.{code & 31:02d}", label, reply

    async def enrolled(self, name: str, **csr: Any) -> tuple[Device, Identity]:
        """A device with a certificate of ours, and what its handshake proves."""
        device, certificate = await self.lab.device(self.fleet, name, **csr)
        return device, identity_of(device, certificate)

    async def keyed(self, name: str) -> tuple[Device, Identity]:
        """A device with a pre-shared key."""
        credentials = PresharedKey(f"psk-{name}", Secret("40" * 32))
        device, _ = await self.lab.device(self.fleet, name)
        event = Event(
            kind=EventKind.DEVICE_CREDENTIALS,
            at=self.lab.clock(),
            peer=OPERATOR,
            device_id=device.id,
        )
        assert await self.lab.registrar.replace_credentials(device.id, credentials, event)
        return device, Identity(credentials.id, device.id)

    async def counts(self, device: Device, certificate: x509.Certificate) -> bool:
        """Whether this certificate is the device's, or will be when it is used."""
        lookup_id = identity_of(device, certificate).id
        known = await self.lab.store.find_credentials(lookup_id)
        known = known or await self.lab.store.find_pending(lookup_id)
        return known is not None and known.device.id == device.id

    async def refusals(self) -> list[str]:
        """The reasons in the events of refused provisioning and renewals."""
        await self.lab.store.writer.settled()
        events = await self.lab.registrar.last_events(limit=50, device_id=None)
        kinds = (EventKind.DEVICE_PROVISION, EventKind.DEVICE_CREDENTIALS_RENEW)
        return [event.reason for event in events if event.reason and event.kind in kinds]


def basic(key: str, secret: str) -> Mapping[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{key}:{secret}".encode()).decode()}


def csr_of(cn: str | None = "dev-1", **options: Any) -> str:
    """A request as EST clients send it: base64 without markers."""
    return certs.base64_of(certs.csr(cn=cn, **options))


def der_of(reply: Reply) -> bytes:
    """The bytes inside an answer over HTTPS: base64 in lines."""
    assert reply.headers["Content-Transfer-Encoding"] == "base64"
    assert all(0 < len(line) <= 76 for line in reply.body.split(b"\n")[:-1])
    assert reply.body.endswith(b"\n")
    assert b"\r" not in reply.body  # no blank to every decoder
    return b64decode(reply.body)


def bundle(der: bytes) -> list[x509.Certificate]:
    return pkcs7.load_der_pkcs7_certificates(der)


def only(der: bytes) -> x509.Certificate:
    (certificate,) = bundle(der)
    return certificate
