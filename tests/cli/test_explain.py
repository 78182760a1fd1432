"""`gatehouse explain`: what happened to a device, for somebody who does not read logs."""

from __future__ import annotations

import asyncio

import pytest

from gateway.cli.story import chapters, sentence, to_do
from gateway.core.advice import ADVICE, next_step, wrong_with
from gateway.core.model import Event, EventKind, Outcome, Peer, RefusalReason, Wire


def _event(kind=EventKind.DEVICE_PROVISION, reason="", seq=1, **fields):
    outcome = Outcome.REFUSED if reason else Outcome.SUCCESS
    peer = Peer(Wire.MQTT, "192.0.2.7:5")
    return Event(
        kind=kind, at=seq, peer=peer, outcome=outcome, reason=reason, subject="m", seq=seq, **fields
    )


def _record(shell, *events):
    async def record():
        async with shell.inside() as inside:
            for event in events:
                await inside.store.record(event)

    asyncio.run(record())


def test_a_devices_way_is_told(shell, waits):
    """From when it was entered to what it logs in with: each step a sentence, with its author."""
    waits(shell)
    shell.ok("device", "add", "--profile", "valve", "valve-1")
    _record(shell, _event(reason="wrong_secret", seq=1), _event(reason="wrong_secret", seq=2))
    text = shell.ok("explain", "valve-1")
    assert "`valve-1` is a device of profile `valve`, waiting" in text
    assert "It was entered, by " in text
    assert "was never heard of" in text
    story = shell.json("explain", "valve-1")
    assert story["exists"] is True
    assert [one["event"] for one in story["story"]] == ["device:create"]


def test_a_name_that_never_became_a_device_is_told_of(shell):
    """Its attempts, why each was refused, how often, and what to do next."""
    shell.ok("profile", "list")
    _record(shell, *(_event(reason="no_such_device", seq=n) for n in (1, 2, 3)))
    text = shell.ok("explain", "m")
    assert "`m` is no device" in text
    assert "It asked for credentials and was refused, because its profile only lets in" in text
    assert "(no_such_device), over MQTT from 192.0.2.7:5; 3 times" in text
    assert "What to do: Enter it with `gatehouse device add m`" in text
    story = shell.json("explain", "m")
    assert (story["exists"], story["story"][0]["times"]) == (False, 3)


def test_a_removed_device_is_still_told_of(shell, waits):
    """Its name keeps its story."""
    waits(shell)
    shell.ok("device", "add", "--profile", "valve", "valve-1")
    shell.ok("device", "remove", "valve-1", "--yes")
    assert "It was removed" in shell.ok("explain", "valve-1")


def test_a_name_nobody_heard_of_is_an_error(shell, waits):
    """It says so, and which name was perhaps meant."""
    waits(shell)
    shell.ok("device", "add", "--profile", "valve", "valve-1")
    result = shell("explain", "valve-2")
    assert result.exit_code == 1
    assert "Did you mean `valve-1`?" in result.output


@pytest.mark.parametrize("reason", list(RefusalReason))
def test_each_refusal_says_what_was_wrong_and_what_to_do(reason):
    """No reason is left without advice, and each reads as a sentence."""
    wrong, todo = ADVICE[reason]
    assert wrong[0].islower()
    assert not wrong.endswith(".")
    assert todo[0].isupper()
    assert todo.endswith(".")
    assert (wrong_with(reason.value), next_step(reason.value)) == (wrong, todo)


def test_a_reason_of_another_kind_is_told_as_words():
    """Reasons of handshakes and logins are no refusals of provisioning."""
    assert wrong_with("bad_record_mac") == "bad record mac"
    assert next_step("bad_record_mac") == ""


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("kind", list(EventKind))
def test_each_kind_has_a_sentence(kind, outcome):
    """Whatever happened can be told."""
    event = Event(
        kind=kind, at=1, peer=Peer(Wire.HTTP, "x", actor="ann"), outcome=outcome, reason="blocked"
    )
    text = sentence(chapters([event])[0], str)
    assert text[0].isupper()
    assert text.endswith("by ann over HTTP from x.")


