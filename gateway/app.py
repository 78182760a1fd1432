"""The composition root: opens, wires and closes everything. Only this file knows all rooms."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import msgspec
import structlog

from gateway.admin.health import Health
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.access import Access
from gateway.core.children import Children
from gateway.core.claiming import Claiming
from gateway.core.errors import ConfigError, GatehouseError, Overloaded, StoreUnavailable
from gateway.core.feed import Feed
from gateway.core.limits import UNLIMITED, Limits, RateLimiter, limits_of
from gateway.core.methods import Methods
from gateway.core.model import Peer, Wire
from gateway.core.packages import Packages
from gateway.core.presence import Attendance
from gateway.core.profiles import Profiles
from gateway.core.provisioning import Provisioner
from gateway.core.rpc import Rpc
from gateway.core.sessions import Sessions
from gateway.core.tokens import new_token
from gateway.core.traffic import Traffic
from gateway.dialects.thingsboard import ThingsBoard
from gateway.dialects.thingsboard.device import DeviceLimits
from gateway.opening import load_profiles, open_packages, open_registry
from gateway.profiles import look, watch
from gateway.sinks.hook import Hook
from gateway.store.retention import Retention
from gateway.store.sql_store import SqlStore
from gateway.transports.coap import CoapListener
from gateway.transports.http import HttpListener
from gateway.transports.mqtt import MqttListener
from gateway.wire.call import Admitted, Hello, Rejected
from gateway.wire.router import Gauge, Router

log = structlog.get_logger()

GRACE_S = 6.0
"""How long a stop may take to answer what was taken. With a store that is locked by another
process all the while, the process is still gone within 10 s."""

LAST_WRITE_S = 1.0
"""How long the last presence may take to be written: it is worth no more."""


def certificate_readable(text: str) -> bool:
    """Whether a base64 certificate text can be parsed."""
    from base64 import b64decode

    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        x509.load_der_x509_certificate(b64decode(text, validate=True))
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm):
        return False
    return True


def make_limiter(config: Config) -> RateLimiter:
    """The rates of `[limits]`, by whose they are."""
    texts = msgspec.structs.asdict(config.limits)

    def limits(scope: str) -> Limits:
        names = ("messages", "telemetry_messages", "telemetry_points")
        return limits_of({name: texts[f"{scope}_{name}"] for name in names}, UNLIMITED)

    return RateLimiter(
        organisation=limits("organisation"),
        device=limits("device"),
        gateway=limits("gateway"),
        gateway_devices=limits("gateway_devices"),
    )


def _hook(config: Config) -> Hook | None:
    rpc = config.rpc
    if not rpc.hook:
        return None
    return Hook(rpc.hook, timeout_s=rpc.hook_timeout_s, max_calls=rpc.hook_max_calls)


class Gateway:
    """All listeners over one store. `start`, then `stop`; not to be started twice."""

    def __init__(self, config: Config, store: SqlStore) -> None:
        self.config = config
        self.store = store
        self.registry = open_registry(store, Peer(Wire.SHELL, "profiles"))
        self.profile_errors: list[ConfigError] = []
        self.http: HttpListener | None = None
        self.mqtt: MqttListener | None = None
        self.coap: CoapListener | None = None
        self._accepting = False
        self._tasks: list[asyncio.Task[None]] = []
        self._gauge = Gauge(config.limits.max_calls)
        self._polls = Gauge(config.http.max_polls)
        self._hook = _hook(config)
        self.attendance = Attendance(store, now_ms)
        self.sessions = Sessions(self.attendance)
        self.rpc = Rpc(self.sessions, store, now_ms)
        self.access = Access(store, now_ms)
        self.feed = Feed(store, self.sessions, self.rpc, forget=self.access.forget)
        self.packages = Packages(store, open_packages(config), now_ms)
        self._dialect = self._make_dialect()
        self._health = Health(listening=lambda: self._accepting, probe=store.probe)

    def _make_dialect(self) -> ThingsBoard:
        config, store = self.config, self.store
        return ThingsBoard(
            provisioner=Provisioner(
                store, clock=now_ms, new_token=new_token, readable=certificate_readable
            ),
            access=self.access,
            profiles=Profiles(store),
            traffic=Traffic(store, now_ms),
            sessions=self.sessions,
            rpc=self.rpc,
            methods=Methods(now_ms, hook=self._hook),
            claiming=Claiming(store, now_ms, duration_ms=int(config.claims.duration_s * 1000)),
            children=Children(store, now_ms, new_token),
            attendance=self.attendance,
            limiter=make_limiter(config),
            packages=self.packages,
            clock=now_ms,
            gauge=self._gauge,
            polls=self._polls,
            limits=DeviceLimits(
                config.mqtt.max_packet_bytes, config.mqtt.max_inflight, config.limits.max_values
            ),
            timeout_s=config.limits.core_timeout_s,
            provision_idle_s=config.mqtt.provision_idle_s,
            session_idle_s=config.mqtt.session_idle_s,
            max_children=config.limits.max_children,
        )

    async def start(self) -> None:
        """Load profiles and listen. Raises `ConfigError` when an address cannot be had."""
        seen = look(self.config.profiles_dir)
        self.profile_errors = await load_profiles(self.config, self.registry)
        for error in self.profile_errors:
            log.error("profile.unusable", reason=str(error))
        await self.attendance.enter()
        await self.feed.begin()
        if self._hook is not None:
            await self._hook.open()
        self._make_listeners()
        if not self._listeners():
            raise ConfigError(
                "every wire is switched off. Enable at least one: [http], [mqtt] or [coap] "
                "enabled = true."
            )
        for name, listener in self._listeners():
            try:
                await listener.start()
            except OSError as exc:
                raise ConfigError(_port_trouble(self.config, name, exc)) from exc
        self._accepting = True
        self._begin_tasks()
        if self.config.profiles.watch:
            self._begin(watch(self.config.profiles_dir, self._reload, since=seen), "profiles.watch")
        # What lives now lives long: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)

    def _begin_tasks(self) -> None:
        store, config = self.store, self.config.store
        retention = Retention(
            store,
            now_ms,
            readings_keep_days=config.readings_keep_days,
            events_keep_days=config.events_keep_days,
            every_s=config.sweep_every_s,
        )
        self._begin(retention.run(), "retention")
        self._begin(self._heal(), "store.heal")
        self._begin(self.feed.run(), "feed")
        self._begin(self.attendance.run(), "presence")
        self._begin(self.rpc.sweep(), "rpc.sweep")
        self._begin(self.packages.run(), "downloads")

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop accepting, answer what was taken, let go of everything but the store."""
        self._accepting = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        stops = (listener.stop(grace_s) for _, listener in self._listeners())
        for error in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(error, Exception):
                log.error("listener.stop_failed", exc_info=error)
        await self._dialect.stop()
        await self.rpc.stop()
        if self._hook is not None:
            await self._hook.close()
        try:
            async with asyncio.timeout(LAST_WRITE_S):
                await self.attendance.write(everything=True)
                await self.packages.write()
        except (GatehouseError, TimeoutError) as exc:
            log.warning("gateway.last_words_lost", reason=str(exc) or "the store takes too long")

    def _make_listeners(self) -> None:
        config, gauge, dialect = self.config, self._gauge, self._dialect
        timeout_s = config.limits.core_timeout_s
        routes = (*dialect.routes(), *self._health.routes())
        if config.http.enabled:
            self.http = HttpListener(
                Router(routes, Wire.HTTP, gauge, polls=self._polls, timeout_s=timeout_s),
                host=config.http.host,
                port=config.http.port,
                error_body=dialect.error_body,
                max_body_bytes=config.http.max_body_bytes,
                max_connections=config.http.max_connections,
                read_timeout_s=config.http.read_timeout_s,
                write_timeout_s=config.http.write_timeout_s,
            )
        if config.mqtt.enabled:
            self.mqtt = MqttListener(
                self._greet,
                host=config.mqtt.host,
                port=config.mqtt.port,
                max_packet=config.mqtt.max_packet_bytes,
                max_connections=config.mqtt.max_connections,
                connect_timeout_s=config.mqtt.connect_timeout_s,
                max_inflight=config.mqtt.max_inflight,
                max_unacked=config.mqtt.max_unacked,
                stall_s=config.mqtt.stall_s,
                max_write_buffer=config.mqtt.max_write_buffer_bytes,
            )
        if config.coap.enabled:
            self.coap = CoapListener(
                Router(routes, Wire.COAP, gauge, polls=self._polls, timeout_s=timeout_s),
                host=config.coap.host,
                port=config.coap.port,
                links=("/api/v1/provision",),
                max_body=config.coap.max_body_bytes,
                max_exchanges=config.coap.max_exchanges,
                receive_buffer=config.coap.receive_buffer_bytes,
                max_under_way=config.coap.max_under_way,
                max_observations=config.coap.max_observations,
            )

    def _listeners(self) -> list[tuple[str, HttpListener | MqttListener | CoapListener]]:
        named = (("http", self.http), ("mqtt", self.mqtt), ("coap", self.coap))
        return [(name, listener) for name, listener in named if listener is not None]

    async def _greet(self, hello: Hello) -> Admitted | Rejected:
        return await self._dialect.connect(hello)

    async def _reload(self) -> None:
        """A profile file changed. A broken one leaves the running profile in place and says so."""
        self.profile_errors = await load_profiles(self.config, self.registry)
        self.feed.nudge()
        for error in self.profile_errors:
            log.error("profile.unusable", reason=str(error), kept="the profile as it was")

    async def _heal(self) -> None:
        """While the store cannot be written, try once a second whether it can again."""
        while True:
            await asyncio.sleep(1.0)
            if not self.store.writer.healthy:
                try:
                    await self.store.probe()
                except (StoreUnavailable, Overloaded):
                    continue


def _port_trouble(config: Config, name: str, exc: OSError) -> str:
    section = getattr(config, name)
    host, port = section.host, section.port
    return (
        f"{name}: cannot listen on {host}:{port} ({exc.strerror or exc}). "
        f"Stop what uses that port (`ss -lntup | grep {port}` shows it), or choose another "
        f"with GATEHOUSE_{name.upper()}_PORT or [{name}] port; 0 picks a free one."
    )
