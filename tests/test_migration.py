"""A fleet copied from a ThingsBoard: our own REST is the source, since it is the same API."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "dialects" / "thingsboard" / "admin"))

from desk_case import PASSWORD, DeskCase
from http_ground import shapes

from gateway.core.catalogue import Catalogue
from gateway.core.inventory import Inventory
from gateway.core.model import (
    AccessToken,
    AttributesChange,
    AttributeScope,
    Certificate,
    DeviceDraft,
    DeviceProfile,
    Json,
    MqttBasic,
    Peer,
    PresharedKey,
    ProvisionType,
    Secret,
    Wire,
)
from gateway.core.people import People
from gateway.core.registry import Registry
from gateway.core.tokens import new_token
from gateway.migration import Migration, Services
from gateway.migration_report import Fate
from gateway.migration_source import (
    SourceTrouble,
    ThingsBoardSource,
    is_exposed,
    proven_url,
)
from gateway.passwords import Argon2Passwords
from gateway.store.sql_inventory import SqlInventory
from gateway.store.sql_people import SqlPeople
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore
from gateway.store.sqlite import SqliteDriver
from gateway.store.vault import Vault
from gateway.transports.http import HttpListener
from gateway.wire.call import Format, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

SHELL = Peer(Wire.SHELL, "tester", actor="tester")
ALL = "admin@example.com"


class Pages:
    """A journal in memory."""

    def __init__(self) -> None:
        self.pages: dict[str, int] = {}
        self.log: list[Any] = []

    def begin(self, source: str) -> int:
        return max(self.pages.get(source, 0) - 1, 0)

    def done(self, source: str, page: int) -> None:
        self.log.append(page)
        self.pages[source] = page + 1

    def finish(self) -> None:
        self.pages.clear()


@pytest.fixture
async def case(store, clock):
    made = DeskCase(store, clock)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def here(clock):
    """The services of another store, to which is copied."""
    store = SqlStore(SqliteDriver(None), Vault(bytes(reversed(range(32)))))
    await store.open()
    hasher = Argon2Passwords(memory_kib=64, passes=1)
    times = {"clock": clock, "new_token": new_token}
    registrar = SqlRegistrar(store)
    people = People(SqlPeople(store), hasher=hasher, **times)
    yield Services(
        actor=await people.operator(SHELL),
        people=people,
        catalogue=Catalogue(store, registrar, **times),
        inventory=Inventory(store, SqlInventory(store), **times),
        registry=Registry(store, registrar, peer=SHELL, **times),
    )
    hasher.close()
    await store.close()


@pytest.fixture
def migrate(case, here):
    async def migrate(journal=None, *, user=ALL, **options):
        source = ThingsBoardSource(case.url, user, Secret(PASSWORD), wait_s=0.001)
        async with source:
            return await Migration(source, here, **options).run(journal or Pages())

    return migrate


@pytest.fixture
async def fleet(case):
    """Two profiles, and devices with all there is to a device."""
    profile = DeviceProfile(
        id=0,
        name="meters",
        description="in the cellar",
        provision_type=ProvisionType.CHECK_PRE_PROVISIONED_DEVICES,
    )
    case.meters = await case.catalogue.save(
        case.operator, profile, key=Secret("the-fleet-key"), secret=Secret("the-fleet-secret")
    )
    for name, credentials in (
        ("token", AccessToken(Secret("a-token-of-its-own"))),
        ("basic", MqttBasic(client_id="c", username="u", password=Secret("p"))),
        ("certified", Certificate("MIIBcertificate")),
    ):
        draft = DeviceDraft(
            name=name,
            profile_id=case.meters.id,
            label=f"label of {name}",
            info='{"description":"a meter"}',
            gateway=name == "token",
            customer_id=case.organisations["Acme"].id,
            credentials=credentials,
        )
        record = await case.inventory.create(case.operator, draft)
        for scope, values in ATTRIBUTES.items():
            await case.registry.change_attributes(record, scope, AttributesChange(values))
    await case.device("plain")
    return case


ATTRIBUTES = {
    AttributeScope.CLIENT: {"serial": "00123", "n": 7},
    AttributeScope.SHARED: {"interval": 60, "ratio": 2.0, "plan": Json('{"a":[1,2]}')},
    AttributeScope.SERVER: {"site": "north", "on": True, "provisionState": "provisioned"},
}
PACKAGE = {"fw_title": "app", "fw_version": "2"}


async def attributes(services, name):
    known = await services.registry.device(name)
    found = await services.registry.attributes(known)
    told = {}
    for one in found:
        told.setdefault(one.scope, {})[one.key] = one.value
    return told


async def test_everything_comes_along(fleet, here, migrate):
    """Customers, profiles with key and secret, devices, credentials and attributes are the same."""
    report = await migrate()
    assert report.left == []
    assert report.counts["customers"][Fate.CREATED] == 3
    assert report.counts["devices"][Fate.CREATED] == 4
    acme = await here.people.organisation_named(here.actor, "Acme")
    north = await here.people.organisation_named(here.actor, "Acme North")
    assert north.parent_id == acme.id
    profile = await here.catalogue.named(here.actor, "meters")
    ticket = await here.catalogue.ticket(profile)
    assert (ticket.key, ticket.secret) == (Secret("the-fleet-key"), Secret("the-fleet-secret"))
    assert profile.description == "in the cellar"
    assert profile.provision_type is ProvisionType.CHECK_PRE_PROVISIONED_DEVICES
    for name in ("token", "basic", "certified"):
        there = await fleet.inventory.find_named(fleet.operator, name)
        record = await here.inventory.find_named(here.actor, name)
        assert (record.label, record.info) == (there.label, there.info)
        assert record.profile_name == "meters"
        assert record.customer_name == "Acme"
        assert record.device.gateway is there.device.gateway
        assert record.device.provision_state == "provisioned"
        known = await here.registry.device(name)
        assert known.credentials == (await fleet.registry.device(name)).credentials
        assert await attributes(here, name) == ATTRIBUTES
    plain = await here.inventory.find_named(here.actor, "plain")
    assert (plain.profile_name, plain.customer_name) == ("default", "")


async def test_what_is_copied_twice_changes_nothing(fleet, here, migrate):
    """The second run finds everything as it is, and writes no event."""
    await migrate()
    before = await here.registry.last_events(limit=1)
    report = await migrate()
    for fates in report.counts.values():
        assert fates[Fate.CREATED] == fates[Fate.UPDATED] == fates[Fate.LEFT] == 0
    assert await here.registry.last_events(limit=1) == before


async def test_what_changed_there_changes_here(fleet, here, migrate):
    """Labels, customers, credentials, attributes and secrets follow."""
    await migrate()
    known = await fleet.registry.device("token")
    await fleet.registry.replace_credentials(known, AccessToken(Secret("another-token")))
    change = AttributesChange({"interval": 61})
    await fleet.registry.change_attributes(known, AttributeScope.SHARED, change)
    record = await fleet.inventory.find_named(fleet.operator, "basic")
    await fleet.inventory.update(
        fleet.operator, record, DeviceDraft(name="basic", label="new", customer_id=None)
    )
    await fleet.catalogue.save(fleet.operator, fleet.meters, secret=Secret("a-newer-secret"))
    report = await migrate()
    assert report.counts["devices"][Fate.UPDATED] == 2
    assert report.counts["devices"][Fate.UNCHANGED] == 2
    assert report.counts["profiles"][Fate.UPDATED] == 1
    here_now = await here.registry.device("token")
    assert here_now.credentials == AccessToken(Secret("another-token"))
    assert (await attributes(here, "token"))[AttributeScope.SHARED]["interval"] == 61
    record = await here.inventory.find_named(here.actor, "basic")
    assert (record.label, record.customer_name) == ("new", "")
    ticket = await here.catalogue.ticket(await here.catalogue.named(here.actor, "meters"))
    assert ticket.secret == Secret("a-newer-secret")


async def test_a_dry_run_writes_nothing(fleet, here, migrate):
    """It tells the same as the run would, and the store stays empty; later, that all is there."""
    journal = Pages()
    report = await migrate(journal, dry=True)
    assert journal.log == []
    assert await here.registry.devices() == []
    assert await here.people.organisation_named(here.actor, "Acme") is None
    wet = await migrate()
    assert wet.counts == report.counts
    again = await migrate(dry=True)
    assert again.counts["devices"][Fate.UNCHANGED] == 4


async def test_new_only_leaves_what_is_here(fleet, here, migrate):
    """With it nothing is overwritten."""
    await migrate()
    known = await here.registry.device("token")
    await here.registry.replace_credentials(known, AccessToken(Secret("renewed-here")))
    await fleet.device("fresh")
    report = await migrate(new_only=True)
    assert report.counts["devices"] == {
        Fate.CREATED: 1,
        Fate.UPDATED: 0,
        Fate.UNCHANGED: 4,
        Fate.LEFT: 0,
    }
    known = await here.registry.device("token")
    assert known.credentials == AccessToken(Secret("renewed-here"))


async def test_what_is_thingsboards_own_stays_there(fleet, here, migrate):
    """What announces packages, and what is known of presence, is not copied."""
    record = await fleet.inventory.find_named(fleet.operator, "plain")
    for scope, values in (
        (AttributeScope.SHARED, PACKAGE | {"fw_channel": "beta"}),
        (AttributeScope.SERVER, {"active": True, "lastConnectTime": 5, "inactivityTimeout": 9}),
    ):
        await fleet.registry.change_attributes(record, scope, AttributesChange(values))
    await migrate()
    assert await attributes(here, "plain") == {
        AttributeScope.SHARED: {"fw_channel": "beta"},
        AttributeScope.SERVER: {"inactivityTimeout": 9},
    }


async def test_what_cannot_be_copied_is_left_with_its_reason(fleet, here, migrate):
    """One that collides, or is of a kind that is not given by REST, never stops the others."""
    taken = DeviceDraft(name="other", credentials=AccessToken(Secret("a-token-of-its-own")))
    await here.inventory.create(here.actor, taken)
    known = await fleet.registry.device("plain")
    await fleet.registry.replace_credentials(known, PresharedKey("meter", Secret("00" * 32)))
    report = await migrate()
    left = {(one.kind, one.name): one.reason for one in report.left}
    assert left[("devices", "token")] == "its credentials are another device's here"
    assert ("credentials", "plain") in left
    assert len(left) == 2
    assert (await here.registry.device("plain")) is not None
    assert (await here.registry.device("certified")) is not None


async def test_a_profile_of_a_file_is_left_alone(fleet, here, migrate, clock):
    """Its devices are copied into it all the same."""
    from gateway.core.registry import ProfileDraft

    mine = DeviceProfile(id=0, name="meters", source="meters.toml")
    await here.registry.save_profile(ProfileDraft(profile=mine))
    report = await migrate()
    [left] = report.left
    assert (left.kind, left.name) == ("profiles", "meters")
    assert "meters.toml" in left.reason
    assert (await here.inventory.find_named(here.actor, "token")).profile_name == "meters"


async def test_a_run_that_broke_off_goes_on(fleet, here, migrate, monkeypatch):
    """Pages that are done are not read again, but for the last; at the end all is forgotten."""
    monkeypatch.setattr("gateway.migration_source.PAGE_SIZE", 1)
    monkeypatch.setattr("gateway.migration.PAGE_SIZE", 1)
    journal, steps = Pages(), itertools.count()

    def break_off(kind, done, total):
        if kind == "devices" and next(steps) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await migrate(journal, progress=break_off)
    assert journal.log == [0, 1]
    report = await migrate(journal)
    assert journal.log == [0, 1, 1, 2, 3]
    assert report.counts["devices"][Fate.CREATED] == 1
    assert journal.pages == {}
    assert len(await here.registry.devices()) == 4


async def test_a_wrong_password_is_told_and_not_shown(case, here):
    """One sentence with the user's name."""
    source = ThingsBoardSource(case.url, ALL, Secret("swordfish"), wait_s=0.001)
    with pytest.raises(SourceTrouble, match=r"does not let admin@example\.com in") as told:
        async with source:
            pass
    assert "swordfish" not in repr(told.value)


