"""Rehearsals: they say what a request comes to, and leave no trace."""

from __future__ import annotations

import certs
import pytest
from certified import Certified, asking
from msgspec import structs

from gateway.core.admitting import Admitting
from gateway.core.approvals import ApprovalQuery
from gateway.core.awaiting import Awaiting
from gateway.core.fleet_secret_store import Bounds
from gateway.core.gates import Gates
from gateway.core.guesses import Guesses, Leniency
from gateway.core.model import (
    Admission,
    Amendment,
    ApprovalState,
    BirthSettings,
    DeviceCredentialsType,
    Event,
    EventKind,
    Json,
    Peer,
    Policy,
    Provisioned,
    ProvisionToken,
    ProvisionType,
    Reading,
    RefusalReason,
    Refused,
    Reprovisioning,
    RequestedCredentials,
    Secret,
    Wire,
)
from gateway.core.provisioning import Provisioner
from gateway.core.reprovisioning import Reprovisioner
from gateway.store.sql_admission import SqlAdmission
from gateway.store.sql_approvals import SqlApprovals
from gateway.store.sql_fleet_tickets import SqlFleetTickets
from gateway.store.sql_reprovisionings import SqlReprovisionings

CHECK = ProvisionType.CHECK_PRE_PROVISIONED_DEVICES
NONCE = Secret("nonce-of-16-signs")
_TABLES = {
    "sqlite": "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE '%fts5%'",
    "postgres": "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
}


@pytest.fixture
def dump(store):
    """All rows of all tables."""

    async def make() -> dict[str, list[str]]:
        await store.writer.settled()
        tables = await store.driver.read(_TABLES[store.driver.database])
        return {
            name: sorted(map(repr, await store.driver.read(f"SELECT * FROM {name}")))
            for (name,) in tables
        }

    return make


@pytest.fixture
def gated(store, clock, tokens):
    """One with the gates of a gateway."""
    awaiting = Awaiting(SqlApprovals(store))
    reprovisioner = Reprovisioner(
        SqlReprovisionings(store), clock=clock, new_token=tokens, awaiting=awaiting
    )
    return Provisioner(
        store,
        clock=clock,
        new_token=tokens,
        readable=lambda text: text.startswith("MII"),
        gates=Gates(
            awaiting=awaiting,
            admitting=Admitting(SqlAdmission(store)),
            reprovisioner=reprovisioner,
        ),
    )


def trial(request, **more):
    return structs.replace(request, trial=True, **more)


TAKEN = RequestedCredentials(token=Secret("taken-token"))
SETTINGS = {
    "open": {},
    "claims too": {"pre_provision_allowed": True},
    "claims alone": {"provision_type": CHECK},
    "closed": {"provision_type": ProvisionType.DISABLED},
    "gifts": {
        "policy": Policy(
            newborn=BirthSettings(
                shared={"a": 1}, customer="{hardware.site}", groups=("g",), firmware="fw 1"
            )
        )
    },
    "full": {"policy": Policy(admission=Admission(max_devices=2))},
    "patterns": {"policy": Policy(admission=Admission(allow=("new*",)))},
    "approval": {"policy": Policy(admission=Admission(approval=True))},
}
ASKED = {
    "new": {"name": "new-1"},
    "nameless": {},
    "markup": {"name": "<b>x</b>"},
    "waits": {"name": "w"},
    "provisioned": {"name": "p"},
    "another's": {"name": "o"},
    "own token": {"name": "n", "credentials": RequestedCredentials(token=Secret("free-token"))},
    "taken token": {"name": "n", "credentials": TAKEN},
    "psk": {"name": "w", "credentials": RequestedCredentials(type=DeviceCredentialsType.DTLS_PSK)},
}


@pytest.mark.parametrize("profile", SETTINGS)
@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_rehearsal_foretells_what_happens_and_changes_nothing(
    gated, registry, new_fleet, dump, profile
):
    """For every kind of profile and request: the same outcome, name and kind of credentials, and
    before it the database as it was, to the row."""
    fleet, other = await new_fleet(**SETTINGS[profile]), await new_fleet(name="other")
    await fleet.waiting("w")
    await gated.provision(other.request("o", credentials=TAKEN))
    known = await fleet.waiting("p")
    await registry._store.claim_device(fleet.profile, "p", _claimed(known))
    for asked in ASKED.values():
        request = structs.replace(fleet.request(**asked), hardware=Json('{"site":"S"}'))
        before = await dump()
        told = await gated.rehearse(trial(request))
        assert await dump() == before
        assert told.profile_name == "fleet"
        assert len(told.steps) >= 2
        result = await gated.provision(request)
        if isinstance(result, Refused):
            assert told.refusal == structs.replace(result, retry_after_s=told.refusal.retry_after_s)
            assert (told.claims, told.credentials_type) == (False, "")
        else:
            assert told.refusal is None
            assert told.device_name in ("", result.device.name)
            assert bool(told.device_name) is ("name" in asked)
            assert told.credentials_type == result.credentials.type.value
            assert told.claims is (asked.get("name") == "w")


