"""ThingsBoard's device API: what its devices, SDKs and gateways speak.

The contract is kept to the byte, except for these differences, each on purpose:

- JSON is RFC 8259. The unquoted names, single quotes and comments that ThingsBoard's parser lets
  pass are a bad payload here. `null` means absent, since its own SDK sends it.
- A malformed HTTP request is 400 with an error body that names the field, never the payload:
  ThingsBoard answers 500 and repeats the whole body, the secret included.
- Key and secret shown to an X.509-chain profile: NOT_FOUND, where ThingsBoard stays silent.
- Provisioning by a factory certificate works on every secure wire, not on MQTT alone. The path from
  the leaf to the profile's certificate is validated (RFC 5280), where ThingsBoard checks that each
  signature fits the next key; that certificate need not be sent along. A name is found with RE2,
  which has no look-around and no back references, and takes no longer for any pattern.
- Only the leaf of a client's certificates is looked up among devices' credentials: whoever has an
  issuer's certificate as its own would else be whomever it signed.
- A certificate that is nobody's is refused on every wire: on CoAPS by an alert, where ThingsBoard
  takes the session for anonymous; on HTTPS each request is 401.
- With a client certificate HTTP paths may leave the token out, as CoAP's do. One that is there must
  be the same device's, else 401.
- Extensions: `csr` in a provisioning request has a certificate signed, and DTLS_PSK as
  `credentialsType` has a key made. Both need JSON; protobuf has no words for them. A device renews
  its certificate with `{"csr":".."}` by POST to `/api/v1/{token}/certificate` or on
  `v1/devices/me/certificate/request/{id}`, with or without the number. It may do so, and nothing
  else, for as many days after the certificate's end as its profile allows.
- Extension: CBOR (RFC 8949) on CoAP and HTTP, and SenML (RFC 8428) for telemetry, where a request
  says so by its Content-Format or `Content-Type`; what is JSON under such a name stays JSON. Other
  names are not heeded. Texts in CBOR are never taken for numbers, and what JSON has no word for is
  a bad payload.
- A waiting device that sends a `csr` or asks for DTLS_PSK gets that, and not what it was added
  with; all else it asks for is ignored, as in ThingsBoard.
- `sessionPresent` in CONNACK is always 0: nothing is ever kept for an absent client.
- Keep-alive is enforced, at one and a half times its value, and a session that may only provision
  is closed after 60 s of silence. ThingsBoard lets both stand for ever.
- A refused MQTT 5 client gets its reason in CONNACK, and no DISCONNECT, which MQTT 5 forbids there.
- No stray PUBACKs; an MQTT 3.1.1 QoS 2 publish gets the whole PUBREC, PUBREL, PUBCOMP exchange.
- A device that chose its own credential and repeats the very same request (the same key and
  secret, name and credential) is told SUCCESS again, until it has used that credential or the
  profile's `retry_window` (15 minutes) is over. ThingsBoard tells it FAILURE.
- Who shows many different wrong secrets is told to wait, longer each time, and then shut out for a
  while: HTTP 429 with Retry-After, CoAP 4.29 with Max-Age, MQTT 5 reason 0x97, `retryAfter` in the
  body. ThingsBoard answers NOT_FOUND for ever.
- Extensions that do nothing unless a request or a profile asks for them: `nonce`, `oldCredential`,
  `claimCode`, `hardware` and `dryRun` in a provisioning request; a status PENDING, rates of
  provisioning, refusals in detail, further members of a success. Members by these names of
  another form than ours are ignored as any others are; only a `dryRun` that is neither true nor
  false is a bad payload. In protobuf they are fields from 1001 on, which nobody else has: there any
  of another form is one.
- A profile may bound the number of its devices. A gateway that brings one too many is told 0x97, as
  of the device limit of ThingsBoard's tenant.
- A pre-provisioned device is claimed by one conditional UPDATE: of any number of simultaneous
  requests exactly one succeeds. ThingsBoard reads the state and then saves it.
- Key and secret never reach an event, an audit line or a log.
- A reply is in the format its own request was in. In ThingsBoard one protobuf request turns all
  later replies of the session to protobuf.
- An unreadable certificate is stored as ThingsBoard does, with a warning in the event, unless the
  profile says `require_readable_certificate = true`.
- An empty telemetry array is acknowledged: there was nothing to store. ThingsBoard leaves the
  client waiting.
- JSON answers over CoAP are labelled 50 (JSON), not 0 (text).
- Overload is said in the wire's words: HTTP 503 with Retry-After, CoAP 5.03 with Max-Age, MQTT 5
  reason 0x97.
- A client RPC with a method nobody answers is answered at once with `{"error":...}`. One over CoAP
  that takes too long is 5.04, where ThingsBoard says nothing.
- Rate limits: a GET of attributes, a long poll, an observation or a client RPC that is too much is
  told when to come again (HTTP 429 with Retry-After, CoAP 4.29 with Max-Age), where ThingsBoard
  leaves the client unanswered. Everything else is its 500, 5.00, or the end of the MQTT session.
  `getSessionLimits` costs no message.
- A long poll over 300 s is cut to 300 s and ends in 408, not 503; a time-out that is no number, or
  below zero, is 400. New credentials end a poll with 401.
- The exact repeat of a CoAP registration is answered like the first; ThingsBoard is silent. A
  change that comes while an observation begins follows its first answer, and is never lost.
- Of a device's own MQTT session and its place behind a gateway the newer stands; its CoAP
  observations and its long polls stand beside either.
- An answer to a call that nobody waits for is taken like any other. Over HTTP it must be JSON.
- Without the filter subscribed to last, what we say goes out on the one subscribed to before it.
- To a profile's `attributes_subscribe_topic` with wildcards we publish on a topic it matches:
  `me` stands for each of them.
- A changed profile holds for open sessions at once: topics, filters, formats and conduct. One that
  is for another transport from now on ends them (0x98), and observations too (2.02).
- A time that is no number is a bad payload like any other; there it ends the session with 0x8B.
- An observation that its device resets is over without a 2.02, which would be reset as well.
- MQTT 3.1 clients may have ids of more than 23 characters.
- The limit of devices is one of each gateway's session; there it is the tenant's.
- A request id is a whole number from 0 to 2147483647.
- One message holds at most so many values (10,000 unless configured), numbers with exponents from
  -324 to 308, and keys of at most 255 characters; one request asks for at most 1,000 attributes by
  name. Beyond that it is a bad payload. ThingsBoard writes `1e1000` out, for every value.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from gateway.core.access import Access
from gateway.core.certifying import Certifier
from gateway.core.children import Children
from gateway.core.claiming import Claiming
from gateway.core.identities import Identities
from gateway.core.limits import RateLimiter
from gateway.core.methods import Methods
from gateway.core.model import Device, Identity, Peer, ProfileTransport, Refused, Secret, Wire
from gateway.core.packages import Packages
from gateway.core.ports import Clock
from gateway.core.presence import Attendance
from gateway.core.profiles import Profiles
from gateway.core.provisioning import Provisioner
from gateway.core.renewals import Renewals
from gateway.core.rpc import Rpc
from gateway.core.sessions import Sessions
from gateway.core.traffic import Traffic
from gateway.dialects.thingsboard.answers import error_body
from gateway.dialects.thingsboard.callers import Callers
from gateway.dialects.thingsboard.certificates import CertificateApi, RenewalGuest
from gateway.dialects.thingsboard.claim import ClaimApi
from gateway.dialects.thingsboard.device import DeviceApi, DeviceLimits
from gateway.dialects.thingsboard.firmware import FirmwareApi
from gateway.dialects.thingsboard.gateway import GatewayApi
from gateway.dialects.thingsboard.gateway_guest import GatewayGuest
from gateway.dialects.thingsboard.gateway_messages import gateway_codec_for
from gateway.dialects.thingsboard.guests import DeviceGuest, Household
from gateway.dialects.thingsboard.plans import Plans
from gateway.dialects.thingsboard.provision import IDENTITY, RESPONSE_TOPIC, ProvisionApi
from gateway.dialects.thingsboard.rpc import RpcApi
from gateway.dialects.thingsboard.topics import CERTIFICATE_FILTERS
from gateway.wire.call import Admitted, Conduct, ErrorShape, Hello, Rejected, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

log = structlog.get_logger()

PROVISION = "provision"
"""The user name, or client id, of a session that may only provision (contract, 4.1)."""

# Contract, section 4.3 and 4.2: what a session that may only provision does with a bad publish.
_PROVISION_CONDUCT = {
    Status.UNDECODABLE: Conduct(ack=0x99, close=None, ack_v3=False, close_v3=True, close_qos0=0x99),
    Status.BAD_REQUEST: Conduct(ack=0x83, close=0x83, ack_v3=True, close_v3=True),
    Status.INTERNAL: Conduct(ack=0x83, close=0x83, ack_v3=True, close_v3=True),
    Status.NOT_FOUND: Conduct(ack=0x90, close=0x90, ack_v3=True, close_v3=True),
}

_ENDED = Rejected(5, 0x87, "the certificate counts no more")


class ThingsBoard:
    """The dialect: its routes for every wire, and who may open which MQTT session.

    - `gauge`, `polls`: calls under way over all wires; those of patient routes apart.
    - `timeout_s`: how long the core may take.
    - `provision_idle_s`: closes a session that may only provision and says nothing, or whose last
      answer is that long ago; and so long after its begin one that may only renew a certificate.
    - `session_idle_s`: closes a device's session that says nothing (contract, section 7.4).
    - `max_children`: devices one gateway may speak for in one session.

    `stop` it once the listeners are stopped, before the store is closed.
    """

    name = "thingsboard"

    def __init__(
        self,
        *,
        provisioner: Provisioner,
        access: Access,
        identities: Identities,
        certifier: Certifier,
        profiles: Profiles,
        traffic: Traffic,
        sessions: Sessions,
        rpc: Rpc,
        methods: Methods,
        claiming: Claiming,
        children: Children,
        attendance: Attendance,
        limiter: RateLimiter,
        packages: Packages,
        clock: Clock,
        gauge: Gauge,
        polls: Gauge,
        limits: DeviceLimits,
        timeout_s: float = 10.0,
        provision_idle_s: float = 60.0,
        session_idle_s: float = 600.0,
        max_children: int = 10_000,
    ) -> None:
        self._access = access
        self._identities = identities
        self._clock = clock
        self._provision_idle_s = provision_idle_s
        self._session_idle_s = session_idle_s
        self._callers = callers = Callers(access, profiles, limiter, attendance, clock)
        self._renewals = renewals = Renewals(callers.fresh_settings)
        self._provision = ProvisionApi(provisioner, clock)
        self._device = DeviceApi(callers, traffic, sessions, renewals, clock, limits)
        self._rpc = RpcApi(callers, rpc, methods, sessions, renewals, limiter, limits)
        self._claim = ClaimApi(callers, claiming)
        self._certificates = CertificateApi(callers, certifier)
        self._firmware = FirmwareApi(callers, packages)
        gateway = GatewayApi(
            callers=callers,
            traffic=traffic,
            children=children,
            claiming=claiming,
            rpc=rpc,
            attendance=attendance,
            clock=clock,
            max_values=limits.max_values,
            max_children=max_children,
        )
        self._plans = Plans(
            self._device,
            self._rpc,
            self._claim,
            self._certificates,
            self._firmware,
            gateway,
            self._provision,
            gauge,
            polls,
            timeout_s,
        )
        self._house = Household(sessions, rpc, attendance, renewals, self._plans.of)
        self._provision_router = Router(
            self._provision.routes(), Wire.MQTT, gauge, timeout_s=timeout_s
        )
        self._renewal_router = Router(
            self._certificates.mqtt_routes(), Wire.MQTT, gauge, timeout_s=timeout_s
        )

    def routes(self) -> Iterable[Route]:
        """Every operation, for the wires whose requests stand alone (HTTP, CoAP)."""
        return (
            *self._provision.routes(),
            *self._firmware.routes(),
            *self._rpc.routes(),
            *self._claim.routes(),
            *self._certificates.routes(),
            *self._device.routes(),
        )

    async def stop(self) -> None:
        """Nothing is begun any more on behalf of sessions."""
        await self._renewals.stop()

    async def connect(self, hello: Hello) -> Admitted | Rejected:
        """Open a session: provision-only, or a device's. Touches no other session."""
        if PROVISION in (hello.username, hello.client_id):
            admitted = Admitted(
                name="provision",
                router=self._provision_router,
                filters=frozenset({RESPONSE_TOPIC}),
                conduct=_PROVISION_CONDUCT,
                idle_s=self._provision_idle_s,
                linger_s=self._provision_idle_s,
            )
            if hello.chain:
                shown = await self._identities.known_by_chain(hello.chain, hello.peer)
                admitted.state[IDENTITY] = shown
            return admitted
        if hello.chain:
            return await self._by_certificate(hello)
        password = hello.password
        device = await self._access.by_mqtt(
            hello.client_id,
            hello.username,
            None if password is None else Secret(password.decode("utf-8", "surrogateescape")),
            hello.peer,
        )
        return _rejected(hello) if device is None else await self._judged(device, hello)

    async def _by_certificate(self, hello: Hello) -> Admitted | Rejected:
        """Whose certificate it is; what else CONNECT says matters not (contract, 7.2)."""
        identity = await self._identities.by_chain(hello.chain, hello.peer)
        if isinstance(identity, Refused):
            said = identity.reason.value.replace("_", " ")
            return Rejected(5, 0x87, f"the certificate is refused: {said}")
        if self._callers.ended(identity):
            return await self._for_renewal(identity, hello.peer)
        device = await self._access.by_identity(identity)
        verdict = _ENDED if device is None else await self._judged(device, hello)
        if isinstance(verdict, Admitted) and identity.expires_at:
            verdict.lasts_s = (identity.expires_at - self._clock()) / 1000
        return verdict

    async def _for_renewal(self, identity: Identity, peer: Peer) -> Admitted | Rejected:
        """A session in which a certificate that ended may be renewed, and nothing else."""
        device = await self._callers.graced(identity)
        if device is None:
            return _ENDED
        return Admitted(
            name="renewal",
            router=self._renewal_router,
            filters=CERTIFICATE_FILTERS,
            conduct=_PROVISION_CONDUCT,
            device=device,
            linger_s=self._provision_idle_s,
            lasts_s=self._provision_idle_s,  # so that none outlasts its grace
            guest=RenewalGuest(self._house.sessions, device, peer),
        )

    async def _judged(self, device: Device, hello: Hello) -> Admitted | Rejected:
        """A session for a device that is known, unless its profile or its rates forbid it."""
        if device.transport is ProfileTransport.COAP:
            return Rejected(3, 0x88, "the device's profile is for another transport")
        try:
            limited = await self._callers.limited(device)
            if limited is not None:
                return Rejected(3, 0x9F, limited.reason)
            return await self._admitted(device, hello)
        except ValueError as exc:
            # Proven when it was read from its file: it was written by another version.
            log.error("profile.unusable", profile=device.type, reason=str(exc))
            return Rejected(3, 0x88, "the device's profile cannot be used")

    async def _admitted(self, device: Device, hello: Hello) -> Admitted:
        """A device's session, or that of a gateway with a place for its devices."""
        settings = await self._callers.settings(device)
        plan = self._plans.of(device, settings)
        own = DeviceGuest(self._house, device, hello.peer, plan)
        admitted = Admitted(
            name="gateway" if device.gateway else "device",
            router=plan.router,
            filters=plan.filters,
            conduct=plan.conduct,
            device=device,
            idle_s=self._session_idle_s,
            guest=own,
        )
        own.admit(admitted)
        if device.gateway:
            admitted.guest = guest = GatewayGuest(
                own,
                device,
                hello.peer,
                gateway_codec_for(settings.dialect),
                self._house.sessions,
                self._house.rpc,
            )
            own.admit(admitted, guest.renewed)
        return admitted

    def errors(self) -> ErrorShape:
        """How HTTP errors are told (contract, section 3); 401, 408 and 500 stay empty (11)."""
        return ErrorShape(
            body=lambda status, message: error_body(status, message, self._clock()),
            explained=frozenset({400, 404, 405, 429, 503}),
            too_large=lambda most: f'"Payload size exceeds the limit of {most} bytes"'.encode(),
        )


def _rejected(hello: Hello) -> Rejected:
    """The CONNACK codes of section 7.3; they depend on what was shown, not on why it failed."""
    username, password = bool(hello.username), hello.password is not None
    client_id = bool(hello.client_id.strip())
    if (username and password and client_id) or username != password:
        return Rejected(5, 0x86, "unknown credentials")
    if not username and not password and client_id:
        return Rejected(2, 0x85, "unknown client id")
    return Rejected(5, 0x87, "no credentials")
