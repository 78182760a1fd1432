"""A profile's `[thingsboard]` table: own topics, and what payloads are (sections 7.4, 8, 13).

The core carries the table unread. It is proven when a profile file is read (`prove_section`), and
read again when a device of the profile comes (`read_section`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct

from gateway.core.model import ProfileTransport
from gateway.core.spelling import nearest

if TYPE_CHECKING:
    from gateway.dialects.thingsboard.schema import Schema

TELEMETRY_TOPIC = "v1/devices/me/telemetry"
ATTRIBUTES_TOPIC = "v1/devices/me/attributes"

MAX_FILTER_BYTES = 1024
"""A topic filter longer than this is no device's; MQTT itself would allow 65535 bytes."""

RESERVED = (
    *("/provision/#", "v1/gateway/#"),
    *("v1/devices/me/rpc/#", "v1/devices/me/claim", "v1/devices/me/certificate/#"),
    "v1/devices/me/provision/#",
    *("v1/devices/me/attributes/request/#", "v1/devices/me/attributes/response/#"),
    *("v2/t", "v2/t/+", "v2/a", "v2/a/+", "v2/a/req/#", "v2/a/res/#", "v2/r/#"),
    *("v2/fw/#", "v2/sw/#"),
)
"""Topics whose meaning no profile can change."""

_TOPICS = ("telemetry_topic", "attributes_topic", "attributes_subscribe_topic")
_SCHEMAS = ("telemetry_schema", "attributes_schema", "rpc_request_schema", "rpc_response_schema")

RPC_REQUEST_SCHEMA = """\
syntax = "proto3";
package rpc;
message RpcRequestMsg {
  optional string method = 1;
  optional int32 requestId = 2;
  optional string params = 3;
}
"""
RPC_RESPONSE_SCHEMA = """\
syntax = "proto3";
package rpc;
message RpcResponseMsg {
  optional string payload = 1;
}
"""
"""Those ThingsBoard gives a new profile."""


class PayloadKind(StrEnum):
    """What telemetry, attributes and calls of methods are on the wire."""

    JSON = "JSON"
    PROTOBUF = "PROTOBUF"


class Schemas(NamedTuple):
    """The four kinds of messages of a `PROTOBUF` profile, compiled."""

    telemetry: Schema
    attributes: Schema
    rpc_request: Schema
    rpc_response: Schema


class ThingsBoardProfile(Struct, frozen=True, kw_only=True):
    """What devices of one profile speak, besides what all devices do.

    Topics are MQTT filters and replace the `v1` ones. Schemas are `.proto` texts: the first two are
    empty with `JSON`, and never with `PROTOBUF`.

    `json_compatibility`: what cannot be read as protobuf is tried as JSON. `json_downlinks`: what
    goes out on the `v1` topics is JSON all the same. `send_ack_on_validation_exception`: a bad
    payload does not cost an MQTT 3 device its connection.
    """

    telemetry_topic: str = TELEMETRY_TOPIC
    attributes_topic: str = ATTRIBUTES_TOPIC
    attributes_subscribe_topic: str = ATTRIBUTES_TOPIC
    payload: PayloadKind = PayloadKind.JSON
    telemetry_schema: str = ""
    attributes_schema: str = ""
    rpc_request_schema: str = RPC_REQUEST_SCHEMA
    rpc_response_schema: str = RPC_RESPONSE_SCHEMA
    json_compatibility: bool = False
    json_downlinks: bool = False
    send_ack_on_validation_exception: bool = False

    def schemas(self) -> Schemas:
        """The schemas of a `PROTOBUF` profile, compiled; await it in a thread.

        Raises `ValueError` that begins with the key at fault. What was compiled before, for
        whichever profile, is there at once.
        """
        # Loads the protobuf runtime, which few profiles need.
        from gateway.dialects.thingsboard.schema import Schema, SchemaUse

        compiled = []
        for key, use in zip(_SCHEMAS, SchemaUse, strict=True):
            try:
                compiled.append(Schema.compile(getattr(self, key), use))
            except ValueError as exc:
                raise ValueError(f"{key}: {exc}") from None
        return Schemas(*compiled)


# ── reading ───────────────────────────────────────────────────────────────────────────────────


def read_section(section: Mapping[str, Any]) -> ThingsBoardProfile:
    """The table as a value. An empty one is every default.

    Raises `ValueError`, a sentence that begins with the key at fault.
    """
    known = ThingsBoardProfile.__struct_fields__
    for key in section:
        if key not in known:
            raise ValueError(f"{key} is no setting of ThingsBoard's. {nearest(key, known)}")
    profile = ThingsBoardProfile(**{key: _checked(key, one) for key, one in section.items()})
    _check_overlap(profile)
    _check_payload(profile, section)
    return profile


