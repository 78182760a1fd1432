"""Devices that wait for an operator's word: listed, approved, denied. ThingsBoard has no such."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from gateway.core.approvals import ApprovalQuery, Approvals
from gateway.core.model import Actor, Approval, ApprovalState, Page, Permission
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import Desk, bad_request, json_reply, not_found
from gateway.dialects.thingsboard.admin.words import (
    MOST_PER_PAGE,
    PageAnswer,
    number_of,
    page_of,
)
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

_TAG: Final = "Approvals"
_NEEDS: Final = (Permission.PROVISION_DEVICES,)
_STATES: Final = {one.name: one for one in ApprovalState}
_PATH: Final = {"approvalId": "number of the approval"}
_ALL: Final = "/api/gatehouse/approvals"
_ONE: Final = f"{_ALL}/{{approvalId}}"
_QUERY: Final = (
    Query("pageSize", "rows on a page, 1 to 1000", int, required=True, example=10),
    Query("page", "which page, from 0", int, required=True, example=0),
    Query("state", f"{', '.join(_STATES)}; left out: all"),
    Query("deviceName", "the device of this name alone"),
)
Decide: TypeAlias = Callable[[Actor, Sequence[int]], Awaitable[list[Approval]]]


class ApprovalAnswer(Struct, rename="camel", kw_only=True):
    """A device that asked. `bound`: the request is bound to its asker, and so is a yes."""

    id: int
    device_name: str
    profile_name: str
    organisation_name: str
    kind: str
    state: str
    bound: bool
    wire: str
    address: str
    hardware: Any
    created_time: int
    last_time: int
    tries: int
    decided_by: str | None
    decided_time: int | None


class ApprovalRoutes:
    """For whoever may PROVISION_DEVICES: those of their organisation and below it."""

    def __init__(self, approvals: Approvals) -> None:
        self._approvals = approvals

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        return (
            desk.route(
                "approval.list",
                f"GET {_ALL}",
                self._page,
                needs=_NEEDS,
                operation=Operation(
                    summary="Devices that wait for an operator's word",
                    about="In the order they first asked. A profile with `approval = true` in its "
                    '`[admission]` table, or with `reprovisioning = "approval"`, has such.',
                    tag=_TAG,
                    query=_QUERY,
                    answers=answers("A page of them.", PageAnswer[ApprovalAnswer], 400, 401, 403),
                ),
            ),
            self._decision(
                desk,
                "approve",
                f"POST {_ONE}/approve",
                self._approvals.approve,
                "Let a device in when it asks the next time",
            ),
            self._decision(
                desk,
                "deny",
                f"POST {_ONE}/deny",
                self._approvals.deny,
                "Refuse a device for as long as it asks",
            ),
            self._decision(
                desk,
                "forget",
                f"DELETE {_ONE}",
                self._approvals.forget,
                "Clear a device's place, whatever was decided",
            ),
        )

    def _decision(self, desk: Desk, name: str, http: str, decide: Decide, summary: str) -> Route:
        async def answer(call: Call, actor: Actor) -> Reply:
            before = await self._approvals.find(actor, _number(call.params["approvalId"]))
            if before is None:
                raise not_found()
            changed = await decide(actor, [before.id])
            return json_reply(approval_answer(changed[0] if changed else before))

        return desk.route(
            f"approval.{name}",
            http,
            answer,
            needs=_NEEDS,
            operation=Operation(
                summary=summary,
                tag=_TAG,
                path=_PATH,
                answers=answers(
                    "The device, as it stands now or stood last.",
                    ApprovalAnswer,
                    401,
                    403,
                    404,
                ),
            ),
        )

    async def _page(self, call: Call, actor: Actor) -> Reply:
        query = call.query
        state = query.get("state", "").upper()
        if state and state not in _STATES:
            raise bad_request(f"state must be one of {', '.join(_STATES)}")
        name = query.get("deviceName", "")
        size = number_of(query, "pageSize", least=1, most=MOST_PER_PAGE)
        found = await self._approvals.page(
            actor,
            ApprovalQuery(
                state=_STATES.get(state),
                names=(name,) if name else None,
                page=number_of(query, "page", least=0, most=10**9),
                page_size=size,
            ),
        )
        told = Page(
            data=[approval_answer(one) for one in found.data],
            total=found.total,
            has_next=found.has_next,
        )
        return json_reply(page_of(told, size))


def _number(text: str) -> int:
    """0, which none has, for what is no number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def approval_answer(approval: Approval) -> ApprovalAnswer:
    """As it is told."""
    hardware = approval.hardware
    return ApprovalAnswer(
        id=approval.id,
        device_name=approval.name,
        profile_name=approval.profile_name,
        organisation_name=approval.organisation_name,
        kind=approval.kind.name,
        state=approval.state.name,
        bound=approval.bound,
        wire=approval.wire.value,
        address=approval.address,
        hardware=None if hardware is None else msgspec.Raw(hardware.text.encode()),
        created_time=approval.asked_at,
        last_time=approval.last_at,
        tries=approval.tries,
        decided_by=approval.decided_by or None,
        decided_time=approval.decided_at,
    )
