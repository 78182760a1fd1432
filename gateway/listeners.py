"""The wires, made as the configuration says: four in the open, three secure ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from gateway.config import Config
from gateway.core.errors import ConfigError
from gateway.core.identities import Identities
from gateway.core.model import Wire
from gateway.dialects.blynk.stream_words import SILENT_BEATS
from gateway.transports.blynk import BlynkListener
from gateway.transports.coap import CoapListener
from gateway.transports.http import HttpListener
from gateway.transports.http_answers import ErrorShapes
from gateway.transports.mqtt import MqttListener
from gateway.transports.streams import Greet
from gateway.wire.call import Report
from gateway.wire.router import Router

if TYPE_CHECKING:
    from gateway.transports.coap.dtls import Dtls
    from gateway.transports.tls import Contexts, TlsServer

Listener: TypeAlias = HttpListener | MqttListener | CoapListener | BlynkListener

_MACHINERY: Final = (
    "gateway.core.pki.chain",
    "gateway.core.pki.issuer",
    "gateway.core.pki.statements",
    "cryptography.hazmat.primitives.serialization.pkcs7",
)
"""What judges, signs, revokes and packs certificates, with the libraries it needs."""


class Kinds(msgspec.Struct, frozen=True):
    """What listens on each wire: what gives its answers, or what loses them (`gatehouse chaos`)."""

    http: type[HttpListener] = HttpListener
    mqtt: type[MqttListener] = MqttListener
    coap: type[CoapListener] = CoapListener


PLAIN: Final = Kinds()


class Served(msgspec.Struct, frozen=True):
    """What the wires serve, and whom they ask.

    `router_for` makes a router for one wire; `links` are shown at `/.well-known/core`, those of
    `secure_links` on CoAPS besides.
    """

    router_for: Callable[[Wire], Router]
    greet: Greet
    greet_blynk: Greet
    error_shapes: ErrorShapes
    links: tuple[str, ...]
    secure_links: tuple[str, ...]
    identities: Identities
    report: Report
    kinds: Kinds = PLAIN


class Listeners:
    """All listeners of one gateway; None for a wire that is switched off.

    The secure ones exist when there is a certificate. `contexts` holds it.
    """

    def __init__(self, config: Config, served: Served) -> None:
        self._config = config
        self._served = served
        self.contexts = _contexts(config)
        self.http = self._http() if config.http.enabled else None
        self.mqtt = self._mqtt() if config.mqtt.enabled else None
        self.coap = self._coap() if config.coap.enabled else None
        self.https: HttpListener | None = None
        self.mqtts: MqttListener | None = None
        self.coaps: CoapListener | None = None
        self.blynk_tcp = self._blynk() if config.blynk_tcp.enabled else None
        if self.contexts is not None:
            if config.https.enabled:
                self.https = self._http(self._tls(self.contexts))
            if config.mqtts.enabled:
                self.mqtts = self._mqtt(self._tls(self.contexts))
            if config.coaps.enabled:
                self.coaps = self._coap(self._dtls(self.contexts))

    def __iter__(self) -> Iterator[tuple[str, Listener]]:
        """Those that are there, by the name of their section."""
        for name in ("http", "mqtt", "coap", "https", "mqtts", "coaps", "blynk_tcp"):
            listener: Listener | None = getattr(self, name)
            if listener is not None:
                yield name, listener

    async def start(self) -> None:
        """Listen on all. Raises `ConfigError` when an address or a certificate cannot be had."""
        if not any(True for _ in self):
            raise ConfigError(
                "every wire is switched off. Enable at least one: [http], [mqtt] or [coap] "
                "enabled = true."
            )
        if self.contexts is not None:
            self.contexts.load()
        for name, listener in self:
            try:
                await listener.start()
            except OSError as exc:
                raise ConfigError(_port_trouble(self._config, name, exc)) from exc

    def _http(self, tls: TlsServer | None = None) -> HttpListener:
        bounds, served = self._config.http, self._served
        place = bounds if tls is None else self._config.https
        return served.kinds.http(
            served.router_for(Wire.HTTP),
            host=place.host,
            port=place.port,
            shapes=served.error_shapes,
            max_body_bytes=bounds.max_body_bytes,
            max_connections=bounds.max_connections,
            read_timeout_s=bounds.read_timeout_s,
            write_timeout_s=bounds.write_timeout_s,
            tls=tls,
            vouch=None if tls is None else served.identities.vouch,
        )

    def _mqtt(self, tls: TlsServer | None = None) -> MqttListener:
        bounds = self._config.mqtt
        place = bounds if tls is None else self._config.mqtts
        return self._served.kinds.mqtt(
            self._served.greet,
            host=place.host,
            port=place.port,
            max_packet=bounds.max_packet_bytes,
            max_connections=bounds.max_connections,
            connect_timeout_s=bounds.connect_timeout_s,
            max_inflight=bounds.max_inflight,
            max_unacked=bounds.max_unacked,
            stall_s=bounds.stall_s,
            max_write_buffer=bounds.max_write_buffer_bytes,
            tls=tls,
        )

    def _coap(self, dtls: Dtls | None = None) -> CoapListener:
        bounds, served = self._config.coap, self._served
        place = bounds if dtls is None else self._config.coaps
        return served.kinds.coap(
            served.router_for(Wire.COAP),
            host=place.host,
            port=place.port,
            links=served.links if dtls is None else (*served.links, *served.secure_links),
            max_body=bounds.max_body_bytes,
            max_exchanges=bounds.max_exchanges,
            receive_buffer=bounds.receive_buffer_bytes,
            max_under_way=bounds.max_under_way,
            max_observations=bounds.max_observations,
            dtls=dtls,
        )

    def _blynk(self) -> BlynkListener:
        settings = self._config.blynk_tcp
        return BlynkListener(
            self._served.greet_blynk,
            host=settings.host,
            port=settings.port,
            max_body=settings.max_body_bytes,
            max_connections=settings.max_connections,
            login_timeout_s=settings.login_timeout_s,
            idle_s=SILENT_BEATS * settings.heartbeat_s,
        )

    def _tls(self, contexts: Contexts) -> TlsServer:
        from gateway.transports.tls import TlsServer

        return TlsServer(
            contexts,
            handshake_timeout_s=self._config.tls.handshake_timeout_s,
            max_handshakes=self._config.tls.max_handshakes,
            report=self._served.report,
        )

    def _dtls(self, contexts: Contexts) -> Dtls:
        from gateway.transports.coap.dtls import Dtls

        tls, coaps, identities = self._config.tls, self._config.coaps, self._served.identities
        return Dtls(
            contexts,
            vouch=identities.vouch,
            keys=identities,
            report=self._served.report,
            handshake_timeout_s=tls.handshake_timeout_s,
            max_handshakes=tls.max_handshakes,
            max_sessions=coaps.max_sessions,
            session_idle_s=coaps.session_idle_s,
            mtu=coaps.mtu,
            max_chain_bytes=tls.max_chain_bytes,
        )


def _contexts(config: Config) -> Contexts | None:
    """The server's certificate; None while there is none, or no wire that wants one."""
    wanted = config.https.enabled or config.mqtts.enabled or config.coaps.enabled
    files = config.tls_files
    if not wanted or files is None:
        return None
    certificate, key = files
    if not config.tls.certificate_file and not certificate.exists():
        return None  # a place that nobody named
    # OpenSSL's bindings take a tenth of a second, which a gateway in the open need not wait.
    from gateway.transports.tls import Contexts

    _load_machinery()
    return Contexts(
        certificate,
        key,
        min_version=config.tls.min_version,
        client_certificates=config.tls.client_certificates,
        max_chain_bytes=config.tls.max_chain_bytes,
    )


def _load_machinery() -> None:
    """Now, and not when the first device shows a certificate: all others would wait for it."""
    for name in _MACHINERY:
        import_module(name)


def _port_trouble(config: Config, name: str, exc: OSError) -> str:
    section = getattr(config, name)
    host, port = section.host, section.port
    return (
        f"{name}: cannot listen on {host}:{port} ({exc.strerror or exc}). "
        f"Stop what uses that port (`ss -lntup | grep {port}` shows it), or choose another "
        f"with GATEHOUSE_{name.upper()}_PORT or [{name}] port; 0 picks a free one."
    )
