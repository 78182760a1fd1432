"""`gatehouse secret`: several pairs for a profile, from a shell."""

from __future__ import annotations

import asyncio
import csv
import io
import stat
from typing import Any

from gateway.clock import now_ms
from gateway.core.fleet_secrets import derived_key
from gateway.core.model import Peer, ProvisionKey, ProvisionRequest, Secret, Wire
from gateway.core.provisioning import Provisioner
from gateway.core.tokens import new_token

OPEN = 'provision_type = "ALLOW_CREATE_NEW_DEVICES"\n'
DAY_MS = 86_400_000


def listed(shell: Any, *args: str) -> dict[str, Any]:
    return {one["label"]: one for one in shell.json("secret", "list", *args)}


def test_a_pair_is_added_and_shown(shell: Any) -> None:
    """Its bounds are told; key and secret only with --reveal; `profile show` names the labels."""
    told = shell.ok(
        *("secret", "add", "demo", "b", "--max-uses", "5", "--expires", "2099-01-31"),
        *("--network", "10.0.0.0/8", "--network", "2001:db8::/32"),
    )
    assert "added secret `b` to profile `demo`" in told
    shown = shell.json("secret", "show", "b")
    assert "secret" not in shown
    assert (shown["state"], shown["max_uses"], shown["uses"]) == ("open", 5, 0)
    assert shown["networks"] == ["10.0.0.0/8", "2001:db8::/32"]
    pair = shell.json("secret", "show", "b", "--reveal")
    text = told + shell.ok("secret", "show", "b") + shell.ok("secret", "list")
    assert len(pair["key"]) == len(pair["secret"]) == 20
    assert pair["key"] not in text
    assert pair["secret"] not in text
    assert pair["secret"] in shell.ok("secret", "show", "b", "--reveal")
    assert shell.json("profile", "show", "demo")["secrets"] == ["default", "b"]
    assert "default, b" in shell.ok("profile", "show", "demo")
    assert [*listed(shell)] == ["default", "b"]


def test_a_pair_of_ones_own(shell: Any) -> None:
    """From the environment, never from the command line; what is no pair is said to be none."""
    given = {"KEY": "key-of-line-0003", "PASS": "secret-of-line-0003"}
    fields = ("secret", "add", "demo", "own", "--key-env", "KEY", "--secret-env", "PASS")
    told = shell.json(*fields, "--reveal", **given)
    assert (told["key"], told["secret"]) == (given["KEY"], given["PASS"])
    again = shell("secret", "add", "demo", "other", "--key-env", "KEY", **given)
    assert again.exit_code == 1
    assert "already another secret's" in again.output
    assert given["KEY"] not in again.output
    for arguments, told_so in (
        (("own",), "has a secret called own already"),
        (("two words",), "a label is"),
        (("default",), "choose another"),
        (("n", "--network", "10.0.0.1/8"), "10.0.0.0/8"),
        (("n", "--expires", "2001-01-01"), "in the future"),
        (("n", "--derived", "--secret-env", "PASS"), "openssl rand -base64 32"),
        (("n", "--secret-env", "NOWHERE"), "is not set"),
        (("n", "--secret-env", "PASS", "--ask"), "choose one of"),
        (("n", "--ask"), "nobody is there to ask"),
    ):
        result = shell("secret", "add", "demo", *arguments, **given)
        assert result.exit_code in (1, 2), arguments
        assert told_so in f"{result.output}{result.exception}"
    assert [*listed(shell)] == ["default", "own"]


def test_which_secret_is_meant(shell: Any) -> None:
    """A label that several profiles have wants --profile; a wrong one gets the nearest."""
    (shell.folder / "profiles" / "other.toml").write_text(OPEN)
    for profile in ("demo", "other"):
        shell.ok("secret", "add", profile, "line")
    result = shell("secret", "show", "line")
    assert result.exit_code == 1
    assert "several profiles have a secret `line`: `demo`, `other`" in result.output
    assert shell.json("secret", "show", "line", "--profile", "other")["profile"] == "other"
    assert "Did you mean `line`?" in shell("secret", "revoke", "lime", "--yes").output
    assert {one["profile"] for one in shell.json("secret", "list", "demo")} == {"demo"}


def test_a_life_of_a_secret(shell: Any) -> None:
    """Rotated with an overlap, bounded, revoked; what cannot be undone asks first."""
    shell.ok("secret", "add", "demo", "b")
    told = shell.json("secret", "rotate", "b", "--overlap", "14d")
    assert told["new"]["label"] == "b-2"
    assert "secret" not in told["new"]
    assert told["old"]["expires_at"] - told["new"]["created_at"] == 14 * DAY_MS
    shell.ok("secret", "add", "demo", "line-3")  # here the number is part of the name
    for old, new in (("line-3", "line-3-2"), ("line-3-2", "line-3-3"), ("b-2", "b-3")):
        assert shell.json("secret", "rotate", old)["new"]["label"] == new
    for label in ("line-3", "line-3-2", "line-3-3", "b-3"):
        shell.ok("secret", "revoke", label, "--yes")
    assert "`b-2` no more" in shell.ok(
        "secret", "rotate", "b-2", "--overlap", "0", "--label", "third"
    )
    shell.ok("secret", "bound", "third", "--expires", "2099-01-31")
    ended = shell("secret", "rotate", "third", "--label", "fourth").stderr
    assert "`fourth` has none: `gatehouse secret bound`" in ended
    shell.ok("secret", "revoke", "fourth", "--yes")
    shell.ok("secret", "bound", "third", "--max-uses", "3")
    assert listed(shell)["third"]["max_uses"] == 3
    shell.ok("secret", "bound", "third")
    assert listed(shell)["third"]["max_uses"] is None
    assert shell("secret", "revoke", "third").exit_code == 2  # nobody is there to ask
    assert "revoked secret `third`" in shell.ok("secret", "revoke", "third", "--yes")
    rotated = ("default", "b", "b-2", "third")
    states = {label: listed(shell)[label]["state"] for label in rotated}
    assert states == {"default": "open", "b": "open", "b-2": "expired", "third": "revoked"}
    assert shell("secret", "revoke", "third", "--yes").exit_code == 1
    assert shell("secret", "release", "b").exit_code == 1


