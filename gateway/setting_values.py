"""What a setting may hold: the kinds of values, each with its bounds and the words that ask for it.

Every number has bounds; a text has a pattern, and `wants` says in words what it lets pass.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65_535)]
"""0 lets the system pick a free port; the ready line prints which."""
Host = Annotated[
    str,
    Meta(
        pattern=r"\A[^\s/\[\]\x00-\x1f\x7f]{1,255}\Z",
        extra={"wants": "a host name or an address, without brackets or port"},
    ),
]
"""`0.0.0.0` is every IPv4 address of the machine, `::` every address, `127.0.0.1` itself only."""
_PLAIN = r"[^\s/?#@:\x00-\x1f\x7f]+"
_LOGIN = rf"(?:{_PLAIN}(?::[^\s/?#@\x00-\x1f\x7f]*)?@)?"
_SERVER = r"(?:[\w.%-]+|\[[\da-fA-F:.]+\])(?::\d{1,5})?"
_SERVERS = rf"(?:{_SERVER}(?:,{_SERVER})*)?"
_OPTION = r"(?!(?:ssl)?password=)[a-z_]+=[^\s&#\x00-\x1f\x7f]*"
_OPTIONS = rf"{_OPTION}(?:&{_OPTION})*"
Url = Annotated[
    str,
    Meta(
        max_length=4096,
        pattern=(
            r"\A(?:sqlite:(?::memory:|(?!//|:)[^\x00-\x1f\x7f]*[^/\x00-\x1f\x7f])"
            rf"|postgresql://{_LOGIN}{_SERVERS}/{_PLAIN}(?:\?{_OPTIONS})?)\Z"
        ),
        extra={
            "wants": '"sqlite:PATH" (without `//`), "sqlite::memory:" or '
            '"postgresql://USER:PASSWORD@HOST:5432/DATABASE" (special characters as %XX; the '
            "password may also come from PGPASSWORD or a password file)",
            "hidden": True,
        },
    ),
]
"""Strict about PostgreSQL, so that a password stands in its own place and nowhere else: then it can
be left out wherever the address is shown."""
FolderName = Annotated[
    str,
    Meta(max_length=4096, pattern=r"\A[^\x00-\x1f\x7f]+\Z", extra={"wants": "a folder's path"}),
]
FolderOrNone = Annotated[
    str,
    Meta(
        max_length=4096,
        pattern=r"\A[^\x00-\x1f\x7f]*\Z",
        extra={"wants": 'a folder\'s path, or ""', "example": "packages"},
    ),
]
HookUrl = Annotated[
    str,
    Meta(
        max_length=4096,
        pattern=rf"\A(?:https?://{_SERVER}(?:/[^\s?#\x00-\x1f\x7f]*)?(?:\?[^\s#\x00-\x1f\x7f]*)?)?\Z",
        extra={
            "wants": 'an address such as "http://127.0.0.1:9000/rpc", without user name and '
            'password, or ""',
            "example": "http://127.0.0.1:9000/rpc",
            "hidden": True,
        },
    ),
]
FileOrNone = Annotated[
    str,
    Meta(
        max_length=4096,
        pattern=r"\A[^\x00-\x1f\x7f]*\Z",
        extra={"wants": 'a file\'s path, or ""', "example": "tls/server.pem"},
    ),
]
CollectorUrl = Annotated[
    str,
    Meta(
        max_length=1024,
        pattern=rf"\A(?:https?://{_SERVER}(?:/[^\s?#\x00-\x1f\x7f]*)?)?\Z",
        extra={
            "wants": 'an address such as "http://127.0.0.1:4318/v1/traces", or ""',
            "example": "http://127.0.0.1:4318/v1/traces",
        },
    ),
]
Email = Annotated[
    str,
    Meta(
        max_length=255,
        pattern=r"\A[^\s@\x00-\x1f\x7f]+@[^\s@\x00-\x1f\x7f]+\Z",
        extra={"wants": "an e-mail address"},
    ),
]
Networks = Annotated[
    str,
    Meta(
        max_length=4096,
        pattern=r"\A(?:[\da-fA-F:.]+/\d{1,3}(?: [\da-fA-F:.]+/\d{1,3})*)?\Z",
        extra={"wants": 'networks such as "127.0.0.0/8 10.0.0.0/8", or ""'},
    ),
]
PublicUrl = Annotated[
    str,
    Meta(
        max_length=1024,
        pattern=rf"\A(?:http://{_SERVER})?\Z",
        extra={
            "wants": 'an address such as "http://gate.example:8080", without a path, or ""',
            "example": "http://gate.example:8080",
        },
    ),
]
"""http, not https: whoever checks a certificate cannot be made to check one for it (RFC 5280,
section 8)."""
Wait = Annotated[float, Meta(ge=0.05, le=3600)]
"""Seconds to wait for somebody: under 50 ms no network answers, over an hour nobody waits."""
Days = Annotated[int, Meta(ge=1, le=36_500)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
BodySize = Annotated[int, Meta(ge=64, le=67_108_864)]
"""Bytes held in memory for one request: up to 64 MiB."""
BufferSize = Annotated[int, Meta(ge=4096, le=1_073_741_824)]
