"""Requests to calls, replies to responses: paths, queries, numbers, formats."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transports.coap import message as coap
from gateway.transports.coap.request import METHODS, understand
from gateway.wire.call import Format, Reply, Status, pairs_of


def option(answer: coap.Message, number: int) -> bytes | None:
    return dict(answer.options).get(number)


# ── addresses ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "segments",
    [
        (b"api", b"v1", b"provision"),
        (b"API", b"V1", b"Provision"),
        (b"api/v1/provision",),
        (b"/api/v1/provision",),
        (b"api", b"v1/provision"),
    ],
)
async def test_ways_to_write_a_path(desk, segments: tuple[bytes, ...]) -> None:
    """Segments may come one by one or in one option, in any case."""
    options = [(coap.URI_PATH, segment) for segment in segments]
    request = coap.Message(coap.CON, coap.POST, 1, b"", options)
    assert (await desk.ask(coap.encode(request))).code == coap.CREATED


@pytest.mark.parametrize(
    ("segments", "params"),
    [
        ((b"api", b"v1", b"to/ken", b"attributes"), {"token": "to/ken"}),
        ((b"API", b"v1", b"to%2Fken", b"Attributes"), {"token": "to%2Fken"}),
        ((b"api", b"v1/token", b"attributes"), {"token": "token"}),
        ((b"api/v1/token/attributes",), {"token": "token"}),
    ],
)
async def test_a_slash_within_a_segment(desk, segments, params: dict[str, str]) -> None:
    """A segment with a slash is one segment where a route has one there; else it is several."""
    options = [(coap.URI_PATH, segment) for segment in segments]
    answer = await desk.ask(coap.encode(coap.Message(coap.CON, coap.GET, 1, b"", options)))
    assert answer.code == coap.CONTENT
    assert [call.params for call in desk.service.calls] == [params]


@given(
    code=st.integers(0, 31),
    options=st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=20)), max_size=12),
    payload=st.binary(max_size=40),
)
@settings(deadline=None, max_examples=120)
def test_any_options_are_understood_or_settled(code: int, options, payload: bytes) -> None:
    """Whatever the options hold, a request is understood or has its answer already."""
    options = sorted(options, key=lambda option: option[0])
    try:
        ask = understand(coap.Message(coap.CON, code, 1, b"", options, payload), "peer")
    except coap.Settled:
        return
    assert ask.observe is None or code == coap.GET
    assert ask.content_format is None or len(ask.content_format) <= 2
    path = [value for number, value in options if number == coap.URI_PATH]
    assert ask.address == f"{METHODS[code]} /{b'/'.join(path).decode().lstrip('/')}"


async def test_the_last_of_two_alike_counts(desk) -> None:
    """Of query parts with one name, where they are not asked for one by one."""
    query = [(coap.URI_QUERY, part) for part in (b"k=a", b"x=1", b"k=b")]
    await desk.ask(desk.request(coap.GET, "api/v1/AbC/attributes", options=query))
    (call,) = desk.service.calls
    assert call.query == {"k": "b", "x": "1"}
    assert pairs_of(call.query) == (("k", "a"), ("x", "1"), ("k", "b"))


async def test_path_and_query_reach_the_handler(desk) -> None:
    """Path parameters keep their case, query parts are split at the first equals sign."""
    query = [
        (coap.URI_QUERY, part) for part in (b"clientKeys=a,b", b"x=1=2", b"flag", b"k=\xc3\xa4")
    ]
    await desk.ask(desk.request(coap.GET, "api/v1/AbC/attributes", options=query))
    (call,) = desk.service.calls
    assert call.params == {"token": "AbC"}
    assert call.query == {"clientKeys": "a,b", "x": "1=2", "flag": "", "k": "ä"}


async def test_options_of_real_clients_are_taken(desk) -> None:
    """Uri-Host, Uri-Port, Accept, Observe, an ETag and unknown elective options do no harm."""
    options = [
        (coap.URI_HOST, b"gateway.example"),
        (coap.URI_PORT, b"\x16\x33"),
        (coap.ETAG, b"12345678"),
        (6, b""),
        (coap.ACCEPT, b"\x3c"),
        (coap.SIZE1, b"\x02"),
        (258, b"\x02"),
        (65000, b"elective"),
    ]
    assert (await desk.ask(desk.request(payload=b"{}", options=options))).code == coap.CREATED


@pytest.mark.parametrize(
    "options",
    [
        [(coap.URI_PATH, bytes(256))],
        [(coap.URI_QUERY, bytes(256))],
        [(coap.URI_PATH, b"\xff\xfe")],
        [(coap.URI_QUERY, b"\xff=1")],
        [(coap.ACCEPT, b"123")],
        [(coap.ACCEPT, b"\x32"), (coap.ACCEPT, b"\x32")],
        [(coap.BLOCK1, b"1234")],
        [(coap.BLOCK1, b"\x06"), (coap.BLOCK1, b"\x06")],
    ],
)
async def test_options_out_of_form(desk, options: list[coap.Option]) -> None:
    """A critical option too long, repeated or not text is treated as not understood: 4.02."""
    assert (await desk.ask(desk.request(options=options))).code == coap.BAD_OPTION
    assert desk.service.calls == []


@pytest.mark.parametrize("number", [coap.PROXY_URI, coap.PROXY_SCHEME])
async def test_this_is_no_proxy(desk, number: int) -> None:
    """Proxy-Uri and Proxy-Scheme are answered 5.05."""
    request = desk.request(options=[(number, b"coap://elsewhere/")])
    assert (await desk.ask(request)).code == coap.PROXYING_NOT_SUPPORTED


# ── numbers ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "path", "expected"),
    [
        (coap.GET, "nowhere", coap.NOT_FOUND),
        (coap.POST, "nowhere", coap.NOT_FOUND),
        (coap.PUT, "api/v1/provision", coap.METHOD_NOT_ALLOWED),
        (coap.DELETE, "api/v1/provision", coap.METHOD_NOT_ALLOWED),
        (5, "api/v1/provision", coap.METHOD_NOT_ALLOWED),  # FETCH
        (6, "plain", coap.METHOD_NOT_ALLOWED),  # PATCH
        (7, "plain", coap.METHOD_NOT_ALLOWED),  # iPATCH
        (31, "plain", coap.METHOD_NOT_ALLOWED),
        (coap.GET, "plain", coap.CONTENT),
        (coap.POST, "plain", coap.CHANGED),
        (coap.POST, "api/v1/provision", coap.CREATED),
        (coap.POST, "bad", coap.BAD_REQUEST),
    ],
)
async def test_method_and_path(desk, code: int, path: str, expected: int) -> None:
    """What is served has its number, the route's own first; the rest is 4.04 or 4.05."""
    answer = await desk.ask(desk.request(code, path))
    assert answer.code == expected
    if expected >= coap.BAD_REQUEST:
        assert answer.payload == b""
        assert answer.options == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status.REFUSED, "4.00"),
        (Status.UNDECODABLE, "4.00"),
        (Status.BAD_REQUEST, "4.00"),
        (Status.UNAUTHENTICATED, "4.01"),
        (Status.NOT_FOUND, "4.04"),
        (Status.METHOD_NOT_ALLOWED, "4.05"),
        (Status.GONE, "4.01"),
        (Status.INTERNAL, "5.00"),
        (Status.OVERLOADED, "5.03"),
        (Status.LIMITED, "4.29"),
        (Status.TIMEOUT, "5.04"),
        (Status.DELETED, "4.04"),
        (Status.FAILED, "5.00"),
    ],
)
async def test_every_status_has_a_number(desk, status: Status, expected: str) -> None:
    """Each way a call can end has the code of the contract, on GET and on POST."""
    desk.service.reply = Reply(status=status)
    for method in (coap.GET, coap.POST):
        answer = await desk.ask(desk.request(method, "plain"))
        assert f"{answer.code >> 5}.{answer.code & 31:02d}" == expected


