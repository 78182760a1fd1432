"""Claims: a device offers itself, a customer who knows its key takes it."""

from __future__ import annotations

from hmac import compare_digest

import msgspec
from msgspec import Struct

from gateway.core.errors import CredentialsGone
from gateway.core.model import (
    ROOT_ORGANISATION,
    AttributeScope,
    ClaimResult,
    Device,
    Event,
    Json,
    Outcome,
    RefusalReason,
    Secret,
    Value,
)
from gateway.store.driver import Transaction
from gateway.store.events import tell
from gateway.store.organisations import ensure_customer
from gateway.store.readings import good_logins
from gateway.store.records import profile_from_settings
from gateway.store.values import from_columns
from gateway.store.vault import Vault
from gateway.store.writer import SingleDecision

_SERVER = AttributeScope.SERVER.value
_ALLOWED = "claimingAllowed"
_PRESET = "claimingData"
"""The server attributes that rule claiming (ThingsBoard contract, section 18)."""


def claim_digest(vault: Vault, device_id: int, key: Secret) -> bytes:
    """What is kept of a claim key: of two devices with one key it differs."""
    return vault.digest(f"claim {device_id} {key.reveal()}")


async def _tell(
    tx: Transaction, event: Event, device_id: int, reason: RefusalReason | None
) -> None:
    """Write the event, as refused when there is a reason."""
    told = msgspec.structs.replace(event, device_id=device_id)
    if reason is not None:
        told = msgspec.structs.replace(told, outcome=Outcome.REFUSED, reason=reason.value)
    tell(tx, [told])


async def _server_attribute(tx: Transaction, device_id: int, key: str) -> Value | None:
    found = await tx.fetch("attribute", device_id, _SERVER, key)
    return from_columns(*found[0]) if found else None


class OfferClaim(SingleDecision[bool]):
    """Stores a claim unless one stands. The insert decides."""

    __slots__ = ("device", "digest", "event", "expires_at")

    def __init__(self, device: Device, digest: bytes, event: Event, expires_at: int) -> None:
        self.device = device
        self.digest = digest
        self.event = event
        self.expires_at = expires_at

    async def decide(self, tx: Transaction) -> bool:
        device = self.device
        if (device.id, device.credentials_row) not in await good_logins(tx, (device.id,)):
            raise CredentialsGone
        reason = await self._obstacle(tx)
        if reason is None and not await tx.fetch(
            "offer_claim", device.id, self.digest, self.expires_at, self.event.at
        ):
            reason = RefusalReason.CLAIM_STANDS
        await _tell(tx, self.event, device.id, reason)
        return reason is None

    async def _obstacle(self, tx: Transaction) -> RefusalReason | None:
        customer_id, settings = (await tx.fetch("claiming", self.device.id))[0]
        if customer_id is not None:
            return RefusalReason.CUSTOMER_HAS_IT
        if profile_from_settings(settings).claiming_allowed:
            return None
        if await _server_attribute(tx, self.device.id, _ALLOWED) is True:
            return None
        return RefusalReason.CLAIMING_DISABLED


class _Preset(Struct, rename="camel"):
    """A claim that a person left in a server attribute, with ThingsBoard's names."""

    expiration_time: int
    secret_key: str = ""


class ClaimFor(SingleDecision[ClaimResult]):
    """Gives a device to a customer, once. A wrong key is answered, and costs the stored claim."""

    __slots__ = ("customer", "device_id", "event", "key", "vault")

    def __init__(
        self, device_id: int, customer: str, key: Secret | None, event: Event, vault: Vault
    ) -> None:
        self.device_id = device_id
        self.customer = customer
        self.key = key
        self.event = event
        self.vault = vault

    async def decide(self, tx: Transaction) -> ClaimResult:
        reason = await self._obstacle(tx)
        if reason is None:
            reason = await self._give(tx)
        await _tell(tx, self.event, self.device_id, reason)
        if reason is None:
            return ClaimResult.SUCCESS
        if reason is RefusalReason.CUSTOMER_HAS_IT:
            return ClaimResult.CLAIMED
        return ClaimResult.FAILURE

    async def _obstacle(self, tx: Transaction) -> RefusalReason | None:
        found = await tx.fetch("claiming", self.device_id)
        if not found:
            return RefusalReason.NO_SUCH_DEVICE
        if found[0][0] is not None:
            return RefusalReason.CUSTOMER_HAS_IT
        if self.key is None:
            return None
        return await self._judge(tx, self.key)

    async def _judge(self, tx: Transaction, key: Secret) -> RefusalReason | None:
        """What is wrong with the key, if anything. The stored claim goes with a wrong one."""
        stored = await tx.fetch("stored_claim", self.device_id)
        if not stored:
            return await self._judge_preset(tx, key)
        digest, expires_at = stored[0]
        reason = None
        if expires_at <= self.event.at:
            reason = RefusalReason.CLAIM_EXPIRED
        elif not compare_digest(bytes(digest), claim_digest(self.vault, self.device_id, key)):
            reason = RefusalReason.WRONG_CLAIM_KEY
        if reason is not None:
            await tx.fetch("delete_claim", self.device_id)
        return reason

    async def _judge_preset(self, tx: Transaction, key: Secret) -> RefusalReason | None:
        preset = _preset(await _server_attribute(tx, self.device_id, _PRESET))
        if preset is None:
            return RefusalReason.NO_CLAIM
        if preset.expiration_time <= self.event.at:
            return RefusalReason.CLAIM_EXPIRED
        return None if Secret(preset.secret_key) == key else RefusalReason.WRONG_CLAIM_KEY

    async def _give(self, tx: Transaction) -> RefusalReason | None:
        customer_id = await self._customer(tx)
        if not await tx.fetch("give_to_customer", self.device_id, customer_id, self._person()):
            return RefusalReason.CUSTOMER_HAS_IT
        await tx.fetch("delete_claim", self.device_id)
        await tx.fetch("delete_attribute", self.device_id, _SERVER, _PRESET)
        return None

    def _person(self) -> int | None:
        """Whose own it becomes: nobody's, when a shell gives it to a customer."""
        return None

    async def _customer(self, tx: Transaction) -> int:
        """The number of the customer of this name, directly below the root; made if it is new."""
        event = self.event
        return await ensure_customer(tx, ROOT_ORGANISATION, self.customer, event.at, event.peer)


def _preset(value: Value | None) -> _Preset | None:
    """The claim in an attribute; None where it holds something else."""
    text = value.text if isinstance(value, Json) else value
    if not isinstance(text, str):
        return None
    try:
        return msgspec.json.decode(text, type=_Preset)
    except msgspec.DecodeError:
        return None


class Unclaim(SingleDecision[bool]):
    """Takes a device back from its customer. False when it has none."""

    __slots__ = ("device_id", "event")

    def __init__(self, device_id: int, event: Event) -> None:
        self.device_id = device_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("take_from_customer", self.device_id):
            return False
        await _tell(tx, self.event, self.device_id, None)
        return True
