"""Events in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from gateway.core.advice import about, next_step, wrong_with
from gateway.core.model import Event, EventKind, Outcome, TicketKind, Wire
from gateway.core.model import RefusalReason as R
from gateway.core.refusing import SAID

_SUCCESS: Final[Mapping[EventKind, str]] = {
    EventKind.DEVICE_PROVISION: "It was provisioned: it got its credentials",
    EventKind.DEVICE_CREATE: "It was entered",
    EventKind.DEVICE_REMOVE: "It was removed, with its credentials and readings",
    EventKind.DEVICE_REARM: "It was re-armed: it may be provisioned once more",
    EventKind.DEVICE_REPROVISION: "It was given other credentials, good from their first use",
    EventKind.DEVICE_EXPIRE: "Its time was over: it was removed, with its credentials and readings",
    EventKind.DEVICE_KEEP: "It was to go by itself, and stays for longer",
    EventKind.DEVICE_BIRTH_SETTINGS: "Some of what its profile gives could not be given",
    EventKind.APPROVAL_ASK: "It asked for the first time, and waits for an operator's word",
    EventKind.APPROVAL_APPROVE: "An operator said yes: it comes in when it asks again",
    EventKind.APPROVAL_DENY: "An operator said no",
    EventKind.APPROVAL_FORGET: "Its place among those that wait was cleared",
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
    EventKind.TICKET_ISSUE: "Its number was reserved, and a token for it issued",
    EventKind.TICKET_REVOKE: "Its ticket was revoked: the token in it admits nobody any more",
    EventKind.TICKET_EXPIRE: "Its ticket expired: no device had used the token in time",
    EventKind.DEVICE_ORDER: "It was told to do something",
    EventKind.HOOK_DEAD: "Its profile's after-hook could not be told of it, and is tried no more",
    EventKind.STATIC_TOKEN_CREATE: "A static token was made for it",
    EventKind.STATIC_TOKEN_CLAIM: "It was claimed with its static token",
    EventKind.STATIC_TOKEN_UNCLAIM: "It was given back: its static token can be claimed again",
    EventKind.STATIC_TOKEN_REVOKE: "Its static token was revoked",
}
_REFUSED: Final[Mapping[EventKind, str]] = {
    EventKind.DEVICE_PROVISION: "It asked for credentials and was refused",
    EventKind.PROVISION_BLOCK: "Too many wrong secrets were shown",
    EventKind.DEVICE_CREATE: "It could not be entered",
    EventKind.DEVICE_CREDENTIALS_RENEW: "It asked for a new certificate and was refused",
    EventKind.DEVICE_LOGIN: "It tried to log in and was refused",
    EventKind.DEVICE_CLAIM_OFFER: "It offered to be claimed and was refused",
    EventKind.DEVICE_CLAIM: "Somebody tried to claim it and was refused",
    EventKind.HANDSHAKE: "Its secure connection was refused",
    EventKind.STATIC_TOKEN_CLAIM: "Its static token was shown to claim it, and refused",
}
_OF_TOKENS: Final = frozenset(
    (R.UNKNOWN_TOKEN, R.TICKET_EXPIRED, R.UNKNOWN_TEMPLATE, R.OTHER_TEMPLATE)
)
_OLDER: Final = "older"
"""In the detail: what became of the token a device had before."""
_TICKET: Final = "ticket"
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
    also = (other.kind, other.outcome, other.reason, other.peer.wire, other.peer.actor)
    return same == also and _what(one) == _what(other)


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
        if event.kind is EventKind.DEVICE_PROVISION and event.reason in _OF_TOKENS:
            told = "It showed its token and was refused"
        said = event.detail.get(SAID, "")
        words = f": “{said[:_MOST_DETAIL]}”" if said else ""
        return f"{told}, because {wrong_with(event.reason)} ({event.reason}){words}"
    told = _SUCCESS.get(event.kind, f"{_name(event.kind)} took place")
    if _is_label(event):
        told = "A label with a claim code was made for it"
    if event.outcome is Outcome.WARNING and event.reason:
        told += f", with a warning: {wrong_with(event.reason)}"
    if event.kind is EventKind.DEVICE_ASSIGN and not event.detail.get("customer"):
        told = "It was taken back from its customer"
    return _of_token(event) or told + _details(event.detail)


def _of_token(event: Event) -> str:
    """What is told of tickets and orders in words of their own; "" of anything else."""
    detail = dict(event.detail)
    older, kind = detail.pop(_OLDER, ""), detail.pop("kind", "")
    match event.kind:
        case EventKind.TICKET_ISSUE if older:
            told = "A new token was issued for it, and the old one ended at once"
        case EventKind.TICKET_ISSUE if event.subject:
            told = "A new token was issued for it; the old one works until the new one is used"
        case EventKind.DEVICE_PROVISION if older:
            told = "It used its new token for the first time: the old one ended"
        case EventKind.DEVICE_PROVISION if _TICKET in detail:
            told = "It showed its token and came into being"
        case EventKind.TICKET_EXPIRE if kind == TicketKind.ROTATE:
            told = "Its new token expired unused; the one it has is good as before"
        case EventKind.TICKET_EXPIRE:
            told = _SUCCESS[event.kind]
        case EventKind.DEVICE_ORDER if order := detail.pop("order", ""):
            told = f"It was told to {order}"
            told += f", to {to}" if (to := detail.pop("to", "")) else ""
            told += _ABOUT_ORDERS.get(detail.pop("online", ""), "")
        case _:
            return ""
    return told + _details(detail)


_ABOUT_ORDERS: Final[Mapping[str, str]] = {
    "yes": " while it was online",
    "no": ", but it was away and did not hear of it",
}


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
    where = f"over {wire_name(peer.wire)} from {peer.address}"
    if peer.wire == "shell":
        return f"by {peer.actor or peer.address} on this machine"
    return f"{who} {where}".strip()


def wire_name(wire: Wire) -> str:
    """As people write it."""
    return _WIRES.get(wire) or wire.value.upper()


_WIRES: Final[Mapping[Wire, str]] = {
    Wire.COAP: "CoAP",
    Wire.COAPS: "CoAPS",
    Wire.BLYNK: "Blynk's binary protocol",
}


def to_do(events: Sequence[Event], device: str = "") -> str:
    """What to do about the last refusal, if nothing went well since; else "".

    `device` is the name that commands in it are given.
    """
    for index in range(len(events) - 1, -1, -1):
        event = events[index]
        if event.outcome is Outcome.REFUSED:
            if event.kind in _CLAIMING:
                return _about_claim(event, events[:index], events[index + 1 :], device)
            return next_step(event.reason, device)
        if event.kind is EventKind.TICKET_EXPIRE and event.detail.get("kind") == TicketKind.SINGLE:
            return next_step(R.TICKET_EXPIRED, device)
        if event.kind in _ENDS_TROUBLE:
            return ""
    return ""


def _about_claim(
    refused: Event, before: Sequence[Event], since: Iterable[Event], device: str
) -> str:
    """What to do about a claim, or an offer, that was refused."""
    if any(one.kind is EventKind.DEVICE_ASSIGN and one.detail.get("customer") for one in since):
        return ""
    if refused.reason == R.CUSTOMER_HAS_IT and _was_claimed(refused, before):
        return ""
    if refused.reason == R.CLAIM_STANDS and _stands_by_label(before):
        return about(device, _LABEL_STANDS)
    return next_step(refused.reason, device)


def _was_claimed(refused: Event, before: Sequence[Event]) -> bool:
    """Whether this only repeats what succeeded: the same claim, or the offer that led to it.

    A label is asked for by a person, who wants to know why there is none.
    """
    last = next((one for one in reversed(before) if _changes_customer(one)), None)
    if last is None or last.kind is not EventKind.DEVICE_CLAIM or _is_label(refused):
        return False
    customer = refused.detail.get("customer")
    return customer is None or customer == last.detail.get("customer")


def _changes_customer(event: Event) -> bool:
    kinds = (EventKind.DEVICE_CLAIM, EventKind.DEVICE_UNCLAIM, EventKind.DEVICE_ASSIGN)
    return event.kind in kinds and event.outcome is not Outcome.REFUSED


def _stands_by_label(before: Sequence[Event]) -> bool:
    """Whether the offer that stands was made by an operator."""
    for event in reversed(before):
        if event.kind is EventKind.DEVICE_CLAIM_OFFER and event.outcome is not Outcome.REFUSED:
            return _is_label(event)
    return False


_LABEL_STANDS: Final = (
    "An operator made the code that stands, with `gatehouse label`. Claim the device with that "
    "one, or end it and make another with `gatehouse label DEVICE --replace -o labels.pdf`."
)
_CLAIMING = (EventKind.DEVICE_CLAIM, EventKind.DEVICE_CLAIM_OFFER)
_ENDS_TROUBLE = (
    EventKind.DEVICE_PROVISION,
    EventKind.DEVICE_CREDENTIALS,
    EventKind.DEVICE_REARM,
    EventKind.DEVICE_REPROVISION,
    EventKind.DEVICE_CLAIM,
    EventKind.DEVICE_CLAIM_OFFER,
    EventKind.DEVICE_CREDENTIALS_USE,
    EventKind.DEVICE_CREDENTIALS_RENEW,
    EventKind.TICKET_ISSUE,
    EventKind.TICKET_REVOKE,
)
