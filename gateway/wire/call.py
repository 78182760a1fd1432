"""One shape for every request and answer, whatever wire it came by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from enum import Enum
from typing import Any, Protocol, TypeAlias

from msgspec import Struct, field

from gateway.core.model import Device, Identity, Peer, Presented, Refused, Vouched

NOTHING: Mapping[str, str] = {}


class Query(dict[str, str]):
    """The parameters of an address. A name given more than once has its values `joined` by commas,
    as Spring does it, else the last; `pairs` has each as it was given, in order."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]], *, joined: bool = True) -> None:
        self.pairs = tuple(pairs)
        super().__init__(self.pairs)
        if joined and len(self) < len(self.pairs):
            self.clear()
            for name, value in self.pairs:
                self[name] = f"{self[name]},{value}" if name in self else value


def pairs_of(query: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Each parameter as it was given."""
    return query.pairs if isinstance(query, Query) else tuple(query.items())


class Status(Enum):
    """How a call ended, in no wire's numbers. Each transport has its own table of numbers."""

    OK = "ok"
    REFUSED = "refused"
    """Understood and decided against; the body says so in the dialect's words."""
    UNDECODABLE = "undecodable"
    """The payload is in no format the dialect knows."""
    BAD_REQUEST = "bad_request"
    """The payload could be read, but not be understood as this request."""
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    """Known, and not allowed."""
    CONFLICT = "conflict"
    """It collides with what there is, or was changed since it was read."""
    UNACCEPTABLE = "unacceptable"
    """There is an answer, in no form that the caller takes."""
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    GONE = "gone"
    """The credentials of this session are no longer good (device removed, credentials changed)."""
    DELETED = "deleted"
    """The device was removed while its request waited."""
    TIMEOUT = "timeout"
    """What the request waited for did not come in time."""
    OVERLOADED = "overloaded"
    """Later: a bound of the configuration is reached. `Reply.retry_after_s` says when."""
    LIMITED = "limited"
    """Too much from this device: a rate limit is hit. `Reply.retry_after_s` says when."""
    PENDING = "pending"
    """Nothing is wrong, but somebody has to agree first. `Reply.retry_after_s` says when to come
    again."""
    FULL = "full"
    """No more of these: a bound is reached that waiting does not lift."""
    FAILED = "failed"
    """One of the devices a gateway speaks for could not be served."""
    IGNORED = "ignored"
    """No answer of any kind is sent (contract of the dialect; only MQTT has this)."""
    INTERNAL = "internal"
    """It broke, here. The peer is told nothing about it."""


class Format(Enum):
    """What the body of a reply is, as far as the wire may want to label it."""

    EMPTY = "empty"
    JSON = "json"
    PROTOBUF = "protobuf"
    CBOR = "cbor"
    TEXT = "text"
    BYTES = "bytes"
    HTML = "html"
    METRICS = "metrics"
    """Prometheus' text format."""
    PROBLEM_JSON = "problem_json"
    """What is wrong, as RFC 9457 has it."""
    PROBLEM_CBOR = "problem_cbor"
    """What is wrong, as RFC 9290 has it."""
    CERTIFICATE = "certificate"
    """One certificate in DER."""


class Source(Protocol):
    """A body too large to be held in memory: read piece by piece, as the peer takes it."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    async def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer at the end alone."""


class Observer(Protocol):
    """The transport's side of an observation (RFC 7641): where notifications go.

    Two observers of one peer are told apart by `identity` (address, port and token).
    """

    @property
    def identity(self) -> str: ...

    def notify(self, reply: Reply, delivered: Callable[[], None] | None = None) -> bool:
        """Send one notification, 2.05 with the next Observe number.

        `delivered` is called when the peer acknowledged it; for a non-confirmable one at once.
        False when the observation is over or too much is unacknowledged; it is over then.
        """

    def end(self) -> None:
        """Send the final 2.02 Deleted and forget the observation. `on_end` is not called."""


class Call(Struct, frozen=True):
    """One request. `params` come from the path or topic template, `query` from the address.

    `device` is set when the session already proved who it is (MQTT); else the route's handler
    finds it from `params`. `session` is where a dialect may keep what it must remember between
    the calls of one connection (which payload format was last used); None on other wires.
    `identity` is whom the handshake of a secure wire proved the peer to be; `headers` are HTTP's,
    `accept` is the Content-Format a CoAP request would like best, `content_format` that of its body
    (RFC 7252, section 12.3); None: it does not say.
    `guest` is the dialect's own side of an MQTT session. `observer` is set when a CoAP GET asks
    to observe: a handler that agrees answers with `Reply.on_end`. `taken` is set on MQTT: a handler
    that waits for somebody else calls it, and the client is acknowledged before its answer.
    """

    body: bytes
    peer: Peer
    params: Mapping[str, str] = NOTHING
    query: Mapping[str, str] = NOTHING
    device: Device | None = None
    session: dict[str, Any] | None = None
    guest: Any = None
    observer: Observer | None = None
    taken: Callable[[], None] | None = None
    identity: Identity | None = None
    headers: Mapping[str, str] = NOTHING
    accept: int | None = None
    content_format: int | None = None

    def __repr__(self) -> str:
        return f"Call({len(self.body)} bytes from {self.peer.wire})"  # a body may hold a secret


class Reply(Struct, frozen=True):
    """One answer. `reason` is for the log and, where the wire has room, a sentence for the peer.

    It never holds what the peer sent. `retry_after_s` goes with `OVERLOADED`, `LIMITED` and
    `PENDING`. `ack` is the MQTT 5 reason code of the acknowledgement of a publish that is answered
    with a body all the same; MQTT then has the body whatever the status.

    `topic` is where an MQTT answer goes when the route cannot say it beforehand. `close` ends the
    MQTT session after the answer, with that MQTT 5 reason. `source` is a body in pieces, instead
    of `body`. `headers` are for HTTP. `on_end` accepts a CoAP observation: it is called once when
    the peer ends it (cancel, reset, or silence), not after `Observer.end`.
    """

    body: bytes = b""
    status: Status = Status.OK
    format: Format = Format.EMPTY
    reason: str = ""
    retry_after_s: int = 0
    topic: str = ""
    close: int | None = None
    source: Source | None = None
    headers: Mapping[str, str] = NOTHING
    on_end: Callable[[], None] | None = None
    ack: int | None = None

    def __repr__(self) -> str:
        return f"Reply({self.status.value}, {len(self.body)} bytes)"  # a body may hold a secret


class ErrorShape(Struct, frozen=True):
    """How HTTP errors that no handler gave a body are told to the clients of one dialect.

    `body` makes one of a status and a sentence. `explained` are the statuses of replies that get
    one; the others stay empty. `too_large` is the body of a 413 with a bound in bytes.
    """

    body: Callable[[int, str], bytes]
    explained: frozenset[int]
    too_large: Callable[[int], bytes]


class BadPayload(Exception):
    """The payload cannot be served. The message names the field or the rule, never the payload.

    `undecodable` separates "no format I know" from "I can read it, but it lacks what I need":
    ThingsBoard answers the two differently on MQTT (its contract, section 4.3).
    """

    def __init__(self, reason: str, *, undecodable: bool = False) -> None:
        super().__init__(reason)
        self.undecodable = undecodable


class Hello(Struct, frozen=True):
    """What an MQTT client said of itself in CONNECT. `version` is the protocol level: 3, 4 or 5.

    `chain` is what it proved in a TLS handshake: its certificate and what it sent along, DER.
    """

    client_id: str
    username: str | None
    password: bytes | None
    peer: Peer
    version: int
    chain: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Hello(MQTT level {self.version} from {self.peer.address})"  # names are credentials


class Conduct(Struct, frozen=True):
    """What a session does with a PUBLISH that was not answered as hoped.

    The contract differs by dialect, protocol version and quality of service, so the dialect
    says it and the transport obeys. `ack` and `close` are MQTT 5 reason codes, None meaning
    "not at all"; `ack_v3`, `close_v3` say whether an older client gets a PUBACK, or the door.
    `close_qos0` replaces `close` for a QoS 0 publish, which cannot be acknowledged.
    A publish answered IGNORED is neither acknowledged nor a reason to close, whatever this says.
    """

    ack: int | None
    close: int | None
    ack_v3: bool
    close_v3: bool
    close_qos0: int | None = None


class Link(Protocol):
    """The transport's side of an open MQTT session: how a dialect speaks unasked."""

    @property
    def version(self) -> int:
        """The protocol level: 3, 4 or 5."""

    def push(
        self,
        topic: str,
        body: bytes,
        delivered: Callable[[], None] | None = None,
        *,
        unasked: int = 1,
    ) -> bool:
        """Publish to the client, with the granted quality of the matching subscription.

        `unasked` is the quality without one. On wires other than MQTT the topic is a command.
        `delivered` is called once when the client acknowledged it; with quality 0, at once.
        False when the session is over, or its outgoing queue is full: it is then closed.
        """

    def close(self, code: int, reason: str = "") -> None:
        """End the session with an MQTT 5 reason code; older clients see the connection close."""


class Guest(Protocol):
    """The dialect's side of an open MQTT session. Called by the transport; never raises."""

    def opened(self, link: Link) -> None:
        """CONNACK is sent; from now on `link` may be used."""

    def subscribed(self, topic_filter: str) -> None:
        """A filter was granted (again), and its SUBACK sent."""

    def unsubscribed(self, topic_filter: str) -> None: ...

    def heard(self) -> None:
        """A PINGREQ arrived: the client lives."""

    def closed(self) -> None:
        """The session is over, whoever ended it. Called once, if `opened` was."""


class Admitted(Struct):
    """A session is open. What it may do is said here, at CONNECT; `router`, `filters` and
    `conduct` may be replaced while it lasts.

    - `name`: the kind of session, for logs (`provision`, `device`).
    - `device`: who it is; None for a session that may only provision.
    - `router`: serves its PUBLISH packets, by topic (a `gateway.wire.router.Router`).
    - `filters`: the topic filters it may subscribe to, to be asked with `in`.
    - `conduct`: what to do when a publish ends in another status than OK or REFUSED.
    - `idle_s`: closed when nothing arrives for so long, beside keep-alive; None: never.
    - `linger_s`: closed so long after its last answer was sent; None: never.
    - `lasts_s`: closed so long after it was opened, whatever arrives: what admitted it ends then.
    - `guest`: told what happens to the session, when the dialect has things to say unasked.
    """

    name: str
    router: Any
    filters: Container[str]
    conduct: Mapping[Status, Conduct]
    device: Device | None = None
    idle_s: float | None = None
    linger_s: float | None = None
    lasts_s: float | None = None
    state: dict[str, Any] = field(default_factory=dict)
    guest: Guest | None = None


class Rejected(Struct, frozen=True):
    """No session. The CONNACK code for MQTT 3.1 and 3.1.1, and the reason code for MQTT 5."""

    code_v3: int
    code_v5: int
    reason: str = ""

    @property
    def is_passing(self) -> bool:
        """Whether the client is known, and may be let in later: "server unavailable" (3.1.1)."""
        return self.code_v3 == 3


# ── secure wires ──────────────────────────────────────────────────────────────────────────────


Vouch: TypeAlias = Callable[
    [tuple[bytes, ...], Peer, Callable[[], None]], Awaitable[Vouched | Refused]
]
"""Whose certificate chain is this (DER, leaf first, the leaf's key proven)? A device's that is
known, or is admitted by the chain just now and exists before this returns. The third argument cuts
the connection; it may be called at any time until `Vouched.release`."""


class Keys(Protocol):
    """Pre-shared keys, for DTLS (RFC 4279)."""

    async def key_of(self, identity: str) -> Presented | None:
        """The key of an identity a peer named; None for one that is not known."""

    async def guard(self, identity: Identity, peer: Peer, cut: Callable[[], None]) -> Vouched:
        """The handshake is done with that key: see `Vouched`."""


Report: TypeAlias = Callable[[str, Peer, int], None]
"""A transport tells what it refused before anybody was known: the reason (`half_handshake_flood`,
`spoofed_client_hello`), one peer of those concerned, and how many it was since the last report."""
