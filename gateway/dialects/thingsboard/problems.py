"""Refusals as bytes: ThingsBoard's own shapes, and on request what is wrong in detail.

Who gets which:

- ThingsBoard's two bodies, to the byte, are what everybody gets who does not ask for more. One that
  has to wait is told so beside them: `retryAfter`, in seconds.
- A problem document (RFC 9457, or RFC 9290 in CBOR) is what they get who ask for one, by `Accept`,
  and those whose profile says `detailed_refusals`: over CoAP in CBOR, over HTTP in what they speak.
- Who reads ThingsBoard's members alone asks for JSON or CBOR itself, and gets them, with further
  ones where the profile says so. MQTT has no way to ask, and has these.
- What is wrong is told to callers alone that have proven a secret. A problem for others says in
  words what the two bodies say.

No answer repeats anything of a request.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from gateway.core.model import RefusalReason, Refused, Wire
from gateway.core.refusals import QUOTA_EXCEEDED, REFUSALS, Refusal
from gateway.dialects.thingsboard.answers import FAILURE_BODY, NOT_FOUND_BODY
from gateway.dialects.thingsboard.formats import CBOR_FORMAT, CBOR_MEDIA, content_format
from gateway.wire.call import Call, Format, Reply, Status

PROBLEM_JSON: Final = "application/problem+json"
PROBLEM_CBOR_MEDIA: Final = "application/concise-problem-details+cbor"
PROBLEM_CBOR: Final = 257
"""Content-Format of RFC 9290."""
PLACE: Final = "/refusals"
"""Where problem types are explained: a reference relative to this server."""
OUR_ENTRY: Final = "urn:uuid:8f4e7c1a-52d0-4b7e-9c36-0d1f6a2b9e55"
"""The name of our own entry in a problem of RFC 9290, an object of `code` and `retryAfter`: further
entries are named by URIs, or by numbers that are registered."""
_JSON: Final = "application/json"
_WEIGHT: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
COME_AGAIN: Final = "come again later"

_NOT_FOUND: Final = frozenset(
    {
        RefusalReason.UNKNOWN_KEY,
        RefusalReason.WRONG_SECRET,
        RefusalReason.PROVISIONING_DISABLED,
        RefusalReason.CERTIFICATE_CHAIN_ONLY,
    }
)
"""Reasons answered NOT_FOUND. ThingsBoard never says whether the key or the secret was wrong."""
_STATUSES: Final = {
    202: Status.PENDING,
    400: Status.BAD_REQUEST,
    401: Status.UNAUTHENTICATED,
    403: Status.FORBIDDEN,
    404: Status.NOT_FOUND,
    409: Status.CONFLICT,
    429: Status.LIMITED,
    503: Status.OVERLOADED,
}
_TITLES: Final = {400: "Bad Request", 404: "Not Found", 429: "Too Many Requests"}
"""What a problem without a type of its own is called (RFC 9457, section 4.2.1)."""
_UNSAID: Final = {
    "NOT_FOUND": "Provision data was not found!",
    "FAILURE": "Failed to provision device!",
    "PENDING": "Provisioning waits for approval!",
}
_encode = msgspec.json.Encoder().encode


def refusal_reply(refused: Refused, call: Call) -> Reply:
    """The answer to a call that was refused, in the form the caller, or its profile, asks for."""
    wire = call.peer.wire.plain
    if wire is Wire.HTTP:
        form = http_problem(call, detailed=refused.detailed)
        if form is not None:
            in_json = form is Format.PROBLEM_JSON
            return _problem_json(refused) if in_json else _problem_cbor(refused, wire)
    if wire is Wire.COAP and (
        call.accept == PROBLEM_CBOR or (refused.detailed and call.accept is None)
    ):
        return _problem_cbor(refused, wire)
    return plain_reply(refused, detailed=refused.detailed)


def plain_reply(refused: Refused, *, detailed: bool = False) -> Reply:
    """ThingsBoard's own answer; `detailed`: with what is wrong besides, if the caller may know."""
    row = REFUSALS[refused.reason]
    wait_s, word = refused.retry_after_s, _word(refused.reason)
    body = NOT_FOUND_BODY if word == "NOT_FOUND" else FAILURE_BODY
    told = _told(refused, row) if detailed and row.proven else {}
    if wait_s:
        told["retryAfter"] = wait_s
    if told or word == "PENDING":
        body = _encode({"errorMsg": _UNSAID[word], "status": word} | told)
    return _labelled(body, Format.JSON, refused, row, detailed=detailed)


def with_body(reply: Reply, body: bytes, kind: Format) -> Reply:
    """The same answer in another form."""
    return msgspec.structs.replace(reply, body=body, format=kind)


def is_not_found(reason: RefusalReason) -> bool:
    """Whether ThingsBoard would say NOT_FOUND rather than FAILURE."""
    return reason in _NOT_FOUND


