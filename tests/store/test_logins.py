"""Credentials that change: renewed and taken up, replaced, revoked."""

from __future__ import annotations

import asyncio

import pytest
from issued import given, signed

from gateway.core.errors import CredentialsGone
from gateway.core.model import (
    AccessToken,
    EventKind,
    NoticeKind,
    Outcome,
    PresharedKey,
    Provisioned,
    Reading,
    RefusalReason,
    Refused,
    Revoked,
    Secret,
)
from gateway.core.pki.model import RevocationReason
from gateway.store.certificates import serial_text

pytestmark = pytest.mark.every_database

RENEWAL = EventKind.DEVICE_CREDENTIALS
REVOCATION = EventKind.DEVICE_CREDENTIALS_REVOKE
COMPROMISED = RevocationReason.KEY_COMPROMISE


@pytest.fixture
def renew(store, reserve, event):
    """Renews with a certificate of that number."""

    async def make(device, serial, by=store):
        await reserve(serial, device.name, by=by)
        return await by.renew(device, given(signed(serial)), signed(serial), event(RENEWAL))

    return make


@pytest.fixture
async def shared(stores, reserve, newcomer, keep_profile):
    """A device that two gateways know, born with certificate 1."""
    await reserve(1, "n", by=stores[0])
    new = newcomer(await keep_profile(stores[0]), issued=signed(1))
    return (await stores[0].create_device(new)).device


@pytest.fixture
def take_up(store, event):
    def make(device, serial):
        return store.take_up_pending(device.id, given(signed(serial)).id, event(RENEWAL))

    return make


@pytest.fixture
def states(store):
    """The states of certificates, with the reason of the revoked."""

    async def find(*serials):
        records = [await store.certificate(serial) for serial in serials]
        return [
            record and (record.reason.name if record.revoked_at else record.state.value)
            for record in records
        ]

    return find


@pytest.fixture
def logins(store):
    """The notices of logins that ended: their devices and the generations that count now."""

    async def find():
        notices = await store.notices(0, 1000)
        return [(one.device_id, one.generation) for one in notices if one.kind is NoticeKind.LOGIN]

    return find


@pytest.fixture
def last(registrar):
    """The newest event."""

    async def find():
        return (await registrar.last_events(limit=1, device_id=None))[0]

    return find


# ── renewal ───────────────────────────────────────────────────────────────────────────────────


async def test_a_renewed_certificate_waits_for_its_first_use(
    store, registrar, certified, renew, states, logins, last
):
    """The older one goes on; the new one is found apart, with the login that still counts."""
    assert await renew(certified, 2)
    assert (await store.find_credentials(given(signed(1)).id)).device.id == certified.id
    assert await store.find_credentials(given(signed(2)).id) is None
    pending = await store.find_pending(given(signed(2)).id)
    assert (pending.device, pending.credentials) == (certified, given(signed(2)))
    assert await registrar.pending_credentials(certified.id) == given(signed(2))
    assert await states(1, 2) == ["issued", "issued"]
    assert await logins() == []
    event = await last()
    assert (event.kind, event.device_id) == (RENEWAL, certified.id)
    assert event.detail == {"certificate": serial_text(2)}


async def test_with_its_first_use_the_older_one_is_gone(
    store, registrar, certified, renew, take_up, states, logins, last
):
    """Its login ends with a notice, and its certificate is superseded."""
    await renew(certified, 2)
    assert await take_up(certified, 2)
    assert await store.find_credentials(given(signed(1)).id) is None
    known = await store.find_credentials(given(signed(2)).id)
    assert known.device.credentials_row == certified.credentials_row + 1
    assert await registrar.pending_credentials(certified.id) is None
    assert await store.find_pending(given(signed(2)).id) is None
    assert await states(1, 2) == ["SUPERSEDED", "issued"]
    assert await logins() == [(certified.id, known.device.credentials_row)]
    assert (await last()).detail == {"certificate": "2", "superseded": "1"}
    assert not await take_up(certified, 2)


async def test_pending_credentials_are_taken_up_once(stores, shared, event):
    """However many connections come with them at once."""
    device = shared
    await stores[0].renew(device, given(signed(2)), None, event(RENEWAL))
    results = await asyncio.gather(
        *(
            stores[n % 2].take_up_pending(device.id, given(signed(2)).id, event(RENEWAL))
            for n in range(20)
        )
    )
    assert sorted(results) == [False] * 19 + [True]
    rows = await stores[0].driver.rows("generations", f"[{device.id}]")
    assert rows == [(device.id, 2)]


async def test_of_many_renewals_one_is_pending(stores, shared, reserve, event):
    """The last to be written; all the others are superseded, the login is as it was."""
    device = shared
    for n in range(2, 22):
        await reserve(n, "n", by=stores[n % 2])
    results = await asyncio.gather(
        *(
            stores[n % 2].renew(device, given(signed(n)), signed(n), event(RENEWAL))
            for n in range(2, 22)
        )
    )
    assert results == [True] * 20
    records = [await stores[0].certificate(n) for n in range(1, 22)]
    alive = [one.serial for one in records if not one.revoked_at]
    assert alive[0] == 1
    assert len(alive) == 2
    assert {one.reason for one in records if one.revoked_at} == {RevocationReason.SUPERSEDED}
    rows = await stores[0].driver.rows("pending_of_device", device.id)
    assert rows[0][1] == stores[0].vault.digest(given(signed(alive[1])).id.reveal())


