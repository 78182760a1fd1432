"""Static tokens: pairs of which one is printed for people, and the other flashed into a device.

The device may come before anybody claims it, and then is in the organisation that made the pair;
claimed, it is in its holder's, before or after its birth (Blynk contract, section 12). What we
decided where that is silent:

- A claim by the same organisation for the same person may be repeated, and gives the same.
- The template must be one for the organisation that claims: else its device could not be born.
- Unclaiming keeps the device and all it said. Removing the device does not keep them; its pair is
  unclaimed then, with a new number, and the hardware may come back with the token it was made with.
- A device with a new token (provisioned anew, credentials changed) is still that of its pair. The
  token it was made with opens nothing as long as the device is there, and is good again once it is
  removed: where others know that token, revoke the pair.
- Revoking a pair ends both its tokens, as far as no device was born with one: that device stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct, structs

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid
from gateway.core.inventory_store import sight_of
from gateway.core.limits import Allowance
from gateway.core.model import (
    Actor,
    DeviceProfile,
    Event,
    EventKind,
    Organisation,
    Outcome,
    Permission,
    RefusalReason,
    Refused,
    Secret,
    User,
)
from gateway.core.organisations import need
from gateway.core.ports import Clock, NewToken, Templates
from gateway.core.static_token_store import (
    NewPair,
    NewPairs,
    PairQuery,
    StaticClaim,
    StaticState,
    StaticToken,
    StaticTokenRecord,
    StaticTokenStore,
)
from gateway.core.tickets import may_own

CLAIM_PREFIX: Final = "sqr_"
MOST_AT_ONCE: Final = 1000
"""Pairs made in one transaction."""
MOST_ON_A_PAGE: Final = 1000
_EVENTS_AT_ONCE = 100
_EVENTS_PER_S = 10
"""How many refused claims are written down."""


class IssuedPair(Struct, frozen=True):
    """A pair with both its tokens; that of the device is shown this once."""

    pair: StaticToken
    claim: Secret
    token: Secret


class PairPage(Struct, frozen=True):
    """One page of pairs, each with the name its template has for devices ("": it is none any
    more); and how many there are on all."""

    pairs: Sequence[tuple[StaticTokenRecord, str]]
    total: int


def lacked_to_claim(actor: Actor, owner_id: int | None) -> Permission | None:
    """What the actor may not, of what claiming a device for that owner takes."""
    if not actor.may(Permission.ORG_DEVICES_CREATE):
        return Permission.ORG_DEVICES_CREATE
    if not actor.may(Permission.ORG_DEVICES_VIEW, Permission.OWN_DEVICES_VIEW):
        return Permission.OWN_DEVICES_VIEW
    own = owner_id is None or (actor.user is not None and owner_id == actor.user.id)
    return None if own or actor.may(Permission.ORG_VIEW_USERS) else Permission.ORG_VIEW_USERS


def lacked_to_unclaim(actor: Actor) -> Permission | None:
    """What the actor may not, of what giving a device back takes."""
    enough = (
        Permission.ORG_DEVICES_DELETE,
        Permission.OWN_DEVICES_DELETE,
        Permission.MANAGE_STATIC_TOKENS,
    )
    return None if actor.may(*enough) else Permission.ORG_DEVICES_DELETE


def _may_return(actor: Actor, record: StaticTokenRecord) -> bool:
    """Whether it is claimed, and the actor may give its device back."""
    sight = sight_of(actor, Permission.ORG_DEVICES_DELETE, Permission.OWN_DEVICES_DELETE)
    if actor.may(Permission.MANAGE_STATIC_TOKENS):
        sight = structs.replace(sight, path=actor.organisation.path)
    return bool(record.holder_path) and sight.shows(record.holder_path, record.pair.owner_id)


class StaticTokens:
    """Makes, lists, claims, gives back and revokes pairs, as an `Actor`."""

    def __init__(
        self, store: StaticTokenStore, templates: Templates, *, clock: Clock, new_token: NewToken
    ) -> None:
        self._store = store
        self._templates = templates
        self._clock = clock
        self._new_token = new_token
        self._refusals = Allowance(_EVENTS_AT_ONCE, _EVENTS_PER_S)

    # ── whom and what a call names ──────────────────────────────────────────────────────────

    async def organisation(self, actor: Actor, number: int) -> Organisation | None:
        """None when it is out of sight."""
        found = await self._store.organisation_numbered(number)
        return found if found is not None and actor.organisation.has_below(found) else None

    async def owner(self, actor: Actor, organisation: Organisation, number: int) -> User | None:
        """None for who is no member of it, nor of one above it that the actor reaches."""
        user = await self._store.user_numbered(number)
        return user if user is not None and may_own(actor, organisation, user) else None

    # ── making ──────────────────────────────────────────────────────────────────────────────

    async def issue(
        self, actor: Actor, profile: DeviceProfile, organisation: Organisation, count: int = 1
    ) -> list[IssuedPair]:
        """Make pairs for devices of that template, up to `MOST_AT_ONCE`, all or none.

        Raises `Forbidden` (MANAGE_STATIC_TOKENS), `Conflict` GONE (the organisation is out of
        sight), `Invalid` (the profile is no template, or none for that organisation).
        """
        need(actor, Permission.MANAGE_STATIC_TOKENS)
        if not actor.organisation.has_below(organisation):
            raise Conflict(Cause.GONE, "there is no such organisation")
        if not 1 <= count <= MOST_AT_ONCE:
            raise Invalid(f"1 to {MOST_AT_ONCE} pairs are made at once.")
        if not await self._is_template_of(profile, organisation):
            raise Invalid("the profile is no Blynk template for devices of this organisation.")
        pairs = tuple(
            NewPair(Secret(CLAIM_PREFIX + self._new_token()), Secret(self._new_token()))
            for _ in range(count)
        )
        detail = {"organisation": organisation.name, "profile": profile.name}
        made = await self._store.issue_pairs(
            NewPairs(
                pairs=pairs,
                organisation_id=organisation.id,
                profile_id=profile.id,
                event=self._event(actor, EventKind.STATIC_TOKEN_CREATE, detail),
            )
        )
        return [
            IssuedPair(pair, new.claim, new.token) for pair, new in zip(made, pairs, strict=True)
        ]

    async def _is_template_of(self, profile: DeviceProfile, organisation: Organisation) -> bool:
        """Whether a device of that organisation may name this profile."""
        for name in self._templates.names(profile):
            found = await self._templates.named(name, organisation.path)
            if found is not None and found.profile.id == profile.id:
                return True
        return False

    # ── claiming ────────────────────────────────────────────────────────────────────────────

    async def claim(
        self, actor: Actor, claim: Secret, organisation: Organisation, owner: User | None
    ) -> StaticToken | Refused:
        """Take the device of a claim token for an organisation; it need not be born yet.

        Refused with UNKNOWN_TOKEN, CUSTOMER_HAS_IT or UNKNOWN_TEMPLATE. Raises `Forbidden` (see
        `lacked_to_claim`), `Conflict` GONE (the organisation or the owner is out of sight).
        """
        lacked = lacked_to_claim(actor, None if owner is None else owner.id)
        if lacked is not None:
            raise Forbidden(f"this needs the permission {lacked.value}")
        if not actor.organisation.has_below(organisation):
            raise Conflict(Cause.GONE, "there is no such organisation")
        if owner is not None and not may_own(actor, organisation, owner):
            raise Conflict(Cause.GONE, "there is no such user")
        detail = {"organisation": organisation.name}
        if owner is not None:
            detail["owner"] = owner.email
        event = self._event(actor, EventKind.STATIC_TOKEN_CLAIM, detail)
        result = await self._claimed(claim, organisation, owner, event)
        if isinstance(result, RefusalReason):
            await self._tell_refused(event, result)
            return Refused(result)
        return result

    async def _claimed(
        self, claim: Secret, organisation: Organisation, owner: User | None, event: Event
    ) -> StaticToken | RefusalReason:
        record = await self._store.pair_by_claim(claim)
        if record is None:
            return RefusalReason.UNKNOWN_TOKEN
        profile = await self._store.profile(record.pair.profile_id)
        if profile is None or not await self._is_template_of(profile, organisation):
            return RefusalReason.UNKNOWN_TEMPLATE
        return await self._store.claim_pair(
            StaticClaim(
                claim=claim,
                organisation_id=organisation.id,
                owner_id=None if owner is None else owner.id,
                event=event,
            )
        )

    async def _tell_refused(self, event: Event, reason: RefusalReason) -> None:
        if self._refusals.take(event.at):
            detail = {**event.detail, **self._refusals.untold()}
            refused = structs.replace(
                event, outcome=Outcome.REFUSED, reason=reason.value, detail=detail
            )
            await self._store.record(refused)

    # ── giving back and ending ──────────────────────────────────────────────────────────────

    async def held(
        self, actor: Actor, *, claim: Secret | None = None, device_id: int = 0
    ) -> StaticTokenRecord | None:
        """The claimed pair of a claim token, or of a device, that the actor may give back.

        That is what organisations at or below the actor's hold, with ORG_DEVICES_DELETE or
        MANAGE_STATIC_TOKENS, and its own devices with OWN_DEVICES_DELETE.
        """
        if claim is not None:
            record = await self._store.pair_by_claim(claim)
        else:
            record = await self._store.pair_of_device(device_id)
        return record if record is not None and _may_return(actor, record) else None

    async def unclaim(self, actor: Actor, record: StaticTokenRecord) -> None:
        """Give the device of a pair (from `held`) back to the organisation that made it.

        Raises `Conflict` GONE when it was given back, or claimed by others, meanwhile.
        """
        if not _may_return(actor, record):
            raise Conflict(Cause.GONE)
        detail = {"organisation": record.holder_name}
        event = self._event(actor, EventKind.STATIC_TOKEN_UNCLAIM, detail)
        if not await self._store.unclaim_pair(record.pair, event):
            raise Conflict(Cause.GONE, "it is not claimed any more")

    async def revoke(self, actor: Actor, record: StaticTokenRecord) -> None:
        """Nobody claims by it any more, and no device is born with it.

        Raises `Forbidden` (MANAGE_STATIC_TOKENS), `Conflict` GONE.
        """
        need(actor, Permission.MANAGE_STATIC_TOKENS)
        if not record.path.startswith(actor.organisation.path):
            raise Conflict(Cause.GONE)
        event = self._event(actor, EventKind.STATIC_TOKEN_REVOKE, {})
        if not await self._store.revoke_pair(record.pair, event):
            raise Conflict(Cause.GONE, "the pair was revoked meanwhile")

    # ── looking ─────────────────────────────────────────────────────────────────────────────

    async def page(
        self,
        actor: Actor,
        organisation: Organisation,
        *,
        template: str = "",
        state: StaticState | None = None,
        page: int = 0,
        size: int = 100,
    ) -> PairPage:
        """Pairs that an organisation made, in that order; of all templates, or of one.

        Raises `Forbidden` (MANAGE_STATIC_TOKENS), `Conflict` GONE, `Invalid`.
        """
        need(actor, Permission.MANAGE_STATIC_TOKENS)
        if not actor.organisation.has_below(organisation):
            raise Conflict(Cause.GONE, "there is no such organisation")
        if page < 0 or not 1 <= size <= MOST_ON_A_PAGE:
            raise Invalid(f"a page has 1 to {MOST_ON_A_PAGE} pairs.")
        profile_id = None
        if template:
            found = await self._templates.named(template, organisation.path)
            if found is None or template not in self._templates.names(found.profile):
                return PairPage((), 0)
            profile_id = found.profile.id
        query = PairQuery(
            path=organisation.path,
            profile_id=profile_id,
            state=state,
            skip=page * size,
            limit=size,
        )
        total = await self._store.count_pairs(query)
        records = await self._store.pairs(query) if query.skip < total else ()
        names: dict[int, str] = {}
        for one in records:
            if one.pair.profile_id not in names:
                names[one.pair.profile_id] = await self._template_name(one.pair.profile_id)
        return PairPage([(one, names[one.pair.profile_id]) for one in records], total)

    async def _template_name(self, profile_id: int) -> str:
        profile = await self._store.profile(profile_id)
        return next(iter(self._templates.names(profile)), "") if profile is not None else ""

    async def pairs(self, actor: Actor, query: PairQuery) -> Sequence[StaticTokenRecord]:
        """Pairs, with what is printed of them, for lists and labels.

        Raises `Forbidden` (MANAGE_STATIC_TOKENS or SET_AUTH_TOKEN), `Conflict` GONE.
        """
        self._need_sight(actor)
        if not query.path.startswith(actor.organisation.path):
            raise Conflict(Cause.GONE)
        return await self._store.pairs(query)

    async def pair(self, actor: Actor, number: int) -> StaticTokenRecord | None:
        """The pair of that number, if it was made at or below the actor's organisation."""
        self._need_sight(actor)
        return await self._store.pair(number, actor.organisation.path)

    @staticmethod
    def _need_sight(actor: Actor) -> None:
        if not actor.may(Permission.SET_AUTH_TOKEN):
            need(actor, Permission.MANAGE_STATIC_TOKENS)

    def _event(self, actor: Actor, kind: EventKind, detail: dict[str, str]) -> Event:
        return Event(kind=kind, at=self._clock(), peer=actor.peer, detail=detail)
