"""Bodies in blocks, both ways (RFC 7959)."""

from __future__ import annotations

import pytest

from gateway.transports.coap import message as coap
from gateway.transports.coap.blocks import Block
from gateway.wire.call import Format, Reply, Status

BODY = bytes(range(256)) * 5
THERE = ("192.0.2.8", 50123)


def block1(number: int, more: bool, exponent: int = 2) -> coap.Option:
    return (coap.BLOCK1, Block(number, more, exponent).encode())


def block2(number: int, exponent: int = 2) -> coap.Option:
    return (coap.BLOCK2, Block(number, False, exponent).encode())


def option(answer: coap.Message, number: int) -> bytes | None:
    return dict(answer.options).get(number)


async def send_blocks(desk, body: bytes, size: int = 64, addr=("192.0.2.7", 50123)):
    """Send all of `body`; the answers to its blocks."""
    exponent = size.bit_length() - 5
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    answers = []
    for number, piece in enumerate(pieces):
        options = [block1(number, number < len(pieces) - 1, exponent)]
        answers.append(await desk.ask(desk.request(payload=piece, options=options), addr))
    return answers


# ── requests ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [16, 64, 1024])
async def test_a_body_in_blocks_arrives_whole(desk, size: int) -> None:
    """Each block is answered 2.31 with its number; the last runs the handler once, with it all."""
    *continued, final = await send_blocks(desk, BODY, size)
    assert {answer.code for answer in continued} == {coap.CONTINUE}
    exponent = size.bit_length() - 5
    for number, answer in enumerate(continued):
        assert answer.options == [block1(number, True, exponent)]
    assert final.code == coap.CREATED
    assert option(final, coap.BLOCK1) == block1(len(continued), False, exponent)[1]
    assert [call.body for call in desk.service.calls] == [BODY]


async def test_a_repeated_block_is_not_taken_twice(desk) -> None:
    """Every datagram of a transfer may come twice; the answers repeat and the body is right."""
    for number in range(3):
        request = desk.request(payload=bytes((number,)) * 64, options=[block1(number, number < 2)])
        assert await desk.put(request) == await desk.put(request)
    assert [len(call.body) for call in desk.service.calls] == [192]


async def test_a_refusal_closes_a_transfer_too(desk) -> None:
    """An error answer to the last block carries its body and the Block1 option."""
    desk.service.reply = Reply(b'{"status":"FAILURE"}', Status.REFUSED, Format.JSON)
    *_, final = await send_blocks(desk, BODY)
    assert (final.code, final.payload) == (coap.BAD_REQUEST, b'{"status":"FAILURE"}')
    assert option(final, coap.BLOCK1) is not None


async def test_a_missing_block(desk) -> None:
    """A block that does not continue what came before is 4.08, and the handler never runs."""
    lone = desk.request(payload=bytes(64), options=[block1(1, True)])
    assert (await desk.ask(lone)).code == coap.REQUEST_ENTITY_INCOMPLETE
    await desk.ask(desk.request(payload=bytes(64), options=[block1(0, True)]))
    skipping = desk.request(payload=bytes(64), options=[block1(2, False)])
    assert (await desk.ask(skipping)).code == coap.REQUEST_ENTITY_INCOMPLETE
    assert desk.service.calls == []


async def test_block_zero_starts_anew(desk) -> None:
    """A client that begins again gets exactly its second body through."""
    await desk.ask(desk.request(payload=b"a" * 64, options=[block1(0, True)]))
    await desk.ask(desk.request(payload=b"b" * 64, options=[block1(0, True)]))
    await desk.ask(desk.request(payload=b"c", options=[block1(1, False)]))
    assert [call.body for call in desk.service.calls] == [b"b" * 64 + b"c"]


