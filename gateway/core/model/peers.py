"""Where a request comes from."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Wire(StrEnum):
    """How a request reached us. `SHELL` is an operator's command acting on the store."""

    HTTP = "http"
    MQTT = "mqtt"
    COAP = "coap"
    HTTPS = "https"
    MQTTS = "mqtts"
    COAPS = "coaps"
    BLYNK = "blynk"
    """Blynk's binary protocol, over TCP."""
    SHELL = "shell"

    @property
    def plain(self) -> Wire:
        """The wire without its security: whose words and numbers are spoken."""
        return _PLAIN.get(self, self)


_PLAIN = {Wire.HTTPS: Wire.HTTP, Wire.MQTTS: Wire.MQTT, Wire.COAPS: Wire.COAP}


class Peer(Struct, frozen=True):
    """Who is at the other end: the wire, and its address as text (`192.0.2.7:50123`).

    `actor` names the person it acts for, as the audit log has it (an e-mail address, or a login
    name of this machine); "" for a device. `request` is the id of the one request it is about.
    """

    wire: Wire
    address: str
    actor: str = ""
    request: str = ""
