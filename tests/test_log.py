"""The log: what a line is, what may never be in one, and that logging hurts nobody."""

from __future__ import annotations

import io
import json
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from gateway.core.errors import StoreUnavailable
from gateway.core.model import AccessToken, MqttBasic, Peer, RequestedCredentials, Secret, Wire
from gateway.log import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_TEXT,
    LibraryHandler,
    configure,
    exception_text,
    json_line,
    shield,
    shield_event,
)
from gateway.wire.call import Call


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo what `configure` did to the process."""
    root, asyncio_logger = logging.getLogger(), logging.getLogger("asyncio")
    levels, handlers = (root.level, asyncio_logger.level), root.handlers[:]
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    asyncio_logger.setLevel(levels[1])


@pytest.fixture
def stream() -> io.BytesIO:
    return io.BytesIO()


def fresh() -> Any:
    """A logger that takes the configuration of now."""
    return structlog.get_logger()


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# ── a line ────────────────────────────────────────────────────────────────────────────────────


def test_one_event_is_one_line_of_json(stream: io.BytesIO) -> None:
    """An event is a JSON object: time, level, event, then its fields as they are."""
    configure("info", "json", stream)
    fresh().info("call.answered", route="x", wire=Wire.HTTP, ms=1.5, ok=True, n=3, none=None)
    (line,) = lines(stream)

    assert list(line) == ["time", "level", "event", "route", "wire", "ms", "ok", "n", "none"]
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "call.answered",
        "route": "x",
        "wire": "http",
        "ms": 1.5,
        "ok": True,
        "n": 3,
        "none": None,
    }


def test_what_is_below_the_level_is_not_written(stream: io.BytesIO) -> None:
    """Only events of the level and above are written."""
    configure("warning", "json", stream)
    log = fresh()
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")

    assert [line["event"] for line in lines(stream)] == ["c", "d"]


class _Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("format_", "kind", "is_json", "coloured"),
    [
        ("auto", io.BytesIO, True, False),
        ("auto", _Terminal, False, True),
        ("json", _Terminal, True, False),
        ("console", io.BytesIO, False, False),
        ("console", _Terminal, False, True),
    ],
)
def test_the_format_follows_the_stream(
    monkeypatch: pytest.MonkeyPatch,
    format_: str,
    kind: Callable[[], io.BytesIO],
    is_json: bool,
    coloured: bool,
) -> None:
    """People at a terminal get colours, machines get JSON, unless the setting says otherwise."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = kind()
    configure("info", format_, stream)
    fresh().info("x.happened", field="value")
    written = stream.getvalue()

    assert (written[:1] == b"{") is is_json
    assert (b"\x1b[" in written) is coloured
    assert b"x.happened" in written
    assert b"value" in written


# ── secrets ───────────────────────────────────────────────────────────────────────────────────


class _Colour(Enum):
    RED = "red"


class _Box(Struct):
    inner: object


_HIDDEN = "hunter2"
_SECRET = Secret(_HIDDEN)


@pytest.mark.parametrize(
    "fields",
    [
        {"value": _SECRET},
        {"value": [_SECRET]},
        {"value": (_SECRET,)},
        {"value": {"a": {"b": [_SECRET]}}},
        {"value": {_SECRET: 1}},
        {"value": {_SECRET}},
        {"value": AccessToken(_SECRET)},
        {"value": _Box(_Box(_SECRET))},
        {"value": MqttBasic("id", "user", _SECRET)},
        {"value": MqttBasic("", _HIDDEN)},
        {"value": RequestedCredentials(username=_HIDDEN)},
        {"value": Call(b"hunter2", Peer(Wire.HTTP, "192.0.2.1:1"), {"token": "hunter2"})},
        {"value": b"hunter2"},
        {"value": bytearray(b"hunter2")},
        {"value": memoryview(b"hunter2")},
        {"value": [b"hunter2"]},
        {"value": ValueError(_HIDDEN)},
        {"value": KeyError(_HIDDEN)},
        {"value": type("X", (), {"__repr__": lambda _: _HIDDEN, "__str__": lambda _: _HIDDEN})()},
        {"value": lambda: _HIDDEN},
        {"token": _HIDDEN},
        {"Token": _HIDDEN},
        {"access_token": _HIDDEN},
        {"accessToken": _HIDDEN},
        {"secret": _HIDDEN},
        {"provision_secret": [_HIDDEN]},
        {"provisionDeviceSecret": _HIDDEN},
        {"provision_key": _HIDDEN},
        {"password": _HIDDEN},
        {"username": _HIDDEN},
        {"userName": _HIDDEN},
        {"mqtt_user_name": _HIDDEN},
        {"credential": _HIDDEN},
        {"credentials": {"x": _HIDDEN}},
        {"Authorization": _HIDDEN},
        {"body": _HIDDEN},
        {"payload": _HIDDEN},
        {"value": {"headers": {"X-Authorization": _HIDDEN}}},
        {"value": [{"password": _HIDDEN}]},
    ],
)
@pytest.mark.parametrize("format_", ["json", "console"])
def test_secrets_do_not_pass(stream: io.BytesIO, format_: str, fields: dict[str, Any]) -> None:
    """Whatever a secret hides in, and whatever it is called, it is in no line."""
    configure("info", format_, stream)
    fresh().info("x.happened", **fields)

    assert b"x.happened" in stream.getvalue()
    assert _HIDDEN.encode() not in stream.getvalue()


