"""Devices that ask for another credential: what proves them, what they get, and how often."""

from __future__ import annotations

import asyncio

import certs
import pytest
from certified import Certified, asking, identity_of, read
from msgspec import structs

from gateway.core.access import Access
from gateway.core.awaiting import Awaiting
from gateway.core.gates import Gates
from gateway.core.labelling import new_claim_code
from gateway.core.model import (
    AccessToken,
    ApprovalState,
    AttributesChange,
    AttributeScope,
    AttributesSelection,
    DeviceCredentialsType,
    Event,
    EventKind,
    NoticeKind,
    Peer,
    Policy,
    Provisioned,
    ProvisionType,
    Reading,
    RefusalReason,
    Refused,
    Reprovisioning,
    RequestedCredentials,
    Secret,
    Wire,
    WithoutNonce,
)
from gateway.core.provisioning import Provisioner
from gateway.core.reprovisioning import Reprovisioner
from gateway.core.terms import Terms
from gateway.store.retention import Retention
from gateway.store.sql_approvals import SqlApprovals
from gateway.store.sql_reprovisionings import SqlReprovisionings

R = RefusalReason
SAME, RESET, APPROVAL = (
    Reprovisioning.SAME_IDENTITY,
    Reprovisioning.RESET,
    Reprovisioning.APPROVAL,
)
NONCE, OTHER_NONCE = Secret("0123456789abcdef"), Secret("fedcba9876543210")
DAY_MS = 86_400_000
PEER = Peer(Wire.MQTT, "192.0.2.9:1000")


class House:
    """A provisioner whose profile lets devices ask again, and what they log in with."""

    def __init__(self, certified, registry, clock, tokens):
        self.certified, self.registry, self.clock = certified, registry, clock
        self.store = store = certified.store
        self.access = Access(store, clock)
        self.awaiting = Awaiting(SqlApprovals(store))
        self.reprovisioner = Reprovisioner(
            SqlReprovisionings(store),
            clock=clock,
            new_token=tokens,
            awaiting=self.awaiting,
            certifier=certified.certifier,
        )
        self.provisioner = Provisioner(
            store,
            clock=clock,
            new_token=tokens,
            readable=lambda text: True,
            certifier=certified.certifier,
            gates=Gates(awaiting=self.awaiting, reprovisioner=self.reprovisioner),
        )

    async def ask(self, fleet, name="meter", **fields):
        request = structs.replace(fleet.request(name), **fields)
        return await self.provisioner.provision(request)

    async def born(self, fleet, name="meter", **fields):
        born = await self.ask(fleet, name, **fields)
        assert isinstance(born, Provisioned), born
        return born

    async def known(self, name="meter"):
        return await self.registry.device(name)

    async def events(self, kind):
        return [one for one in await self.certified.events() if one.kind is kind]


@pytest.fixture
def house(store, clock, tokens, registry):
    return House(Certified(store, clock, tokens), registry, clock, tokens)


@pytest.fixture
def open_fleet(new_fleet):
    """Makes a profile with that policy."""

    def make(reprovisioning=SAME, kind=ProvisionType.ALLOW_CREATE_NEW_DEVICES, **policy):
        return new_fleet(kind, policy=Policy(reprovisioning=reprovisioning, **policy))

    return make


def token(result):
    assert isinstance(result, Provisioned), result
    return result.credentials.token


@pytest.mark.every_database
async def test_with_its_old_credential_it_gets_a_new_one(house, open_fleet):
    """The old one works until the new one is used; then it is gone. The device stays the same."""
    fleet = await open_fleet()
    born = await house.born(fleet)
    old = token(born)
    again = await house.ask(fleet, old_credential=old)
    new = token(again)
    assert new != old
    assert (again.device.id, again.again) == (born.device.id, True)
    assert (await house.access.by_token(old, PEER)).id == born.device.id
    found = await asyncio.gather(*(house.access.by_token(new, PEER) for _ in range(3)))
    assert {one.id for one in found} == {born.device.id}
    house.access.forget()
    assert await house.access.by_token(old, PEER) is None
    assert (await house.access.by_token(new, PEER)).id == born.device.id
    (event,) = await house.events(EventKind.DEVICE_REPROVISION)
    assert (event.subject, event.device_id) == ("meter", born.device.id)
    assert event.detail == {"proof": "old credential", "policy": SAME.value}
    (used,) = await house.events(EventKind.DEVICE_CREDENTIALS_USE)
    assert used.peer == PEER
    logins = [one for one in await house.store.notices(0, 100) if one.kind is NoticeKind.LOGIN]
    assert [one.device_id for one in logins] == [born.device.id]


