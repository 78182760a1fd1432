"""Tickets beside other things: other credentials, revocations, numbers that end, changes."""

from __future__ import annotations

import asyncio

import pytest
from issued import signed
from people import counted_tokens, make_crowd
from ticket_ground import Ground

from gateway.core.custody import Custody
from gateway.core.errors import Conflict, Overloaded
from gateway.core.import_rows import ImportRow, Rejected
from gateway.core.importing import Importer
from gateway.core.model import (
    PROVISIONED,
    AccessToken,
    Certificate,
    DeviceDraft,
    DeviceProfile,
    EventKind,
    Json,
    MqttBasic,
    Peer,
    PresharedKey,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    ProvisionType,
    RefusalReason,
    Refused,
    RequestedCredentials,
    Secret,
    Wire,
)
from gateway.core.pki.model import SerialReservation
from gateway.core.ports import NewDevice, Template
from gateway.core.registry import ProfileDraft
from gateway.core.static_tokens import StaticTokens
from gateway.core.tokens import new_url_token
from gateway.store.sql_imports import SqlImports
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_static_tokens import SqlStaticTokens

pytestmark = pytest.mark.every_database

KEY, SECRET = Secret("meter-key-0001"), Secret("meter-secret-0001")
SHELL = Peer(Wire.SHELL, "tester")
KINDS = {
    "basic": MqttBasic("", "meter-user", Secret("its password")),
    "client": MqttBasic("meter-client", "meter-user", Secret("its password")),
    "certificate": Certificate("AAAA"),
    "psk": PresharedKey("meter-identity", Secret("00" * 32)),
}


@pytest.fixture(params=[True, False], ids=["open", "restricted"])
async def ground(store, registry, clock, request):
    """A template that ThingsBoard's devices may be born in, too."""
    kind = ProvisionType.ALLOW_CREATE_NEW_DEVICES
    profile = DeviceProfile(id=0, name="meter", provision_type=kind)
    await registry.save_profile(ProfileDraft(profile=profile, key=KEY, secret=SECRET))
    crowd = await make_crowd(store, clock)
    made = Ground(store, registry, clock, crowd.operator, open_to_all=request.param)
    made.crowd = crowd
    yield made
    crowd.close()


async def put(ground, credentials, name="d", **fields):
    """A device of the template with these credentials, born by other ways."""
    profile = await ground.registry.profile("meter")
    new = NewDevice(
        organisation_id=profile.organisation_id,
        profile_id=profile.id,
        name=name,
        type="meter",
        credentials=credentials,
        peer=SHELL,
        at=ground.clock.now,
        **{"provision_state": PROVISIONED, **fields},
    )
    result = await ground.store.create_device(new)
    assert isinstance(result, Provisioned), result
    return await ground.inventory.find(ground.actor, result.device.uuid)


async def ask_for(ground, token, name="n"):
    """A device provisions itself by ThingsBoard's way, with a token of its choice."""
    asked = RequestedCredentials(token=token)
    proof = ProvisionKey(KEY, SECRET)
    request = ProvisionRequest(proof=proof, peer=SHELL, device_name=name, credentials=asked)
    return await ground.provisioner.provision(request)


async def events_of(ground, kind):
    return [one for one in await ground.registry.events(limit=1000) if one.kind is kind]


# ── other kinds of credentials ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_device_is_found_by_is_no_token(ground, kind):
    """User names, fingerprints and identities are no secrets: who shows one is nobody by it."""
    record = await put(ground, KINDS[kind])
    shown = KINDS[kind].id
    said = Json('{"version":"stranger"}')
    assert await ground.claim(shown, hardware=said) == Refused(RefusalReason.UNKNOWN_TOKEN)
    assert not [one for one in await ground.registry.attributes(record) if one.value == said]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_device_of_any_kind_is_provisioned_anew(ground, kind):
    """Until the first use it logs in as before; then by the token alone, with all else kept."""
    credentials = KINDS[kind]
    record = await put(ground, credentials)
    issued = await ground.tickets.reprovision(ground.actor, record)
    assert (await ground.store.find_credentials(credentials.id)).device == record.device
    result = await ground.claim(issued.token)
    assert result.device.id == record.device.id
    assert await ground.store.find_credentials(credentials.id) is None
    known = await ground.store.find_credentials(issued.token)
    assert known.credentials == AccessToken(issued.token)


