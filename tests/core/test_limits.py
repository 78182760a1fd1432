"""How often something may happen, and how much a device may send."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.limits import (
    UNLIMITED,
    Allowance,
    Bucket,
    Counted,
    Limits,
    Rate,
    RateLimiter,
    Scope,
    limits_of,
    parse_rate,
)
from gateway.core.model import Device

NOW = 1_790_000_000_000


def bucket(text):
    rate = parse_rate(text)
    assert rate is not None
    return Bucket(rate)


def limits(**texts):
    return limits_of(texts, UNLIMITED)


def make_device(number=1, *, gateway=False, organisation_id=1):
    return Device(
        id=number,
        uuid=f"uuid-{number}",
        name=f"d{number}",
        type="t",
        profile_id=1,
        credentials_row=number,
        gateway=gateway,
        organisation_id=organisation_id,
    )


# ── allowances ────────────────────────────────────────────────────────────────────────────────


def test_a_burst_then_a_rate():
    """Three at once, then one each half second; what was missed is counted once."""
    allowance = Allowance(3, 2)
    assert [allowance.take(1000) for _ in range(5)] == [True, True, True, False, False]
    assert allowance.forget_missed() == 2
    assert allowance.forget_missed() == 0
    assert not allowance.take(1499)
    assert allowance.take(1500)
    assert not allowance.take(1501)


def test_a_rate_may_be_a_fraction():
    """A quarter a second is one every four seconds."""
    allowance = Allowance(1, 0.25)
    assert [allowance.take(now) for now in (0, 3999, 4000, 7999, 8000)] == [
        True,
        False,
        True,
        False,
        True,
    ]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(min_value=0, max_value=60_000), min_size=1), st.integers(1, 20))
def test_never_more_than_promised(times, at_once):
    """Over any span no more happens than the burst and the rate allow."""
    allowance = Allowance(at_once, 5)
    times.sort()
    taken = [now for now in times if allowance.take(now)]
    for begin in range(len(taken)):
        for end in range(begin, len(taken)):
            span = taken[end] - taken[begin]
            assert end - begin + 1 <= at_once + span / 200 + 1


# ── rates as text ─────────────────────────────────────────────────────────────────────────────


def test_a_rate_is_read():
    """Pairs of capacity and seconds, spaces allowed; empty text is unlimited."""
    assert parse_rate(" 10:1, 300 : 60 ") == Rate("10:1, 300 : 60", ((10, 1000), (300, 60_000)))
    assert parse_rate("") is None
    assert parse_rate("  ") is None


@pytest.mark.parametrize(
    "text",
    [
        *("10", "10:", ":1", "0:1", "1:0", "-1:1", "1.5:1", "1:1,", "a:b", "1:1:1", "١:1", "1;1"),
        *("1234567890:1", "1:1,1:1,1:1,1:1,1:1,1:1"),
    ],
)
def test_bad_text_is_no_rate(text):
    """What is not positive whole numbers in at most five pairs is refused with a sentence."""
    with pytest.raises(ValueError, match=r"capacity.*seconds"):
        parse_rate(text)


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="0123456789:, -x", max_size=20))
def test_any_text_is_a_rate_or_a_value_error(text):
    """Reading a rate ends in a rate, in nothing, or in a ValueError."""
    try:
        rate = parse_rate(text)
    except ValueError:
        return
    assert (rate is None) == (not text.strip())
    assert rate is None or all(least > 0 for pair in rate.windows for least in pair)


def test_a_profile_stands_above_what_is_configured():
    """What a profile names replaces the fallback, an empty text lifts it, the rest stays."""
    fallback = limits(messages="1:1", telemetry_points="2:1")
    assert limits_of({}, fallback) is fallback
    mixed = limits_of({"messages": "5:1", "telemetry_points": ""}, fallback)
    assert mixed == Limits(messages=parse_rate("5:1"))
    assert limits_of({"messages": "", "telemetry_points": ""}, fallback) is UNLIMITED


@pytest.mark.parametrize("texts", [{"messages": "x"}, {"speed": "1:1"}, {"messages": 5}])
def test_a_bad_limit_is_named(texts):
    """The error begins with the key that is wrong."""
    with pytest.raises(ValueError, match=f"^{next(iter(texts))}: "):
        limits_of(texts, UNLIMITED)


# ── buckets ───────────────────────────────────────────────────────────────────────────────────


class Model:
    """Token buckets with greedy refill, in exact fractions, as one would write them down."""

    def __init__(self, windows):
        self.windows = windows
        self.tokens = [Fraction(capacity) for capacity, _ in windows]
        self.then = 0

    def take(self, tokens, now):
        for place, (capacity, period) in enumerate(self.windows):
            grown = self.tokens[place] + Fraction((now - self.then) * capacity, period)
            self.tokens[place] = min(Fraction(capacity), grown)
        self.then = now
        if any(have < tokens for have in self.tokens):
            return False
        self.tokens = [have - tokens for have in self.tokens]
        return True


PAIRS = st.tuples(st.integers(1, 12), st.integers(1, 7))
STEPS = st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 14)), max_size=40)


@settings(deadline=None, max_examples=80)
@given(st.lists(PAIRS, min_size=1, max_size=3), STEPS)
def test_a_bucket_is_a_token_bucket(pairs, steps):
    """Take by take a bucket decides as token buckets with greedy refill do."""
    rate = parse_rate(",".join(f"{capacity}:{seconds}" for capacity, seconds in pairs))
    assert rate is not None
    tried, model, now = Bucket(rate), Model(rate.windows), 0
    for later, tokens in steps:
        now += later
        assert (tried.take(tokens, now) == 0) == model.take(tokens, now)


@settings(deadline=None, max_examples=80)
@given(st.lists(PAIRS, min_size=1, max_size=3), STEPS)
def test_the_wait_is_exact(pairs, steps):
    """After the wait it is there, and not a millisecond earlier; waiting takes nothing."""
    tried = bucket(",".join(f"{capacity}:{seconds}" for capacity, seconds in pairs))
    least = min(capacity for capacity, _ in pairs)
    now = NOW
    for later, tokens in steps:
        now += later
        wait = tried.take(tokens, now)
        if tokens > least:
            assert wait >= 1000
        elif wait:
            assert tried.wait(tokens, now + wait - 1) == 1
            assert tried.wait(tokens, now + wait) == 0


def test_windows_are_taken_together_or_not_at_all():
    """What the long window refuses has not been taken from the short one."""
    tried = bucket("2:1,3:60")
    assert [tried.take(1, NOW) for _ in range(2)] == [0, 0]
    assert tried.take(1, NOW + 1000) == 0
    assert tried.take(1, NOW + 1000) == 19_000
    assert tried.take(1, NOW + 20_000) == 0
    assert tried.take(1, NOW + 20_000) == 20_000


def test_more_than_the_capacity_never_passes():
    """It is refused from a full bucket, takes nothing, and is told to wait a second or more."""
    tried = bucket("5:10")
    assert tried.take(6, NOW) == 1000
    assert tried.take(5, NOW) == 0
    assert tried.take(6, NOW) == 10_000


def test_a_clock_set_back_does_not_close_a_bucket():
    """After an hour's step back the bucket fills again within its own time."""
    tried = bucket("10:1")
    assert tried.take(10, NOW) == 0
    earlier = NOW - 3_600_000
    assert tried.take(1, earlier) == 100
    assert tried.take(1, earlier + 100) == 0
    assert tried.full(earlier + 1200)


