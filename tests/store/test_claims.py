"""Claims, and the customers that devices are given to."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.errors import CredentialsGone
from gateway.core.model import (
    AccessToken,
    AttributesChange,
    AttributeScope,
    ClaimResult,
    EventKind,
    Json,
    NoticeKind,
    Outcome,
    RefusalReason,
    Secret,
)

pytestmark = pytest.mark.every_database

KEY, OTHER = Secret("the-claim-key"), Secret("another-key")
HOUR = 3_600_000


@pytest.fixture
def offer(store, clock, event):
    def make(device, key=KEY, lasts=HOUR):
        return store.offer_claim(
            device, key, event(EventKind.DEVICE_CLAIM_OFFER), clock.now + lasts
        )

    return make


@pytest.fixture
def take(registrar, event):
    def make(device, key=KEY, customer="Smith"):
        return registrar.claim_for(device.id, customer, key, event(EventKind.DEVICE_CLAIM))

    return make


async def test_a_claim_stands_until_it_expires(offer, device, clock, told):
    """Put if absent: the second is refused, with an event; after the first is over it stands."""
    assert await offer(device)
    assert not await offer(device, OTHER)
    clock.now += HOUR
    assert await offer(device, OTHER)
    assert await told(EventKind.DEVICE_CLAIM_OFFER) == [
        (Outcome.SUCCESS, "", device.id),
        (Outcome.REFUSED, RefusalReason.CLAIM_STANDS, device.id),
        (Outcome.SUCCESS, "", device.id),
    ]


async def test_a_device_is_claimed_once(offer, take, device, registrar, told):
    """Of many with the right key one gets it; the others hear that it has a customer."""
    await offer(device)
    results = await asyncio.gather(*(take(device, customer=f"c{n}") for n in range(10)))
    assert results.count(ClaimResult.SUCCESS) == 1
    assert results.count(ClaimResult.CLAIMED) == 9
    assert not await offer(device)
    winner = (await registrar.find_device("d")).device.customer_id
    assert await registrar.customer_name(winner) == f"c{results.index(ClaimResult.SUCCESS)}"
    outcomes = [outcome for outcome, _, _ in await told(EventKind.DEVICE_CLAIM)]
    assert outcomes.count(Outcome.SUCCESS) == 1


async def test_a_wrong_key_costs_the_claim(offer, take, device, told):
    """It is answered FAILURE, and then the right key finds nothing any more."""
    await offer(device)
    assert await take(device, OTHER) is ClaimResult.FAILURE
    assert await take(device, KEY) is ClaimResult.FAILURE
    assert await told(EventKind.DEVICE_CLAIM) == [
        (Outcome.REFUSED, RefusalReason.WRONG_CLAIM_KEY, device.id),
        (Outcome.REFUSED, RefusalReason.NO_CLAIM, device.id),
    ]
    assert await offer(device)
    assert await take(device, KEY) is ClaimResult.SUCCESS


async def test_an_expired_claim_is_none(offer, take, device, clock, told):
    """The right key that comes too late is refused."""
    await offer(device)
    clock.now += HOUR
    assert await take(device) is ClaimResult.FAILURE
    assert [reason for _, reason, _ in await told(EventKind.DEVICE_CLAIM)] == ["claim_expired"]


async def test_the_key_is_kept_nowhere(store, offer, device):
    """Neither the claim's row nor its event holds it."""
    await offer(device)
    rows = await store.driver.rows("stored_claim", device.id)
    rows += await store.driver.rows("events", 0, 100)
    assert len(rows) > 1
    assert KEY.reveal() not in repr(rows)
    assert KEY.reveal().encode() not in bytes(rows[0][0])


