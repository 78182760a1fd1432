"""Who may come, and answers that are repeated: a denied device gets nothing again."""

from __future__ import annotations

import pytest
from msgspec import structs

from gateway.core.admission_entries import EntryKind, entry_of
from gateway.core.admitting import Admitting
from gateway.core.gates import Gates
from gateway.core.model import (
    Admission,
    Event,
    EventKind,
    Peer,
    Policy,
    Provisioned,
    ProvisionType,
    RefusalReason,
    Refused,
    Reprovisioning,
    Secret,
    Wire,
)
from gateway.core.provisioning import Provisioner
from gateway.core.registry import ProfileDraft
from gateway.store.sql_admission import SqlAdmission

DENIED = Refused(RefusalReason.ON_DENY_LIST)


@pytest.fixture
def lists(store):
    return SqlAdmission(store)


@pytest.fixture
def provisioner(store, clock, tokens, lists):
    gates = Gates(admitting=Admitting(lists))
    return Provisioner(
        store, clock=clock, new_token=tokens, readable=lambda text: False, gates=gates
    )


@pytest.fixture
def deny(lists, clock):
    async def put(fleet, name):
        told = Event(kind=EventKind.ADMISSION_CHANGE, at=1, peer=Peer(Wire.SHELL, "tester"))
        await lists.add_entries(fleet.profile.id, True, [entry_of(EntryKind.NAME, name)], told)
        clock.now += 1001  # a first entry counts within a second

    return put


def repeated(request):
    return structs.replace(request, nonce=Secret("n" * 16))


@pytest.mark.parametrize("name", ["m-1", None])
@pytest.mark.parametrize("kind", [Reprovisioning.NEVER, Reprovisioning.SAME_IDENTITY])
async def test_a_denied_device_is_not_given_its_credential_again(
    provisioner, new_fleet, deny, name, kind
):
    """Whether it named itself or we did, and however its request is found again."""
    fleet = await new_fleet(policy=Policy(reprovisioning=kind))
    asked = repeated(fleet.request(name))
    first = await provisioner.provision(asked)
    again = await provisioner.provision(asked)
    assert isinstance(again, Provisioned)
    assert again.credentials == first.credentials
    await deny(fleet, first.device.name)
    assert await provisioner.provision(asked) == DENIED


@pytest.mark.parametrize("kind", [Reprovisioning.NEVER, Reprovisioning.SAME_IDENTITY])
async def test_a_profile_that_is_switched_off_gives_nothing_again(
    provisioner, new_fleet, registry, kind
):
    """Whatever else it says, so that it does not matter how a request is found again."""
    fleet = await new_fleet(policy=Policy(reprovisioning=kind))
    asked = repeated(fleet.request("m-1"))
    assert isinstance(await provisioner.provision(asked), Provisioned)
    profile = await registry.profile("fleet")
    profile = structs.replace(profile, provision_type=ProvisionType.DISABLED)
    await registry.save_profile(ProfileDraft(profile=profile))
    result = await provisioner.provision(asked)
    assert result == Refused(RefusalReason.PROVISIONING_DISABLED)


async def test_what_else_changed_in_who_may_come_does_not_take_an_answer_back(
    provisioner, new_fleet, registry
):
    """A device that was let in and lost its answer gets it after hours, too, and from a list it is
    not on; a denied one does not, whatever the hour."""
    fleet = await new_fleet()
    asked = repeated(fleet.request("m-1"))
    first = await provisioner.provision(asked)
    for rules in (
        Admission(closes_at=1),
        Admission(networks=("203.0.113.0/24",)),
        Admission(allow=("x",)),
        Admission(allow_list=True),
        Admission(closes_at=1, deny=("m-*",)),
    ):
        profile = structs.replace(await registry.profile("fleet"), policy=Policy(admission=rules))
        await registry.save_profile(ProfileDraft(profile=profile))
        result = await provisioner.provision(asked)
        if rules.deny:
            assert result == DENIED
        else:
            assert isinstance(result, Provisioned)
            assert result.credentials == first.credentials
        other = structs.replace(asked, nonce=Secret("o" * 16))
        assert isinstance(await provisioner.provision(other), Refused)
