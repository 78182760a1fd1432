"""Certificates of ours: reserved, issued with a device, revoked, forgotten; and whose keys."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest
from issued import given, signed

from gateway.core.errors import StoreUnavailable
from gateway.core.model import (
    AccessToken,
    Certificate,
    EventKind,
    Outcome,
    PresharedKey,
    Provisioned,
    ProvisionType,
    RefusalReason,
    Refused,
    Secret,
)
from gateway.core.pki.model import (
    CertificateProfile,
    CertificateState,
    RevocationReason,
    SerialReservation,
)
from gateway.core.ports import NewProfile
from gateway.store.certificates import serial_text
from gateway.store.retention import Retention

pytestmark = pytest.mark.every_database

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
DAY = 86_400_000
WAITING = ProvisionType.CHECK_PRE_PROVISIONED_DEVICES


@pytest.fixture
def state(store):
    """The state and reason of a certificate, None when it is not known."""

    async def find(serial):
        record = await store.certificate(serial)
        return record and (record.state.value, record.reason.name)

    return find


@pytest.fixture
def detail(registrar):
    """The details of the events of a kind."""

    async def find(kind=EventKind.DEVICE_PROVISION):
        events = await registrar.events(after_seq=0, limit=1000, device_id=None)
        return [one.detail for one in events if one.kind is kind]

    return find


# ── reserved ──────────────────────────────────────────────────────────────────────────────────


async def test_a_number_is_written_down_before_it_is_signed(store, reserve):
    """Reserved it is known, and belongs to no device yet."""
    assert await reserve(7, "n", KEY)
    record = await store.certificate(7)
    assert (record.serial, record.authority_id, record.name) == (7, 1, "n")
    assert record.state is CertificateState.RESERVED
    assert (record.device_id, record.not_after) == (None, 0)


@pytest.mark.parametrize("serial", [0, -1, 1 << 160, 8, (1 << 160) - 1])
async def test_a_number_that_is_none_of_ours(store, registrar, event, serial):
    """Anybody may ask for any number."""
    assert await store.certificate(serial) is None
    told = event(EventKind.CERTIFICATE_REVOKE)
    assert await registrar.revoke_certificate(serial, RevocationReason(1), told) is None


async def test_the_greatest_number_comes_back(store, reserve):
    """20 bytes, as RFC 5280 allows."""
    most = (1 << 159) - 1
    assert await reserve(most)
    assert (await store.certificate(most)).serial == most


async def test_a_key_is_certified_for_one_device(stores, reserve):
    """Of many devices that come with one key at once, one may have it."""
    asked = [reserve(n, f"d{n}", KEY, by=stores[n % 2]) for n in range(1, 21)]
    assert Counter(await asyncio.gather(*asked)) == {True: 1, False: 19}


async def test_a_device_may_ask_again_with_its_key(stores, reserve):
    """As often as it likes, while others come with that key, too."""
    assert await reserve(100, "d", KEY, by=stores[0])
    asked = [reserve(n, "de"[n % 2], KEY, by=stores[n // 2 % 2]) for n in range(1, 21)]
    assert await asyncio.gather(*asked) == [n % 2 == 0 for n in range(1, 21)]


async def test_a_key_refused_leaves_no_number(store, reserve):
    """Nothing could be signed with it."""
    await reserve(1, "a", KEY)
    assert not await reserve(2, "b", KEY)
    assert await store.certificate(2) is None


async def test_one_batch_tells_the_granted_from_the_refused(store, reserve):
    """Neighbours in a transaction are decided each for itself."""
    await reserve(1, "a", KEY)
    names = ["a", "b", "c", "d"]
    keys = [KEY, KEY, OTHER_KEY, OTHER_KEY]
    asked = [reserve(n + 2, name, keys[n]) for n, name in enumerate(names)]
    assert await asyncio.gather(*asked) == [True, False, True, False]


async def test_names_are_of_their_organisation(store, reserve, clock):
    """Of two devices of one name in two organisations one has the key."""
    await reserve(1, "a", KEY)
    other = SerialReservation(
        serial=2, authority_id=1, key_digest=KEY, organisation_id=2, name="a", at=clock.now
    )
    assert not await store.reserve_serial(other)


# ── issued ────────────────────────────────────────────────────────────────────────────────────


async def test_a_device_is_born_with_its_certificate(store, registrar, certified, state, detail):
    """What was signed is the device's login and in the books, and the event names it."""
    known = await store.find_credentials(given(signed(1)).id)
    assert (known.device.id, known.credentials) == (certified.id, given(signed(1)))
    (record,) = await registrar.certificates(device_id=certified.id)
    assert record == await store.certificate(1)
    assert (record.state, record.not_after) == (CertificateState.ISSUED, signed(1).not_after)
    assert (record.device_id, record.name) == (certified.id, "c")
    assert await detail() == [{"certificate": serial_text(1)}]


