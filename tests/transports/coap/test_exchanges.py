"""Confirmable messages of ours: sent again when due, at little cost however many wait."""

from __future__ import annotations

from gateway.transports.coap.exchanges import MessageIds, Unacknowledged

HERE = ("192.0.2.7", 50123)


class Watcher:
    """A party that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def acknowledged(self) -> None:
        self.told.append("acknowledged")

    def lost(self) -> None:
        self.told.append("lost")


class Desk:
    """Messages, a hand-wound clock, and what was sent."""

    def __init__(self, most: int = 100_000) -> None:
        self.time = 0.0
        self.jitter = 0.0
        self.sent: list[tuple[bytes, tuple[object, ...]]] = []
        self.messages = Unacknowledged(
            lambda datagram, addr: self.sent.append((datagram, addr)),
            most=most,
            ack_timeout_s=2.0,
            max_retransmit=2,
            jitter=lambda: self.jitter,
            now=lambda: self.time,
        )

    def pass_time(self, seconds: float) -> list[bytes]:
        self.time += seconds
        before = len(self.sent)
        self.messages.tick(self.time)
        return [datagram for datagram, _ in self.sent[before:]]


def test_each_is_due_in_its_own_time() -> None:
    """Messages with different first waits are repeated each at its time, doubling."""
    desk = Desk()
    desk.jitter = 1.0
    desk.messages.send(1, b"late", HERE)
    desk.jitter = 0.0
    desk.messages.send(2, b"soon", HERE)
    assert desk.pass_time(2) == [b"soon"]
    assert desk.pass_time(1) == [b"late"]
    assert desk.pass_time(3) == [b"soon"]
    assert desk.pass_time(3) == [b"late"]


def test_the_party_is_told_once() -> None:
    """Acknowledged, reset or given up: each is told, once, and what came later is not."""
    desk = Desk()
    watchers = [Watcher() for _ in range(4)]
    for number, watcher in enumerate(watchers):
        desk.messages.send(number, b"%d" % number, HERE, watcher)
    assert desk.messages.settle(0, HERE)
    assert not desk.messages.settle(0, HERE)
    assert desk.messages.settle(1, HERE, reset=True)
    desk.messages.forget(2, HERE)
    for seconds in (2, 4, 8, 16):
        desk.pass_time(seconds)
    assert [watcher.told for watcher in watchers] == [["acknowledged"], ["lost"], [], ["lost"]]
    assert len(desk.messages) == 0


def test_of_too_many_the_oldest_is_lost() -> None:
    """Beyond the bound the oldest is given up, and its party hears of it."""
    desk = Desk(most=2)
    watchers = [Watcher() for _ in range(3)]
    for number, watcher in enumerate(watchers):
        desk.messages.send(number, b"%d" % number, HERE, watcher)
    assert [watcher.told for watcher in watchers] == [["lost"], [], []]
    assert desk.pass_time(2) == [b"1", b"2"]


def test_husks_do_not_pile_up() -> None:
    """A hundred thousand sent and settled within one wait leave a bounded number of husks."""
    desk = Desk()
    for number in range(100_000):
        desk.messages.send(number & 0xFFFF, b"x", HERE)
        desk.messages.settle(number & 0xFFFF, HERE)
    assert len(desk.messages._due) <= 4097
    assert desk.pass_time(100) == []
    assert desk.messages._due == []


def test_ids_avoid_what_waits() -> None:
    """An id of an unacknowledged message to a peer is not given again, and is to another peer."""
    desk = Desk()
    ids = MessageIds(desk.messages)
    first = ids.next(HERE)
    taken = first + 1 & 0xFFFF
    desk.messages.send(taken, b"x", HERE)
    assert ids.next(HERE) == first + 2 & 0xFFFF
    assert ids.next(("192.0.2.8", 1)) == first + 3 & 0xFFFF


def test_ids_of_a_kept_peer() -> None:
    """A kept peer has a sequence of its own until it is released as often as it was kept."""
    ids = MessageIds(Desk().messages)
    ids.keep(HERE)
    ids.keep(HERE)
    mine, common = ids.next(HERE), ids.next(("192.0.2.8", 1))
    ids.release(HERE)
    assert ids.next(HERE) == mine + 1 & 0xFFFF
    ids.release(HERE)
    assert ids.next(HERE) == common + 1 & 0xFFFF
