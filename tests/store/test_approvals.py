"""Devices that wait for an operator, in SQL: whose place it is, and what a yes buys."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from gateway.core.approvals import KEEP_MS, ApprovalQuery, Approvals
from gateway.core.awaiting import BIRTH, NO_APPROVAL, REPROVISIONING, SILENT_MS, Asking, Standing
from gateway.core.errors import Forbidden, Invalid
from gateway.core.model import (
    ROOT_ORGANISATION,
    AccessToken,
    Actor,
    Admission,
    ApprovalState,
    Binding,
    EventKind,
    Json,
    Organisation,
    Peer,
    Permission,
    Policy,
    Provisioned,
    ProvisionType,
    RefusalReason,
    Refused,
    Secret,
    Wire,
)
from gateway.core.terms import Terms
from gateway.store import approvals as sql
from gateway.store.retention import Retention
from gateway.store.sql_approvals import SqlApprovals

pytestmark = pytest.mark.every_database

PENDING = RefusalReason.APPROVAL_PENDING
DENIED = RefusalReason.APPROVAL_DENIED
ASKING = Policy(admission=Admission(approval=True))
PEER = Peer(Wire.COAP, "192.0.2.7:5683")
ROOT = Organisation(id=ROOT_ORGANISATION, uuid="root", name="root", path="/1/")
OPERATOR = Actor(
    peer=Peer(Wire.SHELL, "ann", actor="ann"),
    organisation=ROOT,
    permissions=frozenset(Permission),
)


@pytest.fixture
async def profile(new_fleet):
    return (await new_fleet(policy=ASKING)).profile


@pytest.fixture
def queue(store):
    return SqlApprovals(store)


@pytest.fixture
def desk(queue, clock):
    return Approvals(queue, clock=clock)


@pytest.fixture
def asks(queue, profile, clock):
    """A device asks; what binds it is a text of its own, or nothing."""

    def make(name="m-1", bound=None, **fields):
        asked = {
            "profile": profile,
            "name": name,
            "kind": BIRTH,
            "binding": None if bound is None else Binding(Secret(bound), 0),
            "hardware": None,
            "peer": PEER,
            "at": clock.now,
        }
        return queue.await_approval(Asking(**(asked | fields)))

    return make


async def waiting(desk, **query):
    return (await desk.page(OPERATOR, ApprovalQuery(**query))).data


async def test_a_device_waits_once_however_often_it_asks(asks, desk, told, clock):
    """One row with its tries, its last address and what it told of itself; one event."""
    assert await asks(hardware=Json('{"serial":"1"}')) == Standing(reason=PENDING, tries=1)
    clock.now += 1000
    moved = Peer(Wire.MQTT, "192.0.2.8:1")
    assert await asks(peer=moved) == Standing(reason=PENDING, tries=2)
    [one] = await waiting(desk)
    assert (one.name, one.profile_name, one.state) == ("m-1", "fleet", ApprovalState.WAITING)
    assert (one.tries, one.wire, one.address) == (2, Wire.MQTT, "192.0.2.8:1")
    assert (one.last_at - one.asked_at, one.hardware) == (1000, Json('{"serial":"1"}'))
    assert len(await told(EventKind.APPROVAL_ASK)) == 1


async def test_a_yes_is_found_and_used_up_by_one_birth(asks, desk, store, newcomer, profile):
    """Approved, the number is told; of two births on it one is born, and the place is free."""
    await asks()
    [one] = await waiting(desk)
    assert [found.id for found in await desk.approve(OPERATOR, [one.id])] == [one.id]
    assert await asks() == Standing(number=one.id)
    terms = Terms(approval_id=one.id)
    results = await asyncio.gather(
        *(
            store.create_device(
                newcomer(
                    profile, name, terms=terms, credentials=AccessToken(Secret(f"token-{name}"))
                )
            )
            for name in ("m-1", "m-2")
        )
    )
    assert [type(one) for one in results] == [Provisioned, Refused]
    assert results[1] == Refused(PENDING)
    assert await waiting(desk) == []


async def test_terms_without_a_yes_let_nobody_in(store, newcomer, profile, asks, desk):
    """Neither a waiting request's number nor that of none: nothing is left of the birth."""
    await asks()
    [one] = await waiting(desk)
    for number in (one.id, NO_APPROVAL):
        new = newcomer(
            profile,
            "m-1",
            terms=Terms(approval_id=number),
            credentials=AccessToken(Secret("token-1")),
        )
        assert await store.create_device(new) == Refused(PENDING)
    assert await waiting(desk) == [one]


