"""What a gateway says of its devices and is told for them, in JSON (contract, section 9).

Whatever it sends, nothing but `BadPayload` comes out. Values follow the rules of `readings`.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from msgspec import Struct

from gateway.core.model import AttributesChange, Json, Reading, RpcCall, Secret, Value
from gateway.dialects.thingsboard.codecs import JSON
from gateway.dialects.thingsboard.payloads import OBJECT, parse_json, text_of
from gateway.dialects.thingsboard.profile import PayloadKind, ThingsBoardProfile
from gateway.dialects.thingsboard.readings import (
    MOST_KEYS_ASKED,
    decode_attributes,
    decode_telemetry,
    encode_values,
)
from gateway.wire.call import BadPayload, Format

MOST_DEVICES = 1_000
"""Devices one message may speak of."""

_encode = msgspec.json.Encoder().encode
_ANY = msgspec.json.Decoder()
_KEYS = msgspec.json.Decoder(list[str])


class ChildAttributesRequest(Struct, frozen=True):
    """Which attributes of a child are asked for. `single`: the answer has the value of one key,
    and does not name it, also when that one key stood in a list."""

    id: int
    device: str
    client: bool
    keys: tuple[str, ...]
    single: bool


class GatewayCodec(Protocol):
    """The messages of the gateway API in one format. Decoders raise `BadPayload` alone."""

    @property
    def format(self) -> Format: ...

    def connect(self, body: bytes) -> tuple[str, str]:
        """The device's name, and its type or nothing."""

    def disconnect(self, body: bytes) -> str: ...

    def telemetry(
        self, body: bytes, now_ms: int, max_values: int
    ) -> list[tuple[str, list[Reading]]]: ...

    def attributes(self, body: bytes, max_values: int) -> list[tuple[str, dict[str, Value]]]: ...

    def attributes_request(self, body: bytes) -> ChildAttributesRequest: ...

    def attributes_response(
        self, asked: ChildAttributesRequest, found: dict[str, Value]
    ) -> bytes: ...

    def attributes_update(self, device: str, change: AttributesChange) -> bytes: ...

    def rpc_request(self, device: str, request_id: int, call: RpcCall) -> bytes: ...

    def rpc_answer(self, body: bytes) -> tuple[str, int, str]:
        """The device's name, the request it answers, and its answer as text."""

    def claim(self, body: bytes) -> list[tuple[str, Secret, int]]: ...

    def gone(self, device: str, reason: int) -> bytes:
        """A child's session was ended from this side; `reason` is MQTT 5's number."""


