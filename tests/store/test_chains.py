"""Devices that come with a certificate of their factory."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from gateway.core.model import (
    AccessToken,
    Certificate,
    EventKind,
    NoticeKind,
    Outcome,
    Provisioned,
    ProvisionType,
    RefusalReason,
    Refused,
    Secret,
)
from gateway.core.pki.model import (
    CertificateProfile,
    ChainRule,
    KeyKind,
    RevocationReason,
)

pytestmark = pytest.mark.every_database

LEAF, NEXT_LEAF = Certificate("leaf"), Certificate("next leaf")
RULE = ChainRule(certificate="PEM", pattern="(.*)", create=True)


@pytest.fixture
async def profile(store, keep_profile):
    return await keep_profile(store, "factory", chain=RULE)


@pytest.fixture
def enter(store, profile, newcomer):
    def make(credentials=LEAF, name="n", *, create=True, of=profile, by=store):
        return by.enter_by_chain(newcomer(of, name, credentials=credentials), create=create)

    return make


async def test_a_newcomer_is_born(store, enter, told):
    """With the certificate it came with, and an event."""
    result = await enter()
    assert isinstance(result, Provisioned)
    assert (await store.find_credentials(LEAF.id)).device.id == result.device.id
    assert await told(EventKind.DEVICE_PROVISION) == [(Outcome.SUCCESS, "", result.device.id)]


async def test_none_is_born_where_that_is_not_allowed(store, enter, registrar, told):
    """The refusal is written down; one that exists may come all the same."""
    assert await enter(create=False) == Refused(RefusalReason.NO_SUCH_DEVICE)
    assert await registrar.find_device("n") is None
    reason = (Outcome.REFUSED, RefusalReason.NO_SUCH_DEVICE, None)
    assert await told(EventKind.DEVICE_PROVISION) == [reason]
    born = await enter()
    assert (await enter(create=False)).device.id == born.device.id


@pytest.mark.parametrize("create", [True, False])
async def test_a_new_leaf_replaces_the_older(store, registrar, enter, told, create):
    """Of the same device: its old login is gone at the commit, with a notice."""
    old = (await enter()).device
    result = await enter(NEXT_LEAF, create=create)
    assert (result.device.id, result.credentials) == (old.id, NEXT_LEAF)
    assert result.device.credentials_row == old.credentials_row + 1
    assert await store.find_credentials(LEAF.id) is None
    notice = (await store.notices(0, 100))[-1]
    assert (notice.kind, notice.device_id) == (NoticeKind.LOGIN, old.id)
    assert notice.generation == result.device.credentials_row
    assert await told(EventKind.DEVICE_CREDENTIALS) == [(Outcome.SUCCESS, "", old.id)]


async def test_a_device_that_comes_again_changes_nothing(store, registrar, enter):
    """Its certificate is its own already."""
    born = await enter()
    events = len(await registrar.events(after_seq=0, limit=100, device_id=None))
    again = await enter()
    assert (again.device.id, again.credentials) == (born.device.id, LEAF)
    assert again.device.credentials_row == born.device.credentials_row
    assert len(await registrar.events(after_seq=0, limit=100, device_id=None)) == events


async def test_other_credentials_are_kept(store, registrar, enter, event):
    """A device with a token keeps it, as the contract has it."""
    born = await enter()
    token = AccessToken(Secret("token"))
    await registrar.replace_credentials(born.device.id, token, event())
    result = await enter(NEXT_LEAF)
    assert (result.device.id, result.credentials) == (born.device.id, token)
    assert await store.find_credentials(NEXT_LEAF.id) is None


async def test_a_revoked_device_does_not_come_back(store, registrar, enter, event, told):
    """Neither with its certificate nor with another."""
    born = await enter()
    await registrar.revoke_credentials(born.device.id, RevocationReason.KEY_COMPROMISE, event())
    for leaf in (LEAF, NEXT_LEAF):
        assert await enter(leaf) == Refused(RefusalReason.CREDENTIALS_REVOKED)
    reason = (Outcome.REFUSED, RefusalReason.CREDENTIALS_REVOKED, born.device.id)
    assert (await told(EventKind.DEVICE_PROVISION))[-1] == reason


@pytest.mark.parametrize("create", [True, False])
async def test_a_name_of_another_profile_is_refused(enter, new_fleet, create):
    """Whatever certificate it comes with."""
    await (await new_fleet()).waiting("theirs")
    assert await enter(name="theirs", create=create) == Refused(RefusalReason.OTHER_PROFILE)


async def test_a_certificate_of_another_device_is_refused(store, enter):
    """Both for a device that is there and for one that is not."""
    owner = await enter(name="owner")
    await enter(NEXT_LEAF, "n")
    assert await enter(LEAF, "n") == Refused(RefusalReason.CREDENTIALS_TAKEN)
    assert await enter(LEAF, "newcomer") == Refused(RefusalReason.CREDENTIALS_TAKEN)
    assert (await store.find_credentials(LEAF.id)).device.id == owner.device.id


async def test_many_come_at_once(stores, keep_profile, newcomer):
    """Twenty connections with one certificate: one device is born, all are let in."""
    new = newcomer(await keep_profile(stores[0]), credentials=LEAF)
    results = await asyncio.gather(
        *(stores[n % 2].enter_by_chain(new, create=True) for n in range(20))
    )
    assert len({one.device.id for one in results}) == 1
    assert {one.credentials for one in results} == {LEAF}


async def test_many_leaves_come_at_once(stores, keep_profile, newcomer):
    """Whatever their order, each is let in as one device, and the last one's leaf counts."""
    profile = await keep_profile(stores[0])
    leaves = [Certificate(f"leaf {n}") for n in range(20)]
    results = await asyncio.gather(
        *(
            stores[n % 2].enter_by_chain(newcomer(profile, credentials=leaf), create=True)
            for n, leaf in enumerate(leaves)
        )
    )
    assert Counter(one.credentials for one in results) == Counter(leaves)
    rows = sorted(one.device.credentials_row for one in results)
    assert rows == list(range(1, 21))
    known = [leaf for leaf in leaves if await stores[0].find_credentials(leaf.id)]
    last = max(results, key=lambda one: one.device.credentials_row)
    assert known == [last.credentials]


async def test_the_profiles_that_trust_a_factory(store, keep_profile, profile):
    """Those of the type, if they name an anchor; nothing of them is lost."""
    await keep_profile(store, "without an anchor")
    await keep_profile(store, "of another type", ProvisionType.DISABLED, chain=RULE)
    own = CertificateProfile(subject={"O": "us"}, keys=(KeyKind.P256,), grace_days=3)
    other = ChainRule(certificate="other", pattern="x")
    await keep_profile(store, "another", chain=other, certificate=own)
    found = {one.name: (one.chain, one.certificate) for one in await store.chain_profiles()}
    assert found == {"factory": (RULE, CertificateProfile()), "another": (other, own)}
