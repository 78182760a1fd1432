"""The message layer under CoAP requests: once each, answered in time (RFC 7252, section 4 and 5.2).

It speaks to the world by `received(datagram, address)`, `tick()` and the `send` it was given, so
that a UDP socket, DTLS records or a test can carry it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from gateway.transports.coap.exchanges import Address, MessageIds, Remembered, Unacknowledged
from gateway.transports.coap.message import (
    ACK,
    BAD_OPTION,
    CON,
    DELETED,
    EMPTY,
    FIRST_RESPONSE_CODE,
    NON,
    RST,
    Answer,
    MalformedMessage,
    Message,
    assemble,
    decode,
)
from gateway.transports.coap.observations import Observation, Observations, Observed
from gateway.transports.coap.request import CANCEL, Ask, Caller
from gateway.transports.coap.resources import BROKEN, BUSY, Resources

EXCHANGE_LIFETIME_S: Final = 247.0
"""How long a CON may be repeated by its sender or the network (RFC 7252, section 4.8.2)."""
NON_LIFETIME_S: Final = 145.0
"""The same for a NON."""

_VERSION: Final = 0x40
_PIGGYBACKED: Final = _VERSION | ACK << 4
_SEPARATE: Final = _VERSION | CON << 4
_UNRELIABLE: Final = _VERSION | NON << 4
_EMPTY_ACK: Final = b"\x60\x00"
_RESET: Final = b"\x70\x00"
_HEADER: Final = 4
_CANCEL_S: Final = 1.0
_CANCELLED: Final = Answer(DELETED)


def describe(addr: Address) -> str:
    """An address as text: `192.0.2.7:50123`, `[2001:db8::7]:50123`."""
    host, port = addr[0], addr[1]
    if ":" not in host:
        return f"{host}:{port}"
    if host.startswith("::ffff:") and "." in host:
        return f"{host[7:]}:{port}"  # IPv4 through a dual-stack socket
    return f"[{host}]:{port}"


class Exchange:
    """One request being answered. `tail` is its message id and token as sent."""

    __slots__ = ("acked", "addr", "key", "since", "tail", "task", "type")

    def __init__(self, key: bytes, type_: int, tail: bytes, addr: Address) -> None:
        self.key = key
        self.type = type_
        self.tail = tail
        self.addr = addr
        self.acked = False
        self.since = 0.0
        self.task: asyncio.Task[None] | None = None


class Endpoint:
    """Answers datagrams; made inside a running event loop, ticked every 0.1 s or so.

    A repeated request (same address, message id and token) gets the first answer again, byte for
    byte, and is never processed again; while the first is under way it gets at most an empty ACK.
    An answer later than `piggyback_s` follows an empty ACK as a message of its own, confirmable if
    the request was.

    - `max_exchanges` (1 or more): answers remembered, the oldest forgotten first; about 0.3 KB
      each for a provisioning answer, 1.2 KB at most unless a client takes larger datagrams.
    - `max_under_way`: requests being served at one time; further ones are 5.03, not remembered.
    - `max_unacknowledged`: separate responses and notifications being repeated until
      acknowledged; the oldest is given up for one more.
    - `max_observations`, `max_waiting`: see `Observations`; beyond the first a registration is
      5.03.
    - `writable`: false while `send` would drop.
    - `jitter`: 0 to 1, where in its range a retransmission's first wait lies.
    - `now`: seconds, monotonic.
    - `name`: an address as text, of which no two peers have the same; `caller`: who speaks from
      it, where that is known (DTLS).
    """

    def __init__(
        self,
        resources: Resources,
        send: Callable[[bytes, Address], None],
        *,
        max_exchanges: int = 100_000,
        max_under_way: int = 4096,
        max_unacknowledged: int = 20_000,
        max_observations: int = 20_000,
        max_waiting: int = 100,
        piggyback_s: float = 0.5,
        ack_timeout_s: float = 2.0,
        max_retransmit: int = 4,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], float] = time.monotonic,
        writable: Callable[[], bool] = lambda: True,
        name: Callable[[Address], str] = describe,
        caller: Callable[[Address], Caller] | None = None,
    ) -> None:
        self._resources = resources
        self._send = send
        self._max_exchanges = max_exchanges
        self._max_under_way = max_under_way
        self._piggyback_s = piggyback_s
        self._now = now
        self._name = name
        self._caller = caller
        self._loop = asyncio.get_running_loop()
        self._answered = (Remembered(EXCHANGE_LIFETIME_S), Remembered(NON_LIFETIME_S))
        self._under_way: dict[bytes, Exchange] = {}
        self._unacknowledged = Unacknowledged(
            send,
            most=min(max_unacknowledged, 0xFFFF),  # else their message ids would run out
            ack_timeout_s=ack_timeout_s,
            max_retransmit=max_retransmit,
            jitter=jitter,
            now=now,
        )
        self._writable = writable
        message_ids = MessageIds(self._unacknowledged)
        self._next_message_id = message_ids.next
        self._observations = Observations(
            resources,
            send,
            self._unacknowledged,
            message_ids,
            most=max_observations,
            most_waiting=max_waiting,
            now=now,
            writable=writable,
        )
        self._closing = False
        self._idle = asyncio.Event()

    @property
    def remembered(self) -> int:
        """Exchanges whose answers are remembered."""
        return len(self._answered[CON]) + len(self._answered[NON])

    @property
    def under_way(self) -> int:
        """Requests being served."""
        return len(self._under_way)

    @property
    def unacknowledged(self) -> int:
        """Separate responses and notifications the peer has not acknowledged yet."""
        return len(self._unacknowledged)

    @property
    def observations(self) -> int:
        """Observations that stand, or whose registration is being served."""
        return len(self._observations)

    def received(self, datagram: bytes, addr: Address) -> None:
        """Take one datagram. Never raises; answers at most one message to what is no request."""
        try:
            message = decode(datagram)
        except MalformedMessage as malformed:
            if malformed.type == CON:
                self._send(_RESET + datagram[2:_HEADER], addr)
            return
        type_ = message.type
        if type_ > NON or not EMPTY < message.code < FIRST_RESPONSE_CODE:
            self._no_request(message, datagram, addr)
            return
        tail = datagram[2 : _HEADER + len(message.token)]
        peer = self._name(addr)
        key = b"%b|%b" % (peer.encode(), tail)
        answered = self._answered[type_].get(key)
        if answered is not None:
            self._repeat(answered, tail, addr)
        elif (exchange := self._under_way.get(key)) is not None:
            if exchange.acked:
                self._send(_EMPTY_ACK + tail[:2], addr)
        elif not self._closing:
            self._begin(message, Exchange(key, type_, tail, addr), peer)

    def tick(self) -> None:
        """Acknowledge what takes long, send again what is due, forget what is old."""
        now = self._now()
        for exchange in self._under_way.values():
            if exchange.since + self._piggyback_s > now:
                break
            if exchange.type == CON and not exchange.acked:
                exchange.acked = True
                self._send(_EMPTY_ACK + exchange.tail[:2], exchange.addr)
        if self._writable():
            self._unacknowledged.tick(now)
        for answered in self._answered:
            answered.age(now)
        self._resources.expire()
        self._tell_if_idle()

    def forget(self, addr: Address) -> None:
        """This peer is gone, and no other will ever have its address: its observations end."""
        self._observations.lose(addr)
        self._tell_if_idle()

    async def drain(self, grace_s: float) -> None:
        """Take no new requests; wait until those taken are answered, and the answers arrived.

        New requests are met with silence: their senders repeat them, perhaps to our successor.
        What is not done after `grace_s` is cancelled and answered 5.00. Observers are told 5.03
        at once, so that they may look for a successor.
        """
        self._closing = True
        self._observations.close(BUSY)
        self._tell_if_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        tasks = [exchange.task for exchange in self._under_way.values() if exchange.task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_S)

    def _no_request(self, message: Message, datagram: bytes, addr: Address) -> None:
        """A ping, a stray response or a reserved code is reset; an ACK or RST settles ours."""
        if message.type == CON:
            self._send(_RESET + datagram[2:_HEADER], addr)
        elif message.type > NON and message.code == EMPTY:
            message_id, reset = message.message_id, message.type == RST
            if not self._unacknowledged.settle(message_id, addr, reset=reset) and reset:
                self._observations.reset(message_id, addr)
            self._tell_if_idle()

    def _repeat(self, answered: bytes, tail: bytes, addr: Address) -> None:
        """The answer of old. A confirmable one was separate: its empty ACK came first, then too."""
        if not answered:
            return
        if answered[0] >> 4 == _SEPARATE >> 4:
            self._send(_EMPTY_ACK + tail[:2], addr)
        self._send(answered, addr)

    def _begin(self, message: Message, exchange: Exchange, peer: str) -> None:
        if len(self._under_way) >= self._max_under_way:
            self._send(self._compose(exchange, BUSY), exchange.addr)
            return
        taken = self._resources.take(message, peer)
        if isinstance(taken, Ask):
            if self._caller is not None:
                taken.caller = self._caller(exchange.addr)
            if taken.observe is not None:
                taken = self._observe(taken, exchange)
        if isinstance(taken, Ask):
            exchange.since = self._now()
            self._under_way[exchange.key] = exchange
            exchange.task = self._loop.create_task(self._serve(exchange, taken))
        elif exchange.type == NON and taken.code == BAD_OPTION:
            # RFC 7252, section 5.4.1: rejected, not answered.
            self._send(_RESET + exchange.tail[:2], exchange.addr)
        else:
            self._answer(exchange, taken)

    def _observe(self, ask: Ask, exchange: Exchange) -> Answer | Ask:
        """Begin an observation or end one (RFC 7641, sections 4.1 and 3.6)."""
        addr, token = exchange.addr, exchange.tail[2:]
        if ask.observe == CANCEL:
            return _CANCELLED if self._observations.cancel(addr, token) else ask
        exponent = None if ask.block2 is None else ask.block2.exponent
        observed = Observed(ask.key(), ask.content_format, exponent)
        ask.observer = self._observations.begin(addr, token, exchange.type == CON, observed)
        return BUSY if ask.observer is None else ask

    async def _serve(self, exchange: Exchange, ask: Ask) -> None:
        answer: Answer | None = BROKEN
        try:
            answer = await self._resources.ask(ask)
        finally:
            del self._under_way[exchange.key]
            if answer is None:
                self._acknowledge_only(exchange)
            else:
                self._answer(exchange, answer, ask.observer)
            if ask.observer is not None:
                ask.observer.answered(separately=exchange.acked)
            if self._closing:
                self._tell_if_idle()

    def _acknowledge_only(self, exchange: Exchange) -> None:
        """No response ever. A CON is acknowledged all the same, lest it be sent again."""
        datagram = _EMPTY_ACK + exchange.tail[:2] if exchange.type == CON else b""
        if datagram and not exchange.acked:
            self._send(datagram, exchange.addr)
        self._remember(exchange, datagram)

    def _answer(
        self, exchange: Exchange, answer: Answer, observer: Observation | None = None
    ) -> None:
        """Send the one answer of an exchange, and remember it."""
        addr = exchange.addr
        if exchange.acked:
            message_id = self._next_message_id(addr)
            datagram = self._compose_own(exchange, answer, _SEPARATE, message_id)
            self._unacknowledged.send(message_id, datagram, addr, observer)
        else:
            datagram = self._compose(exchange, answer)
            self._send(datagram, addr)
        self._remember(exchange, datagram)

    def _remember(self, exchange: Exchange, datagram: bytes) -> None:
        confirmable, unreliable = self._answered
        if len(confirmable) + len(unreliable) >= self._max_exchanges:
            older = confirmable if confirmable.oldest <= unreliable.oldest else unreliable
            older.drop_oldest()
        self._answered[exchange.type].add(exchange.key, datagram)

    def _compose(self, exchange: Exchange, answer: Answer) -> bytes:
        """The response at once: on the ACK of a CON, or as a NON."""
        if exchange.type == NON:
            message_id = self._next_message_id(exchange.addr)
            return self._compose_own(exchange, answer, _UNRELIABLE, message_id)
        tail = exchange.tail
        start = bytes((_PIGGYBACKED | len(tail) - 2, answer.code)) + tail
        return assemble(start, answer.options, answer.payload)

    def _compose_own(
        self, exchange: Exchange, answer: Answer, first: int, message_id: int
    ) -> bytes:
        token = exchange.tail[2:]
        start = bytes((first | len(token), answer.code)) + message_id.to_bytes(2, "big") + token
        return assemble(start, answer.options, answer.payload)

    def _tell_if_idle(self) -> None:
        if self._closing and not self._under_way and not len(self._unacknowledged):
            self._idle.set()
