"""Who may do what: each route of the administration, asked by each kind of caller.

`TABLE` has the rows of every route by its name; a route without one fails here, and so does a row
without a route. What a row is about belongs to Acme, or to a customer of Acme's:

- `nobody` shows no token: 401, whatever is asked.
- `lacking` is the tenant's administrator without the permissions the row `needs`: 403, whether what
  is asked about is there or not.
- `other` rules another customer: what is Acme's is not there (404), as if it never was.
- `user` is Acme's CUSTOMER_USER, `right` rules Acme, `parent` rules the tenant.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import msgspec
import pytest
from desk_case import PASSWORD, Answer, DeskCase
from msgspec import Struct

from gateway.core.approvals import ApprovalQuery
from gateway.core.awaiting import REPROVISIONING, Asking
from gateway.core.model import (
    CUSTOMER_USER,
    DeviceProfile,
    HookRule,
    Peer,
    Permission,
    Policy,
    Wire,
)
from gateway.dialects.thingsboard.admin import Administration
from gateway.store.sql_approvals import SqlApprovals
from gateway.wire.route import Route

World: TypeAlias = dict[str, str]
"""What the addresses, queries and bodies of a row name, by the names of the paths' parameters."""
Made: TypeAlias = Callable[[World], Any]
More: TypeAlias = Callable[[DeskCase, World], Awaitable[World]]

P = Permission
ROOM = "thingsboard.admin."
UNKNOWN = "5d0c1a6e-0000-4000-8000-00000000dead"
NEEDS_NOTHING: tuple[Permission, ...] = ()


class Row(Struct, kw_only=True, frozen=True):
    """What each caller is answered. `query` is filled in from the world, `body` made of it.

    `sees`: what `lacking` may not do depends on what is there, which it sees (404 for what is not).
    """

    needs: tuple[Permission, ...] = NEEDS_NOTHING
    query: str = ""
    body: Made | None = None
    lacking: int = 403
    other: int = 404
    user: int = 200
    right: int = 200
    parent: int = 200
    sees: bool = False
    more: More | None = None
    """Adds to the world what this row is about."""


def entity(kind: str, name: str) -> Made:
    return lambda world: {"entityType": kind, "id": world[name]}


def everybody(**row: Any) -> Row:
    """Whoever is logged in."""
    return Row(lacking=200, other=200, **row)


PAGE = "?pageSize=10&page=0"
SEE_DEVICES = (P.ORG_DEVICES_VIEW, P.OWN_DEVICES_VIEW)
SAVE_DEVICES = (P.ORG_DEVICES_CREATE, P.ORG_DEVICES_EDIT, P.OWN_DEVICES_EDIT)
REMOVE_DEVICES = (P.ORG_DEVICES_DELETE, P.OWN_DEVICES_DELETE)

PUBLIC = {"login", "token"}

LOGIN: Mapping[str, tuple[Row, ...]] = {
    "logout": (everybody(),),
    "password.change": (
        # The one that lacks something shows a key for scripts, which has no password.
        Row(
            other=200,
            body=lambda _: {"currentPassword": PASSWORD, "newPassword": "another one of mine"},
        ),
    ),
}

USERS: Mapping[str, tuple[Row, ...]] = {
    "user.self": (everybody(),),
    "user.show": (Row(needs=(P.ORG_VIEW_USERS,), user=403),),
    "user.list": (
        Row(needs=(P.ORG_VIEW_USERS,), query=PAGE, other=200, user=403),
        Row(needs=(P.ORG_VIEW_USERS,), query="?userIds={userId}", other=200, user=403),
    ),
    "user.by_ids": (
        Row(needs=(P.ORG_VIEW_USERS,), query="?userIds={userId}", other=200, user=403),
    ),
    "customer.users": (Row(needs=(P.ORG_VIEW_USERS,), query=PAGE, user=403),),
    "tenant.users": (Row(needs=(P.ORG_VIEW_USERS,), query=PAGE, user=403, right=404),),
    "user.save": (
        Row(
            needs=(P.ORG_INVITE_USERS,),
            user=403,
            body=lambda world: {
                "email": f"{world['word']}@example.com",
                "authority": "CUSTOMER_USER",
                "customerId": entity("CUSTOMER", "customerId")(world),
            },
        ),
        Row(
            needs=(P.ORG_EDIT_USERS,),
            user=403,
            body=lambda world: {
                "id": entity("USER", "userId")(world),
                "email": world["email"],
                "lastName": "Lovelace",
            },
        ),
    ),
    "user.remove": (Row(needs=(P.ORG_DELETE_USERS,), user=403),),
    "user.enable": (
        Row(needs=(P.ORG_EDIT_USERS,), user=403, query="?userCredentialsEnabled=false"),
    ),
}

