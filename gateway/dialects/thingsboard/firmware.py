"""Firmware and software over the air: whole, or in chunks of a size (contract, section 14)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from gateway.core.model import Device, Package, PackageKind, Wire
from gateway.core.packages import Packages, PackageSource
from gateway.dialects.thingsboard import operations
from gateway.dialects.thingsboard.callers import Callers
from gateway.dialects.thingsboard.device import LIMITED_500
from gateway.wire.call import BadPayload, Call, Format, Reply, Source, Status
from gateway.wire.route import Route

MOST_CHUNK: Final = 65_536
"""Bytes of one chunk over MQTT, and of what is ever held in memory of a package."""
MOST_REQUESTS: Final = 64
"""Request ids of one session whose chunk size and package are remembered."""
ERROR_TOPIC: Final = "v2/fw/error"
"""Of software too: so does ThingsBoard."""

_MOST_DIGITS: Final = 10
_FEATURES: Final = {PackageKind.FIRMWARE: "firmware", PackageKind.SOFTWARE: "software"}
_NONE: Final = Reply(status=Status.NOT_FOUND, reason="no package is assigned to this device")
_OTHER: Final = Reply(
    status=Status.BAD_REQUEST, reason="title and version are not those of the assigned package"
)
_BEGUN: Final = "firmware.begun"
_PLAIN: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$&+.^_`|~-]+").fullmatch
"""A token of RFC 9110, section 5.6.2, without what RFC 8187 means something by."""


class FirmwareApi:
    """Gives devices the packages assigned to them, piece by piece."""

    def __init__(self, callers: Callers, packages: Packages) -> None:
        self._callers = callers
        self._packages = packages

    def routes(self) -> tuple[Route, ...]:
        return tuple(route for kind in PackageKind for route in self._routes(kind))

    def _routes(self, kind: PackageKind) -> tuple[Route, ...]:
        feature, prefix = _FEATURES[kind], kind.value

        async def download(call: Call) -> Reply:
            return await self.download(call, kind)

        async def chunk(call: Call) -> Reply:
            return await self.chunk(call, kind)

        return (
            Route(
                name=f"thingsboard.{feature}.download",
                handler=download,
                http=(f"GET /api/v1/{{token}}/{feature}", f"GET /api/v1/{feature}"),
                coap=(f"GET /{prefix}/{{token}}", f"GET /{prefix}"),
                http_codes=LIMITED_500,
                coap_codes=LIMITED_500,
                quiet=True,
                operation=operations.PACKAGE,
            ),
            Route(
                name=f"thingsboard.{feature}.chunk",
                handler=chunk,
                mqtt=(f"v2/{prefix}/request/{{id}}/chunk/{{number}}",),
                quiet=True,
            ),
        )

    # ── HTTP and CoAP ───────────────────────────────────────────────────────────────────────

    async def download(self, call: Call, kind: PackageKind) -> Reply:
        """The whole package, or one chunk of it. CoAP leaves title and version to the device."""
        device = await self._admitted(call)
        if isinstance(device, Reply):
            return device
        size, number = _query_number(call, "size"), _query_number(call, "chunk")
        title, version = _asked_for(call)
        package = await self._packages.for_device(device, kind)
        if package is None:
            return _NONE
        if title not in (None, package.title) or version not in (None, package.version):
            return _OTHER
        source = self._packages.open(package)
        if source is None:
            return Reply(
                status=Status.NOT_FOUND,
                reason=f"the package is not kept here: see the attribute {kind.value}_url",
            )
        part = Part(self._packages, device, package, source, size, number)
        headers = _headers(package)
        if size and part.size <= MOST_CHUNK:
            return Reply(await part.read(0, part.size), format=Format.BYTES, headers=headers)
        return Reply(source=part, format=Format.BYTES, headers=headers)

    # ── MQTT ────────────────────────────────────────────────────────────────────────────────

    async def chunk(self, call: Call, kind: PackageKind) -> Reply:
        """One chunk on the response topic, whether it is subscribed to or not."""
        device = await self._admitted(call)
        if isinstance(device, Reply):
            return device
        request, number = call.params["id"], _number("chunk", call.params["number"])
        _number("the request id", request)
        begun = _begun(call, kind, request)
        if begun.size > MOST_CHUNK:
            return _error(b"PAYLOAD_TOO_LARGE", close=0x83)
        package = await self._package(begun, device, kind, number)
        if package is None:
            return _error(b"NOT_FOUND")
        source = self._packages.open(package)
        if source is None:
            return _error(b"FAILURE")
        topic = f"v2/{kind.value}/response/{request}/chunk/{number}"
        if number and not begun.size:
            return Reply(format=Format.BYTES, topic=topic)  # behind the whole, which is chunk 0
        part = Part(self._packages, device, package, source, begun.size, number)
        if begun.size:
            return Reply(await part.read(0, part.size), format=Format.BYTES, topic=topic)
        return Reply(source=part, format=Format.BYTES, topic=topic)

    async def _package(
        self, begun: _Begun, device: Device, kind: PackageKind, number: int
    ) -> Package | None:
        """The package of a download: chunks of two never mix when another one is assigned."""
        if not number or begun.package is None:
            begun.package = await self._packages.for_device(device, kind)
        return begun.package

    async def _admitted(self, call: Call) -> Device | Reply:
        """Who asks, once the question is counted."""
        device = await self._callers.device(call)
        if isinstance(device, Reply):
            return device
        return await self._callers.limited(device) or device


class _Begun(Struct):
    """A download over MQTT: its chunk size, 0 for the whole file, and what is downloaded."""

    size: int = 0
    package: Package | None = None


class Part:
    """The chunk `number` of `size` bytes, or everything with size 0; notes how far it was read.

    Behind the end it is empty, which is how a device learns that it has all.
    """

    __slots__ = ("_begin", "_device", "_package", "_packages", "_size", "_source", "etag")

    def __init__(
        self,
        packages: Packages,
        device: Device,
        package: Package,
        source: PackageSource,
        size: int,
        number: int,
    ) -> None:
        self._packages = packages
        self._device = device
        self._package = package
        self._source: Source = source
        self._begin = size * number
        left = max(source.size - self._begin, 0)
        self._size = min(size, left) if size else left
        self.etag = source.etag

    @property
    def size(self) -> int:
        return self._size

    async def read(self, offset: int, size: int) -> bytes:
        size = min(size, self._size - offset)
        if size <= 0:
            return b""
        begin = self._begin + offset
        body = await self._source.read(begin, size)
        self._packages.note(self._device, self._package, begin + len(body))
        return body


# ── what is asked for ─────────────────────────────────────────────────────────────────────────


def _asked_for(call: Call) -> tuple[str | None, str | None]:
    """The title and version in the query. HTTP devices must give both (section 14)."""
    title, version = call.query.get("title"), call.query.get("version")
    if call.peer.wire.plain is Wire.HTTP and (title is None or version is None):
        raise BadPayload("title and version must be given")
    return title, version


def _query_number(call: Call, name: str) -> int:
    text = call.query.get(name)
    return _number(name, text) if text else 0


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise BadPayload(f"{name} must be a whole number of at most {_MOST_DIGITS} digits")
    return int(text)


def _begun(call: Call, kind: PackageKind, request: str) -> _Begun:
    """What the session remembers of a request id; a chunk size given again stands from now on."""
    size = 0
    if call.body:
        try:
            size = _number("the chunk size", call.body.decode())
        except UnicodeDecodeError:
            raise BadPayload("the chunk size must be a whole number") from None
    session = call.session if call.session is not None else {}
    all_begun: dict[tuple[PackageKind, str], _Begun] = session.setdefault(_BEGUN, {})
    begun = all_begun.pop((kind, request), None) or _Begun()
    if len(all_begun) >= MOST_REQUESTS:
        del all_begun[next(iter(all_begun))]
    all_begun[kind, request] = begun
    begun.size = size or begun.size
    return begun


# ── answers ───────────────────────────────────────────────────────────────────────────────────


def _error(text: bytes, *, close: int | None = None) -> Reply:
    return Reply(text, status=Status.REFUSED, format=Format.TEXT, topic=ERROR_TOPIC, close=close)


def _headers(package: Package) -> dict[str, str]:
    """The file's name, as RFC 6266 wants it; `x-filename` has it percent-encoded where needed."""
    name = package.file_name or package.title
    encoded = quote(name, safe=_PLAIN)
    if _TOKEN(name):
        return {"Content-Disposition": f"attachment;filename={name}", "x-filename": name}
    # RFC 6266, section 4.3: a quoted text for old readers, and the name itself (RFC 8187).
    plain = encoded.replace('"', "%22").replace("\\", "%5C")
    exact = quote(name, safe="!#$&+.^_`|~-")
    return {
        "Content-Disposition": f"attachment;filename=\"{plain}\";filename*=UTF-8''{exact}",
        "x-filename": encoded,
    }