def http_problem(call: Call, *, detailed: bool) -> Format | None:
    """In which of both forms a problem is told over HTTP; None: it is not.

    It is to be named in Accept, and no less welcome than `application/json` and `application/cbor`:
    a range (`*/*`) names nothing, nearly every client sends one. To devices that are told in detail
    it goes as well, unless they name one of these two, or rule it out.
    """
    accept = call.headers.get("Accept", "").lower()
    welcome = _welcome(accept) if "application/" in accept else {}
    problem = max(welcome.get(PROBLEM_JSON, 0.0), welcome.get(PROBLEM_CBOR_MEDIA, 0.0))
    plain = max(welcome.get(_JSON, 0.0), welcome.get(CBOR_MEDIA, 0.0))
    if 0 < problem >= plain:
        in_json = welcome.get(PROBLEM_JSON, 0.0) == problem
    elif detailed and not plain:
        in_json = content_format(call) != CBOR_FORMAT
    else:
        return None
    if not welcome.get(PROBLEM_JSON if in_json else PROBLEM_CBOR_MEDIA, 1.0):
        return None
    return Format.PROBLEM_JSON if in_json else Format.PROBLEM_CBOR


def _welcome(accept: str) -> dict[str, float]:
    """Media types that an Accept header in small letters names, with their weights."""
    named = {}
    for part in accept.split(","):
        media, *parameters = (one.strip() for one in part.split(";"))
        named[media] = _weight(parameters)
    return named


def _weight(parameters: list[str]) -> float:
    """RFC 9110, section 12.4.2; 0 for what is no weight."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            found = _WEIGHT.fullmatch(value.strip())
            return float(found[0]) if found else 0.0
    return 1.0


def _word(reason: RefusalReason) -> str:
    if reason is RefusalReason.APPROVAL_PENDING:
        return "PENDING"
    return "NOT_FOUND" if reason in _NOT_FOUND else "FAILURE"


def _told(refused: Refused, row: Refusal) -> dict[str, Any]:
    """What is wrong, for a caller that may know it."""
    return {"code": row.code, "title": row.title, "detail": refused.said or row.detail}


def _numbers(refused: Refused, row: Refusal) -> tuple[int, int]:
    """The status in HTTP and the code in CoAP; who is to come again later is told so by them."""
    if refused.retry_after_s and not row.waits:
        return 429, 429
    return row.http, row.coap


def _labelled(
    body: bytes, kind: Format, refused: Refused, row: Refusal, *, detailed: bool
) -> Reply:
    wait_s = refused.retry_after_s
    waits = wait_s or refused.reason is RefusalReason.APPROVAL_PENDING
    status = _STATUSES[_numbers(refused, row)[0]] if waits else Status.REFUSED
    told = detailed and row.proven
    ack = QUOTA_EXCEEDED if waits else row.mqtt if told else None
    reason = row.title if told else COME_AGAIN if waits else refused.reason.value
    return Reply(body, status, kind, reason, wait_s, ack=ack)


def _problem_json(refused: Refused) -> Reply:
    row = REFUSALS[refused.reason]
    http, _ = _numbers(refused, row)
    if row.proven:
        told = _told(refused, row)
        document = {"type": f"{PLACE}#{row.code}", "title": told["title"], "status": http}
        document |= {"detail": told["detail"], "code": row.code}
    else:
        http = _unproven(refused)
        document = {"type": "about:blank", "title": _TITLES[http], "status": http}
        document["detail"] = _UNSAID[_word(refused.reason)]
    if refused.retry_after_s:
        document["retryAfter"] = refused.retry_after_s
    return Reply(
        _encode(document),
        _STATUSES[http],
        Format.PROBLEM_JSON,
        refused.reason.value,
        refused.retry_after_s,
    )


def _problem_cbor(refused: Refused, wire: Wire) -> Reply:
    """Over CoAP with its code, which other wires do not have."""
    from cbor2 import dumps  # the few devices that ask for it pay for it

    row = REFUSALS[refused.reason]
    http, coap = _numbers(refused, row)
    own: dict[str, Any] = {}
    if row.proven:
        told = _told(refused, row)
        document: dict[int | str, Any] = {-1: told["title"], -2: told["detail"]}
        own["code"] = row.code
    else:
        http = coap = _unproven(refused)
        document = {-1: _TITLES[http], -2: _UNSAID[_word(refused.reason)]}
    if refused.retry_after_s:
        own["retryAfter"] = refused.retry_after_s
    if wire is Wire.COAP:
        document[-4] = coap // 100 << 5 | coap % 100
    if own:
        document[OUR_ENTRY] = own
    return Reply(
        dumps(document),
        _STATUSES[http],
        Format.PROBLEM_CBOR,
        refused.reason.value,
        refused.retry_after_s,
    )


def _unproven(refused: Refused) -> int:
    """The number for a caller that has proven nothing; it is the same in HTTP and CoAP."""
    if refused.retry_after_s:
        return 429
    return 404 if refused.reason in _NOT_FOUND else 400
