"""Tickets of single devices: issued, claimed once, taken over, revoked; on every database."""

from __future__ import annotations

import asyncio

import pytest
from people import make_crowd
from ticket_ground import Ground, OneTemplate

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid, Overloaded
from gateway.core.model import (
    PROVISIONED,
    AttributeScope,
    DeviceProfile,
    EventKind,
    Json,
    NoticeKind,
    Order,
    Outcome,
    Permission,
    Provisioned,
    RefusalReason,
    Refused,
    Secret,
    TicketKind,
)
from gateway.core.registry import ProfileDraft
from gateway.core.tokens import new_url_token
from gateway.store.retention import Retention

pytestmark = pytest.mark.every_database

DAY = 86_400_000


@pytest.fixture
async def crowd(store, clock):
    made = await make_crowd(store, clock)
    yield made
    made.close()


@pytest.fixture(params=[True, False], ids=["open", "restricted"])
async def ground(store, registry, clock, crowd, request):
    """Once with a template that is for all organisations, once with one that need not be."""
    await registry.save_profile(ProfileDraft(profile=DeviceProfile(id=0, name="meter")))
    return Ground(store, registry, clock, crowd.operator, open_to_all=request.param)


# ── births ────────────────────────────────────────────────────────────────────────────────────


async def test_a_ticket_is_no_device_until_it_is_claimed(ground, crowd):
    """The number is reserved; nothing stands in a list; the token opens nothing."""
    issued = await ground.issue(crowd.acme, crowd.users["user@acme"])
    assert issued.ticket.kind is TicketKind.SINGLE
    assert issued.ticket.expires_at == ground.clock.now + 7 * DAY
    assert await ground.store.find_credentials(issued.token) is None
    assert await ground.store.known_device(issued.ticket.device_id) is None


async def test_a_claim_fixes_what_was_asked_for_and_what_the_device_said(ground, crowd):
    """Organisation, owner and number come from the ticket; the profile from the device."""
    owner = crowd.users["user@acme"]
    issued = await ground.issue(crowd.acme, owner)
    ground.clock.now += 1000
    result = await ground.claim(issued.token, hardware=Json('{"version":"1.2"}'))
    assert isinstance(result, Provisioned)
    device = result.device
    assert device.id == issued.ticket.device_id
    assert (device.name, device.type) == (f"meter {device.id}", "meter")
    assert (device.provision_state, device.created_at) == (PROVISIONED, ground.clock.now)
    record = await ground.inventory.find(ground.actor, device.uuid)
    assert (record.device, record.owner_id) == (device, owner.id)
    assert record.customer_name == crowd.acme.name
    known = await ground.store.find_credentials(issued.token)
    assert known.device == device
    assert known.credentials == result.credentials
    found = {(one.scope, one.key): one.value for one in await ground.registry.attributes(known)}
    assert found[AttributeScope.SHARED, "Place"] == "hall"
    assert found[AttributeScope.CLIENT, "hardwareInfo"] == Json('{"version":"1.2"}')


async def test_of_a_hundred_claims_one_gives_birth(ground):
    """All are told the same device, in one transaction or in many."""
    issued = await ground.issue()
    results = await asyncio.gather(*(ground.claim(issued.token) for _ in range(100)))
    assert {one.device for one in results} == {results[0].device}
    births = [one for one in await ground.story(issued.ticket.device_id) if "provision" in one[0]]
    assert births == [(EventKind.DEVICE_PROVISION, "success")]


async def test_many_tickets_give_birth_side_by_side(ground):
    """Each gets its own device, whatever shares the transaction."""
    issued = await asyncio.gather(*(ground.issue() for _ in range(60)))
    assert len({one.ticket.device_id for one in issued}) == 60
    twice = [one for one in issued for _ in range(2)]
    results = await asyncio.gather(*(ground.claim(one.token) for one in twice))
    assert [one.device.id for one in results] == [one.ticket.device_id for one in twice]


async def test_a_name_that_is_taken_gets_something_added(ground, crowd):
    """A device of somebody else's making does not keep another from being born."""
    issued = await ground.issue()
    taken = f"meter {issued.ticket.device_id}"
    profile = await ground.registry.profile("meter")
    await ground.registry.add_device(profile, taken)
    result = await ground.claim(issued.token)
    assert result.device.name.startswith(f"{taken}-")
    assert result.device.id == issued.ticket.device_id


