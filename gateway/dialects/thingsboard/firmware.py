"""Firmware and software over the air: whole, or in chunks of a size (contract, section 14)."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from gateway.core.model import Device, Package, PackageKind, Wire
from gateway.core.packages import Packages, PackageSource
from gateway.dialects.thingsboard.callers import Callers
from gateway.wire.call import BadPayload, Call, Format, Reply, Source, Status
from gateway.wire.route import Route

MOST_CHUNK: Final = 65_536
"""Bytes of one chunk over MQTT."""
MOST_REQUESTS: Final = 64
"""Request ids of one session whose chunk size is remembered."""
ERROR_TOPIC: Final = "v2/fw/error"
"""Of software too: so does ThingsBoard."""

_MOST_NUMBER: Final = 10
_FEATURES: Final = {PackageKind.FIRMWARE: "firmware", PackageKind.SOFTWARE: "software"}
_NONE: Final = Reply(status=Status.NOT_FOUND, reason="no package is assigned to this device")
_ELSEWHERE: Final = Reply(
    status=Status.NOT_FOUND, reason="the package is not kept here: fetch it from its fw_url"
)
_OTHER: Final = Reply(
    status=Status.BAD_REQUEST, reason="title and version are not those of the assigned package"
)
_SIZES: Final = "firmware.sizes"


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
                http=(f"GET /api/v1/{{token}}/{feature}",),
                coap=(f"GET /{prefix}/{{token}}",),
                quiet=True,
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
        device = await self._callers.device(call)
        if isinstance(device, Reply):
            return device
        limited = await self._callers.limited(device)
        if limited is not None:
            return limited
        size, number = _query_number(call, "size"), _query_number(call, "chunk")
        package = await self._packages.for_device(device, kind)
        if package is None:
            return _NONE
        if not _asks_for(call, package):
            return _OTHER
        source = self._packages.open(package)
        if source is None:
            return _ELSEWHERE
        headers = _headers(package)
        if not size:
            return Reply(
                source=Noting(self._packages, device, package, source),
                format=Format.BYTES,
                headers=headers,
            )
        body = await self._read(device, package, source, size * number, min(size, MOST_CHUNK))
        return Reply(body, format=Format.BYTES, headers=headers)

    # ── MQTT ────────────────────────────────────────────────────────────────────────────────

    async def chunk(self, call: Call, kind: PackageKind) -> Reply:
        """One chunk on the response topic, whether it is subscribed to or not."""
        device = await self._callers.device(call)
        if isinstance(device, Reply):
            return device
        limited = await self._callers.limited(device)
        if limited is not None:
            return limited
        request, number = call.params["id"], _number("chunk", call.params["number"])
        size = _chunk_size(call, kind, request)
        if size > MOST_CHUNK:
            return _error(b"PAYLOAD_TOO_LARGE", close=0x83)
        package = await self._packages.for_device(device, kind)
        if package is None:
            return _error(b"NOT_FOUND")
        source = self._packages.open(package)
        if source is None:
            return _error(b"FAILURE")
        topic = f"v2/{kind.value}/response/{request}/chunk/{number}"
        if not size and not number:
            noting = Noting(self._packages, device, package, source)
            return Reply(source=noting, format=Format.BYTES, topic=topic)
        body = await self._read(device, package, source, size * number, size)
        return Reply(body, format=Format.BYTES, topic=topic)

    async def _read(
        self, device: Device, package: Package, source: PackageSource, offset: int, size: int
    ) -> bytes:
        """One chunk; empty beyond the end, which is how a device learns that it has all."""
        if not size or offset >= package.size:
            return b""
        body = await source.read(offset, size)
        self._packages.note(device, package, offset + len(body))
        return body


class Noting:
    """A package's content that notes how far the device came."""

    __slots__ = ("_device", "_package", "_packages", "_source", "etag")

    def __init__(
        self, packages: Packages, device: Device, package: Package, source: PackageSource
    ) -> None:
        self._packages = packages
        self._device = device
        self._package = package
        self._source: Source = source
        self.etag = source.etag

    @property
    def size(self) -> int:
        return self._source.size

    async def read(self, offset: int, size: int) -> bytes:
        body = await self._source.read(offset, size)
        self._packages.note(self._device, self._package, offset + len(body))
        return body


def _asks_for(call: Call, package: Package) -> bool:
    """Whether what the query names is the package. HTTP devices must name it (section 14)."""
    title, version = call.query.get("title"), call.query.get("version")
    if call.peer.wire is Wire.HTTP and (title is None or version is None):
        raise BadPayload("title and version must be given")
    return title in (None, package.title) and version in (None, package.version)


def _query_number(call: Call, name: str) -> int:
    text = call.query.get(name)
    return _number(name, text) if text else 0


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_NUMBER):
        raise BadPayload(f"{name} must be a whole number")
    return int(text)


def _chunk_size(call: Call, kind: PackageKind, request: str) -> int:
    """The size a request asks for: its payload, else what the same request id said before."""
    _number("the request id", request)
    state = call.session if call.session is not None else {}
    sizes: dict[tuple[PackageKind, str], int] = state.setdefault(_SIZES, {})
    if not call.body:
        return sizes.get((kind, request), 0)
    try:
        size = _number("the chunk size", call.body.decode())
    except UnicodeDecodeError:
        raise BadPayload("the chunk size must be a whole number") from None
    sizes.pop((kind, request), None)
    if len(sizes) >= MOST_REQUESTS:
        del sizes[next(iter(sizes))]
    sizes[kind, request] = size
    return size


def _error(text: bytes, *, close: int | None = None) -> Reply:
    return Reply(text, status=Status.REFUSED, format=Format.TEXT, topic=ERROR_TOPIC, close=close)


def _headers(package: Package) -> dict[str, str]:
    """RFC 6266: what is not plain ASCII is percent-encoded."""
    name = quote(package.file_name or package.title, safe=" !#$&+.^_`|~-()[]@,=;'")
    plain = name.replace(";", "%3B").replace(",", "%2C").replace("=", "%3D")
    return {"Content-Disposition": f"attachment;filename={plain}", "x-filename": plain}
