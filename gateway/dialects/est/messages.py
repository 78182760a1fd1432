"""Bytes of EST requests → what they ask; certificates → bytes of EST answers; refusals → words."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode, encodebytes
from collections.abc import Mapping
from typing import Final

from gateway.core.advice import wrong_with
from gateway.core.model import ProvisionKey, RefusalReason, Refused, Secret
from gateway.core.refusals import REFUSALS
from gateway.wire.call import Format, Reply, Status

_MOST_LOGIN: Final = 16_384
"""Characters of an Authorization header."""
_DER: Final = b"\x30"
"""Every request in DER begins so; in base64 it begins with `M`."""
_NOTHING: Final = "-"
_RETRY_S: Final = 60

_SENTENCES: Final[Mapping[RefusalReason, str]] = {
    RefusalReason.PROVISIONING_DISABLED: "provisioning is switched off for this fleet",
    RefusalReason.CERTIFICATE_CHAIN_ONLY: "this fleet enrols with its factory certificates",
    RefusalReason.NAME_MISSING: "the request has no common name, which this fleet needs",
    RefusalReason.NAME_BLANK: "the request's common name is blank",
    RefusalReason.NAME_INVALID: "the request's common name cannot be a device's name",
    RefusalReason.NAME_TAKEN: "a device of that name exists: it may only renew",
    RefusalReason.NO_SUCH_DEVICE: "no device of that name is expected",
    RefusalReason.OTHER_PROFILE: "the device of that name belongs to another fleet",
    RefusalReason.ALREADY_PROVISIONED: "the device of that name is enrolled already: it may renew",
    RefusalReason.BLOCKED: "the device of that name is blocked",
    RefusalReason.CREDENTIALS_REVOKED: "the device's credentials were revoked",
    RefusalReason.CREDENTIALS_TAKEN: "the certificate is another device's",
    RefusalReason.CSR_UNREADABLE: "this is no PKCS #10 request, in base64 or DER",
    RefusalReason.BAD_SIGNATURE: "the request is not signed by the key it holds",
    RefusalReason.WEAK_KEY: "this kind or size of key is not certified here",
    RefusalReason.REUSED_KEY: "this key is certified already; make another",
    RefusalReason.TOO_MANY_CERTIFICATES: "this device was given too many certificates this hour",
    RefusalReason.CSR_EXTRA_EXTENSIONS: "the request asks for extensions the fleet does not get",
    RefusalReason.APPROVAL_PENDING: "the request waits for approval; come again later",
    RefusalReason.TOO_MANY_REQUESTS: "too many requests; come again later",
    RefusalReason.TOO_MANY_WRONG_SECRETS: "too many requests; come again later",
    RefusalReason.CN_MISMATCH: "the request's common name is not that of this device",
}
_UNPROVEN: Final = frozenset({RefusalReason.UNKNOWN_KEY, RefusalReason.WRONG_SECRET})
"""Which of the two it was is said to nobody."""


def read_basic(header: str | None) -> ProvisionKey | None:
    """Key and secret of an Authorization header (RFC 7617); None when there are none in it."""
    if header is None or len(header) > _MOST_LOGIN:
        return None
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = b64decode(value.strip().encode("ascii"), validate=True).decode()
    except (UnicodeError, binascii.Error):
        return None
    key, colon, secret = text.partition(":")
    return ProvisionKey(Secret(key), Secret(secret)) if colon else None


def csr_text(body: bytes) -> str:
    """A signing request as text, whatever form it came in; never refuses, whoever reads it does.

    It is never empty: that would be to ask for credentials of another kind.
    """
    if body.startswith(_DER):
        return b64encode(body).decode()
    try:
        return body.decode("ascii").strip() or _NOTHING
    except UnicodeDecodeError:
        return b64encode(body).decode()


def base64_lines(der: bytes) -> bytes:
    """Base64 in lines of 76 characters. They end in LF: GNU's `base64` takes no CR for a blank."""
    return encodebytes(der)


def base64_line(der: bytes) -> bytes:
    """The same in one line without an end."""
    return b64encode(der)


def sentence(reason: RefusalReason) -> str:
    """A refusal in words, for the people who look at a device's log: those of the table of
    refusals where EST has none of its own, for reasons that a caller who proved itself may know."""
    if reason in _SENTENCES:
        return _SENTENCES[reason]
    return wrong_with(reason.value) if REFUSALS[reason].proven else "the request was refused"


def told(status: Status, words: str, **headers: str) -> Reply:
    """An answer that is a sentence. In `headers` an underscore stands for a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(f"{words}\n".encode(), status, Format.TEXT, reason=words, headers=named)


UNAUTHORIZED: Final = told(
    Status.UNAUTHENTICATED,
    "a client certificate is needed, or a fleet's key and secret",
    WWW_Authenticate='Basic realm="estrealm", charset="UTF-8"',
)
NO_SUCH_LABEL: Final = told(Status.NOT_FOUND, "this label is not for these credentials")
NO_AUTHORITY: Final = Reply(
    b"nobody can sign here at the moment\n",
    Status.OVERLOADED,
    Format.TEXT,
    RefusalReason.NO_AUTHORITY.value,
    retry_after_s=_RETRY_S,
)


def refusal(refused: Refused) -> Reply:
    """What both wires answer to a decision against the request."""
    if refused.reason in _UNPROVEN:
        return UNAUTHORIZED
    if refused.reason is RefusalReason.NO_AUTHORITY:
        return NO_AUTHORITY
    words = f"{refused.said or sentence(refused.reason)}\n".encode()
    wait_s = refused.retry_after_s
    status = Status.LIMITED if wait_s else Status.BAD_REQUEST
    if refused.reason is RefusalReason.APPROVAL_PENDING:
        status = Status.PENDING  # 202 with Retry-After (RFC 7030, section 4.2.3)
    return Reply(words, status, Format.TEXT, refused.reason.value, wait_s)
