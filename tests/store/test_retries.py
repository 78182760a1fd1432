"""Answers that are given again: to whom, until when, and who decides when two ask at once."""

from __future__ import annotations

import asyncio

import pytest
from issued import given, signed

from gateway.core.model import (
    PROVISIONED,
    AccessToken,
    Binding,
    BirthRule,
    EventKind,
    Outcome,
    PresharedKey,
    Provisioned,
    ProvisionType,
    RefusalReason,
    Refused,
    Secret,
)
from gateway.core.pki.model import RevocationReason
from gateway.core.terms import Terms
from gateway.store.retention import Retention

pytestmark = pytest.mark.every_database

WINDOW_MS = 900_000
BIRTH = EventKind.DEVICE_PROVISION


def token(text):
    return AccessToken(Secret(text))


@pytest.fixture
def bound(clock):
    """Terms with a binding to a text."""

    def make(text="n1", **fields):
        return Terms(ticket_id=1, binding=Binding(Secret(text), clock.now + WINDOW_MS), **fields)

    return make


@pytest.fixture
async def profile(keep_profile, store):
    return await keep_profile(store, kind=ProvisionType.ALLOW_CREATE_NEW_DEVICES)


@pytest.fixture
def ask(store, newcomer, profile, bound):
    """Asks to be born by that name, bound to that text, with a token made for it."""

    def make(name, made, text="n1", by=store, **fields):
        terms = fields.pop("terms", None) or bound(text)
        new = newcomer(profile, name, credentials=token(made), terms=terms, **fields)
        return by.create_device(new)

    return make


def credential(result):
    assert isinstance(result, Provisioned), result
    return result.credentials.token.reveal()


async def devices(registrar):
    page = await registrar.devices(after_id=0, limit=1000, profile_id=None, text="")
    return [one.device.name for one in page]


async def test_the_same_request_gets_the_same_again(ask, registrar, told, store, clock, bound):
    """And no other: another binding, or none, is refused as ever. There is one event of a birth."""
    first = await ask("meter", "t1")
    again = await ask("meter", "t2")
    assert (credential(again), again.again, again.device) == ("t1", True, first.device)
    assert await ask("meter", "t3", "n2") == Refused(RefusalReason.NAME_TAKEN)
    assert await ask("meter", "t3", terms=Terms()) == Refused(RefusalReason.NAME_TAKEN)
    found = await store.find_repeat(bound().binding, clock.now)
    assert found.credentials == first.credentials
    assert await store.find_repeat(bound("n2").binding, clock.now) is None
    assert await devices(registrar) == ["meter"]
    outcomes = [outcome for outcome, _, _ in await told(BIRTH)]
    assert outcomes == [Outcome.SUCCESS, Outcome.REFUSED, Outcome.REFUSED]


async def test_of_many_at_once_one_is_born(ask, registrar, told):
    """In one transaction: by one name, and without names, where each was made another."""
    named = await asyncio.gather(*(ask("meter", f"t{i}") for i in range(20)))
    nameless = await asyncio.gather(*(ask(f"r{i}", f"u{i}", "n2") for i in range(20)))
    assert {credential(one) for one in named} == {"t0"}
    assert {credential(one) for one in nameless} == {"u0"}
    assert {one.device.id for one in nameless} == {nameless[0].device.id}
    assert [one.again for one in nameless] == [False] + [True] * 19
    assert await devices(registrar) == ["meter", "r0"]
    assert len(await told(BIRTH)) == 2
    # Neighbours of another mind are born beside them.
    mixed = await asyncio.gather(ask("r20", "u20", "n2"), ask("b", "t20", "n3"), ask("c", "t21"))
    assert [credential(one) for one in mixed] == ["u0", "t20", "t0"]