async def test_overload_says_when_to_return(desk) -> None:
    """OVERLOADED carries Max-Age, the seconds after which to try again."""
    desk.service.reply = Reply(status=Status.OVERLOADED, retry_after_s=300)
    answer = await desk.ask(desk.request())
    assert answer.options == [(coap.MAX_AGE, b"\x01\x2c")]


@pytest.mark.parametrize(("asked", "age"), [(0, b"\x01"), (7, b"\x07"), (1 << 40, b"\xff" * 4)])
async def test_a_rate_limit_says_when_to_return(desk, asked: int, age: bytes) -> None:
    """LIMITED carries Max-Age (RFC 8516), a second at least, and a body if there is one."""
    desk.service.reply = Reply(b"slow down", Status.LIMITED, Format.TEXT, retry_after_s=asked)
    answer = await desk.ask(desk.request())
    assert answer.options == [(coap.CONTENT_FORMAT, b""), (coap.MAX_AGE, age)]
    assert answer.payload == b"slow down"


@pytest.mark.parametrize("method", [coap.GET, coap.POST])
async def test_what_nobody_may_keep_says_so(desk, method: int) -> None:
    """`no-store` is Max-Age 0: without it an answer may be kept for a minute (RFC 7252, 5.10.5)."""
    headers = {"Cache-Control": "no-store"}
    desk.service.reply = Reply(b"{}", format=Format.JSON, headers=headers)
    answer = await desk.ask(desk.request(method, "plain"))
    assert answer.options == [(coap.CONTENT_FORMAT, b"\x32"), (coap.MAX_AGE, b"")]
    desk.service.reply = Reply(status=Status.BAD_REQUEST, headers=headers)
    answer = await desk.ask(desk.request(method, "plain"))
    assert answer.options == [(coap.MAX_AGE, b"")]
    desk.service.reply = Reply(headers={"Cache-Control": "max-age=60"})
    assert not (await desk.ask(desk.request(method, "plain"))).options


