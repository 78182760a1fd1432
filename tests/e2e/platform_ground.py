"""Who calls the Platform API, and a check of every answer against the API's own documents.

root            the tenant
├── Acme        what a client of Acme reaches, and its users
│   └── North
└── Globex
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from blynk_ground import TEMPLATE, BlynkGate, blynk_on
from inside import Gate
from jsonschema_rs import Draft4Validator
from msgspec import Struct
from wires import http

from gateway.administration import open_logins
from gateway.core.model import DeviceRecord, Organisation, Peer, Permission, User, Wire
from gateway.core.oauth import Credentials, Pair
from gateway.platform_api import open_oauth

SEEDS = Path(__file__).parent / "blynk_openapi"
DEVICE = "/api/v1/organization/device"
ISSUE = f"{DEVICE}/provision/token"
RECONFIGURE = f"{DEVICE}/provision/reconfigure"
REPROVISION = f"{DEVICE}/provision/reprovision/token"
ONLINE = f"{DEVICE}/online"
NO_ORGANISATION = "Organization is not found or you don't have access to it."
NO_USER = "User is not found or you don't have access to him."
NO_DEVICE = "Device with identifier {} is not found or belong to another organization."
UNKNOWN = 2_000_000_000
"""A number that nothing has."""


class Answer(Struct):
    """What came back; its body is that which the seed documents allow for its status."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def message(self) -> str:
        return str(self.body["error"]["message"])


class Caller(Struct):
    """Somebody with a bearer token. `user` None: a client, for its whole organisation."""

    name: str
    bearer: str
    organisation: Organisation
    user: User | None = None


def seeds() -> dict[str, dict[str, Any]]:
    """The documents, by the path each is about."""
    documents = (json.loads(one.read_text()) for one in sorted(SEEDS.glob("*.json")))
    return {next(iter(one["paths"])): one for one in documents}


def _validators() -> dict[tuple[str, int], Draft4Validator]:
    """By path and status. Where a document says nothing of a body, it is the error envelope."""
    found = {}
    for path, document in seeds().items():
        responses = document["paths"][path]["post"]["responses"]
        for status in (*map(int, responses), 401, 405):
            said = responses.get(str(status), {}).get("content")
            schema = said["application/json"]["schema"] if said else ENVELOPE
            found[path, status] = Draft4Validator({**schema, "components": document["components"]})
    return found


ENVELOPE = {"$ref": "#/components/schemas/ErrorResponse"}
VALIDATORS = _validators()
ERROR = VALIDATORS[ISSUE, 400]


def proven(path: str, status: int, headers: dict[str, str], body: bytes) -> Any:
    """The body, which is what the documents say: nothing else is ever sent."""
    assert headers["content-type"] == "application/json"
    decoded = json.loads(body)
    validator = VALIDATORS[path, status] if path in seeds() else ERROR
    if status != 200 or path in seeds():
        validator.validate(decoded)
    if status == 200 and "token" in decoded:
        assert len(decoded["token"]) == 32
    return decoded


class Platform(BlynkGate):
    """A gateway with the tree above; `acme`, `north`, `globex` are organisations."""

    async def settle(self) -> Platform:
        gateway, ended = self.gateway, defaultdict[str, int](int)
        self.logins = open_logins(gateway.config, gateway.store, self.services, ended)
        self.root = self.admin.organisation
        self.acme = await self.organisation("Acme")
        self.north = await self.organisation("North", self.acme)
        self.globex = await self.organisation("Globex")
        self._count = 0
        return self

    async def member(
        self, organisation: Organisation, permissions: Iterable[Permission] | None = None
    ) -> User:
        """A user with exactly these permissions; None: all."""
        self._count += 1
        name, role = f"user-{self._count}", "TENANT_ADMIN"
        if permissions is not None:
            made = await self.services.people.save_role(
                self.admin, name=f"role of {name}", permissions=permissions, organisation=self.root
            )
            role = made.name
        return await self.services.people.save_user(
            self.admin, email=f"{name}@example.com", organisation=organisation, role=role
        )

    async def caller(
        self, organisation: Organisation, permissions: Iterable[Permission] | None = None
    ) -> Caller:
        """A user's key for scripts, which acts as the user."""
        user = await self.member(organisation, permissions)
        _, key = await self.logins.add_key(self.admin, user, "script")
        return Caller(user.email, key.reveal(), organisation, user)

    async def client(self, organisation: Organisation) -> Caller:
        """A program of the organisation, with an access token of its own."""
        oauth = open_oauth(self.gateway.config, self.gateway.store, self.logins)
        client, secret = await oauth.add(self.admin, organisation, "back office")
        shown = Credentials(client.name, secret)
        pair = await oauth.client_access(shown, Peer(Wire.HTTP, "127.0.0.1:1"))
        assert isinstance(pair, Pair)
        return Caller(client.name, pair.access.reveal(), organisation)

    async def device_of(
        self, organisation: Organisation, owner: User | None = None
    ) -> DeviceRecord:
        """A device born in an organisation, of that owner."""
        token = await self.issue(organisation, owner)
        assert (await self.claim(token, TEMPLATE)).status == 200
        device = await self.device(token)
        assert device is not None
        found = await self.services.inventory.find_numbered(self.admin, device.id)
        assert found is not None
        return found

    async def call(
        self,
        caller: Caller | str | None,
        method: str,
        target: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request over a connection of its own. `body`: bytes as they are, else as JSON.

        Without `headers` there is no Content-Type.
        """
        sent = body if isinstance(body, bytes) else b"" if body is None else dumped(body)
        shown = dict(headers or {})
        if caller is not None:
            bearer = caller if isinstance(caller, str) else caller.bearer
            shown = {"Authorization": f"Bearer {bearer}", **shown}
        lines = "".join(f"{name}: {value}\r\n" for name, value in shown.items())
        head = f"{method} {target} HTTP/1.1\r\nHost: gate\r\n{lines}"
        async with http(self.ports.http) as connection:
            reply = await connection.raw(
                f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent
            )
        told = proven(target.partition("?")[0], reply.status, reply.headers, reply.body)
        return Answer(reply.status, reply.headers, told)

    async def post(self, caller: Caller | str | None, path: str, **body: Any) -> Answer:
        return await self.call(caller, "POST", path, body)

    async def get(self, caller: Caller | str | None, path: str, number: Any) -> Answer:
        return await self.call(caller, "GET", f"{path}?deviceId={number}")


def dumped(body: Any) -> bytes:
    return json.dumps(body).encode()


@asynccontextmanager
async def platform_on(gate: Gate) -> AsyncIterator[Platform]:
    """The tree in the store of a running gateway."""
    async with blynk_on(gate) as blynk:
        yield await Platform(blynk.gate, blynk.services, blynk.admin).settle()
