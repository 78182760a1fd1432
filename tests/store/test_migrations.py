"""A store of an earlier version is carried over with all that is in it."""

from __future__ import annotations

import uuid

import pytest

from gateway.core.model import (
    AccessToken,
    Certificate,
    Event,
    EventKind,
    Peer,
    Reading,
    Secret,
    Wire,
)
from gateway.core.pki.model import CertificateProfile, IssuedCertificate, SerialReservation
from gateway.store.credentials import sealed_credentials
from gateway.store.migrate import migrations
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore
from gateway.store.sqlite import SqliteDriver
from gateway.store.vault import Vault

TOKEN = Secret("token-of-old-0000001")
SETTINGS = '{"provision_type":"DISABLED","transport":"DEFAULT","description":"old"}'


@pytest.fixture
def old_driver(database, request, tmp_path):
    if database == "sqlite":
        return SqliteDriver(tmp_path / "g.db")
    from gateway.store.postgres import PostgresDriver

    return PostgresDriver(request.getfixturevalue("empty_url"))


async def _fill(driver, vault):
    """What the first version wrote: a profile, a device, its credentials and a reading."""
    digest, sealed = sealed_credentials(vault, AccessToken(TOKEN))

    async def work(tx):
        await tx.fetch("next_ids", "profile", 1)
        await tx.fetch("next_ids", "device", 1)
        await tx.insert_rows("insert_credentials", [(1, 1, "ACCESS_TOKEN", digest, sealed, 5)])
        await tx.insert_rows("insert_readings", [(1, "t", 7, 1, 42, None, None)])
        await tx.insert_rows("insert_latest", [(1, "t", 7, 1, 42, None, None)])

    await driver.transact(work)
    await _insert_old(
        driver,
        "device_profile (id, organisation_id, name, settings, transport, created_at)",
        (1, 1, "p", SETTINGS, "DEFAULT", 5),
    )
    event = (5, "device:create", "success", "", 1, "d", "shell", "x", "")
    await _insert_old(
        driver,
        "event (at, kind, outcome, reason, device_id, subject, wire, address, detail)",
        event,
    )
    device = (1, uuid.uuid4().bytes, 1, 1, "d", "p", 0, None, 5)
    names = (
        "id, uuid, organisation_id, profile_id, name, type, gateway, provision_state, created_at"
    )
    await _insert_old(driver, f"device ({names})", device)


async def _insert_old(driver, table, row):
    """A row of a table as the first version had it."""
    places = range(1, len(row) + 1)
    if isinstance(driver, SqliteDriver):
        statement = f"INSERT INTO {table} VALUES ({','.join('?' for _ in places)})"
        await driver._writer.run(lambda db: db.execute(statement, row))
    else:
        statement = f"INSERT INTO {table} VALUES ({','.join(f'${one}' for one in places)})"
        await (await driver._writer()).execute(statement, *row)


@pytest.mark.every_database
async def test_a_store_of_the_first_version_is_upgraded(old_driver):
    """Its devices log in as before, its readings and events are there, and all new things work."""
    vault = Vault(bytes(32))
    await old_driver.open()
    assert await old_driver.migrate(migrations(old_driver.database)[:1]) == 1
    await _fill(old_driver, vault)
    await old_driver.close()
    store = SqlStore(old_driver, vault)
    await store.open()
    registrar = SqlRegistrar(store)
    device = (await store.find_credentials(TOKEN)).device
    assert (device.name, device.customer_id, device.creator_id) == ("d", None, None)
    assert device.profile_revision == 1
    assert await registrar.latest(device.id) == [Reading(7, "t", 42)]
    events = await registrar.events(after_seq=0, limit=9, device_id=device.id)
    assert [event.subject for event in events] == ["d"]
    profile = await store.profile(1)
    assert (profile.description, profile.claiming_allowed) == ("old", True)
    assert await store.enter_node(1) == 1
    assert await store.last_notice() == 0
    await store.close()


@pytest.mark.every_database
async def test_a_store_without_certificates_is_upgraded(old_driver):
    """One of the second version: its device gets a certificate, which takes its token's place."""
    vault = Vault(bytes(32))
    await old_driver.open()
    assert await old_driver.migrate(migrations(old_driver.database)[:2]) == 2
    await _fill(old_driver, vault)
    await old_driver.close()
    store = SqlStore(old_driver, vault)
    await store.open()
    assert await store.authorities() == []
    profile = await store.profile(1)
    assert (profile.chain, profile.certificate) == (None, CertificateProfile())
    device = (await store.find_credentials(TOKEN)).device
    key = SerialReservation(
        serial=7, authority_id=1, key_digest=bytes(32), organisation_id=1, name="d", at=5
    )
    assert await store.reserve_serial(key)
    issued = IssuedCertificate(serial=7, authority_id=1, der=b"der", not_after=9)
    event = Event(kind=EventKind.DEVICE_CREDENTIALS, at=6, peer=Peer(Wire.SHELL, "x"))
    fresh = Certificate("der")
    assert await store.renew(device, fresh, issued, event)
    assert await store.take_up_pending(device.id, fresh.id, event)
    assert (await store.find_credentials(fresh.id)).device.id == device.id
    assert await store.find_credentials(TOKEN) is None
    await store.close()


PLANS = {
    "events_of_device": "event_of_device",
    "last_events_of_device": "event_of_device",
    "devices_of_profile": "device_of_profile",
    "has_waiting_call": "rpc_call_waiting",
    "waiting_calls": "rpc_call_waiting",
    "overdue_call": "rpc_call_open",
    "end_calls": "rpc_call_open",
    "forget_calls": "rpc_call_final",
    "calls": "rpc_call_of_device",
    "devices_online": "presence_online",
    "remove_package": "package_assignment_package",
    "pending_by_digest": "pending_credentials",
    "credentials_pending_elsewhere": "PRIMARY KEY",
    "enter_by_chain": "device",
    "end_certificates": "certificate_of_device",
    "serial_of_login": "certificate_of_device",
    "keys_of_device": "certificate_of_device",
    "give_back_keys": "certificate_of_device",
    "certificates_of_device": "certificate_of_device",
    "revoked_certificates": "certificate_revoked",
    "forget_reservations": "certificate_reserved",
    "forget_issued": "certificate_issued",
    "forget_revoked": "certificate_revoked",
}


@pytest.mark.parametrize("name", PLANS)
async def test_no_statement_of_the_traffic_scans_a_table(store, name):
    """Each uses the index that was made for it."""
    from gateway.store.queries import QUERIES

    statement = QUERIES[name]
    most = max(n for n in range(1, 9) if f"?{n}" in statement)
    plan = await store.driver._writer.run(
        lambda db: db.execute(f"EXPLAIN QUERY PLAN {statement}", [1] * most).fetchall()
    )
    told = [row[3] for row in plan]
    assert any(PLANS[name] in line for line in told), told
    assert not any(line.startswith("SCAN") and "USING" not in line for line in told), told
