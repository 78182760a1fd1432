"""EST knows the pairs of a fleet as every wire does: derived keys, bounds, wrong ones counted."""

from __future__ import annotations

import pytest
from certified import OPERATOR
from est_desk import basic, csr_of, der_of, only

from gateway.core.fleet_custody import FleetSecrets
from gateway.core.fleet_secret_store import Bounds
from gateway.core.fleet_secrets import derived_key
from gateway.core.model import Actor, Organisation, Permission
from gateway.core.tokens import new_token
from gateway.store.sql_fleet_tickets import SqlFleetTickets

ACTOR = Actor(
    peer=OPERATOR,
    organisation=Organisation(id=1, uuid="", name="root", path="/1/"),
    permissions=frozenset(Permission),
)


@pytest.fixture
def secrets(store, clock):
    return FleetSecrets(SqlFleetTickets(store), clock=clock, new_token=new_token)


async def enrol(desk, login, name="dev-1"):
    code, reply = await desk.https("POST simpleenroll", csr_of(name), headers=login)
    return code, reply


async def test_a_device_shows_the_key_of_its_name(desk, fleet, secrets):
    """Of the name in its request; the group secret opens nothing, and another's key neither."""
    ticket = await secrets.add(ACTOR, fleet.profile, "line", derived=True)
    key = ticket.key.reveal()
    own = basic(key, derived_key(ticket.secret, "dev-1").reveal())
    code, reply = await enrol(desk, own)
    assert code == 200
    assert only(der_of(reply)).subject.rfc4514_string() == "CN=dev-1"
    assert (await enrol(desk, own, "dev-2"))[0] == 401
    assert (await enrol(desk, basic(key, ticket.secret.reveal()), "dev-3"))[0] == 401
    nameless = await desk.https("POST simpleenroll", csr_of(None), headers=own)
    assert nameless[0] == 401
    assert await desk.refusals() == ["wrong_secret"] * 3
    # What it asks first, without a name, is no guess.
    code, _ = await desk.https("GET csrattrs", headers=own)
    assert code == 200
    assert len(await secrets.blast_radius(ACTOR, ticket)) == 1


async def test_a_closed_secret_enrols_nobody(desk, fleet, secrets):
    """Its bounds hold here too, and the refusal is written down once."""
    ticket = await secrets.add(ACTOR, fleet.profile, "line")
    login = basic(ticket.key.reveal(), ticket.secret.reveal())
    await secrets.bound(ACTOR, ticket, Bounds(networks=("10.0.0.0/8",)))
    code, _ = await enrol(desk, login)
    assert code == 400
    await secrets.bound(ACTOR, ticket, Bounds())
    assert (await enrol(desk, login))[0] == 200
    await secrets.revoke(ACTOR, ticket)
    assert (await enrol(desk, login, "dev-2"))[0] == code
    assert await desk.refusals() == ["network_not_allowed", "secret_revoked"]
