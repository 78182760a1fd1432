"""Whose certificate or key is this? The handshakes of secure wires, judged."""

from __future__ import annotations

import asyncio
import base64

import certs
import pytest
from certified import PEER, PSK, Certified, born, chain_fleet

from gateway.core.admission_entries import EntryKind, entry_of
from gateway.core.admitting import Admitting
from gateway.core.approvals import ApprovalQuery, Approvals
from gateway.core.awaiting import Awaiting
from gateway.core.gates import Gates
from gateway.core.limits import parse_rate
from gateway.core.model import (
    Actor,
    Admission,
    BirthSettings,
    Certificate,
    Event,
    EventKind,
    Identity,
    Organisation,
    Permission,
    Policy,
    PresharedKey,
    Provisioned,
    RefusalReason,
    Refused,
    RequestedCredentials,
    Secret,
    Vouched,
    sha3_id,
)
from gateway.core.pacing import Pacer, Paces
from gateway.core.pki.model import CertificateProfile, RevocationReason
from gateway.core.sessions import Slot
from gateway.store.sql_admission import SqlAdmission
from gateway.store.sql_approvals import SqlApprovals

ROOT = certs.Authority("Factory root")
ISSUING = certs.Authority("Factory issuing", parent=ROOT)

BOSS = Actor(
    peer=PEER,
    organisation=Organisation(id=1, uuid="root", name="root", path="/1/"),
    permissions=frozenset(Permission),
)


@pytest.fixture
def certified(store, clock, tokens):
    return Certified(store, clock, tokens)


async def pinned(certified, fleet, issued, name="pump-1"):
    """A device that was registered with its certificate."""
    asked = RequestedCredentials(type=Certificate("x").type, certificate=issued.text)
    result = await certified.provisioner.provision(fleet.request(name, credentials=asked))
    assert isinstance(result, Provisioned)
    return result.device


@pytest.fixture
def gated(store, clock, tokens):
    """With all gates in front of factory certificates, as in a running gateway."""
    gates = Gates(
        admitting=Admitting(SqlAdmission(store)),
        awaiting=Awaiting(SqlApprovals(store)),
        pacer=Pacer(Paces(address=parse_rate("3:60"))),
    )
    return Certified(store, clock, tokens, gates=gates)


def admitting(**rules):
    return Policy(admission=Admission(**rules))


# ── factory certificates ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sent", ["leaf", "chain", "chain with root"])
async def test_a_factory_certificate_makes_a_device(certified, new_fleet, sent):
    """Its name is what the pattern finds in the common name; the anchor need not be sent."""
    fleet = await chain_fleet(new_fleet, ISSUING, pattern=r"dev-(\w+)")
    leaf = ISSUING.issue("dev-42.plant")
    chain = {"leaf": (leaf.der,), "chain": leaf.chain[:2], "chain with root": leaf.chain}[sent]
    identity = await certified.identities.by_chain(chain, PEER)
    assert isinstance(identity, Identity)
    device = await certified.access.by_identity(identity)
    assert (device.name, device.profile_id) == ("42", fleet.profile.id)
    assert (await certified.store.known_device(device.id)).credentials == Certificate(leaf.text)


async def test_the_same_certificate_is_the_same_device(certified, new_fleet):
    """Twenty handshakes at once make one device."""
    await chain_fleet(new_fleet, ROOT)
    leaf = ISSUING.issue("dev-1")
    found = await asyncio.gather(
        *(certified.identities.by_chain(leaf.chain, PEER) for _ in range(20))
    )
    assert len({one.device_id for one in found}) == 1
    assert await certified.devices() == ["dev-1"]


async def test_a_device_of_a_factory_begins_with_its_profiles_settings(certified, new_fleet):
    """Once, when it is born by its certificate; its end is set, too."""
    newborn = BirthSettings(shared={"id": "{name}"}, customer="Acme", expires_after_s=60)
    await chain_fleet(new_fleet, ROOT, policy=Policy(newborn=newborn))
    leaf = ISSUING.issue("dev-1")
    for _ in range(2):
        number = (await certified.identities.by_chain(leaf.chain, PEER)).device_id
        found = await certified.registrar.device_attributes(number)
        assert ("id", "dev-1") in {(one.key, one.value) for one in found}
        assert await certified.registrar.expires_at(number) == certified.clock.now + 60_000
        device = (await certified.store.known_device(number)).device
        assert await certified.registrar.customer_name(device.customer_id) == "Acme"


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"deny": ("dev-*",)}, "on_deny_list"),
        ({"allow": ("WM-*",)}, "not_on_allow_list"),
        ({"allow_list": True}, "not_on_allow_list"),
        ({"networks": ("10.0.0.0/8",)}, "network_not_allowed"),
        ({"closes_at": 1}, "outside_hours"),
    ],
)
async def test_who_may_come_counts_for_factory_certificates(gated, new_fleet, rules, reason):
    """A chain is a proof, and no leave: the handshake is refused, and the event says why."""
    await chain_fleet(new_fleet, ROOT, policy=admitting(**rules))
    refused = await gated.identities.by_chain(ISSUING.issue("dev-1").chain, PEER)
    assert refused == Refused(RefusalReason(reason))
    assert await gated.devices() == []
    (event,) = [one for one in await gated.events() if one.outcome.value == "refused"]
    assert (event.kind, event.subject) == (EventKind.DEVICE_PROVISION, "dev-1")
    assert event.reason == reason