async def test_a_route_may_call_a_limit_an_error(desk) -> None:
    """With the route's own 5.00 for LIMITED there is no Max-Age: it would mean something else."""
    desk.service.reply = Reply(status=Status.LIMITED, retry_after_s=7)
    answer = await desk.ask(desk.request(coap.GET, "odd"))
    assert (answer.code, answer.options) == (coap.INTERNAL_SERVER_ERROR, [])


@pytest.mark.parametrize(
    ("reply", "content_format"),
    [
        (Reply(b"{}", format=Format.JSON), b"\x32"),
        (Reply(b'{"errorMsg":1}', Status.REFUSED, Format.JSON), b"\x32"),
        (Reply(b"\x08\x01", format=Format.PROTOBUF), None),
        (Reply(b"text", format=Format.TEXT), b""),
        (Reply(), None),
        (Reply(b"", format=Format.JSON), None),
    ],
)
async def test_content_format(desk, reply: Reply, content_format: bytes | None) -> None:
    """JSON is 50, text 0, protobuf and nothing unlabelled; the body goes out as it is."""
    desk.service.reply = reply
    answer = await desk.ask(desk.request())
    assert (option(answer, coap.CONTENT_FORMAT), answer.payload) == (content_format, reply.body)


@pytest.mark.parametrize(
    ("asked", "reply", "expected"),
    [
        (None, Reply(b"{}", format=Format.JSON), b"\x32"),
        (b"\x29", Reply(b"{}", format=Format.JSON), b"\x29"),
        (b"\x3c", Reply(b"{}", format=Format.JSON), b"\x32"),
        (b"", Reply(b"{}", format=Format.JSON), b""),
        (b"123", Reply(b"{}", format=Format.JSON), b"\x32"),
        (b"\x32", Reply(b"\x08\x01", format=Format.PROTOBUF), b"\x2a"),
        (None, Reply(b"\x08\x01", format=Format.PROTOBUF), b"\x2a"),
        (None, Reply(b"firmware", format=Format.BYTES), b"\x2a"),
        (b"\x32", Reply(), None),
    ],
)
async def test_own_content_format(
    desk, asked: bytes | None, reply: Reply, expected: bytes | None
) -> None:
    """JSON has the request's own label if that was one for JSON, else 50; the rest is 42."""
    desk.service.reply = reply
    options = [] if asked is None else [(coap.CONTENT_FORMAT, asked)]
    answer = await desk.ask(desk.request(path="plain", options=options))
    assert (option(answer, coap.CONTENT_FORMAT), answer.payload) == (expected, reply.body)


async def test_a_fixed_content_format(desk) -> None:
    """A route that fixes its label keeps it, whatever the request's own was."""
    answer = await desk.ask(desk.request(options=[(coap.CONTENT_FORMAT, b"\x3c")]))
    assert option(answer, coap.CONTENT_FORMAT) == b"\x32"


async def test_whole_links(service, make_desk) -> None:
    """A link that comes with its attributes is shown as it is (RFC 6690)."""
    service.links = ("/api/v1/provision", '</est/sen>;rt="ace.est.sen";ct="281 286"')
    desk = make_desk()
    answer = await desk.ask(desk.request(coap.GET, ".well-known/core"))
    assert answer.payload == b'</api/v1/provision>,</est/sen>;rt="ace.est.sen";ct="281 286"'


@pytest.mark.parametrize(
    ("options", "accept"),
    [([], None), ([(coap.ACCEPT, b"")], 0), ([(coap.ACCEPT, b"\x01\x1f")], 287)],
)
async def test_accept_reaches_the_handler(desk, options: list[coap.Option], accept) -> None:
    """The Content-Format a client would like best is passed on, and enforced by nobody."""
    assert (await desk.ask(desk.request(options=options))).code == coap.CREATED
    assert desk.service.calls[0].accept == accept


async def test_discovery(desk) -> None:
    """`/.well-known/core` lists what is served, in link format, to GET alone."""
    answer = await desk.ask(desk.request(coap.GET, ".well-known/core"))
    assert (answer.code, option(answer, coap.CONTENT_FORMAT)) == (coap.CONTENT, b"\x28")
    assert answer.payload == b"</api/v1/provision>,</api/v1/{token}/telemetry>"
    posted = await desk.ask(desk.request(coap.POST, ".well-known/core"))
    assert posted.code == coap.METHOD_NOT_ALLOWED