async def test_without_a_proof_it_is_refused_as_ever(house, open_fleet, new_fleet):
    """And a profile that says never gives nothing for any proof."""
    fleet = await open_fleet()
    old = token(await house.born(fleet))
    assert await house.ask(fleet) == Refused(R.NAME_TAKEN)
    wrong = await house.ask(fleet, old_credential=Secret("wrong"))
    assert wrong == Refused(R.NO_PROOF_OF_OLD)
    assert await house.ask(fleet, claim_code=Secret("é")) == Refused(R.NO_PROOF_OF_OLD)
    plain = await new_fleet(name="plain")
    other = token(await house.born(plain, "pump"))
    assert await house.ask(plain, "pump", old_credential=other) == Refused(R.NAME_TAKEN)
    # Nor is it the business of another profile.
    assert await house.ask(fleet, "pump", old_credential=other) == Refused(R.NAME_TAKEN)
    assert await house.events(EventKind.DEVICE_REPROVISION) == []
    assert (await house.known()).credentials == AccessToken(old)


async def test_one_that_is_new_is_born_whatever_it_shows(house, open_fleet):
    fleet = await open_fleet()
    born = await house.ask(fleet, old_credential=Secret("long gone"), claim_code=Secret("2345"))
    assert (born.again, born.device.name) == (False, "meter")


async def test_wrong_proofs_are_limited(house, open_fleet, clock):
    """After five, the right one is not looked at for three minutes, whoever shows it."""
    fleet = await open_fleet()
    old = token(await house.born(fleet))
    code = new_claim_code()
    assert await house.registry.arm_device(await house.known(), DAY_MS, code)
    for _ in range(5):
        wrong = await house.ask(fleet, old_credential=Secret("wrong"))
        assert wrong == Refused(R.NO_PROOF_OF_OLD)
    for shown in ({"old_credential": old}, {"claim_code": code}):
        assert await house.ask(fleet, **shown) == Refused(R.TOO_MANY_REPROVISIONINGS, 180)
    other = token(await house.born(fleet, "other"))
    assert token(await house.ask(fleet, "other", old_credential=other))
    clock.now += 180_000
    assert token(await house.ask(fleet, claim_code=code))


async def test_a_claim_code_counts_once(house, open_fleet, clock):
    """However it is typed; not after its end, and not another device's."""
    fleet = await open_fleet()
    await house.born(fleet)
    await house.born(fleet, "other")
    code = new_claim_code()
    assert await house.registry.arm_device(await house.known(), DAY_MS, code)
    assert await house.ask(fleet) == Refused(R.NAME_TAKEN)
    assert await house.ask(fleet, "other", claim_code=code) == Refused(R.NO_PROOF_OF_OLD)
    typed = Secret(code.reveal().lower().replace("-", " "))
    asked = [house.ask(fleet, claim_code=typed) for _ in range(2)]
    first, second = sorted(await asyncio.gather(*asked), key=lambda one: isinstance(one, Refused))
    assert token(first)
    assert second == Refused(R.NO_PROOF_OF_OLD)
    assert await house.registry.arm_device(await house.known(), DAY_MS, code)
    clock.now += DAY_MS
    assert await house.ask(fleet, claim_code=code) == Refused(R.NO_PROOF_OF_OLD)
    (event,) = await house.events(EventKind.DEVICE_REPROVISION)
    assert event.detail["proof"] == "claim code"
    for one in await house.certified.events():
        assert code.reveal() not in str(one)


