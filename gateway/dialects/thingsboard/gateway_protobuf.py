"""What a gateway says of its devices and is told for them, as protobuf (sections 9 and 15).

For gateways whose profile's payload is PROTOBUF. The messages are fixed: a profile's schemas are
for devices that speak for themselves. Importing this module loads the protobuf runtime.
"""

from __future__ import annotations

from collections.abc import Sized

from gateway.core.model import AttributesChange, Reading, RpcCall, Secret, Value
from gateway.dialects.thingsboard import device_api_pb2 as wire
from gateway.dialects.thingsboard.gateway_messages import (
    MOST_DEVICES,
    ChildAttributesRequest,
    GatewayCodec,
)
from gateway.dialects.thingsboard.protobuf_codec import (
    claim_of,
    notification_of,
    parsed,
    readings_of,
    request_of,
    response_of,
    values_of,
    written,
)
from gateway.dialects.thingsboard.readings import MOST_KEYS_ASKED
from gateway.wire.call import BadPayload, Format


class ProtobufGatewayCodec:
    """The gateway API in protobuf. A device named twice in one message is one device."""

    format = Format.PROTOBUF

    def connect(self, body: bytes) -> tuple[str, str]:
        asked = parsed(wire.ConnectMsg(), body)
        return _named(asked.deviceName), asked.deviceType

    def disconnect(self, body: bytes) -> str:
        return _named(parsed(wire.DisconnectMsg(), body).deviceName)

    def telemetry(
        self, body: bytes, now_ms: int, max_values: int
    ) -> list[tuple[str, list[Reading]]]:
        sent = parsed(wire.GatewayTelemetryMsg(), body).msg
        _check_devices(sent)
        told: dict[str, list[Reading]] = {}
        for one in sent:
            readings = readings_of(one.msg, now_ms, max_values)
            max_values -= len(readings)
            told.setdefault(_named(one.deviceName), []).extend(readings)
        return list(told.items())

    def attributes(self, body: bytes, max_values: int) -> list[tuple[str, dict[str, Value]]]:
        sent = parsed(wire.GatewayAttributesMsg(), body).msg
        _check_devices(sent)
        told: dict[str, dict[str, Value]] = {}
        for one in sent:
            values = values_of(one.msg.kv, max_values)
            max_values -= len(values)
            told.setdefault(_named(one.deviceName), {}).update(values)
        return list(told.items())

    def attributes_request(self, body: bytes) -> ChildAttributesRequest:
        asked = parsed(wire.GatewayAttributesRequestMsg(), body)
        keys = tuple(dict.fromkeys(asked.keys))
        if not 0 < len(keys) <= MOST_KEYS_ASKED:
            raise BadPayload(f"keys must name 1 to {MOST_KEYS_ASKED} attributes")
        name = _named(asked.deviceName)
        return ChildAttributesRequest(asked.id, name, asked.client, keys, len(keys) == 1)

    def attributes_response(self, asked: ChildAttributesRequest, found: dict[str, Value]) -> bytes:
        client, shared = (found, {}) if asked.client else ({}, found)
        return written(
            lambda: wire.GatewayAttributeResponseMsg(
                deviceName=asked.device,
                responseMsg=response_of(asked.id, client, shared, asked=len(asked.keys)),
            )
        )

    def attributes_update(self, device: str, change: AttributesChange) -> bytes:
        return written(
            lambda: wire.GatewayAttributeUpdateNotificationMsg(
                deviceName=device, notificationMsg=notification_of(change)
            )
        )

    def rpc_request(self, device: str, request_id: int, call: RpcCall) -> bytes:
        return written(
            lambda: wire.GatewayDeviceRpcRequestMsg(
                deviceName=device, rpcRequestMsg=request_of(request_id, call)
            )
        )

    def rpc_answer(self, body: bytes) -> tuple[str, int, str]:
        answer = parsed(wire.GatewayRpcResponseMsg(), body)
        return _named(answer.deviceName), answer.id, answer.data

    def claim(self, body: bytes) -> list[tuple[str, Secret, int]]:
        """Of two claims for one device the first stands, as it would among two messages."""
        sent = parsed(wire.GatewayClaimMsg(), body).msg
        _check_devices(sent)
        told: dict[str, tuple[Secret, int]] = {}
        for one in sent:
            told.setdefault(_named(one.deviceName), claim_of(one.claimRequest))
        return [(name, key, lasting) for name, (key, lasting) in told.items()]

    def gone(self, device: str, reason: int) -> bytes:
        return written(
            lambda: wire.GatewayDisconnectDeviceMsg(deviceName=device, reasonCode=reason)
        )


PROTOBUF_GATEWAY: GatewayCodec = ProtobufGatewayCodec()


def _named(name: str) -> str:
    if not name:
        raise BadPayload("deviceName is missing")
    return name


def _check_devices(sent: Sized) -> None:
    """A message of nobody is a bad payload, as in ThingsBoard: any unknown fields are one."""
    if not 0 < len(sent) <= MOST_DEVICES:
        raise BadPayload(f"1 to {MOST_DEVICES} devices in one message")
