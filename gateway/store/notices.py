"""Notices: written with a change, read by every gateway on the same store."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from gateway.core.model import AttributesChange, Notice, NoticeKind, Order, Value
from gateway.store.driver import Row, Transaction


class _Body(Struct, omit_defaults=True):
    """The `body` column. A value is None where JSON cannot say it: a number that is none."""

    values: dict[str, Value | None] = {}
    deleted: tuple[str, ...] = ()
    call_id: int = 0
    generation: int = 0
    order: Order | None = None
    argument: str = ""
    client_id: int = 0
    ticket_id: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Body).decode


def body_of(change: AttributesChange | None, call_id: int = 0, generation: int = 0) -> str:
    """The `body` column."""
    if change is not None:
        return _encode(_Body(dict(change.values), change.deleted)).decode()
    if call_id or generation:
        return _encode(_Body(call_id=call_id, generation=generation)).decode()
    return ""


async def notify(
    tx: Transaction,
    kind: NoticeKind,
    at: int,
    *,
    device_id: int | None = None,
    profile_id: int | None = None,
    change: AttributesChange | None = None,
    call_id: int = 0,
    generation: int = 0,
    order: Order | None = None,
    argument: str = "",
    client_id: int = 0,
    ticket_id: int = 0,
) -> None:
    """Write a notice into this transaction."""
    body = body_of(change, call_id, generation)
    if order is not None:
        body = _encode(_Body(order=order, argument=argument)).decode()
    elif client_id:
        body = _encode(_Body(client_id=client_id)).decode()
    elif ticket_id:
        body = _encode(_Body(ticket_id=ticket_id)).decode()
    # The row of the sequence stays ours until the commit, so nobody is told a later one first.
    seq = (await tx.fetch("next_ids", "notice", 1))[0][0]
    row = (seq, at, kind.value, device_id, profile_id, body)
    await tx.insert_rows("insert_notices", [row])


def notice_from_row(row: Row) -> Notice:
    """`seq, at, kind, device_id, profile_id, body` as a notice."""
    seq, at, kind, device_id, profile_id, text = row
    body = _decode(text) if text else _Body()
    change = None
    if text and kind in (NoticeKind.ATTRIBUTES, NoticeKind.PACKAGE):
        values = {key: value for key, value in body.values.items() if value is not None}
        change = AttributesChange(values, body.deleted)
    return Notice(
        seq=seq,
        kind=NoticeKind(kind),
        at=at,
        device_id=device_id,
        profile_id=profile_id,
        change=change,
        call_id=body.call_id,
        generation=body.generation,
        order=body.order,
        argument=body.argument,
        client_id=body.client_id,
        ticket_id=body.ticket_id,
    )
