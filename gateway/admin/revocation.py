"""`/crl`, `/ocsp` and `/ca`: what anybody who checks a device's certificate asks for.

Plain HTTP, without a login, on purpose: what is told is signed, and whoever checks a certificate
must not need one for it (RFC 5280, section 8).
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from email.utils import formatdate
from typing import Final

from gateway.core.authorities import Authorities
from gateway.core.pki.model import Unfit
from gateway.core.pki.revocation import MOST_REQUEST_BYTES, OcspResponder, RevocationLists
from gateway.core.ports import Clock
from gateway.wire.call import Call, Format, Reply, Status
from gateway.wire.operation import Answer, Operation
from gateway.wire.route import Route

_LIST_AGE_S: Final = 60
"""How long a cache may give out a list: a revocation makes a new one at once, so not for long."""
_CERTIFICATE_AGE_S: Final = 86_400
_MOST_DIGITS: Final = 18
"""Of an authority's number."""
_MOST_TEXT: Final = MOST_REQUEST_BYTES * 4 // 3 + 4
"""Characters of an OCSP request in an address."""

_NO_AUTHORITY: Final = Reply(status=Status.NOT_FOUND, reason="no authority here has that number")
_NO_KEY: Final = Reply(
    status=Status.OVERLOADED, reason="the authority's key cannot be had", retry_after_s=60
)
_TAG: Final = "Certificates"
_AUTHORITY: Final = {"authority": "The number of the authority."}
_ABSENT: Final = Answer("No authority here has that number.")
_STATUS: Final = {200: Answer("The signed status (RFC 6960).", media="application/ocsp-response")}

_LIST: Final = Operation(
    summary="The revocation list",
    about="Without a number, of the authority that signs now.",
    tag=_TAG,
    public=True,
    path=_AUTHORITY,
    answers={200: Answer("DER (RFC 5280).", media="application/pkix-crl"), 404: _ABSENT},
)
_OCSP_POST: Final = Operation(
    summary="The status of a certificate",
    tag=_TAG,
    public=True,
    body=bytes,
    answers=_STATUS,
)
_OCSP_GET: Final = Operation(
    summary="The status of a certificate, asked for in the address",
    tag=_TAG,
    public=True,
    path={"request": "The request: base64 of DER."},
    answers=_STATUS,
)
_CERTIFICATE: Final = Operation(
    summary="The certificate of an authority",
    tag=_TAG,
    public=True,
    path=_AUTHORITY,
    answers={200: Answer("DER.", media="application/pkix-cert"), 404: _ABSENT},
)


class RevocationApi:
    """Serves what `RevocationLists` and `OcspResponder` make, labelled for caches."""

    def __init__(
        self,
        lists: RevocationLists,
        responder: OcspResponder,
        authorities: Authorities,
        clock: Clock,
    ) -> None:
        self._lists = lists
        self._responder = responder
        self._authorities = authorities
        self._clock = clock

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                name="revocation.list",
                handler=self.revocation_list,
                http=("GET /crl", "GET /crl/{authority}"),
                quiet=True,
                operation=_LIST,
            ),
            Route(
                name="ocsp.post",
                handler=self.ocsp_post,
                http=("POST /ocsp",),
                quiet=True,
                operation=_OCSP_POST,
            ),
            Route(
                name="ocsp.get",
                handler=self.ocsp_get,
                http=("GET /ocsp/{request}",),
                quiet=True,
                operation=_OCSP_GET,
            ),
            Route(
                name="authority.certificate",
                handler=self.certificate,
                http=("GET /ca/{authority}",),
                quiet=True,
                operation=_CERTIFICATE,
            ),
        )

    async def revocation_list(self, call: Call) -> Reply:
        """The list of an authority; without a number, of the one that signs now."""
        try:
            made = await self._lists.of(await self._asked(call.params.get("authority")))
        except Unfit:
            return _NO_KEY
        if made is None:
            return _NO_AUTHORITY
        until = min(made.next_update, self._clock() + _LIST_AGE_S * 1000)
        return self._cacheable(made.der, "application/pkix-crl", made.made_at, until)

    async def _asked(self, text: str | None) -> int:
        if text is not None:
            return _number(text)
        return (await self._authorities.issuer()).signer.authority_id

    async def certificate(self, call: Call) -> Reply:
        """The certificate of an authority, DER (RFC 5280, section 4.2.2.1)."""
        try:
            signer = await self._authorities.signer_of(_number(call.params["authority"]))
        except Unfit:
            return _NO_KEY
        if signer is None:
            return _NO_AUTHORITY
        until = self._clock() + _CERTIFICATE_AGE_S * 1000
        return self._cacheable(
            (signer.issuers or (signer.root,))[0], "application/pkix-cert", 0, until
        )

    async def ocsp_post(self, call: Call) -> Reply:
        """RFC 6960, appendix A.1. Also a refusal is 200: the body says it."""
        return await self._ocsp(call.body)

    async def ocsp_get(self, call: Call) -> Reply:
        """The request is in the address: base64, which the transport freed of its `%`.

        Some leave its padding out.
        """
        text = call.params["request"]
        if len(text) > _MOST_TEXT:
            return await self._ocsp(b"")
        try:
            padded = text.encode("ascii") + b"=" * (-len(text) % 4)
            return await self._ocsp(b64decode(padded, validate=True))
        except (UnicodeEncodeError, binascii.Error):
            return await self._ocsp(b"")

    async def _ocsp(self, der: bytes) -> Reply:
        answer = await self._responder.answer(der)
        kind = "application/ocsp-response"
        if not answer.next_update:
            headers = {"Content-Type": kind, "Cache-Control": "no-store"}
            return Reply(answer.der, format=Format.BYTES, headers=headers)
        return self._cacheable(answer.der, kind, answer.made_at, answer.next_update)

    def _cacheable(self, body: bytes, kind: str, made_at: int, until: int) -> Reply:
        """`made_at` and `until` are ms; 0: nothing is said of when it was made."""
        age_s = max(0, (until - self._clock()) // 1000)
        headers = {
            "Content-Type": kind,
            "Cache-Control": f"public, max-age={age_s}, no-transform, must-revalidate",
            "Expires": formatdate(until // 1000, usegmt=True),
        }
        if made_at:
            headers["Last-Modified"] = formatdate(made_at // 1000, usegmt=True)
        return Reply(body, format=Format.BYTES, headers=headers)


def _number(text: str) -> int:
    """The number of an authority; -1, which none has, for what is no number."""
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text)
    return -1
