"""Devices that provision profiles admit: their type, customer and group, in one transaction."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from gateway.core.catalogue import Catalogue
from gateway.core.model import (
    PLAIN_POLICY,
    Actor,
    Admission,
    BirthRule,
    DeviceProfile,
    EventKind,
    FleetTicket,
    Organisation,
    Outcome,
    Peer,
    Permission,
    Policy,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    ProvisionResult,
    ProvisionType,
    RefusalReason,
    Refused,
    Wire,
)
from gateway.core.provisioning import Provisioner
from gateway.core.registry import Registry
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore

pytestmark = pytest.mark.every_database

PEER = Peer(Wire.COAP, "192.0.2.7:5683")
ACME, GLOBEX = 2, 3
BOSS = Actor(
    peer=Peer(Wire.HTTP, "192.0.2.9:1", actor="ann@example.com"),
    organisation=Organisation(id=1, uuid="", name="root", path="/1/"),
    permissions=frozenset(Permission),
)


class Gate:
    """A provision profile, and devices that come to it."""

    def __init__(self, case: Case, ticket: FleetTicket) -> None:
        self._case = case
        self.ticket = ticket

    def request(self, name: str | None = "d", kind: str | None = "meter") -> ProvisionRequest:
        return ProvisionRequest(
            proof=ProvisionKey(self.ticket.key, self.ticket.secret),
            peer=PEER,
            device_name=name,
            device_type=kind,
        )

    async def come(self, name: str | None = "d", kind: str | None = "meter") -> ProvisionResult:
        return await self._case.provisioner.provision(self.request(name, kind))

    async def admitted(self, name: str | None = "d", kind: str | None = "meter") -> Provisioned:
        result = await self.come(name, kind)
        assert isinstance(result, Provisioned), result
        return result

    async def refused(self, name: str | None = "d", kind: str | None = "meter") -> RefusalReason:
        result = await self.come(name, kind)
        assert isinstance(result, Refused), result
        return result.reason


class Case:
    def __init__(
        self, store: SqlStore, registry: Registry, provisioner: Provisioner, catalogue: Catalogue
    ) -> None:
        self.store = store
        self.registry = registry
        self.provisioner = provisioner
        self.catalogue = catalogue

    async def gate(self, *, existing: bool = False, **rule: Any) -> Gate:
        """A provision profile; `existing`: `preProvisionAllowed`."""
        birth = BirthRule(**{"profile_by_type": True, **rule})
        kind = ProvisionType.ALLOW_CREATE_NEW_DEVICES
        saved = await self.catalogue.save(
            BOSS,
            DeviceProfile(
                id=0, name="gate", provision_type=kind, pre_provision_allowed=existing, birth=birth
            ),
        )
        ticket = await self.catalogue.ticket(saved)
        assert ticket is not None
        return Gate(self, ticket)

    async def profile(self, name: str, most: int | None = None) -> DeviceProfile:
        """A device profile; `most`: devices in it."""
        policy = Policy(admission=Admission(max_devices=most)) if most else PLAIN_POLICY
        return await self.catalogue.save(BOSS, DeviceProfile(id=0, name=name, policy=policy))

    async def names(self) -> list[str]:
        """Of the device profiles."""
        return [one.name for one in (await self.catalogue.page(BOSS)).data]

    async def group(self, name: str) -> list[str]:
        """The names of the devices in it; none of a group that is not there."""
        rows = await self.store.driver.rows("device_group_named", 1, name)
        if not rows:
            return []
        return [
            one.device.name
            for one in await self.registry.devices()
            if await self.store.driver.rows("is_group_member", rows[0][0], one.device.id)
        ]


@pytest.fixture
async def case(
    store: SqlStore,
    registry: Registry,
    provisioner: Provisioner,
    clock: Any,
    tokens: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Case:
    async def settle(tx: Any) -> None:
        for number, name in ((ACME, "Acme"), (GLOBEX, "Globex")):
            place = (number, uuid.uuid4().bytes, 1, name, f"/1/{number}/", "{}", 5)
            assert await tx.fetch("insert_organisation", *place)

    await store.driver.transact(settle)
    for path in ("gateway.store.sqlite.QUERIES", "gateway.store.postgres.QUERIES"):
        mark = "$" if "postgres" in path else "?"
        monkeypatch.setitem(
            _resolve(path),
            "is_group_member",
            f"SELECT 1 FROM device_group_member WHERE group_id = {mark}1 AND device_id = {mark}2",
        )
    catalogue = Catalogue(store, SqlRegistrar(store), clock=clock, new_token=tokens)
    return Case(store, registry, provisioner, catalogue)


def _resolve(path: str) -> Any:
    import importlib

    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


async def test_the_type_names_the_profile(case: Case) -> None:
    """Found where there is one, else made, and told of; it is the device's type too."""
    meters = await case.profile("meter")
    gate = await case.gate()
    first = (await gate.admitted("a")).device
    assert (first.profile_id, first.type, first.provision_state) == (
        meters.id,
        "meter",
        "provisioned",
    )
    second = (await gate.admitted("b", "valve")).device
    assert second.type == "valve"
    assert await case.names() == ["meter", "valve"]
    made = [one for one in await case.registry.events() if one.subject == "valve"]
    assert [(one.kind, one.peer.address) for one in made] == [
        (EventKind.PROFILE_CREATE, PEER.address)
    ]
    stored = await case.registry.device("b")
    assert stored is not None
    assert (stored.device.profile_id, stored.device.type) == (second.profile_id, "valve")


