"""Claim codes that are printed on labels: whoever reads one may take the device for a customer.

A code is stored as a claim of the device, as if it had offered it itself; it is no credential, and
nobody can log in with it. Only its digest is kept, so a label that is lost is made anew.
"""

from __future__ import annotations

from typing import Final

from gateway.core.claiming import MOST_DURATION_MS
from gateway.core.model import Device, Event, EventKind, Peer, RefusalReason, Secret
from gateway.core.ports import Clock
from gateway.core.registrar import Registrar
from gateway.core.tokens import random_bytes

ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Letters and digits that are not taken for one another: no 0 and O, no 1, I and L, no U."""
_USABLE = 256 - 256 % len(ALPHABET)
_GROUPS, _IN_A_GROUP = 3, 4


def new_claim_code() -> Secret:
    """`7KPM-Q3XD-9RTW`: 58 bits, and short enough to be typed."""
    letters = ""
    while len(letters) < _GROUPS * _IN_A_GROUP:
        letters += "".join(
            ALPHABET[byte % len(ALPHABET)] for byte in random_bytes(16) if byte < _USABLE
        )
    groups = (letters[at * _IN_A_GROUP :][:_IN_A_GROUP] for at in range(_GROUPS))
    return Secret("-".join(groups))


def plain_code(code: Secret) -> Secret:
    """A claim code without its hyphens, however it was typed; "" for what cannot be one."""
    text = code.reveal().upper().replace("-", "").replace(" ", "")
    return Secret(text if text.isascii() and all(one in ALPHABET for one in text) else "")


class Labelling:
    """Stores codes as claims, as `peer` (the events' author)."""

    def __init__(self, registrar: Registrar, *, clock: Clock, peer: Peer) -> None:
        self._registrar = registrar
        self._clock = clock
        self._peer = peer

    async def offer(
        self, device: Device, code: Secret, lasts_ms: int, *, replace: bool = False
    ) -> RefusalReason | None:
        """Let a customer take the device with this code, for so long. None: it is stored.

        CLAIM_STANDS when the device can be claimed with another key or code already, unless that
        is to be replaced; CUSTOMER_HAS_IT, CLAIMING_DISABLED, NO_SUCH_DEVICE.
        """
        now = self._clock()
        event = Event(
            kind=EventKind.DEVICE_CLAIM_OFFER,
            at=now,
            peer=self._peer,
            subject=device.name,
            device_id=device.id,
            detail={"label": "replaced" if replace else "made"},
        )
        expires_at = now + min(lasts_ms, MOST_DURATION_MS)
        return await self._registrar.offer_claim_for(
            device.id, code, event, expires_at, replace=replace
        )
