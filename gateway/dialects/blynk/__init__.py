"""Blynk's provisioning API, device API, MQTT and binary protocol, as its contract tells them.

Where the contract leaves it to us ([I]), or we do otherwise, and why:

- (kept up as it is built)
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
from gateway.dialects.blynk.mqtt import BlynkMqtt
from gateway.dialects.blynk.orders import OrdersApi
from gateway.dialects.blynk.profile import Templates
from gateway.dialects.blynk.stream import BlynkStream
from gateway.wire.call import Admitted, Hello, Rejected
from gateway.wire.route import Route
from gateway.wire.router import Gauge


class Blynk:
    """The dialect of Blynk's devices. Its Platform API is loaded apart, when it is first asked for
    (`gateway.platform`).

    - `bad_tokens`: how often one address may show a token that is nobody's; None: no bound.
    - `claim_s`: how long a connection with a pending token may take to claim it.
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
    ) -> None:
        strangers = Strangers(bad_tokens, clock)
        self._callers = callers = Callers(
            store, access, templates, attendance, limiter, strangers, clock
        )
        data = DeviceData(traffic, sessions, clock)
        self._claim = ClaimApi(provisioner, callers, templates)
        self._device = DeviceApi(callers, data, sessions)
        self._orders = OrdersApi(callers, sessions)
        self._mqtt = BlynkMqtt(
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
            idle_s=session_idle_s,
        )
        self._stream = BlynkStream(
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

    def routes(self) -> Iterable[Route]:
        """What devices ask for over HTTP and CoAP."""
        return (*self._claim.routes(), *self._device.routes(), *self._orders.routes())

    def speaks(self, hello: Hello) -> bool:
        """Whether this CONNECT may be one of this dialect's (contract, sections 7.1 and 7.4)."""
        return self._mqtt.speaks(hello)

    async def connect(self, hello: Hello) -> Admitted | Rejected:
        """Open an MQTT session."""
        return await self._mqtt.connect(hello)

    async def connect_stream(self, hello: Hello) -> Admitted | Rejected:
        """Open a session of the binary protocol; the token is `Hello.password`."""
        return await self._stream.connect(hello)

    async def stop(self) -> None:
        """Nothing is begun any more on behalf of sessions."""
        await self._mqtt.stop()
