"""Another certificate for a device that proved who it is, on every wire.

Our extension; ThingsBoard signs nothing. The body is JSON whatever the profile says.
"""

from __future__ import annotations

from gateway.core.certifying import Certifier
from gateway.core.identities import Severing
from gateway.core.model import Device, Peer
from gateway.core.sessions import Cause, Session, Sessions, Slot
from gateway.dialects.thingsboard import operations
from gateway.dialects.thingsboard.callers import Callers
from gateway.dialects.thingsboard.guests import CLOSE_CODES
from gateway.dialects.thingsboard.payloads import decode_renewal
from gateway.dialects.thingsboard.provision import json_reply
from gateway.dialects.thingsboard.topics import (
    CERTIFICATE_REQUEST,
    CERTIFICATE_RESPONSE,
    request_id,
)
from gateway.wire.call import Call, Format, Link, Reply, Status
from gateway.wire.route import Route


class RenewalGuest:
    """A session that may renew a certificate: it says nothing of the device's being here, and ends
    with the credentials that opened it."""

    __slots__ = ("_device", "_peer", "_session", "_sessions")

    def __init__(self, sessions: Sessions, device: Device, peer: Peer) -> None:
        self._sessions = sessions
        self._device = device
        self._peer = peer
        self._session: Session | None = None

    def opened(self, link: Link) -> None:
        code = CLOSE_CODES[Cause.CREDENTIALS_CHANGED]
        outlet = Severing(lambda: link.close(code, "the certificate counts no more"))
        self._session = self._sessions.open(self._device, self._peer, outlet, slot=Slot.SECURE)

    def subscribed(self, topic_filter: str) -> None: ...

    def unsubscribed(self, topic_filter: str) -> None: ...

    def heard(self) -> None: ...

    def closed(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._sessions.close(session)


class CertificateApi:
    """Renews certificates. What is given counts from its first use on, and until then the old."""

    def __init__(self, callers: Callers, certifier: Certifier) -> None:
        self._callers = callers
        self._certifier = certifier

    def routes(self) -> tuple[Route, ...]:
        """HTTP and CoAP."""
        return (
            Route(
                name="thingsboard.certificate",
                handler=self.renew,
                http=("POST /api/v1/{token}/certificate", "POST /api/v1/certificate"),
                coap=("POST /api/v1/{token}/certificate", "POST /api/v1/certificate"),
                # As for provisioning: a refusal is no error over HTTP (contract, section 3).
                http_codes={Status.REFUSED: 200, Status.LIMITED: 500},
                coap_codes={Status.OK: 201, Status.REFUSED: 400, Status.LIMITED: 500},
                coap_formats={Format.JSON: 50},
                quiet=True,
                numbered=True,
                operation=operations.CERTIFICATE,
            ),
        )

    def mqtt_routes(self) -> tuple[Route, ...]:
        return (
            Route(
                name="thingsboard.certificate.numbered",
                handler=self.numbered,
                mqtt=(CERTIFICATE_REQUEST + "/{id}",),
                mqtt_reply=CERTIFICATE_RESPONSE + "/{id}",
                quiet=True,
                numbered=True,
            ),
            Route(
                name="thingsboard.certificate",
                handler=self.renew,
                mqtt=(CERTIFICATE_REQUEST,),
                mqtt_reply=CERTIFICATE_RESPONSE,
                quiet=True,
                numbered=True,
            ),
        )

    async def numbered(self, call: Call) -> Reply:
        """The id is the device's, for it to tell answers apart."""
        request_id(call)
        return await self.renew(call)

    async def renew(self, call: Call) -> Reply:
        device = await self._callers.renewing(call)
        if isinstance(device, Reply):
            return device
        csr = decode_renewal(call.body)
        limited = await self._callers.limited(device)
        if limited is not None:
            return limited
        return json_reply(await self._certifier.renew(device, csr, call.peer), csr)
