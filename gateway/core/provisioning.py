"""The only place where devices are born."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import msgspec
import structlog

from gateway.core.awaiting import BIRTH, backoff_s
from gateway.core.binding import binding_of
from gateway.core.births import Births
from gateway.core.certifying import Certifier, certificate_of
from gateway.core.choosing import choose_credentials, choose_or_sign
from gateway.core.door import Door
from gateway.core.gates import Gates
from gateway.core.giving import gifts_for
from gateway.core.model import (
    PLAIN_POLICY,
    PROVISIONED,
    AnswerMembers,
    Binding,
    BirthRule,
    Certificate,
    DeviceCredentials,
    DeviceCredentialsType,
    DeviceProfile,
    FleetTicket,
    Policy,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    ProvisionResult,
    ProvisionToken,
    ProvisionType,
    RefusalReason,
    Refused,
    Rehearsal,
    Reprovisioning,
    RequestedCredentials,
    Secret,
    TicketKind,
)
from gateway.core.names import is_device_name, printable
from gateway.core.pki.model import IssuedCertificate
from gateway.core.ports import Clock, NewDevice, NewToken, Store, Templates, Terms
from gateway.core.refusals import REFUSALS
from gateway.core.refusing import Refuser, provision_event
from gateway.core.rehearsing import Notes, quiet, turned_away
from gateway.core.token_claims import TokenClaims

log = structlog.get_logger()

_PLAIN_BIRTH = BirthRule()
_NO_MEMBERS = AnswerMembers()


class Provisioner:
    """Turns a `ProvisionRequest` into credentials, or says why not.

    `readable(text)` tells whether a certificate text can be parsed; only profiles with
    `require_readable_certificate`, and the warning in the event, depend on it. Without a
    `certifier` signing requests are refused, without `templates` all tokens are. `births` is told
    how each request ended. `replaced` is called when a device's older token is gone, `reopened`
    with the id of credentials it may have used before, whose next use is the first again. `gates`
    say who may come.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        new_token: NewToken,
        readable: Callable[[str], bool],
        certifier: Certifier | None = None,
        births: Births | None = None,
        templates: Templates | None = None,
        replaced: Callable[[], None] = lambda: None,
        reopened: Callable[[Secret], None] = lambda _: None,
        gates: Gates | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_token = new_token
        self._readable = readable
        self._certifier = certifier
        self._births = births or Births()
        self._reopened = reopened
        self._gates = gates = gates or Gates()
        self._refuser = Refuser(store, clock)
        self.door = Door(store, clock, guesses=gates.guesses, pacer=gates.pacer)
        self._tokens = TokenClaims(
            store,
            clock=clock,
            new_token=new_token,
            refuser=self._refuser,
            templates=templates,
            replaced=replaced,
        )

    async def provision(self, request: ProvisionRequest) -> ProvisionResult:
        """Decide. A `Provisioned` is on disk, with its event, before this returns.

        Raises `StoreUnavailable` or `Overloaded`; then nothing happened.
        """
        if request.trial:
            raise ValueError("what is asked on trial is rehearsed")
        strategy, result = await self._decide(request)
        if isinstance(result, Refused):
            self._births.count(request.peer.wire, strategy, result)
            _log_refused(request, result)
        elif not result.again:
            self._births.count(request.peer.wire, strategy, result)
            _log_device("device.provisioned", request, result)
        return result

    async def prove(self, request: ProvisionRequest, proof: ProvisionKey) -> FleetTicket | Refused:
        """The fleet secret that is shown, for who has to know it before anything is asked for.

        A refusal is counted and written down, as by `provision`.
        """
        ticket = await self.door.prove(request, proof)
        if isinstance(ticket, Refused):
            await self._refuser.refuse(request, ticket)
            self._births.count(request.peer.wire, None, ticket)
            _log_refused(request, ticket)
        return ticket

    async def rehearse(self, request: ProvisionRequest) -> Rehearsal:
        """What would become of a request with a fleet's secret. Nothing is changed by it.

        But a wrong secret is one more wrong secret, and written down. Raises as `provision` does.
        """
        proof, now = request.proof, self._clock()
        if isinstance(proof, ProvisionToken):
            raise ValueError("only a fleet's secret is rehearsed")
        name = request.device_name
        if name is not None and not name.strip():
            return Rehearsal(refusal=Refused(RefusalReason.NAME_BLANK))
        request = msgspec.structs.replace(request, trial=True)
        ticket = await self.door.admit(request, proof)
        if isinstance(ticket, Refused):
            if not REFUSALS[ticket.reason].proven:
                await self._refuser.refuse(request, ticket)
            return turned_away(ticket)
        notes = Notes(ticket)
        twin = Provisioner(
            self._store,
            clock=lambda: now,
            new_token=self._new_token,
            readable=self._readable,
            certifier=self._certifier,
            gates=quiet(self._gates, notes),
        )
        with self._store.on_trial():
            result = await twin._admitted(ticket, request)
        there = None
        result = _told_in_full(result, ticket.profile.policy, request)
        if isinstance(result, Provisioned):
            there = await self._store.known_device(result.device.id)
        return notes.rehearsal(request, result, there.device if there else None)

    async def _decide(
        self, request: ProvisionRequest
    ) -> tuple[ProvisionType | TicketKind | None, ProvisionResult]:
        """How it ends, and by which strategy; None when it never came to one."""
        if isinstance(request.proof, ProvisionToken):
            return await self._tokens.provision(request, request.proof)
        # The order of these checks is the contract's (section 2.3).
        name = request.device_name
        if name is not None and not name.strip():
            return None, await self._refuse(request, RefusalReason.NAME_BLANK)
        ticket = await self.door.admit(request, request.proof)
        if isinstance(ticket, Refused):
            return None, await self._refuser.refuse(request, ticket)
        result = await self._admitted(ticket, request)
        if ticket.profile.policy is not PLAIN_POLICY:
            result = _told_in_full(result, ticket.profile.policy, request)
        return ticket.profile.provision_type, result

    async def _admitted(self, ticket: FleetTicket, request: ProvisionRequest) -> ProvisionResult:
        """Whoever is here has shown a right secret."""
        profile, now = ticket.profile, self._clock()
        binding = binding_of(ticket, request, now)
        refused = await self._gates.admitting.why_not(profile, request, now)
        if refused is RefusalReason.ON_DENY_LIST:
            return await self._refuse(request, refused)  # nor is it given anything again
        if binding is not None and (refused is not None or self._dear(profile.policy, request)):
            again = await self._repeated(ticket, request, binding, now)
            if again is not None:
                return again
        if refused is not None:
            wait_s = self._gates.admitting.wait_s(profile, refused, request.device_name, now)
            return await self._refuser.refuse(request, Refused(refused, wait_s))
        if profile.policy.before is not None:
            amended = await self._gates.asked(profile, request, now)
            if isinstance(amended, Refused):
                return await self._refuser.refuse(request, amended)
            request = amended
        match profile.provision_type:
            case ProvisionType.ALLOW_CREATE_NEW_DEVICES:
                return await self._create(ticket, request, binding, now)
            case ProvisionType.CHECK_PRE_PROVISIONED_DEVICES:
                return await self._claim(ticket, request, binding, now)
            case ProvisionType.DISABLED:
                return await self._refuse(request, RefusalReason.PROVISIONING_DISABLED)
            case ProvisionType.X509_CERTIFICATE_CHAIN:
                return await self._refuse(request, RefusalReason.CERTIFICATE_CHAIN_ONLY)
            case unreachable:
                assert_never(unreachable)

    @staticmethod
    def _dear(policy: Policy, request: ProvisionRequest) -> bool:
        """Whether a repeated request is to be known before anything is done for it.

        Else the transaction of the birth finds out, at no cost to those that come once.
        """
        if request.credentials.csr:
            return True
        return policy is not PLAIN_POLICY and (
            policy.before is not None
            or policy.admission.approval
            or policy.reprovisioning is not Reprovisioning.NEVER
        )

    async def _repeated(
        self, ticket: FleetTicket, request: ProvisionRequest, binding: Binding, now: int
    ) -> ProvisionResult | None:
        """What was given to who made the same request before."""
        known = await self._store.find_repeat(binding, now)
        if known is None:
            return None
        return await self._given_again(
            ticket, request, Provisioned(known.device, known.credentials, again=True)
        )

    async def _given_again(
        self, ticket: FleetTicket, request: ProvisionRequest, result: Provisioned
    ) -> ProvisionResult:
        """A certificate that was signed here is given with those who signed it, as it was then.

        A device that got its name from us, or a hook, may have been denied by it in the meantime.
        """
        name, now = result.device.name, self._clock()
        if await self._gates.is_denied(ticket.profile, request, name, now):
            return await self._refuse(request, RefusalReason.ON_DENY_LIST)
        if not request.trial:
            _log_device("device.repeated", request, result)
        if self._certifier is None or not isinstance(result.credentials, Certificate):
            return result
        issuers = await self._certifier.issuers_of(result.credentials)
        return msgspec.structs.replace(result, issuers=issuers)

    async def _terms(
        self,
        ticket: FleetTicket,
        request: ProvisionRequest,
        name: str,
        binding: Binding | None,
        now: int,
    ) -> Terms | ProvisionResult:
        """On what terms the device comes in; or how it ends before it does."""
        policy = ticket.profile.policy
        if policy is PLAIN_POLICY and ticket.max_uses is None and request.hardware is None:
            return Terms(ticket_id=ticket.id, binding=binding)
        again = await self._again(ticket, request, name, binding)
        if again is not None:
            return again
        approved = await self._gates.awaiting.ask(
            ticket.profile, request, name, BIRTH, binding, now
        )
        if isinstance(approved, Refused):
            return await self._refuser.refuse(request, approved)
        lasts_s, admission = policy.newborn.expires_after_s, policy.admission
        return Terms(
            ticket_id=ticket.id,
            binding=binding,
            counted=ticket.max_uses is not None,
            max_devices=admission.max_devices,
            max_devices_in_organisation=admission.max_devices_in_organisation,
            approval_id=approved,
            gifts=gifts_for(ticket.profile, request, name),
            expires_at=None if lasts_s is None else now + lasts_s * 1000,
        )

    async def _create(
        self, ticket: FleetTicket, request: ProvisionRequest, binding: Binding | None, now: int
    ) -> ProvisionResult:
        profile = ticket.profile
        name = (request.wanted_name or self._new_token()).strip()
        if not is_device_name(name):
            return await self._refuse(request, RefusalReason.NAME_INVALID)
        kind, birth = (request.device_type or "").strip(), profile.birth
        if not birth.profile_by_type:
            kind = kind or profile.name
        if kind and not is_device_name(kind):
            return await self._refuse(request, RefusalReason.TYPE_INVALID)
        terms = await self._terms(ticket, request, name, binding, now)
        if not isinstance(terms, Terms):
            return terms
        credentials, issued = await self._credentials(profile, name, request.credentials)
        warning = ""
        if isinstance(credentials, Certificate) and not (
            issued or self._readable(credentials.text)
        ):
            if profile.require_readable_certificate:
                credentials = RefusalReason.CERTIFICATE_UNREADABLE
            warning = "the certificate cannot be read"
        if isinstance(credentials, RefusalReason):
            return await self._refuse(request, credentials)
        result = await self._store.create_device(
            NewDevice(
                organisation_id=profile.organisation_id,
                profile_id=profile.id,
                name=name,
                type=kind,
                credentials=credentials,
                provision_state=PROVISIONED,
                gateway=request.gateway,
                claim_existing=profile.pre_provision_allowed,
                peer=request.peer,
                at=now,
                warning=warning,
                issued=issued,
                birth=None if birth == _PLAIN_BIRTH else birth,
                terms=terms,
            )
        )
        if binding is not None and profile.pre_provision_allowed:
            self._reopen(result)
        return await self._concluded(ticket, request, result, issued)

    async def _concluded(
        self,
        ticket: FleetTicket,
        request: ProvisionRequest,
        result: ProvisionResult,
        issued: IssuedCertificate | None,
    ) -> ProvisionResult:
        """What the store decided, with what goes with it."""
        if isinstance(result, Provisioned) and result.again:
            return await self._given_again(ticket, request, result)
        return _with_issuers(result, issued)

    async def _again(
        self, ticket: FleetTicket, request: ProvisionRequest, name: str, binding: Binding | None
    ) -> ProvisionResult | None:
        """A device that was provisioned before, as far as its profile lets it ask again."""
        reprovisioner = self._gates.reprovisioner
        if reprovisioner is None or ticket.profile.policy.reprovisioning is Reprovisioning.NEVER:
            return None
        terms = Terms(ticket_id=ticket.id, binding=binding)
        result = await reprovisioner.again(ticket, request, name, terms)
        if isinstance(result, Refused):
            return await self._refuser.refuse(request, result)
        if binding is not None and result is not None:
            self._reopen(result)
        return result

    def _reopen(self, result: ProvisionResult) -> None:
        """What a device has already was given with an answer that may be repeated."""
        if isinstance(result, Provisioned):
            self._reopened(result.credentials.id)

    async def _credentials(
        self, profile: DeviceProfile, name: str, asked: RequestedCredentials
    ) -> tuple[DeviceCredentials | RefusalReason, IssuedCertificate | None]:
        if not asked.csr:
            return choose_credentials(asked, self._new_token), None  # most
        return await choose_or_sign(
            asked, profile, name, new_token=self._new_token, certifier=self._certifier
        )

    async def _claim(
        self, ticket: FleetTicket, request: ProvisionRequest, binding: Binding | None, now: int
    ) -> ProvisionResult:
        wanted = request.wanted_name
        if wanted is None:
            return await self._refuse(request, RefusalReason.NAME_MISSING)
        name = wanted.strip()
        if not is_device_name(name):
            return await self._refuse(request, RefusalReason.NAME_INVALID)
        terms = await self._terms(ticket, request, name, binding, now)
        if not isinstance(terms, Terms):
            return terms
        asked = request.credentials
        fresh: DeviceCredentials | None = None
        issued: IssuedCertificate | None = None
        if asked.csr or asked.type is DeviceCredentialsType.DTLS_PSK:
            # Ours to give: everything else a waiting device asks for is ignored (contract, 2.6).
            chosen, issued = await self._credentials(ticket.profile, name, asked)
            if isinstance(chosen, RefusalReason):
                return await self._refuse(request, chosen)
            fresh = chosen
        result = await self._store.claim_device(
            ticket.profile,
            name,
            provision_event(request, now, name),
            fresh=fresh,
            issued=issued,
            terms=terms,
        )
        if binding is not None:
            self._reopen(result)
        return await self._concluded(ticket, request, result, issued)

    async def _refuse(self, request: ProvisionRequest, reason: RefusalReason) -> Refused:
        return await self._refuser.refuse(request, Refused(reason))