async def test_the_lists_of_a_profile_are_asked_for_the_name_of_a_certificate(
    gated, new_fleet, store
):
    """Its deny-list keeps a new certificate out, and lets a known one in as ever."""
    fleet = await chain_fleet(new_fleet, ROOT, policy=admitting(allow_list=True))
    lists, told = SqlAdmission(store), Event(kind=EventKind.ADMISSION_CHANGE, at=1, peer=PEER)
    entry = entry_of(EntryKind.NAME, "dev-1")
    await lists.add_entries(fleet.profile.id, False, [entry], told)
    first = ISSUING.issue("dev-1")
    assert isinstance(await gated.identities.by_chain(first.chain, PEER), Identity)
    await lists.add_entries(fleet.profile.id, True, [entry], told)
    gated.clock.now += 1001
    assert isinstance(await gated.identities.by_chain(first.chain, PEER), Identity)
    refused = await gated.identities.by_chain(ISSUING.issue("dev-1").chain, PEER)
    assert refused == Refused(RefusalReason.ON_DENY_LIST)


async def test_factory_certificates_make_no_more_devices_than_there_may_be(gated, new_fleet):
    """However many come at once; those that are there change their certificates all the same."""
    await chain_fleet(
        new_fleet, ROOT, policy=admitting(max_devices=2), limits={"provisions_per_address": ""}
    )
    leaves = [ISSUING.issue(f"dev-{number}") for number in range(6)]
    found = await asyncio.gather(*(gated.identities.by_chain(leaf.chain, PEER) for leaf in leaves))
    assert found.count(Refused(RefusalReason.PROFILE_FULL)) == 4
    there = await gated.devices()
    assert len(there) == 2
    again = await gated.identities.by_chain(ISSUING.issue(there[0]).chain, PEER)
    assert isinstance(again, Identity)


async def test_a_factory_certificate_waits_for_an_operator(gated, new_fleet, store, clock):
    """Refused until there is a yes, which is for this very certificate, and for one birth."""
    await chain_fleet(new_fleet, ROOT, policy=admitting(approval=True))
    mine, others = ISSUING.issue("dev-1"), ISSUING.issue("dev-1")
    for leaf in (mine, others):
        refused = await gated.identities.by_chain(leaf.chain, PEER)
        assert refused == Refused(RefusalReason.APPROVAL_PENDING)
    desk = Approvals(SqlApprovals(store), clock=clock)
    (asked,) = (await desk.page(BOSS, ApprovalQuery())).data
    assert (asked.name, asked.bound) == ("dev-1", True)
    await desk.approve(BOSS, [asked.id])
    clock.now += 60_000
    refused = await gated.identities.by_chain(others.chain, PEER)
    assert refused == Refused(RefusalReason.APPROVAL_PENDING)
    assert isinstance(await gated.identities.by_chain(mine.chain, PEER), Identity)
    assert (await desk.page(BOSS, ApprovalQuery())).data == []
    renewed = await gated.identities.by_chain(ISSUING.issue("dev-1").chain, PEER)
    assert isinstance(renewed, Identity), "it was let in before"


async def test_a_denied_factory_certificate_is_refused(gated, new_fleet, store, clock):
    """For as long as it asks."""
    await chain_fleet(new_fleet, ROOT, policy=admitting(approval=True))
    leaf = ISSUING.issue("dev-1")
    await gated.identities.by_chain(leaf.chain, PEER)
    desk = Approvals(SqlApprovals(store), clock=clock)
    await desk.deny(BOSS, [(await desk.page(BOSS, ApprovalQuery())).data[0].id])
    refused = await gated.identities.by_chain(leaf.chain, PEER)
    assert refused == Refused(RefusalReason.APPROVAL_DENIED)