async def test_an_operators_word_counts_once(house, open_fleet, clock):
    """Also for one that was blocked, or revoked before; not after its end."""
    fleet = await open_fleet()
    await house.born(fleet)
    known = await house.known()
    assert await house.registry.arm_device(known, DAY_MS)
    await house.certified.custody.revoke(known)
    assert await house.ask(fleet) == Refused(R.NAME_TAKEN)  # what was said before counts no more
    known = await house.known()
    assert await house.registry.arm_device(known, DAY_MS)
    again = await house.ask(fleet, old_credential=Secret("whatever"))
    assert (await house.access.by_token(token(again), PEER)).name == "meter"
    assert await house.ask(fleet) == Refused(R.NAME_TAKEN)
    assert await house.registry.arm_device(known, DAY_MS)
    clock.now += DAY_MS
    assert await house.ask(fleet) == Refused(R.NAME_TAKEN)
    change = AttributesChange({"provisionState": "blocked"})
    await house.registry.change_attributes(known, AttributeScope.SERVER, change)
    assert await house.registry.arm_device(known, DAY_MS)
    assert token(await house.ask(fleet))


async def test_what_was_armed_counts_no_more_once_it_came_by_itself(house, open_fleet):
    """Else the word, or the code, would be left for the next who knows the fleet's secret."""
    fleet = await open_fleet()
    shown = token(await house.born(fleet))
    code = new_claim_code()
    for one in (None, code):
        assert await house.registry.arm_device(await house.known(), DAY_MS, one)
        shown = token(await house.ask(fleet, old_credential=shown))
        assert await house.ask(fleet) == Refused(R.NAME_TAKEN)
        assert await house.ask(fleet, claim_code=code) == Refused(R.NO_PROOF_OF_OLD)


@pytest.mark.every_database
async def test_what_was_not_used_yet_is_revoked_too(house, open_fleet):
    """Of one whose credentials were revoked before: those that are pending, and the word for it."""
    fleet = await open_fleet()
    await house.born(fleet)
    custody, arm = house.certified.custody, house.registry.arm_device
    assert await custody.revoke(await house.known())
    assert await arm(await house.known(), DAY_MS)
    given = token(await house.ask(fleet, nonce=NONCE))
    assert await custody.revoke(await house.known())
    assert await house.access.by_token(given, PEER) is None
    assert await house.ask(fleet, nonce=NONCE) == Refused(R.NAME_TAKEN)
    assert await arm(await house.known(), DAY_MS)
    assert await custody.revoke(await house.known())
    assert await house.ask(fleet) == Refused(R.NAME_TAKEN)
    assert not await custody.revoke(await house.known())


@pytest.mark.parametrize("unsaid", [WithoutNonce.UNTIL_FIRST_USE, WithoutNonce.SAME_ADDRESS])
async def test_without_a_nonce_the_proof_is_to_be_shown_again(house, open_fleet, unsaid):
    """Who knows the fleet's secret and the name alone is not given what the proof was shown for."""
    fleet = await open_fleet(retry_without_nonce=unsaid)
    old = token(await house.born(fleet))
    assert token(await house.ask(fleet)) == old
    await house.access.by_token(old, PEER)
    new = token(await house.ask(fleet, old_credential=old))
    assert await house.ask(fleet) == Refused(R.NAME_TAKEN)
    assert token(await house.ask(fleet, old_credential=old)) == new
    code = new_claim_code()
    assert await house.registry.arm_device(await house.known(), DAY_MS, code)
    newer = token(await house.ask(fleet, claim_code=code))
    assert await house.ask(fleet) == Refused(R.NAME_TAKEN)
    assert token(await house.ask(fleet, claim_code=code)) == newer


@pytest.mark.every_database
async def test_it_may_keep_its_user_name(house, open_fleet):
    """With another password; both count until the new one was used."""
    fleet = await open_fleet(reprovisioning_limit="9:1")

    def basic(password):
        kind = DeviceCredentialsType.MQTT_BASIC
        return RequestedCredentials(type=kind, username="u", password=Secret(password))

    by = house.access.by_mqtt
    await house.born(fleet, credentials=basic("p1"))
    asked = {"old_credential": Secret("p1"), "credentials": basic("p2")}
    assert (await house.ask(fleet, **asked)).credentials.password == Secret("p2")
    assert (await house.ask(fleet, **asked)).credentials.password == Secret("p2")
    assert (await by("c", "u", Secret("p1"), PEER)).name == "meter"
    assert await by("c", "u", Secret("p3"), PEER) is None
    assert (await by("c", "u", Secret("p2"), PEER)).name == "meter"
    assert await by("c", "u", Secret("p1"), PEER) is None
    assert (await by("c", "u", Secret("p2"), PEER)).name == "meter"