def test_what_was_solved_needs_nothing_done():
    """Advice is given for the last trouble alone, and not when it is over."""
    refused, provisioned = _event(reason="blocked"), _event(seq=2)
    assert to_do([refused]) == next_step("blocked")
    assert to_do([refused, provisioned]) == ""
    assert to_do([provisioned, refused]) == next_step("blocked")
    assert to_do([]) == ""


def test_a_label_is_told_as_one():
    """Not the device offered itself; and a new label is what a wrong code wants."""
    kind = EventKind.DEVICE_CLAIM_OFFER
    made = _event(kind, seq=2, detail={"label": "made"})
    told = sentence(chapters([made])[0], str)
    assert told.startswith("A label with a claim code was made for it")
    refused = _event(kind, reason="customer_has_it", detail={"label": "made"})
    assert sentence(chapters([refused])[0], str).startswith("No label was made for it")
    wrong = _event(EventKind.DEVICE_CLAIM, reason="wrong_claim_key")
    assert "gatehouse label 'a b' --replace" in to_do([wrong], "a b")
    assert to_do([wrong, made]) == ""


def test_calls_of_different_methods_are_told_apart():
    """What differs in what is told is no repetition."""
    state, reboot = (
        _event(EventKind.DEVICE_RPC, detail={"method": one}) for one in ("getState", "reboot")
    )
    told = chapters([state, state, reboot])
    assert [one.times for one in told] == [2, 1]
    assert "getState" in sentence(told[0], str)


def test_a_claim_that_succeeded_before_needs_nothing_done():
    """The same claim again is no trouble; that of another customer is."""
    acme, other = {"customer": "Acme"}, {"customer": "Other"}
    claimed = _event(EventKind.DEVICE_CLAIM, detail=acme)
    again = _event(EventKind.DEVICE_CLAIM, reason="customer_has_it", detail=acme)
    foreign = _event(EventKind.DEVICE_CLAIM, reason="customer_has_it", detail=other)
    offer = _event(EventKind.DEVICE_CLAIM_OFFER, reason="customer_has_it")
    assert to_do([claimed, again], "m") == ""
    assert to_do([claimed, offer], "m") == ""
    assert "gatehouse device unclaim m" in to_do([claimed, foreign], "m")
    assert "gatehouse device unclaim m" in to_do([again], "m")
    wrong = _event(EventKind.DEVICE_CLAIM, reason="wrong_claim_key", detail=acme)
    assigned = _event(EventKind.DEVICE_ASSIGN, detail=other)
    assert to_do([wrong, assigned], "m") == ""


def test_who_made_the_claim_that_stands_is_told():
    """An operator's label is named; either way, how to end it."""
    label = _event(EventKind.DEVICE_CLAIM_OFFER, detail={"label": "made"})
    own = _event(EventKind.DEVICE_CLAIM_OFFER)
    refused = _event(EventKind.DEVICE_CLAIM_OFFER, reason="claim_stands")
    assert to_do([own, label, refused], "m").startswith("An operator made")
    assert not to_do([label, own, refused], "m").startswith("An operator made")
    for before in (label, own):
        assert "gatehouse label m --replace" in to_do([before, refused], "m")


def _told(kind, subject, detail):
    peer = Peer(Wire.MQTT, "192.0.2.7:5")
    event = Event(kind=kind, at=1, peer=peer, subject=subject, device_id=7, detail=detail)
    return sentence(chapters([event])[0], str)