async def test_without_a_type_it_is_the_default_profile(case: Case) -> None:
    """The organisation's, made when there is none."""
    gate = await case.gate()
    assert (await gate.admitted("a", None)).device.type == "default"
    await case.catalogue.make_default(BOSS, await case.profile("meter"))
    assert (await gate.admitted("b", "  ")).device.type == "meter"
    assert await gate.refused("c", "a\nb") is RefusalReason.TYPE_INVALID


async def test_customer_and_group_are_given_with_the_birth(case: Case) -> None:
    """`customerId` and `groupName` (section 6), and the event says so."""
    gate = await case.gate(customer_id=ACME, groups=("north", "all"))
    device = (await gate.admitted("a")).device
    assert device.customer_id == ACME
    stored = await case.registry.device("a")
    assert stored is not None
    assert stored.device.customer_id == ACME
    assert await case.group("north") == await case.group("all") == ["a"]
    (event,) = await case.registry.events(stored)
    assert event.detail == {"customer": "Acme", "groups": "north, all"}


async def test_where_a_device_is(case: Case) -> None:
    """At the organisation of its profile, or at its customer below; nowhere when it is not."""
    own = (await (await case.gate()).admitted("a")).device
    given = (await (await case.gate(customer_id=ACME)).admitted("b")).device
    assert await case.store.device_path(own.id) == "/1/"
    assert await case.store.device_path(given.id) == f"/1/{ACME}/"
    assert await case.store.device_path(10_000) == ""


async def test_many_at_once_share_their_group_and_profile(case: Case) -> None:
    """Of a hundred in one transaction, with names twice, each name is born once."""
    gate = await case.gate(groups=("north",))
    names = [f"d{number // 2}" for number in range(100)]
    results = await asyncio.gather(
        *(gate.come(name, f"type{number % 3}") for number, name in enumerate(names))
    )
    born = sorted(one.device.name for one in results if isinstance(one, Provisioned))
    assert born == sorted(set(names))
    reasons = {one.reason for one in results if isinstance(one, Refused)}
    assert reasons == {RefusalReason.NAME_TAKEN}
    assert sorted(await case.group("north")) == born
    assert await case.names() == ["type0", "type1", "type2"]


async def test_one_that_exists_is_refused_unless_that_is_allowed(case: Case) -> None:
    """`preProvisionAllowed: false` refuses what is there, and makes nothing for the refused."""
    await case.registry.add_device(await case.profile("meter"), "d")
    gate = await case.gate(groups=("north",))
    assert await gate.refused("d", "valve") is RefusalReason.NAME_TAKEN
    assert await case.names() == ["meter"]
    assert await case.group("north") == []
    events = await case.registry.events()
    assert (events[-1].kind, events[-1].outcome) == (EventKind.DEVICE_PROVISION, Outcome.REFUSED)
    assert "valve" not in {one.subject for one in events}


async def test_one_that_waits_receives_its_credentials_once(case: Case) -> None:
    """Of any profile, which it keeps; it comes to the customer and into the group as well."""
    meters = await case.profile("meter")
    added = await case.registry.add_device(meters, "d")
    assert isinstance(added, Provisioned)
    gate = await case.gate(existing=True, customer_id=ACME, groups=("north",))
    results = await asyncio.gather(*(gate.come("d", "valve") for _ in range(10)))
    (given,) = [one for one in results if isinstance(one, Provisioned)]
    assert given.credentials == added.credentials
    assert (given.device.profile_id, given.device.type) == (meters.id, "meter")
    assert given.device.customer_id == ACME
    assert await case.group("north") == ["d"]
    reasons = [one.reason for one in results if isinstance(one, Refused)]
    assert reasons == [RefusalReason.ALREADY_PROVISIONED] * 9
    assert await case.names() == ["meter"]