async def bear(shell: Any, number: int, *names: str) -> None:
    """Devices come with the secret of that number."""
    async with shell.inside() as inside:
        ticket = await inside.store.fleet_ticket(number)
        assert ticket is not None
        provisioner = Provisioner(
            inside.store, clock=now_ms, new_token=new_token, readable=lambda _: True
        )
        for name in names:
            await provisioner.provision(
                ProvisionRequest(
                    proof=ProvisionKey(ticket.key, ticket.secret),
                    peer=Peer(Wire.HTTP, "192.0.2.1:5"),
                    device_name=name,
                )
            )


def test_blast_radius_and_quarantine(shell: Any) -> None:
    """What a secret bore is counted and listed, suspended and let in again."""
    shell.ok("secret", "add", "demo", "b")
    asyncio.run(bear(shell, listed(shell)["b"]["number"], "d1", "d2", "d3"))
    radius = shell.json("secret", "blast-radius", "b", "--limit", "2")
    assert (radius["count"], [one["device"] for one in radius["devices"]]) == (3, ["d1", "d2"])
    after = str(radius["devices"][-1]["device_id"])
    text = shell.ok("secret", "blast-radius", "b", "--after", after)
    assert "3 devices were let in by `b`" in text
    assert "d3" in text
    assert "d2" not in text
    later = shell.json("secret", "blast-radius", "b", "--since", "2099-01-01")
    assert (later["count"], later["devices"]) == (0, [])
    assert shell("secret", "quarantine", "b").exit_code == 2  # nobody is there to ask
    assert shell.json("secret", "quarantine", "b", "--yes")["suspended"] == 3
    assert "suspended" in shell.ok("secret", "blast-radius", "b")
    assert "in quarantine" in shell.ok("secret", "list")
    assert "It is suspended: the fleet secret `b` that bore it" in shell.ok("explain", "d1")
    assert "b, which is in quarantine" in shell.ok("device", "show", "d1")
    assert "3 devices are let in again" in shell.ok("secret", "release", "b")
    assert "suspended" not in shell.ok("explain", "d1").partition("\n\n")[0]
    told = shell.json("device", "show", "d1")
    assert (told["secret"], told["suspended"]) == ("b", False)


def test_keys_are_derived(shell: Any) -> None:
    """As CSV, as JSON, and into a file that only its owner can read."""
    shell.ok("secret", "add", "demo", "group", "--derived")
    group = Secret(shell.json("secret", "show", "group", "--reveal")["secret"])

    def key(name: str) -> str:
        return derived_key(group, name).reveal()

    rows = list(csv.reader(io.StringIO(shell.ok("secret", "derive", "group", "m-1", "a,b"))))
    assert rows == [["name", "key"], ["m-1", key("m-1")], ["a,b", key("a,b")]]
    assert shell.json("secret", "derive", "group", "m-1") == [{"name": "m-1", "key": key("m-1")}]
    names = shell.folder / "names.csv"
    names.write_text("serial;name\n1;m-1\n2;\n3;Zähler 1\n")
    out = shell.folder / "keys.csv"
    shell.ok("secret", "derive", "group", "--from", str(names), "--out", str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    written = list(csv.reader(io.StringIO(out.read_text())))
    assert written == [["name", "key"], ["m-1", key("m-1")], ["Zähler 1", key("Zähler 1")]]
    names.write_text("m-1\nm-2\n")
    assert shell.ok("secret", "derive", "group", "--from", str(names)).count("\n") == 3


def test_what_cannot_be_derived(shell: Any) -> None:
    """No half of a file stays, and the sentence says where it is wrong."""
    shell.ok("secret", "add", "demo", "group", "--derived")
    names, out = shell.folder / "names.csv", shell.folder / "keys.csv"
    names.write_text("name\nfine\n<b>{{x}}\n")
    wrong = shell("secret", "derive", "group", "--from", str(names), "--out", str(out))
    assert wrong.exit_code == 1
    assert "row 3" in wrong.output
    assert not out.exists()
    out.write_text("somebody's")
    taken = shell("secret", "derive", "group", "x", "--out", str(out))
    assert (taken.exit_code, out.read_text()) == (1, "somebody's")
    assert "is shared by all" in shell("secret", "derive", "default", "x").output
    assert shell("secret", "derive", "group").exit_code == 2