async def test_one_that_is_suspended_meanwhile_stays_so(house, open_fleet, clock):
    """A quarantine that comes while its new credential is made is not escaped by it."""
    fleet = await open_fleet()
    old = token(await house.born(fleet))
    other = structs.replace(fleet.ticket, id=fleet.ticket.id + 1)
    reprovisioner = house.reprovisioner
    reprovision = reprovisioner._store.reprovision

    async def late(order):
        update = "quarantine_fleet_ticket"
        await house.store.driver.transact(lambda tx: tx.fetch(update, fleet.ticket.id, 0))
        return await reprovision(order)

    reprovisioner._store.reprovision = late
    request = structs.replace(fleet.request("meter"), old_credential=old)
    result = await reprovisioner.again(other, request, "meter", Terms(ticket_id=other.id))
    assert result == Refused(R.SECRET_QUARANTINED)
    assert await house.store.find_credentials(old) is None


async def test_one_that_waits_is_not_armed(house, open_fleet):
    """It may be claimed anyway."""
    fleet = await open_fleet(kind=ProvisionType.CHECK_PRE_PROVISIONED_DEVICES)
    await fleet.waiting("meter")
    known = await house.known()
    assert not await house.registry.arm_device(known, DAY_MS)
    claimed = await house.ask(fleet)
    assert not claimed.again
    assert await house.ask(fleet) == Refused(R.ALREADY_PROVISIONED)
    assert await house.registry.arm_device(known, DAY_MS)
    assert token(await house.ask(fleet)) != token(claimed)


@pytest.mark.every_database
async def test_the_answer_is_repeated_until_it_is_used(house, open_fleet):
    """Two at once with one nonce are given one credential, and the rate and the word are spent
    once; the use of the old one changes nothing of it."""
    fleet = await open_fleet(reprovisioning_limit="1:60")
    old = token(await house.born(fleet, nonce=NONCE))
    assert token(await house.ask(fleet, nonce=NONCE)) == old
    assert await house.registry.arm_device(await house.known(), DAY_MS)
    given = await asyncio.gather(*(house.ask(fleet, nonce=OTHER_NONCE) for _ in range(3)))
    (new,) = {token(one) for one in given}
    assert (await house.access.by_token(old, PEER)) is not None
    assert (await house.store.find_token(old)) is not None
    assert token(await house.ask(fleet, nonce=OTHER_NONCE)) == new
    assert await house.ask(fleet, nonce=NONCE) == Refused(R.NAME_TAKEN)
    assert len(await house.events(EventKind.DEVICE_REPROVISION)) == 1
    assert (await house.access.by_token(new, PEER)) is not None
    assert await house.ask(fleet, nonce=OTHER_NONCE) == Refused(R.NAME_TAKEN)


@pytest.mark.every_database
async def test_it_is_done_as_often_as_the_profile_says(house, open_fleet, clock):
    """Every window of the rate counts, a refused one in none; each device has its own."""
    fleet = await open_fleet(reprovisioning_limit="2:10,3:100")
    shown = token(await house.born(fleet))
    other = token(await house.born(fleet, "other"))

    async def ask():
        return await house.ask(fleet, old_credential=shown)

    assert token(await ask())
    assert token(await ask())
    assert await ask() == Refused(R.TOO_MANY_REPROVISIONINGS, 5)
    assert token(await house.ask(fleet, "other", old_credential=other))
    clock.now += 5_000
    assert token(await ask())
    clock.now += 5_000
    assert await ask() == Refused(R.TOO_MANY_REPROVISIONINGS, 24)  # 33.333 s for each
    clock.now += 23_333
    assert token(await ask())
    clock.now -= DAY_MS  # the clock was set back: nobody waits for the old time
    assert token(await ask())
    clock.now += 2 * DAY_MS
    await Retention(house.store, clock).sweep()
    rows = await house.store.driver.read("SELECT * FROM reprovisioning")
    assert rows == []


