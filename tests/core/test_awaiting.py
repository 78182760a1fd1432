"""What a device is told while it waits for an operator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.core.approvals import ApprovalQuery, Approvals
from gateway.core.awaiting import Awaiting, backoff_s
from gateway.core.gates import Gates
from gateway.core.model import (
    Actor,
    Admission,
    Amendment,
    Organisation,
    Peer,
    Permission,
    Policy,
    Provisioned,
    RefusalReason,
    Refused,
    Wire,
)
from gateway.core.provisioning import Provisioner
from gateway.store.sql_approvals import SqlApprovals

ASKING = Policy(admission=Admission(approval=True, approval_backoff_s=100))
OPERATOR = Actor(
    peer=Peer(Wire.SHELL, "ann", actor="ann"),
    organisation=Organisation(id=1, uuid="root", name="root", path="/1/"),
    permissions=frozenset(Permission),
)


@pytest.fixture
def queue(store):
    return SqlApprovals(store)


@pytest.fixture
def provisioner(store, clock, tokens, queue):
    return Provisioner(
        store,
        clock=clock,
        new_token=tokens,
        readable=lambda text: False,
        gates=Gates(awaiting=Awaiting(queue)),
    )


@given(st.text(max_size=40), st.integers(1, 10**6), st.integers(1, 86_400))
def test_a_wait_grows_to_ten_times_and_a_quarter(name, tries, first_s):
    """Never shorter than the profile says, nor than the try before; the same for one device."""
    wait = backoff_s(name, tries, first_s)
    assert first_s <= wait <= first_s * 12.5
    assert wait <= backoff_s(name, tries + 1, first_s)
    assert wait == backoff_s(name, tries, first_s)


def test_waits_of_devices_come_apart():
    """A fleet that was told to wait together does not come back together."""
    assert len({backoff_s(f"m-{number}", 1, 600) for number in range(100)}) > 50


async def test_a_device_waits_until_an_operator_says_yes(provisioner, new_fleet, queue, clock):
    """Pending with a growing wait, then born; a second one with the name is refused as ever."""
    fleet = await new_fleet(policy=ASKING)
    asked = fleet.request("m-1")
    waits = []
    for _ in range(3):
        refused = await provisioner.provision(asked)
        assert isinstance(refused, Refused)
        assert refused.reason is RefusalReason.APPROVAL_PENDING
        waits.append(refused.retry_after_s)
    assert waits == [backoff_s("m-1", tries, 100) for tries in (1, 2, 3)]
    desk = Approvals(queue, clock=clock)
    [one] = (await desk.page(OPERATOR, ApprovalQuery())).data
    await desk.approve(OPERATOR, [one.id])
    assert isinstance(await provisioner.provision(asked), Provisioned)
    assert await provisioner.provision(asked) == Refused(RefusalReason.NAME_TAKEN)
    assert (await desk.page(OPERATOR, ApprovalQuery())).data == []


async def test_a_no_is_told_without_a_wait(provisioner, new_fleet, queue, clock):
    """Waiting does not help."""
    fleet = await new_fleet(policy=ASKING)
    await provisioner.provision(fleet.request("m-1"))
    await Approvals(queue, clock=clock).deny(OPERATOR, [1])
    denied = Refused(RefusalReason.APPROVAL_DENIED)
    assert await provisioner.provision(fleet.request("m-1")) == denied


async def test_who_waits_has_a_name(provisioner, new_fleet, queue):
    """Without one each try would be another newcomer; a hook's name will do."""
    fleet = await new_fleet(policy=ASKING)
    nameless = fleet.request()
    assert await provisioner.provision(nameless) == Refused(RefusalReason.NAME_MISSING)
    amended = structs.replace(nameless, amended=Amendment(name="given"))
    refused = await provisioner.provision(amended)
    assert isinstance(refused, Refused)
    assert refused.reason is RefusalReason.APPROVAL_PENDING
    assert [one.name for one in (await queue.approvals(ApprovalQuery(), "/1/")).data] == ["given"]


async def test_nobody_waits_where_nobody_was_to_be_asked(provisioner, new_fleet, queue):
    """Another setting of the profile's policy asks no operator."""
    fleet = await new_fleet(policy=Policy(admission=Admission(max_devices=9)))
    assert isinstance(await provisioner.provision(fleet.request("m-1")), Provisioned)
    assert (await queue.approvals(ApprovalQuery(), "/1/")).data == []


async def test_a_yes_that_is_gone_at_the_last_moment_is_told_with_a_wait(
    provisioner, new_fleet, queue, clock, monkeypatch
):
    """An operator takes it back between the look and the birth: it waits again, and knows how
    long."""
    fleet = await new_fleet(policy=ASKING)
    await provisioner.provision(fleet.request("m-1"))
    desk = Approvals(queue, clock=clock)
    await desk.approve(OPERATOR, [1])
    look = queue.await_approval

    async def looked(asking):
        found = await look(asking)
        await desk.deny(OPERATOR, [1])
        return found

    with monkeypatch.context() as patch:
        patch.setattr(queue, "await_approval", looked)
        refused = await provisioner.provision(fleet.request("m-1"))
    assert refused == Refused(RefusalReason.APPROVAL_PENDING, backoff_s("m-1", 1, 100))
    assert await provisioner.provision(fleet.request("m-1")) == Refused(
        RefusalReason.APPROVAL_DENIED
    )
