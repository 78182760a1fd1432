"""The claim over HTTP and CoAP: a device shows its token and names its template (section 5)."""

from __future__ import annotations

from typing import Final

from gateway.core.model import (
    Device,
    ProvisionRequest,
    ProvisionToken,
    RefusalReason,
    Refused,
    Secret,
    Ticket,
)
from gateway.core.provisioning import Provisioner
from gateway.dialects.blynk import operations
from gateway.dialects.blynk.callers import Callers, parameter, parameters
from gateway.dialects.blynk.hardware import HTTP_NAMES, hardware_info
from gateway.dialects.blynk.profile import Templates
from gateway.dialects.blynk.words import DONE, INVALID_TOKEN, NO_ROOM, NO_TEMPLATE, too_many
from gateway.wire.call import Call, Reply
from gateway.wire.route import Route

PATH: Final = "/external/api/provision"
_TEMPLATE_REASONS: Final = frozenset({RefusalReason.UNKNOWN_TEMPLATE, RefusalReason.OTHER_TEMPLATE})
NO_ROOM_REASONS: Final = frozenset({RefusalReason.PROFILE_FULL, RefusalReason.ORGANISATION_FULL})
"""The token is right, and stays good: whoever shows it is no stranger."""


def refusal(refused: Refused) -> Reply:
    """Of a claim. Unknown, expired and revoked tokens cannot be told apart (section 3.3)."""
    if refused.retry_after_s:
        return too_many(refused.retry_after_s)
    if refused.reason in NO_ROOM_REASONS:
        return NO_ROOM
    return NO_TEMPLATE if refused.reason in _TEMPLATE_REASONS else INVALID_TOKEN


class ClaimApi:
    """One operation on two wires; over HTTP a HEAD only looks."""

    def __init__(self, provisioner: Provisioner, callers: Callers, templates: Templates) -> None:
        self._provisioner = provisioner
        self._callers = callers
        self._templates = templates

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                name="blynk.claim",
                handler=self.claim,
                http=(f"GET {PATH}",),
                coap=(f"GET {PATH}", f"POST {PATH}"),
                quiet=True,
                numbered=True,
                operation=operations.CLAIM,
            ),
            Route(name="blynk.claim.look", handler=self.look, http=(f"HEAD {PATH}",)),
        )

    async def claim(self, call: Call) -> Reply:
        wait_s = self._callers.strangers.wait_s(call.peer)
        if wait_s:
            return too_many(wait_s)
        said = parameters(call)
        token = Secret(said.get("token", ""))
        result = await self._provisioner.provision(
            ProvisionRequest(
                proof=ProvisionToken(token, said.get("templateId", "")),
                peer=call.peer,
                hardware=hardware_info(said, HTTP_NAMES),
            )
        )
        if not isinstance(result, Refused):
            return DONE
        reply = refusal(result)
        if reply is INVALID_TOKEN:
            self._callers.strangers.wrong(call.peer)
        return reply

    async def look(self, call: Call) -> Reply:
        """What the claim would be answered, and nothing is claimed."""
        wait_s = self._callers.strangers.wait_s(call.peer)
        if wait_s:
            return too_many(wait_s)
        found = await self._callers.by_token(Secret(parameter(call, "token")), call.peer)
        if found is None:
            self._callers.strangers.wrong(call.peer)
            return INVALID_TOKEN
        return DONE if await self._fits(found, parameter(call, "templateId")) else NO_TEMPLATE

    async def _fits(self, found: Device | Ticket, name: str) -> bool:
        """Whether what has the token may name this template."""
        if isinstance(found, Ticket):
            template = await self._templates.find(name, found.path)
            only = await self._callers.only_profile(found)
            return template is not None and only in (None, template.profile.id)
        own = await self._templates.of(found)
        return own is not None and (own.id == name or own.section.fallback)
