"""The dialects of one gateway, made as the configuration says: who speaks which, and to whom."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.access import Access
from gateway.core.authorities import Authorities
from gateway.core.certifying import Certifier
from gateway.core.children import Children
from gateway.core.claiming import Claiming
from gateway.core.identities import Identities
from gateway.core.limits import RateLimiter, parse_rate
from gateway.core.methods import Methods
from gateway.core.oauth_clients import OAuthClients
from gateway.core.packages import Packages
from gateway.core.presence import Attendance
from gateway.core.profiles import Profiles
from gateway.core.provisioning import Provisioner
from gateway.core.rpc import Rpc
from gateway.core.sessions import Sessions
from gateway.core.tokens import new_token
from gateway.core.traffic import Traffic
from gateway.dialects.blynk import Blynk
from gateway.dialects.blynk.oauth_words import ERRORS as OAUTH_ERRORS
from gateway.dialects.blynk.oauth_words import PATH as OAUTH_PATH
from gateway.dialects.blynk.profile import Templates
from gateway.dialects.blynk.words import ERRORS as BLYNK_ERRORS
from gateway.dialects.blynk.words import PATHS as BLYNK_PATHS
from gateway.dialects.est import Est
from gateway.dialects.thingsboard import ThingsBoard
from gateway.dialects.thingsboard.device import DeviceLimits
from gateway.sinks.hook import Hook
from gateway.store.sql_oauth import SqlOAuth
from gateway.store.sql_store import SqlStore
from gateway.wire.call import Admitted, ErrorShape, Hello, Rejected
from gateway.wire.route import Route
from gateway.wire.router import Gauge


class Parts(Struct, frozen=True, kw_only=True):
    """What the dialects of one gateway share. `gauge`, `polls`: calls under way, and those that
    wait; `hook`: who answers calls of methods that nobody here knows."""

    config: Config
    store: SqlStore
    provisioner: Provisioner
    templates: Templates
    access: Access
    identities: Identities
    certifier: Certifier
    authorities: Authorities
    profiles: Profiles
    sessions: Sessions
    rpc: Rpc
    attendance: Attendance
    limiter: RateLimiter
    packages: Packages
    gauge: Gauge
    polls: Gauge
    hook: Hook | None


class Speakers:
    """ThingsBoard's dialect, Blynk's, and EST."""

    def __init__(self, parts: Parts) -> None:
        self.thingsboard = _thingsboard(parts)
        self.blynk = _blynk(parts)
        self.est = _est(parts)
        self._thingsboard_errors = self.thingsboard.errors()

    def routes(self) -> Iterable[Route]:
        """All there are over HTTP and CoAP but those of people."""
        return (*self.thingsboard.routes(), *self.blynk.routes(), *self.est.routes())

    async def greet(self, hello: Hello) -> Admitted | Rejected:
        """Whose MQTT session it is: Blynk's devices are known by their user name, which others may
        have for themselves."""
        if not self.blynk.speaks(hello):
            return await self.thingsboard.connect(hello)
        verdict = await self.blynk.connect(hello)
        if isinstance(verdict, Admitted):
            return verdict
        other = await self.thingsboard.connect(hello)
        if isinstance(other, Admitted) or other.is_passing:
            return other
        self.blynk.refused(hello, verdict)
        return verdict

    def errors(self, path: str) -> ErrorShape:
        """How errors are told at a path."""
        if path.startswith(OAUTH_PATH):
            return OAUTH_ERRORS
        return BLYNK_ERRORS if path.startswith(BLYNK_PATHS) else self._thingsboard_errors

    async def stop(self) -> None:
        """Nothing is begun any more on behalf of sessions."""
        await self.thingsboard.stop()
        await self.blynk.stop()


def _thingsboard(parts: Parts) -> ThingsBoard:
    config, store = parts.config, parts.store
    return ThingsBoard(
        provisioner=parts.provisioner,
        access=parts.access,
        identities=parts.identities,
        certifier=parts.certifier,
        profiles=parts.profiles,
        traffic=Traffic(store, now_ms),
        sessions=parts.sessions,
        rpc=parts.rpc,
        methods=Methods(now_ms, hook=parts.hook),
        claiming=Claiming(store, now_ms, duration_ms=int(config.claims.duration_s * 1000)),
        children=Children(store, now_ms, new_token),
        attendance=parts.attendance,
        limiter=parts.limiter,
        packages=parts.packages,
        clock=now_ms,
        gauge=parts.gauge,
        polls=parts.polls,
        limits=DeviceLimits(
            config.mqtt.max_packet_bytes, config.mqtt.max_inflight, config.limits.max_values
        ),
        timeout_s=config.limits.core_timeout_s,
        provision_idle_s=config.mqtt.provision_idle_s,
        session_idle_s=config.mqtt.session_idle_s,
        max_children=config.limits.max_children,
    )


def _blynk(parts: Parts) -> Blynk:
    config, store = parts.config, parts.store
    return Blynk(
        provisioner=parts.provisioner,
        store=store,
        access=parts.access,
        templates=parts.templates,
        traffic=Traffic(store, now_ms),
        sessions=parts.sessions,
        rpc=parts.rpc,
        attendance=parts.attendance,
        limiter=parts.limiter,
        clock=now_ms,
        gauge=parts.gauge,
        bad_tokens=parse_rate(config.blynk.bad_tokens),
        timeout_s=config.limits.core_timeout_s,
        claim_s=config.blynk.claim_s,
        session_idle_s=config.mqtt.session_idle_s,
        clients=OAuthClients(SqlOAuth(store), clock=now_ms),
        max_children=config.limits.max_children,
    )


def _est(parts: Parts) -> Est:
    return Est(
        provisioner=parts.provisioner,
        certifier=parts.certifier,
        authorities=parts.authorities,
        access=parts.access,
        profiles=parts.profiles,
        tickets=parts.store.find_fleet_ticket,
        limiter=parts.limiter,
        clock=now_ms,
    )