def _claimed(device):
    peer = Peer(Wire.HTTP, "x")
    return Event(kind=EventKind.DEVICE_PROVISION, at=device.created_at, peer=peer, subject="p")


@pytest.mark.every_database
async def test_many_rehearsals_leave_the_numbers_as_they_were(gated, new_fleet, dump):
    """Not even the number that the next device gets is used up, beside births at the same time."""
    import asyncio

    fleet = await new_fleet(policy=Policy(newborn=BirthSettings(customer="Acme", groups=("g",))))
    before = await dump()
    await asyncio.gather(*(gated.rehearse(trial(fleet.request(f"d{n % 7}"))) for n in range(100)))
    assert await dump() == before
    both = [
        gated.rehearse(trial(fleet.request(f"d{n}"))) if n % 2 else gated.provision(
            fleet.request(f"d{n}")
        )
        for n in range(40)
    ]  # fmt: skip
    results = await asyncio.gather(*both)
    born = [one.device.id for one in results if isinstance(one, Provisioned)]
    assert sorted(born) == list(range(min(born), min(born) + 20))
    assert len(await fleet.registry.devices()) == 20


@pytest.mark.every_database
async def test_a_rehearsal_spends_nothing(gated, new_fleet, store, dump, clock):
    """No operator is asked, no yes, no use of a secret and no place is used up, however often; what
    is there for one device is there for it afterwards, and for no other."""
    fleet = await new_fleet(policy=Policy(admission=Admission(approval=True, max_devices=1)))
    by_me = Event(kind=EventKind.SECRET_BOUND, at=clock(), peer=Peer(Wire.SHELL, "me"))
    await SqlFleetTickets(store).bound_secret(fleet.ticket.id, Bounds(max_uses=1), by_me)
    request = structs.replace(fleet.request("d"), nonce=NONCE)
    before = await dump()
    told = await gated.rehearse(trial(request))
    assert told.refusal.reason is RefusalReason.APPROVAL_PENDING
    assert await dump() == before
    assert (await gated.provision(request)).reason is RefusalReason.APPROVAL_PENDING
    queue = SqlApprovals(store)
    [waits] = (await queue.approvals(ApprovalQuery(), "/")).data
    await queue.decide_approvals([waits.id], ApprovalState.APPROVED, "/", by_me)
    before = await dump()
    for _ in range(3):
        told = await gated.rehearse(trial(request))
        assert (told.refusal, told.device_name, told.claims) == (None, "d", False)
        assert "An operator said yes." in told.steps
    assert await dump() == before
    first = await gated.provision(request)
    assert isinstance(first, Provisioned)
    before = await dump()
    again = await gated.rehearse(trial(request))
    assert again.refusal is None
    assert "again" in again.steps[-1]
    other = await gated.rehearse(trial(fleet.request("e")))
    assert other.refusal is not None
    assert await dump() == before


async def test_who_proved_nothing_is_told_nothing(store, clock, tokens, new_fleet):
    """A wrong secret on trial is one more wrong secret, and written down; a right one forgives and
    uses nothing."""
    rule = Leniency(free=2, more=2)
    gated = Provisioner(
        store, clock=clock, new_token=tokens, readable=bool, gates=Gates(guesses=Guesses(rule))
    )
    fleet = await new_fleet()
    for guess in ("wrong-1", "wrong-2", "wrong-3", "wrong-4"):
        told = await gated.rehearse(trial(fleet.request("d", secret=guess)))
        assert told.refusal.reason in (
            RefusalReason.WRONG_SECRET, RefusalReason.TOO_MANY_WRONG_SECRETS
        )  # fmt: skip
        assert (told.steps, told.profile_name, told.device_name) == ((), "", "")
    late = await gated.rehearse(trial(fleet.request("d")))
    assert late.refusal.reason is RefusalReason.TOO_MANY_WRONG_SECRETS
    assert late.steps == ()
    await store.writer.settled()
    reasons = [one.reason for one in await fleet.registry.events() if one.reason]
    assert reasons.count("wrong_secret") == 2
    blank = await gated.rehearse(trial(fleet.request("  ")))
    assert blank.refusal == Refused(RefusalReason.NAME_BLANK)
    assert blank.steps == ()


