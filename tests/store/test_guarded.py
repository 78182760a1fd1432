"""Births on terms: what comes together ends as it would have, one after the other."""

from __future__ import annotations

import asyncio
import random

import pytest
from operators import root_operator

from gateway.core.fleet_custody import FleetSecrets
from gateway.core.fleet_secret_store import Bounds
from gateway.core.model import (
    AccessToken,
    AttributeScope,
    Binding,
    EventKind,
    Provisioned,
    ProvisionType,
    Secret,
)
from gateway.core.terms import Gifts, Terms
from gateway.core.tokens import new_token
from gateway.store.guarded import Guarded
from gateway.store.sql_fleet_tickets import SqlFleetTickets

pytestmark = pytest.mark.every_database

OPERATOR = root_operator()
ALL = {"after_id": 0, "limit": 1000, "profile_id": None, "text": ""}
REQUESTS = 24


class Fleet:
    """A profile with a secret of so many uses. Whatever is its own begins with its `name`."""

    def __init__(self, store, profile, ticket, newcomer, now, most):
        self._store, self._profile, self._ticket = store, profile, ticket
        self._newcomer, self._until, self._most = newcomer, now + 900_000, most

    async def ask(self, number, name, nonce):
        own = self._profile.name
        binding = Binding(Secret(f"{own}|{name}|{nonce}"), self._until) if nonce else None
        terms = Terms(
            ticket_id=self._ticket.id,
            binding=binding,
            counted=True,
            max_devices=self._most,
            gifts=Gifts(attributes={AttributeScope.SERVER: {"born": number}}),
        )
        token = AccessToken(Secret(f"{own}-token-{number}"))
        new = self._newcomer(self._profile, f"{own}-{name}", credentials=token, terms=terms)
        result = await self._store.create_device(new)
        if not isinstance(result, Provisioned):
            return result.reason
        given = result.credentials.token.reveal().removeprefix(own)
        return given, result.again, result.device.name.removeprefix(own)


@pytest.fixture
def new_fleet_of(store, keep_profile, newcomer, clock):
    async def make(name, most, uses):
        kind = ProvisionType.ALLOW_CREATE_NEW_DEVICES
        profile = await keep_profile(store, name=name, kind=kind)
        secrets = FleetSecrets(SqlFleetTickets(store), clock=clock, new_token=new_token)
        ticket = await secrets.add(OPERATOR, profile, "few", bounds=Bounds(max_uses=uses))
        return Fleet(store, profile, ticket, newcomer, clock.now, most)

    return make


@pytest.mark.parametrize("seed", range(6))
async def test_together_is_as_one_after_the_other(new_fleet_of, told, registrar, seed):
    """Names that collide, requests that are repeated, secrets and profiles that are used up."""
    rolled = random.Random(seed)
    most, uses = rolled.choice((5, 9, 99)), rolled.choice((6, 8, 99))
    asked = [
        (number, f"d{rolled.randrange(14)}", rolled.choice(("", "n1", "n2")))
        for number in range(REQUESTS)
    ]
    apart, together = await new_fleet_of("a", most, uses), await new_fleet_of("b", most, uses)
    expected = [await apart.ask(*one) for one in asked]
    before = len(await told(EventKind.DEVICE_PROVISION))
    assert await asyncio.gather(*(together.ask(*one) for one in asked)) == expected
    events = await told(EventKind.DEVICE_PROVISION)
    assert [event[0] for event in events[before:]] == [event[0] for event in events[:before]]
    born = [one.device.name for one in await registrar.devices(**ALL)]
    assert sorted(name[1:] for name in born if name[0] == "a") == sorted(
        name[1:] for name in born if name[0] == "b"
    )


async def test_what_holds_for_all_is_decided_together(new_fleet_of, monkeypatch):
    """None of them by itself: on a server each would take a dozen round trips."""

    async def never(self, tx):
        raise AssertionError("it was decided by itself")

    monkeypatch.setattr(Guarded, "_alone", never)
    fleet = await new_fleet_of("a", 30, 30)
    results = await asyncio.gather(*(fleet.ask(n, f"d{n}", "n1") for n in range(30)))
    assert [result[2] for result in results] == [f"-d{n}" for n in range(30)]


async def test_few_enough_share_a_transaction(new_fleet_of, store):
    """They may have to be decided one after the other, while other gateways wait for their turn."""
    fleet = await new_fleet_of("a", 150, 400)
    results = await asyncio.gather(*(fleet.ask(n, f"d{n}", "") for n in range(160)))
    assert [type(result) for result in results].count(tuple) == 150
    sizes = store.writer.sizes
    assert sum(sizes.counts[sizes.bounds.index(128) + 1 :]) == 0
