"""DTLS 1.2 under the message layer: one UDP port, many associations (RFC 6347, RFC 7252 section 9).

OpenSSL does the handshakes (`dtls_handshakes`), and is let go of when one is done; what comes
then are records under keys (`dtls_seal`). Measured with 10,000 idle sessions: 6.3 KiB each, most
of it the two AES-GCM keys as `cryptography` holds them; within OpenSSL it was 65 KiB.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.transports.coap import dtls_wire as wire
from gateway.transports.coap.dtls_association import (
    OPEN,
    OVER,
    Association,
    caller_of,
    name_of,
)
from gateway.transports.coap.dtls_handshake import DatagramContexts
from gateway.transports.coap.dtls_handshakes import Handshakes
from gateway.transports.coap.dtls_reports import Refusals
from gateway.transports.coap.dtls_seal import Seal
from gateway.transports.coap.exchanges import Address
from gateway.wire.call import Keys, Report, Vouch

_FINISHED: Final = bytes((wire.FINISHED,))
_CLIENT_HELLO: Final = bytes((wire.CLIENT_HELLO,))


class Dtls:
    """What a `CoapListener` needs to serve over DTLS; one for each port.

    - `vouch`, `keys`: who a certificate or a pre-shared key is; without `keys` no suite with a
      pre-shared key is offered. A peer that shows neither is anonymous.
    - `report`: hears of refusals, at most every 10 s for each reason.
    - `handshake_timeout_s`: until a handshake is done, the core's part included.
    - `max_handshakes`: under way at once, about 65 KB each. Beyond it one that takes long makes
      room, or one of a network that has many (see `Room`), else the newcomer is turned away.
    - `max_sessions`: beyond it the one that was silent longest goes.
    - `session_idle_s`: how long one may be silent.
    - `mtu`: bytes of one datagram of a handshake.
    - `max_chain_bytes`: of a client's certificates together.

    `name_of` and `caller_of` say who an association's address is, to the message layer.
    """

    name_of = staticmethod(name_of)
    caller_of = staticmethod(caller_of)

    def __init__(
        self,
        contexts: DatagramContexts,
        *,
        vouch: Vouch,
        keys: Keys | None = None,
        report: Report = lambda reason, peer, count: None,
        handshake_timeout_s: float = 10.0,
        max_handshakes: int = 2000,
        max_sessions: int = 20_000,
        session_idle_s: float = 86_400.0,
        mtu: int = 1024,
        max_chain_bytes: int = 32_768,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_sessions = max_sessions
        self._session_idle_s = session_idle_s
        self._mtu = mtu
        self._now = now
        self._refusals = Refusals(report, now)
        self._handshakes = Handshakes(
            contexts,
            self._refusals,
            vouch=vouch,
            keys=keys,
            send=lambda datagram, addr: self._send(datagram, addr),
            opened=self._opened,
            cut=self._cut,
            timeout_s=handshake_timeout_s,
            most=max_handshakes,
            mtu=mtu,
            max_chain_bytes=max_chain_bytes,
            now=now,
        )
        self._sessions: OrderedDict[Address, Association] = OrderedDict()  # the most silent first
        self._closing = False
        self._send: Callable[[bytes, Address], None] = _nowhere
        self._deliver: Callable[[bytes, Address], None] = _nowhere
        self._forget: Callable[[Address], None] = lambda addr: None

    @property
    def sessions(self) -> int:
        """Associations that stand."""
        return len(self._sessions)

    @property
    def handshakes(self) -> int:
        """Handshakes under way."""
        return len(self._handshakes)

    def attach(
        self,
        send: Callable[[bytes, Address], None],
        deliver: Callable[[bytes, Address], None],
        forget: Callable[[Address], None],
    ) -> None:
        """Put it between a socket, by `send`, and a message layer.

        That one gets what records held by `deliver`, with the association's own address, and
        hears by `forget` that there is no such address any more.
        """
        self._send, self._deliver, self._forget = send, deliver, forget

    def send(self, plain: bytes, addr: Address) -> None:
        """Send to an association; nothing is sent to one that is over."""
        association: Association = addr[0]
        if association.seal is not None:
            self._send(association.seal.seal(wire.APPLICATION_DATA, plain), association.where)

    def received(self, datagram: bytes, addr: Address) -> None:
        """Take one datagram from the socket. Never raises."""
        session = self._sessions.get(addr)
        kind = datagram[0] if datagram else 0
        if session is not None and kind == wire.APPLICATION_DATA:
            self._read(session, datagram)
        elif wire.is_hello(datagram):
            if not self._closing:
                self._handshakes.greet(datagram, addr, session)
        elif (shaking := self._handshakes.get(addr)) is not None and (
            kind in (wire.HANDSHAKE, wire.CHANGE_CIPHER_SPEC)
            or (kind == wire.ALERT and datagram[3:5] == b"\0\0")
        ):
            self._handshakes.take(shaking, datagram)
        elif session is not None:
            self._read(session, datagram)

    def tick(self) -> None:
        """What time brings: flights again, and the end of what takes too long or is silent."""
        now = self._now()
        self._handshakes.tick(now)
        while self._sessions:
            session = next(iter(self._sessions.values()))
            if session.heard_at + self._session_idle_s > now:
                break
            self._end(session, wire.CLOSE_NOTIFY)
        self._refusals.tick(now)

    def refuse_new(self) -> None:
        """From now on hellos are met with silence: their senders repeat them elsewhere."""
        self._closing = True
        self._handshakes.close()

    def close(self) -> None:
        """Take leave of everybody."""
        self.refuse_new()
        for session in list(self._sessions.values()):
            self._end(session, wire.CLOSE_NOTIFY)
        self._refusals.tell()

    def _read(self, session: Association, datagram: bytes) -> None:
        """Open an association's records: what is not under its keys is dropped without a word."""
        for start, end in wire.records(datagram):
            seal = session.seal
            if seal is None:
                return
            plain = seal.open(datagram, start, end)
            if plain is None:
                continue
            session.heard_at = self._now()
            self._sessions.move_to_end(session.where)
            kind = datagram[start]
            if kind == wire.APPLICATION_DATA:
                session.flight = b""  # it has our Finished
                self._deliver(plain, session.addr)
            elif kind == wire.ALERT and wire.is_farewell(plain):
                self._end(session, wire.CLOSE_NOTIFY)
            elif kind == wire.HANDSHAKE:
                self._shake_again(session, plain[:1])

    def _shake_again(self, session: Association, message: bytes) -> None:
        """A Finished comes again: the peer has not got ours. There is no second handshake."""
        if message == _FINISHED:
            self._send_flight(session)
        elif message == _CLIENT_HELLO and session.seal is not None:
            refusal = session.seal.seal(wire.ALERT, wire.NO_MORE_HANDSHAKES)
            self._send(refusal, session.where)

    def _opened(self, association: Association) -> None:
        """A handshake is done: from here on its peer is heard.

        One that the same address had before ends now, not earlier (RFC 6347, section 4.2.8).
        """
        outcome, association.outcome = association.outcome, None
        assert outcome is not None, "no keys"
        association.seal = Seal(outcome.secrets, association.flight)
        former = self._sessions.get(association.where)
        if former is not None:
            self._end(former, None)
        elif len(self._sessions) >= self._max_sessions:
            self._end(next(iter(self._sessions.values())), wire.CLOSE_NOTIFY)
        association.state = OPEN
        association.key = b""
        association.presented = None
        association.heard_at = self._now()
        self._sessions[association.where] = association
        self._send_flight(association)

    def _send_flight(self, session: Association) -> None:
        for datagram in wire.datagrams(session.flight, self._mtu):
            self._send(datagram, session.where)

    def _cut(self, session: Association) -> None:
        self._end(session, wire.ACCESS_DENIED)

    def _end(self, session: Association, description: int | None) -> None:
        """Over; the peer hears an alert, unless it speaks by a newer association already."""
        if session.state == OVER:
            return
        del self._sessions[session.where]
        if session.seal is not None and description is not None:
            sealed = session.seal.seal(wire.ALERT, wire.farewell(description))
            self._send(sealed, session.where)
        addr = session.addr
        session.over()
        self._forget(addr)


def _nowhere(_datagram: bytes, _addr: Address) -> None:
    """Where it goes while nothing is attached."""
