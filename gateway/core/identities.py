"""Whose certificate or pre-shared key is this? Also where factory certificates become devices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from gateway.core.anchors import Anchor, Anchors
from gateway.core.awaiting import BIRTH
from gateway.core.births import Births
from gateway.core.gates import Gates
from gateway.core.giving import gifts_for
from gateway.core.limits import Allowance
from gateway.core.model import (
    PLAIN_POLICY,
    PROVISIONED,
    AttributesChange,
    Binding,
    Certificate,
    Device,
    DeviceCredentialsType,
    DeviceProfile,
    Event,
    EventKind,
    Identity,
    Outcome,
    Peer,
    Presented,
    PresharedKey,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    RefusalReason,
    Refused,
    RequestedCredentials,
    RpcCall,
    Secret,
    Vouched,
    psk_id,
)
from gateway.core.names import is_device_name, printable
from gateway.core.networks import host_of
from gateway.core.pki.model import Unfit
from gateway.core.ports import Clock, KnownCredentials, NewDevice, Store
from gateway.core.profiles import Profiles
from gateway.core.refusing import Refuser
from gateway.core.sessions import Cause, Session, Sessions, Slot
from gateway.core.terms import NO_TERMS, Terms

if TYPE_CHECKING:
    from gateway.core.pki.chain import Leaf

log = structlog.get_logger()

MOST_CERTIFICATES = 10
"""In a chain; RFC 5280 has no bound, factories have two or three."""
_DAY_MS = 86_400_000
_NO_KEY = ProvisionKey(Secret(""), Secret(""))
_EVENTS_AT_ONCE = 100
_EVENTS_PER_S = 10
"""How many refusals of strangers are written down; a flood of them must not fill the disk."""


class Severing:
    """The outlet of a connection that can be told one thing: that it is over."""

    __slots__ = ("_cut",)

    def __init__(self, cut: Callable[[], None]) -> None:
        self._cut = cut

    def attributes_changed(self, change: AttributesChange) -> None: ...

    def call(self, request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        return False

    def profile_changed(self) -> None: ...

    def end(self, cause: Cause) -> None:
        self._cut()


class Identities:
    """Judges what secure wires were shown. Implements `wire.call.Vouch` (`vouch`) and `Keys`.

    `gates` say who may come with a factory's certificate for the first time.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        profiles: Profiles,
        clock: Clock,
        *,
        births: Births | None = None,
        gates: Gates | None = None,
    ) -> None:
        self._births = births or Births()
        self._gates = gates or Gates()
        self._refuser = Refuser(store, clock)
        self._store = store
        self._sessions = sessions
        self._profiles = profiles
        self._clock = clock
        self._anchors = Anchors(store, clock)
        self._strangers = Allowance(_EVENTS_AT_ONCE, _EVENTS_PER_S)

    def forget(self) -> None:
        """A profile changed, perhaps what it believes."""
        self._anchors.forget()

    # ── certificates ────────────────────────────────────────────────────────────────────────

    async def vouch(
        self, chain: tuple[bytes, ...], peer: Peer, cut: Callable[[], None]
    ) -> Vouched | Refused:
        """Whose chain is this? A device it admits for the first time exists before this returns.

        `cut` is called when the device's credentials count no more. Raises what the store raises.
        """
        identity = await self.by_chain(chain, peer)
        if isinstance(identity, Refused):
            return identity
        return await self.guard(identity, peer, cut)

    async def by_chain(self, chain: tuple[bytes, ...], peer: Peer) -> Identity | Refused:
        """The same for a connection that is watched over by its own session."""
        # Loads OpenSSL's bindings and RE2, here and below: only secure wires show certificates.
        from gateway.core.pki.chain import read_leaf

        leaf: Leaf | None = None
        try:
            if len(chain) > MOST_CERTIFICATES:
                raise Unfit(RefusalReason.OVERSIZED_CHAIN)
            leaf = read_leaf(chain[0])
            known = await self._known(leaf, peer)
            if known is not None:
                identity = await self._pinned(known.device, leaf)
                await self._used(known)
                return identity
            return await self._admit(chain, leaf, peer)
        except _Told as told:
            return Refused(told.reason)
        except Unfit as unfit:
            return await self._refuse(leaf, peer, unfit.reason)

    async def known_by_chain(self, chain: tuple[bytes, ...], peer: Peer) -> Identity | None:
        """The device that has this certificate already. Nobody is admitted by it, or refused."""
        from gateway.core.pki.chain import read_leaf

        try:
            leaf = read_leaf(chain[0])
            known = await self._known(leaf, peer)
            if known is None:
                return None
            identity = await self._pinned(known.device, leaf)
        except Unfit:
            return None
        await self._used(known)
        return identity

    async def _known(self, leaf: Leaf, peer: Peer) -> KnownCredentials | None:
        """The device that has this certificate; one given to it and not used before is its now,
        unless its time is over: it would take the older one's place and let nobody in."""
        known = await self._store.find_credentials(leaf.id)
        if known is None and leaf.not_before <= self._clock() <= leaf.not_after:
            known = await self._taken_up(leaf.id, peer)
        # A token may read like a certificate's id; it is none.
        return known if known is not None and isinstance(known.credentials, Certificate) else None

    async def _used(self, known: KnownCredentials) -> None:
        """They were proven: from here on nobody is given them any more."""
        if known.repeatable:
            await self._store.used(known.device)

    async def _taken_up(self, lookup_id: Secret, peer: Peer) -> KnownCredentials | None:
        """The same for credentials that were pending: of several connections that show them at once
        one takes them up, here or at another gateway, and all of them are the device."""
        pending = await self._store.find_pending(lookup_id)
        if pending is not None:
            device = pending.device
            event = Event(
                kind=EventKind.DEVICE_CREDENTIALS_USE,
                at=self._clock(),
                peer=peer,
                subject=device.name,
                device_id=device.id,
            )
            await self._store.take_up_pending(device.id, lookup_id, event)
        return await self._store.find_credentials(lookup_id)

    async def _pinned(self, device: Device, leaf: Leaf) -> Identity:
        """Known by its hash (ThingsBoard contract, section 7.2); only its time is to be looked at.

        One that ended is let in to be renewed, as long as its profile says.
        """
        now = self._clock()
        if now < leaf.not_before:
            raise Unfit(RefusalReason.NOT_YET_VALID)
        if now > leaf.not_after:
            profile = await self._profiles.of(device)
            if now > leaf.not_after + profile.certificate.grace_days * _DAY_MS:
                raise Unfit(RefusalReason.EXPIRED_LEAF)
        return Identity(leaf.id, device.id, leaf.not_after)

    async def _admit(self, chain: Sequence[bytes], leaf: Leaf, peer: Peer) -> Identity:
        """Nobody's yet: a profile may believe who signed it (contract, section 2.8)."""
        from gateway.core.pki.chain import device_name

        anchor = await self._anchors.believed(chain)
        name = device_name(anchor.rule, leaf)
        if isinstance(name, RefusalReason):
            raise Unfit(name)
        if not is_device_name(name):
            raise Unfit(RefusalReason.NAME_INVALID)
        profile = anchor.profile
        asked = RequestedCredentials(type=DeviceCredentialsType.X509_CERTIFICATE)
        request = ProvisionRequest(proof=_NO_KEY, peer=peer, device_name=name, credentials=asked)
        result = await self._entered(anchor, request, leaf)
        self._births.count(peer.wire, profile.provision_type, result)
        if isinstance(result, Refused):
            log.info(
                "device.refused",
                wire=peer.wire,
                peer=peer.address,
                device=name,
                reason=result.reason.value,
            )
            raise _Told(result.reason)
        assert isinstance(result, Provisioned)
        if result.credentials.id != leaf.id:
            raise Unfit(RefusalReason.UNKNOWN_CERTIFICATE)  # it has others, and keeps them
        log.info(
            "device.provisioned",
            wire=peer.wire,
            peer=peer.address,
            device=result.device.name,
            id=result.device.id,
        )
        return Identity(leaf.id, result.device.id, leaf.not_after)

    async def _entered(
        self, anchor: Anchor, request: ProvisionRequest, leaf: Leaf
    ) -> Provisioned | Refused:
        """The device has this certificate now. The event of a refusal is written."""
        profile, now = anchor.profile, self._clock()
        admitted = await self._admitted(profile, request, now)
        if isinstance(admitted, Refused):
            return await self._refuser.refuse(request, admitted)
        name = (admitted.wanted_name or "").strip()
        terms = await self._terms(anchor, admitted, name, leaf, now)
        if isinstance(terms, Refused):
            return await self._refuser.refuse(request, terms)
        return await self._store.enter_by_chain(
            NewDevice(
                organisation_id=profile.organisation_id,
                profile_id=profile.id,
                name=name,
                type=profile.name,
                credentials=Certificate(leaf.text),
                provision_state=PROVISIONED,
                peer=request.peer,
                at=now,
                terms=terms,
            ),
            create=anchor.rule.create,
        )

    async def _admitted(
        self, profile: DeviceProfile, request: ProvisionRequest, now: int
    ) -> ProvisionRequest | Refused:
        """The request, perhaps amended by a hook, if it may come as with a secret. A handshake has
        no place for a wait: the device comes again when it likes."""
        gates, name = self._gates, request.device_name or ""
        if gates.pacer.take_of(profile, None, host_of(request.peer), name, now):
            return Refused(RefusalReason.TOO_MANY_REQUESTS)
        reason = await gates.admitting.why_not(profile, request, now)
        if reason is not None:
            return Refused(reason)
        return await gates.asked(profile, request, now)

    async def _terms(
        self, anchor: Anchor, request: ProvisionRequest, name: str, leaf: Leaf, now: int
    ) -> Terms | Refused:
        """On what terms it comes in, or why it does not. A device that was entered before needs no
        room, and nobody's word."""
        profile = anchor.profile
        policy = profile.policy
        if policy is PLAIN_POLICY:
            return NO_TERMS
        approved: int | Refused | None = None
        if anchor.rule.create:
            bound = Binding(leaf.id, now)
            approved = await self._gates.awaiting.ask(
                profile, request, name, BIRTH, bound, now, claims=False
            )
        if isinstance(approved, Refused):
            return approved
        lasts_s, admission = policy.newborn.expires_after_s, policy.admission
        return Terms(
            max_devices=admission.max_devices,
            max_devices_in_organisation=admission.max_devices_in_organisation,
            approval_id=approved,
            gifts=gifts_for(profile, request, name),
            expires_at=None if lasts_s is None else now + lasts_s * 1000,
        )

    # ── pre-shared keys ─────────────────────────────────────────────────────────────────────

    async def key_of(self, identity: str) -> Presented | None:
        """The key of an identity a peer named; None for one that is not known."""
        lookup_id = Secret(psk_id(identity))
        known = await self._store.find_credentials(lookup_id)
        if known is None:
            known = await self._store.find_pending(lookup_id)
        if known is None:  # nobody's, or taken up between the two looks
            known = await self._store.find_credentials(lookup_id)
        if known is None or not isinstance(known.credentials, PresharedKey):
            return None
        key = bytes.fromhex(known.credentials.key.reveal())
        return Presented(key, Identity(lookup_id, known.device.id))

    async def guard(self, identity: Identity, peer: Peer, cut: Callable[[], None]) -> Vouched:
        """The handshake is done. From now on `cut` is called when the identity counts no more: when
        it is taken back, or its certificate ends. (One that has ended is watched by each call.)"""
        known = await self._store.find_credentials(identity.id)
        if known is None:
            known = await self._taken_up(identity.id, peer)
        proven = known is not None and isinstance(known.credentials, Certificate | PresharedKey)
        if known is None or not proven or known.device.id != identity.device_id:
            cut()  # revoked since the handshake began
            return Vouched(identity, lambda: None)
        await self._used(known)
        session = self._sessions.open(known.device, peer, Severing(cut), slot=Slot.SECURE)
        left_ms = identity.expires_at - self._clock()
        if left_ms <= 0:
            return Vouched(identity, lambda: self._sessions.close(session))
        ending = asyncio.get_running_loop().call_later(left_ms / 1000, self._end, session, cut)

        def release() -> None:
            ending.cancel()
            self._sessions.close(session)

        return Vouched(identity, release)

    def _end(self, session: Session, cut: Callable[[], None]) -> None:
        self._sessions.close(session)
        cut()

    # ── refusals ────────────────────────────────────────────────────────────────────────────

    async def _refuse(self, leaf: Leaf | None, peer: Peer, reason: RefusalReason) -> Refused:
        subject = printable(leaf.common_name or "") if leaf is not None else ""
        log.info(
            "login.refused",
            wire=peer.wire,
            peer=peer.address,
            certificate=subject,
            reason=reason.value,
        )
        now = self._clock()
        if self._strangers.take(now):
            await self._store.record(
                Event(
                    kind=EventKind.DEVICE_LOGIN,
                    at=now,
                    peer=peer,
                    subject=subject,
                    outcome=Outcome.REFUSED,
                    reason=reason.value,
                    detail=self._strangers.untold(),
                )
            )
        return Refused(reason)


class _Told(Unfit):
    """Unfit, and the event of it is written already."""