async def test_what_is_refused_uses_nothing_up(ground):
    issued = await ground.issue()
    assert await ground.claim(issued.token, "nobody") == Refused(RefusalReason.UNKNOWN_TEMPLATE)
    assert await ground.claim(issued.token, "") == Refused(RefusalReason.UNKNOWN_TEMPLATE)
    assert isinstance(await ground.claim(issued.token), Provisioned)
    stranger = Secret(new_url_token())
    assert await ground.claim(stranger) == Refused(RefusalReason.UNKNOWN_TOKEN)
    assert await ground.claim(Secret("")) == Refused(RefusalReason.UNKNOWN_TOKEN)


async def test_a_claim_may_be_repeated_and_refreshes_the_hardware(ground):
    token, record = await ground.born()
    again = await ground.claim(token, hardware=Json('{"version":"2"}'))
    assert again.device == record.device
    known = await ground.store.find_credentials(token)
    found = {one.key: one.value for one in await ground.registry.attributes(known)}
    assert found["hardwareInfo"] == Json('{"version":"2"}')
    await ground.registry.save_profile(ProfileDraft(profile=DeviceProfile(id=0, name="other")))
    assert await ground.claim(token, "other") == Refused(RefusalReason.OTHER_TEMPLATE)


async def test_a_ticket_ends_with_its_time_though_nobody_swept(ground):
    issued = await ground.issue(days=1)
    ground.clock.now += DAY
    assert await ground.claim(issued.token) == Refused(RefusalReason.TICKET_EXPIRED)
    await Retention(ground.store, ground.clock).sweep()
    assert await ground.claim(issued.token) == Refused(RefusalReason.UNKNOWN_TOKEN)
    assert await ground.story(issued.ticket.device_id) == [
        (EventKind.TICKET_ISSUE, "success"),
        (EventKind.DEVICE_PROVISION, "ticket_expired"),
        (EventKind.TICKET_EXPIRE, "success"),
    ]
    assert (await ground.issue()).ticket.device_id > issued.ticket.device_id


async def test_a_profile_that_went_meanwhile_gets_no_device(ground):
    """The template was found, and removed before the claim was written."""
    issued = await ground.issue()
    template = await OneTemplate(ground.registry).named("meter", "/1/")
    await ground.registry.remove_profile(template.profile)
    ground.provisioner._tokens._templates = _Found(template)
    assert await ground.claim(issued.token) == Refused(RefusalReason.UNKNOWN_TEMPLATE)
    assert len(await ground.tickets.waiting(ground.actor)) == 1


class _Found:
    def __init__(self, template):
        self.template = template

    async def named(self, name, path):
        return self.template

    async def everywhere(self, name):
        return self.template

    def fits(self, profile, name):
        return False


# ── devices that exist ────────────────────────────────────────────────────────────────────────


async def test_a_new_token_counts_from_its_first_use(ground):
    """Until then the old one works; afterwards nothing but the token has changed."""
    old, record = await ground.born()
    issued = await ground.tickets.reprovision(ground.actor, record)
    assert issued.ticket.kind is TicketKind.ROTATE
    assert issued.ticket.device_id == record.device.id
    assert (await ground.store.find_credentials(old)).device == record.device
    results = await asyncio.gather(*(ground.claim(issued.token) for _ in range(20)))
    assert {one.device.id for one in results} == {record.device.id}
    assert await ground.store.find_credentials(old) is None
    after = await ground.inventory.find(ground.actor, record.device.uuid)
    assert after.device.name == record.device.name
    assert after.device.created_at == record.device.created_at
    notices = await ground.store.notices(0, 100)
    assert [one.kind for one in notices if one.device_id == record.device.id] == [NoticeKind.LOGIN]


async def test_the_newest_of_several_new_tokens_counts(ground):
    old, record = await ground.born()
    first = await ground.tickets.reprovision(ground.actor, record)
    second = await ground.tickets.reprovision(ground.actor, record)
    assert await ground.claim(first.token) == Refused(RefusalReason.UNKNOWN_TOKEN)
    assert isinstance(await ground.claim(second.token), Provisioned)
    assert await ground.claim(old) == Refused(RefusalReason.UNKNOWN_TOKEN)


