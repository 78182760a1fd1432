"""Devices that come with a token which was issued for one of them."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.errors import CredentialsGone
from gateway.core.model import (
    HARDWARE_INFO,
    AccessToken,
    AttributeScope,
    Provisioned,
    ProvisionRequest,
    ProvisionResult,
    ProvisionToken,
    RefusalReason,
    Refused,
    Ticket,
    TicketKind,
)
from gateway.core.ports import Clock, NewToken, Store, Template, Templates, TicketClaim
from gateway.core.refusing import Refuser

_SPARE_CHARACTERS = 6
"""Of what is added to a name that is taken: 36 bits."""


class TokenClaims:
    """Claims tickets of single devices. Without `templates` all tokens are refused.

    `replaced` is called when a device's older token is gone.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        new_token: NewToken,
        refuser: Refuser,
        templates: Templates | None,
        replaced: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_token = new_token
        self._refuser = refuser
        self._templates = templates
        self._replaced = replaced

    async def provision(
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

    async def _refuse(
        self,
        request: ProvisionRequest,
        reason: RefusalReason,
        ticket: Ticket | None = None,
        *,
        device_id: int | None = None,
        subject: str = "",
    ) -> Refused:
        if ticket is not None:
            device_id = ticket.device_id
        return await self._refuser.refuse(
            request, Refused(reason), device_id=device_id, subject=subject
        )
