"""Hooks of profiles, reached: a real web service on loopback, and functions of this process."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.core.model import HookRule, HookTrouble, Secret
from gateway.sinks.hooks import HookCaller
from gateway.sinks.signing import signed

SECRET = "a-secret-of-both-sides"
ENVIRON = {"BIRTH_SECRET": SECRET, "SHORT": "short", "GATEHOUSE_MASTER_KEY": "0" * 64}
NOW_S = 1_790_000_000
BODY = b'{"event":"before_birth","deviceName":"d"}'


@asynccontextmanager
async def service(handle: Any) -> AsyncIterator[str]:
    """A web service of the operator's; its address."""
    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/hook?key=hush"
    await runner.cleanup()


@pytest.fixture
async def caller() -> AsyncIterator[HookCaller]:
    made = HookCaller(ENVIRON, lambda: NOW_S * 1000)
    yield made
    await made.close()


def rule(url: str, secret_env: str = "BIRTH_SECRET") -> HookRule:
    return HookRule(url=url, secret_env=secret_env)


async def asked(caller: HookCaller, handle: Any, *, deadline_s: float = 2.0) -> object:
    async with service(handle) as url:
        return await caller.ask(rule(url), BODY, deadline_s=deadline_s, delivery="n-1")


def answering(body: bytes, status: int = 200, **headers: str) -> Any:
    async def handle(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return handle


def test_the_signature_is_the_one_that_others_compute() -> None:
    """Known answer, computed with OpenSSL: `printf '12.{}' | openssl dgst -sha256 -hmac …`."""
    headers = signed(Secret("0123456789abcdef"), b"{}", 12)
    digest = "f051a19593197922319f9643937715ca37db8d8195e085e441f7765f4a5c5359"
    assert headers == {"X-Gatehouse-Timestamp": "12", "X-Gatehouse-Signature": f"v1={digest}"}


async def test_a_call_is_signed_over_the_time_and_the_very_bytes(caller: HookCaller) -> None:
    """A receiver that knows the secret computes the same; the secret itself is not sent."""
    seen: list[tuple[Any, bytes]] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        seen.append((request, await request.read()))
        return web.json_response({"decision": "allow"})

    assert await asked(caller, handle) == {"decision": "allow"}
    [(request, body)] = seen
    assert (request.method, body) == ("POST", BODY)
    stamp = request.headers["X-Gatehouse-Timestamp"]
    assert int(stamp) == NOW_S
    digest = hmac.digest(SECRET.encode(), stamp.encode() + b"." + body, hashlib.sha256).hex()
    assert request.headers["X-Gatehouse-Signature"] == f"v1={digest}"
    assert request.headers["X-Gatehouse-Delivery"] == "n-1"
    assert request.headers["Content-Type"] == "application/json"
    assert SECRET not in str(request.headers)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 200, "its answer is no JSON"),
        (b"no", 200, "its answer is no JSON"),
        (b"\xff", 200, "its answer is no JSON"),
        (b"[" * 5000, 200, "its answer is no JSON"),
        (b"null", 200, "the answer is no object"),
        (b'"' + b"x" * 65_536 + b'"', 200, "its answer is longer than 65536 bytes"),
        (b'{"decision":"allow"}', 500, "it answered with status 500"),
        (b'{"decision":"allow"}', 302, "it answered with status 302"),
        (b'{"decision":"allow"}', 404, "it answered with status 404"),
    ],
)
async def test_what_is_no_answer_is_trouble(
    caller: HookCaller, body: bytes, status: int, reason: str
) -> None:
    """Redirects are not followed, and long answers not read to their end."""
    answer = await asked(caller, answering(body, status, Location="/elsewhere"))
    assert answer == HookTrouble(reason)


