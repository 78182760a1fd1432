"""A gateway and the receiver of the examples: hooks decide about births, and hear of them after."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from inside import Gate
from wires import WIRES, http, provision

from gateway.core.breaking import FIRST_MS
from gateway.core.model import (
    AttributeScope,
    DeviceProfile,
    HookRule,
    OnFailure,
    Policy,
    ProvisionType,
    Secret,
)
from gateway.core.registry import ProfileDraft

SECRET = "a-secret-of-both-sides"
RECEIVER = Path(__file__).parents[2] / "examples" / "hook_receiver.py"


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIRTH_HOOK_SECRET", SECRET)


async def save(gate: Gate, name: str, **policy: Any) -> None:
    """A profile whose devices come with `{name}-key-0001`."""
    gate.secrets[name] = f"{name}-secret-0001"
    profile = DeviceProfile(
        id=0,
        name=name,
        provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES,
        policy=Policy(**policy),
        source=f"{name}.toml",
    )
    pair = {"key": Secret(f"{name}-key-0001"), "secret": Secret(f"{name}-secret-0001")}
    await gate.registry.save_profile(ProfileDraft(profile=profile, **pair))


def at(url: str, **more: Any) -> HookRule:
    return HookRule(url=url, secret_env="BIRTH_HOOK_SECRET", **more)


async def ask(gate: Gate, name: str, profile: str, **more: Any) -> dict[str, Any]:
    body = json.dumps(gate.request(name, profile=profile, **more)).encode()
    async with http(gate.ports.http) as web:
        reply = await web.ask("POST", "/api/v1/provision", body)
    return {"httpStatus": reply.status, **json.loads(reply.body)}


async def until(holds: Callable[[], Awaitable[bool] | bool], within_s: float = 10) -> None:
    async with asyncio.timeout(within_s):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


# ── the receiver of the examples ──────────────────────────────────────────────────────────────


class Receiver:
    """The process, and what it printed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lines: list[str] = []

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines if line.startswith("{")]


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(RECEIVER), "--port", "0", "--allow", "WM-*"),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"BIRTH_HOOK_SECRET": SECRET},
    )
    assert process.stdout is not None
    first = (await process.stdout.readline()).decode()
    made = Receiver(first.split()[-1])

    async def listen() -> None:
        async for line in process.stdout:  # type: ignore[union-attr]
            made.lines.append(line.decode())

    listening = asyncio.create_task(listen())
    try:
        yield made
    finally:
        process.terminate()
        await process.wait()
        await listening


async def test_the_example_decides_amends_and_hears(gate: Gate) -> None:
    """On every wire its yes lets in, with attributes and a group, and its no does not; what was
    born is told to it once, and nothing it is told holds a secret."""
    async with receiver() as there:
        before, after = at(f"{there.url}/before"), at(f"{there.url}/after")
        await save(gate, "hooked", before=before, after=after)
        for wire in WIRES:
            asked = gate.request(f"WM-{wire}", profile="hooked", hardware={"batch": "B7"})
            answer = json.loads(await provision(gate.ports, wire, json.dumps(asked).encode()))
            assert answer["status"] == "SUCCESS", (wire, answer)
        assert (await ask(gate, "other", "hooked"))["status"] == "FAILURE"
        await until(lambda: len(there.events()) == len(WIRES))
    known = await gate.registry.device("WM-http")
    assert known is not None
    found = await gate.registry.attributes(known)
    assert [
        one.value for one in found if (one.scope, one.key) == (AttributeScope.SERVER, "batch")
    ] == ["B7"]
    told = {one["deviceName"]: one for one in there.events()}
    assert set(told) == {f"WM-{wire}" for wire in WIRES}
    assert told["WM-http"]["deviceId"] == known.device.uuid
    assert told["WM-http"]["event"] == "device:provision"
    text = "".join(there.lines)
    assert not [word for word in ("hooked-key", "hooked-secret", SECRET) if word in text]
    [refused] = [one for one in await gate.registry.last_events() if one.reason == "denied_by_hook"]
    assert refused.detail == {"said": "only WM-* may come"}
    counts = gate.gateway._hooks.outcomes
    assert counts["before", "amend"] == len(WIRES)
    assert counts["before", "deny"] == 1
    async with http(gate.ports.http) as connection:
        metrics = (await connection.ask("GET", "/metrics")).body.decode()
    assert 'gatehouse_hook_calls_total{hook="after",outcome="delivered"}' in metrics