async def test_one_that_does_not_exist_is_created_either_way(case: Case) -> None:
    """`preProvisionAllowed: true` with a device that is not there creates it."""
    gate = await case.gate(existing=True)
    assert (await gate.admitted("new")).device.type == "meter"
    assert await gate.refused("new") is RefusalReason.ALREADY_PROVISIONED


async def test_no_customers_key_opens_another_customers_device(case: Case) -> None:
    """Whose it is decides, whoever has the key of a provision profile."""
    await case.registry.add_device(await case.profile("meter"), "d")
    known = await case.registry.device("d")
    assert known is not None
    await case.registry.claim(known, "Globex", None)
    theirs = await case.gate(existing=True, customer_id=ACME)
    assert await theirs.refused("d") is RefusalReason.CUSTOMER_HAS_IT
    own = await case.gate(existing=True, customer_id=GLOBEX)
    assert (await own.admitted("d")).device.customer_id == GLOBEX


async def test_a_customer_that_is_gone_gets_nothing(case: Case) -> None:
    """The device is its tenant's then."""
    gate = await case.gate(customer_id=77)
    assert (await gate.admitted("a")).device.customer_id is None


async def test_a_profile_may_give_its_devices_away_without_asking_their_type(case: Case) -> None:
    """A rule of birth without `profile_by_type` leaves the profile as it is."""
    saved = await case.catalogue.save(
        BOSS,
        DeviceProfile(
            id=0,
            name="meters",
            provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES,
            pre_provision_allowed=True,
            birth=BirthRule(customer_id=ACME),
        ),
    )
    ticket = await case.catalogue.ticket(saved)
    assert ticket is not None
    gate = Gate(case, ticket)
    device = (await gate.admitted("a", None)).device
    assert (device.profile_id, device.customer_id) == (saved.id, ACME)
    await case.registry.add_device(await case.profile("valve"), "v")
    assert await gate.refused("v", None) is RefusalReason.OTHER_PROFILE


async def test_a_name_that_is_left_out_is_made(case: Case) -> None:
    """20 characters, as everywhere."""
    gate = await case.gate()
    assert len((await gate.admitted(None)).device.name) == 20


async def test_what_is_born_can_be_found_and_let_in(case: Case, access: Any) -> None:
    """The credentials that were given are good at once."""
    given = await (await case.gate()).admitted("a")
    device = await access.by_token(given.credentials.id)
    assert device == structs.replace(
        given.device, profile_revision=device.profile_revision, transport=device.transport
    )


@pytest.mark.parametrize("existing", [False, True])
async def test_the_profile_of_its_type_holds_it_by_its_own_bound(
    case: Case, existing: bool
) -> None:
    """Exactly, whoever comes at once; others are not held; and who is there already is told so, or
    claimed, as ever."""
    await case.profile("meter", 5)
    gate = await case.gate(existing=existing)
    asked = [gate.come(f"d{number}") for number in range(12)]
    results = await asyncio.gather(*asked, gate.come("x", "free"), gate.come("d0", "free"))
    full = Refused(RefusalReason.PROFILE_FULL)
    assert results.count(full) == 7
    assert [type(one) for one in results[:13]].count(Provisioned) == 6
    there = next(one for one in results if isinstance(one, Provisioned)).device
    taken = RefusalReason.ALREADY_PROVISIONED if existing else RefusalReason.NAME_TAKEN
    assert await gate.refused(there.name) is taken
    meter = next(one for one in (await case.catalogue.page(BOSS)).data if one.name == "meter")
    await case.registry.add_device(meter, "waits")
    if existing:
        assert (await gate.admitted("waits")).device.profile_id == meter.id
    else:
        assert await gate.refused("waits") is taken
    assert await gate.refused("new") is RefusalReason.PROFILE_FULL


async def test_beside_a_bounded_type_new_profiles_are_told_of_and_taken_back(case: Case) -> None:
    """Who comes in one transaction with a device whose type is bounded: a profile that was made for
    the born is told of as ever, and one that was made for the refused is no more."""
    await case.profile("meter", 5)
    gate = await case.gate()
    await gate.admitted("there")
    asked = (("a", "meter"), ("b", "valve"), ("there", "pump"))
    results = await asyncio.gather(*(gate.come(*one) for one in asked))
    assert [type(one) for one in results] == [Provisioned, Provisioned, Refused]
    assert await case.names() == ["meter", "valve"]
    made = [one.kind for one in await case.registry.events() if one.subject == "valve"]
    assert made == [EventKind.PROFILE_CREATE]
