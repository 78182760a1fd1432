"""Fleet secrets: several for each profile. Not ThingsBoard's, which has one, our `default`.

A pair is told once, to who made it; later `gatehouse secret show --reveal` tells it beside the
store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.core.errors import KeyTaken
from gateway.core.fleet_secrets import derived_key
from gateway.core.model import Actor, DeviceProfile, FleetTicket, Permission, Secret
from gateway.core.names import is_device_name
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import (
    Desk,
    bad_request,
    body_of,
    json_reply,
    not_found,
)
from gateway.dialects.thingsboard.admin.profiles import EDIT, SEE
from gateway.dialects.thingsboard.admin.secret_shapes import (
    BoundsBody,
    DeriveBody,
    DerivedKey,
    PairAnswer,
    QuarantineBody,
    RadiusAnswer,
    RotateBody,
    SecretAnswer,
    SecretBody,
    SuspendedAnswer,
    borne_answer,
    bounds_of,
    pair_answer,
    secret_answer,
)
from gateway.dialects.thingsboard.admin.words import number_of, uuid_of
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.core.catalogue import Catalogue
    from gateway.core.fleet_custody import FleetSecrets

_MOST_LISTED: Final = 1_000
_MOST_NUMBER: Final = 2**63 - 1
_MOST_DIGITS: Final = 18
_KEY_TAKEN: Final = "another secret has this key already"


class SecretRoutes:
    """Of profiles at or below the caller's organisation."""

    def __init__(self, secrets: FleetSecrets, catalogue: Catalogue) -> None:
        self._secrets = secrets
        self._catalogue = catalogue

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        rows = (
            ("list", f"GET {_ALL}", self._list, SEE, _LIST),
            ("add", f"POST {_ALL}", self._add, EDIT, _ADD),
            ("show", f"GET {_ONE}", self._show, SEE, _SHOW),
            ("devices", f"GET {_ONE}/devices", self._devices, _DEVICES_SEEN, _DEVICES),
            ("bound", f"POST {_ONE}/bounds", self._bound, EDIT, _BOUND),
            ("rotate", f"POST {_ONE}/rotate", self._rotate, EDIT, _ROTATE),
            ("revoke", f"POST {_ONE}/revoke", self._revoke, EDIT, _REVOKE),
            ("quarantine", f"POST {_ONE}/quarantine", self._quarantine, EDIT, _QUARANTINE),
            ("release", f"POST {_ONE}/release", self._release, EDIT, _RELEASE),
            ("derive", f"POST {_ONE}/derive", self._derive, EDIT, _DERIVE),
        )
        return tuple(
            desk.route(f"secret.{name}", http, handler, needs=needs, operation=operation)
            for name, http, handler, needs, operation in rows
        )

    # ── looking ─────────────────────────────────────────────────────────────────────────────

    async def _list(self, call: Call, actor: Actor) -> Reply:
        profile = None
        if call.query.get("deviceProfileId"):
            profile = await self._profile(actor, call.query["deviceProfileId"])
        after = number_of(call.query, "after", least=0, most=_MOST_NUMBER, default=0)
        found = await self._secrets.listed(
            actor, profile=profile, after_id=after, limit=_MOST_LISTED
        )
        return json_reply([secret_answer(one) for one in found])

    async def _show(self, call: Call, actor: Actor) -> Reply:
        return json_reply(secret_answer(await self._found(call, actor)))

    async def _devices(self, call: Call, actor: Actor) -> Reply:
        ticket, query = await self._found(call, actor), call.query
        limit = number_of(query, "limit", least=1, most=1_000, default=100)
        since = number_of(query, "since", least=0, most=_MOST_NUMBER, default=0)
        after = number_of(query, "after", least=0, most=_MOST_NUMBER, default=0)
        found = await self._secrets.blast_radius(
            actor, ticket, since=since, after_id=after, limit=limit
        )
        return json_reply(
            RadiusAnswer(
                count=await self._secrets.count_borne(actor, ticket, since=since),
                data=[borne_answer(one) for one in found],
                next=found[-1].id if len(found) == limit else None,
            )
        )

    async def _profile(self, actor: Actor, text: str) -> DeviceProfile:
        """A device profile or provision profile in sight."""
        identity, catalogue = uuid_of(text, "deviceProfileId"), self._catalogue
        found = await catalogue.find(actor, identity)
        found = found or await catalogue.find_provision(actor, identity)
        if found is None:
            raise not_found()
        return found

    async def _found(self, call: Call, actor: Actor) -> FleetTicket:
        text = call.params["id"]
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
            raise not_found()
        found = await self._secrets.find(actor, int(text))
        if found is None:
            raise not_found()
        return found

    # ── changing ────────────────────────────────────────────────────────────────────────────

    async def _add(self, call: Call, actor: Actor) -> Reply:
        body = body_of(call, SecretBody)
        profile = await self._profile(actor, body.device_profile_id.id)
        try:
            added = await self._secrets.add(
                actor,
                profile,
                body.label,
                bounds=bounds_of(body),
                derived=body.derived,
                key=None if body.key is None else Secret(body.key),
                secret=None if body.secret is None else Secret(body.secret),
            )
        except KeyTaken:
            raise bad_request(_KEY_TAKEN) from None
        return json_reply(pair_answer(added))

    async def _rotate(self, call: Call, actor: Actor) -> Reply:
        ticket = await self._found(call, actor)
        body = body_of(call, RotateBody) if call.body else RotateBody()
        made = await self._secrets.rotate(
            actor,
            ticket,
            label=body.label,
            overlap_ms=body.overlap_ms,
            expires_at=body.expires_at,
        )
        return json_reply(pair_answer(made))

    async def _bound(self, call: Call, actor: Actor) -> Reply:
        ticket = await self._found(call, actor)
        await self._secrets.bound(actor, ticket, bounds_of(body_of(call, BoundsBody)))
        return await self._show(call, actor)

    async def _revoke(self, call: Call, actor: Actor) -> Reply:
        await self._secrets.revoke(actor, await self._found(call, actor))
        return await self._show(call, actor)

    async def _quarantine(self, call: Call, actor: Actor) -> Reply:
        ticket = await self._found(call, actor)
        body = body_of(call, QuarantineBody) if call.body else QuarantineBody()
        count = await self._secrets.quarantine(actor, ticket, since=body.since)
        return json_reply(SuspendedAnswer(count))

    async def _release(self, call: Call, actor: Actor) -> Reply:
        ticket = await self._found(call, actor)
        if ticket.quarantined_since is None:
            raise bad_request(f"secret {ticket.label} is in no quarantine")
        await self._secrets.release(actor, ticket)
        return await self._show(call, actor)

    async def _derive(self, call: Call, actor: Actor) -> Reply:
        ticket, body = await self._found(call, actor), body_of(call, DeriveBody)
        if not ticket.derived:
            raise bad_request(f"secret {ticket.label} is shared by all its devices")
        names = [name.strip() for name in body.names]
        if not all(map(is_device_name, names)):
            raise bad_request("names must be device names: 1 to 255 plain characters")
        keys = ((name, derived_key(ticket.secret, name).reveal()) for name in names)
        return json_reply([DerivedKey(name, key) for name, key in keys])


