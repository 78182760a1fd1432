"""Claim codes for labels."""

from __future__ import annotations

import pytest

from gateway.core.labelling import ALPHABET, Labelling, new_claim_code
from gateway.core.model import (
    AttributesChange,
    AttributeScope,
    ClaimResult,
    EventKind,
    Outcome,
    Peer,
    ProvisionType,
    RefusalReason,
    Secret,
    Wire,
)
from gateway.store.sql_registrar import SqlRegistrar

pytestmark = pytest.mark.every_database

DAY = 86_400_000


@pytest.fixture
def labelling(store, clock):
    return Labelling(SqlRegistrar(store), clock=clock, peer=Peer(Wire.SHELL, "tester"))


@pytest.fixture
async def known(registry, new_fleet):
    fleet = await new_fleet()
    await fleet.waiting("meter-1")
    return await registry.device("meter-1")


def test_codes_can_be_typed():
    """Three groups of four letters and digits, none of which is taken for another; all differ."""
    codes = {new_claim_code().reveal() for _ in range(500)}
    assert len(codes) == 500
    for code in codes:
        groups = code.split("-")
        assert [len(one) for one in groups] == [4, 4, 4]
        assert set("".join(groups)) <= set(ALPHABET)
    assert not set("01OILU") & set(ALPHABET)


async def test_a_code_claims_its_device_once(labelling, registry, known):
    """A customer takes the device with the code, and nobody with another one."""
    code = new_claim_code()
    assert await labelling.offer(known.device, code, DAY) is None
    assert await registry.claim(known, "Acme", code) is ClaimResult.SUCCESS
    assert await registry.claim(known, "Globex", code) is ClaimResult.CLAIMED
    assert await labelling.offer(known.device, code, DAY) is RefusalReason.CUSTOMER_HAS_IT


async def test_a_code_that_stands_is_replaced_only_when_told(labelling, registry, known, clock):
    """Without it the older one is good; with it, the newer; after its end it gives way."""
    first, second = Secret("first"), Secret("second")
    assert await labelling.offer(known.device, first, DAY) is None
    assert await labelling.offer(known.device, second, DAY) is RefusalReason.CLAIM_STANDS
    assert await labelling.offer(known.device, second, DAY, replace=True) is None
    clock.now += DAY
    assert await labelling.offer(known.device, first, DAY) is None
    assert await registry.claim(known, "Acme", first) is ClaimResult.SUCCESS


async def test_a_profile_that_forbids_claiming(labelling, registry, new_fleet):
    """Its devices get no code, but for one whose attribute allows it."""
    fleet = await new_fleet(ProvisionType.DISABLED, "closed", claiming_allowed=False)
    device = await fleet.waiting("meter-2")
    code = new_claim_code()
    assert await labelling.offer(device, code, DAY) is RefusalReason.CLAIMING_DISABLED
    known = await registry.device("meter-2")
    change = AttributesChange({"claimingAllowed": True})
    await registry.change_attributes(known, AttributeScope.SERVER, change)
    assert await labelling.offer(device, code, DAY) is None


async def test_every_offer_is_an_event(labelling, registry, known):
    """Made, refused and replaced; the code is in none of them."""
    for replace in (False, False, True):
        await labelling.offer(known.device, Secret("swordfish"), DAY, replace=replace)
    events = [
        one for one in await registry.events(known) if one.kind is EventKind.DEVICE_CLAIM_OFFER
    ]
    assert [(one.outcome, one.reason) for one in events] == [
        (Outcome.SUCCESS, ""),
        (Outcome.REFUSED, "claim_stands"),
        (Outcome.SUCCESS, ""),
    ]
    assert "swordfish" not in repr(events)


async def test_a_device_that_is_gone(labelling, registry, known):
    """There is nothing to label."""
    await registry.remove_device(known)
    offered = await labelling.offer(known.device, new_claim_code(), DAY)
    assert offered is RefusalReason.NO_SUCH_DEVICE
