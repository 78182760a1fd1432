"""The real gateway beside the model: in this process, over a file database and real sockets.

Its clock is ours, and so is the fate of each answer.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent.parent / "e2e"))

from reference import CHECK, CREATE, WAITING, Ask
from wires import CON, GET, POST, VERSIONS, Ports, coap, dotted, http, mqtt, provision

from gateway.app import Gateway
from gateway.config import Config
from gateway.core.custody import Custody
from gateway.core.fleet_custody import FleetSecrets
from gateway.core.model import (
    Actor,
    DeviceProfile,
    FleetTicket,
    Organisation,
    Peer,
    Permission,
    Provisioned,
    ProvisionType,
    Secret,
    Wire,
)
from gateway.core.registry import ProfileDraft
from gateway.core.tokens import new_token
from gateway.listeners import Kinds
from gateway.opening import open_store
from gateway.settings import (
    BlynkTcpSettings,
    CoapSettings,
    HttpSettings,
    MqttSettings,
    ProfilesSettings,
    ProvisioningSettings,
    StoreSettings,
)
from gateway.store.sql_fleet_tickets import SqlFleetTickets
from gateway.store.sql_registrar import SqlRegistrar
from gateway.transports.chaos import chaotic
from gateway.wire.chaos import UNHARMED, Chaos, Fate, Mischief

PROFILES: dict[str, dict[str, Any]] = {
    CREATE: {"provision_type": ProvisionType.ALLOW_CREATE_NEW_DEVICES},
    WAITING: {
        "provision_type": ProvisionType.ALLOW_CREATE_NEW_DEVICES,
        "pre_provision_allowed": True,
    },
    CHECK: {"provision_type": ProvisionType.CHECK_PRE_PROVISIONED_DEVICES},
}
WIRES = ("http", "mqtt311", "mqtt5", "coap")
_SHELL = Peer(Wire.SHELL, "model", actor="model")
_ROOT = Organisation(id=1, uuid="root", name="root", path="/1/")
OPERATOR = Actor(peer=_SHELL, organisation=_ROOT, permissions=frozenset(Permission))
_WAIT_S = 10.0


class Steered(Chaos):
    """Answers that arrive, but for those that are to be lost. `gone` says when one was."""

    def __init__(self) -> None:
        super().__init__(Mischief())
        self.lose = False
        self.gone = asyncio.Event()

    def fate(self, route: str, wire: Wire, peer: str) -> Fate:
        if not self.lose:
            return UNHARMED
        self.gone.set()
        return Fate(drop=True)


class UnderTest:
    """Start it, do things with it, stop it, start it again. `now` is its time, ms."""

    def __init__(self, folder: Path, now: int) -> None:
        self.folder = folder
        self.now = now
        self.pairs: dict[str, tuple[str, str]] = {}
        self._tickets: dict[str, FleetTicket] = {}
        self._stack = AsyncExitStack()

    @property
    def database(self) -> Path:
        return self.folder / "model.db"

    def clock(self) -> int:
        return self.now

    # ── life ──────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        config = Config(
            store=StoreSettings(url=f"sqlite:{self.database}"),
            http=HttpSettings(host="127.0.0.1", port=0),
            mqtt=MqttSettings(host="127.0.0.1", port=0),
            coap=CoapSettings(host="127.0.0.1", port=0),
            blynk_tcp=BlynkTcpSettings(enabled=False),
            provisioning=ProvisioningSettings(wrong_free=10_000),  # guessing is not what is asked
            profiles=ProfilesSettings(dir=str(self.folder / "profiles"), watch=False),
        )
        self._stack.enter_context(patch("gateway.app.now_ms", self.clock))
        self.store = await self._stack.enter_async_context(open_store(config, {}))
        self.chaos = Steered()
        self.gateway = Gateway(config, self.store, kinds=Kinds(*chaotic(self.chaos)))
        registrar = SqlRegistrar(self.store)
        self._custody = Custody(self.store, registrar, clock=self.clock, peer=_SHELL)
        self._secrets = FleetSecrets(
            SqlFleetTickets(self.store), clock=self.clock, new_token=new_token
        )
        if not self.pairs:
            await self._furnish()
        await self.gateway.start()
        self._stack.push_async_callback(self.gateway.stop, 2.0)
        self.ports = Ports(**{name: one.port for name, one in self.gateway.listeners})

    async def stop(self) -> None:
        await self._stack.aclose()

    async def _furnish(self) -> None:
        registry = self.gateway.registry
        for name, shape in PROFILES.items():
            pair = f"{name}-key-0001", f"{name}-secret-0001"
            draft = ProfileDraft(
                profile=DeviceProfile(id=0, name=name, **shape),
                key=Secret(pair[0]),
                secret=Secret(pair[1]),
            )
            await registry.save_profile(draft)
            profile = await registry.profile(name)
            assert profile is not None
            (ticket,) = await self._secrets.listed(OPERATOR, profile=profile)
            self.pairs[name], self._tickets[name] = pair, ticket

    # ── devices ───────────────────────────────────────────────────────────────────────────────

    def request(self, ask: Ask) -> bytes:
        key, secret = self.pairs.get(ask.secret, ("create-key-0001", "a wrong secret"))
        body = {"provisionDeviceKey": key, "provisionDeviceSecret": secret}
        body |= {"deviceName": ask.name} if ask.name else {}
        body |= {"nonce": ask.nonce} if ask.nonce else {}
        body |= {"token": ask.own} if ask.own else {}
        return json.dumps(body).encode()

    async def provision(self, wire: str, ask: Ask) -> tuple[str, str]:
        """The status of the answer, and the token in it."""
        told = json.loads(await provision(self.ports, wire, self.request(ask)))
        return told["status"], told.get("credentialsValue", "")

    async def provision_in_vain(self, wire: str, ask: Ask) -> None:
        """The same, and the answer is lost after it was decided."""
        body, chaos = self.request(ask), self.chaos
        chaos.lose, chaos.gone = True, asyncio.Event()
        try:
            async with asyncio.timeout(_WAIT_S):
                if wire == "http":
                    async with http(self.ports.http) as web:
                        try:
                            raise AssertionError(await web.ask("POST", "/api/v1/provision", body))
                        except (EOFError, ConnectionError):
                            pass
                elif wire == "coap":
                    async with coap(self.ports.coap) as device:
                        datagram, _ = device.datagram(POST, "/api/v1/provision", body, kind=CON)
                        device.transport.sendto(datagram)
                        await chaos.gone.wait()
                else:
                    async with mqtt(self.ports.mqtt, VERSIONS[wire]) as session:
                        assert await session.connect(username="provision") == 0
                        session.publish("/provision/request", body, 1)
                        await chaos.gone.wait()
        finally:
            chaos.lose = False

    async def log_in(self, wire: str, token: str) -> bool:
        path = f"/api/v1/{token}/attributes"
        if wire == "http":
            async with http(self.ports.http) as web:
                status = (await web.ask("GET", f"{path}?clientKeys=x")).status
                assert status in (200, 401), status
                return status == 200
        if wire == "coap":
            async with coap(self.ports.coap) as device:
                code = dotted(await device.ask(GET, path, query=("clientKeys=x",)))
                assert code in ("2.05", "4.04", "4.01"), code  # it has no attribute, or no login
                return code != "4.01"
        async with mqtt(self.ports.mqtt, VERSIONS[wire]) as session:
            code = await session.connect(username=token)
            assert code in (0, 5, 4, 0x86, 0x87), code
            return code == 0

    # ── operators ─────────────────────────────────────────────────────────────────────────────

    async def add(self, name: str, profile: str, token: str) -> None:
        found = await self.gateway.registry.profile(profile)
        assert found is not None
        added = await self.gateway.registry.add_device(found, name, token=Secret(token))
        assert isinstance(added, Provisioned), added

    async def rearm(self, name: str) -> None:
        known = await self.gateway.registry.device(name)
        assert known is not None
        assert await self.gateway.registry.rearm_device(known)

    async def revoke(self, name: str) -> None:
        known = await self.gateway.registry.device(name)
        assert known is not None
        assert await self._custody.revoke(known)
        await self._follow()

    async def rotate(self, label: str, fresh: str, overlap_ms: int) -> None:
        ticket = await self._secrets.rotate(
            OPERATOR, self._tickets[label], label=fresh, overlap_ms=overlap_ms
        )
        self._tickets[fresh] = ticket
        self.pairs[fresh] = ticket.key.reveal(), ticket.secret.reveal()

    async def revoke_secret(self, label: str) -> None:
        await self._secrets.revoke(OPERATOR, self._tickets[label])

    async def quarantine(self, label: str, since: int) -> None:
        await self._secrets.quarantine(OPERATOR, self._tickets[label], since=since)
        await self._follow()

    async def release(self, label: str) -> None:
        await self._secrets.release(OPERATOR, self._tickets[label])
        await self._follow()

    async def _follow(self) -> None:
        """The gateway hears of what another process did, as it does within a second."""
        last, feed = await self.store.last_notice(), self.gateway.feed
        async with asyncio.timeout(_WAIT_S):
            while feed._seen < last:
                feed.nudge()
                await asyncio.sleep(0.005)

    # ── what is on disk ───────────────────────────────────────────────────────────────────────

    async def stored(self, token: str) -> str | None:
        """The name of the device that a token is stored for, and lets in; None without one."""
        known = await self.store.find_credentials(Secret(token))
        return None if known is None else known.device.name

    def names(self) -> list[str]:
        """Of every device there is, read from the file."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return [name for (name,) in connection.execute("SELECT name FROM device")]
        finally:
            connection.close()