async def test_of_two_gateways_at_once_one_gives_birth(stores, newcomer, keep_profile, bound):
    """Whichever is quicker: the other's devices get what it gave."""
    profile = await keep_profile(stores[0], kind=ProvisionType.ALLOW_CREATE_NEW_DEVICES)

    async def ask(by, number):
        new = newcomer(profile, f"r{number}", credentials=token(f"t{number}"), terms=bound())
        return await by.create_device(new)

    found = await asyncio.gather(*(ask(stores[i % 2], i) for i in range(20)))
    assert len({credential(one) for one in found}) == 1
    assert sum(not one.again for one in found) == 1
    again = await stores[1].find_repeat(bound().binding, newcomer(profile, credentials=1).at)
    assert again.credentials.token.reveal() == credential(found[0])


async def test_its_own_credential_shows_who_asks(ask):
    """Without a name the credential would be another's: it is the same device's."""
    first = await ask("r1", "own")
    assert (await ask("r2", "own")).device == first.device
    assert await ask("r3", "own", "n2") == Refused(RefusalReason.CREDENTIALS_TAKEN)


async def test_what_is_over_is_not_given_again(ask, clock, registrar):
    """A nonce may come again after its window: then it is another device's."""
    await ask("r1", "t1")
    clock.now += WINDOW_MS
    assert await ask("r1", "t2") == Refused(RefusalReason.NAME_TAKEN)
    assert credential(await ask("r2", "t3")) == "t3"
    assert credential(await ask("r3", "t4")) == "t3"
    assert await devices(registrar) == ["r1", "r2"]


async def test_the_first_use_ends_it(ask, store, clock):
    """It is known with the credential; a token that was shown to a connection was used."""
    first = await ask("meter", "t1")
    known = await store.find_credentials(Secret("t1"))
    assert known.repeatable
    await asyncio.gather(*(store.used(known.device) for _ in range(3)))
    assert not (await store.find_credentials(Secret("t1"))).repeatable
    assert await ask("meter", "t2") == Refused(RefusalReason.NAME_TAKEN)
    await ask("other", "t5", "n5")
    assert (await store.find_token(Secret("t5"))).name == "other"
    assert await ask("other", "t6", "n5") == Refused(RefusalReason.NAME_TAKEN)
    assert first.device.id == known.device.id
    # A copy of a request without a name that comes late is nobody new.
    await ask("r1", "t7", "n7")
    await store.used((await store.find_credentials(Secret("t7"))).device)
    assert await ask("r2", "t8", "n7") == Refused(RefusalReason.ALREADY_PROVISIONED)
    clock.now += WINDOW_MS
    assert credential(await ask("r3", "t9", "n7")) == "t9"


@pytest.mark.parametrize("change", ["replace", "renew", "revoke", "rearm", "remove", "block"])
async def test_whatever_changes_the_login_ends_it(ask, store, registrar, event, change, bound):
    """Nobody is given what an operator, or the device itself, took back meanwhile."""
    born = (await ask("meter", "t1")).device
    told = event(EventKind.DEVICE_CREDENTIALS)
    match change:
        case "replace":
            assert await registrar.replace_credentials(born.id, token("new"), told)
        case "renew":
            assert await store.renew(born, token("new"), None, told)
        case "revoke":
            assert await registrar.revoke_credentials(born.id, RevocationReason.UNSPECIFIED, told)
        case "rearm":
            assert await registrar.rearm_device(born.id, told)
        case "remove":
            assert await registrar.remove_device(born.id, told)
        case "block":
            await store.driver.transact(lambda tx: tx.fetch("set_provision_state", born.id, "no"))
    assert await store.find_repeat(bound().binding, told.at) is None
    again = await ask("meter", "t2")
    if change == "remove":
        assert credential(again) == "t2"
    else:
        assert again == Refused(RefusalReason.NAME_TAKEN)
        assert await ask("r1", "t3") == Refused(RefusalReason.ALREADY_PROVISIONED)


