"""The whole dialect over a store in memory; what the transports would do is done by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from gateway.core.access import Access
from gateway.core.authorities import Authorities
from gateway.core.certifying import Certifier
from gateway.core.children import Children
from gateway.core.claiming import Claiming
from gateway.core.feed import Feed
from gateway.core.identities import Identities
from gateway.core.limits import RateLimiter
from gateway.core.methods import Methods
from gateway.core.model import (
    AccessToken,
    Attribute,
    AttributesChange,
    AttributeScope,
    Device,
    DeviceProfile,
    Identity,
    Peer,
    Provisioned,
    ProvisionType,
    Secret,
    Wire,
)
from gateway.core.packages import Packages
from gateway.core.ports import KnownCredentials, NewDevice
from gateway.core.presence import Attendance
from gateway.core.profiles import Profiles
from gateway.core.provisioning import Provisioner
from gateway.core.registry import ProfileDraft, Registry
from gateway.core.rpc import Rpc
from gateway.core.sessions import Sessions
from gateway.core.traffic import Traffic
from gateway.dialects.thingsboard import ThingsBoard
from gateway.dialects.thingsboard.device import DeviceLimits
from gateway.store.sql_store import SqlStore
from gateway.wire.call import Admitted, Guest, Hello, Observer, Reply
from gateway.wire.router import Gauge, Router

PEERS = {wire: Peer(wire, "192.0.2.7:50123") for wire in Wire}


class Pushed:
    """The transport's side of an MQTT session: keeps what is published and how it ended."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.sent: list[tuple[str, bytes]] = []
        self.closed: int | None = None
        self.acknowledge: list[Callable[[], None]] = []

    def push(self, topic: str, body: bytes, delivered: Callable[[], None] | None = None) -> bool:
        if self.closed is not None:
            return False
        self.sent.append((topic, body))
        if delivered is not None:
            self.acknowledge.append(delivered)
        return True

    def close(self, code: int, reason: str = "") -> None:
        self.closed = code


class Watcher:
    """The transport's side of a CoAP observation."""

    def __init__(self, identity: str = "one") -> None:
        self.identity = identity
        self.notified: list[Reply] = []
        self.ended = False

    def notify(self, reply: Reply, delivered: Callable[[], None] | None = None) -> bool:
        self.notified.append(reply)
        if delivered is not None:
            delivered()
        return True

    def end(self) -> None:
        self.ended = True


class Client:
    """An MQTT session as it is open."""

    def __init__(self, admitted: Admitted, link: Pushed) -> None:
        self.admitted = admitted
        self.link = link
        assert admitted.guest is not None
        self.guest: Guest = admitted.guest

    async def publish(self, topic: str, body: bytes | str = b"") -> Reply:
        """The answer to a PUBLISH, its topic filled in as the transport does."""
        assert self.admitted.device is not None
        router: Router = self.admitted.router
        route, reply = await router.answer(
            topic,
            body.encode() if isinstance(body, str) else body,
            PEERS[Wire.MQTT],
            device=self.admitted.device,
            session=self.admitted.state,
            guest=self.guest,
        )
        found = router.match(topic)
        if route is None or found is None or route.mqtt_reply is None or reply.topic:
            return reply
        return Reply(
            reply.body, reply.status, reply.format, topic=route.mqtt_reply.format(**found[1])
        )

    def subscribe(self, *filters: str) -> None:
        for one in filters:
            assert one in self.admitted.filters, one
            self.guest.subscribed(one)

    def hang_up(self) -> None:
        self.link.closed = self.link.closed or 0
        self.guest.closed()


