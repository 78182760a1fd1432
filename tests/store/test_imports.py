"""Importing rows into a store: created, brought up to date, rejected one by one, taken up again."""

from __future__ import annotations

import pytest

from gateway.core.errors import Cause, Conflict
from gateway.core.exporting import Exporter, ExportQuery
from gateway.core.import_rows import ImportRow, Rejected
from gateway.core.importing import Imported, Importer
from gateway.core.model import (
    AccessToken,
    Actor,
    AttributeScope,
    EventKind,
    MqttBasic,
    NoticeKind,
    Organisation,
    Peer,
    Permission,
    Secret,
    Wire,
)
from gateway.store.sql_imports import SqlImports

pytestmark = pytest.mark.every_database

ROOT = Organisation(id=1, uuid="", name="root", path="/1/")
ALL = frozenset(Permission)
CREATED, UPDATED, UNCHANGED = Imported.CREATED, Imported.UPDATED, Imported.UNCHANGED
TAKEN = "Device credentials are already assigned to another device!"


def actor(*lacking: Permission, organisation: Organisation = ROOT) -> Actor:
    peer = Peer(Wire.SHELL, "tester", "tester")
    return Actor(peer=peer, organisation=organisation, permissions=ALL - frozenset(lacking))


def row(number: int, name: str, **fields) -> ImportRow:
    return ImportRow(number, name, **fields)


def token(text: str) -> AccessToken:
    return AccessToken(Secret(text))


@pytest.fixture
def importer(store, clock, tokens) -> Importer:
    return Importer(SqlImports(store), clock=clock, new_token=tokens)


@pytest.fixture
def told(store):
    """The events of a kind so far: subject and detail."""

    async def find(kind: EventKind):
        rows = await store.driver.rows("events", 0, 10_000)
        return [(one[6], one[9]) for one in rows if one[2] == kind.value]

    return find


async def exported(store, clock, **query):
    exporter = Exporter(SqlImports(store), clock=clock)
    header, *rows = [
        cells async for page in exporter.rows(actor(), ExportQuery(**query)) for cells in page
    ]
    return [dict(zip(header, cells, strict=True)) for cells in rows]


async def test_rows_become_devices_with_all_they_say(importer, store, registry, clock, told):
    """A new device has its type, label, customer, groups, token, attributes and readings."""
    outcomes = await importer.import_rows(
        actor(),
        [
            row(
                2,
                "m-1",
                type="meter",
                label="Cellar",
                description="the first",
                gateway=True,
                customer="Acme",
                groups=("north", "new"),
                credentials=token("token-m-1"),
                attributes=(
                    (AttributeScope.SERVER, "site", 7),
                    (AttributeScope.SHARED, "interval", 30),
                    (AttributeScope.SERVER, "provisionState", "provisioned"),
                ),
                readings=(("temperature", 21.5),),
            )
        ],
    )
    assert outcomes == [CREATED]
    known = await registry.device("m-1")
    assert known.device.type == "meter"
    assert known.device.gateway
    assert known.device.provision_state == "provisioned"
    assert known.credentials == token("token-m-1")
    assert [(one.key, one.value) for one in await registry.latest(known)] == [("temperature", 21.5)]
    (told_row,) = await exported(store, clock)
    assert told_row == {
        "name": "m-1",
        "type": "meter",
        "label": "Cellar",
        "description": "the first",
        "gateway": "true",
        "customer": "Acme",
        "groups": "new;north",
        "server:provisionState": "provisioned",
        "server:site": "7",
        "shared:interval": "30",
    }
    assert await told(EventKind.DEVICE_CREATE) == [("m-1", "")]
    assert [name for name, _ in await told(EventKind.PROFILE_CREATE)] == ["meter"]
    assert [name for name, _ in await told(EventKind.ORGANISATION_CREATE)] == ["Acme"]


async def test_a_new_device_without_credentials_gets_a_token_and_the_default_profile(
    importer, registry
):
    """What a row does not say is made: a random token, the profile `default`."""
    assert await importer.import_rows(actor(), [row(2, "a"), row(3, "b")]) == [CREATED] * 2
    first, second = await registry.device("a"), await registry.device("b")
    assert first.device.type == second.device.type == "default"
    assert first.credentials != second.credentials
    assert first.device.provision_state is None


