"""Fleet secrets in SQL: their uses under load, what they bore, and quarantine."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs
from operators import root_operator

from gateway.core.binding import binding_of
from gateway.core.errors import Cause, Conflict
from gateway.core.fleet_custody import FleetSecrets
from gateway.core.fleet_secret_store import Bounds
from gateway.core.model import (
    AccessToken,
    BirthRule,
    DeviceProfile,
    EventKind,
    NoticeKind,
    Outcome,
    Peer,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    ProvisionType,
    RefusalReason,
    Refused,
    Secret,
    Wire,
)
from gateway.core.ports import NewChild
from gateway.core.provisioning import Provisioner
from gateway.core.registry import ProfileDraft, Registry
from gateway.core.tokens import new_token
from gateway.store.sql_fleet_tickets import SqlFleetTickets
from gateway.store.sql_registrar import SqlRegistrar

pytestmark = pytest.mark.every_database

NOW = 1_790_000_000_000
SHELL = Peer(Wire.SHELL, "tester", actor="tester")
OPERATOR = root_operator()


def secrets_of(store, clock):
    return FleetSecrets(SqlFleetTickets(store), clock=clock, new_token=new_token)


@pytest.fixture
def secrets(store, clock):
    return secrets_of(store, clock)


def request(ticket, name, address="192.0.2.7:5"):
    proof = ProvisionKey(ticket.key, ticket.secret)
    return ProvisionRequest(proof=proof, peer=Peer(Wire.HTTP, address), device_name=name)


@pytest.fixture
def enter(provisioner):
    """Provisions a device, or says why not."""

    async def ask(ticket, name, **where):
        result = await provisioner.provision(request(ticket, name, **where))
        return result.reason if isinstance(result, Refused) else result

    return ask


async def test_uses_are_exact(stores, clock):
    """Of forty that come at once to two processes as many get in as may; nothing is left of the
    others but their refusals, and a name that was refused is free."""
    registry = Registry(
        stores[0], SqlRegistrar(stores[0]), clock=clock, new_token=new_token, peer=SHELL
    )
    profile = DeviceProfile(id=0, name="p", provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES)
    await registry.save_profile(ProfileDraft(profile=profile))
    secrets = secrets_of(stores[0], clock)
    stored = await registry.profile("p")
    ticket = await secrets.add(OPERATOR, stored, "trial", bounds=Bounds(max_uses=7))
    doors = [
        Provisioner(store, clock=clock, new_token=new_token, readable=lambda _: True)
        for store in stores
    ]
    results = await asyncio.gather(
        *(doors[n % 2].provision(request(ticket, f"d{n}")) for n in range(40))
    )
    born = [one for one in results if isinstance(one, Provisioned)]
    reasons = [one.reason for one in results if isinstance(one, Refused)]
    assert len(born) == 7
    assert set(reasons) == {RefusalReason.SECRET_USED_UP}
    assert (await secrets.find(OPERATOR, ticket.id)).uses == 7
    assert await secrets.count_borne(OPERATOR, ticket) == 7
    assert {one.device.name for one in await registry.devices()} == {
        one.device.name for one in born
    }
    events = await SqlRegistrar(stores[0]).events(after_seq=0, limit=1000, device_id=None)
    told = [one.reason for one in events if one.outcome is Outcome.REFUSED]
    assert told == ["secret_used_up"] * 33
    default = await registry.ticket(stored)
    refused = next(f"d{n}" for n, one in enumerate(results) if isinstance(one, Refused))
    assert isinstance(await doors[0].provision(request(default, refused)), Provisioned)


async def test_a_name_that_is_taken_uses_nothing_up(secrets, new_fleet, enter):
    fleet = await new_fleet()
    ticket = await secrets.add(OPERATOR, fleet.profile, "trial", bounds=Bounds(max_uses=2))
    assert isinstance(await enter(ticket, "a"), Provisioned)
    assert await enter(ticket, "a") is RefusalReason.NAME_TAKEN
    assert isinstance(await enter(ticket, "b"), Provisioned)
    assert await enter(ticket, "c") is RefusalReason.SECRET_USED_UP
    await secrets.bound(OPERATOR, ticket, Bounds(max_uses=3))
    assert isinstance(await enter(ticket, "c"), Provisioned)


async def test_a_change_counts_from_the_next_request_on(secrets, new_fleet, enter, clock):
    """Though the pair was used just now, and is kept in memory."""
    fleet = await new_fleet()
    ticket = fleet.ticket
    assert isinstance(await enter(ticket, "a"), Provisioned)
    await secrets.bound(OPERATOR, ticket, Bounds(networks=("10.0.0.0/8",)))
    assert await enter(ticket, "b") is RefusalReason.NETWORK_NOT_ALLOWED
    assert isinstance(await enter(ticket, "b", address="10.1.2.3:1"), Provisioned)
    assert isinstance(await enter(ticket, "b6", address="[::ffff:10.1.2.3]:1"), Provisioned)
    await secrets.bound(OPERATOR, ticket, Bounds(not_before=clock.now + 1))
    assert await enter(ticket, "c") is RefusalReason.SECRET_NOT_YET_VALID
    new = await secrets.rotate(OPERATOR, ticket, overlap_ms=0)
    assert isinstance(await enter(new, "c"), Provisioned)
    clock.now += 1
    assert await enter(ticket, "d") is RefusalReason.SECRET_EXPIRED
    await secrets.revoke(OPERATOR, new)
    assert await enter(new, "d") is RefusalReason.SECRET_REVOKED


async def test_a_profile_file_keeps_its_pair(secrets, new_fleet, registry, enter):
    """Reading it again neither frees a bounded pair nor touches the others."""
    fleet = await new_fleet()
    other = await secrets.add(OPERATOR, fleet.profile, "b")
    await secrets.bound(OPERATOR, fleet.ticket, Bounds(networks=("10.0.0.0/8",)))
    await registry.save_profile(
        ProfileDraft(profile=fleet.profile, key=fleet.ticket.key, secret=fleet.ticket.secret)
    )
    assert await enter(fleet.ticket, "a") is RefusalReason.NETWORK_NOT_ALLOWED
    assert isinstance(await enter(other, "a"), Provisioned)
    assert (await registry.ticket(fleet.profile)).label == "default"


@pytest.mark.parametrize("pair", ["none", "the same", "another"])
async def test_a_profile_file_brings_no_secret_back(secrets, new_fleet, registry, enter, pair):
    """One that was revoked, or is in quarantine, stays so whatever the file says, and no other is
    made in its place; nor does a rotation of what the file had open the door."""
    fleet = await new_fleet()
    key, secret = fleet.ticket.key, fleet.ticket.secret
    given = {
        "none": {},
        "the same": {"key": key, "secret": secret},
        "another": {"key": Secret("another-key-0001"), "secret": Secret("another-secret-0001")},
    }[pair]
    for end in (secrets.quarantine, secrets.revoke):
        await end(OPERATOR, fleet.ticket)
        changed = structs.replace(fleet.profile, description=end.__name__)
        await registry.save_profile(ProfileDraft(profile=changed, **given))
        (ticket,) = await secrets.listed(OPERATOR)
        for shown in (ticket, fleet.ticket):
            assert not isinstance(await enter(shown, "a"), Provisioned)
    await registry.rotate_secret(fleet.profile, key_too=True)
    (ticket,) = await secrets.listed(OPERATOR)
    assert await enter(ticket, "a") is RefusalReason.SECRET_REVOKED
    other = await secrets.add(OPERATOR, fleet.profile, "b")
    assert isinstance(await enter(other, "a"), Provisioned)


async def test_what_a_secret_bore(secrets, new_fleet, enter, clock, store):
    """Births and claims, page by page, since a time; other secrets' are not among them."""
    fleet = await new_fleet(pre_provision_allowed=True)
    ticket = await secrets.add(OPERATOR, fleet.profile, "b")
    waiting = await fleet.waiting("waiting")
    first = clock.now
    for name in ("a", "b"):
        await enter(ticket, name)
    await enter(fleet.ticket, "another")
    clock.now += 1000
    claimed = await enter(ticket, "waiting")
    assert claimed.device.id == waiting.id
    all_there = await secrets.blast_radius(OPERATOR, ticket)
    assert [one.name for one in all_there] == ["waiting", "a", "b"]
    assert [one.provisioned_at - first for one in all_there] == [1000, 0, 0]
    assert {(one.suspended, one.seen_at) for one in all_there} == {(False, None)}
    assert await secrets.count_borne(OPERATOR, ticket) == 3
    assert await secrets.count_borne(OPERATOR, ticket, since=first + 1) == 1
    page = await secrets.blast_radius(OPERATOR, ticket, after_id=all_there[0].id, limit=1)
    assert page == all_there[1:2]
    assert all_there[0].uuid == claimed.device.uuid


