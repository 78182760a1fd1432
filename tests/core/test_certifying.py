"""Certificates for devices that ask with a signing request: the first one, and later ones."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime

import certs
import pytest
from certified import PEER, PSK, Certified, asking, born
from cryptography import x509
from cryptography.x509.oid import NameOID
from msgspec import structs

from gateway.core.errors import ConfigError, CredentialsGone
from gateway.core.model import (
    Certificate,
    Event,
    EventKind,
    PresharedKey,
    Provisioned,
    ProvisionType,
    RefusalReason,
    Refused,
    RequestedCredentials,
    Secret,
)
from gateway.core.pki.model import (
    AuthorityRole,
    CertificateProfile,
    CertificateState,
    KeyKind,
    RevocationReason,
)

CHECK = ProvisionType.CHECK_PRE_PROVISIONED_DEVICES


@pytest.fixture
def certified(store, clock, tokens):
    return Certified(store, clock, tokens)


def certificate(result: Provisioned) -> x509.Certificate:
    assert isinstance(result.credentials, Certificate)
    return x509.load_der_x509_certificate(base64.b64decode(result.credentials.text))


def serial(result: Provisioned) -> int:
    return certificate(result).serial_number


async def test_a_signing_request_gets_a_certificate(certified, new_fleet):
    """The key is the request's; the rest is the profile's; the chain leads to our root."""
    fleet = await new_fleet()
    key = certs.new_key()
    result = await born(certified, fleet, "pump-1", key)
    made = certificate(result)
    assert made.public_key() == key.public_key()
    assert made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "pump-1"
    issuing, root = await certified.authorities.chain()
    assert result.issuers == (issuing,)
    issuing = x509.load_der_x509_certificate(issuing)
    made.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(x509.load_der_x509_certificate(root))


async def test_what_was_given_is_written_down(certified, new_fleet):
    """Its serial number, its device and its end are in the store before it is given."""
    result = await born(certified, await new_fleet(), "pump-1")
    record = await certified.store.certificate(serial(result))
    assert record.state is CertificateState.ISSUED
    assert record.device_id == result.device.id
    end = datetime.fromtimestamp(record.not_after / 1000, UTC)
    assert end == certificate(result).not_valid_after_utc


async def test_the_serial_is_reserved_before_anything_is_signed(certified, new_fleet, monkeypatch):
    """A crash between the two leaves a reserved number, and no certificate and no device."""
    fleet = await new_fleet()
    issuer = await certified.authorities.issuer()
    monkeypatch.setattr("gateway.core.pki.issuer.new_serial", lambda: 4711)
    monkeypatch.setattr(issuer, "issue", lambda *a, **k: 1 / 0)
    asked = fleet.request("pump-1", credentials=asking(certs.csr()))
    with pytest.raises(ZeroDivisionError):
        await certified.provisioner.provision(asked)
    assert (await certified.store.certificate(4711)).state is CertificateState.RESERVED
    assert await certified.devices() == []


@pytest.mark.parametrize(
    ("csr", "reason"),
    [
        ("rubbish", RefusalReason.CSR_UNREADABLE),
        (certs.csr_signed_by_another(), RefusalReason.BAD_SIGNATURE),
        (certs.csr("P-224"), RefusalReason.WEAK_KEY),
        (certs.csr("RSA-1024"), RefusalReason.WEAK_KEY),
        (
            certs.csr(extensions=[(x509.BasicConstraints(True, None), True)]),
            RefusalReason.CSR_EXTRA_EXTENSIONS,
        ),
    ],
    ids=["unreadable", "bad_signature", "weak_curve", "weak_key", "csr_extra_extensions"],
)
async def test_an_unfit_request_gets_nothing(certified, new_fleet, csr, reason):
    """Refused with an event that says why; no device comes of it, and the name stays free."""
    fleet = await new_fleet()
    result = await certified.provisioner.provision(fleet.request("pump-1", credentials=asking(csr)))
    assert result == Refused(reason)
    assert await certified.refusals() == [reason.value]
    assert await certified.devices() == []
    await born(certified, fleet, "pump-1")


async def test_a_key_is_certified_for_one_device(certified, new_fleet):
    """reused_key: another device's key is refused, also at the same moment."""
    fleet = await new_fleet()
    key = certs.new_key()
    asked = [fleet.request(f"pump-{n}", credentials=asking(certs.csr(key))) for n in range(10)]
    results = await asyncio.gather(*map(certified.provisioner.provision, asked))
    given = [one for one in results if isinstance(one, Provisioned)]
    assert len(given) == 1
    others = [one for one in results if one is not given[0]]
    assert others == [Refused(RefusalReason.REUSED_KEY)] * 9
    assert len(await certified.devices()) == 1


