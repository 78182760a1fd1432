"""The device API as protobuf messages (sections 13 and 15).

Telemetry, attributes and calls of ours are messages of the profile's own schemas; all else is
fixed. Importing this module loads the protobuf runtime, so it is imported when first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from math import isfinite
from typing import TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message

from gateway.core.model import (
    Attributes,
    AttributesChange,
    AttributesSelection,
    Json,
    Reading,
    RpcCall,
    Secret,
    Value,
)
from gateway.dialects.thingsboard import device_api_pb2 as wire
from gateway.dialects.thingsboard.codecs import JSON, Codec
from gateway.dialects.thingsboard.payloads import parse_json
from gateway.dialects.thingsboard.profile import PayloadKind, ThingsBoardProfile
from gateway.dialects.thingsboard.readings import (
    MOST_KEY_CHARACTERS,
    decode_attributes,
    selection_from_query,
)
from gateway.wire.call import BadPayload, Format

_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")

_MOST_KEPT = 1024
_ANYTHING = msgspec.json.Decoder(msgspec.Raw)
_ANY = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


class _Failure(msgspec.Struct, forbid_unknown_fields=True):
    """`{"error":".."}` and nothing beside it."""

    error: str


_FAILURE = msgspec.json.Decoder(_Failure)


class DefaultProtobufCodec:
    """Fixed messages throughout: for the `v2/*/p` topics of a profile without schemas."""

    format = Format.PROTOBUF

    def telemetry(self, body: bytes, now_ms: int, max_values: int) -> list[Reading]:
        """A `PostTelemetryMsg`. One without values is a bad payload, as in ThingsBoard."""
        return readings_of(parsed(wire.PostTelemetryMsg(), body), now_ms, max_values)

    def attributes(self, body: bytes, max_values: int) -> dict[str, Value]:
        """A `PostAttributeMsg`; whatever it says of `shared`, a device has client attributes."""
        return values_of(parsed(wire.PostAttributeMsg(), body).kv, max_values)

    def attributes_request(self, body: bytes) -> AttributesSelection:
        asked = parsed(wire.AttributesRequest(), body)
        return selection_from_query(
            {"clientKeys": asked.clientKeys, "sharedKeys": asked.sharedKeys}
        )

    def attributes_response(self, request_id: int, found: Attributes) -> bytes:
        return written(lambda: response_of(request_id, found.client, found.shared))

    def attributes_update(self, change: AttributesChange) -> bytes:
        return written(lambda: notification_of(change))

    def rpc_request(self, request_id: int, call: RpcCall, *, with_id: bool) -> bytes:
        """A `ToDeviceRpcRequestMsg`; it has the id on every wire."""
        return written(lambda: request_of(request_id, call))

    def rpc_answer(self, body: bytes) -> str:
        """The payload of a `ToDeviceRpcResponseMsg`, which is the twin of the one to the server."""
        answer = parsed(wire.ToServerRpcResponseMsg(), body)
        if not answer.payload and not answer.error:
            raise BadPayload("an answer needs a payload or an error")
        return answer.payload or _encode(_Failure(answer.error)).decode()

    def client_rpc(self, body: bytes) -> tuple[str, str]:
        """An `RpcRequest`. Params that are no JSON are taken for text, as a lenient parser does."""
        asked = parsed(wire.RpcRequest(), body)
        if not asked.method:
            raise BadPayload("an RPC needs a method")
        if not asked.params or _is_json(asked.params):
            return asked.method, asked.params
        return asked.method, _encode(asked.params).decode()

    def client_rpc_response(self, request_id: int, answer: bytes) -> bytes:
        """A `ToServerRpcResponseMsg`; what is nothing but an error is one there, too."""
        response = wire.ToServerRpcResponseMsg(requestId=request_id)
        try:
            response.error = _FAILURE.decode(answer).error
        except msgspec.DecodeError:
            response.payload = answer.decode()
        return response.SerializeToString()

    def claim(self, body: bytes) -> tuple[Secret, int]:
        return claim_of(parsed(wire.ClaimDevice(), body))


class ProtobufCodec(DefaultProtobufCodec):
    """The messages of a profile's own schemas, and the fixed ones.

    With the profile's `json_compatibility` what is not protobuf is read as JSON. Raises
    `ValueError` when a schema cannot be compiled; make it in a thread.
    """

    def __init__(self, profile: ThingsBoardProfile) -> None:
        self._schemas = profile.schemas()
        self._reads_json = profile.json_compatibility

    def telemetry(self, body: bytes, now_ms: int, max_values: int) -> list[Reading]:
        schema = self._schemas.telemetry
        return self._either(
            lambda: JSON.telemetry(schema.to_json(body), now_ms, max_values),
            lambda: JSON.telemetry(body, now_ms, max_values),
        )

    def attributes(self, body: bytes, max_values: int) -> dict[str, Value]:
        schema = self._schemas.attributes
        return self._either(
            lambda: JSON.attributes(schema.to_json(body), max_values),
            lambda: JSON.attributes(body, max_values),
        )

    def attributes_request(self, body: bytes) -> AttributesSelection:
        return self._either(
            lambda: super(ProtobufCodec, self).attributes_request(body),
            lambda: JSON.attributes_request(body),
        )

    def rpc_request(self, request_id: int, call: RpcCall, *, with_id: bool) -> bytes:
        """Method, id and params are the schema's only fields, so it has the id on every wire."""
        told = {
            "method": call.method,
            "requestId": request_id,
            "params": parse_json(_ANY, call.params.encode(), "the params of a call must be JSON"),
        }
        return self._schemas.rpc_request.from_json(told)

    def rpc_answer(self, body: bytes) -> str:
        schema = self._schemas.rpc_response
        return self._either(
            lambda: schema.to_json(body).decode(),
            lambda: JSON.rpc_answer(body),
        )

    def client_rpc(self, body: bytes) -> tuple[str, str]:
        return self._either(
            lambda: super(ProtobufCodec, self).client_rpc(body),
            lambda: JSON.client_rpc(body),
        )

    def claim(self, body: bytes) -> tuple[Secret, int]:
        return self._either(
            lambda: super(ProtobufCodec, self).claim(body),
            lambda: JSON.claim(body),
        )

    def _either(self, read: Callable[[], _T], read_json: Callable[[], _T]) -> _T:
        try:
            return read()
        except BadPayload as exc:
            if not (self._reads_json and exc.undecodable):
                raise
        return read_json()