async def test_a_client_may_change_its_block_size(desk) -> None:
    """Blocks are placed by their offset, so smaller ones may follow a larger one."""
    await desk.ask(desk.request(payload=b"a" * 64, options=[block1(0, True, 2)]))
    await desk.ask(desk.request(payload=b"b" * 16, options=[block1(4, False, 0)]))
    assert [call.body for call in desk.service.calls] == [b"a" * 64 + b"b" * 16]


async def test_transfers_do_not_mix(desk) -> None:
    """Peers, paths, queries and Request-Tags each have their own transfer."""
    query, tag = (coap.URI_QUERY, b"a=1"), (coap.REQUEST_TAG, b"\x01")
    kinds = [((), "plain"), ((query,), "plain"), ((tag,), "plain"), ((), "api/v1/provision")]
    for more, number in ((True, 0), (False, 1)):
        for mark, (options, path) in enumerate(kinds):
            payload = bytes((mark,)) * 64
            await desk.ask(
                desk.request(path=path, payload=payload, options=[block1(number, more), *options])
            )
    there = desk.request(path="plain", payload=bytes(64), options=[block1(1, False)])
    assert (await desk.ask(there, THERE)).code == coap.REQUEST_ENTITY_INCOMPLETE
    assert [call.body for call in desk.service.calls] == [bytes((n,)) * 128 for n in range(4)]


async def test_a_body_is_bounded(make_desk) -> None:
    """Over the bound it is 4.13 with the bound in Size1: announced, in blocks, or in one piece."""
    desk = make_desk(max_body=100)
    announced = desk.request(payload=bytes(64), options=[block1(0, True), (coap.SIZE1, b"\x65")])
    assert (await desk.ask(announced)).code == coap.REQUEST_ENTITY_TOO_LARGE
    assert (await desk.ask(desk.request(payload=bytes(101)))).options == [(coap.SIZE1, b"\x64")]
    *_, last = await send_blocks(desk, bytes(128))
    assert (last.code, last.options) == (coap.REQUEST_ENTITY_TOO_LARGE, [(coap.SIZE1, b"\x64")])
    assert desk.service.calls == []
    assert (await send_blocks(desk, bytes(100)))[-1].code == coap.CREATED


async def test_transfers_are_bounded_by_count(make_desk) -> None:
    """Beyond `max_assemblies` the one longest without a block is forgotten."""
    desk = make_desk(max_assemblies=2)
    first = desk.request(payload=bytes(64), options=[block1(0, True)])
    for port in (1, 2, 3):
        await desk.ask(first, ("192.0.2.7", port))
    last = desk.request(payload=bytes(64), options=[block1(1, False)])
    codes = [(await desk.ask(last, ("192.0.2.7", port))).code for port in (1, 2, 3)]
    assert codes == [coap.REQUEST_ENTITY_INCOMPLETE, coap.CREATED, coap.CREATED]


async def test_a_transfer_going_on_is_not_the_oldest(make_desk) -> None:
    """Each block counts as use: when room is needed, the idle transfer goes, not the eldest."""
    desk = make_desk(max_assemblies=2)
    for port, number in ((1, 0), (2, 0), (1, 1), (3, 0)):
        request = desk.request(payload=bytes(64), options=[block1(number, True)])
        await desk.ask(request, ("192.0.2.7", port))
    last = desk.request(payload=bytes(64), options=[block1(2, False)])
    assert (await desk.ask(last, ("192.0.2.7", 1))).code == coap.CREATED


async def test_a_transfer_is_forgotten_after_a_minute(desk) -> None:
    """A minute without a block ends a transfer; a minute in all does not."""
    for number in range(4):
        request = desk.request(payload=bytes(64), options=[block1(number, True)])
        assert (await desk.ask(request)).code == coap.CONTINUE
        await desk.pass_time(40)
    await desk.pass_time(21)
    late = desk.request(payload=bytes(64), options=[block1(4, False)])
    assert (await desk.ask(late)).code == coap.REQUEST_ENTITY_INCOMPLETE