async def test_new_factory_certificates_come_as_often_as_their_rates_say(gated, new_fleet, clock):
    """Those that are known come as often as they like."""
    await chain_fleet(new_fleet, ROOT)
    leaves = [ISSUING.issue(f"dev-{number}") for number in range(4)]
    found = [await gated.identities.by_chain(leaf.chain, PEER) for leaf in leaves]
    assert found[3] == Refused(RefusalReason.TOO_MANY_REQUESTS)
    assert isinstance(await gated.identities.by_chain(leaves[0].chain, PEER), Identity)
    clock.now += 60_000
    assert isinstance(await gated.identities.by_chain(leaves[3].chain, PEER), Identity)


async def test_a_new_leaf_of_the_same_name_replaces_the_old(certified, new_fleet):
    """Rotation (contract, 2.8): the device stays, its old certificate is nobody's."""
    await chain_fleet(new_fleet, ROOT)
    old, new = ISSUING.issue("dev-1"), ISSUING.issue("dev-1")
    first = await certified.identities.by_chain(old.chain, PEER)
    second = await certified.identities.by_chain(new.chain, PEER)
    assert second.device_id == first.device_id
    certified.access.forget()
    assert await certified.access.by_identity(first) is None
    assert await certified.access.by_identity(second) is not None


async def test_without_leave_to_create_only_known_names_come_in(certified, new_fleet):
    """`create = false`: a device that is not there is refused."""
    await chain_fleet(new_fleet, ROOT, create=False)
    refused = await certified.identities.by_chain(ISSUING.issue("dev-1").chain, PEER)
    assert refused == Refused(RefusalReason.NO_SUCH_DEVICE)
    assert await certified.devices() == []
    assert await certified.refusals() == ["no_such_device"]


async def test_a_name_of_another_profile_is_refused(certified, new_fleet):
    """A chain opens its own profile only."""
    other = await new_fleet(name="other")
    await certified.provisioner.provision(other.request("dev-1"))
    await chain_fleet(new_fleet, ROOT)
    refused = await certified.identities.by_chain(ISSUING.issue("dev-1").chain, PEER)
    assert refused == Refused(RefusalReason.OTHER_PROFILE)


async def test_other_credentials_are_left_alone(certified, new_fleet):
    """A device with a token keeps it; its certificate is not one to log in with (contract, 2.8)."""
    fleet = await chain_fleet(new_fleet, ROOT)
    device = await fleet.waiting("dev-1")
    before = await certified.store.known_device(device.id)
    refused = await certified.identities.by_chain(ISSUING.issue("dev-1").chain, PEER)
    assert refused == Refused(RefusalReason.UNKNOWN_CERTIFICATE)
    assert (await certified.store.known_device(device.id)).credentials == before.credentials


@pytest.mark.parametrize("bogus", certs.BOGUS)
async def test_a_bogus_chain_is_refused(certified, new_fleet, bogus):
    """Each by its reason, with an event, and no device."""
    make, reason = certs.BOGUS[bogus]
    await chain_fleet(new_fleet, ROOT)
    refused = await certified.identities.by_chain(make(ROOT).chain, PEER)
    assert refused == Refused(RefusalReason(reason))
    assert await certified.refusals() == [reason]
    assert await certified.devices() == []


@pytest.mark.parametrize(
    ("pattern", "leaf", "reason"),
    [
        (r"meter-(\d+)", lambda: ISSUING.issue("dev-1"), "cn_mismatch"),
        ("(.*)", lambda: certs.without_cn(ISSUING), "cn_missing"),
        ("(a+)+$", lambda: ISSUING.issue("a" * 60 + "!"), "cn_mismatch"),
    ],
    ids=["cn_mismatch", "cn_missing", "regex_bomb"],
)
async def test_a_name_that_cannot_be_found_is_refused(certified, new_fleet, pattern, leaf, reason):
    """Also by a pattern that would keep a backtracking engine busy for ever."""
    await chain_fleet(new_fleet, ROOT, pattern=pattern)
    async with asyncio.timeout(1):
        refused = await certified.identities.by_chain(leaf().chain, PEER)
    assert refused == Refused(RefusalReason(reason))
    assert await certified.refusals() == [reason]
    assert await certified.devices() == []


async def test_rubbish_is_no_chain(certified):
    """What is no certificate is refused like any other bad chain."""
    refused = await certified.identities.by_chain((b"rubbish",), PEER)
    assert refused == Refused(RefusalReason.CHAIN_UNREADABLE)


