"""In what format a call is, and in what its answer is to be.

MQTT keeps to the profile's. On CoAP (Content-Format, Accept) and HTTP (`Content-Type`, `Accept`) a
call may say that it is in CBOR, or, for telemetry, in SenML; the answer to one in CBOR is in CBOR
unless it asks for JSON, and one in JSON may ask for CBOR. What else it says of formats is not
heeded, as in ThingsBoard; and a body that begins as JSON does is JSON by whatever name, since no
message in CBOR begins so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from msgspec import structs

from gateway.dialects.thingsboard.codecs import JSON, Codec, CodecOnDemand
from gateway.wire.call import Call, Format, Reply

JSON_FORMAT: Final = 50
CBOR_FORMAT: Final = 60
SENML_JSON: Final = 110
SENML_CBOR: Final = 112
"""Content-Formats of CoAP (RFC 7252, 8949, 8428), by which those of HTTP are known here, too."""

CBOR_MEDIA: Final = "application/cbor"
SENML_MEDIA: Final = ("application/senml+json", "application/senml+cbor")
_JSON_MEDIA: Final = "application/json"
_PLAIN_TYPES = (_JSON_MEDIA, None)
_PLAIN_ACCEPTS = (None, "*/*", _JSON_MEDIA)
_NUMBERS: Final = {
    CBOR_MEDIA: CBOR_FORMAT,
    SENML_MEDIA[0]: SENML_JSON,
    SENML_MEDIA[1]: SENML_CBOR,
}
_AS_JSON: Final = (b"{", b"[")
_NAMED: Final = 3
"""How exactly a media type is meant that is spoken of by its name."""

Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]


def _cbor_codec() -> Codec:
    # Loads cbor2, which few devices need.
    from gateway.dialects.thingsboard.cbor import CBOR

    return CBOR


CBOR: Codec = CodecOnDemand(Format.CBOR, _cbor_codec)


def content_format(call: Call) -> int | None:
    """What the call says its body is, if that is one of those above."""
    if call.content_format is not None:
        return call.content_format
    if not call.headers:
        return None
    told = call.headers.get("Content-Type")
    if told is None or told == _JSON_MEDIA:
        return None
    return _NUMBERS.get(told.partition(";")[0].strip().lower())


def senml_format(call: Call) -> int | None:
    """`SENML_JSON` or `SENML_CBOR` if the body is that."""
    told = content_format(call)
    return told if told in (SENML_JSON, SENML_CBOR) else None


def is_cbor(call: Call) -> bool:
    """Whether the body is CBOR."""
    return content_format(call) == CBOR_FORMAT and not _begins_as_json(call.body)


def _begins_as_json(body: bytes) -> bool:
    return body.lstrip(b" \t\r\n").startswith(_AS_JSON)


def wants_cbor(call: Call, *, said: bool) -> bool:
    """Whether the answer is to be in CBOR. `said`: so was the call."""
    if call.accept is not None:
        return call.accept == CBOR_FORMAT or (said and call.accept != JSON_FORMAT)
    told = call.headers.get("Accept") if call.headers else None
    if told is None or told == "*/*":
        return said
    cbor, json = _preference(told, CBOR_MEDIA), _preference(told, _JSON_MEDIA)
    if cbor == json:
        return said
    # Who would rather have anything than JSON gets it all the same: CBOR is for who names it.
    return cbor > json and (said or cbor[1] == _NAMED)


def codec_for_answer(call: Call, usual: Codec) -> Codec:
    """What the answer to a call is in. `usual`: what it is in when nobody speaks of CBOR."""
    if wants_cbor(call, said=usual is CBOR):
        return CBOR
    return JSON if usual is CBOR else usual


def also_in_cbor(handler: Handler) -> Handler:
    """Serves calls in CBOR by a handler that knows JSON."""

    def answer(call: Call) -> Awaitable[Reply]:
        # No coroutine of its own where nobody speaks of CBOR: 3 us of each provisioning.
        return handler(call) if _says_nothing(call) else transcoded(call)

    async def transcoded(call: Call) -> Reply:
        said = is_cbor(call)
        if said:
            from gateway.dialects.thingsboard.cbor import to_json

            call = structs.replace(call, body=to_json(call.body))
        reply = await handler(call)
        if reply.format is Format.JSON and reply.body and wants_cbor(call, said=said):
            from gateway.dialects.thingsboard.cbor import from_json

            return structs.replace(reply, body=from_json(reply.body), format=Format.CBOR)
        return reply

    return answer


def _says_nothing(call: Call) -> bool:
    """Whether a call says of no format but JSON that it is its own, or wanted."""
    if call.content_format is not None or call.accept is not None:
        return False
    headers = call.headers
    if not headers:
        return True
    return headers.get("Content-Type") in _PLAIN_TYPES and headers.get("Accept") in _PLAIN_ACCEPTS


def _preference(accept: str, media: str) -> tuple[float, int]:
    """How much a media type is wanted (RFC 9110, section 12.5.1): its weight, and how exactly it is
    named, which decides between equals. One that is ruled out comes behind one nobody speaks of."""
    best = (0, 0.0)  # the most exact range that fits says the weight
    for one in accept.lower().split(","):
        name, *params = (part.strip() for part in one.split(";"))
        exact = {media: _NAMED, "application/*": 2, "*/*": 1}.get(name, 0)
        if exact > best[0]:
            best = exact, _weight(params)
    exact, weight = best
    return (weight, exact) if weight or not exact else (-1.0, 0)


def _weight(params: list[str]) -> float:
    for param in params:
        name, _, value = param.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