V2_PROTOBUF: Codec = DefaultProtobufCodec()


@lru_cache(maxsize=_MOST_KEPT)
def codec_for(profile: ThingsBoardProfile) -> Codec:
    """The codec of a profile. Compiles its schemas: await it in a thread. Raises `ValueError`."""
    return JSON if profile.payload is PayloadKind.JSON else ProtobufCodec(profile)


# ── from the device ───────────────────────────────────────────────────────────────────────────


def parsed(message: _M, body: bytes) -> _M:
    """`message` filled with `body`. Raises `BadPayload`, undecodable."""
    try:
        message.ParseFromString(body)
    except DecodeError:
        name = message.DESCRIPTOR.name
        raise BadPayload(f"the payload is no message {name}", undecodable=True) from None
    return message


def readings_of(sent: wire.PostTelemetryMsg, now_ms: int, max_values: int) -> list[Reading]:
    """The readings of a message; those without a time are of `now_ms`. Values keep their types.

    Raises `BadPayload`, also for a message without values: any bytes of unknown fields are one.
    """
    if not sent.tsKvList:
        raise BadPayload("telemetry has no values")
    readings: list[Reading] = []
    for one in sent.tsKvList:
        found = values_of(one.kv, max_values - len(readings))
        readings += [Reading(one.ts or now_ms, key, value) for key, value in found.items()]
    return readings