@pytest.mark.parametrize("at_once", [True, False])
async def test_the_event_names_the_certificate_that_ends(ground, at_once):
    """With the older login goes its certificate; the audit log says which."""
    one = signed(7)
    reservation = SerialReservation(
        serial=7,
        authority_id=1,
        key_digest=bytes(32),
        organisation_id=1,
        name="d",
        at=ground.clock.now,
    )
    assert await ground.store.reserve_serial(reservation)
    record = await put(ground, Certificate(one.der.decode()), issued=one)
    tickets = ground.service(revoke_on_issue=at_once)
    issued = await tickets.reprovision(ground.actor, record)
    await ground.claim(issued.token)
    kind = EventKind.TICKET_ISSUE if at_once else EventKind.DEVICE_PROVISION
    assert (await events_of(ground, kind))[-1].detail["superseded"] == "7"


async def test_a_waiting_device_that_is_provisioned_anew_waits_no_more(ground):
    """Else whoever has the key of its profile could claim it once more, and be told its token."""
    record = await put(ground, AccessToken(Secret("older-token-of-it")), provision_state=None)
    issued = await ground.tickets.reprovision(ground.actor, record)
    assert (await ground.claim(issued.token)).device.provision_state == PROVISIONED
    after = await ground.inventory.find(ground.actor, record.device.uuid)
    assert after.device.provision_state == PROVISIONED


# ── one token, one device ─────────────────────────────────────────────────────────────────────


async def test_nobody_is_born_with_a_token_that_waits(ground):
    """A token is unique over those pending and those in use (contract, section 3.2)."""
    issued = await ground.issue()
    refused = await ask_for(ground, issued.token)
    assert refused == Refused(RefusalReason.CREDENTIALS_TAKEN)
    assert (await ground.claim(issued.token)).device.id == issued.ticket.device_id


async def test_nobody_is_given_a_token_that_waits(ground):
    """Neither by a person nor by the shell."""
    issued = await ground.issue()
    record = await put(ground, AccessToken(Secret("older-token-of-it")))
    other = AccessToken(issued.token)
    with pytest.raises(Conflict):
        await ground.inventory.change_credentials(ground.actor, record, other)
    known = await ground.store.known_device(record.device.id)
    assert not await ground.registry.replace_credentials(known, other)
    assert (await ground.claim(issued.token)).device.id == issued.ticket.device_id


# ── revocations ───────────────────────────────────────────────────────────────────────────────


async def test_revoked_credentials_take_the_new_token_along(ground):
    """Nothing lets the device in any more: a new token that waits for it neither."""
    _, record = await ground.born()
    custody = Custody(ground.store, SqlRegistrar(ground.store), clock=ground.clock, peer=SHELL)
    known = await ground.store.known_device(record.device.id)
    for _ in range(2):  # the second time there is nothing but the ticket to take back
        issued = await ground.tickets.reprovision(ground.actor, record)
        assert await custody.revoke(known)
        assert await ground.claim(issued.token) == Refused(RefusalReason.UNKNOWN_TOKEN)
        told = (await events_of(ground, EventKind.DEVICE_CREDENTIALS_REVOKE))[-1]
        assert told.detail["revoked_tickets"] == str(issued.ticket.id)
    assert not await custody.revoke(known)


# ── numbers ───────────────────────────────────────────────────────────────────────────────────


async def _count_to(ground, last):
    def change(tx):
        return tx.fetch("next_ids", "device", last)

    await ground.store.driver.transact(change)


