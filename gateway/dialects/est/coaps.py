"""EST over CoAPS (RFC 9148): the same in DER, under short paths."""

from __future__ import annotations

from typing import Final

from gateway.core.authorities import Authorities
from gateway.core.model import Wire
from gateway.core.pki.bundle import certs_only, csr_attributes
from gateway.core.pki.model import Unfit
from gateway.dialects.est.enrolment import Enrolment
from gateway.dialects.est.messages import NO_AUTHORITY, told
from gateway.wire.call import Call, Format, Reply, Status
from gateway.wire.route import Handler, Route

CERTS_ONLY: Final = 281
ATTRIBUTES: Final = 285
ONE_CERTIFICATE: Final = 287
"""Content-Formats (RFC 9148, section 9.1)."""

LINKS: Final = (
    f'</est/crts>;rt="ace.est.crts";ct="{CERTS_ONLY} {ONE_CERTIFICATE}"',
    f'</est/sen>;rt="ace.est.sen";ct="{CERTS_ONLY} {ONE_CERTIFICATE}"',
    f'</est/sren>;rt="ace.est.sren";ct="{CERTS_ONLY} {ONE_CERTIFICATE}"',
    f'</est/att>;rt="ace.est.att";ct={ATTRIBUTES}',
)

_INSECURE: Final = told(Status.REFUSED, "enrolment is served over CoAPS alone")
_NOBODY: Final = told(
    Status.UNAUTHENTICATED, "enrolment needs a client certificate or a pre-shared key"
)


class EstCoaps:
    """The operations under `/est` and `/.well-known/est`."""

    def __init__(self, enrolment: Enrolment, authorities: Authorities) -> None:
        self._enrolment = enrolment
        self._authorities = authorities

    def routes(self) -> tuple[Route, ...]:
        return (
            _route("crts", "GET", self.crts, CERTS_ONLY),
            _route("att", "GET", self.att, ATTRIBUTES),
            _route("sen", "POST", self.sen, CERTS_ONLY),
            _route("sren", "POST", self.sren, CERTS_ONLY),
        )

    async def crts(self, call: Call) -> Reply:
        """The authority's certificates; as a single one, the root."""
        if call.peer.wire is not Wire.COAPS:
            return _INSECURE
        try:
            chain = await self._authorities.chain()
        except Unfit:
            return NO_AUTHORITY
        if call.accept == ONE_CERTIFICATE:
            return Reply(chain[-1], format=Format.CERTIFICATE)
        return Reply(certs_only(chain), format=Format.BYTES)

    async def att(self, call: Call) -> Reply:
        """What a request should hold."""
        if call.peer.wire is not Wire.COAPS:
            return _INSECURE
        wishes = await self._enrolment.wishes(call, None)
        return Reply(csr_attributes(wishes), format=Format.BYTES)

    async def sen(self, call: Call) -> Reply:
        """A certificate for the device the handshake proved."""
        return await self._enrol(call, named=False)

    async def sren(self, call: Call) -> Reply:
        """Another one instead of that it has."""
        return await self._enrol(call, named=True)

    async def _enrol(self, call: Call, *, named: bool) -> Reply:
        if call.peer.wire is not Wire.COAPS:
            return _INSECURE
        device = await self._enrolment.device(call.identity)
        if device is None:
            return _NOBODY
        certificate = await self._enrolment.again(call, device, named=named)
        if isinstance(certificate, Reply):
            return certificate
        if call.accept == ONE_CERTIFICATE:
            return Reply(certificate, format=Format.CERTIFICATE)
        return Reply(certs_only((certificate,)), format=Format.BYTES)


def _route(operation: str, method: str, handler: Handler, content_format: int) -> Route:
    return Route(
        name=f"est.{operation}",
        handler=handler,
        coap=(
            f"{method} /est/{operation}",
            f"{method} /.well-known/est/{operation}",
            f"{method} /.well-known/est/{{label}}/{operation}",
        ),
        coap_codes={Status.REFUSED: 403},
        # A sentence is a diagnostic payload, which has no format (RFC 7252, section 5.5.2).
        coap_formats={
            Format.BYTES: content_format,
            Format.CERTIFICATE: ONE_CERTIFICATE,
            Format.TEXT: None,
        },
        quiet=True,
    )