async def test_its_issuers_are_given_with_it(store, new_fleet, reserve, newcomer):
    """They are not kept: whoever signed knows them."""
    fleet = await new_fleet()
    await reserve(1, "n")
    born = await store.create_device(newcomer(fleet.profile, issued=signed(1)))
    assert (born.credentials, born.issuers) == (given(signed(1)), (b"issuer",))


async def test_a_name_that_is_taken_leaves_no_certificate(
    store, new_fleet, reserve, newcomer, certified, state
):
    """The reservation is dropped, and the key it brought is free for another."""
    fleet = await new_fleet()
    await reserve(2, "c", KEY)
    refused = await store.create_device(newcomer(fleet.profile, "c", issued=signed(2)))
    assert refused == Refused(RefusalReason.NAME_TAKEN)
    assert await state(2) is None
    assert await reserve(3, "another", KEY)


async def test_a_refusal_does_not_free_a_key_that_others_hold(
    store, new_fleet, reserve, newcomer, certified
):
    """The device asks again with its own key: refused, and the key stays its own."""
    fleet = await new_fleet()
    own = (1).to_bytes(32)
    assert await reserve(2, "c", own)
    await store.create_device(newcomer(fleet.profile, "c", issued=signed(2)))
    assert not await reserve(3, "another", own)


async def test_many_are_born_at_once_and_the_refused_are_told_apart(
    stores, reserve, newcomer, keep_profile
):
    """Of twenty with one name one is born; its certificate is the one that is issued."""
    profile = await keep_profile(stores[0])
    for n in range(1, 21):
        assert await reserve(n, "n", KEY, by=stores[n % 2])
    born = [
        stores[n % 2].create_device(newcomer(profile, "n", issued=signed(n))) for n in range(1, 21)
    ]
    results = await asyncio.gather(*born)
    (winner,) = [n for n, one in enumerate(results, 1) if isinstance(one, Provisioned)]
    records = [await stores[0].certificate(n) for n in range(1, 21)]
    assert [one.serial for one in records if one is not None] == [winner]
    assert not await reserve(99, "another", KEY, by=stores[1])


async def test_a_certificate_is_not_issued_twice(store, new_fleet, reserve, newcomer, certified):
    """Whoever would use a number again is told that nothing was written."""
    fleet = await new_fleet()
    twice = newcomer(fleet.profile, "n", issued=signed(1), credentials=None)
    other = Certificate("some other text")
    with pytest.raises(StoreUnavailable):
        await store.create_device(newcomer(fleet.profile, issued=signed(1), credentials=other))
    assert await store.create_device(twice) == Refused(RefusalReason.CREDENTIALS_TAKEN)
    assert (await store.certificate(1)).device_id == certified.id


# ── given with a claim ────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def waiting(new_fleet):
    fleet = await new_fleet(WAITING, name="waiting")
    await fleet.waiting("w")
    return fleet.profile


@pytest.fixture
def claim(store, event):
    def make(profile, name="w", *, by=store, **fresh):
        told = event(EventKind.DEVICE_PROVISION, subject=name)
        return by.claim_device(profile, name, told, **fresh)

    return make


async def test_a_claim_may_give_a_certificate(
    store, registrar, waiting, claim, reserve, state, detail
):
    """It takes the place of what the device had, whose login ends with a notice."""
    old = await registrar.find_device("w")
    await reserve(2, "w")
    result = await claim(waiting, fresh=given(signed(2)), issued=signed(2))
    assert (result.credentials, result.issuers) == (given(signed(2)), (b"issuer",))
    assert result.device.credentials_row == old.device.credentials_row + 1
    assert await store.find_credentials(old.credentials.id) is None
    assert (await store.find_credentials(result.credentials.id)).device.id == old.device.id
    assert await state(2) == ("issued", "UNSPECIFIED")
    assert (await store.notices(0, 9))[-1].generation == result.device.credentials_row
    assert (await detail())[-1] == {"certificate": "2"}


async def test_a_device_is_claimed_once_with_a_certificate(
    stores, reserve, newcomer, keep_profile, event
):
    """Twenty come with a request each; one gets its certificate, nothing is left of the others."""
    profile = await keep_profile(stores[0], kind=WAITING)
    new = newcomer(profile, "w", credentials=AccessToken(Secret("token")))
    await stores[0].create_device(msgspec.structs.replace(new, provision_state=None))
    for n in range(1, 21):
        await reserve(n, "w", by=stores[n % 2])
    told = event(EventKind.DEVICE_PROVISION, subject="w")
    results = await asyncio.gather(
        *(
            stores[n % 2].claim_device(profile, "w", told, fresh=given(signed(n)), issued=signed(n))
            for n in range(1, 21)
        )
    )
    claimed = [one for one in results if isinstance(one, Provisioned)]
    assert len(claimed) == 1
    assert Counter(one for one in results if one is not claimed[0]) == {
        Refused(RefusalReason.ALREADY_PROVISIONED): 19
    }
    left = [await stores[0].certificate(n) for n in range(1, 21)]
    assert [given(signed(one.serial)) for one in left if one] == [claimed[0].credentials]
    for n in range(1, 21):
        is_free = await reserve(100 + n, "another", n.to_bytes(32), by=stores[0])
        assert is_free is (left[n - 1] is None)