CUSTOMERS: Mapping[str, tuple[Row, ...]] = {
    "customer.show": (Row(needs=(P.ORG_VIEW,)),),
    "customer.short": (Row(needs=(P.ORG_VIEW,)),),
    "customer.title": (Row(needs=(P.ORG_VIEW,)),),
    "customer.list": (
        Row(needs=(P.ORG_VIEW,), query=PAGE, other=200),
        Row(needs=(P.ORG_VIEW,), query="?customerIds={customerId}", other=200),
    ),
    "customer.by_ids": (Row(needs=(P.ORG_VIEW,), query="?customerIds={customerId}", other=200),),
    "customer.named": (Row(needs=(P.ORG_VIEW,), query="?customerTitle={title}"),),
    "customer.save": (
        Row(
            needs=(P.ORG_CREATE,),
            user=403,
            body=lambda world: {
                "title": world["word"],
                "parentCustomerId": entity("CUSTOMER", "customerId")(world),
            },
        ),
        Row(
            needs=(P.ORG_EDIT,),
            user=403,
            body=lambda world: {
                "id": entity("CUSTOMER", "customerId")(world),
                "title": world["word"],
            },
        ),
    ),
    "customer.remove": (Row(needs=(P.ORG_DELETE,), user=403),),
    "tenant.show": (Row(needs=(P.ORG_VIEW,), user=404, right=404),),
}

DEVICES: Mapping[str, tuple[Row, ...]] = {
    "device.save": (
        Row(needs=SAVE_DEVICES, body=lambda world: {"name": world["word"]}, other=200, user=403),
        Row(
            needs=SAVE_DEVICES,
            body=lambda world: {
                "id": entity("DEVICE", "deviceId")(world),
                "name": world["deviceName"],
                "label": "Roof",
            },
        ),
        Row(
            # Taking it to another customer is more than editing it.
            needs=(P.ORG_DEVICES_SHARE,),
            user=403,
            sees=True,
            body=lambda world: {
                "id": entity("DEVICE", "deviceId")(world),
                "name": world["deviceName"],
                "customerId": entity("CUSTOMER", "customerId")(world),
            },
        ),
    ),
    "device.save_with_credentials": (
        Row(
            needs=SAVE_DEVICES,
            other=200,
            user=403,
            body=lambda world: {
                "device": {"name": world["word"]},
                "credentials": {"credentialsType": "ACCESS_TOKEN", "credentialsId": world["word"]},
            },
        ),
    ),
    "device.show": (Row(needs=SEE_DEVICES),),
    "device.remove": (Row(needs=REMOVE_DEVICES, user=403),),
    "device.assign": (Row(needs=(P.ORG_DEVICES_SHARE,), user=403),),
    "device.unassign": (Row(needs=(P.ORG_DEVICES_SHARE,), user=403),),
    "device.list": (
        Row(needs=SEE_DEVICES, query=PAGE, other=200),
        Row(needs=SEE_DEVICES, query="?deviceName={deviceName}"),
    ),
    "device.named": (Row(needs=SEE_DEVICES, query="?deviceName={deviceName}"),),
    "device.by_ids": (Row(needs=SEE_DEVICES, query="?deviceIds={deviceId}", other=200),),
    "device.types": (Row(needs=SEE_DEVICES, other=200),),
    "device.infos": (Row(needs=SEE_DEVICES, query=PAGE, other=200),),
    "device.info": (Row(needs=SEE_DEVICES),),
    "customer.devices": (Row(needs=SEE_DEVICES, query=PAGE),),
    "customer.device_infos": (Row(needs=SEE_DEVICES, query=PAGE),),
    "device.credentials": (Row(needs=(P.SET_AUTH_TOKEN,)),),
    "device.credentials.save": (
        Row(
            needs=(P.SET_AUTH_TOKEN,),
            body=lambda world: {
                "id": {"id": world["deviceId"]},
                "deviceId": entity("DEVICE", "deviceId")(world),
                "credentialsType": "ACCESS_TOKEN",
                "credentialsId": world["word"],
            },
        ),
    ),
}


