"""The audit log in ThingsBoard's shape: `/api/audit/logs`.

What happened is told in our own words in `actionData`; `actionType` is ThingsBoard's nearest.
`actionFailureDetails` says what was wrong and what to do. Rows are sorted by their time alone. The
name of an entity is the one it had; one that was removed has no id any more, unless it was told.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, structs

from gateway.core.advice import next_step, wrong_with
from gateway.core.audit import FOREVER_MS, Audit, AuditEntry, AuditQuery, word_of
from gateway.core.model import Actor, Event, EventKind, Outcome, Permission
from gateway.core.people import People
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import Desk, bad_request, json_reply
from gateway.dialects.thingsboard.admin.words import (
    PAGING,
    entity_id,
    number_of,
    page_of,
    paging_of,
    uuid_of,
)
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

_TAG: Final = "Audit"
_NEEDS: Final = (Permission.AUDIT_VIEW,)
_SORTABLE: Final = ("createdTime",)
_ASSIGNED, _UNASSIGNED = "ASSIGNED_TO_CUSTOMER", "UNASSIGNED_FROM_CUSTOMER"

_TYPES: Final[Mapping[EventKind, str]] = {
    EventKind.DEVICE_ATTRIBUTES: "ATTRIBUTES_UPDATED",
    EventKind.DEVICE_RPC: "RPC_CALL",
    EventKind.DEVICE_CLAIM: _ASSIGNED,
    EventKind.DEVICE_UNCLAIM: _UNASSIGNED,
    EventKind.DEVICE_IMPORT: "ADDED",
    EventKind.AUDIT_SWEEP: "DELETED",
    EventKind.USER_LOGIN: "LOGIN",
    EventKind.USER_LOGOUT: "LOGOUT",
    EventKind.DEVICE_LOGIN: "LOGIN",
    EventKind.HANDSHAKE: "LOGIN",
    EventKind.PROVISION_BLOCK: "LOGIN",
    EventKind.USER_KEY_CREATE: "ADDED",
    EventKind.USER_KEY_REVOKE: "DELETED",
    EventKind.USER_PASSWORD: "CREDENTIALS_UPDATED",
    EventKind.OAUTH_CLIENT_REVOKE: "DELETED",
    EventKind.OAUTH_TOKEN: "LOGIN",
    EventKind.OAUTH_TOKEN_REVOKE: "LOGOUT",
    EventKind.STATIC_TOKEN_CLAIM: _ASSIGNED,
    EventKind.STATIC_TOKEN_UNCLAIM: _UNASSIGNED,
    EventKind.STATIC_TOKEN_REVOKE: "DELETED",
    EventKind.CERTIFICATE_REVOKE: "CREDENTIALS_UPDATED",
    EventKind.DEVICE_EXPIRE: "DELETED",
    EventKind.PROFILE_SECRET_ROTATE: "CREDENTIALS_UPDATED",
    EventKind.SECRET_ADD: "CREDENTIALS_UPDATED",
    EventKind.SECRET_ROTATE: "CREDENTIALS_UPDATED",
    EventKind.SECRET_REVOKE: "CREDENTIALS_UPDATED",
}
_ENTITIES: Final = {
    "device": "DEVICE",
    "certificate": "DEVICE",
    "profile": "DEVICE_PROFILE",
    "admission": "DEVICE_PROFILE",
    "secret": "DEVICE_PROFILE",
    "organisation": "CUSTOMER",
    "user": "USER",
    "role": "ROLE",
    "package": "OTA_PACKAGE",
}
"""By the first word of a kind; all else is the tenant's."""


def action_type(kind: EventKind, outcome: Outcome, *, customer: bool) -> str:
    """ThingsBoard's word for it. `customer`: an assignment to one, not back from one."""
    if kind is EventKind.DEVICE_PROVISION:
        return "PROVISION_FAILURE" if outcome is Outcome.REFUSED else "PROVISION_SUCCESS"
    if kind is EventKind.DEVICE_ASSIGN:
        return _ASSIGNED if customer else _UNASSIGNED
    if kind.value.startswith("device:credentials"):
        return "CREDENTIALS_UPDATED"
    if kind.value.endswith(":create"):
        return "ADDED"
    if kind.value.endswith(":remove"):
        return "DELETED"
    return _TYPES.get(kind, "UPDATED")


def _words() -> dict[str, tuple[str, ...]]:
    """By ThingsBoard's action types what the store knows them by."""
    found: dict[str, list[str]] = {}
    for kind in EventKind:
        for outcome in Outcome:
            for customer in (False, True) if kind is EventKind.DEVICE_ASSIGN else (False,):
                told = action_type(kind, outcome, customer=customer)
                found.setdefault(told, []).append(word_of(kind, outcome, customer=customer))
    return {name: tuple(words) for name, words in found.items()}


_WORDS: Final = _words()

_QUERY: Final = (
    *PAGING,
    Query("startTime", "not before, ms since the epoch", int),
    Query("endTime", "before, ms since the epoch", int),
    Query("actionTypes", f"one or more, with commas: {', '.join(sorted(_WORDS))}"),
)


class AuditLog(Struct, rename="camel"):
    """One row, for the document."""

    id: dict[str, str]
    created_time: int
    tenant_id: dict[str, str]
    customer_id: dict[str, str]
    entity_id: dict[str, str]
    entity_name: str
    user_id: dict[str, str]
    user_name: str
    action_type: str
    action_data: dict[str, Any]
    action_status: str
    action_failure_details: str


