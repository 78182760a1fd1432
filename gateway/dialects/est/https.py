"""EST over HTTPS (RFC 7030)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.core.authorities import Authorities
from gateway.core.model import Wire
from gateway.core.pki.bundle import certs_only, csr_attributes
from gateway.core.pki.model import Unfit
from gateway.dialects.est import operations
from gateway.dialects.est.enrolment import Enrolment
from gateway.dialects.est.messages import (
    NO_AUTHORITY,
    UNAUTHORIZED,
    base64_line,
    base64_lines,
    read_basic,
    told,
)
from gateway.wire.call import Call, Format, Reply, Status
from gateway.wire.operation import Operation
from gateway.wire.route import Handler, Route

_INSECURE: Final = told(Status.REFUSED, "enrolment is served over HTTPS alone")
_NO_CERTIFICATE: Final = told(
    Status.REFUSED, "re-enrolment needs the client certificate that is to be replaced"
)
_NOT_OFFERED: Final = told(Status.NOT_FOUND, "this operation of EST is not offered here")

_NO_CODES: Final = {Status.NOT_FOUND: 501}

_CERTIFICATES: Final = "application/pkcs7-mime"
_ISSUED: Final = "application/pkcs7-mime; smime-type=certs-only"
_ATTRIBUTES: Final = "application/csrattrs"


class EstHttps:
    """The operations under `/.well-known/est`, with and without a label."""

    def __init__(self, enrolment: Enrolment, authorities: Authorities) -> None:
        self._enrolment = enrolment
        self._authorities = authorities

    def routes(self) -> tuple[Route, ...]:
        return (
            _route("cacerts", "GET", self.cacerts, operations.CACERTS),
            _route("csrattrs", "GET", self.csrattrs, operations.CSRATTRS),
            _route("simpleenroll", "POST", self.simpleenroll, operations.SIMPLEENROLL),
            _route("simplereenroll", "POST", self.simplereenroll, operations.SIMPLEREENROLL),
            _route("fullcmc", "POST", self.not_offered, operations.FULLCMC, _NO_CODES),
            _route(
                "serverkeygen",
                "POST",
                self.not_offered,
                operations.SERVERKEYGEN,
                _NO_CODES,
            ),
        )

    async def cacerts(self, call: Call) -> Reply:
        """The certificate of who signs now, its issuers, and the root (section 4.1)."""
        try:
            chain = await self._authorities.chain()
        except Unfit:
            return NO_AUTHORITY
        return _answer(call, certs_only(chain), _CERTIFICATES)

    async def csrattrs(self, call: Call) -> Reply:
        """What a request should hold (section 4.5)."""
        if call.peer.wire is not Wire.HTTPS:
            return _INSECURE
        proof = read_basic(call.headers.get("Authorization"))
        wishes = await self._enrolment.wishes(call, proof)
        return _answer(call, csr_attributes(wishes), _ATTRIBUTES)

    async def simpleenroll(self, call: Call) -> Reply:
        """A certificate for a device that proves who it is, or what fleet it is of (4.2.1)."""
        if call.peer.wire is not Wire.HTTPS:
            return _INSECURE
        device = await self._enrolment.device(call.identity)
        if device is not None:
            return _issued(call, await self._enrolment.again(call, device))
        proof = read_basic(call.headers.get("Authorization"))
        if proof is None:
            return UNAUTHORIZED
        return _issued(call, await self._enrolment.first(call, proof))

    async def simplereenroll(self, call: Call) -> Reply:
        """Another certificate for the device whose certificate was shown (4.2.2)."""
        if call.peer.wire is not Wire.HTTPS:
            return _INSECURE
        device = await self._enrolment.device(call.identity)
        if device is None:
            return _NO_CERTIFICATE
        return _issued(call, await self._enrolment.again(call, device, named=True))

    async def not_offered(self, call: Call) -> Reply:
        return _NOT_OFFERED


def _route(
    name: str,
    method: str,
    handler: Handler,
    operation: Operation,
    codes: Mapping[Status, int] | None = None,
) -> Route:
    return Route(
        name=f"est.{name}",
        handler=handler,
        http=(
            f"{method} /.well-known/est/{name}",
            f"{method} /.well-known/est/{{label}}/{name}",
        ),
        http_codes=codes or {},
        quiet=True,
        numbered=method == "POST",
        operation=operation,
    )


def _issued(call: Call, certificate: bytes | Reply) -> Reply:
    """The certificate alone: its issuers are those of `cacerts` (section 4.2.3)."""
    if isinstance(certificate, Reply):
        return certificate
    return _answer(call, certs_only((certificate,)), _ISSUED)


def _answer(call: Call, der: bytes, media_type: str) -> Reply:
    # The encoding is always base64, whatever is said of it (RFC 8951, section 3.1); older clients
    # want it said.
    headers = {"Content-Type": media_type, "Content-Transfer-Encoding": "base64"}
    # Lines may end or not (section 3.1). What is made with OpenSSL's decoder, as libest is, wants
    # them short; strongSwan before 5.9.11 cannot read their ends, nor does it say who it is.
    encoded = base64_lines if "User-Agent" in call.headers else base64_line
    return Reply(encoded(der), format=Format.BYTES, headers=headers)
