"""A publish that is refused by its acknowledgement, and answered with a body all the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transports.mqtt.decoder import Decoder
from gateway.transports.mqtt.packets import (
    MAXIMUM_PACKET,
    PROBLEM_INFORMATION,
    PUBACK,
    PUBREC,
    REASON,
    USER_PROPERTY,
    Ack,
    Connect,
    Packet,
    Publish,
)
from gateway.transports.mqtt.session import Session
from gateway.transports.mqtt.steps import Step, Terms
from gateway.wire.call import Admitted, Reply, Status

REPLY = "/provision/response"
LATER = Reply(b"later", Status.LIMITED, reason="come again later", retry_after_s=7, ack=0x97)
PROPERTIES = {"explain": PROBLEM_INFORMATION, "most": MAXIMUM_PACKET}
TOLD = {REASON: "come again later", USER_PROPERTY: [("retry-after", "7")]}
BODY = Publish(REPLY, b"later", 1, 1)


def settled(version: int, qos: int, reply: Reply, **properties: Any) -> Step:
    """What is sent to a client that published at that quality, and was answered so."""
    named = {PROPERTIES[name]: value for name, value in properties.items()}
    session = Session(Connect("c", version, properties=named), Terms(), 0.0)
    session.admit(Admitted("test", None, frozenset({REPLY}), {}))
    packet = Publish("/provision/request", b"", qos, 7 if qos else 0)
    assert session.publish(packet) is None
    return session.settle(packet, reply, REPLY, 1.0)


def said(step: Step, version: int) -> list[Packet]:
    decoder = Decoder(version=version, client=True)
    decoder.feed(step.data)
    return list(decoder)


@pytest.mark.parametrize("status", [Status.LIMITED, Status.PENDING, Status.REFUSED])
def test_mqtt_5_has_the_code_the_reason_and_the_wait_and_then_the_body(status: Status) -> None:
    """Whatever the status: the code says that there is an answer."""
    reply = Reply(b"later", status, reason="come again later", retry_after_s=7, ack=0x97)
    step = settled(5, 1, reply)
    assert said(step, 5) == [Ack(PUBACK, 7, 0x97, TOLD), BODY]
    assert not step.close


@pytest.mark.parametrize(
    ("version", "qos", "kind"), [(3, 1, PUBACK), (4, 1, PUBACK), (4, 2, PUBREC)]
)
def test_older_clients_are_acknowledged_and_have_the_body(
    version: int, qos: int, kind: int
) -> None:
    """They have no codes: the body alone tells them."""
    step = settled(version, qos, LATER)
    assert said(step, version) == [Ack(kind, 7), BODY]
    assert not step.close


@pytest.mark.parametrize("version", [4, 5])
def test_a_publish_without_acknowledgement_has_the_body_alone(version: int) -> None:
    """QoS 0."""
    step = settled(version, 0, LATER)
    assert said(step, version) == [BODY]
    assert not step.close


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({"explain": 0}, {}),
        ({"most": 20}, {}),
        ({"most": 30}, {USER_PROPERTY: [("retry-after", "7")]}),
        ({"explain": 1}, TOLD),
    ],
)
def test_a_client_has_no_more_explained_than_it_wants(
    properties: dict[str, Any], told: dict[int, Any]
) -> None:
    """Who declines problem information has the code alone; of small packets the wait fills one."""
    step = settled(5, 1, LATER, **properties)
    assert said(step, 5)[0] == Ack(PUBACK, 7, 0x97, told)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400), st.integers(0, 10**6), st.sampled_from([0x83, 0x87, 0x97, 0x99]))
def test_whatever_is_said_can_be_read(reason: str, wait_s: int, code: int) -> None:
    """By a decoder that knows the protocol."""
    printable = "".join(one for one in reason if one.isprintable())
    reply = Reply(b"{}", Status.REFUSED, reason=printable, retry_after_s=wait_s, ack=code)
    ack = said(settled(5, 1, reply), 5)[0]
    assert isinstance(ack, Ack)
    assert ack.code == code
    assert ack.properties.get(REASON, "") == printable[:256]
    wait = [("retry-after", str(wait_s))] if wait_s else []
    assert ack.properties.get(USER_PROPERTY, []) == wait