@pytest.mark.parametrize(
    ("kind", "subject", "detail", "begins"),
    [
        (EventKind.TICKET_ISSUE, "", {"ticket": "5"}, "Its number was reserved, and a token"),
        (EventKind.TICKET_ISSUE, "m", {"ticket": "5"}, "A new token was issued for it; the old"),
        (
            EventKind.TICKET_ISSUE,
            "m",
            {"older": "ended at once"},
            "A new token was issued for it, ",
        ),
        (EventKind.DEVICE_PROVISION, "m", {"ticket": "5"}, "It showed its token and came"),
        (EventKind.DEVICE_PROVISION, "m", {"ticket": "5", "older": "ended"}, "It used its new"),
        (EventKind.DEVICE_PROVISION, "m", {}, "It was provisioned: it got its credentials"),
        (EventKind.TICKET_EXPIRE, "", {"kind": "single"}, "Its ticket expired: no device"),
        (EventKind.TICKET_EXPIRE, "", {"kind": "rotate"}, "Its new token expired unused"),
        (
            EventKind.DEVICE_ORDER,
            "m",
            {"order": "redirect", "to": "mqtts://b.test", "online": "yes"},
            "It was told to redirect, to mqtts://b.test while it was online, over",
        ),
        (
            EventKind.DEVICE_ORDER,
            "m",
            {"order": "reboot", "online": "no"},
            "It was told to reboot, but it was away and did not hear of it, over",
        ),
    ],
)
def test_tickets_are_told_in_words_of_their_own(kind, subject, detail, begins):
    """What a ticket is for decides how its steps are told."""
    told = _told(kind, subject, detail)
    assert told.startswith(begins), told
    assert "kind " not in told
    assert "older " not in told


@pytest.mark.parametrize(
    ("wire", "named"),
    [
        (Wire.HTTPS, "HTTPS"),
        (Wire.COAPS, "CoAPS"),
        (Wire.BLYNK, "Blynk's binary protocol"),
    ],
)
def test_wires_have_their_names(wire, named):
    """As people write them, not as we do."""
    event = Event(
        kind=EventKind.DEVICE_PROVISION, at=1, peer=Peer(wire, "192.0.2.7:5"), subject="m"
    )
    (told,) = chapters([event])
    assert f"over {named} from 192.0.2.7:5" in sentence(told, str)


def test_a_number_is_no_name_but_the_device_is_named(shell, waits):
    """Commands go by names; who gives a device's number is told which that is."""
    waits(shell)
    shell.ok("device", "add", "--profile", "valve", "valve-1")
    number = shell.json("device", "list")[0]["id"]
    result = shell("device", "show", str(number))
    assert result.exit_code == 1
    assert "The one with this number is `valve-1`" in result.output
    for other in (str(number + 1), "9" * 30, "²"):
        assert "there is no device" in shell("device", "show", other).output


def test_a_refused_token_is_told_as_one():
    """Tokens are shown, where key and secret ask for credentials."""
    (by_token,) = chapters([_event(reason="ticket_expired")])
    assert sentence(by_token, str).startswith("It showed its token and was refused, because its")
    (by_key,) = chapters([_event(reason="wrong_secret")])
    assert sentence(by_key, str).startswith("It asked for credentials and was refused")


def test_a_new_ticket_ends_the_trouble_of_the_old_one():
    """What to do is told until somebody did it."""
    refused = _event(reason="ticket_expired", seq=1)
    issued = _event(EventKind.TICKET_ISSUE, seq=2)
    revoked = _event(EventKind.TICKET_REVOKE, seq=3)
    expired, renewed = (
        _event(EventKind.TICKET_EXPIRE, seq=4, detail={"kind": kind})
        for kind in ("single", "rotate")
    )
    assert "gatehouse device reprovision m" in to_do([issued, refused], "m")
    assert to_do([refused, issued], "m") == ""
    assert to_do([refused, revoked], "m") == ""
    assert "gatehouse ticket issue" in to_do([issued, expired], "m")
    assert to_do([issued, renewed], "m") == ""


def test_what_a_hook_said_is_told():
    """Its words stand behind the reason."""
    refused = _event(reason="denied_by_hook", detail={"said": "not on the order"})
    told = sentence(chapters([refused])[0], str)
    assert "its profile said no (denied_by_hook): “not on the order”" in told
