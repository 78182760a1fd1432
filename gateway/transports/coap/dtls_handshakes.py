"""Handshakes under way on one port: from a ClientHello to a peer the core has spoken for.

    a hello without a cookie     answered with one; nothing is remembered
    a hello with a good one      an association, its handshake OpenSSL's
    a PSK peer names itself      its key is asked for before OpenSSL needs it
    the client's Finished        ours is held back until the core knows who this is

Were ours sent first, a peer that is refused would believe in an association, and send.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from OpenSSL import SSL

from gateway.core.errors import GatehouseError
from gateway.core.model import Presented, Refused, Vouched
from gateway.transports.coap import dtls_reports as why
from gateway.transports.coap import dtls_wire as wire
from gateway.transports.coap.dtls_association import ASKING, OVER, SHAKING, Association
from gateway.transports.coap.dtls_cookies import Cookies
from gateway.transports.coap.dtls_handshake import Broken, DatagramContexts, Handshake, prepare
from gateway.transports.coap.dtls_psk import KeyAtHand
from gateway.transports.coap.dtls_reports import Refusals, alert_of, peer_of
from gateway.transports.coap.exchanges import Address
from gateway.transports.room import Room
from gateway.wire.call import Keys, Vouch

log = structlog.get_logger()

A = TypeVar("A")

_BUDGET_S: Final = 0.003
_FIRST_WAIT_S: Final = 1.0
"""Until a flight is repeated for the first time; OpenSSL's own, and RFC 6347's (4.2.4.1)."""
_MOST_UNREAD: Final = 2
_KEY_BYTES: Final = 32
_BESIDE_CHAIN: Final = 16_384
"""Bytes that a client's flight may have besides its certificates."""


