"""`gatehouse hook`: what hooks were not told is shown, told again or dropped; hooks are tried."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gateway.clock import now_ms
from gateway.core.after_hooks import MOST_ATTEMPTS, AfterHooks
from gateway.sinks.hooks import HookCaller
from gateway.store.sql_hooks import SqlHooks

SECRET = "a-secret-of-both-sides"
PROFILE = """
provision_type = "ALLOW_CREATE_NEW_DEVICES"

[hooks.before]
url = "{url}/before?key=hush"
secret_env = "BIRTH_HOOK_SECRET"

[hooks.after]
url = "{url}/after?key=hush"
secret_env = "BIRTH_HOOK_SECRET"
events = ["device:create", "device:update"]
"""


class Service(ThreadingHTTPServer):
    """A web service of the operator's: denies every `bad` device, and remembers what it heard."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.heard.append(told)
        answer: dict[str, Any] = {"decision": "allow", "deviceName": "renamed"}
        if told["deviceName"] == "bad":
            answer = {"decision": "deny", "reason": "not paid"}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def hooked(shell: Any, service: Service) -> Any:
    """A shell with a profile that has both hooks, and two devices its after-hook must hear of."""
    path = shell.folder / "profiles" / "hooked.toml"
    path.write_text(PROFILE.format(url=service.url))
    shell.ok("profile", "list")
    shell.ok("device", "add", "--profile", "hooked", "a", "b")
    return shell


def deliver(shell: Any, environ: dict[str, str], rounds: int = 1) -> None:
    """As a gateway does it; between two rounds all waits are over."""

    async def work() -> None:
        at = now_ms()
        caller = HookCaller(environ, now_ms)
        async with shell.inside() as inside:
            after = AfterHooks(SqlHooks(inside.store), caller, lambda: at)
            for _ in range(rounds):
                await after.look()
                await after.settle()
                at += 600_000
        await caller.close()

    asyncio.run(work())


def test_what_was_given_up_is_shown_replayed_and_dropped(hooked: Any, service: Service) -> None:
    """The address is shown without what follows the server, which may hold a secret."""
    deliver(hooked, {}, 1)
    [line] = hooked.json("hook", "list")
    assert (line["profile"], line["waiting"], line["dead"]) == ("hooked", 2, 0)
    assert line["last_failure"] == "the environment variable BIRTH_HOOK_SECRET is not set"
    assert line["before"] == {"place": service.url, "on_failure": "deny"}
    assert hooked.json("hook", "dead") == []
    deliver(hooked, {}, 4 * MOST_ATTEMPTS)
    found = hooked.json("hook", "dead", "hooked")
    assert {one["event"]["deviceName"] for one in found} == {"a", "b"}
    assert {one["attempts"] for one in found} == {MOST_ATTEMPTS}
    for told in (hooked.ok("hook", "list"), hooked.ok("hook", "dead")):
        assert "hooked" in told
        assert "hush" not in told
    assert "hook:dead" in hooked.ok("audit", "--kind", "hook:")
    assert "hook" in hooked.ok("explain", "a")

    assert hooked.json("hook", "replay", "--seq", str(found[0]["seq"])) == {"replayed": 1}
    assert hooked.json("hook", "replay", "hooked") == {"replayed": 1}
    assert service.heard == []
    deliver(hooked, {"BIRTH_HOOK_SECRET": SECRET}, 2)
    assert sorted(one["deviceName"] for one in service.heard) == ["a", "b"]
    assert hooked.json("hook", "replay", "--since", "2020-01-01") == {"replayed": 2}
    deliver(hooked, {"BIRTH_HOOK_SECRET": SECRET}, 2)
    assert len(service.heard) == 4
    assert hooked.json("hook", "replay", "--since", "2020-01-01") == {"replayed": 2}
    assert hooked("hook", "drop", "--waiting").exit_code == 2, "nobody is there to ask"
    assert hooked.json("hook", "drop", "--yes") == {"dropped": 0}
    assert hooked.json("hook", "drop", "hooked", "--waiting", "--yes") == {"dropped": 2}
    assert hooked.json("hook", "list")[0]["waiting"] == 0


def test_hooks_are_tried(hooked: Any, service: Service) -> None:
    """With what they answer; without the secret, or without a service, that is said: status 1."""
    told = hooked.json("hook", "test", "hooked", "--name", "bad", BIRTH_HOOK_SECRET=SECRET)
    assert [(one["hook"], one["told"]) for one in told] == [
        ("before", "denies: not paid"),
        ("after", "takes it"),
    ]
    assert [one["event"] for one in service.heard] == ["before_birth", "hook:test"]
    assert service.heard[0]["trial"] is True
    assert service.heard[0]["address"] == "127.0.0.1:0"
    assert "amends the name" in hooked.ok("hook", "test", "hooked", BIRTH_HOOK_SECRET=SECRET)
    without = hooked("hook", "test", "hooked")
    assert without.exit_code == 1
    assert "BIRTH_HOOK_SECRET is not set" in without.output


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("replay", "demo"), 1, "has no after-hook"),
        (("replay", "hooke"), 1, "Did you mean `hooked`?"),
        (("test", "demo"), 1, "has no hook"),
        (("replay", "--seq", "1", "--since", "2020-01-01"), 2, "not both"),
        (("replay", "--seq", "99999"), 1, "is none that the hook wants"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(
    hooked: Any, words: tuple[str, ...], status: int, told: str
) -> None:
    result = hooked("hook", *words)
    assert result.exit_code == status
    assert told in result.output


def test_without_hooks_the_list_says_how_to_name_one(shell: Any) -> None:
    shell.ok("profile", "list")
    result = shell("hook", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "[hooks.before]" in result.output
    assert shell.json("hook", "list") == []