async def test_numbers_that_clients_cannot_read_are_not_given(ground):
    """A device number is an int32 (contract, section 1); ThingsBoard's devices need no such."""
    first = (await ground.issue()).ticket.device_id
    await _count_to(ground, 2**31 - 2 - first)
    tries = await asyncio.gather(*(ground.issue() for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in tries[1:]] == [Overloaded] * 2
    assert tries[0].ticket.device_id == 2**31 - 1
    assert (await ground.claim(tries[0].token)).device.id == 2**31 - 1
    assert isinstance(await ask_for(ground, Secret("a-token-of-its-own")), Provisioned)


async def test_births_that_are_refused_use_no_numbers_up(ground):
    """Who asks for one name again and again does not count the numbers to their end."""
    first = await ask_for(ground, Secret("a-token-of-its-own"))
    for _ in range(3):
        refused = await ask_for(ground, Secret("another-token-of-its"))
        assert refused == Refused(RefusalReason.NAME_TAKEN)
        refused = await ask_for(ground, Secret("a-token-of-its-own"), name="m")
        assert refused == Refused(RefusalReason.CREDENTIALS_TAKEN)
    assert (await ground.issue()).ticket.device_id == first.device.id + 1


# ── what people change ────────────────────────────────────────────────────────────────────────


async def test_a_device_that_people_change_keeps_its_owner(ground):
    """Also one that is in the organisation of its template; with another customer it has none."""
    crowd = ground.crowd
    owner = crowd.users["admin@root"]
    issued = await ground.issue(crowd.root, owner)
    device = (await ground.claim(issued.token)).device
    record = await ground.inventory.find(ground.actor, device.uuid)
    draft = DeviceDraft(name=device.name, label="in the hall")
    record = await ground.inventory.update(ground.actor, record, draft)
    assert (record.label, record.owner_id) == ("in the hall", owner.id)
    record = await ground.inventory.assign(ground.actor, record, None)
    assert record.owner_id == owner.id
    record = await ground.inventory.assign(ground.actor, record, crowd.acme)
    assert record.owner_id is None


async def test_a_profile_goes_with_what_waits_for_it(ground):
    """The event tells how many pairs of tokens are worth nothing now."""
    templates = Named()
    pairs = StaticTokens(
        SqlStaticTokens(ground.store), templates, clock=ground.clock, new_token=new_url_token
    )
    profile = await ground.registry.profile("meter")
    templates.only = Template(profile=profile, device_name="{id}", attributes={})
    made = await pairs.issue(ground.actor, profile, ground.crowd.root, 3)
    assert await ground.registry.remove_profile(profile)
    (told,) = await events_of(ground, EventKind.PROFILE_REMOVE)
    assert told.detail["static_tokens"] == "3"
    assert await ground.store.find_ticket(made[0].token) is None


# ── imports ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def importer(ground):
    return Importer(SqlImports(ground.store), clock=ground.clock, new_token=counted_tokens())


async def test_an_import_keeps_the_owner_of_what_stays(ground, importer):
    """A device that a row gives to another customer is its owner's no more."""
    crowd = ground.crowd
    owner = crowd.users["user@acme"]
    issued = await ground.issue(crowd.acme, owner)
    device = (await ground.claim(issued.token)).device
    for number, (customer, expected) in enumerate([("Acme", owner.id), ("Globex", None)], 2):
        row = ImportRow(number, device.name, customer=customer, label=f"row {number}")
        await importer.import_rows(ground.actor, [row])
        record = await ground.inventory.find(ground.actor, device.uuid)
        assert (record.label, record.owner_id) == (f"row {number}", expected)


async def test_a_row_with_a_token_that_waits_is_rejected(ground, importer):
    """Whether its device is new or there."""
    issued = await ground.issue()
    await put(ground, AccessToken(Secret("older-token-of-it")), name="there")
    other = AccessToken(issued.token)
    rows = [ImportRow(2, "new", credentials=other), ImportRow(3, "there", credentials=other)]
    outcomes = await importer.import_rows(ground.actor, rows)
    assert [type(one) for one in outcomes] == [Rejected] * 2
    assert (await ground.claim(issued.token)).device.id == issued.ticket.device_id


async def test_claims_while_an_import_runs(ground, importer):
    """Numbers stay apart, and nobody waits for the other's end."""
    issued = [await ground.issue() for _ in range(20)]
    rows = [ImportRow(number, f"row {number}", type="meter") for number in range(2, 1002)]
    batches = [
        importer.import_rows(ground.actor, rows[at : at + 100]) for at in range(0, 1000, 100)
    ]
    claims = [ground.claim(one.token) for one in issued]
    more = [ground.issue() for _ in range(20)]
    results = await asyncio.gather(*batches, *claims, *more)
    numbers = [one.device.id for one in results[10:30]]
    assert numbers == [one.ticket.device_id for one in issued]
    later = {one.ticket.device_id for one in results[30:]}
    there = {row[0] for row in await ground.store.driver.read("SELECT id FROM device")}
    assert len(there) == 1020
    assert not later & there


class Named:
    """One template, whatever it is called."""

    only = None

    async def named(self, name, path):
        return self.only

    def names(self, profile):
        return ("any",)
