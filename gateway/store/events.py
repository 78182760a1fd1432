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
    if not added:
        return msgspec.structs.replace(event, device_id=device_id)
    return msgspec.structs.replace(event, device_id=device_id, detail={**event.detail, **added})


def event_row(event: Event) -> Row:
    """An event as a row of the `event` table, without what the chain adds."""
    # `_value_` is what `value` looks up the long way, three times for each device that is born.
    peer = event.peer
    return (
        event.at,
        event.kind._value_,
        event.outcome._value_,
        event.reason,
        event.device_id,
        event.subject,
        peer.wire._value_,
        peer.address,
        _json.encode(event.detail).decode() if event.detail else "",
        peer.actor,
        peer.request,
        event.object,
    )


def event_from_row(row: Sequence[Any]) -> Event:
    """A row of `events` as an event; as one that is UNREADABLE when we did not write it so."""
    try:
        return _event(row)
    except (ValueError, TypeError, msgspec.MsgspecError):
        seq, at = row[0], row[1] if isinstance(row[1], int) else 0
        peer = Peer(Wire.SHELL, "unknown")
        return Event(seq=seq, at=at, kind=EventKind.UNREADABLE, outcome=Outcome.WARNING, peer=peer)


def _event(row: Sequence[Any]) -> Event:
    seq, at, kind, outcome, reason, device_id, subject, wire, address, detail, *by = row
    actor, request, about = by
    if not isinstance(at, int):
        raise TypeError("the time is no number")
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
