"""One DTLS handshake, by OpenSSL over buffers in memory: datagrams in, flights out."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Protocol

from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct
from OpenSSL import SSL

from gateway.transports.coap.dtls_psk import KeyAtHand, allow_no_weak_signatures
from gateway.transports.coap.dtls_seal import CIPHER_LIST, KEY_SUITES, Secrets
from gateway.transports.coap.dtls_wire import chosen_suite

_DTLS_1_2: Final = 0xFEFD
_READ: Final = 16_384


class Broken(Exception):
    """The handshake failed; what OpenSSL says of it, and nothing of the peer's."""


class Outcome(Struct, frozen=True):
    """A handshake that is done. `chain`: DER, leaf first, the leaf's key proven; often empty."""

    secrets: Secrets
    chain: tuple[bytes, ...]


class DatagramContexts(Protocol):
    """Where the server's certificate and key come from: another context once they changed."""

    @property
    def datagram(self) -> SSL.Context: ...


def prepare(context: SSL.Context, keys: KeyAtHand | None) -> None:
    """Make a context fit for `Handshake`, before its first use.

    No session is resumed: who a peer is must be decided anew each time.
    """
    context.set_min_proto_version(_DTLS_1_2)
    context.set_cipher_list(CIPHER_LIST)
    allow_no_weak_signatures(context)
    context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # The cookie was judged before OpenSSL is given the hello; without these it takes none at all.
    context.set_cookie_generate_callback(lambda _connection: b"")
    context.set_cookie_verify_callback(lambda _connection, _cookie: True)
    if keys is not None:
        keys.offer(context)


class Handshake:
    """The server's side, from a ClientHello whose cookie is good.

    Costs about 65 KB while it lasts. After `Broken`, `output` may hold an alert.
    """

    __slots__ = ("_connection", "by_key")

    def __init__(self, context: SSL.Context, mtu: int) -> None:
        self._connection = SSL.Connection(context)
        self._connection.set_accept_state()
        self._connection.set_ciphertext_mtu(mtu)
        self.by_key = False
        """Whether the last `output` agreed to a suite with a pre-shared key."""

    def begin(self, hello: bytes) -> None:
        """Take the ClientHello. Raises `Broken`."""
        self._connection.bio_write(hello)
        try:
            # The numbers of records and messages go on from the hello's: the first exchange, of
            # hello and cookie, is not OpenSSL's.
            self._connection.DTLSv1_listen()
        except SSL.Error as exc:
            raise Broken(_said(exc)) from None
        self._go_on()

    def feed(self, datagram: bytes) -> bool:
        """Take a datagram; whether the handshake is done. Raises `Broken`."""
        self._connection.bio_write(datagram)
        return self._go_on()

    def output(self) -> bytes:
        """Records to be sent, end to end."""
        flight = b""
        with suppress(SSL.WantReadError):
            while not len(flight) % _READ:  # a shorter piece is the last
                flight += self._connection.bio_read(_READ)
        if chosen_suite(flight) in KEY_SUITES:
            self.by_key = True
        return flight

    def wait_s(self) -> float | None:
        """Seconds until `repeat` must be called; None when nothing waits for the peer."""
        return self._connection.DTLSv1_get_timeout()

    def repeat(self) -> None:
        """Put the last flight into `output` again, if it is time to.

        Raises `Broken` when it was sent too often.
        """
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as exc:
            raise Broken(_said(exc)) from None

    def outcome(self) -> Outcome:
        """What came of it, once done. The handshake is of no use afterwards."""
        connection = self._connection
        master, client = connection.master_key(), connection.client_random()
        server, suite = connection.server_random(), connection.get_cipher_name()
        if master is None or client is None or server is None or suite is None:
            raise Broken("no keys")
        return Outcome(Secrets(suite, master, client, server), self._chain())

    def _chain(self) -> tuple[bytes, ...]:
        leaf = self._connection.get_peer_certificate(as_cryptography=True)
        if leaf is None:
            return ()
        issuers = self._connection.get_peer_cert_chain(as_cryptography=True) or ()
        chain = [one.public_bytes(Encoding.DER) for one in (leaf, *issuers)]
        # A server's list of issuers has the leaf or not, depending on the library's version.
        return tuple(dict.fromkeys(chain))

    def _go_on(self) -> bool:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as exc:
            raise Broken(_said(exc)) from None
        return True


def _said(exc: SSL.Error) -> str:
    """OpenSSL's own words: reasons, no data."""
    reasons = exc.args[0] if exc.args else ()
    texts = [str(entry[-1]) for entry in reasons] if isinstance(reasons, list) else []
    return ", ".join(texts) or type(exc).__name__
