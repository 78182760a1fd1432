"""Replies as HTTP answers: numbers, words and headers."""

from __future__ import annotations

import json

import aiohttp
import pytest
import structlog
from http_ground import make_listener

from gateway.transports.http_answers import CODES
from gateway.wire.call import Format, Reply, Status
from gateway.wire.route import Route


@pytest.mark.parametrize(
    ("ended", "code", "empty"),
    [
        ("ok", 200, True),
        ("refused", 403, True),
        ("undecodable", 400, False),
        ("bad_request", 400, False),
        ("unauthenticated", 401, True),
        ("gone", 401, True),
        ("not_found", 404, False),
        ("method_not_allowed", 405, False),
        ("timeout", 408, True),
        ("limited", 429, False),
        ("overloaded", 503, False),
        ("failed", 500, True),
        ("ignored", 500, True),
        ("internal", 500, True),
    ],
)
async def test_every_status_has_a_number(ask, ended, code, empty):
    """401, 408 and 500 stay empty, the others are explained."""
    got, body, _ = await ask("GET", f"/status/{ended}")
    assert (got, body == b"") == (code, empty)
    assert empty or json.loads(body) == {"status": code, "message": "as it is"}
    assert set(CODES) == set(Status)


@pytest.mark.parametrize(
    ("ended", "later", "told"),
    [
        ("limited", 0, "1"),
        ("limited", 7, "7"),
        ("overloaded", 0, None),
        ("overloaded", 7, "7"),
        ("ok", 0, None),
    ],
)
async def test_who_sends_too_much_is_told_when_to_come_back(ask, ended, later, told):
    """Retry-After is at least a second for a rate limit, and what the reply says otherwise."""
    _, _, headers = await ask("GET", f"/status/{ended}?later={later}")
    assert headers.get("Retry-After") == told


async def fetch(reply, **numbers):
    """What a client gets for `reply`, on a route with these numbers by status name."""

    async def handler(call):
        return reply

    codes = {Status(name): code for name, code in numbers.items()}
    served = make_listener([Route(name="r", handler=handler, http=("GET /",), http_codes=codes)])
    await served.start()
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{served.port}/") as answer,
        ):
            return answer.status, await answer.read(), answer.headers
    finally:
        await served.stop(1.0)


async def test_a_limit_that_is_an_error_of_ours_is_empty():
    """A route that answers 500 for a rate limit says nothing in the body, but when to come back."""
    limited = Reply(status=Status.LIMITED, reason="too much", retry_after_s=3)
    code, body, headers = await fetch(limited, limited=500)
    assert (code, body, headers["Retry-After"]) == (500, b"", "3")


async def test_a_removed_device_is_told_so():
    """The text is ThingsBoard's own, or the dialect's."""
    code, body, headers = await fetch(Reply(status=Status.DELETED))
    assert (code, body) == (403, b"Device was deleted!")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    gone = Reply(b'"gone"', Status.DELETED, Format.JSON)
    assert (await fetch(gone))[:2] == (403, b'"gone"')


async def test_bytes_are_named_octets():
    """A reply of bytes has their media type, one without a body has none."""
    assert (await fetch(Reply(b"\x00", format=Format.BYTES)))[2]["Content-Type"] == (
        "application/octet-stream"
    )
    assert "Content-Type" not in (await fetch(Reply()))[2]


async def test_a_reply_brings_its_headers():
    """Headers of the reply are sent, with errors too."""
    for status in (Status.OK, Status.NOT_FOUND):
        _, _, headers = await fetch(Reply(status=status, headers={"x-filename": "a b;ü.bin"}))
        assert headers["x-filename"] == "a b;ü.bin"
        assert headers["Server"] == "gatehouse"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-a", "tok-secret\r\nSet-Cookie: a=b"),
        ("x-a", "tok-secret\n"),
        ("x-a", "tok-secret\x00"),
        ("x-a", "tok-secret\x7f"),
        ("x-a", "tok-secret\ud800"),
        ("x a", "tok-secret"),
        ("x\r\n", "tok-secret"),
        ("", "tok-secret"),
    ],
)
async def test_a_header_ends_no_line(name, value):
    """A header that would not be one header is a fault of ours: 500, and its value is nowhere."""
    with structlog.testing.capture_logs() as events:
        code, body, headers = await fetch(Reply(b"x", headers={name: value}))
    assert (code, body) == (500, b"")
    assert "tok-secret" not in str(headers)
    assert [event["event"] for event in events if event["log_level"] == "error"] == ["http.failed"]
    assert "tok-secret" not in str(events)