async def test_a_bound_place_belongs_to_its_asker(asks, desk):
    """Another binding or none is told to wait, whatever was decided for the first; and counts no
    try of it."""
    await asks(bound="nonce-a")
    assert await asks(bound="nonce-b") == Standing(reason=PENDING, tries=1)
    assert await asks() == Standing(reason=PENDING, tries=1)
    [one] = await waiting(desk)
    assert (one.tries, one.bound) == (1, True)
    await desk.approve(OPERATOR, [one.id])
    assert await asks(bound="nonce-b") == Standing(reason=PENDING, tries=1)
    assert await asks() == Standing(reason=PENDING, tries=1)
    assert await asks(bound="nonce-a") == Standing(number=one.id)
    await desk.deny(OPERATOR, [one.id])
    for bound in ("nonce-a", "nonce-b", None):
        assert (await asks(bound=bound)).reason is DENIED


async def test_a_place_bound_to_nothing_is_anybodys_of_the_fleet(asks, desk):
    """Who shows the secret and the name has the yes, with a binding or without."""
    await asks()
    [one] = await waiting(desk)
    await desk.approve(OPERATOR, [one.id])
    assert await asks(bound="nonce-a") == Standing(number=one.id)


async def test_a_silent_asker_loses_a_place_nobody_decided(asks, desk, clock):
    """After an hour another takes it, under another number; a yes or no stays."""
    await asks(bound="nonce-a")
    [first] = await waiting(desk)
    clock.now += SILENT_MS + 1
    assert await asks(bound="nonce-b") == Standing(reason=PENDING)
    [second] = await waiting(desk)
    assert second.id > first.id
    await desk.approve(OPERATOR, [second.id])
    clock.now += SILENT_MS + 1
    assert (await asks(bound="nonce-c")).reason is PENDING
    assert await asks(bound="nonce-b") == Standing(number=second.id)


async def test_a_name_that_is_refused_anyway_does_not_wait(new_fleet, asks, desk, store, newcomer):
    """A device that was provisioned before, and one that was never entered where that is needed;
    one that was entered waits."""
    fleet = await new_fleet(
        ProvisionType.CHECK_PRE_PROVISIONED_DEVICES, name="entered", policy=ASKING
    )
    assert await asks("unknown", profile=fleet.profile) == Standing()
    await fleet.waiting("m-9")
    assert (await asks("m-9", profile=fleet.profile)).reason is PENDING
    here = AccessToken(Secret("token-done"))
    await store.create_device(newcomer(fleet.profile, "done", credentials=here))
    assert await asks("done", profile=fleet.profile) == Standing()
    asked = (await asks("done", profile=fleet.profile, kind=REPROVISIONING)).reason
    assert asked is PENDING
    assert [one.name for one in await waiting(desk)] == ["m-9", "done"]


async def test_a_full_queue_sends_newcomers_away(asks, desk, monkeypatch):
    """Who waits keeps the place; others are told to come later, until some were decided."""
    monkeypatch.setattr(sql, "MOST_WAITING", 2)
    await asks("a")
    await asks("b")
    assert (await asks("c")).reason is RefusalReason.TOO_MANY_REQUESTS
    assert (await asks("b")).tries == 2
    await desk.deny(OPERATOR, [(await waiting(desk))[0].id])
    assert (await asks("c")).reason is PENDING