async def test_quarantine_suspends_and_release_undoes_it(
    secrets, store, new_fleet, enter, clock, registry
):
    """Only what it bore since then; their tokens are nobody's, also behind a gateway, and it lets
    nobody in. Their data stay, and with the release all is as before."""
    fleet = await new_fleet()
    ticket = await secrets.add(OPERATOR, fleet.profile, "b")
    older, gateway = await enter(ticket, "older"), await enter(fleet.ticket, "gw")
    clock.now += 1000
    since = clock.now
    newer = await enter(ticket, "newer")

    async def known(device):
        token = device.credentials.id
        found = await store.find_credentials(token)
        assert (found is None) == (await store.find_token(token) is None)
        return found is not None

    async def behind_gateway(name):
        return await store.child(
            NewChild(
                gateway=gateway.device,
                name=name,
                type="t",
                token=Secret(new_token()),
                peer=SHELL,
                at=clock.now,
            )
        )

    seen = await store.last_notice()
    assert await secrets.quarantine(OPERATOR, ticket, since=since) == 1
    assert [await known(one) for one in (older, newer, gateway)] == [True, False, True]
    assert await enter(ticket, "third") is RefusalReason.SECRET_QUARANTINED
    assert await behind_gateway("newer") == Refused(RefusalReason.SECRET_QUARANTINED)
    assert (await behind_gateway("older")).id == older.device.id
    ids = [one.device.id for one in (older, newer, gateway)]
    assert await store.suspended(ticket.id, ids) == [newer.device.id]
    assert await store.suspended(fleet.ticket.id, ids) == []
    assert [one.suspended for one in await secrets.blast_radius(OPERATOR, ticket)] == [False, True]
    (notice,) = await store.notices(seen, 10)
    assert (notice.kind, notice.ticket_id) == (NoticeKind.QUARANTINE, ticket.id)
    assert await secrets.quarantine(OPERATOR, ticket) == 2  # all of them, after all
    assert not await known(older)
    await secrets.release(OPERATOR, ticket)
    assert [await known(one) for one in (older, newer)] == [True, True]
    assert (await behind_gateway("newer")).id == newer.device.id
    assert isinstance(await enter(ticket, "third"), Provisioned)