async def test_a_renewal_needs_the_login_that_asked(
    store, registrar, certified, renew, event, states
):
    """One that ended meanwhile gets nothing, and nothing stays reserved for it."""
    token = AccessToken(Secret("operators-token"))
    await registrar.replace_credentials(certified.id, token, event(RENEWAL))
    with pytest.raises(CredentialsGone):
        await renew(certified, 2)
    assert await states(1, 2) == ["SUPERSEDED", None]


async def test_a_renewal_gives_nothing_of_anothers(
    store, registrar, certified, device, renew, event, told
):
    """Neither what another has nor what is pending for it."""
    await renew(certified, 2)
    before = len(await told(RENEWAL))
    for taken in (given(signed(1)), given(signed(2))):
        assert not await store.renew(device, taken, None, event(RENEWAL))
    assert len(await told(RENEWAL)) == before
    assert await registrar.pending_credentials(device.id) is None


async def test_what_is_pending_is_given_to_nobody_else(
    store, registrar, certified, device, renew, newcomer, new_fleet, event, take_up
):
    """No birth, no replacement and no claim gets it before its device has used it."""
    await renew(certified, 2)
    pending, fleet = given(signed(2)), await new_fleet()
    births = [
        newcomer(fleet.profile, name, credentials=credentials)
        for name, credentials in (
            ("thief", pending),
            ("thief too", AccessToken(Secret(pending.id.reveal()))),
            ("honest", AccessToken(Secret("honest"))),
        )
    ]
    results = await asyncio.gather(*(store.create_device(birth) for birth in births))
    assert results[:2] == [Refused(RefusalReason.CREDENTIALS_TAKEN)] * 2
    assert isinstance(results[2], Provisioned)
    assert await registrar.find_device("thief") is None
    assert not await registrar.replace_credentials(device.id, pending, event(RENEWAL))
    waiting = await new_fleet(name="waiting")
    await waiting.waiting("w")
    claim = event(EventKind.DEVICE_PROVISION, subject="w")
    refused = await store.claim_device(waiting.profile, "w", claim, fresh=pending)
    assert refused == Refused(RefusalReason.CREDENTIALS_TAKEN)
    assert await take_up(certified, 2)


async def test_a_name_refused_for_what_is_pending_is_free_for_the_next(
    store, certified, renew, newcomer, new_fleet
):
    """Of two births of one name in a batch, the second gets it."""
    await renew(certified, 2)
    fleet = await new_fleet()
    births = [
        newcomer(fleet.profile, "one name", credentials=credentials)
        for credentials in (given(signed(2)), AccessToken(Secret("honest")))
    ]
    results = await asyncio.gather(*(store.create_device(birth) for birth in births))
    assert results[0] == Refused(RefusalReason.CREDENTIALS_TAKEN)
    assert isinstance(results[1], Provisioned)


# ── an operator's new ones ────────────────────────────────────────────────────────────────────


async def test_new_credentials_supersede_certificates(
    store, registrar, certified, renew, event, states, last
):
    """The one it has and the one it was given."""
    await renew(certified, 2)
    key = PresharedKey("identity", Secret("ab" * 32))
    assert await registrar.replace_credentials(certified.id, key, event(RENEWAL))
    assert await states(1, 2) == ["SUPERSEDED", "SUPERSEDED"]
    assert await registrar.pending_credentials(certified.id) is None
    known = await store.find_credentials(key.id)
    assert (known.device.id, known.credentials) == (certified.id, key)
    assert (await last()).detail == {"superseded": "1, 2"}


async def test_its_own_certificate_is_not_superseded(
    store, registrar, certified, renew, event, states
):
    """Given again by hand, in its place or before its time."""
    await registrar.replace_credentials(certified.id, given(signed(1)), event(RENEWAL))
    assert await states(1) == ["issued"]
    device = (await registrar.find_device("c")).device
    await renew(device, 2)
    await registrar.replace_credentials(device.id, given(signed(2)), event(RENEWAL))
    assert await states(1, 2) == ["SUPERSEDED", "issued"]


async def test_rearming_leaves_the_login(store, registrar, certified, renew, event, states, logins):
    """The device may be claimed once more; until then all it has goes on."""
    await renew(certified, 2)
    assert await registrar.rearm_device(certified.id, event(EventKind.DEVICE_REARM))
    assert await states(1, 2) == ["issued", "issued"]
    assert await logins() == []
    profile = await store.profile(certified.profile_id)
    claim = event(EventKind.DEVICE_PROVISION, subject="c")
    token = AccessToken(Secret("fresh"))
    assert isinstance(await store.claim_device(profile, "c", claim, fresh=token), Provisioned)
    assert await states(1, 2) == ["SUPERSEDED", "SUPERSEDED"]


