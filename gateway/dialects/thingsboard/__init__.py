"""ThingsBoard's device API: what its devices, SDKs and gateways speak.

The contract is kept to the byte, except for these differences, each on purpose:

- JSON is RFC 8259. The unquoted names, single quotes and comments that ThingsBoard's parser lets
  pass are a bad payload here. `null` means absent, since its own SDK sends it.
- A malformed HTTP request is 400 with an error body that names the field, never the payload:
  ThingsBoard answers 500 and repeats the whole body, the secret included.
- Key and secret shown to an X.509-chain profile: NOT_FOUND, where ThingsBoard stays silent.
- `sessionPresent` in CONNACK is always 0: nothing is ever kept for an absent client.
- Keep-alive is enforced, at one and a half times its value, and a session that may only provision
  is closed after 60 s of silence. ThingsBoard lets both stand for ever.
- A refused MQTT 5 client gets its reason in CONNACK, and no DISCONNECT, which MQTT 5 forbids there.
- No stray PUBACKs; an MQTT 3.1.1 QoS 2 publish gets the whole PUBREC, PUBREL, PUBCOMP exchange.
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
- A client RPC with a method we do not know is answered at once with `{"error":...}`.
- One message holds at most so many values (10,000 unless configured), numbers with exponents from
  -324 to 308, and keys of at most 255 characters; one request asks for at most 1,000 attributes by
  name. Beyond that it is a bad payload. ThingsBoard writes `1e1000` out, for every value.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.access import Access
from gateway.core.model import ProfileTransport, Secret, Wire
from gateway.core.ports import Clock
from gateway.core.provisioning import Provisioner
from gateway.core.traffic import Traffic
from gateway.dialects.thingsboard.device import (
    DEVICE_FILTERS,
    GATEWAY_FILTERS,
    DeviceApi,
    DeviceLimits,
)
from gateway.dialects.thingsboard.payloads import error_body as thingsboard_error_body
from gateway.dialects.thingsboard.provision import RESPONSE_TOPIC, ProvisionApi
from gateway.wire.call import Admitted, Conduct, Hello, Rejected, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

PROVISION = "provision"
"""The user name, or client id, of a session that may only provision (contract, 4.1)."""

# Contract, section 4.3 and 4.2: what a session that may only provision does with a bad publish.
_PROVISION_CONDUCT = {
    Status.UNDECODABLE: Conduct(ack=0x99, close=None, ack_v3=False, close_v3=True, close_qos0=0x99),
    Status.BAD_REQUEST: Conduct(ack=0x83, close=0x83, ack_v3=True, close_v3=True),
    Status.INTERNAL: Conduct(ack=0x83, close=0x83, ack_v3=True, close_v3=True),
    Status.NOT_FOUND: Conduct(ack=0x90, close=0x90, ack_v3=True, close_v3=True),
}
# Contract, section 7.4: what a device's session does.
_BAD_PAYLOAD = Conduct(ack=0x99, close=None, ack_v3=False, close_v3=True, close_qos0=0x99)
_DEVICE_CONDUCT = {
    Status.UNDECODABLE: _BAD_PAYLOAD,
    Status.BAD_REQUEST: _BAD_PAYLOAD,
    Status.NOT_FOUND: Conduct(ack=0x90, close=None, ack_v3=True, close_v3=False),
    Status.INTERNAL: Conduct(ack=None, close=0x83, ack_v3=False, close_v3=True),
    Status.GONE: Conduct(ack=None, close=0x98, ack_v3=False, close_v3=True),
}


class ThingsBoard:
    """The dialect: its routes for every wire, and who may open which MQTT session.

    `provision_idle_s` closes a provision-only session that says nothing, and one whose last
    answer is that long ago.
    """

    name = "thingsboard"

    def __init__(
        self,
        *,
        provisioner: Provisioner,
        access: Access,
        traffic: Traffic,
        clock: Clock,
        gauge: Gauge,
        timeout_s: float = 10.0,
        provision_idle_s: float = 60.0,
        limits: DeviceLimits,
    ) -> None:
        self._access = access
        self._clock = clock
        self._provision = ProvisionApi(provisioner)
        self._device = DeviceApi(access, traffic, clock, limits)
        self._idle_s = provision_idle_s
        self._provision_router = Router(
            self._provision.routes(), Wire.MQTT, gauge, timeout_s=timeout_s
        )
        self._device_router = Router(self._device.routes(), Wire.MQTT, gauge, timeout_s=timeout_s)

    def routes(self) -> Iterable[Route]:
        """Every operation, for the wires whose requests stand alone (HTTP, CoAP)."""
        return (*self._provision.routes(), *self._device.routes())

    async def connect(self, hello: Hello) -> Admitted | Rejected:
        """Open a session: provision-only, or a device's. Touches no other session."""
        if PROVISION in (hello.username, hello.client_id):
            return Admitted(
                name="provision",
                router=self._provision_router,
                filters=frozenset({RESPONSE_TOPIC}),
                conduct=_PROVISION_CONDUCT,
                idle_s=self._idle_s,
                linger_s=self._idle_s,
            )
        password = hello.password
        device = await self._access.by_mqtt(
            hello.client_id,
            hello.username,
            None if password is None else Secret(password.decode("utf-8", "surrogateescape")),
        )
        if device is None:
            return _rejected(hello)
        if device.transport is ProfileTransport.COAP:
            return Rejected(3, 0x88, "the device's profile is for another transport")
        return Admitted(
            name="device",
            router=self._device_router,
            filters=GATEWAY_FILTERS if device.gateway else DEVICE_FILTERS,
            conduct=_DEVICE_CONDUCT,
            device=device,
        )

    def error_body(self, status: int, message: str) -> bytes:
        """The body of an HTTP error, in ThingsBoard's shape (contract, section 3)."""
        return thingsboard_error_body(status, message, self._clock())


def _rejected(hello: Hello) -> Rejected:
    """The CONNACK codes of section 7.3; they depend on what was shown, not on why it failed."""
    username, password = bool(hello.username), hello.password is not None
    client_id = bool(hello.client_id.strip())
    if (username and password and client_id) or username != password:
        return Rejected(5, 0x86, "unknown credentials")
    if not username and not password and client_id:
        return Rejected(2, 0x85, "unknown client id")
    return Rejected(5, 0x87, "no credentials")
