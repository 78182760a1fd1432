"""What the operations of EST over HTTPS are, for the document (RFC 7030, section 3.2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.wire.operation import Answer, Operation

TAG: Final = "Enrolment (EST)"
_LABEL: Final = {"label": "The name of the profile."}
_TEXT: Final = "text/plain"
_CERTIFICATES: Final = "application/pkcs7-mime"
_INSECURE: Final = Answer("Served over HTTPS alone.", media=_TEXT)
_UNPROVEN: Final = Answer("A client certificate, or a fleet's key and secret.", media=_TEXT)
_REFUSED: Final = Answer("The request is refused; the text says why.", media=_TEXT)
_ELSEWHERE: Final = Answer("The label is not for these credentials.", media=_TEXT)
_LIMITED: Final = Answer("A rate limit is reached; `Retry-After` says when to come again.")
_NO_AUTHORITY: Final = Answer("Nobody can sign here at the moment.", media=_TEXT)
_NOT_OFFERED: Final = {501: Answer("Not offered here.", media=_TEXT)}
_ISSUED: Final = Answer("The certificate: base64 of PKCS #7, certs-only.", media=_CERTIFICATES)


def _operation(
    summary: str, answers: Mapping[int, Answer], *, about: str = "", body: type | None = None
) -> Operation:
    return Operation(
        summary=summary,
        about=about,
        tag=TAG,
        public=True,
        path=_LABEL,
        body=body,
        answers=answers,
    )


CACERTS: Final = _operation(
    "The certificates of the authority",
    {
        200: Answer("Base64 of PKCS #7, certs-only.", media=_CERTIFICATES),
        503: _NO_AUTHORITY,
    },
)
CSRATTRS: Final = _operation(
    "What a signing request should hold",
    {200: Answer("Base64 of CsrAttrs.", media="application/csrattrs"), 403: _INSECURE},
)
SIMPLEENROLL: Final = _operation(
    "A device's first certificate, or another one",
    {
        200: _ISSUED,
        202: Answer("Somebody has to agree first; `Retry-After` says when to come again."),
        400: _REFUSED,
        401: _UNPROVEN,
        403: _INSECURE,
        404: _ELSEWHERE,
        429: _LIMITED,
        503: _NO_AUTHORITY,
    },
    about="With HTTP Basic, the fleet's key as user and its secret as password, or with a client "
    "certificate. The body is a PKCS #10 request in base64.",
    body=str,
)
SIMPLEREENROLL: Final = _operation(
    "Another certificate",
    {
        200: _ISSUED,
        400: _REFUSED,
        401: _UNPROVEN,
        403: _INSECURE,
        404: _ELSEWHERE,
        429: _LIMITED,
        503: _NO_AUTHORITY,
    },
    about="With the client certificate that is to be replaced.",
    body=str,
)
FULLCMC: Final = _operation("Full CMC, which is not offered", _NOT_OFFERED)
SERVERKEYGEN: Final = _operation("Keys made here, which are not offered", _NOT_OFFERED)
