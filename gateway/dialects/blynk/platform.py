"""The Platform API's provisioning, and what it tells of one device (contract, sections 4 and 10).

The order of checks is that of section 4.4: who calls, what was sent, the permission, and then what
is in sight. What is out of sight is answered as what is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Raw

from gateway.core.errors import Conflict
from gateway.core.inventory import Inventory
from gateway.core.model import (
    HARDWARE_INFO,
    Actor,
    AttributeScope,
    DeviceRecord,
    Json,
    Order,
    Organisation,
    Permission,
    User,
)
from gateway.core.people import People
from gateway.core.ports import Clock
from gateway.core.recent import Recent
from gateway.core.registry import Registry
from gateway.core.tickets import IsOnline, Issued, Tickets, lacked_for_device, lacked_to_issue
from gateway.dialects.blynk import platform_operations as operations
from gateway.dialects.blynk.platform_operations import (
    DeviceAnswer,
    DeviceBody,
    IssueBody,
    OnlineAnswer,
    ReconfigureAnswer,
    TokenAnswer,
)
from gateway.dialects.blynk.platform_words import (
    Authenticate,
    Desk,
    allow,
    body_of,
    missing,
    no_device,
    number_in,
    refuse,
)
from gateway.dialects.blynk.profile import Templates
from gateway.dialects.blynk.words import NO_ORGANISATION_TEXT, NO_USER_TEXT, answered
from gateway.wire.call import Call, Reply
from gateway.wire.route import Route

DEVICE: Final = "/api/v1/organization/device"
PROVISION: Final = f"{DEVICE}/provision"
NO_TEMPLATE_OF_TEXT: Final = (
    "Device with identifier {number} has no template to claim a token with."
)
_NO_HARDWARE: Final = Raw(b"{}")


class PlatformApi:
    """Its routes. `is_online` says it of devices by their number. `nudge`: look at once for what
    was changed, so that an order does not wait for the next look."""

    def __init__(
        self,
        authenticate: Authenticate,
        *,
        tickets: Tickets,
        people: People,
        inventory: Inventory,
        registry: Registry,
        templates: Templates,
        is_online: IsOnline,
        clock: Clock,
        nudge: Callable[[], None],
    ) -> None:
        self._desk = Desk(authenticate)
        self._tickets = tickets
        self._organisations = Recent(people.organisation_numbered, clock)
        self._owners = Recent(tickets.owner, clock)
        self._inventory = inventory
        self._registry = registry
        self._templates = templates
        self._is_online = is_online
        self._nudge = nudge

    def routes(self) -> tuple[Route, ...]:
        return tuple(
            self._desk.route(name, http, handler, operation)
            for name, http, handler, operation in (
                ("issue", f"POST {PROVISION}/token", self._issue, operations.ISSUE),
                (
                    "reconfigure",
                    f"POST {PROVISION}/reconfigure",
                    self._reconfigure,
                    operations.RECONFIGURE,
                ),
                (
                    "reprovision",
                    f"POST {PROVISION}/reprovision/token",
                    self._reprovision,
                    operations.REPROVISION,
                ),
                ("online", f"GET {DEVICE}/online", self._online, operations.ONLINE),
                ("device", f"GET {DEVICE}", self._show, operations.DEVICE),
            )
        )

    # ── provisioning ────────────────────────────────────────────────────────────────────────

    async def _issue(self, call: Call, actor: Actor) -> Reply:
        body = body_of(call, IssueBody)
        allow(actor, lacked_to_issue(actor, body.owner_id))
        try:
            return await self._issue_now(actor, body)
        except Conflict:  # perhaps only by what was known from a moment ago
            self._organisations.forget(body.org_id)
            self._owners.forget(body.owner_id)
        try:
            return await self._issue_now(actor, body)
        except Conflict:  # the owner is no member of it, nor of one above it in the actor's reach
            missing(NO_USER_TEXT)

    async def _issue_now(self, actor: Actor, body: IssueBody) -> Reply:
        organisation = await self._organisation(actor, body.org_id)
        owner = await self._owner(actor, body.owner_id)
        return _token(await self._tickets.issue(actor, organisation, owner))

    async def _organisation(self, actor: Actor, number: int) -> Organisation:
        found = await self._organisations.find(number) if number > 0 else None
        if found is None or not actor.organisation.has_below(found):
            missing(NO_ORGANISATION_TEXT)
        return found

    async def _owner(self, actor: Actor, number: int) -> User:
        if number == actor.owner_id and actor.user is not None:
            return actor.user
        found = await self._owners.find(number) if number > 0 else None
        if found is None:
            missing(NO_USER_TEXT)
        return found

    async def _reprovision(self, call: Call, actor: Actor) -> Reply:
        number = body_of(call, DeviceBody).device_id
        allow(actor, lacked_for_device(actor))
        record = await self._device(actor, number)
        if await self._templates.of(record.device) is None:
            refuse(NO_TEMPLATE_OF_TEXT.format(number=number))
        try:
            issued = await self._tickets.reprovision(actor, record)
        except Conflict:  # it was removed meanwhile, or taken out of sight
            no_device(number)
        self._nudge()
        return _token(issued)

    async def _reconfigure(self, call: Call, actor: Actor) -> Reply:
        number = body_of(call, DeviceBody).device_id
        allow(actor, lacked_for_device(actor))
        record = await self._device(actor, number)
        try:
            online = await self._tickets.order(actor, record, Order.RECONFIGURE)
        except Conflict:
            no_device(number)
        self._nudge()
        return answered(ReconfigureAnswer(offline=not online))

    # ── looking ─────────────────────────────────────────────────────────────────────────────

    async def _online(self, call: Call, actor: Actor) -> Reply:
        record = await self._seen(call, actor)
        return answered(OnlineAnswer(connected=await self._is_online(record.device.id)))

    async def _show(self, call: Call, actor: Actor) -> Reply:
        record = await self._seen(call, actor)
        device = record.device
        answer = DeviceAnswer(
            id=device.id,
            name=device.name,
            org_id=device.customer_id or device.organisation_id,
            owner_id=record.owner_id,
            template_id=device.profile_id,
            product_name=record.profile_name,
            activated_at=device.created_at,
            hardware_info=await self._hardware(record),
            connected=await self._is_online(device.id),
        )
        return answered(answer)

    async def _hardware(self, record: DeviceRecord) -> Raw:
        """What the device said of itself, as it said it; empty when it said nothing."""
        for one in await self._registry.attributes(record):
            said = one.key == HARDWARE_INFO and one.scope is AttributeScope.CLIENT
            # A device may keep any JSON under that name, numbers too large to be read among it.
            if said and isinstance(one.value, Json) and one.value.text.startswith("{"):
                return Raw(one.value.text)
        return _NO_HARDWARE

    async def _seen(self, call: Call, actor: Actor) -> DeviceRecord:
        number = number_in(call, "deviceId")
        seen = actor.may(Permission.ORG_DEVICES_VIEW, Permission.OWN_DEVICES_VIEW)
        allow(actor, None if seen else Permission.OWN_DEVICES_VIEW)
        return await self._device(actor, number)

    async def _device(self, actor: Actor, number: int) -> DeviceRecord:
        """A device in the actor's sight: with OWN_DEVICES_VIEW alone, one of its own."""
        found = await self._inventory.find_numbered(actor, number) if number > 0 else None
        if found is None:
            no_device(number)
        return found


def _token(issued: Issued) -> Reply:
    return answered(TokenAnswer(issued.token.reveal(), issued.ticket.device_id))
