"""`gatehouse pending`, `approve` and `deny`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.clock import now_ms
from gateway.core.awaiting import BIRTH, REPROVISIONING, Asking, Standing
from gateway.core.model import ApprovalKind, Binding, Peer, RefusalReason, Secret, Wire
from gateway.store.sql_approvals import SqlApprovals

PROFILE = """
provision_type = "ALLOW_CREATE_NEW_DEVICES"
reprovisioning = "approval"

[admission]
approval = true
"""


@pytest.fixture
def gated(shell: Any) -> Any:
    """A shell whose profile `gated` asks an operator."""
    (shell.folder / "profiles" / "gated.toml").write_text(PROFILE)
    shell.ok("org", "add", "Unused")  # makes the store
    return shell


def ask(
    shell: Any, *names: str, kind: ApprovalKind = BIRTH, bound: str | None = None
) -> list[Standing]:
    async def all_ask() -> list[Standing]:
        async with shell.inside() as inside:
            profile = await inside.registry.profile("gated")
            queue = SqlApprovals(inside.store)
            return [
                await queue.await_approval(
                    Asking(
                        profile=profile,
                        name=name,
                        kind=kind,
                        binding=Binding(Secret(bound), 0) if bound else None,
                        hardware=None,
                        peer=Peer(Wire.MQTT, "192.0.2.7:1"),
                        at=now_ms(),
                    )
                )
                for name in names
            ]

    return asyncio.run(all_ask())


def test_a_device_is_shown_and_let_in(gated: Any) -> None:
    """By its name, or its number; who said so is kept, and `audit` tells it."""
    ask(gated, "m-1", "m-2")
    assert "m-1" in gated.ok("pending")
    first, second = gated.json("pending", "--profile", "gated")
    assert (first["device"], first["state"], first["wire"]) == ("m-1", "waiting", "mqtt")
    assert "approved `m-1`" in gated.ok("approve", "m-1")
    [approved] = gated.json("approve", str(second["number"]))
    assert (approved["device"], approved["state"]) == ("m-2", "approved")
    assert approved["decided_by"]
    assert gated.json("pending") == []
    states = [one["state"] for one in gated.json("pending", "--state", "all")]
    assert states == ["approved", "approved"]
    assert [one.number for one in ask(gated, "m-1", "m-2")] == [first["number"], second["number"]]
    again = gated("approve", "m-1")
    assert again.exit_code == 0
    assert "nothing to do" in again.stderr
    assert "approval:approve" in gated.ok("audit")
    assert "An operator said yes" in gated.ok("explain", "m-1")


def test_a_device_is_turned_away_and_forgotten(gated: Any) -> None:
    """Denied for as long as it asks; forgotten it is new, and another asker may have the name."""
    ask(gated, "m-1", bound="nonce-a")
    assert "denied `m-1`" in gated.ok("deny", "m-1")
    assert ask(gated, "m-1", bound="nonce-b")[0].reason is RefusalReason.APPROVAL_DENIED
    assert "forgot `m-1`" in gated.ok("deny", "m-1", "--forget")
    assert ask(gated, "m-1", bound="nonce-b")[0].reason is RefusalReason.APPROVAL_PENDING
    [one] = gated.json("pending")
    assert (one["bound"], one["tries"]) == (True, 1)


def test_all_of_a_profile_are_decided_by_pattern(gated: Any) -> None:
    """After the question, or with --yes; the others wait on."""
    ask(gated, *(f"cellar-{number}" for number in range(30)), "attic-1")
    pattern = ("--all", "--profile", "gated", "--match", "cellar-*")
    refused = gated("approve", *pattern)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert gated.ok("approve", *pattern, "--yes").strip() == "approved 30 devices"
    assert [one["device"] for one in gated.json("pending")] == ["attic-1"]


def test_wrong_words_are_explained(gated: Any) -> None:
    """What to write instead; nothing is decided."""
    ask(gated, "meter-1")
    near = gated("approve", "meter-2")
    assert near.exit_code == 1
    assert "Did you mean `meter-1`?" in near.stderr
    for words in ((), ("meter-1", "--all"), ("--all",), ("meter-1", "--match", "*")):
        assert gated("deny", *words).exit_code == 2, words
    ask(gated, "meter-1", kind=REPROVISIONING)
    several = gated("approve", "meter-1")
    assert several.exit_code == 1
    assert "by its number" in several.stderr
    assert len(gated.json("pending")) == 2