async def test_a_removed_profile_believes_nobody(certified, new_fleet, registry):
    """Once `forget` is called; without it, some seconds later."""
    fleet = await chain_fleet(new_fleet, ROOT, create=False)
    await certified.identities.by_chain(ISSUING.issue("dev-1").chain, PEER)
    await registry.remove_profile(fleet.profile)
    certified.identities.forget()
    refused = await certified.identities.by_chain(ISSUING.issue("dev-1").chain, PEER)
    assert refused == Refused(RefusalReason.UNKNOWN_CA)


# ── certificates that are known ───────────────────────────────────────────────────────────────


async def test_a_registered_certificate_is_the_device(certified, new_fleet):
    """Self-signed, as ThingsBoard's devices have it: its hash is known, that is enough."""
    fleet = await new_fleet()
    own = certs.self_signed("whoever")
    device = await pinned(certified, fleet, own)
    identity = await certified.identities.by_chain(own.chain, PEER)
    assert identity.device_id == device.id
    assert (await certified.access.by_identity(identity)).name == "pump-1"


@pytest.mark.parametrize(
    ("make", "reason"),
    [(certs.expired_leaf, "expired_leaf"), (certs.not_yet_valid, "not_yet_valid")],
)
async def test_a_registered_certificate_has_its_time(certified, new_fleet, make, reason):
    """Outside of it, it lets nobody in."""
    issued = make(ROOT)
    await pinned(certified, await new_fleet(), issued)
    refused = await certified.identities.by_chain(issued.chain, PEER)
    assert refused == Refused(RefusalReason(reason))
    assert await certified.refusals() == [reason]


async def test_grace_lets_an_ended_certificate_in_for_its_renewal(certified, new_fleet, clock):
    """The identity is ended, so that nothing else is served; after the grace, no identity."""
    fleet = await new_fleet(certificate=CertificateProfile(grace_days=2))
    own = certs.self_signed("whoever")
    await pinned(certified, fleet, own)
    clock.now = int(certs.NOT_AFTER.timestamp() * 1000) + 86_400_000
    identity = await certified.identities.by_chain(own.chain, PEER)
    assert identity.expires_at < clock.now
    assert await certified.access.by_identity(identity) is None
    clock.now += 2 * 86_400_000
    refused = await certified.identities.by_chain(own.chain, PEER)
    assert refused == Refused(RefusalReason.EXPIRED_LEAF)


async def test_a_token_that_reads_like_a_certificate_is_none(certified, new_fleet):
    """Nobody becomes a device by choosing the hash of somebody's certificate for a token."""
    fleet = await new_fleet()
    own = certs.self_signed("whoever")
    token = RequestedCredentials(token=Secret(sha3_id(own.text)))
    await certified.provisioner.provision(fleet.request("thief", credentials=token))
    refused = await certified.identities.by_chain(own.chain, PEER)
    assert refused == Refused(RefusalReason.UNKNOWN_CA)


async def test_a_certificate_is_no_token(certified, new_fleet):
    """Its hash, shown as a token, is nobody's, also right after it was used."""
    fleet = await new_fleet()
    own = certs.self_signed("whoever")
    await pinned(certified, fleet, own)
    identity = await certified.identities.by_chain(own.chain, PEER)
    assert await certified.access.by_identity(identity) is not None
    assert await certified.access.by_token(identity.id) is None


# ── connections that are watched over ─────────────────────────────────────────────────────────


async def test_a_revoked_device_is_cut(certified, new_fleet):
    """revoked_then_reconnect: the connection ends, and the next handshake is refused."""
    await chain_fleet(new_fleet, ROOT)
    leaf = ISSUING.issue("dev-1")
    cut = []
    vouched = await certified.identities.vouch(leaf.chain, PEER, lambda: cut.append(1))
    assert isinstance(vouched, Vouched)
    known = await certified.store.known_device(vouched.identity.device_id)
    assert [one.slot for one in certified.sessions.of(known.device.id)] == [Slot.SECURE]
    await certified.custody.revoke(known, RevocationReason.KEY_COMPROMISE)
    notice = (await certified.store.notices(0, 100))[-1]
    from gateway.core.sessions import Cause

    certified.sessions.end(
        known.device.id, Cause.CREDENTIALS_CHANGED, but_generation=notice.generation
    )
    assert cut == [1]
    vouched.release()
    assert certified.sessions.of(known.device.id) == ()
    certified.access.forget()
    assert await certified.access.by_identity(vouched.identity) is None
    refused = await certified.identities.vouch(leaf.chain, PEER, lambda: None)
    assert refused == Refused(RefusalReason.CREDENTIALS_REVOKED)
    assert "credentials_revoked" in await certified.refusals()