def test_what_is_no_secret_is_kept() -> None:
    """Numbers, texts, enums, paths, peers and errors of our own can be read in a line."""
    assert shield(
        {
            "path": Path("/a"),
            "peer": Peer(Wire.COAP, "192.0.2.1:5683"),
            "colour": _Colour.RED,
            "error": StoreUnavailable("disk full"),
            "os": FileNotFoundError(2, "No such file or directory"),
            "other": ValueError("x"),
            "bytes": b"abc",
            "key": "temperature",
            "token_count": 3,
        }
    ) == {
        "path": "/a",
        "peer": {"wire": "coap", "address": "192.0.2.1:5683", "actor": "", "request": ""},
        "colour": "red",
        "error": "StoreUnavailable: disk full",
        "os": "FileNotFoundError: [Errno 2] No such file or directory",
        "other": "ValueError",
        "bytes": "<3 bytes>",
        "key": "temperature",
        "token_count": 3,
    }


def test_lines_are_bounded(stream: io.BytesIO) -> None:
    """Long texts are cut, long lists too, deep ones end, and endless ones cannot loop."""
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = 1
    for _ in range(MAX_DEPTH + 3):
        deep = [deep]
    configure("info", "json", stream)
    fresh().info("x", text="x" * 10**6, many=list(range(10**4)), loop=loop, deep=deep, big=1 << 70)
    (line,) = lines(stream)

    assert len(line["text"]) == MAX_TEXT + 1
    assert len(line["many"]) == MAX_ITEMS
    assert line["deep"] == [[[["…"]]]]
    assert line["big"] == "<large number>"
    assert len(stream.getvalue()) < 10_000


def test_a_terminal_is_not_driven_by_a_device(stream: io.BytesIO) -> None:
    """Escape sequences and line breaks in a value are shown, not obeyed."""
    configure("info", "console", stream)
    fresh().info("x", name="\x1b[2Jevil\x9b\nfake line", nested=["\x1b]0;title\x07"])
    written = stream.getvalue()

    assert b"\x1b" not in written
    assert "\x9b" not in written.decode()
    assert b"\\x1b[2Jevil" in written
    assert written.count(b"\n") == 1


# ── exceptions ────────────────────────────────────────────────────────────────────────────────


def _raise_chain() -> None:
    password = "".join(["hun", "ter2"])  # not in the source text that a frame shows
    try:
        int(password)
    except ValueError as exc:
        raise StoreUnavailable("disk full") from exc


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_traceback_says_where_but_not_what(stream: io.BytesIO, format_: str) -> None:
    """A logged exception has its frames and causes, our own message, and no values."""
    configure("info", format_, stream)
    log = fresh()
    try:
        _raise_chain()
    except StoreUnavailable:
        log.exception("call.failed", route="x")
    written = stream.getvalue().decode()

    assert "in _raise_chain" in written
    assert "ValueError" in written
    assert "StoreUnavailable: disk full" in written
    assert "hunter2" not in written


def test_messages_of_the_machine_are_told() -> None:
    """What the database or the system said is in the text; what a value said is not."""
    group = ExceptionGroup(
        "both", [sqlite3.OperationalError("disk I/O error"), KeyError("hunter2")]
    )
    text = exception_text(group)

    assert "within: OperationalError: disk I/O error" in text
    assert "within: KeyError" in text
    assert "hunter2" not in text


def test_a_deep_traceback_is_bounded(stream: io.BytesIO) -> None:
    """An endless recursion is logged in a few kilobytes."""

    def recurse(depth: int) -> int:
        return recurse(depth + 1) + 1

    configure("info", "json", stream)
    log = fresh()
    try:
        recurse(0)
    except RecursionError:
        log.exception("x")

    assert "RecursionError" in lines(stream)[0]["exception"]
    assert len(stream.getvalue()) < 8000


# ── logging hurts nobody ──────────────────────────────────────────────────────────────────────


