"""`/openapi.json` and the page at `/docs` that shows it. Nothing is fetched from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from typing import Any, Final

import msgspec

from gateway.wire.call import Call, Format, Reply
from gateway.wire.operation import Answer, Operation
from gateway.wire.route import Handler, Route
from gateway.wire.router import Later

TAG: Final = "Operation"
_ABOUT: Final = (
    "The device API, enrolment, and the administration of one gateway. Answers to calls that are "
    "written to the log or the audit log have an `X-Request-Id`, under which they are found there."
)
_AGE_S: Final = 300
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Cache-Control": f"max-age={_AGE_S}",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PIECES: Final = (
    ("page", "/docs", "index.html", "text/html", "The documentation, for people"),
    ("style", "/docs/docs.css", "docs.css", "text/css", "How the page looks"),
    ("script", "/docs/docs.js", "docs.js", "text/javascript", "What shows the document there"),
)
"""Name, path, file in the folder `pages` beside this module, its media type, and what it is."""


class Documentation:
    """Tells what is served here. `describe` it first; the document is made when first asked for.

    Routes that come `later` are waited for then.
    """

    def __init__(
        self,
        *,
        title: str,
        version: str,
        servers: Sequence[str] = ("/",),
        later: Later | None = None,
    ) -> None:
        self._later = later
        self._title = title
        self._version = version
        self._servers = servers
        self._described: tuple[Route, ...] = ()
        self._made: bytes | None = None
        self._turn = asyncio.Lock()

    def describe(self, routes: Sequence[Route]) -> None:
        """These are the routes, ours among them."""
        self._described = tuple(routes)
        self._made = None

    def routes(self) -> tuple[Route, ...]:
        return (
            _route(
                "document", "/openapi.json", self.document, "This document", body=dict[str, Any]
            ),
            *(
                _route(name, path, partial(self.piece, _read(file), media), about, media=media)
                for name, path, file, media, about in _PIECES
            ),
        )

    async def document(self, call: Call) -> Reply:
        return Reply(await self.text(), format=Format.JSON, headers=_HEADERS)

    async def text(self) -> bytes:
        """The document. Raises `ValueError` when two routes are at one address."""
        async with self._turn:
            if self._made is None:
                later = () if self._later is None else await self._later()
                self._made = await asyncio.to_thread(self._make, (*self._described, *later))
        return self._made

    def _make(self, routes: Sequence[Route]) -> bytes:
        from gateway.admin.openapi import document  # nobody but its readers needs it

        return msgspec.json.encode(
            document(
                routes,
                title=self._title,
                version=self._version,
                servers=self._servers,
                about=_ABOUT,
            )
        )

    async def piece(self, body: bytes, media: str, call: Call) -> Reply:
        headers = {**_HEADERS, "Content-Type": f"{media}; charset=utf-8"}
        return Reply(body, format=Format.BYTES, headers=headers)


def _read(file: str) -> bytes:
    return files("gateway.admin").joinpath("pages", file).read_bytes()


def _route(
    name: str, path: str, handler: Handler, about: str, *, body: Any = None, media: str = ""
) -> Route:
    return Route(
        name=f"docs.{name}",
        handler=handler,
        http=(f"GET {path}",),
        quiet=True,
        operation=Operation(
            summary=about, tag=TAG, public=True, answers={200: Answer(about, body, media)}
        ),
    )
