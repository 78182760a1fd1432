"""Devices that were provisioned before, and ask for another credential with a proof.

A proof is what the device had before, a claim code or the word of an operator, or an approval. The
new credential counts from its first use on; then the older one is gone.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Final, Protocol

import structlog
from msgspec import Struct

from gateway.core.awaiting import REPROVISIONING, Awaiting
from gateway.core.certifying import Certifier
from gateway.core.choosing import choose_or_sign
from gateway.core.giving import gifts_for
from gateway.core.labelling import plain_code
from gateway.core.limits import Rate, parse_rate
from gateway.core.model import (
    AccessToken,
    DeviceCredentials,
    FleetTicket,
    MqttBasic,
    Peer,
    PresharedKey,
    Provisioned,
    ProvisionRequest,
    ProvisionResult,
    RefusalReason,
    Refused,
    Reprovisioning,
    Secret,
)
from gateway.core.pki.model import IssuedCertificate
from gateway.core.ports import Clock, KnownCredentials, NewToken
from gateway.core.terms import Gifts, Terms
from gateway.core.throttle import Throttle

log = structlog.get_logger()

_GUESSES: Final = Rate("5:900", ((5, 900_000),))
"""Wrong proofs for one device: then one more every three minutes."""
_MOST_GUESSED: Final = 10_000
"""Devices whose wrong proofs are remembered."""


class Showing(StrEnum):
    """How it was proven that a device may have another credential; as events name it."""

    OLD_CREDENTIAL = "old credential"
    CERTIFICATE = "certificate of its connection"
    CLAIM_CODE = "claim code"
    OPERATOR = "re-armed by an operator"
    APPROVAL = "approved by an operator"


class Reprovision(Struct, frozen=True, kw_only=True):
    """A device that is to get other credentials, by a proof that holds in the transaction.

    `issued` goes with a certificate, `code` with CLAIM_CODE, the terms' `approval_id` with
    APPROVAL. `rate`: how often it may be done. `reset`: what is stored of the device is forgotten,
    and it begins with the attributes in `gifts` again.
    """

    known: KnownCredentials
    credentials: DeviceCredentials
    issued: IssuedCertificate | None
    showing: Showing
    code: Secret
    terms: Terms
    rate: Rate | None
    policy: Reprovisioning
    gifts: Gifts | None
    peer: Peer
    at: int

    @property
    def reset(self) -> bool:
        return self.policy is Reprovisioning.RESET


class ReprovisioningStore(Protocol):
    """What is asked of the store. Raises `StoreUnavailable` or `Overloaded`."""

    async def provisioned_device(self, organisation_id: int, name: str) -> KnownCredentials | None:
        """The device of that name, unless it waits for its claim, is blocked or suspended."""

    async def pending_of(self, device_id: int) -> DeviceCredentials | None:
        """Credentials it was given and has not used yet."""

    async def is_armed(self, device_id: int, code: Secret | None, now: int) -> bool:
        """Whether an operator's word stands for it; with a code: whether it is the one made."""

    async def reprovision(self, order: Reprovision) -> ProvisionResult:
        """Decides: the credentials are pending, the proof is spent, the rate taken from.

        With a binding that stands `Provisioned` with what was given then. Refused with
        TOO_MANY_REPROVISIONINGS, CREDENTIALS_TAKEN, NO_PROOF_OF_OLD (it was spent, or the
        credentials changed, meanwhile), APPROVAL_PENDING; then nothing was done.
        """


