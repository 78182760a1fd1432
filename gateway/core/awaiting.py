"""Devices that wait for an operator's word.

A request that is bound to its asker (`Binding`) keeps its place in the queue: a yes to it is a yes
to that asker. Another with the same name is told to wait, and takes the place over only after the
first was silent for `SILENT_MS` and nobody decided. A request that is bound to nothing shares its
place, and the yes to it, with whoever shows the same fleet secret and the same name.
"""

from __future__ import annotations

from typing import Final, Protocol
from zlib import crc32

from msgspec import Struct

from gateway.core.model import (
    ApprovalKind,
    Binding,
    DeviceProfile,
    Json,
    Peer,
    ProvisionRequest,
    RefusalReason,
    Refused,
    Reprovisioning,
)

BIRTH: Final = ApprovalKind.BIRTH
REPROVISIONING: Final = ApprovalKind.REPROVISIONING

NO_APPROVAL: Final = 0
"""The number of no approval at all. Terms that name it do not hold."""
MOST_WAITING: Final = 10_000
"""Devices of one profile that wait. Those beyond are sent away until some were decided."""
SILENT_MS: Final = 3_600_000
"""After so long without a word of who waits, another may have the place."""
_FULL_WAIT_S: Final = 600
_MOST_TIMES: Final = 10
"""The backoff doubles with each try, up to so many times the first."""


class Asking(Struct, frozen=True, kw_only=True):
    """A device that asks, about to be looked for in the queue."""

    profile: DeviceProfile
    name: str
    kind: ApprovalKind
    binding: Binding | None
    hardware: Json | None
    peer: Peer
    at: int
    claims: bool = True
    """Whether a device that was entered before waits, too."""


class Standing(Struct, frozen=True):
    """Where it stands: `number` is that of a yes, else `reason` why there is none after `tries`.

    The number is `NO_APPROVAL` for one that nobody needs to be asked about, since it is not new.
    """

    number: int = NO_APPROVAL
    reason: RefusalReason | None = None
    tries: int = 1


class ApprovalStore(Protocol):
    """What is asked of the store."""

    async def await_approval(self, asking: Asking) -> Standing:
        """Decides: the number of a yes that stands for this request.

        Else APPROVAL_PENDING, and it is in the queue now (once, however often it asks), or
        APPROVAL_DENIED; TOO_MANY_REQUESTS when the queue is full. A birth is not asked about for a
        name that would be refused anyway: of a device that was provisioned before, or of none
        where devices are entered first.
        """


class Awaiting:
    """Asks whether an operator said yes."""

    def __init__(self, store: ApprovalStore | None = None) -> None:
        self._store = store

    async def ask(
        self,
        profile: DeviceProfile,
        request: ProvisionRequest,
        name: str,
        kind: ApprovalKind,
        binding: Binding | None,
        now: int,
        *,
        claims: bool = True,
    ) -> int | Refused | None:
        """The number of the operator's yes; None: none is needed; else what the device is told.

        `claims`: a device that was entered before waits, too.

        `NO_APPROVAL` for a name that is refused for another reason; should that reason vanish in
        the meantime, the device comes again.
        """
        if self._store is None or not _wanted(profile, kind):
            return None
        if not _names_itself(request):
            return Refused(RefusalReason.NAME_MISSING)  # each try would be another newcomer
        standing = await self._store.await_approval(
            Asking(
                profile=profile,
                name=name,
                kind=kind,
                binding=binding,
                hardware=request.hardware,
                peer=request.peer,
                at=now,
                claims=claims,
            )
        )
        if standing.reason is None:
            return standing.number
        return Refused(standing.reason, _wait_s(profile, name, standing))


def _wanted(profile: DeviceProfile, kind: ApprovalKind) -> bool:
    if kind is ApprovalKind.BIRTH:
        return profile.policy.admission.approval
    return profile.policy.reprovisioning is Reprovisioning.APPROVAL


def _names_itself(request: ProvisionRequest) -> bool:
    amended = request.amended
    return bool(request.device_name or (amended is not None and amended.name))


def _wait_s(profile: DeviceProfile, name: str, standing: Standing) -> int:
    """When to come again; not at all after a no."""
    if standing.reason is RefusalReason.APPROVAL_DENIED:
        return 0
    if standing.reason is RefusalReason.TOO_MANY_REQUESTS:
        return _jittered(name, _FULL_WAIT_S)
    return backoff_s(name, standing.tries, profile.policy.admission.approval_backoff_s)


def backoff_s(name: str, tries: int, first_s: int) -> int:
    """How long a device of that name waits after so many tries: doubled each time, to ten times."""
    times = min(_MOST_TIMES, 1 << min(tries - 1, 8))
    return _jittered(name, first_s * times)


def _jittered(name: str, wait_s: int) -> int:
    """Up to a quarter longer, by the device's name: those that began together come apart."""
    return wait_s + wait_s * (crc32(name.encode()) % 1000) // 4000
