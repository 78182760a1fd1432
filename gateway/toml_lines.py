"""TOML files written by people: read whole, checked key by key, and faulted by line.

`tomllib` gives values without their places. A `TomlFile` finds the place again, but only when an
error has to name it: a message is `FILE:LINE: what is wrong. What to do.`
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import NODEFAULT, Meta, Struct, inspect

from gateway.core.errors import ConfigError
from gateway.core.limits import parse_rate
from gateway.core.spelling import closest, nearest

MAX_FILE_BYTES = 262_144
"""A configuration or profile is a page or two; a larger file was named by mistake."""

_GAP = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY_PATH = re.compile(rf"[ \t]*({_KEY}(?:[ \t]*\.[ \t]*{_KEY})*)[ \t]*")
_VALUE_PIECE = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*|[\[{]|[\]}]|\n|[^\"'#\[\]{}\n]+",
    re.DOTALL,
)
_TOMLLIB_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


# ── words for a person ────────────────────────────────────────────────────────────────────────


def plain(text: str, most: int = 40) -> str:
    """`text` as it may be printed: on one line, without control characters, cut at `most`."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def shown(value: object) -> str:
    """`value` as it is written in TOML, as far as one line has room. Not for secrets."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < 10**18 else "a number of more than 18 digits"
        case float():
            return f"{value:g}"
        case str():
            return f'"{plain(value)}"'
        case dict():
            return "a table"
        case list():
            return "a list"
    return "a date or time"


def written(value: object) -> str:
    """`value` whole, as it is written in TOML: for examples, which are ours. Not for secrets."""
    match value:
        case dict():
            return f"{{ {', '.join(f'{key} = {written(one)}' for key, one in value.items())} }}"
        case list():
            return f"[{', '.join(map(written, value))}]"
    return shown(value)


RateText = Annotated[
    str,
    Meta(
        max_length=255,
        extra={
            "wants": 'how many in how many seconds, as in "10:1,300:60", or "" for any number',
            "example": "10:1,300:60",
            "proof": parse_rate,
        },
    ),
]
"""A rate limit (ThingsBoard's notation): so many at once, refilled over so many seconds."""


# ── a file ────────────────────────────────────────────────────────────────────────────────────


class TomlFile:
    """The data of one TOML file, and the lines its keys stand on."""

    __slots__ = ("_text", "data", "name")

    def __init__(self, name: str, text: str, data: dict[str, Any]) -> None:
        self.name = name
        self.data = data
        self._text = text

    def fault(self, where: tuple[str, ...], wrong: str, remedy: str) -> ConfigError:
        """An error about the key at `where` (`("http", "port")`), or about the whole file: `()`."""
        return ConfigError(f"{self.name}:{self._line(where)}: {wrong} {remedy}")

    def _line(self, where: tuple[str, ...]) -> int:
        lines = key_lines(self._text)
        while where and where not in lines:
            where = where[:-1]
        return lines.get(where, 1)


def read_toml(path: Path) -> TomlFile:
    """Read the TOML file at `path`, UTF-8, at most 256 KiB.

    Raises `ConfigError` when there is no such file, or it cannot be read or is not TOML.
    """
    name, text = plain(str(path), 4096), read_text(path)
    try:
        return TomlFile(name, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as exc:
        raise _syntax_error(name, text, str(exc)) from None
    except RecursionError:
        raise ConfigError(f"{name}:1: lists or tables are nested too deep. Flatten them.") from None
    except ValueError:
        # Python refuses to read a decimal number of more than 4300 digits.
        raise ConfigError(f"{name}:1: a number is too long. Write a shorter one.") from None


def read_text(path: Path) -> str:
    """The text of the file at `path`, UTF-8, at most 256 KiB, with `\n` at each line's end.

    Raises `ConfigError` when there is no such file, or it cannot be read.
    """
    name = plain(str(path), 4096)
    return _text(name, _content(name, path))


def _content(name: str, path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block, a device never end
            raise ConfigError(f"{name}: is not a file. Give the path of a text file.")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{name}: there is no such file. Check the path.") from None
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "the path is not valid"
        raise ConfigError(f"{name}: cannot be read: {reason}. Check its permissions.") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(
            f"{name}: is larger than {MAX_FILE_BYTES} bytes. Is this the file you meant?"
        )
    return content


def _text(name: str, content: bytes) -> str:
    try:
        # "sig": some editors put a byte order mark first. Line ends as tomllib counts them.
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{name}:{line}: is not UTF-8 text. Save the file as UTF-8.") from None


def _syntax_error(name: str, text: str, message: str) -> ConfigError:
    """tomllib's message speaks of keys and characters, never of a value."""
    place = _TOMLLIB_PLACE.search(message)
    if place is None or place[1] is None:
        line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
    else:
        line, column = int(place[1]), int(place[2])
    said = plain(message[: place.start()] if place else message, 200)
    return ConfigError(
        f"{name}:{line}:{column}: is not TOML: {said}. "
        "Write `key = value`, text in double quotes, one setting a line."
    )


# ── where keys stand ──────────────────────────────────────────────────────────────────────────


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line each key and table header of valid TOML `text` stands on, by full path.

    Keys within an inline table are not listed: the table stands on one line. Text that is not
    TOML never raises; what is found up to there is returned.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    line, counted = 1, 0
    at = _end_of(_GAP.match(text, 0))
    while at < len(text):
        header = 2 if text.startswith("[[", at) else 1 if text[at] == "[" else 0
        key = _KEY_PATH.match(text, at + header)
        if key is None:
            break
        line, counted = line + text.count("\n", counted, at), at
        path = _parts(key[1])
        if header:
            table = path
        else:
            path = table + path
        for depth in range(1, len(path) + 1):
            lines.setdefault(path[:depth], line)
        at = key.end() + header if header else _value_end(text, key.end())
        at = _end_of(_GAP.match(text, at))
    return lines


def _end_of(match: re.Match[str] | None) -> int:
    return match.end() if match else 0


def _parts(key: str) -> tuple[str, ...]:
    """`a."b.c"` as `("a", "b.c")`; tomllib knows the quoting rules."""
    inner: Any
    try:
        inner = tomllib.loads(f"{key}=0")
    except (ValueError, RecursionError):
        return (key,)
    parts = []
    while isinstance(inner, dict):
        part, inner = next(iter(inner.items()))
        parts.append(part)
    return tuple(parts)


def _value_end(text: str, at: int) -> int:
    """Where the value that begins at or after `at` ends: at a line end outside of brackets."""
    depth = 0
    while at < len(text):
        piece = _VALUE_PIECE.match(text, at)
        if piece is None:
            return len(text)
        if piece[0] in "[{":
            depth += 1
        elif piece[0] in "]}":
            depth -= 1
        elif piece[0] == "\n" and depth <= 0:
            break
        at = piece.end()
    return at


# ── keys against a struct ─────────────────────────────────────────────────────────────────────


class UnfitError(Exception):
    """A value does not suit its setting. `wrong` and `remedy` go into a `ConfigError`."""

    def __init__(self, wrong: str, remedy: str) -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.remedy = remedy


class Setting(NamedTuple):
    """One key: its type, what that type wants in words, its values if few, and an example.

    A `hidden` setting may hold a secret by mistake (a database address with a password), so its
    value is never shown. `proof`, if there is one, raises `ValueError` about a value that its type
    lets pass; the words of the error end the message.
    """

    name: str
    type: Any
    wants: str
    choices: tuple[str, ...]
    example: object
    hidden: bool
    proof: Callable[[Any], object] | None

    def check(self, value: object, *, strict: bool = True) -> Any:
        """`value` as the setting's type. Not `strict`: from text. Raises `UnfitError`."""
        because = ""
        try:
            fit = msgspec.convert(value, self.type, strict=strict)
            if self.proof is not None:
                self.proof(fit)
            return fit
        except msgspec.ValidationError:
            pass
        except ValueError as exc:
            because = f": {exc}".rstrip(".")
        # Of a list that is one, the proof says which item is wrong; "is a list" would help nobody.
        untold = self.hidden or (because and isinstance(value, (list, dict)))
        said = because if untold else f", is {shown(value)}{because}"
        example = f"Write for example `{self.name} = {written(self.example)}`."
        if isinstance(value, str) and closest(value, self.choices):
            example = nearest(value, self.choices)
        raise UnfitError(f"must be {self.wants}{said}.", example)


@cache
def settings_of(shape: type[Struct]) -> Mapping[str, Setting]:
    """The settings a struct describes. Bounds and words come from its annotations.

    `Meta(extra={...})` may hold `wants` (words for a text), `example`, `hidden` and `proof`.
    """
    return {
        field.name: _setting(field.name, field.type, field.default)
        for field in msgspec.structs.fields(shape)
    }


def _setting(name: str, annotation: Any, default: object) -> Setting:
    kind = inspect.type_info(annotation)
    extra: dict[str, Any] = {}
    if isinstance(kind, inspect.Metadata):
        extra, kind = kind.extra or {}, kind.type
    choices = _choices(kind)
    example = extra.get("example", next(iter(choices), "") if default is NODEFAULT else default)
    wants = extra.get("wants") or _wants(kind, choices)
    hidden, proof = bool(extra.get("hidden")), extra.get("proof")
    return Setting(name, annotation, wants, choices, example, hidden, proof)


def _choices(kind: inspect.Type) -> tuple[str, ...]:
    match kind:
        case inspect.LiteralType(values=values):
            return tuple(str(value) for value in values)
        case inspect.EnumType(cls=cls):
            return tuple(str(member.value) for member in cls)
    return ()


def _wants(kind: inspect.Type, choices: tuple[str, ...]) -> str:
    if choices:
        return "one of " + ", ".join(shown(choice) for choice in choices)
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=low, le=high):
            return f"a whole number between {low} and {high}"
        case inspect.FloatType(ge=low, le=high):
            return f"a number between {low:g} and {high:g}"
    return "text in quotes"


def read_table(
    file: TomlFile, where: tuple[str, ...], table: Mapping[str, object], shape: type[Struct]
) -> dict[str, Any]:
    """The keys of `table`, which stands at `where` in `file`, proven against `shape`.

    Absent keys are not in the answer. Raises `ConfigError` at the first key that is unknown or
    whose value does not suit.
    """
    settings = settings_of(shape)
    prefix = f"[{'.'.join(where)}] " if where else ""
    values: dict[str, Any] = {}
    for key, value in table.items():
        setting = settings.get(key)
        if setting is None:
            wrong = f"{prefix or 'the file '}has no setting `{plain(key)}`."
            raise file.fault((*where, key), wrong, nearest(key, settings))
        try:
            values[key] = setting.check(value)
        except UnfitError as unfit:
            wrong = f"{prefix}{key} {unfit.wrong}"
            raise file.fault((*where, key), wrong, unfit.remedy) from None
    return values