async def test_pending_credentials_of_the_suspended_count_no_more(
    secrets, store, registry, new_fleet, enter, event
):
    """Those that were given and not used yet do not let it in by a side door."""
    fleet = await new_fleet()
    born = await enter(fleet.ticket, "d")
    fresh = AccessToken(Secret("a-fresh-token-000001"))
    told = event(EventKind.DEVICE_CREDENTIALS_RENEW, device_id=born.device.id)
    assert await store.renew(born.device, fresh, None, told)
    assert await store.find_pending(fresh.id) is not None
    await secrets.quarantine(OPERATOR, fleet.ticket)
    assert await store.find_pending(fresh.id) is None


@pytest.mark.parametrize(
    "fields", [{}, {"birth": BirthRule(profile_by_type=True)}], ids=["profile", "any profile"]
)
async def test_the_suspended_are_not_claimed(secrets, new_fleet, enter, registry, store, fields):
    """With another secret, after they were re-armed: that would let in again whoever has the
    credentials that the leaked one gave. The release lets it be."""
    fleet = await new_fleet(pre_provision_allowed=True, **fields)
    leaked = await secrets.add(OPERATOR, fleet.profile, "leaked")
    born = await enter(leaked, "d")
    await secrets.quarantine(OPERATOR, leaked)
    assert await registry.rearm_device(await registry.device("d"))
    assert await enter(fleet.ticket, "d") is RefusalReason.SECRET_QUARANTINED
    assert await store.find_credentials(born.credentials.id) is None
    (borne,) = await secrets.blast_radius(OPERATOR, leaked)
    assert borne.suspended
    await secrets.release(OPERATOR, leaked)
    claimed = await enter(fleet.ticket, "d")
    assert claimed.device.id == born.device.id


