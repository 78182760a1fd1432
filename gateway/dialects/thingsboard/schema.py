"""Protobuf payloads of a profile's own making: its `.proto` text, and messages of it (section 13).

The text is compiled by protoc itself (`grpc_tools.protoc`), in a process of its own: faults come
with their lines, and no text can hang or crash the gateway. It is the extra `protobuf-profiles`,
because its 35 MB are of use to few. The lighter ones were compared: protoxy (Rust) ties protobuf
to 5.27; proto-schema-parser reads past faults and leaves names, numbers and types to its caller.

Compiling takes about 100 ms and is remembered by text; await it in a thread. Importing this module
loads the protobuf runtime, so it is imported when first needed.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, EncodeError, Message
from google.protobuf.message_factory import GetMessageClass

from gateway.wire.call import BadPayload

MAX_SCHEMA_CHARACTERS = 65_536
"""A schema is a page; a longer text was named by mistake."""

MAX_FIELDS = 100_000
"""Fields shown of one message, those within its messages included. Those that are not sent have
their defaults shown, so two bytes can stand for a whole message."""

_COMPILE_S = 20.0
_MOST_KEPT = 1024
_FILE = "schema.proto"
_FAULT = re.compile(
    rf"^(?:.*/)?{re.escape(_FILE)}:(?:(\d+):(\d+):)? (?!warning:)(.+)$", re.MULTILINE
)
_OF_GOOGLE = "google.protobuf."
_WRAPPERS = re.compile(r"google\.protobuf\.(?:Bool|Bytes|Double|Float|String|U?Int(?:32|64))Value")
_UNPRINTABLE = (json_format.Error, ValueError, TypeError, RecursionError)


class SchemaError(ValueError):
    """A schema cannot be used. The message says where (line, column), what, and what to do."""


class SchemaUse(StrEnum):
    """What a schema's messages are for. Some uses have rules of their own."""

    TELEMETRY = "telemetry"
    ATTRIBUTES = "attributes"
    RPC_REQUEST = "rpc_request"
    RPC_RESPONSE = "rpc_response"


class Schema:
    """Messages of one kind, to and from JSON. The last message of the text is the one.

    So does ThingsBoard choose (`DynamicProtoUtils.getDynamicMessageBuilder`): the messages within
    the one that is sent stand above it. Every schema has a pool of its own, so names of two never
    meet.
    """

    __slots__ = ("_members", "_new", "_pool", "_texts", "name")

    def __init__(self, files: FileDescriptorSet, use: SchemaUse) -> None:
        """`files` as protoc makes them: imported ones first. Raises `SchemaError`."""
        self._pool = DescriptorPool()
        descriptor = _root(files, self._pool)
        _obey(descriptor, use)
        self.name = descriptor.name
        self._new: type[Message] = GetMessageClass(descriptor)
        self._members = _members(descriptor, {})
        self._texts = frozenset(
            name
            for field in descriptor.fields
            if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated
            for name in (field.name, field.json_name)
        )

    @staticmethod
    def compile(text: str, use: SchemaUse = SchemaUse.ATTRIBUTES) -> Schema:
        """The schema that the `.proto` text describes; proto3, importing nothing but
        `google/protobuf/*.proto`.

        Raises `SchemaError`, also when the compiler is not installed or the rules of `use` are
        broken. Blocks for as long as a process takes, when `text` was not compiled before.
        """
        return _compiled(text, use)

    def to_json(self, body: bytes) -> bytes:
        """The message `body` holds, as a JSON object.

        As protobuf's own JSON mapping (names in lowerCamelCase or as `json_name` says; `optional`
        fields and messages only if they are set, all others always), but with 64-bit integers as
        numbers. Fields the schema does not know are passed over, as ThingsBoard does: a device may
        be newer than its profile. Raises `BadPayload`, undecodable unless it only is too much.
        """
        message = self._new()
        try:
            message.ParseFromString(body)
            return msgspec.json.encode(_object(message, self._members, _Budget()))
        except (DecodeError, *_UNPRINTABLE):
            raise BadPayload(
                f"the payload is not a message {self.name}", undecodable=True
            ) from None

    def from_json(self, value: Mapping[str, Any]) -> bytes:
        """The message that holds `value`, a JSON object; what the schema lacks is left out.

        Text that the schema wants and `value` has as something else becomes its JSON text:
        a method's `params` may be declared a string and still be called with an object.
        Raises `BadPayload` when `value` does not fit.
        """
        fitted = {
            name: one
            if one is None or isinstance(one, str) or name not in self._texts
            else msgspec.json.encode(one).decode()
            for name, one in value.items()
        }
        try:
            message = json_format.ParseDict(
                fitted, self._new(), ignore_unknown_fields=True, descriptor_pool=self._pool
            )
            return message.SerializeToString()
        except (EncodeError, *_UNPRINTABLE):
            # The library's own words would repeat the value.
            raise BadPayload(f"the value does not fit the message {self.name}") from None


