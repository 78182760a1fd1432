"""The settings: one struct per section of the configuration, each value with its bounds.

Every number has bounds; sizes are bytes, `_s` is seconds, `_days` is days.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.setting_values import (
    BodySize,
    BufferSize,
    CollectorUrl,
    Count,
    Days,
    Email,
    FileOrNone,
    FolderName,
    FolderOrNone,
    HookUrl,
    Host,
    Networks,
    Port,
    PublicUrl,
    Url,
    Wait,
)
from gateway.toml_lines import RateText

MEMORY = "sqlite::memory:"

_PASSWORD = re.compile(r"(?<=//)([^/@:]*):[^/@]*@")


class StoreSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[store]`: where everything is kept, and how long."""

    url: Url = "sqlite:data/gatehouse.db"
    """`sqlite:PATH`, or `sqlite::memory:` which forgets at exit. Its folder is the data folder.
    `postgresql://USER@HOST:5432/DATABASE`: a server, which may serve several gateways."""
    readings_keep_days: Days = 7
    """Days a reading is kept: 1 to 36500."""
    events_keep_days: Days = 90
    """Days an event (the audit log) is kept: 1 to 36500."""
    sweep_every_s: Annotated[float, Meta(ge=1, le=86_400)] = 60
    """Seconds between two looks for what has grown old: 1 to 86400."""
    max_pending: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    """Decisions waiting for their commit: 1 to 1000000. Beyond it devices are told "later"."""

    @property
    def shown_url(self) -> str:
        """The address without its password."""
        return _PASSWORD.sub(r"\1@", self.url)

    def __repr__(self) -> str:
        return f"StoreSettings({', '.join(f'{name}={value!r}' for name, value in self._shown())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return self._shown()

    def _shown(self) -> list[tuple[str, Any]]:
        values = msgspec.structs.asdict(self) | {"url": self.shown_url}
        return list(values.items())


class HttpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[http]`: the HTTP listener."""

    enabled: bool = True
    host: Host = "0.0.0.0"  # noqa: S104 - a gateway is there to be reached
    port: Port = 8080
    max_body_bytes: BodySize = 1_048_576
    """Bytes of one request's body: 64 to 67108864. Telemetry in bulk is the largest there is."""
    max_connections: Count = 10_000
    """Open connections: 1 to 10000000; each takes a file descriptor."""
    read_timeout_s: Wait = 30
    """Seconds a client may take to send one request: 0.05 to 3600."""
    write_timeout_s: Wait = 60
    """Seconds a client may take nothing of its answer: 0.05 to 3600."""
    max_polls: Count = 10_000
    """Long polls that wait at once: 1 to 10000000. Beyond it devices are told "later"."""


class MqttSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[mqtt]`: the MQTT listener."""

    enabled: bool = True
    host: Host = "0.0.0.0"  # noqa: S104
    port: Port = 1883
    max_packet_bytes: Annotated[int, Meta(ge=128, le=67_108_864)] = 65_536
    """Bytes of one packet: 128 to 67108864 (the protocol's own limit is 256 MiB)."""
    max_connections: Count = 20_000
    """Open connections: 1 to 10000000; each takes a file descriptor."""
    connect_timeout_s: Wait = 10
    """Seconds until CONNECT must have arrived: 0.05 to 3600."""
    provision_idle_s: Wait = 60
    """Seconds a session that may only provision may be silent: 0.05 to 3600."""
    session_idle_s: Annotated[float, Meta(ge=0.05, le=86_400)] = 600
    """Seconds a device's session may be silent, without even a ping: 0.05 to 86400 (ThingsBoard's
    is 600)."""
    max_inflight: Annotated[int, Meta(ge=1, le=65_535)] = 100
    """Publishes of one session under way at once: 1 to 65535 (packet ids have 16 bits)."""
    stall_s: Wait = 30
    """Seconds a client may take nothing of a firmware that is sent whole: 0.05 to 3600."""
    max_unacked: Annotated[int, Meta(ge=1, le=65_535)] = 1000
    """Publishes to one session that it has not acknowledged: 1 to 65535."""
    max_write_buffer_bytes: BufferSize = 262_144
    """Bytes waiting for one slow reader before it is cut: 4096 to 1073741824."""


class CoapSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[coap]`: the CoAP listener."""

    enabled: bool = True
    host: Host = "0.0.0.0"  # noqa: S104
    port: Port = 5683
    max_body_bytes: BodySize = 65_536
    """Bytes of one body sent block by block: 64 to 67108864."""
    max_exchanges: Annotated[int, Meta(ge=16, le=10_000_000)] = 100_000
    """Exchanges remembered so that a repeated request is answered alike: 16 to 10000000."""
    receive_buffer_bytes: BufferSize = 4_194_304
    """Bytes asked of the system for datagrams that wait: 4096 to 1073741824."""
    max_under_way: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096
    """Requests being answered at once: 1 to 1000000."""
    max_observations: Count = 20_000
    """Resources observed (RFC 7641) at once: 1 to 10000000. Beyond it devices are told "later"."""


class TlsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tls]`: what HTTPS, MQTTS and CoAPS share. They are off while there is no certificate.

    `gatehouse cert init` makes one for a lab. A changed file is taken up without a restart.
    """

    certificate_file: FileOrNone = ""
    """PEM: the server's certificate, then its issuers. "": `tls/server.pem` in the data folder."""
    key_file: FileOrNone = ""
    """PEM, not encrypted. "": `tls/server.key` in the data folder."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """Of TLS. DTLS is 1.2."""
    client_certificates: bool = True
    """Ask each client for a certificate; it need not have one."""
    handshake_timeout_s: Wait = 10
    """Seconds until a handshake must be done: 0.05 to 3600."""
    max_handshakes: Annotated[int, Meta(ge=1, le=1_000_000)] = 2000
    """Handshakes under way at once on each wire: 1 to 1000000. Beyond it newcomers are turned
    away."""
    max_chain_bytes: Annotated[int, Meta(ge=1024, le=1_048_576)] = 32_768
    """Bytes of a client's certificate chain: 1024 to 1048576."""


class HttpsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[https]`: HTTP over TLS. Its bounds are those of `[http]`."""

    enabled: bool = True
    host: Host = "0.0.0.0"  # noqa: S104
    port: Port = 8443


class MqttsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[mqtts]`: MQTT over TLS. Its bounds are those of `[mqtt]`."""

    enabled: bool = True
    host: Host = "0.0.0.0"  # noqa: S104
    port: Port = 8883


class CoapsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[coaps]`: CoAP over DTLS 1.2. Its bounds are those of `[coap]`, and these."""

    enabled: bool = True
    host: Host = "0.0.0.0"  # noqa: S104
    port: Port = 5684
    max_sessions: Count = 20_000
    """DTLS sessions at once: 1 to 10000000. Beyond it the one that was silent longest goes."""
    session_idle_s: Annotated[float, Meta(ge=1, le=31_536_000)] = 86_400
    """Seconds a DTLS session may be silent: 1 to 31536000 (ThingsBoard's is 24 hours)."""
    mtu: Annotated[int, Meta(ge=256, le=16_384)] = 1024
    """Bytes of one datagram of a handshake: 256 to 16384."""


class CaSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[ca]`: the authority that signs devices' certificates.

    Without a file it is our own: a root and an issuing key, made when first needed, sealed in the
    store. `GATEHOUSE_AUTHORITY_PASSPHRASE` opens an encrypted `key_file`.
    """

    certificate_file: FileOrNone = ""
    """PEM of an issuing certificate from elsewhere, then its issuers; "": our own."""
    key_file: FileOrNone = ""
    """PEM of its key, PKCS #8, better encrypted."""
    public_url: PublicUrl = ""
    """Where devices and others reach this gateway over plain HTTP, `http://gate.example:8080`: then
    certificates say where their revocation list and status are (`/crl`, `/ocsp`)."""
    crl_hours: Annotated[int, Meta(ge=1, le=8760)] = 24
    """Hours until the next revocation list is due: 1 to 8760. A revocation makes one at once."""
    ocsp_minutes: Annotated[int, Meta(ge=1, le=525_600)] = 60
    """Minutes an OCSP answer may be relied on: 1 to 525600."""


class ProfilesSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[profiles]`: the folder of profile files."""

    dir: FolderName = "profiles"
    watch: bool = True
    """Read the folder again when a file in it changes."""


class LimitsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[limits]`: bounds that hold over all wires, and rates (ThingsBoard's contract, section 12).

    A rate is `capacity:seconds[,..]`; "" is any number. `messages` are those without values,
    `telemetry_messages` those with, `telemetry_points` the values. A profile may set its own for
    its devices.
    """

    max_calls: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    """Calls under way at once: 1 to 1000000. Beyond it devices are told "later"."""
    core_timeout_s: Wait = 10
    """Seconds until a call must be answered: 0.05 to 3600 (ThingsBoard's is 10)."""
    max_values: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    """Values in one message of a device, telemetry or attributes: 1 to 1000000."""
    max_children: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    """Devices one gateway may speak for in one session: 1 to 1000000."""
    organisation_messages: RateText = ""
    """All devices of an organisation together."""
    organisation_telemetry_messages: RateText = ""
    organisation_telemetry_points: RateText = ""
    device_messages: RateText = ""
    """Each device."""
    device_telemetry_messages: RateText = ""
    device_telemetry_points: RateText = ""
    gateway_messages: RateText = ""
    """Each gateway for itself."""
    gateway_telemetry_messages: RateText = ""
    gateway_telemetry_points: RateText = ""
    gateway_devices_messages: RateText = ""
    """All devices behind one gateway together."""
    gateway_devices_telemetry_messages: RateText = ""
    gateway_devices_telemetry_points: RateText = ""


class ProvisioningSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[provisioning]`: how often devices may ask for credentials, and be wrong.

    A rate is `capacity:seconds[,..]`; "" is any number. A profile may set its own (`provisions`,
    `provisions_per_secret`, `provisions_per_address` of its `[limits]`).
    """

    secret: RateText = ""
    """Requests with one fleet secret."""
    profile: RateText = ""
    address: RateText = ""
    """From one address; of IPv6 from one /64."""
    organisation: RateText = ""
    wrong_free: Annotated[int, Meta(ge=0, le=10_000)] = 15
    """Different wrong secrets that cost no wait, of one address and for one key: 0 to 10000. The
    same one again is not counted."""
    wrong_more: Annotated[int, Meta(ge=1, le=10_000)] = 20
    """How many more, each with twice the wait of the one before, until the door is shut: 1 to
    10000."""
    longest_wait_s: Annotated[int, Meta(ge=1, le=86_400)] = 300
    """Seconds the longest of these waits takes: 1 to 86400."""
    shut_s: Annotated[int, Meta(ge=1, le=604_800)] = 900
    """Seconds the door is shut: 1 to 604800."""
    forget_s: Annotated[int, Meta(ge=1, le=2_592_000)] = 3600
    """Seconds after which what was wrong, and what was right, is forgotten: 1 to 2592000."""
    most_remembered: Annotated[int, Meta(ge=100, le=10_000_000)] = 50_000
    """Addresses, keys and secrets that are remembered, of each kind: 100 to 10000000."""


class RpcSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[rpc]`: calls of methods, to devices and from them."""

    timeout_s: Wait = 10
    """Seconds a device has to answer a call that says nothing else: 0.05 to 3600."""
    hook: HookUrl = ""
    """Where a device's call of a method nobody here knows is POSTed to; "": nowhere. http or https.
    It is shown where settings are, so it may hold no credentials."""
    hook_timeout_s: Wait = 10
    """Seconds the hook has to answer: 0.05 to 3600."""
    hook_max_calls: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Calls the hook is asked at once: 1 to 10000. Beyond it devices are told "later"."""


class ClaimsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[claims]`: devices that may be claimed by a customer."""

    duration_s: Annotated[float, Meta(ge=1, le=31_536_000)] = 86_400
    """Seconds a device may be claimed when it names no time: 1 to 31536000 (ThingsBoard's is 24
    hours)."""


class BlynkSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[blynk]`: devices and programs that speak Blynk's API, on the same HTTP, MQTT and CoAP."""

    ticket_days: Annotated[float, Meta(ge=0.001, le=3650)] = 7
    """Days a provision token stands until a device claims it: 0.001 to 3650."""
    max_tickets: Count = 100_000
    """Provision tokens of one organisation that wait at once: 1 to 10000000."""
    revoke_on_issue: bool = False
    """The old token of a device that is provisioned anew is gone when the new one is issued, not
    when it is first used."""
    bad_tokens: RateText = "100:60"
    """How often one address may show a token that is nobody's; "" is any number."""
    requests: RateText = "10000:60"
    """Calls of the Platform API, of each organisation (Blynk's are 10,000 a minute)."""
    access_token_s: Annotated[int, Meta(ge=60, le=31_536_000)] = 86_400
    """Seconds an OAuth access token is good: 60 to 31536000 (Blynk's are 24 hours)."""
    refresh_token_s: Annotated[int, Meta(ge=60, le=31_536_000)] = 86_400
    """Seconds a refresh token is good: 60 to 31536000."""
    claim_s: Wait = 60
    """Seconds a connection with a provision token may take to claim it: 0.05 to 3600."""


class BlynkTcpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[blynk_tcp]`: the listener of Blynk's binary protocol, in the open; off by default."""

    enabled: bool = False
    host: Host = "0.0.0.0"  # noqa: S104
    port: Port = 8442
    max_body_bytes: Annotated[int, Meta(ge=64, le=65_535)] = 4096
    """Bytes of one message's body: 64 to 65535 (the protocol's own limit)."""
    max_connections: Count = 20_000
    """Open connections: 1 to 10000000; each takes a file descriptor."""
    login_timeout_s: Wait = 10
    """Seconds until a connection must have logged in: 0.05 to 3600."""
    heartbeat_s: Annotated[float, Meta(ge=0.05, le=3600)] = 45
    """Seconds between two signs of life of a device that says nothing else: 0.05 to 3600. It is
    gone after one and a half times that."""


class PackagesSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[packages]`: the files of firmware and software."""

    dir: FolderOrNone = ""
    """"" is the folder `packages` beside the database file. A database in memory or on a server has
    no folder: without one named here there are no packages."""


class AdminSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[admin]`: the REST API for the people who run the fleet, on the HTTP listeners."""

    enabled: bool = True
    first_administrator: Email = "admin@localhost"
    """Who is made at the first start. The password is printed once, or taken from
    `GATEHOUSE_ADMIN_PASSWORD`."""
    access_token_s: Annotated[int, Meta(ge=60, le=86_400)] = 9000
    """Seconds a login's token is good: 60 to 86400 (ThingsBoard's is 9000)."""
    refresh_token_s: Annotated[int, Meta(ge=60, le=31_536_000)] = 604_800
    """Seconds a login can be prolonged: 60 to 31536000 (ThingsBoard's is 7 days)."""
    max_import_bytes: BodySize = 33_554_432
    """Bytes of one bulk import over REST: 64 to 67108864. `gatehouse import` has no such bound."""


class MetricsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[metrics]`: counters and timers for Prometheus, at `/metrics` of the HTTP listeners."""

    enabled: bool = True
    networks: Networks = "127.0.0.0/8 ::1/128 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7"
    """Who may read them; to others there is nothing."""


class TracingSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tracing]`: OpenTelemetry, when the extra `otel` is installed."""

    endpoint: CollectorUrl = ""
    """Where spans go by OTLP over HTTP (`http://127.0.0.1:4318/v1/traces`); "": nowhere."""
    sample: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """Of calls, how many have a span: 0 to 1."""


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`: what is written to standard error, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
    """`auto` is `console` on a terminal and `json` elsewhere."""


SECTIONS: Mapping[str, type[Struct]] = {
    "store": StoreSettings,
    "http": HttpSettings,
    "mqtt": MqttSettings,
    "coap": CoapSettings,
    "tls": TlsSettings,
    "https": HttpsSettings,
    "mqtts": MqttsSettings,
    "coaps": CoapsSettings,
    "ca": CaSettings,
    "profiles": ProfilesSettings,
    "limits": LimitsSettings,
    "provisioning": ProvisioningSettings,
    "rpc": RpcSettings,
    "claims": ClaimsSettings,
    "blynk": BlynkSettings,
    "blynk_tcp": BlynkTcpSettings,
    "packages": PackagesSettings,
    "admin": AdminSettings,
    "metrics": MetricsSettings,
    "tracing": TracingSettings,
    "log": LogSettings,
}