async def test_an_answer_that_trickles_ends_at_the_deadline(caller: HookCaller) -> None:
    """The deadline is of the whole call, however busy the other side is."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    began = time.perf_counter()
    answer = await asked(caller, handle, deadline_s=0.3)
    assert answer == HookTrouble("no answer within 300 ms")
    assert time.perf_counter() - began < 2


async def test_a_service_that_is_not_there_is_trouble_without_its_address(
    caller: HookCaller,
) -> None:
    trouble = await caller.tell(
        rule("http://127.0.0.1:9/?key=hush"), BODY, deadline_s=1, delivery="n"
    )
    assert trouble is not None
    assert "hush" not in trouble.reason
    assert "127.0.0.1" not in trouble.reason


@pytest.mark.parametrize("name", ["ABSENT", "SHORT", "GATEHOUSE_MASTER_KEY", ""])
async def test_without_a_good_secret_nothing_is_sent(caller: HookCaller, name: str) -> None:
    """Absent, too short, or one that is for other purposes: told at the start, and at the call."""
    called: list[int] = []

    async def handle(_request: web.BaseRequest) -> web.Response:
        called.append(1)
        return web.json_response({"decision": "allow"})

    async with service(handle) as url:
        asked_of = rule(url, name)
        answer = await caller.ask(asked_of, BODY, deadline_s=1, delivery="n")
        assert isinstance(answer, HookTrouble)
        assert name in answer.reason
        assert await caller.prove(asked_of) == answer
        assert await caller.prove(rule(url)) is None
    assert called == []


async def test_what_it_is_told_is_taken_with_any_success(caller: HookCaller) -> None:
    """204, or a page: who is told need not answer in JSON."""
    for status, body in ((204, b""), (200, b"<html>")):
        async with service(answering(body, status)) as url:
            assert await caller.tell(rule(url), BODY, deadline_s=1, delivery="n") is None


# ── functions ─────────────────────────────────────────────────────────────────────────────────

FUNCTIONS = """
import asyncio, sys, threading, time

def plain(told):
    told["deviceName"] = told["deviceName"].upper()
    return {"decision": "allow", "deviceName": told["deviceName"], "thread": threading.get_ident()}

async def waiting(told):
    await asyncio.sleep(0)
    return {"decision": "deny", "reason": told["deviceName"]}

def silent(told):
    return None

def breaks(told):
    raise KeyError("hush")

async def leaves(told):
    sys.exit(3)

def slow(told):
    time.sleep(1)

async def stubborn(told):
    while True:
        try:
            await asyncio.sleep(0.5)
            return None
        except asyncio.CancelledError:
            pass

def makes_a_coroutine(told):
    return waiting(told)

class Odd(dict):
    def get(self, key, default=None):
        raise RuntimeError("hush")
    def __len__(self):
        raise RuntimeError("hush")

def odd(told):
    return Odd(decision="allow", deviceName="renamed")

def circle(told):
    told["decision"] = "allow"
    told["attributes"] = told
    return told

def strange(told):
    return {"decision": "allow", "attributes": {"a": object()}}

def much(told):
    return {"decision": "deny", "reason": "x" * 100_000}

def long_number(told):
    return {"decision": "allow", "attributes": {"a": 10**5000}}

class Unbound:
    # A proxy of what is not there, as web frameworks have them.
    @property
    def __class__(self):
        raise RuntimeError("hush")
    def __getattr__(self, name):
        raise SystemExit
    def __call__(self, told):
        return self

unbound = Unbound()

def gives_a_proxy(told):
    return unbound

number = 7
"""
GUARDED = """
def __getattr__(name):
    raise RuntimeError("hush")
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the operator's."""
    (tmp_path / "hook_rules.py").write_text(FUNCTIONS)
    (tmp_path / "hook_broken.py").write_text("import no_such_module_anywhere")
    (tmp_path / "hook_leaves.py").write_text("import sys; sys.exit(3)")
    (tmp_path / "hook_guarded.py").write_text(GUARDED)
    (tmp_path / "hook_hangs.py").write_text("import time; time.sleep(1.5)\ndef f(told): ...")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("hook_rules", "hook_broken", "hook_leaves", "hook_guarded", "hook_hangs"):
        sys.modules.pop(name, None)


async def called(caller: HookCaller, name: str, deadline_s: float = 2.0) -> Any:
    by_name = HookRule(entry_point=name)
    return await caller.ask(by_name, BODY, deadline_s=deadline_s, delivery="n")


