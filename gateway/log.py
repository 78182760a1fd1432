"""structlog, set up once. Secrets cannot pass, and no event can hurt the one who logs it.

One event is one line on standard error: JSON for machines, colours for people at a terminal. What
libraries say through `logging` at WARNING and above comes out the same way.

Nothing is printed by its `repr`, because a `repr` may hold anything: numbers, short texts, enums,
structs, lists and mappings are, and of the rest its type.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import PurePath
from types import TracebackType
from typing import Any, BinaryIO

import msgspec
import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.typing import EventDict, Processor

from gateway.core.errors import GatehouseError
from gateway.core.model import Secret, Wire

MASK = "***"
MAX_TEXT = 2000
"""Characters of one value."""
LARGE = "<large number>"
MAX_ITEMS = 50
"""Members of one list or mapping."""
MAX_DEPTH = 4
"""Lists and mappings within each other."""
MAX_FRAMES = 20
"""Frames of one traceback, the innermost."""
MAX_CAUSES = 4
"""Exceptions of one chain."""
LIBRARY_EVENTS_PER_S = 20
"""Lines a second that libraries may write; the rest are counted. A flood must not fill the disk."""

_MASKED_ENDINGS = (
    *("token", "tokens", "secret", "secrets", "password", "passwords", "passwd"),
    *("credential", "credentials", "authorization", "cookie", "body", "payload"),
    # Alone, a device's user name or client id is the whole credential.
    *("username", "user_name", "client_id"),
    *("provision_key", "master_key", "private_key", "api_key"),
)
_TELLING = (
    *(GatehouseError, OSError, sqlite3.Error, RuntimeError, NotImplementedError),
    *(AttributeError, TypeError, NameError, ImportError, MemoryError, AssertionError),
)
"""Errors whose messages speak of us or of the machine. Others may repeat what a device sent."""

_NOT_FIELDS = frozenset({"event", "exc_info", "stack_info"})
_PLAIN = frozenset({float, bool, type(None)})
_WORDS = frozenset({Wire})
"""Enumerations of our own short words."""
_LEVELS = {"warn": "warning", "exception": "error", "fatal": "critical"}


# ── what may be shown ─────────────────────────────────────────────────────────────────────────


class _MaskedKeys(dict[str, bool]):
    """Whether the value under a key is masked, by the end of its name: `provision_secret`."""

    def __missing__(self, key: str) -> bool:
        masked = key.lower().replace("-", "_").endswith(_MASKED_ENDINGS)
        if len(self) < 1000:  # keys are words of our own source; nested ones might not be
            self[key] = masked
        return masked


_MASKED = _MaskedKeys()


def shield(value: object, depth: int = 0) -> Any:
    """`value` as it may be logged: bounded, without secrets, fit for JSON."""
    match value:
        case Enum():
            return shield(value._value_, depth)  # `.value` costs four times as much
        case None | bool() | float():
            return value
        case int():
            return value if -(2**63) <= value < 2**64 else LARGE
        case str():
            return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
        case Secret():
            return MASK
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case BaseException():
            return exception_line(value)
        case PurePath():
            return shield(str(value))
        case datetime():
            return value.isoformat()
    return _shield_many(value, depth)


def _shield_many(value: object, depth: int) -> Any:
    if isinstance(value, msgspec.Struct):
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        pairs = (pair for pair, _ in zip(value.items(), range(MAX_ITEMS), strict=False))
        return {_name(key): _member(key, item, depth) for key, item in pairs}
    if isinstance(value, list | tuple | set | frozenset):
        return [shield(item, depth + 1) for item, _ in zip(value, range(MAX_ITEMS), strict=False)]
    return f"<{type(value).__name__}>"


def _name(key: object) -> str:
    return key[:100] if isinstance(key, str) else str(shield(key, MAX_DEPTH))


def _member(key: object, item: object, depth: int) -> Any:
    return MASK if isinstance(key, str) and _MASKED[key] else shield(item, depth + 1)


def exception_line(exc: BaseException) -> str:
    """The type of `exc`, and its message where that cannot hold what a device sent."""
    name = type(exc).__name__
    if not isinstance(exc, _TELLING) or isinstance(exc, UnicodeError):
        return name
    return f"{name}: {exc}"[:MAX_TEXT]


def exception_text(exc: BaseException) -> str:
    """`exc` and what led to it, innermost first, each with its last frames and without values."""
    parts: list[str] = []
    current: BaseException | None = exc
    while current is not None and len(parts) < MAX_CAUSES:
        frames = _frames(current.__traceback__)
        members = current.exceptions[:MAX_CAUSES] if isinstance(current, BaseExceptionGroup) else ()
        within = "".join(f"\n  within: {exception_line(member)}" for member in members)
        parts.append(f"{frames}{exception_line(current)}{within}")
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return "\nwhich led to\n".join(reversed(parts))


def _frames(trace: TracebackType | None) -> str:
    return "".join(traceback.format_tb(trace, limit=-MAX_FRAMES)) if trace else ""


# ── processors ────────────────────────────────────────────────────────────────────────────────


def shield_event(_: object, method: str, event: EventDict) -> EventDict:
    """The processor that lets nothing secret pass: level and event first, then the fields.

    It never raises: the one who logs has better things to do.
    """
    try:
        return _shielded(method, event)
    except Exception as exc:
        return {"level": "error", "event": "log.unprintable", "because": type(exc).__name__}


def _shielded(method: str, event: EventDict) -> EventDict:
    shielded = {"level": _LEVELS.get(method, method), "event": shield(event.get("event", ""))}
    _shield_fields(event, shielded)
    exc = _exception(event.get("exc_info"))
    if exc is not None:
        shielded["exception"] = exception_text(exc)
    return shielded


def _shield_fields(fields: Mapping[str, Any], into: dict[str, Any]) -> None:
    """On the path of every event: values of the plain types do not leave this loop."""
    for key, value in fields.items():
        kind = type(value)
        if key in _NOT_FIELDS:
            continue
        if _MASKED[key]:
            into[key] = MASK
        elif kind in _PLAIN or (kind is str and len(value) <= MAX_TEXT):
            into[key] = value
        elif kind is int:
            into[key] = value if -(2**63) <= value < 2**64 else LARGE
        elif kind in _WORDS:
            into[key] = value._value_
        else:
            into[key] = shield(value)


def _exception(exc_info: object) -> BaseException | None:
    match exc_info:
        case BaseException():
            return exc_info
        case (_, BaseException() as exc, _):
            return exc
        case None | False:
            return None
    return sys.exc_info()[1]


def json_line(_: object, __: str, event: EventDict) -> bytes:
    """The last processor for machines: one JSON object, time first (ISO 8601, UTC)."""
    line = {"time": datetime.now(UTC), **event}
    try:
        return msgspec.json.encode(line)
    except ValueError:  # half a surrogate pair, from a file's name
        return msgspec.json.encode({ascii(key)[1:-1]: _encodable(line[key]) for key in line})


def _encodable(value: object) -> object:
    return ascii(value) if isinstance(value, str | list | dict) else value


class ConsoleLine:
    """The last processor for people: aligned, with colours, and no character that could act.

    A device's name is shown on an operator's terminal; escape sequences in it are not obeyed.
    """

    def __init__(self, *, colors: bool) -> None:
        # Not structlog's own traceback: with rich installed it prints the values of locals.
        self._render = ConsoleRenderer(
            colors=colors, exception_formatter=plain_traceback, sort_keys=False
        )

    def __call__(self, logger: object, method: str, event: EventDict) -> bytes:
        harmless = {key: _harmless(value) for key, value in event.items()}
        if "exception" in event:
            lines = str(event["exception"]).split("\n")
            harmless["exception"] = "\n".join(_harmless(line) for line in lines)
        harmless["timestamp"] = time.strftime("%H:%M:%S")
        return self._render(logger, method, harmless).encode("utf-8", "backslashreplace")


def _harmless(value: Any) -> Any:
    text = value if isinstance(value, str) else str(value)
    if text.isprintable():
        return value
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


# ── where lines go ────────────────────────────────────────────────────────────────────────────


class LineLogger:
    """Writes lines to a binary stream. A stream that is closed, full or gone loses them."""

    __slots__ = ("_write",)

    def __init__(self, stream: BinaryIO | None) -> None:
        # Past the buffer: what a broken pipe refused would stay in it and fail again at exit.
        raw = getattr(stream, "raw", stream)
        self._write: Callable[[bytes], object] | None = raw.write if raw is not None else None

    def msg(self, line: bytes) -> None:
        if self._write is None:
            return
        try:
            self._write(line + b"\n")
        except (OSError, ValueError):
            return

    debug = info = warn = warning = error = exception = critical = fatal = log = msg


class LibraryHandler(logging.Handler):
    """Hands what libraries log to structlog, so many lines a second; the rest are counted.

    Of a message the first line is kept, of an exception the frames: a library may well put the
    request it could not read in there.
    """

    def __init__(self, most_per_s: int = LIBRARY_EVENTS_PER_S) -> None:
        super().__init__(logging.WARNING)
        self._most_per_s = most_per_s
        self._second = 0
        self._written = 0
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._written = second, 0
        if self._written >= self._most_per_s:
            self._lost += 1
            return
        self._written += 1
        fields: dict[str, Any] = {"library": record.name, "message": _first_line(record)}
        if self._lost:
            fields["lost_before"], self._lost = self._lost, 0
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        logger = structlog.get_logger()
        write = logger.error if record.levelno >= logging.ERROR else logger.warning
        write("library.said", **fields)


def _first_line(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except Exception:  # a format that does not fit its arguments is the library's mistake
        message = str(record.msg)
    return message.partition("\n")[0][:300]


# ── once ──────────────────────────────────────────────────────────────────────────────────────


def configure(level: str = "info", format: str = "auto", stream: BinaryIO | None = None) -> None:  # noqa: A002
    """Set logging up for the whole process. To be called once, before the first event.

    `level` is `debug`, `info`, `warning` or `error`; `format` is `json`, `console`, or `auto`: the
    latter on a terminal, else the former. `stream` is standard error unless given. Loggers that
    have been used keep the configuration they were first used with.
    """
    if stream is None and sys.stderr is not None:
        stream = sys.stderr.buffer
    terminal = stream is not None and stream.isatty()
    last: Processor = json_line
    wrapper = structlog.make_filtering_bound_logger(level)
    if format == "console" or (format == "auto" and terminal):
        last = ConsoleLine(colors=terminal and not os.environ.get("NO_COLOR"))
    elif level in ("debug", "info"):
        wrapper = _with_short_way(wrapper)
    structlog.configure(
        processors=[shield_event, last],
        wrapper_class=wrapper,
        context_class=dict,
        logger_factory=lambda *_: LineLogger(stream),
        cache_logger_on_first_use=True,
    )
    _route_libraries()


def _with_short_way(wrapper: Any) -> Any:
    """A logger whose `info` goes straight to its line: the same shield, the same JSON.

    structlog's own way through contexts and processors takes 9 µs, a tenth of a provisioning, and
    each provisioning is one such line. This takes 5.
    """

    class ShortWay(wrapper):  # type: ignore[misc]
        def info(self, event: str = "", *args: Any, **fields: Any) -> None:
            if args or self._context or "exc_info" in fields:
                super().info(event, *args, **fields)
                return
            line: dict[str, Any] = {"level": "info", "event": event}
            try:
                _shield_fields(fields, line)
                text = json_line(None, "info", line)
            except Exception:  # the long way says what cannot be printed
                super().info(event, **fields)
                return
            self._logger.msg(text)

    return ShortWay


def _route_libraries() -> None:
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, LibraryHandler):
            root.removeHandler(handler)
    root.addHandler(LibraryHandler())
    root.setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
