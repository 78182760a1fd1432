"""What a session may publish and subscribe to, made once for each revision of a profile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

from gateway.core.model import Device, Wire
from gateway.dialects.thingsboard.callers import Settings
from gateway.dialects.thingsboard.certificates import CertificateApi
from gateway.dialects.thingsboard.claim import ClaimApi
from gateway.dialects.thingsboard.codecs import JSON, Codec, CodecOnDemand
from gateway.dialects.thingsboard.device import DeviceApi
from gateway.dialects.thingsboard.firmware import FirmwareApi
from gateway.dialects.thingsboard.gateway import GatewayApi
from gateway.dialects.thingsboard.gateway_guest import GATEWAY_TOPICS
from gateway.dialects.thingsboard.guests import Plan
from gateway.dialects.thingsboard.profile import PayloadKind
from gateway.dialects.thingsboard.provision import ProvisionApi
from gateway.dialects.thingsboard.rpc import RpcApi
from gateway.dialects.thingsboard.topics import (
    CERTIFICATE_FILTERS,
    PACKAGE_FILTERS,
    PROVISION_RESPONSE,
    V2,
    V2_JSON,
    V2_PROTOBUF,
    Voice,
    family_voice,
    own_voice,
)
from gateway.wire.call import Call, Conduct, Format, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

MOST_PLANS: Final = 1024
"""Kept at a time; a session keeps its own. One costs about 20 KB and half a millisecond."""

_IGNORED = Reply(status=Status.IGNORED, reason="this device is no gateway")

# Contract, section 7.4: what a device's session does with a publish that went wrong.
_BAD_PAYLOAD = Conduct(ack=0x99, close=None, ack_v3=False, close_v3=True, close_qos0=0x99)
_BAD_PAYLOAD_ACKNOWLEDGED = Conduct(
    ack=0x99, close=None, ack_v3=True, close_v3=False, close_qos0=0x99
)
_BROKEN = Conduct(ack=None, close=0x83, ack_v3=False, close_v3=True)
_CONDUCT = {
    Status.UNDECODABLE: _BAD_PAYLOAD,
    Status.BAD_REQUEST: _BAD_PAYLOAD,
    Status.NOT_FOUND: Conduct(ack=0x90, close=None, ack_v3=True, close_v3=False),
    Status.INTERNAL: _BROKEN,
    Status.LIMITED: _BROKEN,
    Status.GONE: Conduct(ack=None, close=0x98, ack_v3=False, close_v3=True),
}
_LENIENT_CONDUCT = {
    **_CONDUCT,
    Status.UNDECODABLE: _BAD_PAYLOAD_ACKNOWLEDGED,
    Status.BAD_REQUEST: _BAD_PAYLOAD_ACKNOWLEDGED,
}
"""That of a profile with `send_ack_on_validation_exception`."""


def _fixed_messages() -> Codec:
    # Loads the protobuf runtime, which few devices of a JSON profile need.
    from gateway.dialects.thingsboard import protobuf_codec

    return protobuf_codec.V2_PROTOBUF


_FIXED_MESSAGES = cast(Codec, CodecOnDemand(Format.PROTOBUF, _fixed_messages))
"""What a profile without schemas has on the protobuf family."""


class Plans:
    """Makes the plan of a profile from the parts of the device API."""

    def __init__(
        self,
        device: DeviceApi,
        rpc: RpcApi,
        claim: ClaimApi,
        certificates: CertificateApi,
        firmware: FirmwareApi,
        gateway: GatewayApi,
        provision: ProvisionApi,
        gauge: Gauge,
        polls: Gauge,
        timeout_s: float,
    ) -> None:
        self._device = device
        self._rpc = rpc
        self._claim = claim
        self._certificates = certificates
        self._firmware = firmware
        self._gateway = gateway
        self._provision = provision
        self._gauge = gauge
        self._polls = polls
        self._timeout_s = timeout_s
        self._kept: dict[tuple[int, bool], Plan] = {}

    def of(self, device: Device, settings: Settings) -> Plan:
        """The plan for sessions of `device`, whose profile says `settings`."""
        key = (device.profile_id, device.gateway)
        kept = self._kept.get(key)
        if kept is not None and kept.revision == settings.revision:
            return kept
        if len(self._kept) >= MOST_PLANS:
            self._kept.clear()
        plan = self._kept[key] = self._made(settings, device.gateway)
        return plan

    def _made(self, settings: Settings, gateway: bool) -> Plan:
        voices = voices_of(settings)
        lenient = settings.dialect.send_ack_on_validation_exception
        return Plan(
            revision=settings.revision,
            router=Router(
                self._routes(voices, gateway),
                Wire.MQTT,
                self._gauge,
                polls=self._polls,
                timeout_s=self._timeout_s,
            ),
            filters=filters_of(voices) | (GATEWAY_TOPICS if gateway else frozenset()),
            conduct=_LENIENT_CONDUCT if lenient else _CONDUCT,
            updates={voice.updates: voice for voice in voices},
            calls={f"{voice.family.rpc_request}+": voice for voice in voices},
        )

    def _routes(self, voices: Iterable[Voice], gateway: bool) -> list[Route]:
        first, *_ = voices
        routes = [
            *self._claim.mqtt_routes(first.up),
            *self._certificates.mqtt_routes(),
            *self._firmware.routes(),
            *self._provision.session_routes(gateway=gateway),
        ]
        for voice in voices:
            routes += self._device.mqtt_routes(voice)
            routes += self._rpc.mqtt_routes(voice)
        if gateway:
            return [*routes, *self._gateway.routes()]
        return [*routes, _NO_GATEWAY]


def voices_of(settings: Settings) -> tuple[Voice, ...]:
    """The families as a profile's devices use them, v1 first (section 8, its end)."""
    codec, profile = settings.codec, settings.dialect
    protobuf = _FIXED_MESSAGES if profile.payload is PayloadKind.JSON else codec
    return (
        own_voice(codec, JSON if profile.json_downlinks else codec, profile),
        family_voice(V2, codec, codec),
        family_voice(V2_JSON, JSON, JSON),
        family_voice(V2_PROTOBUF, protobuf, protobuf),
    )


def filters_of(voices: Iterable[Voice]) -> frozenset[str]:
    """The filters a device may subscribe to, exactly (section 8)."""
    filters = {*CERTIFICATE_FILTERS, *PACKAGE_FILTERS, PROVISION_RESPONSE}
    for voice in voices:
        topics = voice.family
        asked = (topics.attributes_response, topics.rpc_request, topics.rpc_response)
        filters.update(f"{topic}+" for topic in asked)
        filters.add(voice.updates)
    return frozenset(filters)


async def _ignore(_call: Call) -> Reply:
    """A device that is no gateway hears nothing of what it publishes there (section 9)."""
    return _IGNORED


_NO_GATEWAY = Route(
    name="thingsboard.gateway.ignored", handler=_ignore, mqtt=("v1/gateway/{rest*}",), quiet=True
)