async def test_operators_need_no_key(take, device, registrar, event, told):
    """They give and take devices; one customer's name is one organisation."""
    assert await take(device, None) is ClaimResult.SUCCESS
    first = (await registrar.find_device("d")).device.customer_id
    assert await registrar.unclaim(device.id, event(EventKind.DEVICE_UNCLAIM))
    assert not await registrar.unclaim(device.id, event(EventKind.DEVICE_UNCLAIM))
    assert (await registrar.find_device("d")).device.customer_id is None
    assert await take(device, None) is ClaimResult.SUCCESS
    assert (await registrar.find_device("d")).device.customer_id == first
    assert len(await told(EventKind.DEVICE_UNCLAIM)) == 1
    assert await registrar.customer_name(10**6) is None


async def test_where_claiming_is_off_the_attribute_allows_it(
    offer, new_fleet, registrar, event, told
):
    """`claimingAllowed` must be true, not just there."""
    device = await (await new_fleet(claiming_allowed=False)).waiting("x")
    assert not await offer(device)
    for value, allowed in (("true", False), (False, False), (True, True)):
        change = AttributesChange({"claimingAllowed": value})
        await registrar.change_attributes(device.id, AttributeScope.SERVER, change, event())
        assert await offer(device) is allowed
    assert (Outcome.REFUSED, "claiming_disabled", device.id) in await told(
        EventKind.DEVICE_CLAIM_OFFER
    )


@pytest.mark.parametrize(
    ("preset", "key", "result"),
    [
        ('{"secretKey":"the-claim-key","expirationTime":9999999999999}', KEY, "SUCCESS"),
        ('{"secretKey":"the-claim-key","expirationTime":9999999999999}', OTHER, "FAILURE"),
        ('{"secretKey":"the-claim-key","expirationTime":1}', KEY, "FAILURE"),
        ('{"nonsense":1}', KEY, "FAILURE"),
    ],
)
async def test_a_claim_may_be_set_by_people(take, device, registrar, event, preset, key, result):
    """The server attribute `claimingData` (ThingsBoard contract, section 18); it goes with use."""
    change = AttributesChange({"claimingData": Json(preset)})
    await registrar.change_attributes(device.id, AttributeScope.SERVER, change, event())
    assert await take(device, key) == result
    left = [one.key for one in await registrar.device_attributes(device.id)]
    assert ("claimingData" in left) is (result == "FAILURE")


async def test_a_removed_device_offers_nothing(offer, take, device, registrar, event):
    """Neither can it be claimed."""
    await registrar.remove_device(device.id, event(EventKind.DEVICE_REMOVE))
    with pytest.raises(CredentialsGone):
        await offer(device)
    assert await take(device) is ClaimResult.FAILURE


async def test_new_credentials_end_the_old_login(store, registrar, device, event, told):
    """The old token is gone at the commit; a notice carries the new generation."""
    old = (await registrar.find_device("d")).credentials.token
    fresh = AccessToken(Secret("fresh-token-00000001"))
    kind = EventKind.DEVICE_CREDENTIALS
    assert await registrar.replace_credentials(device.id, fresh, event(kind))
    assert await store.find_credentials(old) is None
    known = await store.find_credentials(fresh.token)
    assert known.device.credentials_row == device.credentials_row + 1
    with pytest.raises(CredentialsGone):
        await store.save_attributes(device, AttributeScope.CLIENT, {"k": 1}, 1)
    notice = (await store.notices(0, 100))[-1]
    assert (notice.kind, notice.device_id) == (NoticeKind.LOGIN, device.id)
    assert notice.generation == known.device.credentials_row
    assert await told(kind) == [(Outcome.SUCCESS, "", device.id)]


async def test_credentials_of_another_are_not_given(store, registrar, new_fleet, event, told):
    """Nothing changes then; one's own may be given again."""
    fleet = await new_fleet()
    one, other = await fleet.waiting("one"), await fleet.waiting("other")
    taken = (await registrar.find_device("other")).credentials
    kind = EventKind.DEVICE_CREDENTIALS
    assert not await registrar.replace_credentials(one.id, taken, event(kind))
    assert not await registrar.replace_credentials(99, taken, event(kind))
    assert (await store.find_credentials(taken.token)).device.id == other.id
    assert await told(kind) == []
    assert await registrar.replace_credentials(other.id, taken, event(kind))
