"""Events in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from gateway.core.advice import next_step, wrong_with
from gateway.core.model import Event, EventKind, Outcome

_SUCCESS: Final[Mapping[EventKind, str]] = {
    EventKind.DEVICE_PROVISION: "It was provisioned: it got its credentials",
    EventKind.DEVICE_CREATE: "It was entered",
    EventKind.DEVICE_REMOVE: "It was removed, with its credentials and readings",
    EventKind.DEVICE_REARM: "It was set to wait again: it may be provisioned once more",
    EventKind.DEVICE_CREDENTIALS: "Its credentials were replaced",
    EventKind.DEVICE_CREDENTIALS_RENEW: "It was given a new certificate, good from its first use",
    EventKind.DEVICE_CREDENTIALS_USE: "It used its new credentials: the old ones are void",
    EventKind.DEVICE_CREDENTIALS_REVOKE: "Its credentials were revoked",
    EventKind.CERTIFICATE_REVOKE: "A certificate of it was revoked",
    EventKind.DEVICE_LOGIN: "It logged in",
    EventKind.DEVICE_ATTRIBUTES: "Its attributes were changed",
    EventKind.DEVICE_CLAIM_OFFER: "It offered to be claimed",
    EventKind.DEVICE_CLAIM: "It was claimed",
    EventKind.DEVICE_UNCLAIM: "It was taken back from its customer",
    EventKind.DEVICE_RPC: "A method of it was called",
    EventKind.PACKAGE_ASSIGN: "It was told which package to run",
    EventKind.DEVICE_UPDATE: "It was changed",
    EventKind.DEVICE_ASSIGN: "It was assigned",
    EventKind.DEVICE_GROUP: "Its groups were changed",
    EventKind.DEVICE_IMPORT: "It was imported",
}
_REFUSED: Final[Mapping[EventKind, str]] = {
    EventKind.DEVICE_PROVISION: "It asked for credentials and was refused",
    EventKind.DEVICE_CREATE: "It could not be entered",
    EventKind.DEVICE_CREDENTIALS_RENEW: "It asked for a new certificate and was refused",
    EventKind.DEVICE_LOGIN: "It tried to log in and was refused",
    EventKind.DEVICE_CLAIM_OFFER: "It offered to be claimed and was refused",
    EventKind.DEVICE_CLAIM: "Somebody tried to claim it and was refused",
    EventKind.HANDSHAKE: "Its secure connection was refused",
}
_MOST_DETAIL = 300


class Chapter(Struct):
    """The same thing, once or several times on end."""

    first: Event
    last: Event
    times: int = 1


def chapters(events: Iterable[Event]) -> list[Chapter]:
    """Events in their order; what repeats itself becomes one chapter."""
    told: list[Chapter] = []
    for event in events:
        if told and _alike(told[-1].last, event):
            told[-1].last = event
            told[-1].times += 1
        else:
            told.append(Chapter(event, event))
    return told


def _alike(one: Event, other: Event) -> bool:
    same = (one.kind, one.outcome, one.reason, one.peer.wire, one.peer.actor)
    return same == (other.kind, other.outcome, other.reason, other.peer.wire, other.peer.actor)


def sentence(chapter: Chapter, when: Callable[[int], str]) -> str:
    """What happened, by whom, and how often."""
    event = chapter.last
    text = f"{_what(event)}, {_by(event)}"
    if chapter.times > 1:
        text += f"; {chapter.times} times, the last at {when(event.at)}"
    return f"{text}."


def _what(event: Event) -> str:
    if event.outcome is Outcome.REFUSED:
        told = _REFUSED.get(event.kind, f"{_name(event.kind)} was refused")
        if _is_label(event):
            told = "No label was made for it"
        return f"{told}, because {wrong_with(event.reason)} ({event.reason})"
    told = _SUCCESS.get(event.kind, f"{_name(event.kind)} took place")
    if _is_label(event):
        told = "A label with a claim code was made for it"
    if event.outcome is Outcome.WARNING and event.reason:
        told += f", with a warning: {wrong_with(event.reason)}"
    if event.kind is EventKind.DEVICE_ASSIGN and not event.detail.get("customer"):
        told = "It was taken back from its customer"
    return told + _details(event.detail)


def _is_label(event: Event) -> bool:
    return event.kind is EventKind.DEVICE_CLAIM_OFFER and "label" in event.detail


def _name(kind: EventKind) -> str:
    """As a sentence begins with it: `Organisation create`."""
    return kind.value.replace(":", " ").capitalize()


def _details(detail: Mapping[str, str]) -> str:
    told = ", ".join(f"{name} {value}" for name, value in detail.items() if value)
    return f" ({told[:_MOST_DETAIL]})" if told else ""


def _by(event: Event) -> str:
    peer = event.peer
    who = f"by {peer.actor}" if peer.actor else ""
    where = f"over {peer.wire.value.upper()} from {peer.address}"
    if peer.wire == "shell":
        return f"by {peer.actor or peer.address} on this machine"
    return f"{who} {where}".strip()


def to_do(events: Sequence[Event]) -> str:
    """What to do about the last refusal, if nothing went well since; else ""."""
    for event in reversed(events):
        if event.outcome is Outcome.REFUSED:
            return next_step(event.reason)
        if event.kind in _ENDS_TROUBLE:
            return ""
    return ""


_ENDS_TROUBLE = (
    EventKind.DEVICE_PROVISION,
    EventKind.DEVICE_CREDENTIALS,
    EventKind.DEVICE_REARM,
    EventKind.DEVICE_CLAIM,
    EventKind.DEVICE_CLAIM_OFFER,
    EventKind.DEVICE_CREDENTIALS_USE,
    EventKind.DEVICE_CREDENTIALS_RENEW,
)