async def test_decisions_are_told_with_who_made_them(asks, desk, registrar):
    """Each changed device has an event with the operator; what is so already is not told again."""
    await asks("a")
    await asks("b")
    numbers = [one.id for one in await waiting(desk)]
    assert [one.name for one in await desk.approve(OPERATOR, numbers)] == ["a", "b"]
    assert await desk.approve(OPERATOR, numbers) == []
    [denied] = await desk.deny(OPERATOR, numbers[:1])
    assert (denied.state, denied.decided_by) == (ApprovalState.DENIED, "ann")
    assert [one.name for one in await desk.forget(OPERATOR, numbers[:1])] == ["a"]
    events = await registrar.events(after_seq=0, limit=100, device_id=None)
    told = [
        (one.kind.value, one.subject, one.peer.actor)
        for one in events
        if one.kind.value.startswith("approval:")
    ]
    assert told == [
        ("approval:ask", "a", ""),
        ("approval:ask", "b", ""),
        ("approval:approve", "a", "ann"),
        ("approval:approve", "b", "ann"),
        ("approval:deny", "a", "ann"),
        ("approval:forget", "a", "ann"),
    ]


async def test_operators_reach_their_own_alone(asks, desk):
    """Another organisation's operator sees and changes nothing; without the permission none may."""
    await asks()
    [one] = await waiting(desk)
    elsewhere = structs.replace(ROOT, id=9, path="/1/9/", parent_id=1)
    other = structs.replace(OPERATOR, organisation=elsewhere)
    assert (await desk.page(other, ApprovalQuery())).data == []
    assert await desk.find(other, one.id) is None
    assert await desk.approve(other, [one.id]) == []
    assert await desk.forget(other, [one.id]) == []
    mere = structs.replace(OPERATOR, permissions=frozenset({Permission.ORG_DEVICES_VIEW}))
    for asked in (desk.page(mere, ApprovalQuery()), desk.approve(mere, [one.id])):
        with pytest.raises(Forbidden):
            await asked
    with pytest.raises(Invalid):
        await desk.approve(OPERATOR, range(1001))
    assert await waiting(desk) == [one]


async def test_the_queue_is_read_in_pages(asks, desk):
    """In the order they first asked, with the exact total; by state and by name."""
    for name in "abcde":
        await asks(name)
    page = await desk.page(OPERATOR, ApprovalQuery(page=1, page_size=2))
    assert ([one.name for one in page.data], page.total, page.has_next) == (["c", "d"], 5, True)
    last = await desk.page(OPERATOR, ApprovalQuery(page=2, page_size=2))
    assert ([one.name for one in last.data], last.has_next) == (["e"], False)
    assert [one.name for one in await waiting(desk, names=("d", "no"))] == ["d"]
    assert await waiting(desk, state=ApprovalState.DENIED) == []
    after = await waiting(desk, after_id=page.data[1].id)
    assert [one.name for one in after] == ["e"]


async def test_who_comes_no_more_is_forgotten_after_a_month(asks, desk, store, clock):
    """Whatever was decided; those that still ask, and decisions of late, stay."""
    for name in ("gone", "asks", "late"):
        await asks(name)
    clock.now += KEEP_MS + 1
    await asks("asks")
    await desk.approve(OPERATOR, [one.id for one in await waiting(desk, names=("late",))])
    await Retention(store, clock).sweep()
    assert [one.name for one in await waiting(desk)] == ["asks", "late"]


async def test_two_gateways_give_a_place_once(stores, keep_profile, clock):
    """Of many askers with one name at two processes, one has the place."""
    kind = ProvisionType.ALLOW_CREATE_NEW_DEVICES
    profile = await keep_profile(stores[0], "shared", kind, policy=ASKING)
    queues = [SqlApprovals(one) for one in stores]
    asked = await asyncio.gather(
        *(
            queues[number % 2].await_approval(
                Asking(
                    profile=profile,
                    name="m",
                    kind=BIRTH,
                    binding=Binding(Secret(f"nonce-{number}"), 0),
                    hardware=None,
                    peer=PEER,
                    at=clock.now,
                )
            )
            for number in range(20)
        )
    )
    assert {one.reason for one in asked} == {PENDING}
    found = await queues[1].approvals(ApprovalQuery(), "/1/")
    assert [(one.name, one.tries) for one in found.data] == [("m", 1)]


def test_what_strangers_tell_of_themselves_is_kept_up_to_a_bound():
    """A long description is left out."""
    assert sql._kept(Json("x" * 5000)) == ""
    assert sql._kept(Json('{"serial":"1"}')) == '{"serial":"1"}'