async def test_a_new_token_with_another_template_is_refused(ground):
    """The old token stays in force, and the new one can still be claimed."""
    old, record = await ground.born()
    await ground.registry.save_profile(ProfileDraft(profile=DeviceProfile(id=0, name="other")))
    issued = await ground.tickets.reprovision(ground.actor, record)
    assert await ground.claim(issued.token, "other") == Refused(RefusalReason.OTHER_TEMPLATE)
    assert (await ground.store.find_credentials(old)).device == record.device
    assert isinstance(await ground.claim(issued.token), Provisioned)


async def test_the_old_token_may_end_at_once(ground):
    """A setting for who replaces hardware that was stolen."""
    old, record = await ground.born()
    issued = await ground.service(revoke_on_issue=True).reprovision(ground.actor, record)
    assert await ground.store.find_credentials(old) is None
    assert (await ground.claim(issued.token)).device.id == record.device.id
    told = (await ground.registry.events(limit=100))[-1]
    assert (told.kind, told.detail["older"]) == (EventKind.TICKET_ISSUE, "ended at once")
    assert "until" not in told.detail  # it counts already, and for as long as the device is there


async def test_a_removed_device_takes_its_new_token_along(ground):
    _, record = await ground.born()
    issued = await ground.tickets.reprovision(ground.actor, record)
    await ground.inventory.remove(ground.actor, record)
    assert await ground.claim(issued.token) == Refused(RefusalReason.UNKNOWN_TOKEN)
    with pytest.raises(Conflict) as gone:
        await ground.tickets.reprovision(ground.actor, record)
    assert gone.value.cause is Cause.GONE


# ── revoking, orders, bounds ──────────────────────────────────────────────────────────────────


async def test_a_revoked_ticket_is_nobodys(ground):
    issued = await ground.issue()
    (record,) = await ground.tickets.waiting(ground.actor)
    assert record.ticket == issued.ticket
    await ground.tickets.revoke(ground.actor, record)
    assert await ground.claim(issued.token) == Refused(RefusalReason.UNKNOWN_TOKEN)
    with pytest.raises(Conflict):
        await ground.tickets.revoke(ground.actor, record)
    assert await ground.tickets.waiting(ground.actor) == []


async def test_tickets_go_with_their_organisation_and_stay_without_their_owner(ground, crowd):
    owner = crowd.users["user@globex"]
    issued = await ground.issue(crowd.globex, owner)
    await crowd.people.remove_user(ground.actor, owner)
    (record,) = await ground.tickets.waiting(ground.actor)
    assert (record.ticket.owner_id, record.owner_email) == (None, "")
    await crowd.people.remove_organisation(ground.actor, crowd.globex)
    assert await ground.claim(issued.token) == Refused(RefusalReason.UNKNOWN_TOKEN)
    assert (EventKind.TICKET_REVOKE, "success") in await ground.story(issued.ticket.device_id)


async def test_an_order_reaches_every_process_and_is_honest(ground):
    _, record = await ground.born()
    assert not await ground.tickets.order(ground.actor, record, Order.RECONFIGURE)
    ground.online.add(record.device.id)
    address = "mqtts://elsewhere.example:8883"
    assert await ground.tickets.order(ground.actor, record, Order.REDIRECT, address)
    orders = [one for one in await ground.store.notices(0, 100) if one.kind is NoticeKind.ORDER]
    assert [(one.order, one.argument) for one in orders] == [
        (Order.RECONFIGURE, ""),
        (Order.REDIRECT, address),
    ]
    for order, argument in ((Order.REDIRECT, ""), (Order.REBOOT, "x"), (Order.REDIRECT, "a\n")):
        with pytest.raises(Invalid):
            await ground.tickets.order(ground.actor, record, order, argument)


async def test_an_organisation_has_so_many_tickets_at_once(ground, crowd):
    tickets = ground.service(most_waiting=3)
    for _ in range(3):
        await tickets.issue(ground.actor, crowd.acme, None)
    with pytest.raises(Overloaded):
        await tickets.issue(ground.actor, crowd.acme, None)
    await tickets.issue(ground.actor, crowd.globex, None)
    (first, *_) = await tickets.waiting(ground.actor)
    await tickets.revoke(ground.actor, first)
    ground.clock.now += 1000
    await tickets.issue(ground.actor, crowd.acme, None)


