"""What of a request reaches a handler."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import parse_qsl

import pytest
from http_ground import ROUTES, error_body, raw, shapes
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Wire
from gateway.transports.http import HttpListener, query_of
from gateway.wire.call import Reply
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router


async def test_body_path_and_query_reach_the_handler(ask):
    """Percent-encoded paths and form-encoded queries are decoded, the body is whole."""
    code, body, headers = await ask("POST", "/echo/a%20b?x=1+2&y=", b"z" * 1000)
    assert code == 200
    assert json.loads(body) == {"token": "a b", "query": {"x": "1 2", "y": ""}, "size": 1000}
    assert headers["Content-Type"] == "application/json"


async def test_a_route_has_its_own_numbers(ask):
    """A refusal is 200 where the route says so, with its body."""
    assert (await ask("POST", "/refuse"))[:2] == (200, b'{"status":"FAILURE"}')


async def test_a_bad_payload_is_explained(ask):
    """The answer to a bad payload is 400 and names the rule."""
    code, body, _ = await ask("POST", "/spoil", b"x")
    assert (code, json.loads(body)["message"]) == (400, "the name is missing")


async def test_unknown_paths_and_methods(ask):
    """Nothing there is 404; another method there is 405 and says which."""
    assert (await ask("GET", "/nowhere"))[0] == 404
    code, _, headers = await ask("PUT", "/echo/x")
    assert (code, headers["Allow"]) == (405, "GET, HEAD, POST")


# ── methods, paths and queries ────────────────────────────────────────────────────────────────


async def test_head_is_get_without_the_body(listener, ask):
    """HEAD has the head of GET's answer, its length too, and no body; the connection lives on."""
    code, body, headers = await ask("HEAD", "/echo/t?x=1")
    assert (code, body, headers["Content-Length"]) == (200, b"", "46")
    assert (await ask("HEAD", "/nowhere"))[:2] == (404, b"")
    code, _, headers = await ask("HEAD", "/refuse")
    assert (code, headers["Allow"]) == (405, "POST")
    twice = b"HEAD /echo/t HTTP/1.1\r\nHost: x\r\n\r\n" + (
        b"HEAD /echo/t HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    answers = await raw(listener, twice)
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert b"{" not in answers


@pytest.mark.parametrize("start", ["", "http://h:1"])
async def test_an_encoded_slash_is_part_of_its_segment(listener, start):
    """A token with a `%2F` reaches the handler whole, and makes no longer path."""

    async def get(path):
        line = f"GET {start}{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await raw(listener, line.encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head[9:12]), json.loads(body or b"{}")

    for escaped in ("a%2Fb", "a%2fb", "%61%2F%62"):
        code, seen = await get(f"/echo/{escaped}")
        assert (code, seen["token"]) == (200, "a/b")
    assert (await get("/echo%2Fx"))[0] == 404
    assert (await get("/st%61tus/ok"))[0] == 200
    assert (await get("/status%2Fok"))[0] == 404


async def test_names_given_twice_are_joined(ask):
    """Values of one query name are joined with commas, encoded or not, empty ones too."""
    _, body, _ = await ask("GET", "/echo/t?k=a&k=b%2Cc&x=&k=d")
    assert json.loads(body)["query"] == {"k": "a,b,c,d", "x": ""}


@given(st.text(alphabet="ab=&+;#%é/2", max_size=20))
def test_any_query_is_read_as_forms_are(text):
    """The short way without a percent sign gives what the standard library gives."""
    assert query_of(text).pairs == tuple(parse_qsl(text, keep_blank_values=True))


async def test_head_waits_for_later_routes_only_where_nothing_is():
    """One that a GET answers needs none of them; one of a path of theirs has its own HEAD."""
    asked = []

    async def note(call):
        asked.append("HEAD of its own")
        return Reply()

    async def later():
        asked.append("later")
        return (Route(name="own", handler=note, http=("HEAD /own",)),)

    router = Router(ROUTES, Wire.HTTP, Gauge(9), later=later)
    served = HttpListener(router, host="127.0.0.1", port=0, shapes=shapes(error_body))
    await served.start()
    for path, expected in (("/echo/t", []), ("/own", ["later", "HEAD of its own"])):
        asked.clear()
        end = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await raw(served, b"HEAD " + path.encode() + end)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert asked == expected
    await served.stop(1.0)


async def test_an_ipv6_peer_is_in_brackets():
    """The handler sees the client's address as it is written."""
    seen = []

    async def see(call):
        seen.append(call.peer.address)
        return Reply()

    route = Route(name="see", handler=see, http=("GET /",))
    for host, target, shown in (("::", "127.0.0.1", "127.0.0.1:"), ("::1", "::1", "[::1]:")):
        served = HttpListener(
            Router([route], Wire.HTTP, Gauge(9)), host=host, port=0, shapes=shapes(error_body)
        )
        await served.start()
        _, writer = await asyncio.open_connection(target, served.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        assert seen.pop().startswith(shown)
        writer.close()
        await served.stop(1.0)