async def test_a_source_that_is_not_there(here):
    """It is tried several times, and then said."""
    source = ThingsBoardSource("http://127.0.0.1:1", ALL, Secret("x"), wait_s=0.001)
    with pytest.raises(SourceTrouble, match=r"cannot be reached.*after 6 tries"):
        async with source:
            pass


class Odd:
    """A server that answers what it is told to, one answer after the other."""

    def __init__(self, *answers: Reply) -> None:
        self.answers = [Reply(b'{"token":"t"}', format=Format.JSON), *answers]
        route = Route(name="odd", handler=self.answer, http=("GET /{a*}", "POST /{a*}"))
        router = Router([route], Wire.HTTP, Gauge(9), polls=Gauge(9))
        self.listener = HttpListener(
            router, host="127.0.0.1", port=0, shapes=shapes(lambda *_: b"{}")
        )

    async def answer(self, call):
        return self.answers.pop(0)

    async def __aenter__(self):
        await self.listener.start()
        url = f"http://127.0.0.1:{self.listener.port}"
        self.source = ThingsBoardSource(url, ALL, Secret("x"), wait_s=0.001)
        return await self.source.__aenter__()

    async def __aexit__(self, *_):
        await self.source.__aexit__()
        await self.listener.stop(0.1)


OK = Reply(b'{"a":1}', format=Format.JSON)