# ── who takes from what ───────────────────────────────────────────────────────────────────────


def test_nothing_is_limited_by_default():
    """Without limits everything passes and nobody is remembered."""
    limiter = RateLimiter(device=Limits())
    assert all(limiter.take(make_device(), 10**9, NOW) is None for _ in range(100))
    assert not limiter._devices._known


def test_data_points_have_counters_of_their_own():
    """Telemetry takes one telemetry message and its points, anything else one message."""
    limiter = RateLimiter(
        device=limits(messages="1:60", telemetry_messages="3:60", telemetry_points="10:60")
    )
    device = make_device()
    assert limiter.take(device, None, NOW) is None
    limited = limiter.take(device, None, NOW)
    assert limited is not None
    assert (limited.scope, limited.what) == (Scope.DEVICE, Counted.MESSAGES)
    assert (limited.wait_ms, limited.retry_after_s) == (60_000, 60)
    assert limiter.take(device, 9, NOW) is None
    limited = limiter.take(device, 2, NOW)
    assert limited is not None
    assert limited.what is Counted.TELEMETRY_POINTS
    assert limiter.take(device, 1, NOW) is None
    assert limiter.take(device, 0, NOW) is None
    limited = limiter.take(device, 0, NOW)
    assert limited is not None
    assert limited.what is Counted.TELEMETRY_MESSAGES
    assert limiter.take(make_device(2), 10, NOW) is None


