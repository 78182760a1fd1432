"""Static tokens in the Platform API: a device that was made with a token is claimed by its label
(contract, section 12). Checks go in the order of section 4.4."""

from __future__ import annotations

import re
from typing import Final, NoReturn

from msgspec import UNSET

from gateway.core.errors import Conflict
from gateway.core.model import Actor, Organisation, Permission, RefusalReason, Refused, Secret, User
from gateway.core.static_token_store import StaticState, StaticTokenRecord
from gateway.core.static_tokens import (
    MOST_ON_A_PAGE,
    StaticTokens,
    lacked_to_claim,
    lacked_to_unclaim,
)
from gateway.dialects.blynk import static_token_operations as operations
from gateway.dialects.blynk.callers import parameter
from gateway.dialects.blynk.platform_words import (
    MOST_INT32,
    Authenticate,
    Desk,
    allow,
    body_of,
    missing,
    no_device,
    number_in,
    refuse,
)
from gateway.dialects.blynk.static_token_operations import (
    ClaimBody,
    DeviceNumber,
    PageAnswer,
    PairAnswer,
    UnclaimBody,
)
from gateway.dialects.blynk.words import NO_TEMPLATE_TEXT, NO_USER_TEXT, answered
from gateway.wire.call import Call, Reply
from gateway.wire.route import Route

PATH: Final = "/api/v1/organization/static-tokens"
NO_ORGANISATION_TEXT: Final = (
    "Organization with identifier {number} is not found or you don't have access to it."
)
NO_PAIR_TEXT: Final = "Static token is not found."
CLAIMED_TEXT: Final = "Static token is already claimed."
_DIGITS: Final = re.compile(r"[0-9]{1,10}", re.ASCII)


class StaticTokenRoutes:
    """The three calls."""

    def __init__(self, authenticate: Authenticate, static_tokens: StaticTokens) -> None:
        self._desk = Desk(authenticate)
        self._tokens = static_tokens

    def routes(self) -> tuple[Route, ...]:
        route = self._desk.route
        return (
            route("static_tokens", f"GET {PATH}", self._list, operations.LIST),
            route("static_tokens.claim", f"POST {PATH}/claim", self._claim, operations.CLAIM),
            route(
                "static_tokens.unclaim", f"POST {PATH}/unclaim", self._unclaim, operations.UNCLAIM
            ),
        )

    # ── claiming ────────────────────────────────────────────────────────────────────────────

    async def _claim(self, call: Call, actor: Actor) -> Reply:
        body = body_of(call, ClaimBody)
        token, number = _split(body)
        owner_id = actor.owner_id or None if body.owner_id is UNSET else body.owner_id
        allow(actor, lacked_to_claim(actor, owner_id))
        organisation = await self._organisation(actor, number)
        owner = await self._owner(actor, organisation, owner_id)
        try:
            result = await self._tokens.claim(actor, Secret(token), organisation, owner)
        except Conflict:  # one of them was removed just now
            missing(NO_ORGANISATION_TEXT.format(number=number))
        if isinstance(result, Refused):
            _refuse_claim(result.reason)
        return answered(DeviceNumber(result.device_id))

    async def _organisation(self, actor: Actor, number: int) -> Organisation:
        found = await self._tokens.organisation(actor, number)
        if found is None:
            missing(NO_ORGANISATION_TEXT.format(number=number))
        return found

    async def _owner(
        self, actor: Actor, organisation: Organisation, number: int | None
    ) -> User | None:
        if number is None:
            return None
        found = await self._tokens.owner(actor, organisation, number)
        if found is None:
            missing(NO_USER_TEXT)
        return found

    # ── giving back ─────────────────────────────────────────────────────────────────────────

    async def _unclaim(self, call: Call, actor: Actor) -> Reply:
        body = body_of(call, UnclaimBody)
        if (body.token is UNSET) == (body.device_id is UNSET):
            refuse("One of 'token' and 'deviceId' is needed.")
        allow(actor, lacked_to_unclaim(actor))
        record = await self._held(actor, body)
        try:
            await self._tokens.unclaim(actor, record)
        except Conflict:  # somebody else gave it back, or took it, just now
            missing(NO_PAIR_TEXT)
        return answered(DeviceNumber(record.pair.device_id))

    async def _held(self, actor: Actor, body: UnclaimBody) -> StaticTokenRecord:
        if body.device_id is not UNSET:
            found = await self._tokens.held(actor, device_id=body.device_id)
            if found is None:
                no_device(body.device_id)
            return found
        assert body.token is not UNSET
        claim = Secret(body.token.partition("+")[0])
        found = await self._tokens.held(actor, claim=claim)
        if found is None:
            missing(NO_PAIR_TEXT)
        return found

    # ── looking ─────────────────────────────────────────────────────────────────────────────

    async def _list(self, call: Call, actor: Actor) -> Reply:
        number = number_in(call, "orgId")
        state, template = _state(call), parameter(call, "templateId")
        page = number_in(call, "page") if parameter(call, "page") else 0
        size = number_in(call, "size") if parameter(call, "size") else 100
        if page < 0 or not 1 <= size <= MOST_ON_A_PAGE:
            refuse(f"Parameter 'page' begins at 0, and 'size' is 1 to {MOST_ON_A_PAGE}.")
        manages = actor.may(Permission.MANAGE_STATIC_TOKENS)
        allow(actor, None if manages else Permission.MANAGE_STATIC_TOKENS)
        organisation = await self._organisation(actor, number)
        found = await self._tokens.page(
            actor, organisation, template=template, state=state, page=page, size=size
        )
        content = [_plain(record, name) for record, name in found.pairs]
        return answered(PageAnswer(content, page, size, found.total))


def _split(body: ClaimBody) -> tuple[str, int]:
    """The claim token, and the organisation it is claimed for: the body's goes before that on the
    label. Raises `Trouble` (400)."""
    token, plus, behind = body.token.partition("+")
    if not plus:
        if body.org_id is UNSET:
            refuse("Object missing required field `orgId`")
        return token, body.org_id
    number = int(behind) if _DIGITS.fullmatch(behind) else MOST_INT32 + 1
    if number > MOST_INT32:
        refuse("What stands behind '+' in the token must be a 32-bit integer.")
    return token, number if body.org_id is UNSET else body.org_id


def _refuse_claim(reason: RefusalReason) -> NoReturn:
    match reason:
        case RefusalReason.CUSTOMER_HAS_IT:
            refuse(CLAIMED_TEXT)
        case RefusalReason.UNKNOWN_TEMPLATE:
            missing(NO_TEMPLATE_TEXT)
        case _:
            missing(NO_PAIR_TEXT)


def _state(call: Call) -> StaticState | None:
    text = parameter(call, "state")
    if text and text not in StaticState.__members__:
        refuse("Parameter 'state' must be UNCLAIMED or CLAIMED.")
    return StaticState(text) if text else None


def _plain(record: StaticTokenRecord, template: str) -> PairAnswer:
    pair = record.pair
    return PairAnswer(
        id=pair.id,
        token=record.claim.reveal(),
        device_id=pair.device_id,
        org_id=pair.organisation_id,
        template_id=template,
        state=pair.state,
        holder_org_id=pair.holder_id,
        owner_id=pair.owner_id,
        claimed_at=pair.claimed_at,
        created_at=pair.created_at,
    )