@pytest.mark.parametrize(
    ("payload", "value"),
    [(bytes(64), block1(0, True, 7)), (bytes(63), block1(0, True)), (bytes(65), block1(0, False))],
)
async def test_a_block_out_of_form(desk, payload: bytes, value: coap.Option) -> None:
    """The reserved size, a short block with more to come, or one over its size is 4.00."""
    answer = await desk.ask(desk.request(payload=payload, options=[value]))
    assert answer.code == coap.BAD_REQUEST
    assert desk.service.calls == []


# ── responses ─────────────────────────────────────────────────────────────────────────────────


async def fetch(desk, code: int, path: str, size: int, first: coap.Message) -> bytes:
    """The rest of a response after its first block."""
    body, number = first.payload, 1
    exponent = size.bit_length() - 5
    etag = option(first, coap.ETAG)
    while True:
        answer = await desk.ask(desk.request(code, path, options=[block2(number, exponent)]))
        assert (answer.code, option(answer, coap.ETAG)) == (first.code, etag)
        body += answer.payload
        if not (option(answer, coap.BLOCK2) or b"\x00")[-1] & 8:
            return body
        number += 1


@pytest.mark.parametrize("code", [coap.GET, coap.POST])
async def test_a_long_response_is_fetched_in_blocks(desk, code: int) -> None:
    """The first block is 1,024 bytes, the others come from memory: the handler runs once."""
    desk.service.reply = Reply(BODY, format=Format.JSON)
    first = await desk.ask(desk.request(code, "plain"))
    assert len(first.payload) == 1024
    assert option(first, coap.BLOCK2) == Block(0, True, 6).encode()
    assert option(first, coap.SIZE2) == b"\x05\x00"
    assert option(first, coap.CONTENT_FORMAT) == b"\x32"
    assert await fetch(desk, code, "plain", 1024, first) == BODY
    assert len(desk.service.calls) == 1


async def test_a_client_may_ask_for_small_blocks(desk) -> None:
    """Block2 in the first request sets the size, also of a response that would fit."""
    desk.service.reply = Reply(BODY[:200], format=Format.JSON)
    first = await desk.ask(desk.request(path="plain", options=[block2(0, 2)]))
    assert option(first, coap.BLOCK2) == Block(0, True, 2).encode()
    assert await fetch(desk, coap.POST, "plain", 64, first) == BODY[:200]
    assert len(desk.service.calls) == 1


async def test_blocks_both_ways(desk) -> None:
    """A request in blocks may have a response in blocks; its first carries both options."""
    desk.service.reply = Reply(BODY, format=Format.JSON)
    *_, first = await send_blocks(desk, BODY)
    assert first.code == coap.CREATED
    assert option(first, coap.BLOCK1) == block1(19, False)[1]
    assert await fetch(desk, coap.POST, "api/v1/provision", 1024, first) == BODY
    assert len(desk.service.calls) == 1


async def test_a_post_is_never_run_for_a_later_block(desk) -> None:
    """A response no longer there is 4.08: running the POST again would provision again."""
    later = desk.request(payload=b"{}", options=[block2(1)])
    assert (await desk.ask(later)).code == coap.REQUEST_ENTITY_INCOMPLETE
    desk.service.reply = Reply(BODY)
    await desk.ask(desk.request())
    await desk.pass_time(61)
    gone = desk.request(options=[block2(1, 6)])
    assert (await desk.ask(gone)).code == coap.REQUEST_ENTITY_INCOMPLETE
    assert len(desk.service.calls) == 1


async def test_a_get_is_run_again_for_a_later_block(desk) -> None:
    """A GET changes nothing, so its response is made again when it is gone, and kept again."""
    desk.service.reply = Reply(BODY)
    first = await desk.ask(desk.request(coap.GET, "plain", options=[block2(0, 5)]))
    await desk.pass_time(61)
    assert await fetch(desk, coap.GET, "plain", 512, first) == BODY
    assert len(desk.service.calls) == 2