async def a_profile(case: DeskCase, world: World) -> World:
    """A device profile of Acme's, which no device has."""
    draft = DeviceProfile(id=0, name=f"p-{world['word']}")
    made = await case.catalogue.save(case.actor("boss"), draft)
    return {"deviceProfileId": made.uuid, "profileName": made.name}


async def an_allow_list(case: DeskCase, world: World) -> World:
    """That of a profile of Acme's."""
    return {**await a_profile(case, world), "list": "allow"}


async def a_provision_profile(case: DeskCase, world: World) -> World:
    """A provision profile of Acme's."""
    answer = await case.post("/api/device/provision", {}, as_="boss")
    assert answer.status == 200, answer.text
    return {"id": answer.json["id"]["id"]}


async def a_stored_call(case: DeskCase, world: World) -> World:
    """A call that waits for Acme's device."""
    answer = await case.post(f"/api/rpc/oneway/{world['deviceId']}", STORED)
    assert answer.status == 200, answer.text
    return {"rpcId": answer.json["rpcId"]}


async def an_attribute(case: DeskCase, world: World) -> World:
    """Acme's device has one, and a reading."""
    path = f"/api/plugins/telemetry/DEVICE/{world['deviceId']}"
    for place in ("attributes/SERVER_SCOPE", "timeseries/ANY"):
        answer = await case.post(f"{path}/{place}", {"key": 1})
        assert answer.status == 200, answer.text
    return {"scope": "SERVER_SCOPE", "ttl": "60"}


STORED = {"method": "m", "params": {}, "persistent": True}
EDIT_DEVICES = (P.ORG_DEVICES_EDIT, P.OWN_DEVICES_EDIT)
SEE_PROFILES = (P.PRODUCT_VIEW,)
EDIT_PROFILES = (P.PRODUCT_EDIT,)


def profile(**row: Any) -> Row:
    return Row(needs=EDIT_PROFILES, user=403, more=a_profile, **row)


PROFILES: Mapping[str, tuple[Row, ...]] = {
    "profile.show": (Row(needs=SEE_PROFILES, user=403, more=a_profile),),
    "profile.list": (Row(needs=SEE_PROFILES, query=PAGE, user=403, other=200),),
    "profile.names": (Row(needs=SEE_PROFILES, user=403, other=200),),
    "profile.infos": (
        Row(needs=SEE_PROFILES, query=PAGE, user=403, other=200),
        Row(
            needs=SEE_PROFILES,
            query="?deviceProfileIds={deviceProfileId}",
            user=403,
            other=200,
            more=a_profile,
        ),
    ),
    "profile.info.default": (Row(needs=SEE_PROFILES, user=403, other=200),),
    # Its device is Acme's, so that its user sees the short form of a profile it does not see.
    "profile.info": (Row(needs=(*SEE_PROFILES, *SEE_DEVICES)),),
    "profile.save": (
        profile(
            other=200,
            body=lambda world: {
                "name": world["word"],
                "type": "DEFAULT",
                "transportType": "DEFAULT",
            },
        ),
        profile(
            body=lambda world: {
                "id": entity("DEVICE_PROFILE", "deviceProfileId")(world),
                "name": world["word"],
                "type": "DEFAULT",
                "transportType": "DEFAULT",
            },
        ),
    ),
    "profile.remove": (profile(),),
    "profile.default": (profile(),),
    "provision_profile.list": (Row(needs=SEE_PROFILES, query=PAGE, user=403, other=200),),
    "provision_profile.show": (Row(needs=SEE_PROFILES, user=403, more=a_provision_profile),),
    "provision_profile.remove": (Row(needs=EDIT_PROFILES, user=403, more=a_provision_profile),),
    "provision_profile.save": (
        Row(needs=EDIT_PROFILES, user=403, other=200, body=lambda _: {}),
        Row(
            needs=EDIT_PROFILES,
            user=403,
            more=a_provision_profile,
            body=lambda world: {"id": entity("DEVICE_PROFILE", "id")(world)},
        ),
    ),
}

