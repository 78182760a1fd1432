"""Before-hooks: what is asked, what counts as an answer, and what a failure stands for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.hooking import (
    MOST_ATTRIBUTES,
    MOST_GROUPS,
    BeforeHooks,
    Denied,
    question,
    read_answer,
)
from gateway.core.model import (
    Amendment,
    DeviceProfile,
    HookRule,
    HookTrouble,
    Json,
    OnFailure,
    Peer,
    Policy,
    ProvisionKey,
    ProvisionRequest,
    RefusalReason,
    Refused,
    RequestedCredentials,
    Secret,
    Wire,
)
from gateway.core.names import is_device_name

RULE = HookRule(url="http://h/", secret_env="S", deadline_ms=200)
WORDS = ("key-0001", "secret-0001", "nonce-0001", "old-0001", "claim-0001", "tok-0001", "csr-0001")
REQUEST = ProvisionRequest(
    proof=ProvisionKey(Secret("key-0001"), Secret("secret-0001")),
    peer=Peer(Wire.COAP, "192.0.2.7:5683"),
    device_name=" WM-1 ",
    hardware=Json('{"serial":"S1"}'),
    nonce=Secret("nonce-0001"),
    old_credential=Secret("old-0001"),
    claim_code=Secret("claim-0001"),
    credentials=RequestedCredentials(token=Secret("tok-0001"), csr="csr-0001"),
)


class Told:
    """A hook in memory: gives what it is set to."""

    def __init__(self, answer: object = None) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.hold: asyncio.Event | None = None

    async def ask(
        self, rule: HookRule, body: bytes, *, deadline_s: float, delivery: str
    ) -> object | HookTrouble:
        self.asked.append(json.loads(body))
        if self.hold is not None:
            await self.hold.wait()
        return self.answer

    async def tell(self, rule: HookRule, body: bytes, **_: Any) -> HookTrouble | None:
        raise AssertionError("a before-hook is asked")


def profile(rule: HookRule = RULE, **fields: Any) -> DeviceProfile:
    fields = {"id": 7, "name": "meters", "source": "meters.toml", **fields}
    return DeviceProfile(policy=Policy(before=rule), **fields)


@pytest.fixture
def hook() -> Told:
    return Told({"decision": "allow"})


@pytest.fixture
def hooks(hook: Told, clock: Any, tokens: Any) -> BeforeHooks:
    return BeforeHooks(hook, clock, tokens)


def test_the_question_tells_of_the_device_and_holds_no_secret() -> None:
    body = question(profile(), REQUEST, 5, "n-1")
    asked = json.loads(body)
    assert asked["event"] == "before_birth"
    assert (asked["id"], asked["at"], asked["profile"]) == ("n-1", 5, "meters")
    assert (asked["deviceName"], asked["hardware"]) == ("WM-1", {"serial": "S1"})
    assert (asked["wire"], asked["address"]) == ("coap", "192.0.2.7:5683")
    assert asked["credentialsType"] == "ACCESS_TOKEN"
    assert asked["signingRequest"] is True
    assert not [word for word in WORDS if word in body.decode()]


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        (None, None),
        ({"decision": "allow"}, None),
        ({"decision": "allow", "deviceName": None, "attributes": {}, "groups": []}, None),
        ({"decision": "deny"}, Denied("")),
        ({"decision": "deny", "reason": " no\nroom "}, Denied("no?room")),
        ({"decision": "deny", "reason": "x" * 500}, Denied("x" * 200)),
        ({"decision": "deny", "reason": 7}, Denied("")),
        ({"decision": "allow", "deviceName": " B "}, Amendment(name="B")),
        ({"decision": "allow", "group": "g"}, Amendment(groups=("g",))),
        ({"decision": "allow", "groups": ["a", "b", "a"]}, Amendment(groups=("a", "b"))),
        (
            {"decision": "allow", "attributes": {"a": 1, "b": True, "c": 1.5, "d": "x"}},
            Amendment(attributes={"a": 1, "b": True, "c": 1.5, "d": "x"}),
        ),
    ],
)
def test_an_answer_allows_denies_or_amends(answer: object, read: object) -> None:
    assert read_answer(answer) == read


@pytest.mark.parametrize(
    "answer",
    [
        7,
        [],
        "allow",
        {},
        {"decision": "ALLOW"},
        {"decision": True},
        {"decision": "allow", "deviceName": ""},
        {"decision": "allow", "deviceName": "x" * 256},
        {"decision": "allow", "deviceName": "<b>x</b>"},
        {"decision": "allow", "deviceName": 7},
        {"decision": "allow", "attributes": [1]},
        {"decision": "allow", "attributes": {"a": {}}},
        {"decision": "allow", "attributes": {"a": None}},
        {"decision": "allow", "attributes": {"a": 2**63}},
        {"decision": "allow", "attributes": {"a": float("nan")}},
        {"decision": "allow", "attributes": {"": 1}},
        {"decision": "allow", "attributes": {str(n): n for n in range(MOST_ATTRIBUTES + 1)}},
        {"decision": "allow", "groups": [7]},
        {"decision": "allow", "groups": {"a": 1}},
        {"decision": "allow", "groups": ["a\x00"]},
        {"decision": "allow", "groups": [str(n) for n in range(MOST_GROUPS + 1)]},
    ],
)
def test_what_is_no_answer_is_a_failure(answer: object) -> None:
    with pytest.raises(ValueError):
        read_answer(answer)


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {"decision": st.sampled_from(["allow", "deny", "x"])},
        optional=dict.fromkeys(("reason", "deviceName", "attributes", "group", "groups"), _ANY),
    )
)
def test_whatever_a_hook_answers_is_bounded_or_refused(answer: dict[str, Any]) -> None:
    """An amendment always has a good name, plain attributes and names of groups."""
    try:
        read = read_answer(answer)
    except ValueError:
        return
    if isinstance(read, Denied):
        assert read.said.isprintable()
        assert len(read.said) <= 200
    elif read is not None:
        assert read.name is None or is_device_name(read.name)
        assert all(isinstance(one, bool | int | float | str) for one in read.attributes.values())
        assert len(read.groups) <= MOST_GROUPS


async def test_a_yes_gives_the_request_itself_and_a_no_its_words(
    hooks: BeforeHooks, hook: Told
) -> None:
    assert await hooks.ask(profile(), REQUEST) is REQUEST
    hook.answer = {"decision": "deny", "reason": "not paid"}
    refused = await hooks.ask(profile(), REQUEST)
    assert refused == Refused(RefusalReason.DENIED_BY_HOOK, said="not paid")
    hook.answer = {"decision": "allow", "deviceName": "B"}
    amended = await hooks.ask(profile(), REQUEST)
    assert isinstance(amended, ProvisionRequest)
    assert amended.amended == Amendment(name="B")
    assert msgspec.structs.replace(amended, amended=None) == REQUEST


@pytest.mark.parametrize("answer", [HookTrouble("down"), {"decision": "maybe"}, 7])
async def test_a_failure_is_what_the_profile_says(
    hooks: BeforeHooks, hook: Told, answer: object
) -> None:
    """Closed: refused, with a time to come again. Open: as if it had said yes."""
    hook.answer = answer
    closed = await hooks.ask(profile(), REQUEST)
    assert isinstance(closed, Refused)
    assert closed.reason is RefusalReason.HOOK_FAILED
    assert closed.retry_after_s > 0
    open_rule = msgspec.structs.replace(RULE, on_failure=OnFailure.ALLOW)
    assert await hooks.ask(profile(open_rule, id=8), REQUEST) is REQUEST


async def test_a_hook_that_fails_is_left_alone_and_then_tried_once(
    hook: Told, clock: Any, tokens: Any
) -> None:
    """Five calls, no more for ten seconds; one that answers closes it. Other profiles go on."""
    counts: Any = Counter()
    hooks = BeforeHooks(hook, clock, tokens, outcomes=counts)
    hook.answer = HookTrouble("down")
    for _ in range(8):
        refused = await hooks.ask(profile(), REQUEST)
    assert len(hook.asked) == 5
    assert isinstance(refused, Refused)
    assert refused.retry_after_s == 10
    hook.answer = {"decision": "allow"}
    assert await hooks.ask(profile(id=8), REQUEST) is REQUEST
    assert isinstance(await hooks.ask(profile(), REQUEST), Refused)
    clock.now += 10_000
    assert await hooks.ask(profile(), REQUEST) is REQUEST
    assert counts == {("before", "failed_denied"): 9, ("before", "allow"): 2}


async def test_a_changed_hook_begins_anew(hooks: BeforeHooks, hook: Told) -> None:
    hook.answer = HookTrouble("down")
    for _ in range(5):
        await hooks.ask(profile(), REQUEST)
    hook.answer = {"decision": "allow"}
    other = msgspec.structs.replace(RULE, url="http://other/")
    assert await hooks.ask(profile(other), REQUEST) is REQUEST


async def test_calls_are_bounded_and_those_that_wait_too_long_fail(
    hooks: BeforeHooks, hook: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six, two are under way, two wait in vain, two fail at once; the hook is not blamed."""
    monkeypatch.setattr("gateway.core.hooking.MOST_AT_ONCE", 2)
    monkeypatch.setattr("gateway.core.hooking.MOST_WAITING", 2)
    hook.hold = asyncio.Event()
    asked = [asyncio.create_task(hooks.ask(profile(), REQUEST)) for _ in range(6)]
    done, under_way = await asyncio.wait(asked, timeout=1)
    assert (len(done), len(under_way), len(hook.asked)) == (4, 2, 2)
    assert all(isinstance(one.result(), Refused) for one in done)
    hook.hold.set()
    assert [await one for one in under_way] == [REQUEST, REQUEST]
    assert await hooks.ask(profile(), REQUEST) is REQUEST


async def test_a_device_that_goes_away_leaves_no_place_taken(
    hooks: BeforeHooks, hook: Told, clock: Any
) -> None:
    """Also when it was the one that tried whether the hook is back."""
    hook.answer = HookTrouble("down")
    for _ in range(5):
        await hooks.ask(profile(), REQUEST)
    clock.now += 10_000
    hook.hold = asyncio.Event()
    gone = asyncio.create_task(hooks.ask(profile(), REQUEST))
    await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.wait([gone])
    hook.hold.set()
    hook.answer = {"decision": "allow"}
    assert await hooks.ask(profile(), REQUEST) is REQUEST


async def test_python_code_is_named_by_files_alone(hooks: BeforeHooks, hook: Told) -> None:
    """A profile that was saved from afar must not run what it names."""
    rule = HookRule(entry_point="rules:before")
    refused = await hooks.ask(profile(rule, source=None), REQUEST)
    assert isinstance(refused, Refused)
    assert refused.reason is RefusalReason.HOOK_FAILED
    assert hook.asked == []
    assert await hooks.ask(profile(rule, id=9), REQUEST) is REQUEST