async def test_a_stored_response_belongs_to_its_peer(desk) -> None:
    """Nobody else can fetch the rest of a device's response."""
    desk.service.reply = Reply(BODY)
    await desk.ask(desk.request())
    stolen = await desk.ask(desk.request(options=[block2(1, 6)]), THERE)
    assert (stolen.code, stolen.payload) == (coap.REQUEST_ENTITY_INCOMPLETE, b"")


async def test_stored_responses_are_bounded(make_desk) -> None:
    """Beyond `max_stored` the oldest is forgotten."""
    desk = make_desk(max_stored=1)
    desk.service.reply = Reply(BODY)
    await desk.ask(desk.request())
    await desk.ask(desk.request(), THERE)
    later = [block2(1, 6)]
    assert (await desk.ask(desk.request(options=later))).code == coap.REQUEST_ENTITY_INCOMPLETE
    assert (await desk.ask(desk.request(options=later), THERE)).code == coap.CREATED


async def test_beyond_the_end(desk) -> None:
    """A block that is not there is 4.00; one of the reserved size too."""
    desk.service.reply = Reply(BODY)
    await desk.ask(desk.request())
    for value in (block2(2, 6), block2(0, 7), block2(1 << 19, 6)):
        assert (await desk.ask(desk.request(options=[value]))).code == coap.BAD_REQUEST


async def test_a_short_response_needs_no_blocks(desk) -> None:
    """An answer without a body is the same whatever block size was asked for."""
    desk.service.reply = Reply(status=Status.UNAUTHENTICATED)
    answer = await desk.ask(desk.request(options=[block2(0)]))
    assert (answer.code, answer.options) == (coap.UNAUTHORIZED, [])


async def test_the_size_of_a_short_response(desk) -> None:
    """Size2 in a request is answered with the size, also where no blocks are needed."""
    desk.service.reply = Reply(b"short")
    answer = await desk.ask(desk.request(path="plain", options=[(coap.SIZE2, b"")]))
    assert (option(answer, coap.SIZE2), option(answer, coap.BLOCK2)) == (b"\x05", None)


# ── sources ───────────────────────────────────────────────────────────────────────────────────


class Shelf:
    """A source that notes what was read; `missing` bytes are not there at the end."""

    def __init__(self, content: bytes, missing: int = 0) -> None:
        self.content = content
        self.missing = missing
        self.reads: list[tuple[int, int]] = []

    @property
    def size(self) -> int:
        return len(self.content)

    async def read(self, offset: int, size: int) -> bytes:
        self.reads.append((offset, size))
        return self.content[: self.size - self.missing][offset : offset + size]


class Labelled(Shelf):
    """A source with an ETag of its own."""

    etag = b"v2"


async def download(desk, size: int) -> bytes:
    """GET it all, block by block; every block has the same ETag."""
    got, number, more, tags = b"", 0, True, set()
    while more:
        options = [block2(number, size.bit_length() - 5)]
        answer = await desk.ask(desk.request(coap.GET, "plain", options=options))
        got, number = got + answer.payload, number + 1
        more = (option(answer, coap.BLOCK2) or b"\x00")[-1] & 8 > 0
        tags.add(option(answer, coap.ETAG))
    assert len(tags) == 1
    return got


@pytest.mark.parametrize("size", [16, 64, 512, 1024])
@pytest.mark.parametrize("length", [1, 63, 64, 2048, 3001])
async def test_a_source_is_read_in_blocks(desk, size: int, length: int) -> None:
    """Each block is read when it is asked for, and no more of it; the handler runs once."""
    shelf = Shelf(bytes(n * 7 & 0xFF for n in range(length)))
    desk.service.reply = Reply(source=shelf, format=Format.BYTES)
    assert await download(desk, size) == shelf.content
    assert shelf.reads == [(start, min(size, length - start)) for start in range(0, length, size)]
    assert len(desk.service.calls) == 1


