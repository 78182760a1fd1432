"""The only place where devices are born, or claimed, once a right secret was shown."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import assert_never

import msgspec
import structlog

from gateway.core.awaiting import BIRTH
from gateway.core.binding import binding_of
from gateway.core.certifying import Certifier, certificate_of
from gateway.core.choosing import choose_credentials, choose_or_sign
from gateway.core.gates import Gates
from gateway.core.giving import gifts_for
from gateway.core.model import (
    PLAIN_POLICY,
    PROVISIONED,
    Binding,
    BirthRule,
    Certificate,
    DeviceCredentials,
    DeviceCredentialsType,
    DeviceProfile,
    FleetTicket,
    Policy,
    Provisioned,
    ProvisionRequest,
    ProvisionResult,
    ProvisionType,
    RefusalReason,
    Refused,
    Reprovisioning,
    RequestedCredentials,
    Secret,
)
from gateway.core.names import is_device_name
from gateway.core.pki.model import IssuedCertificate
from gateway.core.ports import Clock, NewDevice, NewToken, Store
from gateway.core.refusing import Refuser, provision_event
from gateway.core.terms import Terms

log = structlog.get_logger()

_PLAIN_BIRTH = BirthRule()
_NAME_DIGITS = 24


class Strategies:
    """Lets a request in past the gates, and does what its profile's strategy says.

    The parameters are those of `Provisioner`; refusals are written down by `refuser`.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        new_token: NewToken,
        readable: Callable[[str], bool],
        certifier: Certifier | None,
        refuser: Refuser,
        gates: Gates,
        reopened: Callable[[Secret], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_token = new_token
        self._readable = readable
        self._certifier = certifier
        self._refuser = refuser
        self._gates = gates
        self._reopened = reopened

    def behind(self, gates: Gates, clock: Clock) -> Strategies:
        """The same with other gates, at the time of another clock."""
        return Strategies(
            self._store,
            clock=clock,
            new_token=self._new_token,
            readable=self._readable,
            certifier=self._certifier,
            refuser=Refuser(self._store, clock),
            gates=gates,
        )

    async def admitted(self, ticket: FleetTicket, request: ProvisionRequest) -> ProvisionResult:
        """How it ends for who has shown the right secret of `ticket`."""
        profile, now = ticket.profile, self._clock()
        binding = binding_of(ticket, request, now)
        admitting = self._gates.admitting
        # Here and below the many who come to a plain profile are spared a coroutine each time.
        refused = (
            None
            if admitting.is_open(profile, now)
            else await admitting.why_not(profile, request, now)
        )
        if refused is RefusalReason.ON_DENY_LIST:
            return await self._refuse(request, refused)  # nor is it given anything again
        if binding is not None and (refused is not None or self._dear(profile.policy, request)):
            again = await self._repeated(ticket, request, binding, now)
            if again is not None:
                return again
        if refused is not None:
            wait_s = admitting.wait_s(profile, refused, request.device_name, now)
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
            log_device("device.repeated", request, result)
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
        name = (request.wanted_name or self._made_name(request, binding)).strip()
        if not is_device_name(name):
            return await self._refuse(request, RefusalReason.NAME_INVALID)
        kind, birth = (request.device_type or "").strip(), profile.birth
        if not birth.profile_by_type:
            kind = kind or profile.name
        if kind and not is_device_name(kind):
            return await self._refuse(request, RefusalReason.TYPE_INVALID)
        terms = _plain_terms(ticket, request, binding) or await self._terms(
            ticket, request, name, binding, now
        )
        if not isinstance(terms, Terms):
            return terms
        credentials, issued = (
            await self._signed(profile, name, request.credentials)
            if request.credentials.csr
            else (choose_credentials(request.credentials, self._new_token), None)
        )
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
        if binding is None and issued is None:
            return result
        if binding is not None and profile.pre_provision_allowed:
            self._reopen(result)
        return await self._concluded(ticket, request, result, issued)

    def _made_name(self, request: ProvisionRequest, binding: Binding | None) -> str:
        """The name of a device that told none.

        A key is certified for one name alone: a request that is sent again before it is answered
        must come to the same name.
        """
        if binding is None or not request.credentials.csr:
            return self._new_token()
        return sha256(b"name|" + binding.bound.reveal().encode()).hexdigest()[:_NAME_DIGITS]

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

    async def _signed(
        self, profile: DeviceProfile, name: str, asked: RequestedCredentials
    ) -> tuple[DeviceCredentials | RefusalReason, IssuedCertificate | None]:
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
        terms = _plain_terms(ticket, request, binding) or await self._terms(
            ticket, request, name, binding, now
        )
        if not isinstance(terms, Terms):
            return terms
        asked = request.credentials
        fresh: DeviceCredentials | None = None
        issued: IssuedCertificate | None = None
        if asked.csr or asked.type is DeviceCredentialsType.DTLS_PSK:
            # Ours to give: everything else a waiting device asks for is ignored (contract, 2.6).
            chosen, issued = await self._signed(ticket.profile, name, asked)
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


def _plain_terms(
    ticket: FleetTicket, request: ProvisionRequest, binding: Binding | None
) -> Terms | None:
    """Those of most devices; None: there is more to be asked."""
    plain = ticket.profile.policy is PLAIN_POLICY and ticket.max_uses is None
    return (
        Terms(ticket_id=ticket.id, binding=binding) if plain and request.hardware is None else None
    )


def log_device(what: str, request: ProvisionRequest, result: Provisioned) -> None:
    """A line of the log about a device that was given its credentials."""
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