async def test_a_repeated_request_is_foretold_as_one(gated, new_fleet, dump):
    """What was answered before would be answered again, to its asker alone."""
    fleet = await new_fleet()
    request = structs.replace(fleet.request("d"), nonce=NONCE)
    first = await gated.provision(request)
    assert isinstance(first, Provisioned)
    before = await dump()
    told = await gated.rehearse(trial(request))
    assert told.refusal is None
    assert not told.claims
    assert "again" in told.steps[-1]
    stranger = await gated.rehearse(trial(fleet.request("d")))
    assert stranger.refusal.reason is RefusalReason.NAME_TAKEN
    assert await dump() == before


async def test_nothing_else_is_rehearsed_and_no_trial_is_done(gated, new_fleet):
    """A trial that reached `provision` would be done: it is not. Tokens have no rehearsal."""
    fleet = await new_fleet()
    with pytest.raises(ValueError, match="rehearsed"):
        await gated.provision(trial(fleet.request("d")))
    token = structs.replace(fleet.request("d"), proof=ProvisionToken(Secret("t"), "x"))
    with pytest.raises(ValueError, match="rehearsed"):
        await gated.rehearse(token)
    assert await fleet.registry.devices() == []


async def test_a_hook_is_not_asked_on_trial(store, clock, tokens, new_fleet):
    """Its step says so; nobody outside hears of a rehearsal."""

    class Hook:
        asked = 0

        async def ask(self, profile, request):
            self.asked += 1
            return structs.replace(request, amended=Amendment(name="other"))

    from gateway.core.model import HookRule

    hook = Hook()
    gated = Provisioner(
        store, clock=clock, new_token=tokens, readable=bool, gates=Gates(before=hook)
    )
    fleet = await new_fleet(policy=Policy(before=HookRule(entry_point="a:b")))
    told = await gated.rehearse(trial(fleet.request("d")))
    assert (told.refusal, hook.asked) == (None, 0)
    assert any("hook" in step for step in told.steps)
    assert (await gated.provision(fleet.request("d"))).device.name == "other"
    assert hook.asked == 1


async def test_a_signing_request_uses_up_no_number_and_no_key(
    store, clock, tokens, new_fleet, dump
):
    """What is signed on trial is thrown away: the same request gets its certificate afterwards."""
    house = Certified(store, clock, tokens)
    await house.authorities.issuer()
    fleet = await new_fleet()
    request = fleet.request("pump-1", credentials=asking(certs.csr()))
    before = await dump()
    told = await house.provisioner.rehearse(trial(request))
    assert (told.refusal, told.credentials_type) == (None, "X509_CERTIFICATE")
    weak = fleet.request("pump-2", credentials=asking("nonsense"))
    unread = await house.provisioner.rehearse(trial(weak))
    assert unread.refusal.reason is RefusalReason.CSR_UNREADABLE
    assert await dump() == before
    assert isinstance(await house.provisioner.provision(request), Provisioned)


@pytest.mark.parametrize("policy", [Reprovisioning.SAME_IDENTITY, Reprovisioning.RESET])
async def test_another_credential_is_rehearsed_too(gated, new_fleet, store, dump, policy):
    """With a proof it would be given, without one it would not; nothing becomes pending, nothing
    is forgotten."""
    fleet = await new_fleet(policy=Policy(reprovisioning=policy))
    first = await gated.provision(fleet.request("d"))
    await store.save_readings(first.device, [Reading(1, "t", 20)])
    old = Secret(first.credentials.token.reveal())
    before = await dump()
    told = await gated.rehearse(trial(fleet.request("d"), old_credential=old))
    assert (told.refusal, told.claims, told.device_name) == (None, False, "d")
    assert "another credential" in told.steps[-1]
    wrong = await gated.rehearse(trial(fleet.request("d"), old_credential=Secret("wrong")))
    assert wrong.refusal.reason is RefusalReason.NO_PROOF_OF_OLD
    assert await dump() == before
    again = await gated.provision(structs.replace(fleet.request("d"), old_credential=old))
    assert isinstance(again, Provisioned)
    assert again.credentials != first.credentials