# ── from text to descriptors ──────────────────────────────────────────────────────────────────


@lru_cache(maxsize=_MOST_KEPT)
def _compiled(text: str, use: SchemaUse) -> Schema:
    files = _descriptors(text)
    if files.file[-1].syntax != "proto3":
        raise SchemaError('line 1: is not proto3. Begin with `syntax = "proto3";`.')
    return Schema(files, use)


def _descriptors(text: str) -> FileDescriptorSet:
    """What protoc makes of `text`; the files it imports come first."""
    if len(text) > MAX_SCHEMA_CHARACTERS:
        raise SchemaError(f"is longer than {MAX_SCHEMA_CHARACTERS} characters. Shorten it.")
    if find_spec("grpc_tools") is None:
        raise SchemaError(
            "needs the protobuf compiler, which is not installed. "
            "Install it: `pip install 'gatehouse-iot[protobuf-profiles]'`."
        )
    try:
        with TemporaryDirectory(prefix="gatehouse-schema-") as name:
            return _run_protoc(Path(name), text.encode())
    except subprocess.TimeoutExpired:
        raise SchemaError(f"takes longer than {_COMPILE_S:g} s to compile. Simplify it.") from None
    except UnicodeEncodeError:
        raise SchemaError("is not text that can be written as UTF-8. Write it anew.") from None
    except OSError as exc:
        raise SchemaError(f"cannot be compiled now: {exc.strerror}. Try again.") from None


def _run_protoc(folder: Path, text: bytes) -> FileDescriptorSet:
    source, target = folder / _FILE, folder / "schema.bin"
    source.write_bytes(text)
    command = [
        *(sys.executable, "-P", "-m", "grpc_tools.protoc"),
        *(f"-I{folder}", "--include_imports", f"--descriptor_set_out={target}", str(source)),
    ]
    done = subprocess.run(  # noqa: S603 - our own interpreter; the text is in a file
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMPILE_S, check=False
    )
    if done.returncode != 0:
        raise SchemaError(_said(done.stderr.decode("utf-8", "replace")))
    return FileDescriptorSet.FromString(target.read_bytes())


def _said(stderr: str) -> str:
    """The first fault protoc names, as a sentence."""
    fault = _FAULT.search(stderr)
    if fault is None:
        return "cannot be compiled: protoc gives no reason. Simplify it."
    line, column, words = fault.groups()
    where = f"line {line}, column {column}: " if line else ""
    return f"{where}{words.strip().rstrip('.')[:300]}."


def _root(files: FileDescriptorSet, pool: DescriptorPool) -> Descriptor:
    file: FileDescriptorProto = files.file[-1]
    if not file.message_type:
        raise SchemaError("declares no message. Write `message Name { ... }`.")
    try:
        for one in files.file:
            pool.AddSerializedFile(one.SerializeToString())
        name = file.message_type[-1].name
        full_name = f"{file.package}.{name}" if file.package else name
        found: Descriptor = pool.FindMessageTypeByName(full_name)
        return found
    except (TypeError, KeyError):
        raise SchemaError("cannot be used by the protobuf runtime. Simplify it.") from None


# ── what a use demands ────────────────────────────────────────────────────────────────────────


def _obey(message: Descriptor, use: SchemaUse) -> None:
    """ThingsBoard's rules (its `DeviceProfileDataValidator`; section 13). Raises `SchemaError`."""
    match use:
        case SchemaUse.TELEMETRY:
            _obey_telemetry(message)
        case SchemaUse.RPC_REQUEST:
            _obey_rpc_request(message)
        case SchemaUse.ATTRIBUTES | SchemaUse.RPC_RESPONSE:
            pass


def _obey_telemetry(message: Descriptor) -> None:
    """`ts` and `values` together make the reading's time; each alone is a key like any other."""
    fields = message.fields_by_name
    if not fields:
        raise SchemaError(f"message {message.name} has no fields. Declare one for each key.")
    if "ts" not in fields or "values" not in fields:
        return
    ts, values = fields["ts"], fields["values"]
    if ts.type != FieldDescriptor.TYPE_INT64 or ts.is_repeated or not ts.has_presence:
        # Without `optional` a message that leaves it out would be of the year 1970.
        raise SchemaError(f"field ts of message {message.name} must be `optional int64 ts`.")
    if values.message_type is None or (values.is_repeated and not _is_map(values)):
        raise SchemaError(f"field values of message {message.name} must be a message.")


