"""The table of refusals: each reason with its code, its words and the numbers of each wire.

The words are those of `gateway.core.advice`, which tells operators the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from gateway.core.advice import ADVICE
from gateway.core.model import RefusalReason
from gateway.core.model import RefusalReason as R

QUOTA_EXCEEDED: Final = 0x97
"""MQTT 5: the reason code of everybody who is to come again later."""


class Refusal(Struct, frozen=True, kw_only=True):
    """One row. `code` never changes, whatever becomes of the words.

    `detail` says what to do next. `proven`: who is refused for this has shown a right secret, token
    or certificate before, and may be told; nobody else is. `http` is a status, `coap` a code as
    403 for 4.03, `mqtt` a reason code of MQTT 5. `waits`: it is told when to come again.
    """

    code: str
    title: str
    detail: str
    proven: bool
    http: int
    coap: int
    mqtt: int

    @property
    def waits(self) -> bool:
        return self.mqtt == QUOTA_EXCEEDED


class _Numbers(NamedTuple):
    http: int
    coap: int
    mqtt: int


_MALFORMED: Final = _Numbers(400, 400, 0x99)
_UNPROVEN: Final = _Numbers(404, 404, 0x87)
"""What is not found cannot be told from what is not said."""
_NOBODY: Final = _Numbers(401, 401, 0x87)
_FORBIDDEN: Final = _Numbers(403, 403, 0x87)
_ABSENT: Final = _Numbers(404, 404, 0x83)
_CONFLICT: Final = _Numbers(409, 409, 0x83)
_TOO_OFTEN: Final = _Numbers(429, 429, QUOTA_EXCEEDED)
_LATER: Final = _Numbers(503, 503, QUOTA_EXCEEDED)
_PENDING: Final = _Numbers(202, 503, QUOTA_EXCEEDED)
"""Nothing is wrong, so 202 in HTTP: clients that raise an exception for 4xx and 5xx do not, and
those that look for SUCCESS find none. CoAP has no such code; with Max-Age 5.03 says the same."""

_NUMBERS: Final[Mapping[_Numbers, tuple[R, ...]]] = {
    _MALFORMED: (
        R.NAME_BLANK,
        R.NAME_INVALID,
        R.TYPE_INVALID,
        R.NAME_MISSING,
        R.CREDENTIALS_INVALID,
        R.CERTIFICATE_UNREADABLE,
        R.CSR_UNREADABLE,
        R.BAD_SIGNATURE,
        R.WEAK_KEY,
        R.CSR_EXTRA_EXTENSIONS,
        R.CN_MISMATCH,
        R.CN_MISSING,
    ),
    _UNPROVEN: (R.UNKNOWN_KEY, R.WRONG_SECRET, R.UNKNOWN_TOKEN),
    _NOBODY: (
        R.CREDENTIALS_REVOKED,
        R.CHAIN_UNREADABLE,
        R.OVERSIZED_CHAIN,
        R.EXPIRED_LEAF,
        R.NOT_YET_VALID,
        R.WRONG_USAGE,
        R.PATH_TOO_LONG,
        R.UNKNOWN_CA,
        R.BAD_CHAIN,
        R.UNKNOWN_CERTIFICATE,
    ),
    _FORBIDDEN: (
        R.PROVISIONING_DISABLED,
        R.CERTIFICATE_CHAIN_ONLY,
        R.OTHER_PROFILE,
        R.BLOCKED,
        R.NOT_ITS_GATEWAY,
        R.CLAIMING_DISABLED,
        R.WRONG_CLAIM_KEY,
        R.TICKET_EXPIRED,
        R.SECRET_NOT_YET_VALID,
        R.SECRET_EXPIRED,
        R.SECRET_REVOKED,
        R.SECRET_QUARANTINED,
        R.SECRET_USED_UP,
        R.NETWORK_NOT_ALLOWED,
        R.OUTSIDE_HOURS,
        R.NOT_ON_ALLOW_LIST,
        R.ON_DENY_LIST,
        R.PROFILE_FULL,
        R.ORGANISATION_FULL,
        R.APPROVAL_DENIED,
        R.DENIED_BY_HOOK,
        R.NO_PROOF_OF_OLD,
    ),
    _ABSENT: (
        R.NO_SUCH_DEVICE,
        R.NO_CLAIM,
        R.CLAIM_EXPIRED,
        R.UNKNOWN_TEMPLATE,
        R.OTHER_TEMPLATE,
    ),
    _CONFLICT: (
        R.NAME_TAKEN,
        R.ALREADY_PROVISIONED,
        R.CREDENTIALS_TAKEN,
        R.CUSTOMER_HAS_IT,
        R.CLAIM_STANDS,
        R.REUSED_KEY,
    ),
    _TOO_OFTEN: (
        R.TOO_MANY_REQUESTS,
        R.TOO_MANY_WRONG_SECRETS,
        R.TOO_MANY_CERTIFICATES,
        R.TOO_MANY_REPROVISIONINGS,
    ),
    _LATER: (R.HOOK_FAILED, R.NO_AUTHORITY),
    _PENDING: (R.APPROVAL_PENDING,),
}
_OF_STRANGERS: Final = frozenset(
    {
        R.UNKNOWN_KEY,
        R.WRONG_SECRET,
        R.TOO_MANY_WRONG_SECRETS,
        R.NAME_BLANK,
        R.UNKNOWN_TOKEN,
        R.CHAIN_UNREADABLE,
        R.OVERSIZED_CHAIN,
        R.EXPIRED_LEAF,
        R.NOT_YET_VALID,
        R.WRONG_USAGE,
        R.PATH_TOO_LONG,
        R.UNKNOWN_CA,
        R.BAD_CHAIN,
        R.UNKNOWN_CERTIFICATE,
        R.CN_MISSING,
    }
)
"""Decided before anything was proven."""


def _row(reason: R, numbers: _Numbers) -> Refusal:
    wrong, todo = ADVICE[reason]
    return Refusal(
        code=reason.value,
        title=f"{wrong[0].upper()}{wrong[1:]}",
        detail=todo,
        proven=reason not in _OF_STRANGERS,
        http=numbers.http,
        coap=numbers.coap,
        mqtt=numbers.mqtt,
    )


_BY_REASON: Final = {reason: numbers for numbers, reasons in _NUMBERS.items() for reason in reasons}
REFUSALS: Final[Mapping[RefusalReason, Refusal]] = {
    reason: _row(reason, _BY_REASON[reason]) for reason in RefusalReason if reason in _BY_REASON
}
"""All of them, in the order of `RefusalReason`."""
