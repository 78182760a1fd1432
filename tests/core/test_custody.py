"""Custody: taking credentials back, for people."""

from __future__ import annotations

from typing import Any

import certs
import pytest

from gateway.core.custody import Custody
from gateway.core.model import (
    Certificate,
    Device,
    EventKind,
    Peer,
    Provisioned,
    Secret,
    Wire,
)
from gateway.core.pki.issuer import new_serial
from gateway.core.pki.model import (
    CertificateState,
    IssuedCertificate,
    RevocationReason,
    SerialReservation,
)
from gateway.core.ports import KnownCredentials, NewDevice
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore

PEER = Peer(Wire.SHELL, "tester")
KEY_COMPROMISE = RevocationReason.KEY_COMPROMISE


@pytest.fixture
def custody(store: SqlStore, clock: Any) -> Custody:
    return Custody(store, SqlRegistrar(store), clock=clock, peer=PEER)


class House:
    """A store with devices, some of them with certificates that count as signed here."""

    def __init__(self, store: SqlStore, registry: Any, profile: Any, clock: Any) -> None:
        self.store, self.registry, self.profile, self.clock = store, registry, profile, clock

    async def known(self, name: str) -> KnownCredentials:
        found: KnownCredentials = await self.registry.device(name)
        return found

    async def certified(self, name: str) -> tuple[Device, int]:
        """A device whose credentials are a certificate of ours, and its serial number."""
        serial, text = new_serial(), certs.self_signed(name)
        await self.store.reserve_serial(
            SerialReservation(
                serial=serial,
                authority_id=1,
                key_digest=serial.to_bytes(32, "big"),
                organisation_id=self.profile.organisation_id,
                name=name,
                at=self.clock(),
            )
        )
        result = await self.store.create_device(
            NewDevice(
                organisation_id=self.profile.organisation_id,
                profile_id=self.profile.id,
                name=name,
                type="t",
                credentials=Certificate(text.text),
                provision_state="provisioned",
                peer=PEER,
                at=self.clock(),
                issued=IssuedCertificate(
                    serial=serial,
                    authority_id=1,
                    der=text.der,
                    not_after=self.clock() + 86_400_000,
                ),
            )
        )
        assert isinstance(result, Provisioned)
        return result.device, serial


@pytest.fixture
async def house(store: SqlStore, new_fleet: Any, clock: Any) -> House:
    fleet = await new_fleet()
    await fleet.waiting("d1")
    return House(store, fleet.registry, fleet.profile, clock)


async def test_revoked_credentials_let_nobody_in(house: House, custody: Custody) -> None:
    """The old ones are not found any more, and the event names the reason and the author."""
    known = await house.known("d1")
    assert await custody.revoke(known, KEY_COMPROMISE)

    assert await house.store.find_credentials(known.credentials.id) is None
    assert (await house.known("d1")).credentials.type.value == "REVOKED"
    event = (await house.registry.last_events(known))[-1]
    assert event.kind is EventKind.DEVICE_CREDENTIALS_REVOKE
    assert event.detail["reason"] == "key_compromise"
    assert event.peer == PEER


async def test_what_is_revoked_is_not_revoked_again(house: House, custody: Custody) -> None:
    """The second time changes nothing and writes nothing down."""
    assert await custody.revoke(await house.known("d1"))
    before = await house.registry.last_events()
    assert not await custody.revoke(await house.known("d1"))
    assert await house.registry.last_events() == before


async def test_new_credentials_make_a_revoked_device_whole(house: House, custody: Custody) -> None:
    """After a revocation an operator may give others."""
    await custody.revoke(await house.known("d1"))
    fresh = await house.registry.replace_credentials(await house.known("d1"))
    assert fresh is not None
    assert await house.store.find_credentials(fresh.id) is not None


async def test_a_certificate_is_revoked_by_its_serial_number(
    house: House, custody: Custody
) -> None:
    """Its record says so, and the login of the device that used it is gone."""
    device, serial = await house.certified("c1")
    [record] = await custody.certificates(await house.known("c1"))
    assert (record.serial, record.state) == (serial, CertificateState.ISSUED)

    before = await custody.revoke_serial(serial, KEY_COMPROMISE)

    assert before is not None
    assert before.device_id == device.id
    after = await custody.certificate(serial)
    assert after is not None
    assert (after.state, after.reason) == (CertificateState.REVOKED, KEY_COMPROMISE)
    assert (await house.known("c1")).credentials.type.value == "REVOKED"
    assert await custody.revoke_serial(serial) is None
    assert await custody.revoke_serial(4711) is None


async def test_revoking_a_device_revokes_its_certificate(house: House, custody: Custody) -> None:
    """By its name or by its number, it is the same certificate that is revoked."""
    _, serial = await house.certified("c1")
    assert await custody.revoke(await house.known("c1"), KEY_COMPROMISE)
    record = await custody.certificate(serial)
    assert record is not None
    assert record.state is CertificateState.REVOKED
    assert [one.serial for one in await custody.certificates()] == [serial]


async def test_a_renewal_that_was_not_used_is_shown_and_goes_too(
    house: House, custody: Custody, store: SqlStore
) -> None:
    """Pending credentials are told; after a revocation they let nobody in either."""
    device, _ = await house.certified("c1")
    assert await custody.pending(await house.known("c1")) is None
    later = Certificate(certs.self_signed("later").text)
    event = (await house.registry.last_events())[-1]
    assert await store.renew(device, later, None, event)
    assert await custody.pending(await house.known("c1")) == later

    await custody.revoke(await house.known("c1"))

    assert await custody.pending(await house.known("c1")) is None
    assert await store.find_pending(Secret(later.id.reveal())) is None
