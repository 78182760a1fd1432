"""`gatehouse provision` with what is this gateway's own: trials, nonces, hardware; and burn-in."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from gateway.cli.provision_proofs import hardware_of
from gateway.core.model import Secret
from gateway.simulator.messages import Wish, json_request

BURN = """provision_type = "ALLOW_CREATE_NEW_DEVICES"
[birth]
expires_after = "3d"
[birth.shared]
serial = "{serial}"
"""
QUEUE = """provision_type = "ALLOW_CREATE_NEW_DEVICES"
[admission]
approval = true
"""


@pytest.fixture
def provision(server: Any) -> Callable[..., Any]:
    """Runs `gatehouse provision` at the server; its profile `burn` makes devices that expire, in
    `queue` and `open-queue` they wait for a yes, the latter are told all about it."""
    profiles = server.shell.folder / "profiles"
    (profiles / "burn.toml").write_text(BURN)
    (profiles / "queue.toml").write_text(QUEUE)
    (profiles / "open-queue.toml").write_text("detailed_refusals = true\n" + QUEUE)

    def call(wire: str, *args: str, profile: str = "demo", **env: str) -> Any:
        at = ("--profile", profile, "--url", server.url(wire))
        return server.shell("provision", *at, *args, **env)

    return call


@pytest.mark.parametrize("wire", ["http", "mqtt", "coap"])
def test_a_dry_run_tells_what_would_happen(provision: Any, server: Any, wire: str) -> None:
    """Step by step for people, as it came for scripts; nothing is made, and status 1 foretells a
    refusal."""
    name = f"dry-{wire}"
    told = provision(wire, "--device-name", name, "--dry-run")
    assert told.exit_code == 0, told.output
    assert "nothing was changed" in told.stdout
    assert "1. Key and secret are right" in told.stdout
    assert "a device would be made" in told.stdout
    plain = json.loads(provision(wire, "--device-name", name, "--dry-run", "--json").stdout)
    assert (plain["status"], plain["dryRun"], plain["deviceName"]) == ("SUCCESS", True, name)
    assert (plain["profile"], plain["claims"]) == ("demo", False)
    assert server.shell("device", "show", name).exit_code == 1
    assert provision(wire, "--device-name", name).exit_code == 0
    again = provision(wire, "--device-name", name, "--dry-run")
    assert again.exit_code == 1
    assert "FAILURE" in again.stdout
    assert "name_taken" in again.stdout


@pytest.mark.parametrize("wire", ["http", "mqtt", "coap"])
def test_who_has_to_wait_is_told_for_whom_and_how_long(provision: Any, wire: str) -> None:
    """An answer to come again is told as one, on every wire, with status 1."""
    for profile, said in (("queue", "PENDING: "), ("open-queue", "approval_pending: ")):
        ask = ("--device-name", f"{profile}-{wire}")
        told = provision(wire, *ask, profile=profile)
        assert told.exit_code == 1
        assert told.stdout.startswith(said)
        assert "gatehouse approve" in told.stderr
        assert "doctor" not in told.stderr
        plain = provision(wire, *ask, "--json", profile=profile)
        assert json.loads(plain.stdout)["retryAfter"] > 60


def test_a_stranger_learns_nothing_from_a_dry_run(server: Any) -> None:
    """A wrong secret ends as it would have, without a step."""
    secret = "wrong-secret-0001"
    at = ("--url", server.url("http"), "--key-env", "K", "--secret-env", "S")
    told = server.shell("provision", *at, "--dry-run", K="no-such-key-0001", S=secret)
    assert told.exit_code == 1
    assert "NOT_FOUND" in told.stdout
    assert "1." not in told.stdout
    assert secret not in told.output


def test_the_same_nonce_gets_the_same_answer(provision: Any, tmp_path: Path) -> None:
    """The file is made for its owner alone, and used again; the answer is the same, and tells the
    nonce to nobody."""
    file = tmp_path / "n.nonce"
    ask = ("--device-name", "nonce-1", "--nonce-file", str(file), "--json")
    first = provision("http", *ask)
    assert first.exit_code == 0, first.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = provision("coap", *ask)
    assert (
        json.loads(again.stdout)["credentialsValue"]
        == (json.loads(first.stdout)["credentialsValue"])
    )
    assert file.read_text().strip() not in first.output + again.output
    assert provision("http", "--device-name", "nonce-1").exit_code == 1
    file.write_text("short")
    assert "16 to 64" in provision("http", *ask).output


def test_a_burn_in_device_is_shown_with_its_end_and_can_be_kept(
    provision: Any, server: Any
) -> None:
    """Its hardware fills its settings; `device keep` moves the end, or takes it away."""
    given = ("--hardware", "serial=S-1", "--hardware", '{"radio": {"band": 868}}')
    made = provision("http", "--device-name", "b-1", *given, profile="burn")
    assert made.exit_code == 0, made.output
    shell = server.shell
    ends = shell.json("device", "show", "b-1")["expires_at"]
    assert abs(ends - shell.json("device", "show", "b-1")["created_at"] - 3 * 86_400_000) < 60_000
    assert "expires at" in shell.ok("device", "show", "b-1")
    values = shell.ok("device", "attributes", "show", "b-1", "--json")
    assert '"S-1"' in values
    assert "868" in values
    longer = shell.json("device", "keep", "b-1", "--for", "9d")
    assert longer["kept"]
    assert longer["expires_at"] > ends + 5 * 86_400_000
    assert "stays for good" in shell.ok("device", "keep", "b-1")
    assert shell.json("device", "show", "b-1")["expires_at"] is None
    assert "stays anyway" in shell.ok("device", "keep", "b-1")
    assert "device:keep" in shell.ok("device", "events", "b-1")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--dry-run", "--save", "x.json"), "gives nothing to keep"),
        (("--dry-run", "--protobuf", "--wire", "mqtt"), "protobuf has no place"),
        (("--hardware", "serial"), "KEY=VALUE"),
        (("--hardware", "{broken"), "not valid JSON"),
        (("--hardware", f"a={'x' * 4096}"), "at most 4096 bytes"),
        (("--claim-code-env", "NO_SUCH_VARIABLE"), "not set"),
    ],
)
def test_what_does_not_go_together_is_said(shell: Any, args: tuple[str, ...], says: str) -> None:
    """Before anything is asked."""
    more = () if "--wire" in args else ("--wire", "http")
    url = () if "--wire" in args else ("--url", "http://127.0.0.1:1")
    result = shell(
        "provision", "--key-env", "K", "--secret-env", "S", *more, *url, *args,
        K="key-00000001", S="secret-0000001", GATEHOUSE_MQTT_PORT="1883",
    )  # fmt: skip
    assert result.exit_code == 2, result.output
    assert says in result.output


def test_hardware_is_one_object_of_all_that_is_given() -> None:
    """Later members stand above earlier ones; a value may have an equals sign."""
    assert hardware_of(("a=1", '{"b": {"c": 2}, "a": 3}', "d=x=y")) == {
        "a": 3, "b": {"c": 2}, "d": "x=y"
    }  # fmt: skip
    with pytest.raises(click.UsageError):
        hardware_of(("=1",))


def test_proofs_are_written_as_devices_write_them() -> None:
    """The members' names are the contract's; what is not said is not sent."""
    key, secret = Secret("k"), Secret("s")
    wish = Wish(
        nonce=Secret("n" * 16),
        hardware={"serial": "S1"},
        old_credential=Secret("old"),
        claim_code=Secret("code"),
        dry_run=True,
    )
    told = json.loads(json_request(key, secret, wish))
    assert told == {
        "provisionDeviceKey": "k",
        "provisionDeviceSecret": "s",
        "nonce": "n" * 16,
        "hardware": {"serial": "S1"},
        "oldCredential": "old",
        "claimCode": "code",
        "dryRun": True,
    }
    assert set(json.loads(json_request(key, secret, Wish()))) == {
        "provisionDeviceKey", "provisionDeviceSecret"
    }  # fmt: skip