class Handshakes:
    """See `Dtls` for the bounds. `send` is the socket's; `opened` gets each that is done, its
    `flight` still to be sent; `cut` one that was opened and counts no more."""

    def __init__(
        self,
        contexts: DatagramContexts,
        refusals: Refusals,
        *,
        vouch: Vouch,
        keys: Keys | None,
        send: Callable[[bytes, Address], None],
        opened: Callable[[Association], None],
        cut: Callable[[Association], None],
        timeout_s: float,
        most: int,
        mtu: int,
        max_chain_bytes: int,
        now: Callable[[], float],
    ) -> None:
        self._contexts = contexts
        self._prepared: SSL.Context | None = None
        self._refusals = refusals
        self._vouch = vouch
        self._keys = keys
        self._key_at_hand = KeyAtHand()
        self._send = send
        self._opened = opened
        self._cut_open = cut
        self._timeout_s = timeout_s
        self._room: Room[Association] = Room(most)
        self._mtu = mtu
        self._max_chain_bytes = max_chain_bytes
        self._now = now
        self._cookies = Cookies(now)
        self._under_way: dict[Address, Association] = {}
        self._line: deque[Association] = deque()
        """Whose inbox is not empty, each once; each takes a turn for one datagram."""
        self._working = False
        self._number = 0
        self.get = self._under_way.get
        """The handshake under way with a peer, or None."""

    def __len__(self) -> int:
        return len(self._under_way)

    # ── what comes in ─────────────────────────────────────────────────────────────────────────

    def greet(self, datagram: bytes, addr: Address, session: Association | None) -> None:
        """Take what begins like a ClientHello; `session` is what stands with that peer already."""
        hello = wire.read_hello(datagram)
        if hello is None:
            return
        if not hello.cookie or not self._cookies.knows(hello, addr):
            if hello.cookie:
                self._refusals.count(why.SPOOFED_CLIENT_HELLO, addr)
            else:
                self._refusals.asked_back(addr)
            self._send(wire.verify_request(hello, self._cookies.make(hello, addr)), addr)
            return
        self._refusals.came_back()
        former = self._under_way.get(addr)
        if session is not None and not session.flight:
            session = None  # long done: what looks like its hello is a device's that was reset
        if any(one is not None and one.random == hello.random for one in (former, session)):
            return  # the same hello again: what answers it is repeated in time anyway
        if former is not None:
            self._drop(former)
        self._begin(datagram, addr, hello.random)

    def _begin(self, datagram: bytes, addr: Address, random: bytes) -> None:
        now = self._now()
        if len(self._room) >= self._room.most:
            former = self._room.in_the_way(addr[0], now)
            self._refusals.count(why.HALF_HANDSHAKE_FLOOD, addr if former is None else former.where)
            if former is None:
                return
            self._drop(former)
        self._number += 1
        association = Association(addr, peer_of(addr), self._number, random, now)
        self._under_way[addr] = association
        self._room.enter(association, addr[0], now)
        self.take(association, datagram)

    def take(self, association: Association, datagram: bytes) -> None:
        """Work for later: handshakes get 3 ms of each turn of the loop, one datagram each in turn.

        Too much of one peer's is dropped like any datagram: it sends it again.
        """
        idle = not association.inbox
        association.keep(datagram, self._max_chain_bytes + _BESIDE_CHAIN)
        if idle and association.inbox and association.state == SHAKING:
            self._get_in_line(association)

    def _get_in_line(self, association: Association) -> None:
        self._line.append(association)
        if not self._working:
            self._working = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        until = time.perf_counter() + _BUDGET_S
        while self._line:
            association = self._line.popleft()
            if association.state != SHAKING:
                continue
            try:
                self._advance(association, association.take())
            except Exception:  # of ours: one handshake must not stop the line for all
                log.exception("dtls.handshake_broken", peer=association.caller.peer.address)
                self._drop(association)
            if association.inbox and association.state == SHAKING:
                self._line.append(association)
            if time.perf_counter() >= until:
                break
        self._working = bool(self._line)
        if self._working:
            asyncio.get_running_loop().call_soon(self._work)

    def tick(self, now: float) -> None:
        """Send again what was not answered, give up what took too long."""
        self._cookies.rotate()
        for association in list(self._under_way.values()):
            if association.began + self._timeout_s <= now:
                if association.state == SHAKING:
                    self._refusals.count(why.HALF_HANDSHAKE_FLOOD, association.where)
                self._drop(association)
            elif association.repeat_at is not None and association.repeat_at <= now:
                self._repeat(association)

    def close(self) -> None:
        """Give up all of them."""
        for association in list(self._under_way.values()):
            self._drop(association)

    # ── one step of one handshake ─────────────────────────────────────────────────────────────

    def _advance(self, association: Association, datagram: bytes) -> None:
        if wire.longest_message(datagram) > self._max_chain_bytes + _BESIDE_CHAIN:
            # OpenSSL would make room for all of it, and for ten more, at the first byte of each.
            self._refuse_chain(association)
            return
        if self._names_itself(association, datagram):
            return
        try:
            handshake = association.handshake
            if handshake is None:
                handshake = association.handshake = Handshake(self._context(), self._mtu)
                handshake.begin(datagram)
                done = False
            else:
                done = self._feed(handshake, datagram, association.key)
        except Broken as broken:
            self._fail(association, str(broken))
            return
        if done:
            self._settle(association, handshake)
            return
        flight = handshake.output()
        if flight:
            self._send_flight(association, flight)
            association.repeat_at = self._now() + _FIRST_WAIT_S
        if association.key and wire.is_sealed(datagram):
            self._unread(association)

    def _feed(self, handshake: Handshake, datagram: bytes, key: bytes) -> bool:
        self._key_at_hand.key = key
        try:
            return handshake.feed(datagram)
        finally:
            self._key_at_hand.key = b""

    def _names_itself(self, association: Association, datagram: bytes) -> bool:
        """Whether the peer says just now whose key it uses; then the key is asked for first."""
        handshake = association.handshake
        if handshake is None or not handshake.by_key or association.key:
            return False
        identity = wire.psk_identity(datagram)
        if identity is None:
            return False
        association.put_back(datagram)  # until the key is here
        self._ask(association, self._find_key, identity)
        return True

    def _unread(self, association: Association) -> None:
        """A Finished could not be read: the key is another, or somebody meddles; so two count."""
        association.unread += 1
        if association.unread >= _MOST_UNREAD:
            if association.presented is not None:
                self._refusals.count(why.WRONG_PSK, association.where)
            self.refuse(association, wire.DECRYPT_ERROR)

    def _repeat(self, association: Association) -> None:
        handshake = association.handshake
        assert handshake is not None, "nothing to repeat"
        try:
            handshake.repeat()
        except Broken as broken:
            self._fail(association, str(broken))
        else:
            self._send_flight(association, handshake.output())
            association.repeat_at = self._now() + (handshake.wait_s() or _FIRST_WAIT_S)

    def _send_flight(self, association: Association, flight: bytes) -> None:
        for start, _ in wire.records(flight):
            association.sent = int.from_bytes(flight[start + 5 : start + 11], "big")
        for datagram in wire.datagrams(flight, self._mtu):
            self._send(datagram, association.where)

    def _fail(self, association: Association, reason: str) -> None:
        peer = association.caller.peer.address
        log.debug("dtls.handshake_failed", peer=peer, reason=reason)
        if association.handshake is not None:
            self._send_flight(association, association.handshake.output())
        self._drop(association)

    def _drop(self, association: Association) -> None:
        if self._room.leave(association):
            del self._under_way[association.where]
        association.over()

    def _context(self) -> SSL.Context:
        """The context of now, made fit when it is new."""
        context = self._contexts.datagram
        if context is not self._prepared:
            prepare(context, None if self._keys is None else self._key_at_hand)
            self._prepared = context
        return context

    # ── who it is ─────────────────────────────────────────────────────────────────────────────

    def _settle(self, association: Association, handshake: Handshake) -> None:
        """Both sides are done, but ours has not been sent."""
        association.handshake = association.repeat_at = None
        association.flight = handshake.output()
        try:
            outcome = association.outcome = handshake.outcome()
        except Broken as broken:
            self._fail(association, str(broken))
            return
        if sum(map(len, outcome.chain)) > self._max_chain_bytes:
            self._refuse_chain(association)
        elif outcome.chain:
            self._ask(association, self._identify, outcome.chain)
        elif association.presented is not None:
            self._ask(association, self._guard, association.presented)
        else:
            self._open(association)

    def _refuse_chain(self, association: Association) -> None:
        self._refusals.count(why.OVERSIZED_CHAIN, association.where)
        self.refuse(association, wire.BAD_CERTIFICATE)

    def _ask(
        self, association: Association, about: Callable[[Association, A], Awaitable[None]], what: A
    ) -> None:
        association.state = ASKING
        association.repeat_at = None
        loop = asyncio.get_running_loop()
        association.asking = loop.create_task(self._answered(association, about, what))

    async def _answered(
        self, association: Association, about: Callable[[Association, A], Awaitable[None]], what: A
    ) -> None:
        try:
            await about(association, what)
        except GatehouseError:  # the store's: it says so itself, and a storm would repeat it
            self._refusals.count(why.UNDECIDED, association.where)
            self.refuse(association, wire.INTERNAL_ERROR)
        except Exception:
            log.exception("dtls.not_decided", peer=association.caller.peer.address)
            self.refuse(association, wire.INTERNAL_ERROR)

    async def _find_key(self, association: Association, identity: bytes) -> None:
        """Ask for a key; then the datagrams that waited for it are taken.

        For an identity nobody knows there is a key nobody knows: from outside it looks the same.
        """
        assert self._keys is not None, "no keys"
        try:
            association.presented = await self._keys.key_of(identity.decode())
        except UnicodeDecodeError:
            association.presented = None
        if association.state == OVER:
            return
        if association.presented is None:
            self._refusals.count(why.UNKNOWN_PSK_IDENTITY, association.where)
            association.key = secrets.token_bytes(_KEY_BYTES)
        else:
            association.key = association.presented.key
        association.state = SHAKING
        self._get_in_line(association)

    async def _identify(self, association: Association, chain: tuple[bytes, ...]) -> None:
        cut = self._cut_of(association)
        judged = await self._vouch(chain, association.caller.peer, cut)
        if isinstance(judged, Refused):
            self.refuse(association, alert_of(judged.reason))
        else:
            self._known(association, judged)

    async def _guard(self, association: Association, presented: Presented) -> None:
        assert self._keys is not None, "no keys"
        cut = self._cut_of(association)
        peer = association.caller.peer
        self._known(association, await self._keys.guard(presented.identity, peer, cut))

    def _known(self, association: Association, vouched: Vouched) -> None:
        if association.state == OVER:
            vouched.release()
            return
        association.vouched = vouched
        association.caller.identity = vouched.identity
        self._open(association)

    def _open(self, association: Association) -> None:
        self._opened(association)
        self._room.leave(association)
        del self._under_way[association.where]
        association.inbox.clear()
        association.asking = None

    def _cut_of(self, association: Association) -> Callable[[], None]:
        """What ends it at any time, and afterwards does nothing."""

        def cut() -> None:
            if association.state == ASKING:
                self.refuse(association, wire.ACCESS_DENIED)
            elif association.state != OVER:
                self._cut_open(association)

        return cut

    def refuse(self, association: Association, description: int) -> None:
        """End it with a fatal alert in clear, in the place of what is held back."""
        if association.state != OVER:
            # A number that came before would be taken for a repetition, and dropped.
            number = (association.sent + 1).to_bytes(8, "big")
            self._send(wire.alert(description, number), association.where)
            self._drop(association)
