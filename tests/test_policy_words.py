"""A policy in the words of a profile file is the same policy when it is read again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import ConfigError
from gateway.core.model import (
    PLAIN_POLICY,
    Admission,
    AnswerMembers,
    BirthSettings,
    HookRule,
    OnFailure,
    Policy,
    Reprovisioning,
    WithoutNonce,
)
from gateway.policy_proofs import ms_of, seconds_of
from gateway.policy_words import PolicyWords, lasting, moment, policy_settings
from gateway.profile_policies import read_policy
from gateway.toml_lines import TomlFile

TIMES = st.none() | st.integers(0, 4_000_000_000_000)
COUNTS = st.none() | st.integers(1, 2**31 - 1)
NAMES = st.text("abcDEF-09", min_size=1, max_size=8)
SCALARS = st.booleans() | st.integers(-(2**53), 2**53) | NAMES


def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=3).map(tuple)


def _in_order(admission: Admission) -> bool:
    opens_at, closes_at = admission.opens_at, admission.closes_at
    return opens_at is None or closes_at is None or opens_at < closes_at


ADMISSIONS = st.builds(
    Admission,
    allow=some("WM-*", "^a", "x?"),
    deny=some("*-test", "^b$"),
    allow_list=st.booleans(),
    networks=some("10.0.0.0/8", "2001:db8::/32"),
    opens_at=TIMES,
    closes_at=TIMES,
    hours=some("07:00-19:00", "Mon-Fri 22:00-06:00 Europe/Berlin"),
    max_devices=COUNTS,
    max_devices_in_organisation=COUNTS,
    approval=st.booleans(),
    approval_backoff_s=st.integers(1, 86_400),
).filter(_in_order)
BIRTHS = st.builds(
    BirthSettings,
    shared=st.dictionaries(NAMES, SCALARS, max_size=2),
    server=st.dictionaries(NAMES, SCALARS, max_size=2),
    customer=st.just("") | NAMES,
    groups=some("one", "two"),
    label=st.just("") | NAMES,
    expires_after_s=st.none() | st.integers(1, 3650 * 86_400),
)
ANSWERS = st.builds(
    AnswerMembers,
    device_id=st.booleans(),
    server_time=st.booleans(),
    servers=st.dictionaries(NAMES, NAMES, max_size=2),
)
BEFORE = st.builds(
    HookRule,
    url=st.just("https://erp.example/x"),
    secret_env=st.just("HOOK_SECRET"),
    deadline_ms=st.integers(50, 8000),
    on_failure=st.sampled_from(OnFailure),
)
AFTER = st.builds(
    HookRule,
    url=st.just("https://erp.example/y"),
    secret_env=st.just("HOOK_SECRET"),
    events=some("device:provision", "device:remove"),
)
POLICIES = st.builds(
    Policy,
    retry_window_s=st.integers(0, 7 * 86_400),
    retry_without_nonce=st.sampled_from(WithoutNonce),
    reprovisioning=st.sampled_from(Reprovisioning),
    reprovisioning_limit=st.sampled_from(["", "3:86400", "1:60"]),
    detailed_refusals=st.booleans(),
    admission=ADMISSIONS,
    newborn=BIRTHS,
    answer=ANSWERS,
    before=st.none() | BEFORE,
    after=st.none() | AFTER,
)


def through_json(settings: dict[str, Any]) -> Any:
    return json.loads(json.dumps(settings))


@settings(max_examples=60, deadline=None)
@given(POLICIES)
def test_what_is_written_is_read_again(policy: Policy) -> None:
    """As a file, and as REST has it: whole, and as a change of any other."""
    settings = through_json(policy_settings(policy))
    assert read_policy(TomlFile("p.toml", "", settings), settings) == policy
    words = PolicyWords()
    assert words.read(settings, PLAIN_POLICY) == policy
    assert words.read({}, policy) == policy
    plain = words.read(dict.fromkeys(settings), policy)
    assert plain is PLAIN_POLICY


def test_a_plain_policy_says_nothing() -> None:
    assert policy_settings(Policy()) == policy_settings(PLAIN_POLICY) == {}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999_999_999), st.integers(0, 4_000_000_000_000))
def test_times_are_written_exactly(seconds: int, at: int) -> None:
    assert seconds_of(lasting(seconds)) == seconds
    assert ms_of(moment(at)) == at


def test_a_wrong_item_of_a_list_is_named() -> None:
    """Which one is wrong, and why; a list of patterns is not told that it is a list."""
    hours = ["Mon-Fri 07:00-19:00", "Sat 26:00-27:00"]
    with pytest.raises(ConfigError) as caught:
        PolicyWords().read({"admission": {"hours": hours}}, PLAIN_POLICY)
    wrong = 'hours must be a list of days and hours: "Sat 26:00-27:00": 26:00 is no time of day.'
    assert wrong in str(caught.value)
    with pytest.raises(ConfigError, match=r'hours must be a list of days and hours, is "Sat"\.'):
        PolicyWords().read({"admission": {"hours": "Sat"}}, PLAIN_POLICY)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"birth": {"shared": {"a": 2**63}}}, "a: a whole number has at most 64 bits"),
        ({"birth": {"server": {"a": -(2**63) - 1}}}, "a: a whole number has at most 64 bits"),
        ({"birth": {"shared": {"a": float("nan")}}}, "a: a number must be finite"),
        ({"birth": {"shared": {"a": float("-inf")}}}, "a: a number must be finite"),
        ({"birth": {"shared": {" ": 1}}}, "a key has 1 to 255 characters"),
        ({"birth": {"shared": {"k" * 256: 1}}}, "a key has 1 to 255 characters"),
        ({"birth": {"shared": {"a": "x" * 65_537}}}, "a: at most 65536 characters"),
        ({"birth": {"label": "a\0"}}, "it has control characters"),
        ({"birth": {"firmware": "a\n 1"}}, "it has control characters"),
        ({"birth": {"groups": ["g" * 256]}}, "at most 255 characters"),
        ({"answer": {"servers": {"": "x"}}}, "a wire has 1 to 64 characters"),
        ({"answer": {"servers": {"mqtt": "a\r\nb"}}}, "control characters"),
        ({"answer": {"servers": dict.fromkeys("abcdefghijklmnopqrstu", "x")}}, "at most 20"),
        ({"admission": {"opens_at": "0001-01-01T00:00:00+23:59"}}, "1970 to 9999"),
        ({"admission": {"closes_at": "9999-12-31T23:59:59.9999-00:01"}}, "1970 to 9999"),
        ({"admission": {"opens_at": "9" * 9999}}, "that is no time"),
        ({"hooks": {"after": {"events": ["x" * 9999]}}}, "no such kind of event"),
        ({"hooks": {"before": {"url": "http://a:65536/"}}}, "host or port cannot be read"),
        ({"hooks": {"before": {"url": "http://[::1/"}}}, "host or port cannot be read"),
        ({"hooks": {"before": {"url": "https:///x"}}}, "host or port cannot be read"),
        ({"hooks": {"b\n" * 999: {}}}, "[hooks] has no `b"),
    ],
)
def test_what_could_not_be_used_at_a_birth_is_not_saved(table: dict[str, Any], said: str) -> None:
    """What the store, a clock or a hook's caller could not take is refused in a short sentence."""
    with pytest.raises(ConfigError) as caught:
        PolicyWords().read(table, PLAIN_POLICY)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_the_last_moment_that_is_taken_can_be_written_again() -> None:
    last = "9999-12-31T23:59:59.999000Z"
    assert ms_of(moment(ms_of(last))) == ms_of(last)