async def test_answers_to_the_suspended_are_not_repeated(secrets, store, new_fleet, provisioner):
    """However the look and the quarantine fall together."""
    fleet = await new_fleet()
    asked = structs.replace(request(fleet.ticket, "d"), nonce=Secret("0123456789abcdef"))
    binding = binding_of(fleet.ticket, asked, NOW)
    assert isinstance(await provisioner.provision(asked), Provisioned)
    assert await store.find_repeat(binding, NOW) is not None
    await secrets.quarantine(OPERATOR, fleet.ticket)
    assert await store.find_repeat(binding, NOW) is None


async def test_a_profile_in_quarantine_stays(secrets, registry, new_fleet):
    """Else what its secret bore, and is of another profile by now, would be let in again."""
    fleet = await new_fleet()
    await secrets.quarantine(OPERATOR, fleet.ticket)
    assert not await registry.remove_profile(fleet.profile)
    await secrets.release(OPERATOR, fleet.ticket)
    assert await registry.remove_profile(fleet.profile)
    with pytest.raises(Conflict) as gone:
        await secrets.add(OPERATOR, fleet.profile, "b")
    assert gone.value.cause is Cause.GONE


async def test_last_used_is_as_of_the_minute(secrets, store, new_fleet, enter, clock):
    """One write in a minute, however many come in it; a wrong secret is no use."""
    fleet = await new_fleet()
    ticket = fleet.ticket

    async def last_used():
        await store.writer.settled()
        return (await secrets.find(OPERATOR, ticket.id)).last_used_at

    wrong = structs.replace(ticket, secret=Secret("wrong"))
    assert await enter(wrong, "x") is RefusalReason.WRONG_SECRET
    assert await last_used() is None
    minute = clock.now - clock.now % 60_000
    await enter(ticket, "a")
    assert await last_used() == minute
    await store.driver.transact(lambda tx: tx.fetch("note_use", ticket.id, minute + 1))
    clock.now = minute + 59_999
    await enter(ticket, "b")
    assert await last_used() == minute + 1  # nothing was written in the same minute
    clock.now = minute + 60_000
    await enter(ticket, "c")
    assert await last_used() == minute + 60_000
    assert (await secrets.find(OPERATOR, ticket.id)).uses == 0  # counted where they are bounded


async def test_a_profile_has_no_end_of_secrets(secrets, new_fleet, monkeypatch):
    """Those that were revoked do not count, and are listed still."""
    monkeypatch.setattr("gateway.core.fleet_custody.MOST_OF_A_PROFILE", 3)
    fleet = await new_fleet()
    made = [await secrets.add(OPERATOR, fleet.profile, label) for label in ("a", "b")]
    with pytest.raises(Conflict) as full:
        await secrets.add(OPERATOR, fleet.profile, "c")
    assert full.value.cause is Cause.IN_USE
    await secrets.revoke(OPERATOR, made[0])
    await secrets.add(OPERATOR, fleet.profile, "c")
    labels = [one.label for one in await secrets.listed(OPERATOR)]
    assert labels == ["default", "a", "b", "c"]


async def test_pairs_are_sealed(secrets, store, new_fleet):
    """Neither key nor secret is in the table."""
    fleet = await new_fleet()
    pair = (Secret("a-key-in-clear-0001"), Secret("a-secret-in-clear-0001"))
    added = await secrets.add(OPERATOR, fleet.profile, "b", key=pair[0], secret=pair[1])
    assert (added.key, added.secret) == pair
    rows = await store.driver.read("SELECT digest, sealed_key, sealed_secret FROM ticket")
    stored = b"".join(bytes(cell) for row in rows for cell in row)
    assert b"in-clear" not in stored
