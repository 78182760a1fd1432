"""What a before-hook amends is held to what holds for everybody."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import certs
import pytest
from certified import PEER, Certified, chain_fleet
from msgspec import structs

from gateway.core.admission_entries import EntryKind, entry_of
from gateway.core.admitting import Admitting
from gateway.core.gates import Gates
from gateway.core.hooking import question
from gateway.core.model import (
    Admission,
    Amendment,
    Event,
    EventKind,
    HookRule,
    Identity,
    Peer,
    Policy,
    Provisioned,
    ProvisionType,
    RefusalReason,
    Refused,
    Secret,
    Wire,
)
from gateway.core.provisioning import Provisioner
from gateway.store.sql_admission import SqlAdmission

RULE = HookRule(entry_point="a:b")
CHECK = ProvisionType.CHECK_PRE_PROVISIONED_DEVICES


class Renaming:
    """A hook that gives each device the next of these names."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.asked = 0

    async def ask(self, _profile: Any, request: Any) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        return structs.replace(request, amended=Amendment(name=self.names.pop(0)))


@pytest.fixture
def hooked(store, clock, tokens):
    def make(hook):
        return Provisioner(
            store,
            clock=clock,
            new_token=tokens,
            readable=bool,
            gates=Gates(before=hook, admitting=Admitting(SqlAdmission(store))),
        )

    return make


async def test_a_hook_cannot_name_a_device_that_is_denied(hooked, new_fleet, store, clock):
    """Neither by a pattern nor by the list; the allow patterns are for the device's own name."""
    fleet = await new_fleet(
        policy=Policy(before=RULE, admission=Admission(allow=("raw-*",), deny=("*-stolen",)))
    )
    listed = [entry_of(EntryKind.NAME, "pump-9")]
    told = Event(kind=EventKind.ADMISSION_CHANGE, at=clock(), peer=Peer(Wire.SHELL, "tester"))
    await SqlAdmission(store).add_entries(fleet.profile.id, True, listed, told)
    provisioner = hooked(Renaming("pump-stolen", "pump-9", "pump-1"))
    for _ in range(2):
        result = await provisioner.provision(fleet.request("raw-1"))
        assert isinstance(result, Refused)
        assert result.reason is RefusalReason.ON_DENY_LIST
    born = await provisioner.provision(fleet.request("raw-1"))
    assert isinstance(born, Provisioned)
    assert born.device.name == "pump-1"
    assert [one.device.name for one in await fleet.registry.devices()] == ["pump-1"]


async def test_a_name_that_is_anothers_is_refused_and_one_that_waits_is_claimed(hooked, new_fleet):
    """As if the device had asked for it itself; and whoever repeats gets what it got."""
    fleet = await new_fleet(CHECK, policy=Policy(before=RULE))
    await fleet.waiting("pump-1")
    provisioner = hooked(hook := Renaming("pump-1", "pump-1", "pump-7"))
    asked = structs.replace(fleet.request("raw-1"), nonce=Secret("n" * 16))
    first = await provisioner.provision(asked)
    assert isinstance(first, Provisioned)
    assert first.device.name == "pump-1"
    again = await provisioner.provision(asked)
    assert isinstance(again, Provisioned)
    assert (again.credentials, again.again, hook.asked) == (first.credentials, True, 1)
    for reason in (RefusalReason.ALREADY_PROVISIONED, RefusalReason.NO_SUCH_DEVICE):
        other = await provisioner.provision(fleet.request("raw-2"))
        assert isinstance(other, Refused)
        assert other.reason is reason


@pytest.mark.every_database
async def test_one_device_that_asks_twice_at_once_is_one_device(hooked, new_fleet):
    """The hook is asked for both and names them apart: the nonce decides."""
    fleet = await new_fleet(policy=Policy(before=RULE))
    provisioner = hooked(Renaming(*(f"pump-{n}" for n in range(8))))
    asked = structs.replace(fleet.request("raw"), nonce=Secret("n" * 16))
    results = await asyncio.gather(*(provisioner.provision(asked) for _ in range(8)))
    assert len({one.credentials.token.reveal() for one in results}) == 1
    assert len(await fleet.registry.devices()) == 1


async def test_a_hook_is_asked_about_a_factory_certificate_once(store, clock, tokens, new_fleet):
    """What it denies is no device, what it amends is; who is known is let in without it."""
    answers: list[Any] = [
        Refused(RefusalReason.DENIED_BY_HOOK, said="not paid"),
        Amendment(name="pump-7", attributes={"hall": 3}, groups=("east",)),
    ]
    asked: list[Any] = []

    class Hook:
        async def ask(self, profile: Any, request: Any) -> Any:
            asked.append(json.loads(question(profile, request, 1, "n")))
            answer = answers.pop(0)
            if isinstance(answer, Refused):
                return answer
            return structs.replace(request, amended=answer)

    root = certs.Authority("Factory root")
    leaf = certs.Authority("Factory issuing", parent=root).issue("dev-1")
    await chain_fleet(new_fleet, root, policy=Policy(before=RULE))
    house = Certified(store, clock, tokens, gates=Gates(before=Hook()))
    refused = await house.identities.by_chain(leaf.chain, PEER)
    assert refused == Refused(RefusalReason.DENIED_BY_HOOK)
    assert await house.devices() == []
    [event] = [one for one in await house.events() if one.outcome.value == "refused"]
    assert (event.reason, event.detail) == ("denied_by_hook", {"said": "not paid"})
    for _ in range(2):
        assert isinstance(await house.identities.by_chain(leaf.chain, PEER), Identity)
    assert await house.devices() == ["pump-7"]
    known = await house.registrar.find_device("pump-7")
    attributes = await house.registrar.device_attributes(known.device.id)
    assert ("hall", 3) in [(one.key, one.value) for one in attributes]
    assert [one["deviceName"] for one in asked] == ["dev-1", "dev-1"]
    assert asked[0]["credentialsType"] == "X509_CERTIFICATE"
    assert asked[0]["provisionType"] == "X509_CERTIFICATE_CHAIN"
