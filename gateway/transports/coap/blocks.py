"""Bodies in pieces: requests put together, responses cut up, both within bounds (RFC 7959)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeAlias, TypeVar

from msgspec import Struct

from gateway.transports.coap import message as coap
from gateway.transports.coap.message import Answer, Option, Settled, encode_options, encode_uint
from gateway.wire.call import Source
from gateway.wire.route import Address

_LARGEST_EXPONENT: Final = 6
_BAD_REQUEST: Final = Answer(coap.BAD_REQUEST)
_INCOMPLETE: Final = Answer(coap.REQUEST_ENTITY_INCOMPLETE)
_SHORT: Final = Answer(coap.INTERNAL_SERVER_ERROR)

V = TypeVar("V")
Key: TypeAlias = tuple[str, Address, tuple[bytes, ...], tuple[bytes, ...]]
"""Whose body it is: the peer, method and path, query, and Request-Tag if the body has one."""


class Block(Struct, frozen=True, gc=False):
    """The value of a Block1 or Block2 option: which block, of 16 << `exponent` bytes each."""

    number: int
    more: bool
    exponent: int

    @property
    def size(self) -> int:
        return 16 << self.exponent

    @property
    def start(self) -> int:
        return self.number << self.exponent + 4

    def encode(self) -> bytes:
        return encode_uint(self.number << 4 | self.more << 3 | self.exponent)


def decode_block(value: bytes) -> Block:
    """Raises `Settled` for the reserved size exponent 7 (RFC 7959, section 2.2)."""
    packed = int.from_bytes(value, "big")
    if packed & 7 > _LARGEST_EXPONENT:
        raise Settled(_BAD_REQUEST)
    return Block(packed >> 4, bool(packed & 8), packed & 7)


WHOLE: Final = Block(0, False, _LARGEST_EXPONENT)


class Recent(Generic[V]):
    """A table of at most `most` values, none older than `age_s`; the oldest makes room."""

    __slots__ = ("_age_s", "_items", "_most", "_now")

    def __init__(self, most: int, age_s: float, now: Callable[[], float]) -> None:
        self._items: OrderedDict[Key, tuple[float, V]] = OrderedDict()
        self._most = most
        self._age_s = age_s
        self._now = now

    def __len__(self) -> int:
        return len(self._items)

    def put(self, key: Key, value: V) -> None:
        self._items[key] = (self._now(), value)
        self._items.move_to_end(key)
        if len(self._items) > self._most:
            self._items.popitem(last=False)

    def get(self, key: Key) -> V | None:
        self.expire()
        found = self._items.get(key)
        return None if found is None else found[1]

    def forget(self, key: Key) -> None:
        self._items.pop(key, None)

    def expire(self) -> None:
        """Drop what is too old. Costs nothing when there is nothing to drop."""
        born_after = self._now() - self._age_s
        while self._items:
            key, (since, _) = next(iter(self._items.items()))
            if since > born_after:
                return
            del self._items[key]


class Stored(Struct, frozen=True):
    """A response sent in blocks: a whole `body`, or a `source` that is read block by block.

    `options` hold an ETag, the same for every block.
    """

    code: int
    options: tuple[Option, ...]
    body: bytes = b""
    source: Source | None = None

    def __repr__(self) -> str:
        return f"Stored({self.size} bytes)"

    @property
    def size(self) -> int:
        return len(self.body) if self.source is None else self.source.size

    def block(self, wanted: Block, block1: Block | None, first: tuple[Option, ...] = ()) -> Answer:
        """The block `wanted` of a whole body; 4.00 for one beyond the end.

        `first` are options of this one message, beside those of the response.
        """
        piece = self.body[wanted.start : wanted.start + wanted.size]
        return self._cut(wanted, piece, block1, first) if piece else _BAD_REQUEST

    async def read(self, wanted: Block, block1: Block | None = None) -> Answer:
        """The same from the source; 5.00 when it holds less than it said. Raises what it raises."""
        assert self.source is not None, "a whole body"
        length = min(wanted.size, self.source.size - wanted.start)
        if length <= 0:
            return _BAD_REQUEST
        piece = await self.source.read(wanted.start, length)
        return self._cut(wanted, piece, block1) if len(piece) == length else _SHORT

    def _cut(
        self,
        wanted: Block,
        piece: bytes,
        block1: Block | None,
        first: tuple[Option, ...] = (),
    ) -> Answer:
        more = wanted.start + len(piece) < self.size
        sent = Block(wanted.number, more, wanted.exponent)
        options = [*first, *self.options, (coap.BLOCK2, sent.encode())]
        if not wanted.number:
            options.append((coap.SIZE2, encode_uint(self.size)))
        if block1 is not None:
            options.append((coap.BLOCK1, block1.encode()))
        return Answer(self.code, encode_options(options), piece)


class Assemblies:
    """Request bodies arriving block by block, at most `most` of `max_body` bytes each.

    One is forgotten `age_s` after its last block, or when it is the oldest and another begins.
    """

    __slots__ = ("_bodies", "_too_large", "max_body")

    def __init__(self, most: int, *, max_body: int, age_s: float, now: Callable[[], float]) -> None:
        self.max_body = max_body
        self._bodies: Recent[bytearray] = Recent(most, age_s, now)
        size1 = encode_options([(coap.SIZE1, encode_uint(max_body))])
        self._too_large = Answer(coap.REQUEST_ENTITY_TOO_LARGE, size1)

    def __len__(self) -> int:
        return len(self._bodies)

    def expire(self) -> None:
        self._bodies.expire()

    def check(self, size: int) -> None:
        """Raise `Settled` (4.13) for a body of `size` bytes that is over the bound."""
        if size > self.max_body:
            raise Settled(self._too_large)

    def join(self, key: Key, block: Block, payload: bytes, announced: int) -> bytes:
        """The whole body, once `payload` completes it; else raises `Settled` with the answer.

        `announced` is the size the first block gave in Size1, 0 if none. Block 0 starts anew;
        a block that does not continue what is here is 4.08 (section 2.5).
        """
        body = bytearray()
        if block.number:
            begun = self._bodies.get(key)
            if begun is None or len(begun) != block.start:
                raise Settled(_INCOMPLETE)
            body = begun
        if len(payload) > block.size or (block.more and len(payload) != block.size):
            self._bodies.forget(key)
            raise Settled(_BAD_REQUEST)
        try:
            self.check(max(announced, len(body) + len(payload)))
        except Settled:
            self._bodies.forget(key)
            raise
        body += payload
        if block.more:
            self._bodies.put(key, body)
            raise Settled(Answer(coap.CONTINUE, encode_options([(coap.BLOCK1, block.encode())])))
        self._bodies.forget(key)
        return bytes(body)
