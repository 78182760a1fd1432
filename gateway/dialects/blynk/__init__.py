"""Blynk's provisioning API, device API, MQTT and binary protocol, as its contract tells them.

What the contract leaves to us, where we do otherwise, and what is not served:

The claim and its tickets
- A device's first claim gives it its name, `device_name` of the template with its number; one that
  is taken gets something added.
- Where the profile bounds the number of devices and there is no room, a claim is told `Device limit
  has been reached.`: 403, 4.03, 0x97, and 1 in the binary protocol. The token stays good.
- The old token of a device that is provisioned anew works until the new one is first used, unless
  `[blynk] revoke_on_issue`. A second new token takes the place of the first.
- A template may be the one to fall back to (`fallback`): then devices that name none, or an unknown
  one, are of it.
- HEAD of a call that changes something only looks. CoAP (ours) takes each call as a GET or a POST
  with the same parameters; answers are not to be kept (Max-Age 0). `GET /external/api/reconfigure`
  with Observe tells orders: `{"reconfigure":true}`, `{"reboot":true}`, `{"redirect":".."}`; 2.02
  ends it.
- Orders reach sessions of other dialects as calls of the methods `reconfigure`, `reboot` and
  `redirect`.
- Wrong tokens are counted by address over all wires, but those in CoAP datagrams in the open apart:
  anybody may write any address on these. Asking for a pending one is no wrong token.
- A token issued in a shell may be for a device without an owner; the Platform API wants one.

The Platform API
- A busy gateway answers 429 with Retry-After where other paths answer 503, which Blynk's clients
  do not know; so does an organisation for which too many tokens wait.
- `Content-Type` is not looked at: a body is JSON or 400. Names are case sensitive.
- An organisation or an owner that was looked up is known for a second: who was moved away may be
  named as an owner that long; who was removed, not.
- 403 names the first permission lacking (`PROVISION_DEVICES`); with neither permission to see
  devices it is `OWN_DEVICES_VIEW`.
- Online means that the device can be told something at once: MQTT, the binary protocol, a CoAP
  observation of orders, and ThingsBoard's connections. One that only speaks HTTP is away.
- `GET /api/v1/organization/device` and `..online` need no PROVISION_DEVICES. `templateId` there is
  the number of the profile, `activatedAt` when the device was born. Devices of other dialects can
  be looked at and ordered too, and provisioned anew if their profile is a template, else 400.
- Static tokens (their bodies are ours): claim `{token, orgId, ownerId?}`, unclaim `{token}` or
  `{deviceId}`; a token may be `{token}+{orgId}`. An unknown one is 404, one that others have 400,
  the same claim may be repeated. Unclaiming keeps the device and its data; it is for whoever may
  remove devices where it is or manages static tokens, and for its owner. A removed device makes the
  pair unclaimed; its hardware comes back as another device. The list shows no device's token.

OAuth 2
- Tokens are opaque. An organisation has at most 1000 clients with 1000 grants each, of more the
  oldest ends. A token that was looked up is known for a second: what another process ends, ends
  then.
- `user_credentials` takes `username` and `password`; wrong ones count as at people's own login, and
  a user whom the client does not reach is told like a wrong password. A client without the scope
  `platform_api` gets tokens, which are refused at each call, as Blynk's are.
- Below `/oauth2/` every error is flat; too much is 429 `temporarily_unavailable`. A parameter given
  twice is `invalid_request`. `POST /oauth2/revoke` is ours (RFC 7009).
- Whoever adds a client needs ORG_EDIT and every other permission: the client may do everything in
  its organisation. Keys for scripts (`gh_..`) are bearer tokens too.

The device API
- One value alone is `text/plain`: a double has at least five decimals, a list is JSON; a datastream
  without value or default is an empty 200, and left out of objects. Those without a pin go by name.
- A value outside `min` and `max`, and more than one value for anything but a location, does not
  match its type. A whole number may be written `7.000`; an enum by number or name; a location is
  longitude, then latitude.
- `update` takes several pins; a call with one mistake stores nothing. A POSTed batch without
  Content-Type is JSON; its values are history, told to no live connection.
- Any name of 1 to 32 letters, digits, `_` and `-` that begins with a letter is a property; several
  values of one are kept with commas between them, by whatever wire they came.
- Metadata is read by `metaFieldName` too, and written by a `value`, which may be empty but not
  missing. `Device Name` and `Device Owner` are read only. Whoever sets a field hears of it as the
  other connections do.
- A device whose profile is no template has no datastreams, fields or events, and no other error.
- File uploads (`/external/api/upload`) are not served.

MQTT
- Of two connections with one token to one process, pending or not, the newer stands (0x8E).
- The user name `device` may be a ThingsBoard device's too: what logs in there is no wrong token.
- What a device publishes while its claim is under way waits for it; before any claim it is
  acknowledged (MQTT 5: 0x87), dropped, and noted on `downlink/diag`. Mistakes are noted there too,
  20 at once and 2 a second, and acknowledged (MQTT 5: 0x99, 0x90, 0x97).
- OTA, redirect and diagnostics go out without a subscription at QoS 0; reconfigure and reboot need
  one, and have its QoS. Firmware kept here is offered as a path at the host connected to.
- Client ids over 64 characters are refused. Packets may have `[mqtt] max_packet_bytes`, not 1024.
- `ds/NAME/erase` takes the current value back; its history stays.
- The time zone is UTC. The location is that of a field or a datastream of that type.
- A ThingsBoard call of a datastream's name or pin writes to it; nothing answers a two-way one.
- No WebSocket, no `downlink/ping`, no last will.
- A gateway device is a device too, by the plain topics. Out of reach, pending and unknown are one
  `Invalid token.` A device that is moved out of reach keeps its place until the session ends.
- A connection ends (0x98) when its OAuth client is revoked or that one's organisation removed, its
  template is enabled for gateways no more, or its profile is made one for CoAP alone.
- A filter has at most 256 characters, and the token before it in a gateway's as many.

The binary protocol
- In the open alone. Frames of one connection are served one after another, and a RESPONSE to `vw`
  comes when the value is on disk. We send no PING: clients in the field break on one.
- On a pending token everything but info is told 3 (not registered), since firmware hangs up on 5.
  Info with an unknown `tmpl` is told 11. Info without one is told 200 and claims nothing yet, as
  blynklib waits for that 200: it may be named later, or the template to fall back to is taken.
- A wrong pin or value is told 11, an unknown command or word of HARDWARE 2, a rate limit 1; BRIDGE,
  GROUP, TWEET, EMAIL, NOTIFY, SMS, REDIRECT, DEBUG_PRINT, EVENT_CLEAR and a second login 6. A
  message id of 0 ends the connection; too large a body is told 11 first.
- A second connection displaces the first, without a word. A token that is gone is told 9, and then
  the connection ends.
- A device is gone after 1.5 times its `h-beat` (1 to 3600 s). A body of `buff-in` bytes or more is
  not sent.
- Sync answers with a HARDWARE `vw` for each value there is, then a RESPONSE. `meta get` of
  `Auth Token` is told 11.
- `dbg` NUL `config` is reconfigure, `dbg` NUL `reboot` is reboot. A redirect is passed on when its
  address has no scheme, or `tcp` or `blynk`.

Several gateways on one database
- Orders, metadata, calls and the ends of tokens and clients reach a device wherever it is. A value
  that is written at one process is not passed on to a connection at another.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.access import Access
from gateway.core.limits import Rate, RateLimiter
from gateway.core.ports import Clock, Store
from gateway.core.presence import Attendance
from gateway.core.provisioning import Provisioner
from gateway.core.rpc import Rpc
from gateway.core.sessions import Sessions
from gateway.core.traffic import Traffic
from gateway.dialects.blynk.callers import Callers, Strangers
from gateway.dialects.blynk.claim import ClaimApi
from gateway.dialects.blynk.data import DeviceData
from gateway.dialects.blynk.device import DeviceApi
from gateway.dialects.blynk.mqtt import BlynkMqtt, Clients
from gateway.dialects.blynk.orders import OrdersApi
from gateway.dialects.blynk.profile import Templates
from gateway.dialects.blynk.services import Services
from gateway.dialects.blynk.stream import BlynkStream
from gateway.wire.call import Admitted, Hello, Rejected
from gateway.wire.route import Route
from gateway.wire.router import Gauge


class Blynk:
    """The dialect of Blynk's devices. Its Platform API is loaded apart, when it is first asked for
    (`gateway.platform_api`).

    - `bad_tokens`: how often one address may show a token that is nobody's; None: no bound.
    - `claim_s`: how long a connection with a pending token may take to claim it.
    - `clients`: the programs that may speak for devices over MQTT; None: none may.
    - `max_children`: devices one gateway may speak for in one session.
    """

    name = "blynk"

    def __init__(
        self,
        *,
        provisioner: Provisioner,
        store: Store,
        access: Access,
        templates: Templates,
        traffic: Traffic,
        sessions: Sessions,
        rpc: Rpc,
        attendance: Attendance,
        limiter: RateLimiter,
        clock: Clock,
        gauge: Gauge,
        bad_tokens: Rate | None,
        timeout_s: float = 10.0,
        claim_s: float = 60.0,
        session_idle_s: float = 600.0,
        clients: Clients | None = None,
        max_children: int = 10_000,
    ) -> None:
        strangers = Strangers(bad_tokens, clock)
        self._callers = callers = Callers(
            store, access, templates, attendance, limiter, strangers, clock
        )
        data = DeviceData(traffic, sessions, clock)
        self._claim = ClaimApi(provisioner, callers, templates)
        self._device = DeviceApi(callers, data, sessions)
        self._orders = OrdersApi(callers, sessions)
        services = Services(
            provisioner=provisioner,
            callers=callers,
            templates=templates,
            data=data,
            sessions=sessions,
            rpc=rpc,
            attendance=attendance,
            clock=clock,
            gauge=gauge,
            timeout_s=timeout_s,
            claim_s=claim_s,
        )
        self._mqtt = BlynkMqtt(
            services,
            idle_s=session_idle_s,
            clients=clients,
            max_children=max_children,
        )
        self._stream = BlynkStream(services)

    def routes(self) -> Iterable[Route]:
        """What devices ask for over HTTP and CoAP."""
        return (*self._claim.routes(), *self._device.routes(), *self._orders.routes())

    def speaks(self, hello: Hello) -> bool:
        """Whether this CONNECT may be one of this dialect's (contract, sections 7.1 and 7.4)."""
        return self._mqtt.speaks(hello)

    async def connect(self, hello: Hello) -> Admitted | Rejected:
        """Open an MQTT session."""
        return await self._mqtt.connect(hello)

    def refused(self, hello: Hello, verdict: Rejected) -> None:
        """Nobody else knows who it is either: what it showed counts as wrong."""
        self._mqtt.refused(hello, verdict)

    async def connect_stream(self, hello: Hello) -> Admitted | Rejected:
        """Open a session of the binary protocol; the token is `Hello.password`."""
        return await self._stream.connect(hello)

    def client_revoked(self, client_id: int) -> None:
        """The MQTT connections of an OAuth client end, here."""
        self._mqtt.client_revoked(client_id)

    def end_programs(self) -> None:
        """The MQTT connections of all OAuth clients end, here: they log in again, if they may."""
        self._mqtt.end_programs()

    async def stop(self) -> None:
        """Nothing is begun any more on behalf of sessions."""
        await self._mqtt.stop()