async def test_a_claim_gives_nothing_of_anothers(store, waiting, claim, certified, registrar):
    """Credentials that are another's are refused, and the device still waits."""
    refused = await claim(waiting, fresh=given(signed(1)))
    assert refused == Refused(RefusalReason.CREDENTIALS_TAKEN)
    assert (await registrar.find_device("w")).device.provision_state is None
    assert isinstance(await claim(waiting), Provisioned)


async def test_a_revoked_device_gets_only_something_new(
    store, registrar, waiting, claim, event, reserve
):
    """There is nothing to be given back; what is made for it now lets it in again."""
    device = (await registrar.find_device("w")).device
    told = event(EventKind.DEVICE_CREDENTIALS_REVOKE)
    await registrar.revoke_credentials(device.id, RevocationReason.KEY_COMPROMISE, told)
    assert await claim(waiting) == Refused(RefusalReason.CREDENTIALS_REVOKED)
    await reserve(2, "w")
    result = await claim(waiting, fresh=given(signed(2)), issued=signed(2))
    assert (await store.find_credentials(result.credentials.id)).device.id == device.id


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        (RefusalReason.NO_SUCH_DEVICE, "nobody"),
        (RefusalReason.OTHER_PROFILE, "c"),
        (RefusalReason.ALREADY_PROVISIONED, "w"),
    ],
)
async def test_a_refused_claim_leaves_no_certificate(
    waiting, claim, certified, reserve, state, told, reason, name
):
    """Whatever the reason; the event tells it."""
    if reason is RefusalReason.ALREADY_PROVISIONED:
        await claim(waiting)
    await reserve(2, name, KEY)
    assert await claim(waiting, name, fresh=given(signed(2)), issued=signed(2)) == Refused(reason)
    assert await state(2) is None
    assert await reserve(3, "another", KEY)
    assert (await told(EventKind.DEVICE_PROVISION))[-1][:2] == (Outcome.REFUSED, reason)


@pytest.mark.parametrize("key", [True, False])
async def test_a_birth_that_becomes_a_claim(
    store, new_fleet, newcomer, reserve, registrar, key, state
):
    """The device that waited gets what we made for it just now, and keeps its own otherwise."""
    fleet = await new_fleet(pre_provision_allowed=True)
    await fleet.waiting("w")
    old = (await registrar.find_device("w")).credentials
    if key:
        await reserve(2, "w")
        new = newcomer(fleet.profile, "w", issued=signed(2), claim_existing=True)
    else:
        psk = PresharedKey("i", Secret("00" * 32))
        new = newcomer(fleet.profile, "w", credentials=psk, claim_existing=True)
    result = await store.create_device(new)
    assert result.credentials == new.credentials
    assert await store.find_credentials(old.id) is None
    assert await state(2) == (("issued", "UNSPECIFIED") if key else None)
    brought = newcomer(
        fleet.profile, "v", credentials=AccessToken(Secret("brought")), claim_existing=True
    )
    await fleet.waiting("v")
    old = (await registrar.find_device("v")).credentials
    assert (await store.create_device(brought)).credentials == old


# ── with the device gone, and with time ───────────────────────────────────────────────────────


async def test_a_removed_devices_certificates_are_revoked(
    store, registrar, certified, event, state, reserve, detail
):
    """They stay in the list of the revoked; its key may be certified for another."""
    await store.renew(certified, given(signed(9)), None, event(EventKind.DEVICE_CREDENTIALS))
    removal = event(EventKind.DEVICE_REMOVE)
    assert await registrar.remove_device(certified.id, removal)
    assert await state(1) == ("revoked", "CESSATION_OF_OPERATION")
    (record,) = await store.revoked(1, removal.at)
    assert (record.serial, record.revoked_at) == (1, removal.at)
    assert await store.find_pending(given(signed(9)).id) is None
    assert await detail(EventKind.DEVICE_REMOVE) == [{"revoked": "1"}]
    assert await reserve(2, "another", (1).to_bytes(32))