async def test_a_released_connection_is_not_cut(certified, new_fleet):
    """What is over cannot be ended."""
    await chain_fleet(new_fleet, ROOT)
    cut = []
    vouched = await certified.identities.vouch(
        ISSUING.issue("dev-1").chain, PEER, lambda: cut.append(1)
    )
    vouched.release()
    vouched.release()
    assert certified.sessions.of(vouched.identity.device_id) == ()
    assert cut == []


async def test_a_key_revoked_during_its_handshake_is_cut(certified, new_fleet):
    """Between the look at the key and the end of the handshake."""
    fleet = await new_fleet()
    result = await certified.provisioner.provision(
        fleet.request("pump-1", credentials=RequestedCredentials(type=PSK))
    )
    presented = await certified.identities.key_of(result.credentials.identity)
    known = await certified.store.known_device(result.device.id)
    await certified.custody.revoke(known, RevocationReason.UNSPECIFIED)
    cut = []
    await certified.identities.guard(presented.identity, PEER, lambda: cut.append(1))
    assert cut == [1]
    assert await certified.identities.key_of(result.credentials.identity) is None


# ── several at once ───────────────────────────────────────────────────────────────────────────


async def test_many_connections_take_a_renewal_up_at_once(certified, new_fleet):
    """One of them does, and all of them are the device: it has one certificate, and shows it."""
    fleet = await new_fleet()
    old = await born(certified, fleet, "pump-1")
    new = await certified.certifier.renew(old.device, certs.csr(), PEER)
    chain = (base64.b64decode(new.credentials.text),)
    found = await asyncio.gather(*(certified.identities.by_chain(chain, PEER) for _ in range(20)))
    assert {one.device_id for one in found} == {old.device.id}


async def test_many_connections_take_a_new_key_up_at_once(certified, new_fleet):
    """The same for pre-shared keys: none of them is cut."""
    fleet = await new_fleet()
    old = await born(certified, fleet, "pump-1")
    key = PresharedKey("pump-1 in 2027", Secret("40" * 32))
    event = Event(kind=EventKind.DEVICE_CREDENTIALS, at=certified.clock(), peer=PEER)
    assert await certified.store.renew(old.device, key, None, event)
    presented = await certified.identities.key_of(key.identity)
    cut = []
    await asyncio.gather(
        *(
            certified.identities.guard(presented.identity, PEER, lambda: cut.append(1))
            for _ in range(20)
        )
    )
    assert cut == []
    assert len(certified.sessions.of(old.device.id)) == 20


async def test_a_token_that_reads_like_a_revoked_certificate_keeps_no_connection(
    certified, new_fleet
):
    """Whose certificate was revoked during its handshake is cut, whoever has its id by now."""
    fleet = await new_fleet()
    issued = certs.self_signed("pump-1")
    device = await pinned(certified, fleet, issued)
    identity = await certified.identities.by_chain(issued.chain, PEER)
    await certified.custody.revoke(await certified.store.known_device(device.id))
    asked = RequestedCredentials(token=Secret(sha3_id(issued.text)))
    assert isinstance(
        await certified.provisioner.provision(fleet.request("thief", credentials=asked)),
        Provisioned,
    )
    cut = []
    await certified.identities.guard(identity, PEER, lambda: cut.append(1))
    assert cut == [1]


@pytest.mark.parametrize("name", [" ", "\u3000\u2003"])
async def test_a_blank_name_is_none(certified, new_fleet, name):
    """As in a provisioning request (contract, 2.4)."""
    await chain_fleet(new_fleet, ROOT)
    refused = await certified.identities.by_chain(ISSUING.issue(name).chain, PEER)
    assert refused == Refused(RefusalReason.NAME_INVALID)
    assert await certified.devices() == []


async def test_a_connection_ends_with_its_certificate(certified, new_fleet):
    """Though nothing is asked through it: what is told unasked ends as well."""
    fleet = await new_fleet()
    device = await pinned(certified, fleet, issued := certs.self_signed("pump-1"))
    identity = Identity(Certificate(issued.text).id, device.id, certified.clock() + 10)
    ended, cut = asyncio.Event(), []
    released = await certified.identities.guard(identity, PEER, lambda: cut.append(1))
    released.release()
    await certified.identities.guard(identity, PEER, ended.set)
    async with asyncio.timeout(5):
        await ended.wait()
    assert certified.sessions.of(device.id) == ()
    assert cut == []
