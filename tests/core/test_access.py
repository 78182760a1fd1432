"""Who may come in with what (contract, section 7.1)."""

from __future__ import annotations

import pytest

from gateway.core.access import FRESH_MS, Access
from gateway.core.model import (
    DeviceCredentialsType,
    Event,
    EventKind,
    MqttBasic,
    Peer,
    Provisioned,
    RequestedCredentials,
    Secret,
    Wire,
)
from gateway.store.sql_registrar import SqlRegistrar

PEER = Peer(Wire.SHELL, "tester")
BASIC = DeviceCredentialsType.MQTT_BASIC


@pytest.fixture
async def devices(provisioner, new_fleet):
    """Devices of every kind of credentials, by name."""
    fleet = await new_fleet()
    wanted = {
        "token": RequestedCredentials(token=Secret("T1")),
        "client": RequestedCredentials(type=BASIC, client_id="C1"),
        "user": RequestedCredentials(type=BASIC, username="U1"),
        "user-password": RequestedCredentials(type=BASIC, username="U2", password=Secret("P2")),
        "both": RequestedCredentials(
            type=BASIC, client_id="C3", username="U3", password=Secret("P3")
        ),
        "both-of-token": RequestedCredentials(type=BASIC, client_id="C", username="T1"),
        "certificate": RequestedCredentials(
            type=DeviceCredentialsType.X509_CERTIFICATE, certificate="cert"
        ),
    }
    for name, credentials in wanted.items():
        result = await provisioner.provision(fleet.request(name, credentials=credentials))
        assert isinstance(result, Provisioned)
    return fleet


@pytest.mark.parametrize(
    ("client_id", "username", "password", "device"),
    [
        ("anything", "T1", None, "token"),
        ("anything", "T1", "ignored", "token"),
        ("", "T1", None, "token"),
        ("C", "T1", None, "both-of-token"),
        ("C1", None, None, "client"),
        ("C1", "", None, "client"),
        ("C2", None, None, None),
        ("", None, None, None),
        ("any", "U1", None, "user"),
        ("any", "U1", "unneeded", "user"),
        ("any", "U2", "P2", "user-password"),
        ("any", "U2", "wrong", None),
        ("any", "U2", None, None),
        ("C3", "U3", "P3", "both"),
        ("C3", "U3", "wrong", None),
        ("C3", "U3", None, None),
        ("C4", "U3", "P3", None),
        ("C3", None, "P3", None),
        ("any", "unknown", None, None),
    ],
)
async def test_mqtt_logins(devices, access, client_id, username, password, device):
    """Each combination of client id, user name and password finds its device, or none."""
    found = await access.by_mqtt(client_id, username, Secret(password) if password else None)
    assert (found.name if found else None) == device


@pytest.mark.parametrize(("token", "device"), [("T1", "token"), ("U1", None), ("x", None)])
async def test_tokens(devices, access, token, device):
    """Only an access token opens a path with a token in it."""
    found = await access.by_token(Secret(token))
    assert (found.name if found else None) == device


async def test_a_removed_device_is_unknown_at_once(devices, access):
    """A device's credentials end with it."""
    known = await devices.registry.device("token")
    assert await devices.registry.remove_device(known)
    assert await access.by_token(Secret("T1")) is None


async def test_a_known_token_is_looked_up_again_in_a_second(store, clock, provisioner, new_fleet):
    """For so long, and no longer, a changed login may still be let in; `forget` ends it at once."""
    access = Access(store, clock)
    fleet = await new_fleet()
    born = await provisioner.provision(fleet.request("meter"))
    old = born.credentials.token
    assert await access.by_token(old) is not None
    known = await fleet.registry.device("meter")
    await fleet.registry.replace_credentials(known)
    assert await access.by_token(old) is not None
    clock.now += FRESH_MS
    assert await access.by_token(old) is None

    known = await fleet.registry.device("meter")
    newer = known.credentials.token
    assert await access.by_token(newer) is not None
    await fleet.registry.replace_credentials(known)
    access.forget()
    assert await access.by_token(newer) is None


async def test_what_was_read_before_a_notice_is_not_kept(
    store, clock, provisioner, new_fleet, monkeypatch
):
    """A look at the store that a revocation overtakes counts for the call it was made for alone."""
    fleet = await new_fleet()
    result = await provisioner.provision(fleet.request("d"))
    access = Access(store, clock)
    find = store.find_credentials

    async def overtaken(lookup_id):
        found = await find(lookup_id)
        access.forget()
        return found

    token = result.credentials.token
    monkeypatch.setattr(store, "find_credentials", overtaken)
    assert (await access.by_token(token)).id == result.device.id
    monkeypatch.undo()
    event = Event(kind=EventKind.DEVICE_REMOVE, at=clock.now, peer=PEER, device_id=result.device.id)
    assert await SqlRegistrar(store).remove_device(result.device.id, event)
    assert await access.by_token(token) is None


async def test_of_many_that_connect_at_once_with_a_new_credential_all_are_let_in(
    store, clock, devices, monkeypatch
):
    """One takes it up between the two looks of another."""
    access = Access(store, clock)
    known = await devices.registry.device("both")
    event = Event(kind=EventKind.DEVICE_CREDENTIALS_RENEW, at=clock.now, peer=PEER)
    fresh = MqttBasic("C9", "U9", Secret("P9"))
    assert await store.renew(known.device, fresh, None, event)
    find = store.find_pending

    async def overtaken(lookup_id):
        await store.take_up_pending(known.device.id, fresh.id, event)
        return await find(lookup_id)

    monkeypatch.setattr(store, "find_pending", overtaken)
    assert (await access.by_mqtt("C9", "U9", Secret("P9"))).name == "both"


async def test_a_clock_set_back_keeps_no_token(store, new_fleet, clock):
    """Else a token that was revoked would be good for as long as the clock was set back."""
    fleet = await new_fleet()
    device = await fleet.waiting("d")
    known = await store.known_device(device.id)
    asked = []

    class Asked:
        async def find_credentials(self, lookup_id):
            asked.append(lookup_id)
            return await store.find_credentials(lookup_id)

    access = Access(Asked(), clock)
    token = known.credentials.token
    assert await access.by_token(token) == device
    assert await access.by_token(token) == device
    assert len(asked) == 1
    clock.now -= 3_600_000
    assert await access.by_token(token) == device
    assert len(asked) == 2