def _obey_rpc_request(message: Descriptor) -> None:
    fields = message.fields_by_name
    if set(fields) != {"method", "requestId", "params"}:
        raise SchemaError(
            f"message {message.name} must have exactly the fields method, requestId and params."
        )
    wanted = {"method": FieldDescriptor.TYPE_STRING, "requestId": FieldDescriptor.TYPE_INT32}
    for name, kind in wanted.items():
        if fields[name].type != kind:
            word = "string" if name == "method" else "int32"
            raise SchemaError(f"field {name} of message {message.name} must be `{word} {name}`.")
    for name, field in fields.items():
        if field.is_repeated:
            raise SchemaError(f"field {name} of message {message.name} must not be repeated.")


# ── from messages to JSON ─────────────────────────────────────────────────────────────────────


class _Budget:
    """How many fields of one message may still be shown."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def spend(self, fields: int) -> None:
        self._left -= fields
        if self._left < 0:
            raise BadPayload(f"at most {MAX_FIELDS} fields in one message")


_Show: TypeAlias = Callable[[Any, _Budget], Any]


class _Member(NamedTuple):
    """One field: its names there and here, whether it may be unset, and how its value is shown."""

    name: str
    key: str
    may_be_unset: bool
    show: _Show | None


def _object(message: Message, members: list[_Member], budget: _Budget) -> dict[str, Any]:
    budget.spend(len(members))
    shown: dict[str, Any] = {}
    for name, key, may_be_unset, show in members:
        if may_be_unset and not message.HasField(name):
            continue
        value = getattr(message, name)
        shown[key] = value if show is None else show(value, budget)
    return shown


def _members(descriptor: Descriptor, known: dict[str, list[_Member]]) -> list[_Member]:
    """The fields of a message, in the order of their numbers. A message may hold its own kind."""
    members = known.get(descriptor.full_name)
    if members is None:
        members = known[descriptor.full_name] = []
        members += [
            _Member(field.name, field.json_name, field.has_presence, _shower(field, known))
            for field in sorted(descriptor.fields, key=lambda field: field.number)
        ]
    return members


def _shower(field: FieldDescriptor, known: dict[str, list[_Member]]) -> _Show | None:
    """How a field's value is shown; None: as it is."""
    if field.message_type is not None and _is_map(field):
        entry = field.message_type.fields_by_name
        return _map_shower(entry["key"], _one_shower(entry["value"], known) or _same)
    show = _one_shower(field, known)
    if not field.is_repeated:
        return show
    if show is None:
        return lambda values, _: list(values)
    return lambda values, budget: [show(value, budget) for value in values]


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return field.is_repeated and kind is not None and bool(kind.GetOptions().map_entry)


def _map_shower(key: FieldDescriptor, show: _Show) -> _Show:
    if key.type == FieldDescriptor.TYPE_BOOL:
        return lambda found, budget: {
            "true" if name else "false": show(found[name], budget) for name in found
        }
    return lambda found, budget: {str(name): show(found[name], budget) for name in found}


def _one_shower(field: FieldDescriptor, known: dict[str, list[_Member]]) -> _Show | None:
    if field.message_type is not None:
        return _message_shower(field.message_type, known)
    if field.enum_type is not None:
        return _enum_shower(field.enum_type)
    match field.type:
        case FieldDescriptor.TYPE_BYTES:
            return lambda value, _: b64encode(value).decode()
        case FieldDescriptor.TYPE_DOUBLE:
            return _double
        case FieldDescriptor.TYPE_FLOAT:
            return _float
    return None


def _enum_shower(kind: EnumDescriptor) -> _Show:
    names = {number: value.name for number, value in kind.values_by_number.items()}
    return lambda number, _: names.get(number, number)


def _message_shower(kind: Descriptor, known: dict[str, list[_Member]]) -> _Show:
    if _WRAPPERS.fullmatch(kind.full_name):
        show = _one_shower(kind.fields_by_name["value"], known) or _same
        return lambda message, budget: show(message.value, budget)
    if kind.full_name.startswith(_OF_GOOGLE):
        # A Timestamp is a text, a Struct an object: their own JSON forms.
        pool = kind.file.pool
        return lambda message, _: json_format.MessageToDict(message, descriptor_pool=pool)
    members = _members(kind, known)
    return lambda message, budget: _object(message, members, budget)


def _same(value: Any, _budget: _Budget) -> Any:
    return value


def _double(value: float, _budget: _Budget) -> float | str:
    """JSON has no word for what is not finite; protobuf's mapping takes text."""
    return value if isfinite(value) else _unending(value)


def _float(value: float, _budget: _Budget) -> float | str:
    """A 32-bit float by the fewest digits that tell it: 0.1, not 0.10000000149011612."""
    if not isfinite(value):
        return _unending(value)
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if _as_32_bits(short) == value:
            return short
    return float(f"{value:.9g}")


def _as_32_bits(value: float) -> float:
    try:
        rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return value
    return rounded


def _unending(value: float) -> str:
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
