"""The MQTT gateway API: one connection speaks for many devices (contract, section 7.4)."""

from __future__ import annotations

from typing import Final

from gateway.dialects.blynk.gateway_guest import GatewayGuest
from gateway.dialects.blynk.guests import Place
from gateway.dialects.blynk.uplink import NO_TOPIC_TEXT, Uplink
from gateway.wire.call import Call, Reply, Status
from gateway.wire.route import Route

PREFIX: Final = "dev/{token}/"


class GatewayApi:
    """What gateways publish: topics of devices, each after `dev/{token}/`."""

    def __init__(self, uplink: Uplink) -> None:
        self._uplink = uplink

    def routes(self, *, own: bool) -> tuple[Route, ...]:
        """`own`: the gateway is a device too, and may publish what devices do."""
        nowhere = Route(name="blynk.mqtt.nowhere", handler=_nowhere, mqtt=("{rest*}",), quiet=True)
        rest = self._uplink.routes(_own) if own else (nowhere,)
        return (*self._uplink.routes(_child, PREFIX), *rest)


async def _own(call: Call) -> Place | Reply:
    guest: GatewayGuest = call.guest
    assert guest.own is not None
    return guest.own


async def _child(call: Call) -> Place | Reply:
    guest: GatewayGuest = call.guest
    return await guest.place(call.params["token"])


async def _nowhere(call: Call) -> Reply:
    guest: GatewayGuest = call.guest
    guest.line.note(NO_TOPIC_TEXT)
    return Reply(status=Status.NOT_FOUND, reason=NO_TOPIC_TEXT)