DATA: Mapping[str, tuple[Row, ...]] = {
    "attributes.save": (Row(needs=EDIT_DEVICES, more=an_attribute, body=lambda _: {"k": 1}),),
    "attributes.delete": (Row(needs=EDIT_DEVICES, more=an_attribute, query="?keys=key"),),
    "attributes.keys": (Row(needs=SEE_DEVICES, more=an_attribute),),
    "attributes.values": (Row(needs=SEE_DEVICES, more=an_attribute),),
    "telemetry.keys": (Row(needs=SEE_DEVICES, more=an_attribute),),
    "telemetry.values": (Row(needs=SEE_DEVICES, more=an_attribute, query="?keys=key"),),
    "telemetry.save": (Row(needs=EDIT_DEVICES, more=an_attribute, body=lambda _: {"k": 1}),),
    "telemetry.delete": (
        Row(needs=EDIT_DEVICES, more=an_attribute, query="?keys=key&deleteAllDataForKeys=true"),
    ),
    "device.bulk_import": (
        Row(
            needs=(P.ORG_DEVICES_CREATE,),
            user=403,
            other=200,
            body=lambda world: {
                "file": f"NAME\n{world['word']}\n",
                "mapping": {"columns": [{"type": "NAME"}]},
            },
        ),
    ),
    "device.claim": (
        # Nothing is offered, and whose the device is makes no difference; the tenant claims none.
        Row(
            needs=(P.DEVICES_CLAIM,), other=400, user=400, right=400, parent=403, body=lambda _: {}
        ),
    ),
    "device.reclaim": (Row(needs=(P.DEVICES_CLAIM,)),),
}

CALLS: Mapping[str, tuple[Row, ...]] = {
    **{
        f"rpc.{kind}.{version}": (Row(needs=(P.RPC_CALL,), body=lambda _: STORED),)
        for kind in ("oneway", "twoway")
        for version in ("v1", "v2")
    },
    "rpc.persistent.get": (Row(needs=(P.RPC_CALL,), more=a_stored_call),),
    "rpc.persistent.list": (
        Row(needs=(P.RPC_CALL,), query=f"{PAGE}&rpcStatus=QUEUED", more=a_stored_call),
    ),
    "rpc.persistent.delete": (Row(needs=(P.RPC_CALL,), more=a_stored_call),),
}


async def about_a_device(case: DeskCase, world: World) -> World:
    return {"entityType": "DEVICE", "entityId": world["deviceId"]}


AUDIT: Mapping[str, tuple[Row, ...]] = {
    # What is out of sight is an empty page.
    "audit.all": (Row(needs=(P.AUDIT_VIEW,), query=PAGE, user=403, other=200),),
    "audit.entity": (
        Row(needs=(P.AUDIT_VIEW,), query=PAGE, user=403, other=200, more=about_a_device),
    ),
    "audit.user": (Row(needs=(P.AUDIT_VIEW,), query=PAGE, user=403, other=200),),
    "audit.customer": (Row(needs=(P.AUDIT_VIEW,), query=PAGE, user=403, other=200),),
}


async def a_secret(case: DeskCase, world: World) -> World:
    """A group secret of a profile of Acme's, in quarantine."""
    at = await a_profile(case, world)
    body = {"deviceProfileId": {"id": at["deviceProfileId"]}, "label": "b", "derived": True}
    added = await case.post("/api/gatehouse/secrets", body, as_="boss")
    assert added.status == 200, added.text
    number = str(added.json["id"])
    held = await case.post(f"/api/gatehouse/secrets/{number}/quarantine", {}, as_="boss")
    assert held.status == 200, held.text
    return {**at, "id": number}


def secret(**row: Any) -> Row:
    return Row(needs=EDIT_PROFILES, user=403, more=a_secret, **row)


SECRETS: Mapping[str, tuple[Row, ...]] = {
    "secret.list": (
        Row(needs=SEE_PROFILES, user=403, other=200),
        Row(
            needs=SEE_PROFILES, query="?deviceProfileId={deviceProfileId}", user=403, more=a_secret
        ),
    ),
    "secret.add": (
        secret(
            body=lambda world: {
                "deviceProfileId": {"id": world["deviceProfileId"]},
                "label": world["word"],
            }
        ),
    ),
    "secret.show": (Row(needs=SEE_PROFILES, user=403, more=a_secret),),
    # Its user sees devices, but no fleet secret.
    "secret.devices": (Row(needs=(P.ORG_DEVICES_VIEW,), user=403, more=a_secret),),
    "secret.bound": (secret(body=lambda _: {"maxUses": 5}),),
    "secret.rotate": (secret(body=lambda _: {"overlapMs": 0}),),
    "secret.revoke": (secret(),),
    "secret.quarantine": (secret(body=lambda _: {"since": 5}),),
    "secret.release": (secret(),),
    "secret.derive": (secret(body=lambda _: {"names": ["d"]}),),
}