async def test_the_example_refuses_what_is_forged_old_or_too_long() -> None:
    """Another secret, another body, another time: 401, and nothing is decided."""
    from urllib.parse import urlsplit

    async with receiver() as there:
        port = urlsplit(there.url).port
        assert port is not None
        import time

        body, now = b'{"profile":"p","deviceName":"WM-1","address":"a"}', int(time.time())

        async def status(stamp: str, digest: str, sent: bytes = body) -> int:
            head = (
                f"POST /before HTTP/1.1\r\nHost: h\r\nContent-Length: {len(sent)}\r\n"
                f"X-Gatehouse-Timestamp: {stamp}\r\nX-Gatehouse-Signature: {digest}\r\n"
                "Connection: close\r\n\r\n"
            )
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head.encode() + sent)
            line = await reader.readline()
            writer.close()
            return int(line.split()[1])

        def sign(stamp: int, secret: str = SECRET) -> str:
            message = str(stamp).encode() + b"." + body
            return "v1=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()

        assert await status(str(now), sign(now)) == 200
        assert await status(str(now), sign(now, "another-secret-of-16")) == 401
        assert await status(str(now - 3600), sign(now - 3600)) == 401
        assert await status(str(now + 1), sign(now)) == 401
        assert await status("x", sign(now)) == 401
        assert await status(str(now), sign(now), body[:-1] + b" ") == 401


# ── a receiver that misbehaves ────────────────────────────────────────────────────────────────


class Moody(BaseHTTPRequestHandler):
    """Answers as its server's mood is."""

    protocol_version = "HTTP/1.1"
    server: MoodyServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        mood = self.server
        mood.asked.append(json.loads(body))
        if mood.slow_s:
            mood.closing.wait(mood.slow_s)
        self.send_response(mood.status)
        answer = json.dumps(mood.answer).encode()
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None: ...


class MoodyServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Moody)
        self.asked: list[dict[str, Any]] = []
        self.status, self.slow_s = 200, 0.0
        self.answer: dict[str, Any] = {"decision": "allow"}
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, *_: object) -> None:
        """Whoever hung up does not matter here."""


@contextmanager
def moody() -> Iterator[MoodyServer]:
    with MoodyServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def mood() -> Iterator[MoodyServer]:
    with moody() as server:
        yield server


async def test_a_hook_that_is_slow_or_down_fails_as_the_profile_says(
    gate: Gate, mood: MoodyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed: FAILURE within the deadline, and after five the hook is left alone; when it answers
    again, devices come again. Open: they come all the while."""
    await save(gate, "closed", before=at(mood.url, deadline_ms=300))
    await save(gate, "open", before=at(mood.url, deadline_ms=300, on_failure=OnFailure.ALLOW))
    mood.slow_s = 1.0
    for number in range(3):
        late = await ask(gate, f"c{number}", "closed")
        assert (late["httpStatus"], late["status"]) == (503, "FAILURE")
        assert late["retryAfter"] > 0
    mood.slow_s, mood.status = 0.0, 500
    for number in range(3, 8):
        assert (await ask(gate, f"c{number}", "closed"))["status"] == "FAILURE"
    assert len(mood.asked) == 5
    assert (await ask(gate, "o1", "open"))["status"] == "SUCCESS"
    mood.status = 200
    assert (await ask(gate, "c9", "closed"))["status"] == "FAILURE"
    before = gate.gateway._hooks.before
    now = before._clock
    monkeypatch.setattr(before, "_clock", lambda: now() + FIRST_MS)
    assert (await ask(gate, "c9", "closed"))["status"] == "SUCCESS"
    assert await gate.registry.device("c0") is None


async def test_a_hook_renames_and_a_repeated_request_asks_it_once(
    gate: Gate, mood: MoodyServer
) -> None:
    """The name is the hook's; whoever repeats the request with its nonce gets the same, unasked."""
    await save(gate, "named", before=at(mood.url))
    mood.answer = {"decision": "allow", "deviceName": "plant-7", "group": "hall"}
    nonce = {"nonce": "n" * 32}
    first = await ask(gate, "raw", "named", **nonce)
    assert first["status"] == "SUCCESS"
    assert await gate.registry.device("plant-7") is not None
    assert await gate.registry.device("raw") is None
    mood.answer = {"decision": "deny"}
    assert await ask(gate, "raw", "named", **nonce) == first
    assert len(mood.asked) == 1
    assert "n" * 32 not in json.dumps(mood.asked)


async def test_a_profile_saved_while_running_is_followed_and_a_restart_loses_nothing(
    new_gate: Any, tmp_path: Path, mood: MoodyServer
) -> None:
    """Events that a stopped gateway had not told are told by the next one on its store."""
    from inside import serving

    mood.status = 503
    async with serving(tmp_path) as gate:
        await save(gate, "late", after=at(mood.url))
        for number in range(3):
            assert (await ask(gate, f"d{number}", "late"))["status"] == "SUCCESS"
        await until(lambda: bool(mood.asked))
    mood.asked.clear()
    mood.status = 200
    async with serving(tmp_path):
        await until(lambda: {one["deviceName"] for one in mood.asked} == {"d0", "d1", "d2"}, 15)
    assert len({one["seq"] for one in mood.asked}) == 3