def prove_section(section: Mapping[str, Any], transport: ProfileTransport) -> None:
    """Prove the table of a profile whose devices use `transport`, its schemas compiled.

    Raises `ValueError` as `read_section` does.
    """
    profile = read_section(section)
    for key in _TOPICS:
        if key in section and transport is not ProfileTransport.MQTT:
            raise ValueError(
                f"{key} belongs to a profile of transport MQTT; this one's is {transport.value}. "
                'Write `transport = "MQTT"`, or remove it.'
            )
    if profile.payload is PayloadKind.PROTOBUF:
        if transport is ProfileTransport.DEFAULT:
            raise ValueError(
                "payload PROTOBUF belongs to a profile of transport MQTT or COAP. "
                'Write `transport = "MQTT"`, or remove it.'
            )
        profile.schemas()


def _checked(key: str, value: object) -> Any:
    if key in _TOPICS:
        return _checked_filter(key, value)
    if key in _SCHEMAS:
        if isinstance(value, str) and value.strip():
            return value
        raise ValueError(f'{key} must be the text of a .proto file, or `{{ file = "my.proto" }}`.')
    if key == "payload":
        return _checked_payload(value)
    if not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false.")
    return value


def _checked_payload(value: object) -> PayloadKind:
    try:
        return msgspec.convert(value, PayloadKind)
    except msgspec.ValidationError:
        raise ValueError('payload must be "JSON" or "PROTOBUF".') from None


def _check_payload(profile: ThingsBoardProfile, given: Mapping[str, Any]) -> None:
    if profile.payload is PayloadKind.PROTOBUF:
        for key in ("telemetry_schema", "attributes_schema"):
            if key not in given:
                raise ValueError(f"payload PROTOBUF needs {key}. Add it.")
        return
    for key in (*_SCHEMAS, "json_compatibility", "json_downlinks"):
        if given.get(key):
            raise ValueError(f'{key} is of no use without `payload = "PROTOBUF"`. Add that.')


# ── topic filters ─────────────────────────────────────────────────────────────────────────────


def _checked_filter(key: str, value: object) -> str:
    """`value` as a topic filter (MQTT 5, section 4.7) that takes nothing from anybody else."""
    if not isinstance(value, str) or not value:
        raise ValueError(f'{key} must be a topic filter, for example "sensors/+/data".')
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > MAX_FILTER_BYTES or not value.isprintable():
        raise ValueError(
            f"{key} must be at most {MAX_FILTER_BYTES} bytes, without control characters."
        )
    if "{" in value or "}" in value:
        raise ValueError(f"{key} may not have `{{` or `}}`: no topic of a device's needs them.")
    levels = value.split("/")
    if "#" in value and (levels[-1] != "#" or value.count("#") > 1):
        raise ValueError(f"{key} may have `#` as its last level only, as in `sensors/#`.")
    if any("+" in level and level != "+" for level in levels):
        raise ValueError(f"{key} may have `+` only as a whole level, as in `sensors/+/data`.")
    if value.startswith("$"):
        raise ValueError(f"{key} must not begin with `$`, which is the server's own (MQTT 4.7.2).")
    for reserved in RESERVED:
        if overlap(value, reserved):
            raise ValueError(f"{key} takes in `{reserved}`, which means something else. Narrow it.")
    return value


def _check_overlap(profile: ThingsBoardProfile) -> None:
    if overlap(profile.telemetry_topic, profile.attributes_topic):
        # The key that is surely written: both defaults together do not overlap.
        key = "telemetry_topic"
        if profile.telemetry_topic == TELEMETRY_TOPIC:
            key = "attributes_topic"
        raise ValueError(
            f"{key} makes telemetry and attributes one: there are topics that suit "
            f"`{profile.telemetry_topic}` and `{profile.attributes_topic}`. Choose others."
        )


def overlap(one: str, other: str) -> bool:
    """Whether there is a topic that both filters match."""
    these, those = one.split("/"), other.split("/")
    for this, that in zip(these, those, strict=False):
        if "#" in (this, that):
            return True
        if this != that and "+" not in (this, that):
            return False
    if len(these) == len(those):
        return True
    # `a/#` matches `a` as well.
    shorter, longer = sorted((these, those), key=len)
    return longer[len(shorter)] == "#" and len(longer) == len(shorter) + 1