# ── revocation ────────────────────────────────────────────────────────────────────────────────


async def test_revoked_credentials_let_nobody_in(
    store, registrar, certified, renew, event, states, logins, told, last
):
    """Neither those in use nor those pending; its certificates say why; its sessions end."""
    await renew(certified, 2)
    assert await registrar.revoke_credentials(certified.id, COMPROMISED, event(REVOCATION))
    for serial in (1, 2):
        assert await store.find_credentials(given(signed(serial)).id) is None
        assert await store.find_pending(given(signed(serial)).id) is None
    known = await registrar.find_device("c")
    assert isinstance(known.credentials, Revoked)
    assert await states(1, 2) == ["KEY_COMPROMISE", "KEY_COMPROMISE"]
    assert await logins() == [(certified.id, known.device.credentials_row)]
    with pytest.raises(CredentialsGone):
        await store.save_readings(certified, [Reading(1, "k", 1)])
    with pytest.raises(CredentialsGone):
        await renew(certified, 3)
    assert await told(REVOCATION) == [(Outcome.SUCCESS, "", certified.id)]
    assert (await last()).detail == {"reason": "key_compromise", "revoked": "1, 2"}


async def test_a_token_is_revoked_like_a_certificate(store, registrar, device, event, logins):
    """And the device is still there, to be given something new."""
    token = (await registrar.find_device("d")).credentials
    assert await registrar.revoke_credentials(device.id, COMPROMISED, event(REVOCATION))
    assert await store.find_credentials(token.id) is None
    assert await logins() == [(device.id, device.credentials_row + 1)]
    fresh = AccessToken(Secret("fresh"))
    assert await registrar.replace_credentials(device.id, fresh, event(RENEWAL))
    assert (await store.find_credentials(fresh.id)).device.id == device.id


async def test_credentials_are_revoked_once(registrar, device, event, told):
    """Of many who revoke, one did; nobody's are revoked where there is nobody."""
    results = await asyncio.gather(
        *(
            registrar.revoke_credentials(device.id, COMPROMISED, event(REVOCATION))
            for _ in range(20)
        )
    )
    assert sorted(results) == [False] * 19 + [True]
    assert not await registrar.revoke_credentials(10**6, COMPROMISED, event(REVOCATION))
    assert len(await told(REVOCATION)) == 1


@pytest.mark.parametrize("renewed", [True, False])
async def test_the_certificate_of_a_login_is_revoked_with_it(
    store, registrar, certified, renew, event, states, logins, last, renewed
):
    """Whoever had it may have renewed it: that goes as well."""
    if renewed:
        await renew(certified, 2)
    told = event(EventKind.CERTIFICATE_REVOKE)
    before = await registrar.revoke_certificate(1, COMPROMISED, told)
    assert (before.serial, before.state.value, before.device_id) == (1, "issued", certified.id)
    assert (before.not_after, before.name) == (signed(1).not_after, "c")
    assert await store.find_credentials(given(signed(1)).id) is None
    assert await store.find_pending(given(signed(2)).id) is None
    assert await states(1, 2) == ["KEY_COMPROMISE", "KEY_COMPROMISE" if renewed else None]
    assert await logins() == [(certified.id, certified.credentials_row + 1)]
    event_of_it = await last()
    assert event_of_it.device_id == certified.id
    others = {"revoked": "2"} if renewed else {}
    assert event_of_it.detail == {"certificate": "1", "reason": "key_compromise"} | others
    assert await registrar.revoke_certificate(1, COMPROMISED, told) is None


async def test_a_pending_certificate_is_revoked_by_itself(
    store, registrar, certified, renew, event, states, logins, take_up
):
    """The login that the device has stays."""
    await renew(certified, 2)
    told = event(EventKind.CERTIFICATE_REVOKE)
    assert await registrar.revoke_certificate(2, COMPROMISED, told)
    assert await states(1, 2) == ["issued", "KEY_COMPROMISE"]
    assert not await take_up(certified, 2)
    assert await logins() == []
    assert (await store.find_credentials(given(signed(1)).id)).device == certified


async def test_a_reservation_is_not_revoked(registrar, reserve, event, states):
    """Nobody was given anything."""
    await reserve(5)
    told = event(EventKind.CERTIFICATE_REVOKE)
    assert await registrar.revoke_certificate(5, COMPROMISED, told) is None
    assert await states(5) == ["reserved"]


async def test_the_revoked_are_listed_until_their_end(store, registrar, certified, event):
    """For the authority that signed them, with the time and the reason."""
    told = event(EventKind.CERTIFICATE_REVOKE)
    await registrar.revoke_certificate(1, COMPROMISED, told)
    end = signed(1).not_after
    (record,) = await store.revoked(1, end)
    assert (record.serial, record.revoked_at, record.reason) == (1, told.at, COMPROMISED)
    assert await store.revoked(1, end + 1) == []
    assert await store.revoked(2, end) == []