class House:
    """The dialect, the core it speaks to, and people who change things."""

    def __init__(self, store: SqlStore, registry: Registry, clock: Any, tokens: Any) -> None:
        self.store = store
        self.registry = registry
        self.clock = clock
        self.gauge, self.polls = Gauge(100), Gauge(100)
        self.attendance = Attendance(store, clock)
        self.sessions = Sessions(self.attendance)
        self.rpc = Rpc(self.sessions, store, clock)
        self.feed = Feed(store, self.sessions, self.rpc)
        profiles = Profiles(store)
        authorities = Authorities(store, clock, PEERS[Wire.SHELL])
        certifier = Certifier(store, authorities, profiles, clock)
        self.parts: dict[str, Any] = {
            "provisioner": Provisioner(
                store,
                clock=clock,
                new_token=tokens,
                readable=lambda text: True,
                certifier=certifier,
            ),
            "access": Access(store),
            "identities": Identities(store, self.sessions, profiles, clock),
            "certifier": certifier,
            "profiles": profiles,
            "traffic": Traffic(store, clock),
            "sessions": self.sessions,
            "rpc": self.rpc,
            "methods": Methods(clock),
            "claiming": Claiming(store, clock, duration_ms=86_400_000),
            "children": Children(store, clock, tokens),
            "attendance": self.attendance,
            "limiter": RateLimiter(),
            "packages": Packages(store, None, clock),
            "clock": clock,
            "gauge": self.gauge,
            "polls": self.polls,
            "limits": DeviceLimits(),
        }
        self.begin()

    def begin(self, **parts: Any) -> None:
        """The dialect with other parts than the usual."""
        self.parts.update(parts)
        self.dialect = ThingsBoard(**self.parts)
        self.routers = {
            wire: Router(self.dialect.routes(), wire, self.gauge, polls=self.polls)
            for wire in (Wire.HTTP, Wire.COAP)
        }

    async def stop(self) -> None:
        await self.dialect.stop()
        await self.rpc.stop()

    # ── what people do ──────────────────────────────────────────────────────────────────────

    async def profile(self, name: str = "meters", **settings: Any) -> DeviceProfile:
        """Make or change a profile; `thingsboard` is its dialect section."""
        section = settings.pop("thingsboard", {})
        settings.setdefault("provision_type", ProvisionType.CHECK_PRE_PROVISIONED_DEVICES)
        profile = DeviceProfile(id=0, name=name, sections={"thingsboard": section}, **settings)
        pair = {"key": Secret(f"{name}-key-0001"), "secret": Secret(f"{name}-secret-0001")}
        await self.registry.save_profile(ProfileDraft(profile=profile, **pair))
        stored = await self.registry.profile(name)
        assert stored is not None
        return stored

    async def add(self, name: str = "d", profile: str = "meters") -> str:
        """A device of a profile that exists or is made; its token."""
        stored = await self.registry.profile(profile) or await self.profile(profile)
        added = await self.registry.add_device(stored, name)
        assert isinstance(added, Provisioned)
        return added.credentials.id.reveal()

    async def known(self, name: str = "d") -> KnownCredentials:
        known = await self.registry.device(name)
        assert known is not None
        return known

    async def add_gateway(self, name: str, profile: str) -> str:
        """The same for a device that speaks for others."""
        stored = await self.registry.profile(profile)
        assert stored is not None
        token = f"token-of-{name}"
        added = await self.store.create_device(
            NewDevice(
                organisation_id=stored.organisation_id,
                profile_id=stored.id,
                name=name,
                type=stored.name,
                credentials=AccessToken(Secret(token)),
                provision_state="provisioned",
                peer=PEERS[Wire.HTTP],
                at=self.clock(),
                gateway=True,
            )
        )
        assert isinstance(added, Provisioned)
        return token

    async def device(self, name: str = "d") -> Device:
        return (await self.known(name)).device

    async def share(self, *deleted: str, to: str = "d", **values: Any) -> None:
        """Change shared attributes, and let the sessions hear of it."""
        change = AttributesChange(values, deleted)
        known = await self.known(to)
        assert await self.registry.change_attributes(known, AttributeScope.SHARED, change)
        await self.feed.look()

    async def attributes(self, scope: AttributeScope, of: str = "d") -> dict[str, Any]:
        found: list[Attribute] = await self.registry.attributes(await self.known(of))
        return {one.key: one.value for one in found if one.scope is scope}

    async def readings(self, of: str = "d") -> dict[str, Any]:
        return {one.key: one.value for one in await self.registry.latest(await self.known(of))}

    # ── what devices do ─────────────────────────────────────────────────────────────────────

    async def connect(self, token: str, version: int = 5) -> Client:
        return await self.enter(Hello("client", token, None, PEERS[Wire.MQTT], version))

    async def enter(self, hello: Hello) -> Client:
        admitted = await self.dialect.connect(hello)
        assert isinstance(admitted, Admitted), admitted
        assert admitted.guest is not None
        link = Pushed(hello.version)
        admitted.guest.opened(link)
        return Client(admitted, link)

    async def ask(
        self,
        wire: Wire,
        address: str,
        body: bytes | str = b"",
        query: Mapping[str, str] | None = None,
        observer: Observer | None = None,
        identity: Identity | None = None,
    ) -> tuple[int | None, Reply]:
        """A request over HTTP or CoAP: the route's own number for the status, and the reply.

        `identity` is whom the handshake of the wire proved.
        """
        route, reply = await self.routers[wire.plain].answer(
            address,
            body.encode() if isinstance(body, str) else body,
            PEERS[wire],
            query=query or {},
            observer=observer,
            identity=identity,
        )
        assert route is not None, address
        codes = route.http_codes if wire.plain is Wire.HTTP else route.coap_codes
        return codes.get(reply.status), reply

    async def settle(self) -> None:
        """Let everything that was begun come to its end, or to what it waits for."""
        for _ in range(20):
            await asyncio.sleep(0.002)


@pytest.fixture
async def house(
    store: SqlStore, registry: Registry, clock: Any, tokens: Any
) -> AsyncIterator[House]:
    made = House(store, registry, clock, tokens)
    await made.feed.begin()
    yield made
    await made.stop()


@pytest.fixture
def watcher() -> type[Watcher]:
    return Watcher
