"""Events as rows of the `event` table, and back; and how a decision tells one.

Nothing is written when an event is told: the transaction keeps it (`Told`), and the `Writer` writes
all of a transaction at its end, tied to the one before it (`gateway.store.chain`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.core.model import Event, EventKind, Outcome, Peer, Wire
from gateway.store.driver import Row, Transaction

_json = msgspec.json.Encoder()
_detail = msgspec.json.Decoder(dict[str, str])


def tell(tx: Transaction, events: Iterable[Event]) -> None:
    """These happened in this transaction, in this order."""
    tx.told.rows.extend(map(event_row, events))


def event_on(event: Event, device_id: int | None, **detail: str) -> Event:
    """An event that concerns this device, with what is told of it besides (not the empty)."""
    added = {name: text for name, text in detail.items() if text}
    return msgspec.structs.replace(
        event, device_id=device_id, detail={**event.detail, **added} if added else event.detail
    )


def event_row(event: Event) -> Row:
    """An event as a row of the `event` table, without what the chain adds."""
    peer = event.peer
    return (
        event.at,
        event.kind.value,
        event.outcome.value,
        event.reason,
        event.device_id,
        event.subject,
        peer.wire.value,
        peer.address,
        _json.encode(event.detail).decode() if event.detail else "",
        peer.actor,
        peer.request,
        event.object,
    )


def event_from_row(row: Sequence[Any]) -> Event:
    """A row of `events` as an event."""
    seq, at, kind, outcome, reason, device_id, subject, wire, address, detail, *by = row
    actor, request, about = by
    return Event(
        seq=seq,
        at=at,
        kind=EventKind(kind),
        outcome=Outcome(outcome),
        reason=reason,
        device_id=device_id,
        subject=subject,
        peer=Peer(Wire(wire), address, actor, request),
        detail=_detail.decode(detail) if detail else {},
        object=about,
    )
