"""A device of Blynk's over HTTP, for tests of its API."""

from __future__ import annotations

import json
from typing import Any

from blynk_ground import BlynkGate
from wires import HttpReply, http

from gateway.core.model import AttributesChange, AttributeScope, RpcCall, Secret, Value
from gateway.core.ports import KnownCredentials
from gateway.core.sessions import Cause
from gateway.dialects.blynk.profile import Datastream

API = "/external/api"


class Thing:
    """A device that was claimed, and its token."""

    def __init__(self, blynk: BlynkGate, token: str, known: KnownCredentials) -> None:
        self.blynk = blynk
        self.token = token
        self.known = known
        self.device = known.device

    async def ask(
        self, call: str, method: str = "GET", body: bytes = b"", **query: Any
    ) -> HttpReply:
        query = {"token": self.token, **query}
        return await self.blynk.ask(method, f"{API}/{call}", body, **query)

    async def refusal(self, call: str, method: str = "GET", body: bytes = b"", **query: Any) -> str:
        """The text of an answer that must be an error in the envelope."""
        reply = await self.ask(call, method, body, **query)
        assert reply.status == 400, reply
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["cache-control"] == "no-store"
        [(name, error)] = json.loads(reply.body).items()
        assert (name, list(error)) == ("error", ["message"])
        return str(error["message"])

    async def done(self, call: str, **query: Any) -> bytes:
        reply = await self.ask(call, **query)
        assert reply.status == 200, reply
        return reply.body

    async def latest(self) -> dict[str, Value]:
        """What people see of its readings."""
        found = await self.blynk.gate.registry.latest(self.known)
        return {one.key: one.value for one in found}

    async def attributes(self, scope: AttributeScope) -> dict[str, Value]:
        """The same of its attributes."""
        found = await self.blynk.gate.registry.attributes(self.known)
        return {one.key: one.value for one in found if one.scope is scope}

    async def thingsboard(self, method: str, feature: str, body: bytes = b"") -> HttpReply:
        return await self.blynk.ask(method, f"/api/v1/{self.token}/{feature}", body)


async def thing_of(blynk: BlynkGate, token: str) -> Thing:
    known = await blynk.gateway.store.find_credentials(Secret(token))
    assert known is not None
    return Thing(blynk, token, known)


async def posted(thing: Thing, body: bytes, content_type: str | None, **query: str) -> HttpReply:
    path = f"{API}/batch/update?token={thing.token}" + "".join(
        f"&{name}={value}" for name, value in query.items()
    )
    label = "" if content_type is None else f"Content-Type: {content_type}\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: gate\r\n{label}Content-Length: {len(body)}\r\n\r\n"
    async with http(thing.blynk.ports.http) as connection:
        return await connection.raw(head.encode() + body)


class Connection:
    """The outlet of a live connection that speaks Blynk."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Value]] = []

    def written(self, stream: Datastream, value: Value) -> None:
        self.told.append((stream.name, value))

    def attributes_changed(self, change: AttributesChange) -> None: ...

    def call(self, request_id: int, call: RpcCall, delivered: Any) -> bool:
        return False

    def profile_changed(self) -> None: ...

    def end(self, cause: Cause) -> None: ...
