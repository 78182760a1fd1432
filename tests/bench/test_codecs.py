"""What the codecs cost, in microseconds for one request."""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable

import pytest

from gateway.core.model import Peer, Wire
from gateway.core.tokens import new_token
from gateway.dialects.thingsboard.payloads import decode_provision
from gateway.transports.coap import message as coap
from gateway.transports.mqtt.decoder import Decoder
from gateway.transports.mqtt.encoder import encode_publish

pytestmark = pytest.mark.bench

Report = Callable[[str], None]

BODY = json.dumps(
    {
        "deviceName": "meter-0001",
        "provisionDeviceKey": new_token(),
        "provisionDeviceSecret": new_token(),
    }
).encode()


def _microseconds(work: Callable[[], object]) -> float:
    """The best of five rounds of 2,000."""
    return min(timeit.repeat(work, number=2000, repeat=5)) / 2000 * 1e6


def test_a_provisioning_request_is_decoded(report: Report) -> None:
    """JSON bytes to a ProvisionRequest."""
    peer = Peer(Wire.HTTP, "127.0.0.1:50000")
    taken = _microseconds(lambda: decode_provision(BODY, peer))
    report(f"decode a provisioning request: {taken:.2f} µs")


def test_an_mqtt_publish_is_decoded(report: Report) -> None:
    """Bytes to a PUBLISH packet."""
    packet = bytes(encode_publish(b"/provision/request", BODY, 1, 7, 4))

    def decode() -> object:
        decoder = Decoder(version=4)
        decoder.feed(packet)
        return next(iter(decoder))

    report(f"decode an MQTT PUBLISH of {len(packet)} bytes: {_microseconds(decode):.2f} µs")


def test_a_coap_request_is_decoded(report: Report) -> None:
    """A datagram to a message with options."""
    datagram = b"\x44\x02\x12\x34abcd\xb3api\x02v1\x09provision\x11\x32\xff" + BODY
    taken = _microseconds(lambda: coap.decode(datagram))
    report(f"decode a CoAP request of {len(datagram)} bytes: {taken:.2f} µs")