class JsonGatewayCodec:
    """The gateway API in JSON; what the IoT Gateway of ThingsBoard speaks."""

    format = Format.JSON

    def connect(self, body: bytes) -> tuple[str, str]:
        members = _object(body)
        return _device(members), text_of("type", members.get("type")) or ""

    def disconnect(self, body: bytes) -> str:
        return _device(_object(body))

    def telemetry(
        self, body: bytes, now_ms: int, max_values: int
    ) -> list[tuple[str, list[Reading]]]:
        """`{"A":[{"ts":1,"values":{..}}],"B":[..]}`; what is no array is skipped, as there."""
        sent: list[tuple[str, list[Reading]]] = []
        count = 0
        for name, raw in _devices(body).items():
            written = bytes(raw)
            if written.startswith(b"["):
                readings = decode_telemetry(written, now_ms, max_values=max_values)
                count = _counted(count + len(readings), max_values)
                sent.append((name, readings))
        return sent

    def attributes(self, body: bytes, max_values: int) -> list[tuple[str, dict[str, Value]]]:
        """`{"A":{"k":"v"},"B":{..}}`."""
        sent: list[tuple[str, dict[str, Value]]] = []
        count = 0
        for name, raw in _devices(body).items():
            values = decode_attributes(bytes(raw), max_values=max_values)
            count = _counted(count + len(values), max_values)
            sent.append((name, values))
        return sent

    def attributes_request(self, body: bytes) -> ChildAttributesRequest:
        """`{"id":1,"device":"A","client":true,"key":"k"}`, or `"keys":["a","b"]`."""
        members = _object(body)
        key = text_of("key", members.get("key"))
        keys = (key,) if key is not None else tuple(dict.fromkeys(_key_list(members.get("keys"))))
        client = bytes(members.get("client", b"false"))
        if client not in (b"true", b"false", b"null"):
            raise BadPayload("client must be true or false")
        return ChildAttributesRequest(
            _number("id", members.get("id")),
            _device(members),
            client == b"true",
            keys,
            len(keys) == 1,
        )

    def attributes_response(self, asked: ChildAttributesRequest, found: dict[str, Value]) -> bytes:
        answer: dict[str, Any] = {"id": asked.id, "device": asked.device}
        if asked.single:
            value = found.get(asked.keys[0])
            if value is not None:
                answer["value"] = msgspec.Raw(value.text) if isinstance(value, Json) else value
        elif found:
            answer["values"] = msgspec.Raw(encode_values(found))
        return _encode(answer)

    def attributes_update(self, device: str, change: AttributesChange) -> bytes:
        return _encode({"device": device, "data": msgspec.Raw(JSON.attributes_update(change))})

    def rpc_request(self, device: str, request_id: int, call: RpcCall) -> bytes:
        data = msgspec.Raw(JSON.rpc_request(request_id, call, with_id=True))
        return _encode({"device": device, "data": data})

    def rpc_answer(self, body: bytes) -> tuple[str, int, str]:
        """`{"device":"A","id":1,"data":{..}}`; the answer is `data` as it was written."""
        members = _object(body)
        data = members.get("data")
        return (
            _device(members),
            _number("id", members.get("id")),
            bytes(data).decode() if data is not None else "null",
        )

    def claim(self, body: bytes) -> list[tuple[str, Secret, int]]:
        """`{"A":{"secretKey":"..","durationMs":60000},"B":{}}`."""
        return [(name, *JSON.claim(bytes(raw))) for name, raw in _devices(body).items()]

    def gone(self, device: str, reason: int) -> bytes:
        return _encode({"device": device, "reason": reason})


JSON_GATEWAY: GatewayCodec = JsonGatewayCodec()


def gateway_codec_for(profile: ThingsBoardProfile) -> GatewayCodec:
    """How a gateway of this profile speaks for its devices; their own profiles do not matter."""
    if profile.payload is PayloadKind.JSON:
        return JSON_GATEWAY
    # Loads the protobuf runtime, which few profiles need.
    from gateway.dialects.thingsboard.gateway_protobuf import PROTOBUF_GATEWAY

    return PROTOBUF_GATEWAY


def _object(body: bytes) -> dict[str, msgspec.Raw]:
    return parse_json(OBJECT, body, "a gateway's message must be an object")


def _devices(body: bytes) -> dict[str, msgspec.Raw]:
    """The members of a message that speaks of devices by name."""
    found = _object(body)
    if len(found) > MOST_DEVICES:
        raise BadPayload(f"at most {MOST_DEVICES} devices in one message")
    return found


def _device(members: dict[str, msgspec.Raw]) -> str:
    name = text_of("device", members.get("device"))
    if not name:
        raise BadPayload("device is missing")
    return name


def _number(name: str, raw: msgspec.Raw | None) -> int:
    """A whole number of 32 bits, which is what fits the request ids of the contract."""
    text = text_of(name, raw) or ""
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 11:
        number = int(text)
        if -(2**31) <= number < 2**31:
            return number
    raise BadPayload(f"{name} must be a whole number of 32 bits")


def _key_list(raw: msgspec.Raw | None) -> list[str]:
    try:
        keys = _KEYS.decode(bytes(raw)) if raw is not None else []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadPayload("keys must be an array of texts") from None
    if not 0 < len(keys) <= MOST_KEYS_ASKED:
        raise BadPayload(f"key or keys must name 1 to {MOST_KEYS_ASKED} attributes")
    return keys


def _counted(count: int, most: int) -> int:
    if count > most:
        raise BadPayload(f"at most {most} values in one message")
    return count
