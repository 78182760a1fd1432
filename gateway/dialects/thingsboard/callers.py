"""Who calls, and may it now? The device of a session or a token, its profile and its limits."""

from __future__ import annotations

import asyncio

import structlog
from msgspec import Struct, structs

from gateway.core.access import Access
from gateway.core.limits import Allowance, Limits, RateLimiter
from gateway.core.model import Device, Identity, ProfileTransport, Secret, Wire
from gateway.core.ports import Clock
from gateway.core.presence import Attendance
from gateway.core.profiles import Profiles
from gateway.dialects.thingsboard.codecs import JSON, Codec
from gateway.dialects.thingsboard.formats import CBOR, is_cbor
from gateway.dialects.thingsboard.profile import PayloadKind, ThingsBoardProfile, read_section
from gateway.wire.call import Call, Reply, Status

UNAUTHENTICATED = Reply(status=Status.UNAUTHENTICATED, reason="unknown token")
UNPROVEN = Reply(status=Status.UNAUTHENTICATED, reason="the certificate or key counts no more")
OTHER_TRANSPORT = Reply(status=Status.INTERNAL, reason="the profile is for another transport")

log = structlog.get_logger()

LIMITS_TOLD_AT_ONCE, LIMITS_TOLD_PER_S = 5, 0.1
"""Log lines about devices that reached a limit: a flood must not fill the log as well."""

_MOST_SECTIONS = 4096
_DAY_MS = 86_400_000


class Settings(Struct, frozen=True):
    """How a device's profile wants it treated: its own limits, the dialect's section, its codec.

    `transport` is the one its devices may use.
    """

    revision: int
    transport: ProfileTransport
    limits: Limits
    dialect: ThingsBoardProfile
    codec: Codec


class Callers:
    """Finds out who sent a call, and counts what it takes of its rates."""

    def __init__(
        self,
        access: Access,
        profiles: Profiles,
        limiter: RateLimiter,
        attendance: Attendance,
        clock: Clock,
    ) -> None:
        self._access = access
        self._profiles = profiles
        self._limiter = limiter
        self._attendance = attendance
        self._clock = clock
        self._telling = Allowance(LIMITS_TOLD_AT_ONCE, LIMITS_TOLD_PER_S)
        self._settings: dict[tuple[int, bool], Settings] = {}

    async def device(self, call: Call) -> Device | Reply:
        """The session's device, the token's, or that which the handshake of the wire proved.

        A reply when it is nobody we know, or a token is another's than what was proven.
        """
        if call.device is not None:
            self._attendance.heard(call.device.id)
            return call.device
        token, identity = call.params.get("token"), call.identity
        if identity is None or token:
            device = await self._access.by_token(Secret(token), call.peer) if token else None
            if device is None or (identity is not None and identity.device_id != device.id):
                return UNAUTHENTICATED
        else:
            device = await self._access.by_identity(identity)
            if device is None:
                return UNPROVEN
        return self._heard(call, device)

    def _heard(self, call: Call, device: Device) -> Device | Reply:
        if call.peer.wire.plain is Wire.COAP and device.transport is ProfileTransport.MQTT:
            return OTHER_TRANSPORT  # HTTP never checks this (contract, section 7.3)
        self._attendance.heard(device.id)
        return device

    async def renewing(self, call: Call) -> Device | Reply:
        """The same for a call that is for another certificate: the one shown may have ended."""
        identity = call.identity
        if identity is None or call.params.get("token") or not self.ended(identity):
            return await self.device(call)
        device = await self.graced(identity)
        return UNPROVEN if device is None else self._heard(call, device)

    def ended(self, identity: Identity) -> bool:
        """Whether the certificate that was shown is past its time."""
        return bool(identity.expires_at) and self._clock() > identity.expires_at

    async def graced(self, identity: Identity) -> Device | None:
        """The device of a certificate that ended, as long as its profile lets it be renewed."""
        device = await self._access.by_identity(structs.replace(identity, expires_at=0))
        if device is None:
            return None
        days = (await self._profiles.of(device)).certificate.grace_days
        return device if self._clock() <= identity.expires_at + days * _DAY_MS else None

    async def codec(self, call: Call, device: Device) -> Codec:
        """What a call is in: CBOR if it says so, else JSON over HTTP, else the profile's format."""
        if is_cbor(call):
            return CBOR
        return JSON if call.peer.wire.plain is Wire.HTTP else (await self.settings(device)).codec

    async def settings(self, device: Device) -> Settings:
        """The settings of the device's profile, read once for each revision."""
        return self._kept(device) or await self.fresh_settings(device)

    def _kept(self, device: Device) -> Settings | None:
        kept = self._settings.get((device.profile_id, device.gateway))
        return kept if kept is not None and kept.revision >= device.profile_revision else None

    async def fresh_settings(self, device: Device) -> Settings:
        """The same, as it is now."""
        profile = await self._profiles.of(device)
        section = read_section(profile.sections.get("thingsboard", {}))
        settings = Settings(
            profile.revision,
            profile.transport,
            self._limiter.own_limits(profile.limits, gateway=device.gateway),
            section,
            await _codec_of(section),
        )
        if len(self._settings) >= _MOST_SECTIONS:
            self._settings.clear()
        self._settings[device.profile_id, device.gateway] = settings
        return settings

    async def limited(
        self, device: Device, points: int | None = None, *, gateway: Device | None = None
    ) -> Reply | None:
        """Count one message, with so many data points if it has any; a reply when it is too much.

        `gateway` is the one that speaks for the device.
        """
        settings = self._kept(device) or await self.fresh_settings(device)
        limited = self._limiter.take(
            device, points, self._clock(), own=settings.limits, gateway=gateway
        )
        if limited is None:
            return None
        if self._telling.take(self._clock()):
            log.warning(
                "device.limited",
                device=device.name,
                limit=f"{limited.scope} {limited.what}",
                untold=self._telling.forget_missed(),
            )
        return Reply(
            status=Status.LIMITED,
            reason=f"the rate limit of the {limited.scope} ({limited.what}) is reached",
            retry_after_s=limited.retry_after_s,
        )


async def _codec_of(section: ThingsBoardProfile) -> Codec:
    """The codec of a profile. Schemas are compiled by a program of their own: not in the loop."""
    if section.payload is PayloadKind.JSON:
        return JSON
    # Loads the protobuf runtime, which few profiles need.
    from gateway.dialects.thingsboard.protobuf_codec import codec_for

    return await asyncio.to_thread(codec_for, section)