def values_of(pairs: Iterable[wire.KeyValueProto], max_values: int) -> dict[str, Value]:
    """Values by key; the last of a key stands. Raises `BadPayload`, also when there are none."""
    values: dict[str, Value] = {}
    count = 0
    for pair in pairs:
        count += 1
        if count > max_values:
            raise BadPayload("too many values in one message")
        if not 0 < len(pair.key) <= MOST_KEY_CHARACTERS:
            raise BadPayload(f"a key must have 1 to {MOST_KEY_CHARACTERS} characters")
        value = _value_of(pair)
        if value is not None:
            values[pair.key] = value
    if not count:
        raise BadPayload("a message has no values")
    return values


def _value_of(pair: wire.KeyValueProto) -> Value | None:
    """A value of the type it is said to have; None for a JSON null."""
    match pair.type:
        case wire.BOOLEAN_V:
            return pair.bool_v
        case wire.LONG_V:
            return pair.long_v
        case wire.DOUBLE_V:
            if not isfinite(pair.double_v):
                raise BadPayload("a number must be finite")
            return pair.double_v + 0.0  # no negative zero, as in JSON
        case wire.STRING_V:
            return pair.string_v
        case wire.JSON_V:
            # By the rules of JSON telemetry: an object or an array stays as it was written.
            told = decode_attributes(b'{"v":%b}' % _one_json(pair.json_v))
            return told.get("v")
        case _:
            raise BadPayload("a value has an unknown type")


def _one_json(text: str) -> bytes:
    return bytes(parse_json(_ANYTHING, text.encode(), "a JSON value must be JSON"))


def claim_of(asked: wire.ClaimDevice) -> tuple[Secret, int]:
    """The key of a claim, perhaps empty, and for how long in ms, 0 for the default."""
    if asked.durationMs < 0:
        raise BadPayload("durationMs must not be below zero")
    return Secret(asked.secretKey), asked.durationMs


def _is_json(text: str) -> bool:
    try:
        parse_json(_ANYTHING, text.encode(), "")
    except BadPayload:
        return False
    return True


# ── to the device ─────────────────────────────────────────────────────────────────────────────


def written(message: Callable[[], Message]) -> bytes:
    """The bytes of what `message` makes. Raises `BadPayload` when a value does not fit it."""
    try:
        return message().SerializeToString()
    except ValueError:
        # A number beyond its field's bits, or text that is no UTF-8; the words would repeat it.
        raise BadPayload("a value does not fit its protobuf message") from None


def response_of(
    request_id: int, client: Mapping[str, Value], shared: Mapping[str, Value], *, asked: int = 0
) -> wire.GetAttributeResponseMsg:
    """`asked` is how many keys were asked for, if that is known. Times are left out: 0."""
    return wire.GetAttributeResponseMsg(
        requestId=request_id,
        clientAttributeList=_pairs(client),
        sharedAttributeList=_pairs(shared),
        isMultipleAttributesRequest=(asked or len(client) + len(shared)) > 1,
    )


def notification_of(change: AttributesChange) -> wire.AttributeUpdateNotificationMsg:
    return wire.AttributeUpdateNotificationMsg(
        sharedUpdated=_pairs(change.values), sharedDeleted=change.deleted
    )


def request_of(request_id: int, call: RpcCall) -> wire.ToDeviceRpcRequestMsg:
    return wire.ToDeviceRpcRequestMsg(
        requestId=request_id,
        methodName=call.method,
        params=call.params,
        expirationTime=call.expires_at,
        oneway=not call.two_way,
        persisted=call.persistent,
        retries=call.retries or None,
    )


def _pairs(values: Mapping[str, Value]) -> list[wire.TsKvProto]:
    return [wire.TsKvProto(kv=_pair(key, value)) for key, value in values.items()]


def _pair(key: str, value: Value) -> wire.KeyValueProto:
    match value:
        case bool():
            return wire.KeyValueProto(key=key, type=wire.BOOLEAN_V, bool_v=value)
        case int():
            return wire.KeyValueProto(key=key, type=wire.LONG_V, long_v=value)
        case float():
            return wire.KeyValueProto(key=key, type=wire.DOUBLE_V, double_v=value)
        case str():
            return wire.KeyValueProto(key=key, type=wire.STRING_V, string_v=value)
        case Json(text):
            return wire.KeyValueProto(key=key, type=wire.JSON_V, json_v=text)