async def test_the_books_of_the_removed_do_not_free_the_key_again(
    store, registrar, certified, event, reserve, clock
):
    """When they are forgotten, the key is its new owner's all the same."""
    await registrar.remove_device(certified.id, event(EventKind.DEVICE_REMOVE))
    clock.now += 90 * DAY
    await reserve(2, "another", (1).to_bytes(32))
    await Retention(store, clock, events_keep_days=1).sweep()
    assert await store.certificate(1) is None
    assert not await reserve(3, "a third", (1).to_bytes(32))


async def test_what_was_reserved_for_nothing_is_forgotten(store, reserve, clock, state):
    """After an hour, with the key it brought."""
    await reserve(1, "a", KEY)
    clock.now += 3_599_000
    await reserve(2, "b", OTHER_KEY)
    await Retention(store, clock).sweep()
    assert await state(1) is not None
    clock.now += 1001
    await Retention(store, clock).sweep()
    assert [await state(1), await state(2)] == [None, ("reserved", "UNSPECIFIED")]
    assert await reserve(3, "c", KEY)
    assert not await reserve(4, "c", OTHER_KEY)


@pytest.mark.parametrize("revoked", [True, False])
async def test_old_certificates_are_forgotten(
    store, registrar, certified, event, clock, reserve, revoked
):
    """`events_keep_days` after their end, however many; until then their keys are held."""
    if revoked:
        told = event(EventKind.CERTIFICATE_REVOKE)
        await registrar.revoke_certificate(1, RevocationReason.KEY_COMPROMISE, told)
    retention = Retention(store, clock, events_keep_days=2)
    clock.now = signed(1).not_after + 2 * DAY
    await retention.sweep()
    assert await store.certificate(1) is not None
    assert not await reserve(2, "another", (1).to_bytes(32))
    clock.now += 1
    await retention.sweep()
    assert await store.certificate(1) is None
    assert await reserve(3, "another", (1).to_bytes(32))


async def test_what_may_be_renewed_is_not_forgotten(store, registrar, clock, certified, event):
    """A profile's grace may be longer than the time for which events are kept."""
    (profile,) = await registrar.profiles()
    graced = msgspec.structs.replace(profile, certificate=CertificateProfile(grace_days=30))
    new = NewProfile(profile=graced, key=None, secret=None, spare=None)
    await registrar.save_profile(new, event(EventKind.PROFILE_UPDATE))
    retention = Retention(store, clock, events_keep_days=2)
    clock.now = signed(1).not_after + 30 * DAY
    await retention.sweep()
    assert await store.certificate(1) is not None
    clock.now += 1
    await retention.sweep()
    assert await store.certificate(1) is None


async def test_a_compromised_key_is_certified_for_nobody(
    store, registrar, event, certified, reserve
):
    """Neither for the device that had it, nor for another once that device is gone."""
    key = (1).to_bytes(32)
    told = event(EventKind.CERTIFICATE_REVOKE)
    before = await registrar.revoke_certificate(1, RevocationReason.KEY_COMPROMISE, told)
    assert not await reserve(2, before.name, key)
    removed = event(EventKind.DEVICE_REMOVE, device_id=before.device_id)
    assert await registrar.remove_device(before.device_id, removed)
    assert not await reserve(3, before.name, key)
    assert not await reserve(4, "another", key)


async def test_credentials_that_were_compromised_take_their_keys_along(
    store, registrar, event, certified, reserve
):
    """Revoking all a device has is no less."""
    record = await store.certificate(1)
    told = event(EventKind.DEVICE_CREDENTIALS_REVOKE)
    reason = RevocationReason.KEY_COMPROMISE
    assert await registrar.revoke_credentials(record.device_id, reason, told)
    assert not await reserve(2, record.name, (1).to_bytes(32))


async def test_sweeps_go_on_until_nothing_is_left(store, reserve, clock, monkeypatch):
    """In steps of bounded size."""
    monkeypatch.setattr("gateway.store.retention._ROWS_PER_STEP", 3)
    await asyncio.gather(*(reserve(n, f"d{n}") for n in range(1, 11)))
    clock.now += 3_600_001
    await Retention(store, clock).sweep()
    assert [await store.certificate(n) for n in range(1, 11)] == [None] * 10


async def test_certificates_are_listed_newest_first(
    store, registrar, new_fleet, reserve, newcomer, clock
):
    """Reserved ones are not among them; a device's own can be asked for."""
    fleet = await new_fleet()
    for serial in (3, 1, 2):
        clock.now += 1
        await reserve(serial, f"n{serial}")
        await store.create_device(newcomer(fleet.profile, f"n{serial}", issued=signed(serial)))
    await reserve(4, "n4")
    assert [one.serial for one in await registrar.certificates()] == [2, 1, 3]
    assert [one.serial for one in await registrar.certificates(limit=1)] == [2]
    device = (await registrar.find_device("n3")).device
    assert [one.serial for one in await registrar.certificates(device_id=device.id)] == [3]