@pytest.mark.parametrize("nonce", ["", "0123456789abcdef"])
async def test_one_request_without_a_name_many_times_at_once_is_one_device(
    certified, new_fleet, registry, nonce
):
    """A retry that overtakes its request gets the same certificate, not `reused_key`; the same key
    under another nonce is refused."""
    fleet = await new_fleet()
    csr = certs.csr()
    asked = fleet.request(None, credentials=asking(csr))
    asked = structs.replace(asked, nonce=Secret(nonce))
    results = await asyncio.gather(*(certified.provisioner.provision(asked) for _ in range(6)))
    assert {one.credentials for one in results} == {results[0].credentials}, results
    assert len(await registry.devices()) == 1
    other = structs.replace(asked, nonce=Secret("another-nonce-0001"))
    assert await certified.provisioner.provision(other) == Refused(RefusalReason.REUSED_KEY)


async def test_a_refused_birth_leaves_the_key_free(certified, new_fleet):
    """A name that is taken costs the device nothing but another try."""
    fleet = await new_fleet()
    await born(certified, fleet, "pump-1")
    key = certs.new_key()
    asked = fleet.request("pump-1", credentials=asking(certs.csr(key)))
    assert await certified.provisioner.provision(asked) == Refused(RefusalReason.NAME_TAKEN)
    await born(certified, fleet, "pump-2", key)


async def test_a_request_for_too_much_reserves_nothing(certified, new_fleet):
    """Its key is free for another device at once."""
    fleet = await new_fleet()
    key = certs.new_key()
    greedy = certs.csr(key, extensions=[(x509.BasicConstraints(True, None), True)])
    refused = await certified.provisioner.provision(
        fleet.request("pump-1", credentials=asking(greedy))
    )
    assert refused == Refused(RefusalReason.CSR_EXTRA_EXTENSIONS)
    await born(certified, fleet, "pump-2", key)


async def test_a_profile_says_which_keys_it_takes(certified, new_fleet):
    """A kind of key that is good elsewhere is weak_key where the profile does not name it."""
    fleet = await new_fleet(certificate=CertificateProfile(keys=(KeyKind.ED25519,)))
    asked = fleet.request("pump-1", credentials=asking(certs.csr()))
    assert await certified.provisioner.provision(asked) == Refused(RefusalReason.WEAK_KEY)
    await born(certified, fleet, "pump-1", certs.new_key("Ed25519"))


async def test_a_waiting_device_may_ask_for_a_certificate(certified, new_fleet):
    """A pre-provisioned device's claim replaces what it was added with, once."""
    fleet = await new_fleet(CHECK)
    waiting = await fleet.waiting("meter-1")
    result = await born(certified, fleet, "meter-1")
    assert result.device.id == waiting.id
    known = await certified.store.known_device(waiting.id)
    assert known.credentials == result.credentials
    again = fleet.request("meter-1", credentials=asking(certs.csr()))
    refused = await certified.provisioner.provision(again)
    assert refused == Refused(RefusalReason.ALREADY_PROVISIONED)
    assert (await certified.store.known_device(waiting.id)).credentials == result.credentials


@pytest.mark.parametrize("kind", [None, CHECK], ids=["born", "waiting"])
async def test_a_device_may_ask_for_a_key(certified, new_fleet, kind):
    """DTLS_PSK: an identity and 256 bits of ours, good for a look-up by that identity alone."""
    fleet = await (new_fleet() if kind is None else new_fleet(kind))
    if kind is not None:
        await fleet.waiting("pump-1")
    result = await certified.provisioner.provision(
        fleet.request("pump-1", credentials=RequestedCredentials(type=PSK))
    )
    assert isinstance(result, Provisioned)
    assert isinstance(result.credentials, PresharedKey)
    presented = await certified.identities.key_of(result.credentials.identity)
    assert presented.key.hex() == result.credentials.key.reveal()
    assert len(presented.key) == 32
    assert await certified.identities.key_of(result.credentials.key.reveal()) is None


# ── renewal ───────────────────────────────────────────────────────────────────────────────────