async def test_what_passes_is_waited_for():
    """A limit of calls, and a server that is busy, are asked again."""
    async with Odd(Reply(status=Status.LIMITED), Reply(status=Status.INTERNAL), OK) as source:
        source._wait_s = 0.0
        assert await source.get("/api/x") == {"a": 1}


async def test_a_token_that_ended_is_renewed():
    """401 leads to one more login, and the call is repeated."""
    login = Reply(b'{"token":"u"}', format=Format.JSON)
    async with Odd(Reply(status=Status.UNAUTHENTICATED), login, OK) as source:
        assert await source.get("/api/x") == {"a": 1}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"7", b'{"data":7}', b'{"data":[]}'])
async def test_what_is_no_thingsboard_is_told(body):
    """A page that is none is a sentence, and no traceback."""
    async with Odd(Reply(body, format=Format.JSON)) as source:
        with pytest.raises(SourceTrouble, match="something else than"):
            async for _ in source.pages("/api/customers"):
                pass


async def test_an_endless_answer_is_cut(monkeypatch):
    """Memory is bounded, whatever the source sends."""
    monkeypatch.setattr("gateway.migration_source.MOST_ANSWER_BYTES", 1000)
    async with Odd(Reply(b'"' + b"x" * 5000 + b'"', format=Format.JSON)) as source:
        with pytest.raises(SourceTrouble, match="more than it should"):
            await source.get("/api/x")


@pytest.mark.parametrize(
    "text", ["", "thingsboard", "ftp://a", "https://", "https://u:p@a", "https://a?b=c"]
)
def test_an_address_is_proven(text):
    """What is no address, or holds a password, is refused without showing it."""
    with pytest.raises(SourceTrouble) as told:
        proven_url(text)
    assert "u:p" not in str(told.value)


def test_a_password_in_clear_is_noticed():
    """http is fine on this machine alone."""
    assert is_exposed("http://tb.example.com")
    assert not is_exposed("http://localhost:8080")
    assert not is_exposed("https://tb.example.com")