async def test_a_claim_is_repeated_too(store, new_fleet, event, bound, clock):
    """A device that waited; and one that was to be born where one waits."""
    fleet = await new_fleet(ProvisionType.CHECK_PRE_PROVISIONED_DEVICES)
    waiting = await fleet.waiting("meter")

    def claim(text, **fresh):
        told = event(BIRTH, subject="meter")
        return store.claim_device(fleet.profile, "meter", told, terms=bound(text), **fresh)

    first, again, other = await asyncio.gather(claim("n1"), claim("n1"), claim("n2"))
    assert (first.again, again.again, again.credentials) == (False, True, first.credentials)
    assert other == Refused(RefusalReason.ALREADY_PROVISIONED)
    assert again.device.id == waiting.id
    assert (await claim("n1")).credentials == first.credentials
    # With a key that is made for it each time: the first stands.
    await fleet.waiting("pump")
    told = event(BIRTH, subject="pump")
    keys = [PresharedKey(f"pump{i}", Secret(f"{i:064d}")) for i in range(2)]
    given_ = [
        await store.claim_device(fleet.profile, "pump", told, fresh=key, terms=bound("n3"))
        for key in keys
    ]
    assert [one.credentials for one in given_] == [keys[0], keys[0]]


async def test_a_birth_that_becomes_a_claim_is_repeated(store, new_fleet, newcomer, bound):
    """In profiles that let existing devices be claimed; also in the form of 2020."""
    fleet = await new_fleet(pre_provision_allowed=True)
    for number, rule in enumerate((None, BirthRule(groups=("g",)))):
        name = f"m{number}"
        await fleet.waiting(name)

        def new(made, name=name, rule=rule):
            return newcomer(
                fleet.profile,
                name,
                credentials=token(made),
                claim_existing=True,
                birth=rule,
                terms=bound(name),
            )

        made = (new(f"{name}-a"), new(f"{name}-b"))
        first, again = await asyncio.gather(*map(store.create_device, made))
        later = await store.create_device(new(f"{name}-c"))
        assert first.credentials == again.credentials == later.credentials
        assert (first.again, again.again, later.again) == (False, True, True)


async def test_births_of_2020_are_repeated(store, keep_profile, newcomer, registrar, bound):
    """No profile is left of a type that only the second asker named."""
    profile = await keep_profile(store, kind=ProvisionType.ALLOW_CREATE_NEW_DEVICES)

    def ask(name, kind):
        new = newcomer(
            profile,
            name,
            credentials=token(name),
            birth=BirthRule(profile_by_type=True, groups=("g",)),
            terms=bound(),
        )
        return store.create_device(type(new)(**{**_fields(new), "type": kind}))

    first, again = await asyncio.gather(ask("r1", "pump"), ask("r2", "valve"))
    assert (credential(again), again.device) == ("r1", first.device)
    assert "valve" not in {one.name for one in await registrar.profiles()}
    assert await devices(registrar) == ["r1"]


def _fields(struct):
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


async def test_on_terms_it_is_repeated_before_they_are_looked_at(ask, bound, registrar):
    """A profile that is full since gives again what it gave."""
    full = bound(max_devices=1)
    first = await ask("meter", "t1", terms=full)
    assert credential(await ask("meter", "t2", terms=full)) == "t1" == credential(first)
    assert await devices(registrar) == ["meter"]


async def test_of_a_certificate_the_first_stands(store, profile, reserve, newcomer, bound):
    """The other's number is given back, as if nothing had been signed."""
    for serial in (1, 2):
        assert await reserve(serial, "pump", key=bytes(32))

    def ask(serial, **fields):
        new = newcomer(profile, "pump", issued=signed(serial), terms=bound(**fields))
        return store.create_device(new)

    first, again = await asyncio.gather(ask(1), ask(2))
    assert first.credentials == again.credentials == given(signed(1))
    assert await store.certificate(2) is None
    assert await reserve(3, "pump", key=bytes(32))
    assert (await ask(3, max_devices=9)).credentials == given(signed(1))
    assert await store.certificate(3) is None


async def test_windows_that_are_over_are_swept(ask, store, clock, driver):
    await ask("m1", "t1")
    clock.now += WINDOW_MS // 2
    await ask("m2", "t2", "n2")
    clock.now += WINDOW_MS // 2
    await Retention(store, clock).sweep()
    left = await driver.read("SELECT d.name FROM retry_window r JOIN device d ON d.id = device_id")
    assert left == [("m2",)]
    assert (await store.find_credentials(Secret("t1"))).device.provision_state == PROVISIONED