async def test_taken_credentials_reject_their_row_alone(importer, registry):
    """A row whose token is another's is rejected, and its name is free for the row after it."""
    outcomes = await importer.import_rows(
        actor(),
        [
            row(2, "a", credentials=token("same-token")),
            row(3, "b", credentials=token("same-token")),
            row(4, "b", credentials=token("other-token")),
            row(5, "c"),
        ],
    )
    assert outcomes == [CREATED, Rejected(3, TAKEN), CREATED, CREATED]
    assert (await registry.device("b")).credentials == token("other-token")
    again = [row(6, "c", credentials=token("same-token"), label="x")]
    assert await importer.import_rows(actor(), again) == [Rejected(6, TAKEN)]


async def test_a_name_that_was_refused_may_still_be_born_of_another_row(importer, registry):
    """The second row of a name stands for itself, also when it names no type."""
    await importer.import_rows(actor(), [row(2, "old", type="meter", credentials=token("t-old"))])
    rows = [row(3, "a", type="meter", credentials=token("t-old")), row(4, "a")]
    assert await importer.import_rows(actor(), rows) == [Rejected(3, TAKEN), CREATED]
    assert (await registry.device("a")).device.type == "default"


async def test_a_name_twice_is_created_and_updated(importer, registry, store, clock):
    """The second row of a name changes what the first made."""
    rows = [row(2, "a", label="one"), row(3, "a", label="two"), row(4, "a")]
    assert await importer.import_rows(actor(), rows) == [CREATED, UPDATED, UNCHANGED]
    assert (await exported(store, clock))[0]["label"] == "two"


async def test_the_same_rows_again_change_nothing_and_tell_nothing(importer, told, store):
    """Importing a file twice leaves the second time no trace in events or notices."""

    def rows():
        return [
            row(
                2,
                "a",
                type="meter",
                label="x",
                customer="Acme",
                groups=("g",),
                credentials=MqttBasic("", "user", Secret("pass")),
                attributes=((AttributeScope.SHARED, "k", 1),),
            )
        ]

    assert await importer.import_rows(actor(), rows()) == [CREATED]
    events = await store.driver.rows("events", 0, 1000)
    assert await importer.import_rows(actor(), rows()) == [UNCHANGED]
    assert await store.driver.rows("events", 0, 1000) == events


async def test_an_update_changes_what_it_says_and_keeps_the_rest(importer, registry, told, store):
    """Empty cells leave a device as it is; its login stays when the row has none."""
    await importer.import_rows(
        actor(), [row(2, "a", type="meter", label="x", credentials=token("token-a"))]
    )
    await importer.import_rows(actor(), [row(2, "a", type="valve")])
    known = await registry.device("a")
    assert known.device.type == "valve"
    assert known.credentials == token("token-a")
    assert await told(EventKind.DEVICE_UPDATE) == [("a", '{"changed":"type"}')]


async def test_another_password_is_other_credentials(importer, registry, store):
    """A password is no part of what a device is found by, and counts all the same."""
    for password in ("one", "two"):
        login = MqttBasic("", "user", Secret(password))
        await importer.import_rows(actor(), [row(2, "a", credentials=login)])
    assert (await registry.device("a")).credentials.password == Secret("two")
    kinds = [one[2] for one in await store.driver.rows("notices", 0, 100)]
    assert NoticeKind.LOGIN.value in kinds


async def test_update_false_leaves_data_of_existing_devices_alone(importer, registry):
    """Without `update` attributes and readings are written for new devices only."""
    for value, update in ((1, True), (2, False)):
        rows = [
            row(
                2,
                "a",
                attributes=((AttributeScope.SERVER, "k", value),),
                readings=(("t", value),),
            )
        ]
        await importer.import_rows(actor(), rows, update=update)
    known = await registry.device("a")
    assert [one.value for one in await registry.attributes(known)] == [1]
    assert [one.value for one in await registry.latest(known)] == [1]


async def test_a_dry_run_keeps_nothing(importer, registry, store):
    """A dry run says what would be and leaves no device, no profile and no event."""
    rows = [row(2, "a", type="meter", customer="Acme"), row(3, "a")]
    assert await importer.import_rows(actor(), rows, dry=True) == [CREATED, UNCHANGED]
    assert await registry.device("a") is None
    assert await registry.profile("meter") is None
    assert await store.driver.rows("events", 0, 10) == []


@pytest.mark.parametrize(
    ("lacking", "fields", "reason"),
    [
        (Permission.SET_AUTH_TOKEN, {"credentials": token("t-1")}, "SET_AUTH_TOKEN"),
        (Permission.ORG_DEVICES_SHARE, {"customer": "Acme"}, "ORG_DEVICES_SHARE"),
        (Permission.ORG_CREATE, {"customer": "Acme"}, "ORG_CREATE"),
        (Permission.PRODUCT_EDIT, {"type": "meter"}, "PRODUCT_EDIT"),
        (Permission.PRODUCT_EDIT, {}, "default profile"),
    ],
)
async def test_what_one_may_not_do_rejects_the_row(importer, registry, lacking, fields, reason):
    """A row that wants more than its importer may is rejected, and nothing is made for it."""
    (outcome,) = await importer.import_rows(actor(lacking), [row(2, "a", **fields)])
    assert isinstance(outcome, Rejected)
    assert reason in outcome.reason
    assert await registry.device("a") is None


