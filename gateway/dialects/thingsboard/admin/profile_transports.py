"""`transportConfiguration` of a device profile: topics and payloads (contract, section 17.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.core.model import DeviceProfile, ProfileTransport
from gateway.dialects.thingsboard.admin.desk import bad_request
from gateway.dialects.thingsboard.profile import (
    PayloadKind,
    ThingsBoardProfile,
    prove_section,
    read_section,
)

SECTION: Final = "thingsboard"
_TOPICS: Final = {
    "telemetry_topic": "deviceTelemetryTopic",
    "attributes_topic": "deviceAttributesTopic",
    "attributes_subscribe_topic": "deviceAttributesSubscribeTopic",
}
_SCHEMAS: Final = {
    "telemetry_schema": "deviceTelemetryProtoSchema",
    "attributes_schema": "deviceAttributesProtoSchema",
    "rpc_request_schema": "deviceRpcRequestProtoSchema",
    "rpc_response_schema": "deviceRpcResponseProtoSchema",
}
_SWITCHES: Final = {
    "json_compatibility": "enableCompatibilityWithJsonPayloadFormat",
    "json_downlinks": "useJsonPayloadFormatForDefaultDownlinkTopics",
}
_ACK: Final = {"send_ack_on_validation_exception": "sendAckOnValidationException"}
_PAYLOAD: Final = "transportPayloadType"
_NAMES: Final = {**_TOPICS, **_SCHEMAS, **_SWITCHES, **_ACK, "payload": _PAYLOAD}
_DEFAULTS: Final = ThingsBoardProfile()


# ── reading ───────────────────────────────────────────────────────────────────────────────────


def read_transport(
    transport: ProfileTransport, given: Mapping[str, Any], before: Mapping[str, Any]
) -> Mapping[str, Any]:
    """A profile's `sections` with what `given` says. Raises `Trouble` (400) that names a member.

    ThingsBoard does not look whether the types agree: what is said for another transport says
    nothing of this one.
    """
    if given.get("type") not in (None, transport.value):
        given = {}
    match transport:
        case ProfileTransport.MQTT:
            section = _mqtt(given)
        case ProfileTransport.COAP:
            section = _coap(given)
        case _:
            old = before.get(SECTION, {})
            section = {key: old[key] for key in _ACK if key in old}
    try:
        prove_section(section, transport)
    except ValueError as exc:
        raise bad_request(_in_json_names(str(exc))) from None
    others = {name: table for name, table in before.items() if name != SECTION}
    return {**others, SECTION: section} if section else others


def _mqtt(given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("sparkplug"):
        raise bad_request("sparkplug is not served here")
    topics = _picked(given, _TOPICS)
    return {**topics, **_picked(given, _ACK), **_payload(given)}


def _coap(given: Mapping[str, Any]) -> dict[str, Any]:
    device = given.get("coapDeviceTypeConfiguration")
    if not isinstance(device, dict):
        return {}
    if device.get("coapDeviceType", "DEFAULT") != "DEFAULT":
        raise bad_request("coapDeviceType must be DEFAULT here")
    return _payload(device)


def _payload(given: Mapping[str, Any]) -> dict[str, Any]:
    told = given.get("transportPayloadTypeConfiguration")
    if not isinstance(told, dict) or told.get(_PAYLOAD) in (None, PayloadKind.JSON):
        return {}
    return {"payload": told[_PAYLOAD], **_picked(told, _SCHEMAS), **_picked(told, _SWITCHES)}


def _picked(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Those members that say something else than the default."""
    found = {key: given.get(name) for key, name in names.items()}
    return {
        key: value
        for key, value in found.items()
        if value not in (None, "") and value != getattr(_DEFAULTS, key)
    }


def _in_json_names(sentence: str) -> str:
    """The keys of profile files are other words for members of this JSON."""
    key, space, rest = sentence.partition(" ")
    bare = key.rstrip(":")
    return _NAMES.get(bare, bare) + key[len(bare) :] + space + rest


# ── writing ───────────────────────────────────────────────────────────────────────────────────


def write_transport(profile: DeviceProfile, kept: Mapping[str, Any]) -> dict[str, Any]:
    """`transportConfiguration`; `kept` is what was sent of it once, the profile says what holds."""
    kind = profile.transport.value
    told = dict(kept) if kept.get("type") == kind else {}
    told["type"] = kind
    section = _section(profile)
    if profile.transport is ProfileTransport.MQTT:
        told |= {name: getattr(section, key) for key, name in (_TOPICS | _ACK).items()}
        told["transportPayloadTypeConfiguration"] = _written_payload(section)
        told["sparkplug"] = False
        told.setdefault("sparkplugAttributesMetricNames", None)
    elif profile.transport is ProfileTransport.COAP:
        told["coapDeviceTypeConfiguration"] = {
            "coapDeviceType": "DEFAULT",
            "transportPayloadTypeConfiguration": _written_payload(section),
        }
        told.setdefault("clientSettings", None)
    return told


def _section(profile: DeviceProfile) -> ThingsBoardProfile:
    try:
        return read_section(profile.sections.get(SECTION, {}))
    except ValueError:  # written by another version
        return _DEFAULTS


def _written_payload(section: ThingsBoardProfile) -> dict[str, Any]:
    told: dict[str, Any] = {_PAYLOAD: section.payload.value}
    if section.payload is PayloadKind.PROTOBUF:
        told |= {name: getattr(section, key) for key, name in (_SCHEMAS | _SWITCHES).items()}
    return told