ADMISSION: Mapping[str, tuple[Row, ...]] = {
    "admission.counts": (Row(needs=SEE_PROFILES, user=403, more=a_profile),),
    "admission.list": (Row(needs=SEE_PROFILES, query=PAGE, user=403, more=an_allow_list),),
    "admission.add": (
        Row(needs=EDIT_PROFILES, user=403, more=an_allow_list, body=lambda _: {"entries": []}),
    ),
    "admission.remove": (
        Row(needs=EDIT_PROFILES, user=403, more=an_allow_list, body=lambda _: {"entries": []}),
    ),
}


async def an_approval(case: DeskCase, world: World) -> World:
    """A device that waits for an operator's word, of a profile of Acme's."""
    draft = DeviceProfile(id=0, name=f"p-{world['word']}")
    asking = Asking(
        profile=await case.catalogue.save(case.actor("boss"), draft),
        name=f"waits-{world['word']}",
        kind=REPROVISIONING,
        binding=None,
        hardware=None,
        peer=Peer(Wire.COAP, "192.0.2.7:5683"),
        at=case.clock(),
    )
    queue = SqlApprovals(case.store)
    await queue.await_approval(asking)
    [waits] = (await queue.approvals(ApprovalQuery(names=(asking.name,)), "/")).data
    return {"approvalId": str(waits.id)}


async def a_hooked_profile(case: DeskCase, world: World) -> World:
    """A profile of Acme's with an after-hook."""
    after = HookRule(url="http://127.0.0.1:9/after", secret_env="BIRTH_HOOK_SECRET")
    draft = DeviceProfile(id=0, name=f"h-{world['word']}", policy=Policy(after=after))
    profile = await case.catalogue.save(case.actor("boss"), draft)
    return {"deviceProfileId": profile.uuid}


def approval(**row: Any) -> Row:
    return Row(needs=(P.PROVISION_DEVICES,), user=403, more=an_approval, **row)


APPROVALS: Mapping[str, tuple[Row, ...]] = {
    # What is out of sight is an empty page.
    "approval.list": (approval(query=PAGE, other=200),),
    "approval.approve": (approval(),),
    "approval.deny": (approval(),),
    "approval.forget": (approval(),),
}

HOOKS: Mapping[str, tuple[Row, ...]] = {
    "hook.list": (Row(needs=SEE_PROFILES, user=403, other=200),),
    # Its user sees devices, but no profile of them.
    "hook.dead": (Row(needs=(P.ORG_DEVICES_VIEW,), user=403, more=a_hooked_profile),),
    "hook.replay": (Row(needs=EDIT_PROFILES, user=403, more=a_hooked_profile),),
    "hook.drop": (
        Row(
            needs=EDIT_PROFILES,
            user=403,
            body=lambda _: {"waiting": True},
            more=a_hooked_profile,
        ),
    ),
}

TABLE: Mapping[str, tuple[Row, ...]] = {
    **HOOKS,
    **APPROVALS,
    **ADMISSION,
    **SECRETS,
    **LOGIN,
    **USERS,
    **CUSTOMERS,
    **DEVICES,
    **PROFILES,
    **DATA,
    **CALLS,
    **AUDIT,
}

CASES = [(name, number) for name, rows in TABLE.items() for number in range(len(rows))]
CALLERS = ("nobody", "lacking", "other", "user", "boss", "admin")
_count = itertools.count(1)


def names_of(administration: Administration) -> set[str]:
    return {route.name.removeprefix(ROOM) for route in administration.routes()}