async def test_functions_decide_in_a_thread_or_in_the_loop(
    functions: None, caller: HookCaller
) -> None:
    """A plain one must not hold up the loop; both get the same dict and give the same answers."""
    answer = await called(caller, "hook_rules:plain")
    assert answer.pop("thread") != threading.get_ident()
    assert answer == {"decision": "allow", "deviceName": "D"}
    assert await called(caller, "hook_rules:waiting") == {"decision": "deny", "reason": "d"}
    assert await called(caller, "hook_rules:silent") is None
    rule = HookRule(entry_point="hook_rules:silent")
    assert await caller.tell(rule, BODY, deadline_s=1, delivery="n") is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hook_rules:breaks", "it raised KeyError"),
        ("hook_rules:leaves", "it raised SystemExit"),
        ("hook_rules:slow", "no answer within 100 ms"),
        ("hook_rules:stubborn", "no answer within 100 ms"),
        ("hook_rules:makes_a_coroutine", "it returned a coroutine: define it with `async def`"),
        ("hook_rules:number", "hook_rules has no function number"),
        ("hook_rules:absent", "hook_rules has no function absent"),
        ("hook_rules:circle", "it returned what is no JSON"),
        ("hook_rules:strange", "it returned what is no JSON"),
        ("hook_rules:long_number", "it returned what is no JSON"),
        ("hook_rules:much", "it returned more than 65536 bytes"),
        ("hook_rules:gives_a_proxy", "it raised RuntimeError"),
        ("hook_rules:unbound", "hook_rules cannot be imported (RuntimeError)"),
        ("hook_guarded:f", "hook_guarded cannot be imported (RuntimeError)"),
        ("hook_leaves:f", "hook_leaves cannot be imported (SystemExit)"),
        ("hook_broken:f", "hook_broken cannot be imported (ModuleNotFoundError)"),
        ("no_such_package.hooks:f", "no_such_package.hooks cannot be imported"),
    ],
)
async def test_a_function_that_fails_is_trouble_and_hurts_nobody(
    functions: None, caller: HookCaller, name: str, reason: str
) -> None:
    """It raises, leaves, takes too long, is none; what it said of a device is not repeated."""
    await caller.prove(HookRule(entry_point=name))
    answer = await called(caller, name, 0.1 if "no answer" in reason else 10)
    assert isinstance(answer, HookTrouble)
    assert answer.reason.startswith(reason)
    assert await called(caller, "hook_rules:silent") is None


async def test_a_function_is_proven_when_its_profile_is_loaded(
    functions: None, caller: HookCaller, tmp_path: Path
) -> None:
    """What was wrong and is mended since is found at the next load."""
    late = HookRule(entry_point="hook_late:f")
    assert await caller.prove(HookRule(entry_point="hook_rules:plain")) is None
    assert await caller.prove(late) is not None
    (tmp_path / "hook_late.py").write_text("def f(told): return {'decision': 'allow'}")
    assert await caller.prove(late) is None
    assert await called(caller, "hook_late:f") == {"decision": "allow"}
    sys.modules.pop("hook_late")


async def test_functions_that_hang_are_bounded(
    functions: None, caller: HookCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads are taken; a third call fails at once, until one is free again."""
    monkeypatch.setattr("gateway.sinks.function_hook.MOST_THREADS", 2)
    answers = await asyncio.gather(*(called(caller, "hook_rules:slow", 0.2) for _ in range(3)))
    reasons = sorted(one.reason for one in answers)
    assert reasons == ["no answer within 200 ms"] * 2 + [
        "too many calls of functions are under way"
    ]
    async with asyncio.timeout(10):
        while await called(caller, "hook_rules:silent") is not None:
            await asyncio.sleep(0.05)


async def test_what_a_function_returns_is_taken_as_json(
    functions: None, caller: HookCaller
) -> None:
    """No method of the operator's objects is called where devices are decided about."""
    answer = await called(caller, "hook_rules:odd")
    assert type(answer) is dict
    assert answer == {"decision": "allow", "deviceName": "renamed"}


async def test_a_module_that_hangs_takes_one_thread_and_ends(
    functions: None, caller: HookCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many devices come; a start says so and goes on, and later it is there."""
    monkeypatch.setattr("gateway.sinks.function_hook.LOAD_S", 0.1)
    hangs, before = "hook_hangs:f", threading.active_count()
    trouble = await caller.prove(HookRule(entry_point=hangs))
    assert trouble == HookTrouble("hook_hangs was not imported within 0.1 s")
    answers = await asyncio.gather(*(called(caller, hangs, 0.1) for _ in range(8)))
    assert set(answers) == {HookTrouble("no answer within 100 ms")}
    assert threading.active_count() == before + 1
    assert await called(caller, hangs, 5) is None