async def test_credentials_of_every_kind_are_taken_up(house, open_fleet):
    """A triple by the CONNECT that fits it; what it brought and has already it keeps."""
    fleet = await open_fleet(reprovisioning_limit="9:1")
    old = token(await house.born(fleet))
    basic = RequestedCredentials(
        type=DeviceCredentialsType.MQTT_BASIC,
        client_id="c",
        username="u",
        password=Secret("p"),
    )
    assert isinstance(await house.ask(fleet, old_credential=old, credentials=basic), Provisioned)
    by = house.access.by_mqtt
    assert await by("c", "u", Secret("wrong"), PEER) is None
    assert (await by("x", old.reveal(), None, PEER)) is not None
    assert (await by("c", "u", Secret("p"), PEER)).name == "meter"
    assert (await by("x", old.reveal(), None, PEER)) is None
    proof = {"old_credential": Secret("p"), "credentials": basic}
    kept = await house.ask(fleet, **proof)
    assert kept.credentials.password == Secret("p")
    assert (await by("c", "u", Secret("p"), PEER)).name == "meter"
    key = RequestedCredentials(type=DeviceCredentialsType.DTLS_PSK)
    psk = await house.ask(fleet, old_credential=Secret("p"), credentials=key)
    shown = await house.certified.identities.key_of(psk.credentials.identity)
    assert shown.key.hex() == psk.credentials.key.reveal()
    await house.certified.identities.guard(shown.identity, PEER, lambda: None)
    assert (await by("c", "u", Secret("p"), PEER)) is None
    assert token(await house.ask(fleet, old_credential=psk.credentials.key))
    taken = RequestedCredentials(token=Secret("taken"))
    await house.born(fleet, "other", credentials=taken)
    refused = await house.ask(fleet, old_credential=psk.credentials.key, credentials=taken)
    assert refused == Refused(R.CREDENTIALS_TAKEN)


async def test_a_certificate_is_proven_by_the_connection(house, open_fleet, clock):
    """And gets another, repeated with those who signed it; one that ended proves nothing."""
    fleet = await open_fleet()
    first = certs.new_key()
    device, certificate = read(await house.born(fleet, credentials=asking(certs.csr(first))))
    identity = identity_of(device, certificate)
    asked = {"credentials": asking(certs.csr(certs.new_key())), "identity": identity}
    late = structs.replace(identity, expires_at=clock.now - 1)
    assert await house.ask(fleet, **{**asked, "identity": late}) == Refused(R.NAME_TAKEN)
    given = await house.ask(fleet, **asked)
    again = await house.ask(fleet, **asked)
    _, renewed = read(given)
    assert renewed.public_key() != certificate.public_key()
    assert (again.credentials, again.issuers) == (given.credentials, given.issuers)
    assert len(given.issuers) == 1
    (event,) = await house.events(EventKind.DEVICE_REPROVISION)
    assert event.detail["proof"] == "certificate of its connection"


async def test_a_refused_signing_request_leaves_nothing(house, open_fleet):
    """Its number and its key are free again."""
    fleet = await open_fleet(reprovisioning_limit="1:60")
    old = token(await house.born(fleet))
    key = certs.new_key()
    assert token(await house.ask(fleet, old_credential=old))
    asked = {"old_credential": old, "credentials": asking(certs.csr(key))}
    refused = await house.ask(fleet, **asked)
    assert refused == Refused(R.TOO_MANY_REPROVISIONINGS, 60)
    assert isinstance(
        await house.ask(fleet, "other", credentials=asking(certs.csr(key))), Provisioned
    )