async def test_who_may_not_edit_creates_only(importer):
    """Without ORG_DEVICES_EDIT an existing device is left as it is."""
    await importer.import_rows(actor(), [row(2, "a")])
    creator = actor(Permission.ORG_DEVICES_EDIT)
    first, second = await importer.import_rows(creator, [row(2, "a"), row(3, "b")])
    assert isinstance(first, Rejected)
    assert second == CREATED


async def test_a_job_is_taken_up_where_it_was_left(importer, store):
    """Position, counts and pending rejects are written with each batch; the end ends it."""
    job = await importer.begin(actor(), b"f" * 32, "a.csv")
    prepared = await importer.prepare([row(2, "a")])
    before = [Rejected(3, "no name")]
    await importer.write(actor(), prepared, job=job, last=3, before=before)
    left = await importer.begin(actor(), b"f" * 32, "a.csv")
    assert (left.id, left.position, left.pending) == (job.id, 3, tuple(before))
    assert (left.tally.created, left.tally.rejected) == (1, 1)
    await importer.end(actor(), left)
    assert (await importer.begin(actor(), b"f" * 32, "a.csv")).position == 0


async def test_two_imports_of_one_file_do_not_go_side_by_side(importer, registry):
    """Of two processes at the same job the slower one is stopped, and writes nothing."""
    first = await importer.begin(actor(), b"f" * 32, "a.csv")
    second = await importer.begin(actor(), b"f" * 32, "a.csv")
    await importer.write(actor(), await importer.prepare([row(2, "a")]), job=first, last=2)
    with pytest.raises(Conflict) as caught:
        await importer.write(actor(), await importer.prepare([row(2, "b")]), job=second, last=2)
    assert caught.value.cause is Cause.VERSION
    assert await registry.device("b") is None


async def test_what_is_exported_is_imported_again_unchanged(importer, store, clock):
    """An export with credentials, imported into the same store, changes nothing."""
    from gateway.cli.import_mapping import guessed
    from gateway.core.import_rows import RowReader

    await importer.import_rows(
        actor(),
        [
            row(2, "=formula", label="-1+1", description="a\nb", credentials=token("'=t")),
            row(3, "b", credentials=MqttBasic("id", "user", Secret("+pass")), groups=("g;1", "[g")),
            row(
                4,
                "c",
                attributes=(
                    (AttributeScope.SERVER, "n", "30"),
                    (AttributeScope.SERVER, "e", ""),
                    (AttributeScope.SHARED, "d", 1e300),
                ),
            ),
        ],
    )
    found = await exported(store, clock, credentials=True)
    reader = RowReader(guessed(list(found[0])), certificate_text=str, spreadsheet=True)
    rows = [reader.read(at, list(one.values())) for at, one in enumerate(found, 2)]
    assert all(isinstance(one, ImportRow) for one in rows), rows
    assert await importer.import_rows(actor(), rows) == [UNCHANGED] * 3


async def test_customers_are_found_anywhere_below(importer, store, registry):
    """A customer further down is found when only one has the name."""
    await importer.import_rows(actor(), [row(2, "a", customer="Acme")])
    acme = (await registry.device("a")).device.customer_id
    boss = actor(organisation=Organisation(id=acme, uuid="", name="Acme", path=f"/1/{acme}/"))
    await importer.import_rows(boss, [row(2, "x", customer="North")])
    await importer.import_rows(actor(), [row(2, "b", customer="North")])
    number = (await registry.device("b")).device.customer_id
    assert number == (await registry.device("x")).device.customer_id


async def test_large_devices_are_read_a_few_at_a_time(importer, store, clock):
    """However much they hold, about as many characters as were asked for are in memory."""
    value = "x" * 1000
    long = [
        row(n, f"d-{n:03d}", attributes=((AttributeScope.SERVER, "long", value),))
        for n in range(60)
    ]
    await importer.import_rows(actor(), long)
    exporter = Exporter(SqlImports(store), clock=clock, page_characters=10_000)
    sizes = [len(page) async for page in exporter.rows(actor(), ExportQuery())]
    assert sizes[:2] == [1, 20]
    assert max(sizes[2:]) <= 10
    assert sum(sizes) == 61
