"""`gatehouse device claim`, `unclaim` and `rotate`."""

from __future__ import annotations

import asyncio
import json
import stat
from typing import Any

import pytest

from gateway.clock import now_ms
from gateway.core.claiming import Claiming
from gateway.core.model import Peer, Secret, Wire

CLAIM = ("device", "claim", "d1", "--customer", "Acme")
KEY = "swordfish-7"


@pytest.fixture
async def offered(shell: Any) -> Any:
    """A shell whose store has a device that offered itself to whoever knows the key."""
    await asyncio.to_thread(shell.ok, "device", "add", "d1")
    async with shell.inside() as inside:
        claiming = Claiming(inside.store, now_ms, duration_ms=60_000)
        peer = Peer(Wire.MQTT, "192.0.2.7:50123")
        assert await claiming.offer(await inside.device("d1"), Secret(KEY), 0, peer)
    return shell


def owner(shell: Any) -> str | None:
    found: str | None = shell.json("device", "show", "d1")["customer"]
    return found


def test_the_key_may_be_typed_and_is_never_shown(offered: Any) -> None:
    """The prompt takes the key; the device belongs to the customer then."""
    result = offered(*CLAIM, input=f"{KEY}\n")
    assert result.exit_code == 0, result.output
    assert KEY not in result.output
    assert owner(offered) == "Acme"
    assert KEY not in json.dumps(offered.json("device", "events"))


def test_the_key_may_come_from_a_file_or_the_environment(offered: Any) -> None:
    """Both give the key without a prompt; a line end after it does not count."""
    (offered.folder / "key").write_text(KEY + "\n")
    assert offered.json(*CLAIM, "--key-file", "key") == {"result": "SUCCESS", "customer": "Acme"}
    again = offered(*CLAIM, "--json", GATEHOUSE_CLAIM_KEY=KEY)
    assert again.exit_code == 1
    assert json.loads(again.stdout) == {"result": "CLAIMED", "customer": "Acme"}
    assert "device unclaim d1" in again.stderr


def test_a_wrong_key_ends_the_offer(offered: Any) -> None:
    """After a wrong key the right one is refused, too; the sentence says where the reason is."""
    wrong = offered(*CLAIM, GATEHOUSE_CLAIM_KEY="wrong")
    assert wrong.exit_code == 1
    assert "device events d1" in wrong.stderr
    assert offered(*CLAIM, GATEHOUSE_CLAIM_KEY=KEY).exit_code == 1
    assert owner(offered) is None


def test_an_operator_needs_no_key_and_takes_back(offered: Any) -> None:
    """--force claims without a key; `unclaim` frees the device, once."""
    assert "`Acme`" in offered.ok(*CLAIM, "--force")
    assert owner(offered) == "Acme"
    offered.ok("device", "unclaim", "d1")
    assert owner(offered) is None
    assert offered("device", "unclaim", "d1").exit_code == 1


def test_a_new_customer_is_told(offered: Any) -> None:
    """A name that was mistyped is seen; that of an organisation there is, is no news."""
    first = offered(*CLAIM, "--force")
    assert "note: organisation `Acme` is new" in first.stderr
    offered.ok("device", "unclaim", "d1")
    assert "note:" not in offered(*CLAIM, "--force").stderr


def test_force_takes_no_key(offered: Any) -> None:
    """A key beside --force is a usage error: it would not be looked at."""
    (offered.folder / "key").write_text(KEY)
    assert offered(*CLAIM, "--force", "--key-file", "key").exit_code == 2


# ── credentials ───────────────────────────────────────────────────────────────────────────────

ROTATE = ("device", "rotate", "d1")


@pytest.fixture
def one(shell: Any) -> Any:
    shell.ok("device", "add", "d1")
    return shell


def credentials(shell: Any) -> dict[str, str]:
    found: dict[str, str] = shell.json("device", "show", "d1", "--reveal")["credentials"]
    return found


def test_a_new_token_replaces_the_old_one(one: Any) -> None:
    """The device has another token then, which only --reveal shows."""
    before = credentials(one)
    hidden = one(*ROTATE)
    after = credentials(one)

    assert hidden.exit_code == 0
    assert after["token"] != before["token"]
    assert after["token"] not in hidden.output
    assert one.json(*ROTATE, "--reveal") == credentials(one)


def test_credentials_are_written_where_only_one_can_read_them(one: Any) -> None:
    """--output makes a new file of mode 0600, and never overwrites one."""
    told = one(*ROTATE, "--output", "d1.json")
    file = one.folder / "d1.json"
    assert told.exit_code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == credentials(one)
    assert credentials(one)["token"] not in told.output

    before = credentials(one)
    assert one(*ROTATE, "--output", "d1.json").exit_code == 1
    assert credentials(one) == before


def test_a_user_name_and_password_may_be_chosen(one: Any) -> None:
    """--mqtt-basic takes what is given and makes the rest."""
    (one.folder / "pw").write_text("my-password\n")
    one.ok(*ROTATE, "--mqtt-basic", "--username", "u1", "--password-file", "pw")
    assert credentials(one) == {
        "type": "MQTT_BASIC",
        "client_id": "",
        "username": "u1",
        "password": "my-password",
    }
    one.ok(*ROTATE, "--mqtt-basic", "--client-id", "c1")
    made = credentials(one)
    assert made["client_id"] == "c1"
    assert len(made["username"]) == len(made["password"]) == 20


def test_a_token_of_ones_own_must_be_free(one: Any) -> None:
    """Another device's token is refused, and the device keeps what it has."""
    one.ok("device", "add", "d2")
    other = one.json("device", "show", "d2", "--reveal")["credentials"]["token"]
    (one.folder / "token").write_text(other)
    before = credentials(one)

    taken = one(*ROTATE, "--token-file", "token")
    assert taken.exit_code == 1
    assert other not in taken.output
    assert credentials(one) == before

    (one.folder / "token").write_text("my-own-token\n")
    one.ok(*ROTATE, "--token-file", "token")
    assert credentials(one)["token"] == "my-own-token"


@pytest.mark.parametrize(
    ("args", "content"),
    [
        (("--username", "u"), ""),
        (("--mqtt-basic", "--token-file", "file"), "t"),
        (("--token-file", "file"), ""),
        (("--token-file", "file"), "a\x01b"),
        (("--token-file", "missing"), ""),
    ],
)
def test_what_are_no_credentials_is_told(one: Any, args: tuple[str, ...], content: str) -> None:
    """A wrong combination or an unusable token changes nothing."""
    (one.folder / "file").write_text(content)
    before = credentials(one)
    assert one(*ROTATE, *args).exit_code == 2
    assert credentials(one) == before


def test_without_anybody_to_ask_the_claim_says_what_to_do(offered: Any) -> None:
    """An empty standard input is no key, and the offer stands for the next attempt."""
    result = offered(*CLAIM, input="")
    assert result.exit_code == 2
    assert "--key-file" in result.stderr
    assert offered(*CLAIM, input=f"{KEY}\n").exit_code == 0