async def test_a_renewed_certificate_counts_from_its_first_use(certified, new_fleet):
    """The old one works until the new one has been used, and not after."""
    fleet = await new_fleet()
    old = await born(certified, fleet, "pump-1")
    new = await certified.certifier.renew(old.device, certs.csr(), PEER)
    assert isinstance(new, Provisioned)
    assert new.issuers
    der = [base64.b64decode(one.credentials.text) for one in (old, new)]

    by_old = await certified.identities.by_chain((der[0],), PEER)
    assert (await certified.access.by_identity(by_old)).id == old.device.id
    by_new = await certified.identities.by_chain((der[1],), PEER)
    assert (await certified.access.by_identity(by_new)).id == old.device.id
    certified.access.forget()
    assert await certified.access.by_identity(by_old) is None
    refused = await certified.identities.by_chain((der[0],), PEER)
    assert refused == Refused(RefusalReason.CREDENTIALS_REVOKED)
    record = await certified.store.certificate(serial(old))
    assert record.reason is RevocationReason.SUPERSEDED


async def test_a_renewal_may_be_repeated(certified, new_fleet):
    """Whose answer was lost asks again: the certificate that was not used is gone."""
    fleet = await new_fleet()
    old = await born(certified, fleet, "pump-1")
    csr = certs.csr()
    lost = await certified.certifier.renew(old.device, csr, PEER)
    new = await certified.certifier.renew(old.device, csr, PEER)
    assert isinstance(new, Provisioned)
    chain = (base64.b64decode(lost.credentials.text),)
    refused = await certified.identities.by_chain(chain, PEER)
    assert refused == Refused(RefusalReason.CREDENTIALS_REVOKED)
    used = await certified.identities.by_chain((base64.b64decode(new.credentials.text),), PEER)
    assert not isinstance(used, Refused)


async def test_a_device_with_a_token_may_get_a_certificate(certified, new_fleet):
    """Its token works until the certificate has been used."""
    fleet = await new_fleet()
    old = await certified.provisioner.provision(fleet.request("pump-1"))
    new = await certified.certifier.renew(old.device, certs.csr(), PEER)
    assert (await certified.access.by_token(old.credentials.token)).id == old.device.id
    await certified.identities.by_chain((base64.b64decode(new.credentials.text),), PEER)
    certified.access.forget()
    assert await certified.access.by_token(old.credentials.token) is None


async def test_a_renewal_may_keep_its_key(certified, new_fleet):
    """Unless the profile wants a fresh one."""
    key = certs.new_key()
    fleet = await new_fleet()
    old = await born(certified, fleet, "pump-1", key)
    assert isinstance(
        await certified.certifier.renew(old.device, certs.csr(key), PEER), Provisioned
    )
    strict = await new_fleet(name="strict", certificate=CertificateProfile(fresh_key=True))
    key = certs.new_key()
    old = await born(certified, strict, "pump-2", key)
    refused = await certified.certifier.renew(old.device, certs.csr(key), PEER)
    assert refused == Refused(RefusalReason.REUSED_KEY)
    assert isinstance(await certified.certifier.renew(old.device, certs.csr(), PEER), Provisioned)


async def test_a_device_that_was_revoked_renews_nothing(certified, new_fleet):
    """Not even in the session it still has open."""
    fleet = await new_fleet()
    old = await born(certified, fleet, "pump-1")
    known = await certified.store.known_device(old.device.id)
    await certified.custody.revoke(known, RevocationReason.KEY_COMPROMISE)
    with pytest.raises(CredentialsGone):
        await certified.certifier.renew(old.device, certs.csr(), PEER)


async def test_a_refused_renewal_is_written_down(certified, new_fleet):
    """With the device it was for."""
    fleet = await new_fleet()
    old = await born(certified, fleet, "pump-1")
    refused = await certified.certifier.renew(old.device, "rubbish", PEER)
    assert refused == Refused(RefusalReason.CSR_UNREADABLE)
    events = [one for one in await certified.events() if one.reason == "csr_unreadable"]
    assert [one.device_id for one in events] == [old.device.id]


# ── the authority ─────────────────────────────────────────────────────────────────────────────


async def test_one_authority_is_made_however_many_need_it(certified, new_fleet):
    """Ten first requests at once, and two processes, make one root and one issuing key."""
    other = Certified(certified.store, certified.clock, lambda: "x")
    await asyncio.gather(*(one.authorities.issuer() for one in [certified, other] * 5))
    kept = await certified.store.authorities()
    assert sorted(one.role.value for one in kept) == ["issuing", "root"]


