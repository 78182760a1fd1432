"""Bytes to frames and back (contract, section 11). No sockets, no clock."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from msgspec import Struct

MAX_BODY: Final = 65_535
"""What a length of two bytes can say."""
_HEAD: Final = struct.Struct("!BHH")
HEAD_BYTES: Final = _HEAD.size


class Command(IntEnum):
    """The commands that have a name here; their names are the addresses of routes."""

    RESPONSE = 0
    LOGIN = 2
    """Older clients log in with it."""
    PING = 6
    TWEET = 12
    EMAIL = 13
    NOTIFY = 14
    BRIDGE = 15
    HARDWARE_SYNC = 16
    INTERNAL = 17
    SMS = 18
    PROPERTY = 19
    HARDWARE = 20
    GROUP = 21
    HW_LOGIN = 29
    REDIRECT = 41
    DEBUG_PRINT = 55
    EVENT_LOG = 64
    EVENT_CLEAR = 65


class Code(IntEnum):
    """What a RESPONSE may say."""

    OK = 200
    QUOTA_LIMIT = 1
    ILLEGAL_COMMAND = 2
    NOT_REGISTERED = 3
    NOT_AUTHENTICATED = 5
    """Firmware hangs up when it is told this."""
    NOT_ALLOWED = 6
    INVALID_TOKEN = 9
    ILLEGAL_BODY = 11
    TIMEOUT = 16
    NO_DATA = 17
    SERVER_ERROR = 19


_NAMES: Final = {command.value: command.name for command in Command}
_COMMANDS: Final = {command.name: command.value for command in Command}


class Frame(Struct, frozen=True):
    """One message. `status` is that of a RESPONSE; others have a body."""

    command: int
    message_id: int
    body: bytes = b""
    status: int = 0

    @property
    def name(self) -> str:
        """The command's, or its number where it has none."""
        return _NAMES.get(self.command) or str(self.command)

    def __repr__(self) -> str:
        return f"Frame({self.name}, {len(self.body)} bytes)"  # a body may hold a secret


class BadFrame(Exception):
    """The bytes are no frame, or a larger one than may be. `code` tells the peer; `message_id` is
    that of the frame, 0 when it has none."""

    def __init__(self, reason: str, code: Code, message_id: int) -> None:
        super().__init__(reason)
        self.code = code
        self.message_id = message_id


class Decoder:
    """Takes bytes as they come, gives frames as they are whole.

    `max_body`: bytes of one body. Never holds more than what it was fed and did not give back.
    """

    __slots__ = ("_bytes", "_max_body")

    def __init__(self, max_body: int) -> None:
        self._bytes = bytearray()
        self._max_body = max_body

    @property
    def waiting(self) -> int:
        """Bytes that are here and were not given back as frames."""
        return len(self._bytes)

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def take(self) -> Frame | None:
        """The next frame; None when it is not whole yet. Raises `BadFrame`, then for ever."""
        held = self._bytes
        if len(held) < HEAD_BYTES:
            return None
        command, message_id, length = _HEAD.unpack_from(held)
        if message_id == 0:
            raise BadFrame("message id 0", Code.ILLEGAL_COMMAND, 0)
        if command == Command.RESPONSE:
            del held[:HEAD_BYTES]
            return Frame(command, message_id, status=length)
        if length > self._max_body:
            raise BadFrame("the body is too large", Code.ILLEGAL_BODY, message_id)
        end = HEAD_BYTES + length
        if len(held) < end:
            return None
        body = bytes(held[HEAD_BYTES:end])
        del held[:end]
        return Frame(command, message_id, body)


def encode(command: str, message_id: int, body: bytes) -> bytes:
    """A message of ours. Raises `ValueError` for a command without a name or too large a body."""
    number = _COMMANDS.get(command)
    if number is None or not 0 < message_id <= 0xFFFF or len(body) > MAX_BODY:
        raise ValueError("no such message can be sent")
    return _HEAD.pack(number, message_id, len(body)) + body


def encode_response(message_id: int, code: int) -> bytes:
    return _HEAD.pack(Command.RESPONSE, message_id, code)