async def new_world(case: DeskCase, row: Row) -> World:
    """A device, a user and a customer of Acme's that nobody has touched; and the row's own."""
    word = f"w{next(_count)}"
    acme = case.organisations["Acme"]
    customer = await case.people.save_organisation(case.operator, name=f"c-{word}", parent=acme)
    user = await case.user(f"u-{word}", acme, CUSTOMER_USER)
    device = await case.device(f"d-{word}", "Acme")
    world = {
        "word": word,
        "customerId": customer.uuid,
        "title": customer.name,
        "userId": user.uuid,
        "email": user.email,
        "tenantId": case.operator.organisation.uuid,
        "deviceId": device.device.uuid,
        "deviceName": device.device.name,
        "deviceProfileId": device.profile_uuid,
    }
    return {**world, **(await row.more(case, world) if row.more is not None else {})}


def routes_of(case: DeskCase, name: str) -> list[tuple[Route, str]]:
    """The route of that name, once for each of its addresses."""
    routes = [one for one in case.administration.routes() if one.name == f"{ROOM}{name}"]
    return [(route, address) for route in routes for address in route.http]


async def ask(
    case: DeskCase,
    at: tuple[Route, str],
    row: Row,
    world: World,
    *,
    as_: str | None,
    key: str = "",
) -> tuple[int, str]:
    """The status, and the message where there is one, without the names of the world.

    The answer must be one that the route's operation tells of.
    """
    route, address = at
    method, _, path = address.partition(" ")
    path = path.format_map(world) + row.query.format_map(world)
    body = row.body(world) if row.body is not None else None
    headers = {"X-Authorization": key} if key else None
    answer = await case.call(method, path, body, as_=as_, headers=headers)
    prove_told(route, answer)
    message = _message(answer) if answer.status >= 400 else ""
    for value in world.values():
        message = message.replace(value, "*")
    return answer.status, message


def _message(answer: Answer) -> str:
    """Claims that fail are told in a word."""
    told = answer.json
    return str(told["message"] if isinstance(told, dict) else told)


def prove_told(route: Route, answer: Answer) -> None:
    """The status is one of the operation's, and the body what it says of that status."""
    assert route.operation is not None
    told = route.operation.answers[answer.status]
    if told.body is None:
        assert answer.text == ""
    elif not told.media:
        msgspec.json.decode(answer.text, type=told.body)


def lost(world: World) -> World:
    """The same with ids and names of what never was."""
    kept = {"tenantId", "word", "scope", "ttl", "entityType"}
    return {
        name: value if name in kept else UNKNOWN if _is_uuid(value) else f"no-{value}"
        for name, value in world.items()
    }


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


async def test_every_route_has_rows_and_every_row_a_route(case):
    """No route goes untested: who adds one says here who may use it."""
    assert names_of(case.administration) == set(TABLE) | PUBLIC


@pytest.mark.parametrize(("name", "number"), CASES)
async def test_each_caller_is_answered_as_the_table_says(case, name, number):
    """Nobody, the wrong organisation, the parent, a customer's user, one lacking the permission,
    and the right one: 401, 403, 404 and 200 as section 17 has them; and who is refused cannot tell
    whether what is asked about exists."""
    row = TABLE[name][number]
    key = await case.key_without("admin", *row.needs)
    for at in routes_of(case, name):
        worlds = {caller: await new_world(case, row) for caller in CALLERS}
        told = {
            "nobody": await ask(case, at, row, worlds["nobody"], as_=None),
            "lacking": await ask(case, at, row, worlds["lacking"], as_=None, key=key),
            **{who: await ask(case, at, row, worlds[who], as_=who) for who in CALLERS[2:]},
        }
        assert {caller: status for caller, (status, _) in told.items()} == {
            "nobody": 401,
            "lacking": row.lacking,
            "other": row.other,
            "user": row.user,
            "boss": row.right,
            "admin": row.parent,
        }, f"{at[1]}: {told}"
        unknown = lost(await new_world(case, row))
        if row.lacking == 403 and not row.sees:
            assert told["lacking"] == await ask(case, at, row, unknown, as_=None, key=key)
        if row.other == 404:
            assert told["other"] == await ask(case, at, row, unknown, as_="other")


async def test_the_document_knows_every_route(case):
    """Each operation says what is asked and answered, in types a schema can be made of."""
    for route in case.administration.routes():
        told = route.operation
        assert told is not None, route.name
        assert told.summary, route.name
        assert told.tag, route.name
        kinds = [told.body, *(one.type for one in told.query)]
        kinds += [one.body for one in told.answers.values()]
        msgspec.json.schema_components([kind for kind in kinds if kind is not None])
        assert told.public or 401 in told.answers, route.name
