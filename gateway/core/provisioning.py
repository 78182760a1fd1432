"""The only place where devices are born."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import msgspec
import structlog

from gateway.core.births import Births
from gateway.core.certifying import Certifier, certificate_of
from gateway.core.errors import CredentialsGone
from gateway.core.limits import Allowance
from gateway.core.model import (
    HARDWARE_INFO,
    PROVISIONED,
    AccessToken,
    AttributeScope,
    BirthRule,
    Certificate,
    DeviceCredentials,
    DeviceCredentialsType,
    DeviceProfile,
    Event,
    EventKind,
    FleetTicket,
    MqttBasic,
    Outcome,
    PresharedKey,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    ProvisionResult,
    ProvisionToken,
    ProvisionType,
    RefusalReason,
    Refused,
    RequestedCredentials,
    Secret,
    Ticket,
    TicketKind,
)
from gateway.core.pki.model import IssuedCertificate
from gateway.core.ports import (
    Clock,
    NewDevice,
    NewToken,
    Store,
    Template,
    Templates,
    TicketClaim,
)
from gateway.core.tokens import new_key

log = structlog.get_logger()

MOST_NAME_CHARACTERS = 255
"""ThingsBoard's limit for a device name; its contract, section 2.4."""
MOST_CREDENTIAL_CHARACTERS = 4096
"""Of a token, client id, user name or password. A certificate is bounded by its message."""
PSK_BYTES = 32
_SPARE_CHARACTERS = 6
"""Of what is added to a name that is taken: 36 bits."""
_PLAIN_BIRTH = BirthRule()
_EVENTS_AT_ONCE = 100
_EVENTS_PER_S = 10
"""How many refusals of strangers are written down; a flood of them must not fill the disk."""


