"""Which publish waits for which, without a socket."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transports.mqtt.decoder import Decoder
from gateway.transports.mqtt.outbox import Outbox
from gateway.transports.mqtt.packets import Publish
from gateway.transports.mqtt.steps import Step, Terms


def sent(step: Step, version: int) -> list[Publish]:
    decoder = Decoder(version=version, client=True)
    decoder.feed(step.data)
    return [packet for packet in decoder if isinstance(packet, Publish)]


def counted(told: list[str], name: str) -> Callable[[], None]:
    return lambda: told.append(name)


@pytest.mark.parametrize("version", [3, 4, 5])
def test_who_waits_is_told_once(version: int) -> None:
    """`delivered` comes with the PUBACK of exactly that publish, and with no second one."""
    told: list[str] = []
    box = Outbox(version, Terms())
    first = box.add(b"a", b"1", 1, counted(told, "first"))
    second = box.add(b"a", b"2", 1, counted(told, "second"))
    assert first is not None
    assert second is not None
    assert first.delivered is None
    (packet,) = sent(second, version)
    for _ in range(2):
        step = box.acknowledged(packet.packet_id)
        if step.delivered is not None:
            step.delivered()
    assert told == ["second"]
    assert box.acknowledged(9999) == Step()


def test_quality_0_is_delivered_when_it_is_sent() -> None:
    """Nothing comes back for QoS 0, so `delivered` goes with the sending."""
    told: list[str] = []
    step = Outbox(5, Terms()).add(b"a", b"1", 0, counted(told, "x"))
    assert step is not None
    assert step.delivered is not None
    assert sent(step, 5) == [Publish("a", b"1")]


@pytest.mark.parametrize("version", [4, 5])
def test_unacknowledged_publishes_are_bounded(version: int) -> None:
    """Waited-for publishes reach `max_unacked`; MQTT 5 then holds `max_inflight` more; then no."""
    box = Outbox(version, Terms(max_unacked=3, max_inflight=2))
    steps = [box.add(b"a", b"x", 1, lambda: None) for _ in range(6)]
    given_ = [None if step is None else len(sent(step, version)) for step in steps]
    assert given_ == ([1, 1, 1, 0, 0, None] if version == 5 else [1, 1, 1, None, None, None])


def test_an_older_client_is_not_held_to_what_nobody_waits_for() -> None:
    """Up to 3.1.1 answers go out however many are unacknowledged, and nothing is kept of them."""
    box = Outbox(4, Terms(max_unacked=1))
    for _ in range(1000):
        step = box.add(b"a", b"x", 1, None)
        assert step is not None
        assert len(sent(step, 4)) == 1
    assert box._unacked is None


def test_held_bytes_are_bounded() -> None:
    """One publish may always wait; more only as long as they are small enough together."""
    box = Outbox(5, Terms(max_held=100), takes=1)
    assert box.add(b"a", b"x", 1, None) is not None
    assert box.add(b"a", bytes(1000), 1, None) == Step()
    assert box.add(b"a", b"x", 1, None) is None
    assert len(sent(box.acknowledged(1), 5)) == 1
    for _ in range(10):
        assert box.add(b"a", bytes(9), 1, None) == Step()
    assert box.add(b"a", b"", 1, None) is None


@settings(deadline=None, max_examples=60)
@given(
    takes=st.integers(1, 5),
    waited=st.lists(st.booleans(), max_size=40),
    acks=st.lists(st.integers(0, 40), max_size=60),
)
def test_nothing_is_lost_reordered_or_over_the_limit(
    takes: int, waited: list[bool], acks: list[int]
) -> None:
    """MQTT 5: never more than Receive Maximum unacknowledged, all in order, each told once."""
    told: list[str] = []
    box = Outbox(5, Terms(max_inflight=100), takes)
    out: list[Publish] = []
    open_ids: list[int] = []

    def take(step: Step | None) -> None:
        assert step is not None
        out.extend(sent(step, 5))
        open_ids.extend(packet.packet_id for packet in sent(step, 5))
        assert len(open_ids) <= takes
        assert len(set(open_ids)) == len(open_ids)
        if step.delivered is not None:
            step.delivered()

    def acknowledge(number: int) -> None:
        take(box.acknowledged(open_ids.pop(number % len(open_ids))))

    for number, wait in enumerate(waited):
        take(box.add(b"a", str(number).encode(), 1, counted(told, str(number)) if wait else None))
        if acks and open_ids:
            acknowledge(acks.pop())
    while open_ids:
        acknowledge(0)
    assert [packet.payload for packet in out] == [str(n).encode() for n in range(len(waited))]
    assert sorted(told, key=int) == [str(n) for n, wait in enumerate(waited) if wait]
    assert box._unacked is None
    assert box._held is None
    assert box._held_bytes == 0
