"""The composition root: opens, wires and closes everything. Only this file knows all rooms."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from gateway import __version__
from gateway.admin.documentation import Documentation
from gateway.admin.health import Health
from gateway.admin.metrics import MetricsApi
from gateway.admin.refusals import RefusalsApi
from gateway.admin.revocation import RevocationApi
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.access import Access
from gateway.core.births import Births
from gateway.core.certifying import Certifier
from gateway.core.errors import ConfigError, GatehouseError, Overloaded, StoreUnavailable
from gateway.core.feed import Feed
from gateway.core.identities import Identities
from gateway.core.limits import UNLIMITED, Limits, RateLimiter, limits_of
from gateway.core.model import Event, EventKind, Outcome, Peer, Wire
from gateway.core.packages import Packages
from gateway.core.pki.revocation import OcspResponder, RevocationLists
from gateway.core.presence import Attendance
from gateway.core.profiles import Profiles
from gateway.core.provisioning import Provisioner
from gateway.core.rpc import Rpc
from gateway.core.sessions import Sessions
from gateway.core.tokens import new_token
from gateway.dialects.blynk.profile import Templates
from gateway.gates import open_gates
from gateway.hooks import Hooks
from gateway.late import LateRoutes
from gateway.listeners import PLAIN, Kinds, Listeners, Served
from gateway.metrics import Depths, Metrics, Sources
from gateway.opening import load_profiles, open_authorities, open_packages, open_registry
from gateway.profiles import look, watch
from gateway.sinks.hook import Hook
from gateway.speakers import Parts, Speakers
from gateway.store.retention import Retention
from gateway.store.search import SearchIndexer
from gateway.store.sql_store import SqlStore
from gateway.tracing import open_tracing
from gateway.wire.meters import Meters
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

if TYPE_CHECKING:
    from gateway.services import Services

log = structlog.get_logger()

GRACE_S = 6.0
"""How long a stop may take to answer what was taken. With a store that is locked by another
process all the while, the process is still gone within 10 s."""

HOOKS_S = 0.5
"""How long after-hooks may take to finish what they are being told: it is told again else."""

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

    def __init__(self, config: Config, store: SqlStore, *, kinds: Kinds = PLAIN) -> None:
        self.config = config
        self.store = store
        self.registry = open_registry(store, Peer(Wire.SHELL, "profiles"))
        self.profile_errors: list[ConfigError] = []
        self._accepting = False
        self._tasks: list[asyncio.Task[None]] = []
        self._tracing = open_tracing(config.tracing.endpoint, config.tracing.sample, __version__)
        self._meters = Meters(None if self._tracing is None else self._tracing.trace)
        self._births = Births()
        self._logins_ended: defaultdict[str, int] = defaultdict(int)
        self._gauge = Gauge(config.limits.max_calls, self._meters)
        self._polls = Gauge(config.http.max_polls)
        self._hook = _hook(config)
        self._hooks = Hooks(store)
        self.attendance = Attendance(store, now_ms)
        self.sessions = Sessions(self.attendance)
        self.rpc = Rpc(self.sessions, store, now_ms)
        self.access = Access(store, now_ms)
        self.profiles = Profiles(store)
        self.authorities = open_authorities(config, store, Peer(Wire.SHELL, "gateway"))
        self.certifier = Certifier(store, self.authorities, self.profiles, now_ms)
        self._gates = open_gates(config, store, self._hooks.before, self.certifier)
        self.identities = Identities(
            store, self.sessions, self.profiles, now_ms, births=self._births, gates=self._gates
        )
        self.feed = Feed(
            store,
            self.sessions,
            self.rpc,
            forget=self._forget,
            client_revoked=lambda number: self.speakers.blynk.client_revoked(number),
            missed=lambda: self.speakers.blynk.end_programs(),
        )
        self.packages = Packages(store, open_packages(config), now_ms)
        self._limiter = make_limiter(config)
        self._templates = Templates(store, now_ms)
        self._provisioner = Provisioner(
            store,
            clock=now_ms,
            new_token=new_token,
            readable=certificate_readable,
            certifier=self.certifier,
            births=self._births,
            templates=self._templates,
            replaced=self._token_replaced,
            reopened=self.access.forget_one,
            gates=self._gates,
        )
        self._administration = LateRoutes(self._admin_routes)
        self._services: Services | None = None
        self.metrics = self._make_metrics()
        self.speakers = self._make_speakers()
        self._lists = RevocationLists(
            store, self.authorities, now_ms, lifetime_ms=config.ca.crl_hours * 3_600_000
        )
        self._revocation = self._make_revocation()
        self._reports: set[asyncio.Task[None]] = set()
        self._health = Health(listening=lambda: self._accepting, probe=store.probe)
        self.listeners = made = self._make_listeners(kinds)
        self.http, self.mqtt, self.coap = made.http, made.mqtt, made.coap
        self.https, self.mqtts, self.coaps = made.https, made.mqtts, made.coaps
        self.blynk_tcp = made.blynk_tcp

    def _make_speakers(self) -> Speakers:
        return Speakers(
            Parts(
                config=self.config,
                store=self.store,
                provisioner=self._provisioner,
                templates=self._templates,
                access=self.access,
                identities=self.identities,
                certifier=self.certifier,
                authorities=self.authorities,
                profiles=self.profiles,
                sessions=self.sessions,
                rpc=self.rpc,
                attendance=self.attendance,
                limiter=self._limiter,
                packages=self.packages,
                gauge=self._gauge,
                polls=self._polls,
                hook=self._hook,
            )
        )

    def _make_revocation(self) -> RevocationApi:
        lifetime_ms = self.config.ca.ocsp_minutes * 60_000
        responder = OcspResponder(self.store, self.authorities, now_ms, lifetime_ms=lifetime_ms)
        return RevocationApi(self._lists, responder, self.authorities, now_ms)

    def _make_metrics(self) -> Metrics:
        writer = self.store.writer
        return Metrics(
            Sources(
                meters=self._meters,
                births=self._births,
                commit_sizes=writer.sizes,
                commit_times_s=writer.times_s,
                depths=lambda: Depths(writer.pending, self._gauge.now, self._polls.now),
                wires=lambda: (session.peer.wire.value for session in self.sessions),
                logins=lambda: self._logins_ended,
                hooks=lambda: self._hooks.outcomes,
                version=__version__,
            )
        )

    async def start(self) -> None:
        """Load profiles and listen. Raises `ConfigError` when an address cannot be had."""
        seen = look(self.config.profiles_dir)
        self.profile_errors = await load_profiles(self.config, self.registry)
        for error in self.profile_errors:
            log.error("profile.unusable", reason=str(error))
        await self._hooks.prove(await self.registry.profiles())
        await self.attendance.enter()
        await self.feed.begin()
        if self._hook is not None:
            await self._hook.open()
        await self.listeners.start()
        self._accepting = True
        self._begin_tasks()
        if self.config.profiles.watch:
            self._begin(watch(self.config.profiles_dir, self._reload, since=seen), "profiles.watch")

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
        self._begin(self._hooks.after.run(), "hooks")
        self._begin(self.attendance.run(), "presence")
        self._begin(self.rpc.sweep(), "rpc.sweep")
        self._begin(self.packages.run(), "downloads")
        self._begin(SearchIndexer(store).run(), "search.index")
        if self.config.metrics.enabled:
            self._begin(self.metrics.run(), "metrics")
        if self.listeners.contexts is not None:
            self._begin(self.listeners.contexts.watch(), "certificates.watch")

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop accepting, answer what was taken, let go of everything but the store."""
        self._accepting = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        stops = (listener.stop(grace_s) for _, listener in self.listeners)
        for error in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(error, Exception):
                log.error("listener.stop_failed", exc_info=error)
        await self.speakers.stop()
        await self._hooks.close(HOOKS_S)
        await self.rpc.stop()
        if await self._administration.settle() and self._services is not None:
            self._services.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.stop)
        if self._hook is not None:
            await self._hook.close()
        try:
            async with asyncio.timeout(LAST_WRITE_S):
                await asyncio.gather(*self._reports)
                await self.attendance.write(everything=True)
                await self.packages.write()
        except (GatehouseError, TimeoutError) as exc:
            log.warning("gateway.last_words_lost", reason=str(exc) or "the store takes too long")

    def _make_listeners(self, kinds: Kinds) -> Listeners:
        config = self.config
        self.routes = routes = self._routes()
        return Listeners(
            config,
            Served(
                router_for=lambda wire: Router(
                    routes,
                    wire,
                    self._gauge,
                    polls=self._polls,
                    timeout_s=config.limits.core_timeout_s,
                    later=self._later if wire.plain is Wire.HTTP else None,
                ),
                greet=self.speakers.greet,
                greet_blynk=self.speakers.blynk.connect_stream,
                error_shapes=self.speakers.errors,
                links=("/api/v1/provision",),
                secure_links=tuple(self.speakers.est.links()),
                identities=self.identities,
                report=self._report,
                kinds=kinds,
            ),
        )

    def _routes(self) -> tuple[Route, ...]:
        """All there are over HTTP and CoAP but those that come later, and what describes them."""
        documentation = Documentation(title="Gatehouse", version=__version__, later=self._later)
        routes = (
            *self.speakers.routes(),
            *self._revocation.routes(),
            *self._health.routes(),
            *RefusalsApi().routes(),
            *self._metrics_routes(),
            *documentation.routes(),
        )
        documentation.describe(routes)
        return routes

    @property
    def _later(self) -> LateRoutes | None:
        return self._administration if self.config.admin.enabled else None

    async def all_routes(self) -> tuple[Route, ...]:
        """Those of the administration too, which is loaded when somebody first asks for it."""
        later = self._later
        return self.routes if later is None else (*self.routes, *await later())

    def _admin_routes(self) -> tuple[Route, ...]:
        """In a thread, once."""
        from gateway.administration import open_administration, open_logins
        from gateway.platform_api import open_platform
        from gateway.services import open_services

        config, store = self.config, self.store
        self._services = services = open_services(store)
        logins = open_logins(config, store, services, self._logins_ended)
        nudge = self.feed.nudge
        administration = open_administration(config, store, services, nudge=nudge, logins=logins)
        platform = open_platform(
            config,
            store,
            services,
            logins=logins,
            sessions=self.sessions,
            templates=self._templates,
            nudge=nudge,
        )
        return (*administration.routes(), *platform)

    def _metrics_routes(self) -> tuple[Route, ...]:
        settings = self.config.metrics
        if not settings.enabled:
            return ()
        try:
            return MetricsApi(self.metrics.text, networks=settings.networks.split()).routes()
        except ValueError as exc:
            raise ConfigError(f"[metrics] networks: {exc}. Write `10.0.0.0/8`.") from exc

    def reload_certificates(self) -> bool:
        """Read the server's certificate and key again; True: they are taken up."""
        contexts = self.listeners.contexts
        if contexts is None:
            log.warning(
                "tls.off", reason="there was no certificate at the start; start again to serve one"
            )
            return False
        return contexts.reload()

    def _token_replaced(self) -> None:
        """A device's older token is gone, and what was logged in with it is to end."""
        self.access.forget()
        self.feed.nudge()

    def _forget(self) -> None:
        """Somebody's credentials changed, or a device or a profile did."""
        self.access.forget()
        self.identities.forget()
        self._templates.forget()
        self._lists.forget()

    def _report(self, reason: str, peer: Peer, count: int) -> None:
        """A secure wire refused handshakes; written down without anybody waiting."""
        event = Event(
            kind=EventKind.HANDSHAKE,
            at=now_ms(),
            peer=peer,
            outcome=Outcome.REFUSED,
            reason=reason,
            detail={"count": str(count)},
        )
        log.warning("handshakes.refused", wire=peer.wire, reason=reason, count=count)
        task = asyncio.create_task(self.store.record(event), name="report")
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _reload(self) -> None:
        """A profile file changed. A broken one leaves the running profile in place and says so."""
        self.profile_errors = await load_profiles(self.config, self.registry)
        self.feed.nudge()
        for error in self.profile_errors:
            log.error("profile.unusable", reason=str(error), kept="the profile as it was")
        await self._hooks.prove(await self.registry.profiles())

    async def _heal(self) -> None:
        """While the store cannot be written, try once a second whether it can again."""
        while True:
            await asyncio.sleep(1.0)
            if not self.store.writer.healthy:
                try:
                    await self.store.probe()
                except (StoreUnavailable, Overloaded):
                    continue