async def test_the_first_block_of_a_source(desk) -> None:
    """Without Block2 blocks are 1,024 bytes; the first has size, label and ETag."""
    desk.service.reply = Reply(source=Labelled(bytes(300_001)), format=Format.BYTES)
    first = await desk.ask(desk.request(coap.GET, "plain"))
    assert (first.code, len(first.payload)) == (coap.CONTENT, 1024)
    assert first.options == [
        (coap.ETAG, b"v2"),
        (coap.CONTENT_FORMAT, b"\x2a"),
        (coap.BLOCK2, Block(0, True, 6).encode()),
        (coap.SIZE2, b"\x04\x93\xe1"),
    ]


async def test_an_empty_source(desk) -> None:
    """Nothing to read is an empty answer."""
    desk.service.reply = Reply(source=Shelf(b""), format=Format.BYTES)
    answer = await desk.ask(desk.request(coap.GET, "plain"))
    assert (answer.code, answer.payload, option(answer, coap.BLOCK2)) == (coap.CONTENT, b"", None)


async def test_beyond_the_end_of_a_source(desk) -> None:
    """A block that is not there is 4.00, whether the source is known or asked for again."""
    desk.service.reply = Reply(source=Shelf(bytes(2048)))
    for _ in range(2):
        answer = await desk.ask(desk.request(coap.GET, "plain", options=[block2(2, 6)]))
        assert answer.code == coap.BAD_REQUEST


@pytest.mark.parametrize("failing", ["short", "broken"])
async def test_a_source_that_fails(desk, failing: str) -> None:
    """A source with less than it said, or one that raises, is 5.00; the next request is served."""
    shelf = Shelf(bytes(2000), missing=1000)

    async def broken(offset: int, size: int) -> bytes:
        raise OSError("the disk is gone")

    if failing == "broken":
        shelf.read = broken
    desk.service.reply = Reply(source=shelf)
    answer = await desk.ask(desk.request(coap.GET, "plain", options=[block2(1, 6)]))
    assert (answer.code, answer.payload) == (coap.INTERNAL_SERVER_ERROR, b"")
    desk.service.reply = Reply(b"well")
    assert (await desk.ask(desk.request())).payload == b"well"


async def test_a_source_forgotten_is_asked_for_again(make_desk) -> None:
    """More downloads than are kept: each still gets its own, and its ETag stays the same."""
    desk = make_desk(max_stored=1)
    desk.service.reply = Reply(source=Shelf(bytes(range(200))))
    peers = [("192.0.2.7", port) for port in (1, 2)]
    tags, bodies = set(), dict.fromkeys(peers, b"")
    for number in range(4):
        for addr in peers:
            request = desk.request(coap.GET, "plain", options=[block2(number, 2)])
            answer = await desk.ask(request, addr)
            tags.add((addr, option(answer, coap.ETAG)))
            bodies[addr] += answer.payload
    assert list(bodies.values()) == [bytes(range(200))] * 2
    assert len(tags) == 2
    assert len(desk.service.calls) == 8


async def test_a_download_going_on_is_kept(desk) -> None:
    """A minute without a block forgets a source; a minute in all does not."""
    desk.service.reply = Reply(source=Shelf(bytes(400)))
    for number in range(4):
        await desk.ask(desk.request(coap.GET, "plain", options=[block2(number, 2)]))
        await desk.pass_time(40)
    assert len(desk.service.calls) == 1


async def test_sources_differ_by_query(desk) -> None:
    """What is asked for with another query has another transfer and another ETag."""
    desk.service.reply = Reply(source=Shelf(bytes(300)))
    tags = []
    for query in (b"chunk=0", b"chunk=1"):
        options = [(coap.URI_QUERY, query)]
        answer = await desk.ask(desk.request(coap.GET, "plain", options=options))
        tags.append(option(answer, coap.ETAG))
    assert len(set(tags)) == len(desk.service.calls) == 2
