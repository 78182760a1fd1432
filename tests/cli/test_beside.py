"""Commands beside a running gateway, on its SQLite file: it heeds them at once."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

GATED = 'provision_type = "ALLOW_CREATE_NEW_DEVICES"\n[admission]\napproval = true\n'


@pytest.fixture
def ask(server: Any) -> Any:
    """The status a device is answered, and its token, if any, that asks with a profile's pair."""

    def make(profile: str, name: str, label: str = "default") -> tuple[str, str]:
        show = ("secret", "show", label, "--profile", profile, "--reveal")
        pair = server.shell.json(*show)
        body = {"provisionDeviceKey": pair["key"], "provisionDeviceSecret": pair["secret"]}
        sent = json.dumps({**body, "deviceName": name}).encode()
        with urlopen(f"{server.url('http')}/api/v1/provision", sent, 10) as reply:
            answer = json.load(reply)
        return answer["status"], answer.get("credentialsValue", "")

    return make


def test_fleet_secrets_change_under_a_running_gateway(server: Any, ask: Any) -> None:
    """One that is added admits; in quarantine neither it nor what it bore; one that is released
    does again, one that was bounded as often as it may, one that was revoked nobody."""
    shell = server.shell
    shell.ok("secret", "add", "demo", "line")

    def is_known(token: str) -> bool:
        try:
            urlopen(f"{server.url('http')}/api/v1/{token}/attributes?clientKeys=x", timeout=10)
        except HTTPError as exc:
            return exc.code != 401
        return True

    status, token = ask("demo", "b-1", "line")
    assert (status, is_known(token)) == ("SUCCESS", True)
    shell.ok("secret", "quarantine", "line", "--yes")
    assert ask("demo", "b-2", "line")[0] == "FAILURE"
    give_up = time.monotonic() + 5
    while is_known(token):  # whose notice is read twenty times a second
        assert time.monotonic() < give_up
    shell.ok("secret", "release", "line")
    assert (ask("demo", "b-2", "line")[0], is_known(token)) == ("SUCCESS", True)
    shell.ok("secret", "bound", "line", "--max-uses", "1")
    assert [ask("demo", f"b-{n}", "line")[0] for n in (3, 4)] == ["SUCCESS", "FAILURE"]
    shell.ok("secret", "bound", "line")
    assert ask("demo", "b-4", "line")[0] == "SUCCESS"
    shell.ok("secret", "revoke", "line", "--yes")
    assert (ask("demo", "b-5", "line")[0], is_known(token)) == ("FAILURE", True)


def test_the_queue_and_the_lists_change_under_a_running_gateway(server: Any, ask: Any) -> None:
    """Who was approved comes in when it asks the next time, who was denied does not; what is put
    on a list counts, and what is taken off it."""
    shell = server.shell
    (shell.folder / "profiles" / "gated.toml").write_text(GATED)
    shell.ok("profile", "list")  # loads the new file
    shell.ok("admission", "deny", "gated", "q-0")
    asked = [ask("gated", name)[0] for name in ("q-0", "q-1", "q-2", "q-3")]
    assert asked == ["FAILURE", "PENDING", "PENDING", "PENDING"]
    shell.ok("approve", "q-1", "q-3")
    shell.ok("deny", "q-2")
    shell.ok("admission", "deny", "gated", "q-3")
    asked = [ask("gated", name)[0] for name in ("q-1", "q-2", "q-3")]
    assert asked == ["SUCCESS", "FAILURE", "FAILURE"]
    shell.ok("admission", "remove", "gated", "q-3")
    assert ask("gated", "q-3")[0] == "SUCCESS"
    (shell.folder / "profiles" / "gated.toml").write_text(GATED.replace("approval", "allow_list"))
    shell.ok("profile", "list")
    shell.ok("admission", "allow", "gated", "q-4", "q-5")
    assert [ask("gated", name)[0] for name in ("q-4", "q-6")] == ["SUCCESS", "FAILURE"]
    shell.ok("admission", "remove", "gated", "q-5")
    assert ask("gated", "q-5")[0] == "FAILURE"