class Reprovisioner:
    """Gives a device that exists another credential, as its profile's policy says."""

    def __init__(
        self,
        store: ReprovisioningStore,
        *,
        clock: Clock,
        new_token: NewToken,
        awaiting: Awaiting,
        certifier: Certifier | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_token = new_token
        self._awaiting = awaiting
        self._certifier = certifier
        self._guesses = Throttle(_GUESSES, most=_MOST_GUESSED)

    async def again(
        self, ticket: FleetTicket, request: ProvisionRequest, name: str, terms: Terms
    ) -> ProvisionResult | None:
        """How it ended; None: there is nothing here for it, and it is refused as ever.

        Of `terms` the ticket and the binding count.
        """
        profile = ticket.profile
        known = await self._store.provisioned_device(profile.organisation_id, name)
        if known is None:
            return None
        if known.device.profile_id != profile.id and not profile.birth.profile_by_type:
            return None
        proven = await self._proven(ticket, request, known, terms)
        if proven is None or isinstance(proven, Refused):
            return proven
        showing, approval_id = proven
        chosen, issued = await choose_or_sign(
            request.credentials,
            profile,
            name,
            new_token=self._new_token,
            certifier=self._certifier,
        )
        if isinstance(chosen, RefusalReason):
            return Refused(chosen)
        policy = profile.policy
        result = await self._store.reprovision(
            Reprovision(
                known=known,
                credentials=chosen,
                issued=issued,
                showing=showing,
                code=plain_code(request.claim_code),
                terms=Terms(
                    ticket_id=terms.ticket_id, binding=terms.binding, approval_id=approval_id
                ),
                rate=_rate(policy.reprovisioning_limit),
                policy=policy.reprovisioning,
                gifts=gifts_for(profile, request, name),
                peer=request.peer,
                at=self._clock(),
            )
        )
        if isinstance(result, Provisioned) and not request.trial:
            self._guesses.forget(str(known.device.id))
            self._log(request, result, showing)
        return result

    def _log(self, request: ProvisionRequest, result: Provisioned, showing: Showing) -> None:
        log.info(
            "device.reprovisioned",
            wire=request.peer.wire,
            peer=request.peer.address,
            request=request.peer.request,
            device=result.device.name,
            id=result.device.id,
            proof=showing.value,
        )

    # ── the proof ───────────────────────────────────────────────────────────────────────────

    async def _proven(
        self, ticket: FleetTicket, request: ProvisionRequest, known: KnownCredentials, terms: Terms
    ) -> tuple[Showing, int | None] | Refused | None:
        """What holds of all that is shown, with the number of an approval; None: nothing was."""
        policy, now = ticket.profile.policy.reprovisioning, self._clock()
        device, who = known.device, str(known.device.id)
        asks = policy is Reprovisioning.APPROVAL
        if not asks and _is_by_certificate(request, known, now):
            return Showing.CERTIFICATE, None
        wait_ms = self._guesses.wait(who, now)
        shown = bool(request.old_credential or request.claim_code)
        if shown and not wait_ms:
            if not asks and await self._had(known, request.old_credential):
                return Showing.OLD_CREDENTIAL, None
            code = plain_code(request.claim_code)
            if code and await self._store.is_armed(device.id, code, now):
                return Showing.CLAIM_CODE, None
            self._guesses.spend(who, now)
        if await self._store.is_armed(device.id, None, now):
            return Showing.OPERATOR, None
        if asks:
            yes = await self._awaiting.ask(
                ticket.profile, request, device.name, REPROVISIONING, terms.binding, now
            )
            return (Showing.APPROVAL, yes) if isinstance(yes, int) else yes
        if not shown:
            return None
        if wait_ms:
            wait_s = max(1, -(-wait_ms // 1000))
            return Refused(RefusalReason.TOO_MANY_REPROVISIONINGS, wait_s)
        return Refused(RefusalReason.NO_PROOF_OF_OLD)

    async def _had(self, known: KnownCredentials, shown: Secret) -> bool:
        """Whether it shows what it has, or what it was given last and did not use."""
        if not shown:
            return False
        if _secret_of(known.credentials) == shown:
            return True
        pending = await self._store.pending_of(known.device.id)
        return pending is not None and _secret_of(pending) == shown


def _is_by_certificate(request: ProvisionRequest, known: KnownCredentials, now: int) -> bool:
    """Whether the connection was made with the credentials that the device has."""
    identity = request.identity
    if identity is None or identity.device_id != known.device.id:
        return False
    lasts = not identity.expires_at or now <= identity.expires_at
    return lasts and identity.id == known.credentials.id


def _secret_of(credentials: DeviceCredentials) -> Secret | None:
    """What of them nobody else knows; None for what is no secret."""
    match credentials:
        case AccessToken(token):
            return token
        case MqttBasic() if credentials.password:
            return credentials.password
        case PresharedKey(_, key):
            return key
        case _:
            return None


@lru_cache(maxsize=256)
def _rate(text: str) -> Rate | None:
    return parse_rate(text)