async def test_the_bound_holds_in_a_crowd(ground, crowd):
    """Of twenty at once as many are issued as there is room for."""
    tickets = ground.service(most_waiting=3)
    tries = (tickets.issue(ground.actor, crowd.acme, None) for _ in range(20))
    made = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(one, Overloaded) for one in made) == 3
    assert len(await tickets.waiting(ground.actor)) == 3


@pytest.mark.parametrize("days", [0, -1, 4000])
async def test_a_ticket_stands_for_some_time(ground, days):
    with pytest.raises(Invalid):
        await ground.issue(days=days)


# ── who may ───────────────────────────────────────────────────────────────────────────────────


async def test_who_may_issue_for_whom(ground, crowd):
    """An owner is a member of the organisation, or of one above it that the actor reaches."""
    boss = await crowd.actor("admin@acme")
    users, tickets = crowd.users, ground.tickets
    for owner in ("user@acme", "admin@acme"):
        await tickets.issue(boss, crowd.north, users[owner])
    await tickets.issue(boss, crowd.north, users["user@north"])
    for owner in ("user@globex", "admin@root"):
        with pytest.raises(Conflict):
            await tickets.issue(boss, crowd.north, users[owner])
    with pytest.raises(Conflict):
        await tickets.issue(boss, crowd.acme, users["user@north"])
    for foreign in (crowd.globex, crowd.root):
        with pytest.raises(Conflict):
            await tickets.issue(boss, foreign, None)


async def test_permissions(ground, crowd):
    """PROVISION_DEVICES for all; ORG_VIEW_USERS for others' devices; a view for devices."""
    _, record = await ground.born()
    users, tickets = crowd.users, ground.tickets
    without = await crowd.actor("admin@acme", Permission.PROVISION_DEVICES)
    with pytest.raises(Forbidden):
        await tickets.issue(without, crowd.acme, users["admin@acme"])
    with pytest.raises(Forbidden):
        await tickets.waiting(without)
    blind = await crowd.actor("admin@acme", Permission.ORG_VIEW_USERS)
    await tickets.issue(blind, crowd.acme, users["admin@acme"])
    with pytest.raises(Forbidden):
        await tickets.issue(blind, crowd.acme, users["user@acme"])
    views = (Permission.OWN_DEVICES_VIEW, Permission.ORG_DEVICES_VIEW)
    with pytest.raises(Forbidden):
        await tickets.reprovision(await crowd.actor("admin@root", *views), record)
    with pytest.raises(Conflict):
        await tickets.reprovision(await crowd.actor("admin@acme"), record)


async def test_tickets_of_others_are_out_of_sight(ground, crowd):
    issued = await ground.issue(crowd.globex)
    boss = await crowd.actor("admin@acme")
    assert await ground.tickets.waiting(boss) == []
    assert await ground.tickets.find(boss, issued.ticket.id) is None
    (record,) = await ground.tickets.waiting(ground.actor)
    with pytest.raises(Conflict):
        await ground.tickets.revoke(boss, record)


async def test_refusals_tell_the_operator_why(ground):
    """The device hears one text for all of them; the events say which it was."""
    issued = await ground.issue()
    await ground.claim(issued.token, "nobody")
    await ground.store.writer.settled()
    (refused,) = [
        one for one in await ground.registry.events(limit=100) if one.outcome is Outcome.REFUSED
    ]
    assert (refused.reason, refused.device_id) == ("unknown_template", issued.ticket.device_id)
    assert issued.token.reveal() not in repr(refused)


async def test_an_owner_who_went_meanwhile_gets_no_ticket(ground, crowd):
    """The user was found, and removed before the ticket was written; others are not in the way."""
    owner = crowd.users["user@globex"]
    await crowd.people.remove_user(ground.actor, owner)
    gone, made = await asyncio.gather(
        ground.issue(crowd.globex, owner), ground.issue(crowd.acme), return_exceptions=True
    )
    assert isinstance(gone, Conflict)
    assert made.ticket.organisation_id == crowd.acme.id
