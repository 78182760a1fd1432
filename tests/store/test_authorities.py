"""Authorities of ours: one of each role is active, and their keys are kept sealed."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.core.model import EventKind, Outcome
from gateway.core.pki.model import Authority, AuthorityRole

pytestmark = pytest.mark.every_database

ROOT, ISSUING = AuthorityRole.ROOT, AuthorityRole.ISSUING


def authority(role, mark=b"1", key=b"the private key"):
    return Authority(role=role, certificate=role.encode() + mark, key=key, created_at=5)


@pytest.fixture
def pair():
    return [authority(ROOT), authority(ISSUING)]


@pytest.fixture
def add(store, event):
    def make(new, *replaces, by=store):
        told = event(EventKind.AUTHORITY_CREATE)
        return by.add_authorities(new, told, replaces=replaces)

    return make


async def test_authorities_come_back_with_their_keys(store, add, pair, told):
    """The newest stands first; each has a number, its certificate and its key."""
    added = await add(pair)
    assert [(one.id, one.role) for one in added] == [(1, ROOT), (2, ISSUING)]
    found = await store.authorities()
    assert found == added[::-1]
    assert [one.key for one in found] == [b"the private key"] * 2
    assert await told(EventKind.AUTHORITY_CREATE) == [(Outcome.SUCCESS, "", None)]


async def test_a_key_may_be_kept_elsewhere(store, add):
    """Then none comes back."""
    await add([authority(ROOT, key=None)])
    assert (await store.authorities())[0].key is None


async def test_no_key_is_kept_in_clear(store, add, pair):
    """Nor does a sealed one open beside the certificate of another."""
    await add(pair)
    rows = await store.driver.rows("authorities")
    assert all(b"private" not in row[3] for row in rows)
    moved = (9, "root", b"another certificate", rows[0][3], 5)

    async def move(tx):
        await tx.fetch("retire_authority", "root")
        await tx.fetch("insert_authority", *moved)

    await store.driver.transact(move)
    with pytest.raises(StoreUnavailable):
        await store.authorities()


async def test_of_many_that_begin_at_once_one_is_first(stores, clock, event):
    """All or none are added: no root of one beside the issuing one of another."""
    attempts = [
        stores[n % 2].add_authorities(
            [authority(ROOT, b"%d" % n), authority(ISSUING, b"%d" % n)],
            event(EventKind.AUTHORITY_CREATE),
        )
        for n in range(20)
    ]
    results = await asyncio.gather(*attempts)
    first = [result for result in results if result is not None]
    assert len(first) == 1
    assert await stores[0].authorities() == first[0][::-1]


async def test_a_role_that_is_taken_undoes_all(store, add, pair, told):
    """Also what was already replaced or added in the same call."""
    await add(pair)
    assert await add([authority(ROOT, b"2"), authority(ISSUING, b"2")], ROOT) is None
    assert await add([authority(ISSUING, b"2")]) is None
    found = await store.authorities()
    assert [(one.id, one.active) for one in found] == [(2, True), (1, True)]
    assert len(await told(EventKind.AUTHORITY_CREATE)) == 1


async def test_one_is_replaced_by_the_next(store, add, pair):
    """The older stays, retired, with its key: it still signs its revocation lists."""
    await add(pair)
    (fresh,) = await add([authority(ISSUING, b"2")], ISSUING)
    found = await store.authorities()
    assert [(one.id, one.role, one.active) for one in found] == [
        (fresh.id, ISSUING, True),
        (2, ISSUING, False),
        (1, ROOT, True),
    ]
    assert found[1].key == b"the private key"


async def test_revocation_lists_are_numbered(stores):
    """Each authority's numbers only grow, whichever gateway asks."""
    numbers = await asyncio.gather(*(stores[n % 2].next_crl_number(1) for n in range(20)))
    assert sorted(numbers) == list(range(1, 21))
    assert await stores[0].next_crl_number(2) == 1
    assert await stores[1].next_crl_number(1) == 21