class AuditLogs(Struct, rename="camel"):
    data: list[AuditLog]
    total_pages: int
    total_elements: int
    has_next: bool


class AuditRoutes:
    """Whoever may AUDIT_VIEW reads what happened: below the root, to devices in their sight, and
    what their own people did. What is out of sight is an empty page."""

    def __init__(self, audit: Audit, people: People) -> None:
        self._audit = audit
        self._people = people

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        return (
            self._route(desk, "all", "", "Events", {}),
            self._route(
                desk,
                "entity",
                "/entity/{entityType}/{entityId}",
                "Events about one device, profile, customer, user, role or package",
                {"entityType": "DEVICE, DEVICE_PROFILE, …", "entityId": "its UUID"},
            ),
            self._route(
                desk, "user", "/user/{userId}", "What one user did", {"userId": "UUID of the user"}
            ),
            self._route(
                desk,
                "customer",
                "/customer/{customerId}",
                "Events about a customer's devices, and what its people did",
                {"customerId": "UUID of the customer"},
            ),
        )

    def _route(
        self, desk: Desk, name: str, path: str, summary: str, places: Mapping[str, str]
    ) -> Route:
        operation = Operation(
            summary=summary,
            tag=_TAG,
            path=places,
            query=_QUERY,
            answers=answers("A page of events.", AuditLogs, 400, 401, 403),
        )
        http = f"GET /api/audit/logs{path}"
        return desk.route(f"audit.{name}", http, self._page, needs=_NEEDS, operation=operation)

    async def _page(self, call: Call, actor: Actor) -> Reply:
        query = structs.replace(_asked(call), **_place(call.params))
        page = await self._audit.page(actor, query)
        tenant = (await self._people.root()).uuid
        told = structs.replace(page, data=[audit_log(one, tenant) for one in page.data])
        return json_reply(page_of(told, query.page_size))


def _asked(call: Call) -> AuditQuery:
    """Raises `Trouble` (400)."""
    paging = paging_of(call, _SORTABLE)
    # Without a sort the newest come first.
    order = call.query.get("sortOrder", "")
    times = {"least": 0, "most": FOREVER_MS}
    return AuditQuery(
        page=paging.page,
        page_size=paging.page_size,
        descending=paging.descending or not order,
        since=number_of(call.query, "startTime", default=0, **times),
        until=number_of(call.query, "endTime", default=FOREVER_MS, **times),
        words=_chosen(call.query.get("actionTypes", "")),
        text=paging.text,
    )


def _chosen(types: str) -> tuple[str, ...]:
    """The words of the action types. Of one that nothing here is called by there are no events."""
    if not types:
        return ()
    names = [one.strip() for one in types.split(",")]
    for name in names:
        if not (name.isascii() and name.replace("_", "").isalnum()):
            raise bad_request("actionTypes must be names of actions, separated by commas")
    return tuple(word for name in names for word in _WORDS.get(name, (name,)))


def _place(params: Mapping[str, str]) -> dict[str, str]:
    """What the path narrows the events to."""
    if "userId" in params:
        return {"user": uuid_of(params["userId"], "userId")}
    if "customerId" in params:
        return {"customer": uuid_of(params["customerId"], "customerId")}
    if "entityId" in params:
        about = "device" if params["entityType"].upper() == "DEVICE" else "object"
        return {about: uuid_of(params["entityId"], "entityId")}
    return {}


def audit_log(entry: AuditEntry, tenant: str) -> dict[str, Any]:
    """One row as ThingsBoard has it. `tenant` is the UUID of the root organisation."""
    event = entry.event
    refused = event.outcome is Outcome.REFUSED
    given = bool(event.detail.get("customer"))
    return {
        "id": {"id": str(_identity(event))},
        "createdTime": event.at,
        "tenantId": entity_id("TENANT", tenant),
        "customerId": entity_id("CUSTOMER", entry.customer_uuid),
        "entityId": _entity(entry, tenant),
        "entityName": event.subject,
        "userId": entity_id("USER", entry.user_uuid),
        "userName": event.peer.actor or event.peer.address,
        "actionType": action_type(event.kind, event.outcome, customer=given),
        "actionData": _data(event),
        "actionStatus": "FAILURE" if refused else "SUCCESS",
        "actionFailureDetails": _details(event) if refused else "",
    }


def _identity(event: Event) -> uuid.UUID:
    """The UUID of an event: its time and number (version 8, RFC 9562, section 5.8)."""
    at = (event.at & 0xFFFF_FFFF_FFFF).to_bytes(6)
    return uuid.UUID(bytes=at + b"\x80\0" + b"\x80" + event.seq.to_bytes(7))


def _entity(entry: AuditEntry, tenant: str) -> dict[str, str]:
    kind = _ENTITIES.get(entry.event.kind.value.partition(":")[0], "TENANT")
    known = {"DEVICE": entry.device_uuid, "TENANT": tenant}.get(kind, "")
    return entity_id(kind, known or entry.event.object)


def _data(event: Event) -> dict[str, Any]:
    return {
        "event": event.kind.value,
        "outcome": event.outcome.value,
        "reason": event.reason,
        "wire": event.peer.wire.value,
        "address": event.peer.address,
        "request": event.peer.request,
        "number": event.seq,
        **({"detail": dict(event.detail)} if event.detail else {}),
    }


def _details(event: Event) -> str:
    todo = next_step(event.reason, event.subject)
    wrong = wrong_with(event.reason)
    return f"{event.reason}: {wrong}. {todo}" if todo else f"{event.reason}: {wrong}"