def _told_in_full(
    result: ProvisionResult, policy: Policy, request: ProvisionRequest
) -> ProvisionResult:
    """What who has shown a right secret is told besides: also when to come again, where the store
    found out that an operator's yes is gone."""
    if isinstance(result, Provisioned):
        if policy.answer == _NO_MEMBERS:
            return result
        return msgspec.structs.replace(result, members=policy.answer)
    wait_s = result.retry_after_s
    if result.reason is RefusalReason.APPROVAL_PENDING and not wait_s:
        name = (request.device_name or "").strip()
        wait_s = backoff_s(name, 1, policy.admission.approval_backoff_s)
    return msgspec.structs.replace(result, retry_after_s=wait_s, detailed=policy.detailed_refusals)


def _log_refused(request: ProvisionRequest, refused: Refused) -> None:
    log.info(
        "device.refused",
        wire=request.peer.wire,
        peer=request.peer.address,
        request=request.peer.request,
        device=printable(request.device_name or ""),
        reason=refused.reason.value,
    )


def _log_device(what: str, request: ProvisionRequest, result: Provisioned) -> None:
    log.info(
        what,
        wire=request.peer.wire,
        peer=request.peer.address,
        request=request.peer.request,
        device=result.device.name,
        id=result.device.id,
    )


def _with_issuers(result: ProvisionResult, issued: IssuedCertificate | None) -> ProvisionResult:
    """What was signed for the device is given with those who signed it."""
    if (
        issued is None
        or isinstance(result, Refused)
        or result.credentials != certificate_of(issued)
    ):
        return result
    return Provisioned(result.device, result.credentials, issued.issuers)