def test_an_organisation_is_limited_as_a_whole():
    """Its devices share a counter; another organisation has its own."""
    limiter = RateLimiter(organisation=limits(messages="2:60"))
    assert limiter.take(make_device(1), None, NOW) is None
    assert limiter.take(make_device(2), None, NOW) is None
    limited = limiter.take(make_device(3), None, NOW)
    assert limited is not None
    assert limited.scope is Scope.ORGANISATION
    assert limiter.take(make_device(4, organisation_id=2), None, NOW) is None


def test_a_gateway_and_its_devices_are_counted_apart():
    """A gateway's own traffic, the sum of its devices, and each of them have their limits."""
    limiter = RateLimiter(
        device=limits(messages="2:60"),
        gateway=limits(messages="1:60"),
        gateway_devices=limits(messages="3:60"),
    )
    gateway = make_device(9, gateway=True)
    children = [make_device(number) for number in (1, 2, 3)]
    assert limiter.take(gateway, None, NOW) is None
    limited = limiter.take(gateway, None, NOW)
    assert limited is not None
    assert limited.scope is Scope.GATEWAY
    assert limiter.take(children[0], None, NOW, gateway=gateway) is None
    assert limiter.take(children[0], None, NOW, gateway=gateway) is None
    limited = limiter.take(children[0], None, NOW, gateway=gateway)
    assert limited is not None
    assert limited.scope is Scope.DEVICE
    assert limiter.take(children[1], None, NOW, gateway=gateway) is None
    limited = limiter.take(children[2], None, NOW, gateway=gateway)
    assert limited is not None
    assert limited.scope is Scope.GATEWAY_DEVICES
    assert limiter.take(children[2], None, NOW) is None


def test_what_is_refused_is_counted_nowhere():
    """A message one counter refuses leaves the others as they were; the longest wait is told."""
    limiter = RateLimiter(
        organisation=limits(telemetry_messages="2:60", telemetry_points="4:600"),
        device=limits(telemetry_points="3:60"),
    )
    device = make_device()
    for _ in range(9):
        limited = limiter.take(device, 4, NOW)
        assert limited is not None
        assert limited.scope is Scope.DEVICE
    assert limiter.take(device, 3, NOW) is None
    limited = limiter.take(device, 3, NOW)
    assert limited is not None
    assert (limited.scope, limited.wait_ms) == (Scope.ORGANISATION, 300_000)
    assert limiter.take(make_device(2), 1, NOW) is None


def test_own_limits_stand_above_the_configured_ones():
    """A profile's limits hold instead, also where they are none; a change begins anew."""
    limiter = RateLimiter(device=limits(messages="1:60"), gateway=limits(messages="2:60"))
    device = make_device()
    own = limiter.own_limits({"messages": "3:60"}, gateway=False)
    assert [limiter.take(device, None, NOW, own=own) for _ in range(3)] == [None] * 3
    same = limiter.own_limits({"messages": "3:60"}, gateway=False)
    assert limiter.take(device, None, NOW, own=same) is not None
    lifted = limiter.own_limits({"messages": ""}, gateway=False)
    assert [limiter.take(device, None, NOW, own=lifted) for _ in range(5)] == [None] * 5
    assert limiter.take(device, None, NOW) is None
    assert limiter.take(device, None, NOW) is not None
    assert limiter.own_limits({}, gateway=True) == limits(messages="2:60")


def test_what_is_full_again_is_forgotten():
    """Devices that have been silent for long leave no trace, those that lack tokens stay."""
    limiter = RateLimiter(device=limits(messages="5:10"))
    for number in range(1, 101):
        limiter.take(make_device(number), None, NOW)
    assert len(limiter._devices) == 100
    for number in range(101, 201):
        limiter.take(make_device(number), None, NOW + 60_000)
    assert len(limiter._devices) == 100


def test_a_table_is_bounded():
    """Beyond the bound the one heard of least recently begins anew."""
    limiter = RateLimiter(device=limits(messages="1:600"), most=3)
    for number in (1, 2, 3):
        assert limiter.take(make_device(number), None, NOW) is None
    assert limiter.take(make_device(1), None, NOW) is not None
    assert limiter.take(make_device(4), None, NOW) is None
    assert len(limiter._devices) == 3
    assert limiter.take(make_device(1), None, NOW) is not None
    assert limiter.take(make_device(2), None, NOW) is None