class Provisioner:
    """Turns a `ProvisionRequest` into credentials, or says why not.

    `readable(text)` tells whether a certificate text can be parsed; only profiles with
    `require_readable_certificate`, and the warning in the event, depend on it. Without a
    `certifier` signing requests are refused, without `templates` all tokens are. `births` is told
    how each request ended. `replaced` is called when a device's older token is gone.
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
    ) -> None:
        self._replaced = replaced
        self._store = store
        self._templates = templates
        self._clock = clock
        self._new_token = new_token
        self._readable = readable
        self._certifier = certifier
        self._births = births or Births()
        self._strangers = Allowance(_EVENTS_AT_ONCE, _EVENTS_PER_S)

    async def provision(self, request: ProvisionRequest) -> ProvisionResult:
        """Decide. A `Provisioned` is on disk, with its event, before this returns.

        Raises `StoreUnavailable` or `Overloaded`; then nothing happened.
        """
        strategy, result = await self._decide(request)
        if isinstance(result, Refused) or not result.again:
            self._births.count(request.peer.wire, strategy, result)
            self._log(request, result)
        return result

    async def _decide(
        self, request: ProvisionRequest
    ) -> tuple[ProvisionType | TicketKind | None, ProvisionResult]:
        """How it ends, and by which strategy; None when it never came to one."""
        if isinstance(request.proof, ProvisionToken):
            return await self._by_token(request, request.proof)
        # The order of these checks is the contract's (section 2.3).
        if request.device_name is not None and not request.device_name.strip():
            return None, await self._refuse(request, RefusalReason.NAME_BLANK)
        ticket = await self._admit(request.proof)
        if isinstance(ticket, RefusalReason):
            return None, await self._refuse(request, ticket)
        profile = ticket.profile
        return profile.provision_type, await self._by_strategy(profile, request)

    async def _by_strategy(
        self, profile: DeviceProfile, request: ProvisionRequest
    ) -> ProvisionResult:
        match profile.provision_type:
            case ProvisionType.ALLOW_CREATE_NEW_DEVICES:
                return await self._create(profile, request)
            case ProvisionType.CHECK_PRE_PROVISIONED_DEVICES:
                return await self._claim(profile, request)
            case ProvisionType.DISABLED:
                return await self._refuse(request, RefusalReason.PROVISIONING_DISABLED)
            case ProvisionType.X509_CERTIFICATE_CHAIN:
                return await self._refuse(request, RefusalReason.CERTIFICATE_CHAIN_ONLY)
            case unreachable:
                assert_never(unreachable)

    async def _admit(self, proof: ProvisionKey) -> FleetTicket | RefusalReason:
        if not proof.key:
            return RefusalReason.UNKNOWN_KEY
        ticket = await self._store.find_fleet_ticket(proof.key)
        if ticket is None:
            return RefusalReason.UNKNOWN_KEY
        if not proof.secret or ticket.secret != proof.secret:
            return RefusalReason.WRONG_SECRET
        return ticket

    async def _by_token(
        self, request: ProvisionRequest, proof: ProvisionToken
    ) -> tuple[TicketKind | None, ProvisionResult]:
        """A ticket of one device. Whoever shows its token again, later, gets the same device."""
        template = await self._everywhere(proof)
        if template is not None:
            # Most: claimed without being looked for first, a third less to do.
            result = await self._store.claim_ticket(self._claim_of(request, proof, template, None))
            if not isinstance(result, Refused):
                return TicketKind.SINGLE, result
        ticket = await self._store.find_ticket(proof.token) if proof.token else None
        if ticket is None:
            return None, await self._again(request, proof)
        if ticket.expired(self._clock()):
            return ticket.kind, await self._refuse(request, RefusalReason.TICKET_EXPIRED, ticket)
        template = await self._template(proof.template, ticket.path)
        if template is None:
            return ticket.kind, await self._refuse(request, RefusalReason.UNKNOWN_TEMPLATE, ticket)
        if ticket.profile_id not in (None, template.profile.id):
            return ticket.kind, await self._refuse(request, RefusalReason.OTHER_TEMPLATE, ticket)
        result = await self._store.claim_ticket(self._claim_of(request, proof, template, ticket))
        if isinstance(result, Refused):
            return ticket.kind, await self._refuse(request, result.reason, ticket)
        if ticket.kind is TicketKind.ROTATE and not result.again:
            self._replaced()
        return ticket.kind, result

    async def _everywhere(self, proof: ProvisionToken) -> Template | None:
        if self._templates is None or not (proof.template and proof.token):
            return None
        return await self._templates.everywhere(proof.template)

    def _claim_of(
        self,
        request: ProvisionRequest,
        proof: ProvisionToken,
        template: Template,
        ticket: Ticket | None,
    ) -> TicketClaim:
        return TicketClaim(
            ticket=ticket,
            token=proof.token,
            template=template,
            spare=self._new_token()[-_SPARE_CHARACTERS:],
            hardware=request.hardware,
            peer=request.peer,
            at=self._clock(),
        )

    async def _template(self, name: str, path: str) -> Template | None:
        return None if self._templates is None else await self._templates.named(name, path)

    async def _again(self, request: ProvisionRequest, proof: ProvisionToken) -> ProvisionResult:
        """The token of a device that is there: what it says of its hardware is noted."""
        known = await self._store.find_credentials(proof.token) if proof.token else None
        if known is None or not isinstance(known.credentials, AccessToken):
            return await self._refuse(request, RefusalReason.UNKNOWN_TOKEN)
        device = known.device
        profile = await self._store.profile(device.profile_id)
        templates = self._templates
        if not (templates and profile and templates.fits(profile, proof.template)):
            return await self._refuse(
                request,
                RefusalReason.OTHER_TEMPLATE,
                device_id=device.id,
                subject=device.name,
            )
        if request.hardware is not None:
            hardware = {HARDWARE_INFO: request.hardware}
            try:
                await self._store.save_attributes(
                    device, AttributeScope.CLIENT, hardware, self._clock()
                )
            except CredentialsGone:
                return await self._refuse(request, RefusalReason.UNKNOWN_TOKEN)
        return Provisioned(device, known.credentials, again=True)

    async def _create(self, profile: DeviceProfile, request: ProvisionRequest) -> ProvisionResult:
        name = (request.device_name or self._new_token()).strip()
        if not is_device_name(name):
            return await self._refuse(request, RefusalReason.NAME_INVALID)
        kind, birth = (request.device_type or "").strip(), profile.birth
        if not birth.profile_by_type:
            kind = kind or profile.name
        if kind and not is_device_name(kind):
            return await self._refuse(request, RefusalReason.TYPE_INVALID)
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
                at=self._clock(),
                warning=warning,
                issued=issued,
                birth=None if birth == _PLAIN_BIRTH else birth,
            )
        )
        return _with_issuers(result, issued)

    async def _credentials(
        self, profile: DeviceProfile, name: str, asked: RequestedCredentials
    ) -> tuple[DeviceCredentials | RefusalReason, IssuedCertificate | None]:
        """What the device is to have, and the certificate if it was signed for it just now."""
        if not asked.csr:
            return choose_credentials(asked, self._new_token), None
        if self._certifier is None:
            return RefusalReason.NO_AUTHORITY, None
        issued = await self._certifier.certify(asked.csr, profile, name)
        if isinstance(issued, RefusalReason):
            return issued, None
        return certificate_of(issued), issued

    async def _claim(self, profile: DeviceProfile, request: ProvisionRequest) -> ProvisionResult:
        if request.device_name is None:
            return await self._refuse(request, RefusalReason.NAME_MISSING)
        name = request.device_name.strip()
        if not is_device_name(name):
            return await self._refuse(request, RefusalReason.NAME_INVALID)
        asked = request.credentials
        fresh: DeviceCredentials | None = None
        issued: IssuedCertificate | None = None
        if asked.csr or asked.type is DeviceCredentialsType.DTLS_PSK:
            # Ours to give: everything else a waiting device asks for is ignored (contract, 2.6).
            chosen, issued = await self._credentials(profile, name, asked)
            if isinstance(chosen, RefusalReason):
                return await self._refuse(request, chosen)
            fresh = chosen
        result = await self._store.claim_device(
            profile, name, self._event(request, name), fresh=fresh, issued=issued
        )
        return _with_issuers(result, issued)

    async def _refuse(
        self,
        request: ProvisionRequest,
        reason: RefusalReason,
        ticket: Ticket | None = None,
        *,
        device_id: int | None = None,
        subject: str = "",
    ) -> Refused:
        """Say no, and write it down, unless strangers have been written down often enough."""
        now = self._clock()
        if self._strangers.take(now):
            event = self._event(request, subject or printable((request.device_name or "").strip()))
            if ticket is not None:
                device_id = ticket.device_id
            event = msgspec.structs.replace(event, device_id=device_id)
            missed = self._strangers.forget_missed()
            await self._store.record(
                msgspec.structs.replace(
                    event,
                    outcome=Outcome.REFUSED,
                    reason=reason.value,
                    detail={"refusals not written down before": str(missed)} if missed else {},
                )
            )
        return Refused(reason)

    def _event(self, request: ProvisionRequest, subject: str) -> Event:
        return Event(
            kind=EventKind.DEVICE_PROVISION, at=self._clock(), peer=request.peer, subject=subject
        )

    def _log(self, request: ProvisionRequest, result: ProvisionResult) -> None:
        if isinstance(result, Refused):
            log.info(
                "device.refused",
                wire=request.peer.wire,
                peer=request.peer.address,
                request=request.peer.request,
                device=printable(request.device_name or ""),
                reason=result.reason.value,
            )
        else:
            log.info(
                "device.provisioned",
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


def choose_credentials(
    asked: RequestedCredentials, new_token: NewToken
) -> DeviceCredentials | RefusalReason:
    """Who generates what: the table of the contract's section 2.4, row by row.

    A pre-shared key is always ours: identity and 256 bits.
    """
    if asked.type is DeviceCredentialsType.DTLS_PSK:
        return PresharedKey(new_token(), Secret(new_key(PSK_BYTES).hex()))
    if not asked.any_given:
        # Also for MQTT_BASIC and X509_CERTIFICATE with nothing to go with them.
        return AccessToken(Secret(new_token()))
    chosen: DeviceCredentials
    match asked.type:
        case DeviceCredentialsType.ACCESS_TOKEN:
            chosen = AccessToken(asked.token)
            valid = bool(asked.token)
        case DeviceCredentialsType.MQTT_BASIC:
            chosen = MqttBasic(asked.client_id, asked.username, asked.password)
            valid = bool(asked.username) or (bool(asked.client_id) and not asked.password)
        case DeviceCredentialsType.X509_CERTIFICATE:
            chosen = Certificate(asked.certificate)
            valid = bool(asked.certificate)
        case DeviceCredentialsType.LWM2M_CREDENTIALS | DeviceCredentialsType.REVOKED:
            return RefusalReason.CREDENTIALS_INVALID
        case unreachable:
            assert_never(unreachable)
    shown = (asked.token.reveal(), asked.client_id, asked.username, asked.password.reveal())
    fits = all(len(text) <= MOST_CREDENTIAL_CHARACTERS for text in shown)
    if not valid or not fits or not all(map(is_plain, (*shown, asked.certificate))):
        return RefusalReason.CREDENTIALS_INVALID
    return chosen


def is_plain(text: str) -> bool:
    """Whether a text is storable and free of control characters."""
    return text.isprintable() or not any(
        ch < " " or "\x7f" <= ch <= "\x9f" or "\ud800" <= ch <= "\udfff" for ch in text
    )


def is_device_name(name: str) -> bool:
    """Not blank, at most 255 characters, no control characters, no markup (contract, 2.4)."""
    return (
        len(name) <= MOST_NAME_CHARACTERS
        and bool(name.strip())
        and is_plain(name)
        and not ("<" in name and ">" in name)
        and "{{" not in name
        and "${" not in name
    )


def printable(text: str) -> str:
    """Text from a stranger, safe for a log line, a terminal and the store."""
    return "".join(ch if is_plain(ch) else "?" for ch in text[:MOST_NAME_CHARACTERS])
