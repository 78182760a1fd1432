"""`SqlApprovals`: what waiting for an operator needs, in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.approvals import ApprovalQuery
from gateway.core.awaiting import Asking, Standing
from gateway.core.model import Approval, ApprovalState, Event, Page
from gateway.store.approvals import (
    AwaitApproval,
    DecideApprovals,
    ForgetApprovals,
    approval_from_row,
)
from gateway.store.queries import listed
from gateway.store.sql_people import at_or_below
from gateway.store.sql_store import SqlStore


class SqlApprovals:
    """Implements `core.awaiting.ApprovalStore` and `core.approvals.QueueStore`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store.driver
        self._writer = store.writer

    async def await_approval(self, asking: Asking) -> Standing:
        bound = asking.binding
        digest = self._store.vault.digest(f"approval|{bound.bound.reveal()}") if bound else b""
        return await self._writer.submit(AwaitApproval(asking, digest))

    async def approvals(self, query: ApprovalQuery, path: str) -> Page[Approval]:
        where = (
            at_or_below(path),
            "" if query.state is None else query.state.value,
            query.profile_id or 0,
            "" if query.names is None else "named",
            listed(query.names or ()),
            query.after_id,
        )
        total = int((await self._driver.rows("count_approvals", *where))[0][0])
        skip = query.page * query.page_size
        rows = await self._driver.rows("approvals", *where, query.page_size, skip)
        found = [approval_from_row(row) for row in rows]
        return Page(data=found, total=total, has_next=total > skip + len(found) and bool(found))

    async def approval(self, number: int, path: str) -> Approval | None:
        numbers = listed([number])
        row = await self._driver.point("approvals_numbered", numbers, at_or_below(path))
        return None if row is None else approval_from_row(row)

    async def decide_approvals(
        self, numbers: Sequence[int], state: ApprovalState, path: str, event: Event
    ) -> list[Approval]:
        decision = DecideApprovals(numbers, state, at_or_below(path), event)
        return await self._writer.submit(decision)

    async def forget_approvals(
        self, numbers: Sequence[int], path: str, event: Event
    ) -> list[Approval]:
        return await self._writer.submit(ForgetApprovals(numbers, at_or_below(path), event))