@pytest.mark.every_database
async def test_a_reset_forgets_what_the_device_said(house, open_fleet, clock, monkeypatch):
    """Attributes and latest values at once, readings step by step; what comes later stays."""
    monkeypatch.setattr("gateway.store.reprovisionings.ROWS_PER_STEP", 3)
    fleet = await open_fleet(RESET)
    born = await house.born(fleet)
    device, other = born.device, (await house.born(fleet, "other")).device
    for one in (device, other):
        readings = [Reading(clock.now + n, "k", n) for n in range(30)]
        await house.store.save_readings(one, readings)
        await house.store.save_attributes(one, AttributeScope.CLIENT, {"c": 1}, clock.now)
    change = AttributesChange({"s": 1})
    await house.registry.change_attributes(await house.known(), AttributeScope.SHARED, change)
    last = await house.store.last_notice()
    new = token(await house.ask(fleet, old_credential=token(born)))
    (notice,) = await house.store.notices(last, 10)
    assert (notice.kind, notice.change.deleted) == (NoticeKind.ATTRIBUTES, ("s",))
    now = await house.access.by_token(new, PEER)
    assert (await house.store.attributes(now, AttributesSelection())).client == {}
    assert await house.store.latest(now) == []

    async def readings(of):
        sql = "SELECT count(*) FROM reading WHERE device_id = ?1"
        return (await house.store.driver.read(sql, of.id))[0][0]

    assert await readings(device) == 15
    clock.now += 1000
    await house.store.save_readings(now, [Reading(clock.now, "k", 1)])
    await Retention(house.store, clock).sweep()
    assert (await readings(device), await readings(other)) == (1, 30)
    assert await house.store.driver.read("SELECT * FROM forgetting") == []


async def test_an_operator_approves(house, open_fleet):
    """Each is asked about; the old credential alone is no approval."""
    fleet = await open_fleet(APPROVAL)
    old = token(await house.born(fleet))
    asked = {"nonce": NONCE, "old_credential": old}
    pending = await house.ask(fleet, **asked)
    assert pending.reason is R.APPROVAL_PENDING
    assert pending.retry_after_s > 0
    approvals = SqlApprovals(house.store)
    event = Event(kind=EventKind.APPROVAL_APPROVE, at=house.clock.now, peer=PEER)
    number = (await house.store.driver.read("SELECT id FROM approval"))[0][0]
    await approvals.decide_approvals([number], ApprovalState.APPROVED, "/", event)
    new = token(await house.ask(fleet, **asked))
    assert new != old
    assert token(await house.ask(fleet, **asked)) == new
    (told,) = await house.events(EventKind.DEVICE_REPROVISION)
    assert told.detail["proof"] == "approved by an operator"


async def test_a_removed_device_leaves_nothing_of_it(house, open_fleet):
    fleet = await open_fleet(RESET)
    old = token(await house.born(fleet))
    await house.ask(fleet, nonce=NONCE, old_credential=old)
    known = await house.known()
    assert await house.registry.arm_device(known, DAY_MS)
    assert await house.registry.remove_device(known)
    for table in ("retry_window", "rearmed_device", "reprovisioning", "forgetting"):
        assert await house.store.driver.read(f"SELECT * FROM {table}") == [], table
    assert not (await house.ask(fleet)).again


async def test_a_handshake_is_a_use(house, open_fleet):
    """With a certificate or a key: from then on the answer is not repeated, call or no call."""
    fleet = await open_fleet()
    asked = {"nonce": NONCE, "credentials": asking(certs.csr(certs.new_key()))}
    _, certificate = read(await house.born(fleet, **asked))
    der = certificate.public_bytes(certs.serialization.Encoding.DER)
    assert (await house.ask(fleet, **asked)).again
    await house.certified.identities.by_chain((der,), PEER)
    assert await house.ask(fleet, **asked) == Refused(R.NAME_TAKEN)
    key = RequestedCredentials(type=DeviceCredentialsType.DTLS_PSK)
    asked = {"nonce": NONCE, "credentials": key}
    given = await house.born(fleet, "keyed", **asked)
    shown = await house.certified.identities.key_of(given.credentials.identity)
    assert (await house.ask(fleet, "keyed", **asked)).credentials == given.credentials
    await house.certified.identities.guard(shown.identity, PEER, lambda: None)
    assert await house.ask(fleet, "keyed", **asked) == Refused(R.NAME_TAKEN)