class _Unprintable(RuntimeError):
    def __str__(self) -> str:
        raise ValueError("no")


def test_what_cannot_be_printed_is_said_so(stream: io.BytesIO) -> None:
    """A value that fails while it is printed costs its line, not its caller."""
    configure("info", "json", stream)
    fresh().info("x", error=_Unprintable())

    assert lines(stream)[0]["event"] == "log.unprintable"


def test_half_characters_are_written(stream: io.BytesIO) -> None:
    """Text that is not Unicode (a file's name) is written with escapes."""
    configure("info", "json", stream)
    fresh().info("x", path="a\udcff", **{"k\udcff": 1})

    assert "\\udcff" in lines(stream)[0]["path"]


_ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.datetimes()
    | st.builds(Secret, st.just(_HIDDEN)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters()), _ANY, max_size=5))
@settings(deadline=None, max_examples=50)
def test_any_event_is_one_line(event: dict[str, Any]) -> None:
    """Whatever the fields, the line is JSON without line breaks or secrets."""
    line = json_line(None, "info", shield_event(None, "info", {**event, "event": "x"}))

    assert isinstance(json.loads(line), dict)
    assert b"\n" not in line
    assert _HIDDEN.encode() not in line


def test_a_broken_pipe_is_not_the_callers_problem() -> None:
    """When nobody reads standard error any more, events are lost and nothing is raised."""
    reader, writer = os.pipe()
    stream: BinaryIO = os.fdopen(writer, "wb")
    configure("info", "json", stream)
    log = fresh()
    os.close(reader)
    for _ in range(3):
        log.info("x", text="x" * 1000)
    stream.close()
    log.info("after the stream was closed")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&1 >/dev/null | true"])
def test_a_process_without_standard_error_ends_well(redirection: str) -> None:
    """A process whose standard error is closed, full or gone still exits with its own code."""
    program = (
        "import time, structlog; from gateway.log import configure\n"
        "time.sleep(0.05); configure(); log = structlog.get_logger()\n"
        "for n in range(100): log.info('x', text='x' * 1000)\n"
    )
    command = f'"$0" -c "$1" {redirection}; exit $' + "{PIPESTATUS[0]}"
    run = subprocess.run(
        ["bash", "-c", command, sys.executable, program],
        cwd=Path(__file__).parent.parent,
        check=False,
        timeout=20,
    )
    assert run.returncode == 0


# ── libraries ─────────────────────────────────────────────────────────────────────────────────


def test_what_libraries_say_comes_out_alike(stream: io.BytesIO) -> None:
    """Warnings and errors of `logging` are lines of ours; what is below them is dropped."""
    configure("info", "json", stream)
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("asyncio").debug("noise")
    logging.getLogger("some.library").warning("beware of %s\nsecond line", "dogs")
    logging.getLogger("some.library").error("broken %s")
    misfit = logging.LogRecord("some.library", logging.ERROR, "", 0, "not %d %d", ("x",), None)
    LibraryHandler().handle(misfit)

    assert [(x["level"], x["library"], x["message"]) for x in lines(stream)] == [
        ("warning", "some.library", "beware of dogs"),
        ("error", "some.library", "broken %s"),
        ("error", "some.library", "not %d %d"),
    ]


def test_a_librarys_traceback_has_no_values(stream: io.BytesIO) -> None:
    """An exception a library logs is shown by its frames: its message may be a request."""
    configure("info", "json", stream)
    try:
        raise ValueError("GET /api/v1/hunter2/telemetry")
    except ValueError:
        text = "in test_a_librarys_traceback"
        logging.getLogger("some.library").exception("Error handling request")
    (line,) = lines(stream)

    assert text in line["exception"]
    assert line["exception"].endswith("ValueError")


def test_a_flood_of_a_library_is_cut(stream: io.BytesIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many lines a second are written; the next second says how many were not."""
    now = [100.0]
    monkeypatch.setattr("gateway.log.time.monotonic", lambda: now[0])
    configure("info", "json", stream)
    handler = LibraryHandler(most_per_s=3)
    record = logging.LogRecord("lib", logging.WARNING, "", 0, "flood", (), None)
    for _ in range(10):
        handler.handle(record)
    now[0] = 101.0
    handler.handle(record)

    assert [line.get("lost_before") for line in lines(stream)] == [None, None, None, 7]


def test_configuring_twice_writes_once(stream: io.BytesIO) -> None:
    """The second configuration replaces the first, also for libraries."""
    configure("info", "json", io.BytesIO())
    configure("info", "json", stream)
    logging.getLogger("some.library").warning("once")

    assert len(lines(stream)) == 1