# ── for the document ──────────────────────────────────────────────────────────────────────────

_ALL: Final = "/api/gatehouse/secrets"
_ONE: Final = "/api/gatehouse/secrets/{id}"
_TAG: Final = "fleet secrets"
_PATH: Final = {"id": "the secret's number"}
_DEVICES_SEEN: Final = (Permission.ORG_DEVICES_VIEW,)

_LIST: Final = Operation(
    summary="Fleet secrets",
    tag=_TAG,
    about="In the order of their numbers, at most 1000; never the pairs themselves.",
    query=(
        Query("deviceProfileId", "of this device profile alone"),
        Query("after", "those with greater numbers", int),
    ),
    answers=answers("They are.", list[SecretAnswer], 400, 401, 403, 404),
)
_ADD: Final = Operation(
    summary="Add a fleet secret to a device profile",
    tag=_TAG,
    about=(
        "One more pair, beside the one of the profile (`default`). With `derived` it is a group "
        "secret: a device shows base64 of HMAC-SHA-256(group secret, its name) in its place. The "
        "pair is told this once."
    ),
    body=SecretBody,
    body_example={
        "deviceProfileId": {"id": "0192f0c0-1111-7000-8000-000000000000"},
        "label": "factory-b",
        "maxUses": 500,
        "networks": ["198.51.100.0/24"],
    },
    answers=answers("It is, with its pair.", PairAnswer, 400, 401, 403, 404),
)
_SHOW: Final = Operation(
    summary="A fleet secret",
    tag=_TAG,
    path=_PATH,
    answers=answers("Without its pair.", SecretAnswer, 400, 401, 403, 404),
)
_DEVICES: Final = Operation(
    summary="The devices that a fleet secret bore",
    tag=_TAG,
    path=_PATH,
    query=(
        Query("since", "those it bore since then, in milliseconds", int),
        Query("limit", "at most so many, 1 to 1000", int, example=100),
        Query("after", "those with greater numbers: `next` of the answer before", int),
    ),
    answers=answers("How many in all, and some of them.", RadiusAnswer, 400, 401, 403, 404),
)
_BOUND: Final = Operation(
    summary="Give a fleet secret other bounds",
    tag=_TAG,
    path=_PATH,
    body=BoundsBody,
    body_example={"expiresAt": 1893456000000, "networks": ["10.0.0.0/8"]},
    answers=answers("As it is now.", SecretAnswer, 400, 401, 403, 404),
)
_ROTATE: Final = Operation(
    summary="Make a new pair beside a fleet secret, which ends after an overlap",
    tag=_TAG,
    path=_PATH,
    body=RotateBody,
    body_required=False,
    body_example={"overlapMs": 604800000},
    answers=answers("The new one, with its pair.", PairAnswer, 400, 401, 403, 404),
)
_REVOKE: Final = Operation(
    summary="Revoke a fleet secret",
    tag=_TAG,
    about="It admits nobody any more; the devices it bore stay.",
    path=_PATH,
    answers=answers("As it is now.", SecretAnswer, 400, 401, 403, 404),
)
_QUARANTINE: Final = Operation(
    summary="Suspend the devices that a fleet secret bore",
    tag=_TAG,
    about=(
        "Their credentials are refused and their connections end, and it admits nobody, until it "
        "is released."
    ),
    path=_PATH,
    body=QuarantineBody,
    body_required=False,
    body_example={"since": 1790000000000},
    answers=answers("How many they are.", SuspendedAnswer, 400, 401, 403, 404),
)
_RELEASE: Final = Operation(
    summary="End the quarantine of a fleet secret",
    tag=_TAG,
    path=_PATH,
    answers=answers("As it is now.", SecretAnswer, 400, 401, 403, 404),
)
_DERIVE: Final = Operation(
    summary="Keys of devices, out of a group secret",
    tag=_TAG,
    path=_PATH,
    body=DeriveBody,
    body_example={"names": ["meter-1", "meter-2"]},
    answers=answers("One for each name.", list[DerivedKey], 400, 401, 403, 404),
)
