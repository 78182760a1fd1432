"""Devices that are let in once more from the command line."""

from __future__ import annotations

import re
from typing import Any

import pytest

AGAIN = 'provision_type = "ALLOW_CREATE_NEW_DEVICES"\nreprovisioning = "{}"\n'
CODE = r"[2-9A-HJKMNP-TV-Z]{4}(-[2-9A-HJKMNP-TV-Z]{4}){2}"


@pytest.fixture
def again(server: Any) -> Any:
    """Beside a server whose profile lets devices ask for other credentials."""
    profile = server.shell.folder / "profiles" / "again.toml"
    profile.write_text(AGAIN.format("same_identity_new_credential"))
    return server


def test_a_device_that_lost_its_credentials_gets_others(again: Any) -> None:
    """By the operator's word, once; by a claim code, which is shown once and never in an event."""
    shell = again.shell
    shell.ok("profile", "list")  # loads the new file
    ask = ("provision", "--profile", "again", "--device-name", "v1", "--url", again.url("http"))
    first = shell.json(*ask)["credentialsValue"]
    assert shell(*ask).exit_code == 1
    told = shell.ok("device", "rearm", "v1", "--hours", "2")
    assert told == "re-armed 1 device; each may ask for other credentials once, within 2 h\n"
    second = shell.json(*ask)["credentialsValue"]
    assert second != first
    assert shell(*ask).exit_code == 1
    result = shell("device", "rearm", "v1", "--code")
    assert re.fullmatch(CODE, result.stdout.strip()), result.stdout
    assert "shown this once" in result.stderr
    (plain,) = shell.json("device", "rearm", "v1", "--code")
    assert re.fullmatch(CODE, plain.pop("claim_code"))
    assert plain == {"device": "v1", "rearmed": True, "gets": "other credentials"}
    told = shell.ok("explain", "v1")
    assert "It was given other credentials" in told
    assert result.stdout.strip() not in shell.ok("device", "events", "v1", "--json")
    with_code = shell("device", "rearm", "v1", "--hours", "0")
    assert with_code.exit_code == 2


def test_a_code_is_refused_where_it_has_no_meaning(shell: Any) -> None:
    """For a device that waits, or whose profile never gives others; nothing is done then."""
    (shell.folder / "profiles" / "again.toml").write_text(AGAIN.format("reset"))
    shell.ok("device", "add", "--profile", "demo", "d1")
    shell.ok("device", "add", "--profile", "again", "w1")
    for name in ("d1", "w1"):
        result = shell("device", "rearm", name, "--code")
        assert result.exit_code == 2
        assert "claim code is of no use" in result.stderr
    assert "device:rearm" not in shell.ok("device", "events", "w1")
    assert shell.json("device", "rearm", "w1")[0]["gets"] == "the same credentials"
