"""Long polls and observations as outlets: what comes at an odd moment is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import AttributesChange, RpcCall
from gateway.core.sessions import Cause
from gateway.dialects.thingsboard.watches import NOTHING_CAME, Called, Poll, joined, poll_timeout_s

CALL = RpcCall(device_id=1, method="m")


def test_a_poll_waits_a_minute_unless_it_says_otherwise() -> None:
    """0 and nothing are 60 s; what is longer than 300 s is cut (section 11)."""
    for text, seconds in (("0", 60), ("1500", 1.5), ("300000", 300), ("999999999", 300)):
        assert poll_timeout_s({"timeout": text}) == seconds
    assert poll_timeout_s({}) == 60


async def test_a_poll_takes_one_thing() -> None:
    """What comes second is somebody else's: a call is offered elsewhere then."""
    poll = Poll()
    assert poll.call(7, CALL, lambda: None)
    assert not poll.call(8, CALL, lambda: None)
    poll.attributes_changed(AttributesChange({"a": 1}))
    poll.end(Cause.REMOVED)
    came = await poll.wait(1)
    assert isinstance(came, Called)
    assert came.request_id == 7


async def test_what_comes_at_the_very_end_of_a_poll_is_not_lost() -> None:
    """The time is over in the same turn of the loop in which a call was taken."""
    poll = Poll()
    waiting = asyncio.create_task(poll.wait(0.01))
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    taken: list[bool] = []

    def late() -> None:
        while loop.time() < begun + 0.02:
            pass
        taken.append(poll.call(7, CALL, lambda: None))

    begun = loop.time()
    loop.call_soon(late)
    came = await waiting
    assert taken == [True]
    assert isinstance(came, Called)


async def test_a_poll_whose_time_is_over_takes_nothing() -> None:
    """A call is not given to who does not listen any more."""
    poll = Poll()
    assert await poll.wait(0) is NOTHING_CAME
    assert not poll.call(7, CALL, lambda: None)


KEYS = st.sampled_from(["a", "b", "c"])


@st.composite
def changes(draw: st.DrawFn) -> AttributesChange:
    values = draw(st.dictionaries(KEYS, st.integers(0, 9)))
    deleted = draw(st.lists(KEYS, unique=True))
    return AttributesChange(values, tuple(key for key in deleted if key not in values))


def applied(state: Mapping[str, object], change: AttributesChange) -> dict[str, object]:
    left = {key: value for key, value in state.items() if key not in change.deleted}
    return {**left, **change.values}


@settings(deadline=None, max_examples=80)
@given(st.dictionaries(KEYS, st.integers(0, 9)), changes(), changes())
def test_joined_changes_leave_a_device_where_both_would(
    state: dict[str, int], older: AttributesChange, newer: AttributesChange
) -> None:
    """Whatever was set, deleted and set again in between."""
    one = joined(older, newer)
    assert applied(state, one) == applied(applied(state, older), newer)
    assert not set(one.values) & set(one.deleted)
