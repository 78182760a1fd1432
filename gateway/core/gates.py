"""What a request passes on its way to a birth."""

from __future__ import annotations

from msgspec import Struct, field, structs

from gateway.core.admitting import Admitting
from gateway.core.awaiting import Awaiting
from gateway.core.guesses import Guesses
from gateway.core.hooking import BeforeHooks
from gateway.core.model import DeviceProfile, ProvisionRequest, RefusalReason, Refused
from gateway.core.pacing import Pacer
from gateway.core.reprovisioning import Reprovisioner


class Gates(Struct, frozen=True, kw_only=True):
    """The gates of a process. Each stands open by itself."""

    guesses: Guesses = field(default_factory=Guesses)
    pacer: Pacer = field(default_factory=Pacer)
    admitting: Admitting = field(default_factory=Admitting)
    awaiting: Awaiting = field(default_factory=Awaiting)
    before: BeforeHooks | None = None
    reprovisioner: Reprovisioner | None = None

    async def asked(
        self, profile: DeviceProfile, request: ProvisionRequest, now: int
    ) -> ProvisionRequest | Refused:
        """What the profile's before-hook, if it has one, makes of a request that may come."""
        if self.before is None or profile.policy.before is None:
            return request
        amended = await self.before.ask(profile, request)
        if isinstance(amended, Refused):
            return amended
        if await self.is_denied(profile, amended, amended.wanted_name, now):
            return Refused(RefusalReason.ON_DENY_LIST)
        return amended

    async def is_denied(
        self, profile: DeviceProfile, request: ProvisionRequest, name: str | None, now: int
    ) -> bool:
        """Whether a device is denied by a name that is not its own: a hook's, or ours."""
        if name is None or name == (request.device_name or "").strip():
            return False
        named = structs.replace(request, device_name=name)
        reason = await self.admitting.why_not(profile, named, now)
        return reason is RefusalReason.ON_DENY_LIST