async def test_a_rotated_key_signs_from_then_on(certified, new_fleet):
    """What was signed before stays good, and its signer can still be had for its status."""
    fleet = await new_fleet()
    before = await born(certified, fleet, "pump-1")
    old = (await certified.authorities.issuer()).signer
    rotated = await certified.authorities.rotate()
    assert [one.role.value for one in rotated] == ["issuing"]
    after = await born(certified, fleet, "pump-2")
    assert certificate(before).issuer != certificate(after).issuer
    assert (await certified.authorities.signer_of(old.authority_id)).certificate == old.certificate
    chain = (base64.b64decode(before.credentials.text),)
    assert not isinstance(await certified.identities.by_chain(chain, PEER), Refused)
    assert len(await certified.authorities.rotate(root=True)) == 2


async def test_a_rotation_elsewhere_is_seen_within_seconds(certified, new_fleet):
    """A command in a shell rotates; a running gateway signs with the new key 5 s later."""
    other = Certified(certified.store, certified.clock, lambda: "x")
    old = (await certified.authorities.issuer()).signer.authority_id
    new = (await other.authorities.rotate())[0].id
    assert (await certified.authorities.issuer()).signer.authority_id == old
    certified.clock.now += 5001
    assert (await certified.authorities.issuer()).signer.authority_id == new


async def test_a_root_that_ended_is_rotated_with_its_issuing_key(certified, new_fleet, clock):
    """Asked for the issuing key alone, we say in words what to do."""
    await certified.authorities.all()
    clock.now += 21 * 365 * 86_400_000
    with pytest.raises(ConfigError, match=r"the root has expired.*Rotate the root as well"):
        await certified.authorities.rotate()
    assert len(await certified.authorities.rotate(root=True)) == 2
    await born(certified, await new_fleet(), "pump-1")


async def test_an_authority_without_its_key_keeps_no_other_from_signing(certified, new_fleet):
    """While it is the active one nothing is signed; once it is replaced it is in nobody's way."""
    fleet = await new_fleet()
    issuing, *_ = await certified.authorities.all()
    keyless = structs.replace(issuing, key=None)
    event = Event(kind=EventKind.AUTHORITY_ROTATE, at=certified.clock(), peer=PEER)
    replaces = [AuthorityRole.ISSUING]
    assert await certified.store.add_authorities([keyless], event, replaces=replaces)
    csr = asking(certs.csr())
    refused = await certified.provisioner.provision(fleet.request("pump-1", credentials=csr))
    assert refused == Refused(RefusalReason.NO_AUTHORITY)
    await certified.authorities.rotate()
    await born(certified, fleet, "pump-1")


async def test_a_renewal_that_ended_unused_does_not_end_the_older_certificate(
    certified, new_fleet, clock
):
    """Whoever shows it too late is refused, and still has the certificate it had before."""
    fleet = await new_fleet()
    pinned = certs.self_signed("pump-1")
    asked = RequestedCredentials(type=Certificate("").type, certificate=pinned.text)
    result = await certified.provisioner.provision(fleet.request("pump-1", credentials=asked))
    new = await certified.certifier.renew(result.device, certs.csr(), PEER)
    clock.now += 366 * 86_400_000
    chain = (base64.b64decode(new.credentials.text),)
    refused = await certified.identities.by_chain(chain, PEER)
    assert refused == Refused(RefusalReason.UNKNOWN_CERTIFICATE)
    found = await certified.identities.by_chain(pinned.chain, PEER)
    assert found.device_id == result.device.id


async def test_a_device_gets_so_many_certificates_an_hour(certified, new_fleet, clock):
    """Each is on the revocation list until its end: none may fill it by asking for ever."""
    fleet = await new_fleet()
    old = await born(certified, fleet, "pump-1")
    another = await born(certified, fleet, "pump-2")
    results = [await certified.certifier.renew(old.device, certs.csr(), PEER) for _ in range(20)]
    assert results[-1] == Refused(RefusalReason.TOO_MANY_CERTIFICATES)
    assert all(isinstance(one, Provisioned) for one in results[:-1])
    assert await certified.refusals() == ["too_many_certificates"]
    assert isinstance(
        await certified.certifier.renew(another.device, certs.csr(), PEER), Provisioned
    )
    clock.now += 3_600_000
    assert isinstance(await certified.certifier.renew(old.device, certs.csr(), PEER), Provisioned)
