"""One connection that speaks for many devices: every row of the contract's section 9."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from gateway.core.errors import Overloaded, StoreUnavailable
from gateway.core.limits import Limits, RateLimiter, parse_rate
from gateway.core.model import (
    AccessToken,
    AttributesChange,
    AttributeScope,
    Device,
    EventKind,
    Json,
    RefusalReason,
    Refused,
    RpcCall,
    Secret,
)
from gateway.core.rpc import RpcOutcome
from gateway.dialects.thingsboard import device_api_pb2 as wire
from gateway.dialects.thingsboard.gateway_protobuf import PROTOBUF_GATEWAY
from gateway.wire.call import Conduct, Format, Reply, Status

if TYPE_CHECKING:
    from conftest import Client, House

CONNECT, DISCONNECT = "v1/gateway/connect", "v1/gateway/disconnect"
TELEMETRY, ATTRIBUTES = "v1/gateway/telemetry", "v1/gateway/attributes"
REQUEST, RESPONSE = "v1/gateway/attributes/request", "v1/gateway/attributes/response"
RPC, CLAIM = "v1/gateway/rpc", "v1/gateway/claim"


@pytest.fixture
async def gateway(house: House) -> Client:
    """An MQTT 5 session of a gateway."""
    await house.profile("gateways")
    return await house.connect(await house.add_gateway("gw", "gateways"))


async def say(client: Client, topic: str, told: Any) -> Reply:
    reply = await client.publish(topic, json.dumps(told))
    assert isinstance(reply, Reply)
    return reply


def conduct(client: Client, topic: str, reply: Reply) -> Conduct:
    """What the session does with a publish answered so."""
    route = client.admitted.router.match(topic)[0]
    found = route.conduct.get(reply.status) or client.admitted.conduct[reply.status]
    assert isinstance(found, Conduct)
    return found


# ── devices come and go ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("told", "device_type"),
    [({"device": "A", "type": "thermostat"}, "thermostat"), ({"device": "A"}, "default")],
)
async def test_connect_makes_an_unknown_device(
    house: House, gateway: Client, told: dict[str, str], device_type: str
) -> None:
    """It is of the type named, else of `default`, and its creator is the gateway."""
    assert (await say(gateway, CONNECT, told)).status is Status.OK
    child = await house.device("A")
    assert child.type == device_type
    assert child.creator_id == (await house.device("gw")).id
    [session] = house.sessions.of(child.id)
    assert session.gateway_id == child.creator_id


async def test_connecting_again_changes_nothing(house: House, gateway: Client) -> None:
    """The session that stands is kept, and the second type is not looked at."""
    await say(gateway, CONNECT, {"device": "A", "type": "one"})
    [before] = house.sessions.of((await house.device("A")).id)
    await say(gateway, CONNECT, {"device": "A", "type": "two"})
    assert house.sessions.of((await house.device("A")).id) == (before,)
    assert await house.registry.profile("two") is None


async def test_disconnect_ends_the_place_of_a_device(house: House, gateway: Client) -> None:
    """It is gone from the sessions, the gateway is not told what it said itself; once more: OK."""
    await say(gateway, CONNECT, {"device": "A"})
    child = await house.device("A")
    for _ in range(2):
        assert (await say(gateway, DISCONNECT, {"device": "A"})).status is Status.OK
        assert house.sessions.of(child.id) == ()
    assert gateway.link.sent == []


async def test_devices_leave_with_their_gateway(house: House, gateway: Client) -> None:
    """When the connection is over none of its devices can be reached, nor what enters late."""
    await say(gateway, TELEMETRY, {"A": [{"x": 1}], "B": [{"x": 1}]})
    gateway.hang_up()
    assert (await say(gateway, CONNECT, {"device": "C"})).status is Status.OK
    for name in ("A", "B", "C", "gw"):
        assert house.sessions.of((await house.device(name)).id) == ()


async def test_existing_devices_are_taken_over(house: House, gateway: Client) -> None:
    """There is no ownership check; the older session of the device is told it was taken over."""
    own = await house.connect(await house.add("A"))
    await say(gateway, TELEMETRY, {"A": [{"x": 1}]})
    assert own.link.closed == 0x8E
    assert await house.readings("A") == {"x": 1}
    assert (await house.device("A")).creator_id is None


async def test_a_gateway_that_names_itself_keeps_its_connection(
    house: House, gateway: Client
) -> None:
    """Its own readings are kept, and no second session of it displaces the first."""
    await say(gateway, TELEMETRY, {"gw": [{"x": 1}]})
    assert await house.readings("gw") == {"x": 1}
    assert gateway.link.closed is None
    assert len(house.sessions.of((await house.device("gw")).id)) == 1


# ── what they say ─────────────────────────────────────────────────────────────────────────────


async def test_telemetry_of_many_devices(house: House, gateway: Client) -> None:
    """Each has an array, with times or without; what is no array is skipped, also its device."""
    told = {"A": [{"ts": 1, "values": {"x": 1}}, {"y": "2"}], "B": [{"x": 2.5}], "C": {"x": 1}}
    assert (await say(gateway, TELEMETRY, told)).status is Status.OK
    assert await house.readings("A") == {"x": 1, "y": 2}
    assert await house.readings("B") == {"x": 2.5}
    assert await house.registry.device("C") is None


async def test_metadata_of_telemetry_is_stripped(house: House, gateway: Client) -> None:
    """The gateway's own times are no reading."""
    metadata = {"connector": "c", "receivedTs": "1", "publishedTs": "2"}
    told = {"A": [{"ts": 5, "values": {"x": 1}, "metadata": metadata}]}
    assert (await say(gateway, TELEMETRY, told)).status is Status.OK
    assert await house.readings("A") == {"x": 1}


async def test_attributes_of_many_devices(house: House, gateway: Client) -> None:
    """They are client attributes."""
    told = {"A": {"serial": "a-1"}, "B": {"serial": "b-1", "n": 1}}
    assert (await say(gateway, ATTRIBUTES, told)).status is Status.OK
    assert await house.attributes(AttributeScope.CLIENT, "A") == {"serial": "a-1"}
    assert await house.attributes(AttributeScope.CLIENT, "B") == {"serial": "b-1", "n": 1}


async def test_claims_of_many_devices(house: House, gateway: Client) -> None:
    """Each is offered to whoever knows its key; both members may be absent."""
    told = {"A": {"secretKey": "k", "durationMs": 60000}, "B": {}}
    assert (await say(gateway, CLAIM, told)).status is Status.OK
    events = await house.registry.last_events(limit=10)
    offered = {one.subject for one in events if one.kind is EventKind.DEVICE_CLAIM_OFFER}
    assert offered == {"A", "B"}


async def test_many_devices_of_one_message_are_born_at_once(house: House, gateway: Client) -> None:
    """Two messages at a time that name the same new devices make each of them once."""
    told = {f"d{number}": [{"x": number}] for number in range(50)}
    replies = await asyncio.gather(*(say(gateway, TELEMETRY, told) for _ in range(2)))
    assert [reply.status for reply in replies] == [Status.OK, Status.OK]
    assert await house.readings("d49") == {"x": 49}
    assert len(house.sessions) == 51


# ── what they ask ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"client": True, "key": "k"}, {"value": "c"}),
        ({"client": True, "keys": ["k"]}, {"value": "c"}),
        ({"client": False, "key": "s"}, {"value": 5}),
        ({"client": False, "keys": ["s", "t"]}, {"values": {"s": 5, "t": [1]}}),
        ({"client": True, "keys": ["k", "none"]}, {"values": {"k": "c"}}),
        ({"client": True, "key": "s"}, {}),
        ({"client": False, "keys": ["none", "k"]}, {}),
    ],
)
async def test_attributes_are_asked_for(
    house: House, gateway: Client, asked: dict[str, Any], told: dict[str, Any]
) -> None:
    """One key gives a value, several give values, and what is not found id and device alone."""
    await say(gateway, ATTRIBUTES, {"A": {"k": "c"}})
    await house.share(to="A", s=5, t=Json("[1]"))
    reply = await say(gateway, REQUEST, {"id": 7, "device": "A", **asked})
    assert (reply.status, reply.topic, reply.format) == (Status.OK, RESPONSE, Format.JSON)
    assert json.loads(reply.body) == {"id": 7, "device": "A", **told}


# ── what they are told ────────────────────────────────────────────────────────────────────────


async def test_shared_attributes_are_told_to_a_gateway_that_subscribed(
    house: House, gateway: Client
) -> None:
    """A subscription counts for devices before and after it, until it is taken back."""
    await say(gateway, CONNECT, {"device": "A"})
    await house.share(to="A", early=1)
    gateway.subscribe(ATTRIBUTES)
    await say(gateway, CONNECT, {"device": "B"})
    await house.share(to="A", k=1)
    await house.share("k", to="A")
    await house.share(to="B", k="b")
    gateway.guest.unsubscribed(ATTRIBUTES)
    await house.share(to="A", late=1)
    assert [(topic, json.loads(body)) for topic, body in gateway.link.sent] == [
        (ATTRIBUTES, {"device": "A", "data": {"k": 1}}),
        (ATTRIBUTES, {"device": "A", "data": {"deleted": ["k"]}}),
        (ATTRIBUTES, {"device": "B", "data": {"k": "b"}}),
    ]


async def test_a_call_goes_through_the_gateway_and_its_answer_comes_back(
    house: House, gateway: Client
) -> None:
    """The request names the device and the id, the answer is what stands in `data`."""
    await say(gateway, CONNECT, {"device": "A"})
    child = await house.device("A")
    call = RpcCall(device_id=child.id, method="set", params='{"pin":1}')
    assert (await house.rpc.call(call, 5)).outcome is RpcOutcome.NOT_CONNECTED
    gateway.subscribe(RPC)
    task = asyncio.create_task(house.rpc.call(call, 5))
    await house.settle()
    [(topic, body)] = gateway.link.sent
    number = json.loads(body)["data"]["id"]
    told = {"device": "A", "data": {"id": number, "method": "set", "params": {"pin": 1}}}
    assert (topic, json.loads(body)) == (RPC, told)
    answer = {"device": "A", "id": number, "data": {"done": True}}
    for _ in range(2):  # the second time nobody waits
        assert (await say(gateway, RPC, answer)).status is Status.OK
    result = await task
    assert (result.outcome, result.response) == (RpcOutcome.ANSWERED, '{"done": true}')


async def test_waiting_calls_are_sent_once_the_gateway_listens(
    house: House, gateway: Client
) -> None:
    """A persistent call waits for the subscription, or for the device to enter."""
    await say(gateway, CONNECT, {"device": "A"})
    known = await house.known("A")
    lasting = {"lasts_s": 60, "two_way": False, "persistent": True}
    assert await house.registry.calls.save(known, "reboot", **lasting) is not None
    await house.feed.look()
    assert gateway.link.sent == []
    gateway.subscribe(RPC)
    await house.settle()
    assert [json.loads(body)["data"]["method"] for _, body in gateway.link.sent] == ["reboot"]
    await say(gateway, DISCONNECT, {"device": "A"})
    await say(gateway, CONNECT, {"device": "A"})
    await house.settle()
    assert len(gateway.link.sent) == 2  # it was never acknowledged
    gateway.link.acknowledge[-1]()
    await house.settle()
    assert [one.state.value for one in await house.registry.calls.of(known)] == ["SUCCESSFUL"]


@pytest.mark.parametrize(("version", "told"), [(5, True), (4, False)])
async def test_a_child_that_is_ended_here_is_told_to_mqtt_5_gateways(
    house: House, version: int, told: bool
) -> None:
    """With the reason number of a DISCONNECT; older ones hear nothing."""
    await house.profile("gateways")
    client = await house.connect(await house.add_gateway("gw", "gateways"), version)
    await say(client, TELEMETRY, {"A": [{"x": 1}], "B": [{"x": 1}]})
    await house.registry.remove_device(await house.known("A"))
    await house.feed.look()
    other = await house.connect((await house.known("B")).credentials.id.reveal())
    gone = [{"device": "A", "reason": 0x98}, {"device": "B", "reason": 0x8E}]
    sent = [json.loads(body) for topic, body in client.link.sent if topic == DISCONNECT]
    assert sent == (gone if told else [])
    assert (client.link.closed, other.link.closed) == (None, None)


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        (CONNECT, "{"),
        (CONNECT, "[]"),
        (CONNECT, '{"type":"t"}'),
        (DISCONNECT, "{}"),
        (TELEMETRY, "[]"),
        (TELEMETRY, '{"A":[1]}'),
        (ATTRIBUTES, '{"A":1}'),
        (REQUEST, '{"device":"A","client":true,"key":"k"}'),
        (REQUEST, '{"id":1,"device":"A","client":true}'),
        (RPC, '{"device":"A","data":{}}'),
        (CLAIM, '{"A":[]}'),
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
async def test_a_bad_payload(house: House, topic: str, body: str, lenient: bool) -> None:
    """0x99 in MQTT 5; MQTT 3 is closed unless the gateway's profile says otherwise (7.4)."""
    await house.profile("gateways", thingsboard={"send_ack_on_validation_exception": lenient})
    client = await house.connect(await house.add_gateway("gw", "gateways"))
    reply = await client.publish(topic, body)
    assert reply.status in (Status.UNDECODABLE, Status.BAD_REQUEST)
    does = conduct(client, topic, reply)
    assert (does.ack, does.close, does.close_qos0) == (0x99, None, 0x99)
    assert (does.ack_v3, does.close_v3) == (lenient, not lenient)
    assert await house.registry.device("A") is None


@pytest.mark.parametrize("topic", ["v1/gateway/unknown", "v1/gateway/a/b/c", "v1/gateway"])
async def test_an_unknown_gateway_topic(gateway: Client, topic: str) -> None:
    """0x90, and the connection stays."""
    reply = await say(gateway, topic, {})
    does = conduct(gateway, topic, reply)
    assert (does.ack, does.close, does.ack_v3, does.close_v3) == (0x90, None, True, False)


async def test_other_devices_have_no_gateway_topics(house: House) -> None:
    """What they publish there is silently ignored, and nobody is born."""
    client = await house.connect(await house.add())
    for topic in (CONNECT, TELEMETRY, "v1/gateway/unknown"):
        assert (await say(client, topic, {"device": "A"})).status is Status.IGNORED
    assert await house.registry.device("A") is None
    assert ATTRIBUTES not in client.admitted.filters


@pytest.mark.parametrize(
    ("topic", "told", "code"),
    [
        (CONNECT, {"device": "A"}, 0x80),
        (TELEMETRY, {"A": [{"x": 1}]}, 0x80),
        (ATTRIBUTES, {"A": {"x": 1}}, 0x80),
        (CLAIM, {"A": {}}, 0x80),
        (RPC, {"device": "A", "id": 1, "data": 1}, 0x80),
        (REQUEST, {"id": 1, "device": "A", "client": True, "key": "k"}, 0x83),
    ],
)
async def test_a_refused_device(
    house: House, gateway: Client, topic: str, told: Any, code: int
) -> None:
    """0x80, of a request for attributes 0x83; acknowledged in MQTT 3, or it would come again."""
    await house.profile("closed", gateway_may_adopt=False)
    await house.add("A", "closed")
    reply = await say(gateway, topic, told)
    assert reply.status is Status.FAILED
    does = conduct(gateway, topic, reply)
    assert (does.ack, does.close, does.ack_v3, does.close_v3) == (code, None, True, False)
    assert house.sessions.of((await house.device("A")).id) == ()


async def test_the_others_of_a_message_are_kept(house: House, gateway: Client) -> None:
    """A publish is acknowledged as a success only when all its devices succeeded."""
    await house.profile("closed", gateway_may_adopt=False)
    await house.add("A", "closed")
    reply = await say(gateway, TELEMETRY, {"A": [{"x": 1}], "B": [{"x": 1}]})
    assert reply.status is Status.FAILED
    assert (await house.readings("A"), await house.readings("B")) == ({}, {"x": 1})


async def test_a_gateway_speaks_for_so_many_devices_and_no_more(house: House) -> None:
    """The bound holds for one message as for many; who leaves makes room."""
    house.begin(max_children=3)
    await house.profile("gateways")
    client = await house.connect(await house.add_gateway("gw", "gateways"))
    reply = await say(client, TELEMETRY, {f"d{number}": [{"x": 1}] for number in range(9)})
    assert reply.status is Status.FULL
    for topic in (TELEMETRY, CONNECT, REQUEST):
        does = conduct(client, topic, reply)
        assert (does.ack, does.close, does.ack_v3, does.close_v3) == (0x97, None, True, False)
    assert len(house.sessions) == 4
    assert (await say(client, CONNECT, {"device": "late"})).status is Status.FULL
    assert (await say(client, TELEMETRY, {"d0": [{"x": 1}]})).status is Status.OK
    await say(client, DISCONNECT, {"device": "d0"})
    assert (await say(client, CONNECT, {"device": "late"})).status is Status.OK


@pytest.mark.parametrize("whose", ["device", "gateway_devices", "organisation"])
async def test_a_rate_limit_ends_the_connection(house: House, whose: str) -> None:
    """0x97 and the door; each device counts for itself, and all count for their gateway."""
    await house.profile("gateways")
    token = await house.add_gateway("gw", "gateways")
    limits = Limits(telemetry_messages=parse_rate("2:60"))
    house.begin(limiter=RateLimiter(**{whose: limits}))
    client = await house.connect(token)
    assert (await say(client, TELEMETRY, {"A": [{"x": 1}], "B": [{"x": 1}]})).status is Status.OK
    reply = await say(client, TELEMETRY, {"A": [{"x": 2}]})
    if whose == "device":
        assert reply.status is Status.OK
        reply = await say(client, TELEMETRY, {"A": [{"x": 3}]})
    assert reply.status is Status.LIMITED
    does = conduct(client, TELEMETRY, reply)
    assert (does.ack, does.close, does.ack_v3, does.close_v3) == (0x97, 0x97, False, True)
    assert await house.readings("A") == {"x": 2 if whose == "device" else 1}


@pytest.mark.parametrize("kind", ["replaced", "removed"])
async def test_a_child_whose_login_is_of_yesterday_enters_anew(
    house: House, gateway: Client, kind: str
) -> None:
    """New credentials of a device, or its removal, cost its gateway neither data nor connection."""
    gateway.subscribe(ATTRIBUTES)
    for topic, told in (
        (TELEMETRY, {"A": [{"x": 1}], "B": [{"x": 1}]}),
        (ATTRIBUTES, {"A": {"k": 1}, "B": {"k": 1}}),
        (CLAIM, {"A": {}, "B": {}}),
        (REQUEST, {"id": 1, "device": "A", "client": True, "key": "k"}),
    ):
        await say(gateway, CONNECT, {"device": "A"})
        known = await house.known("A")
        if kind == "removed":
            await house.registry.remove_device(known)
        else:
            fresh = AccessToken(Secret(f"fresh-{topic}"))
            assert await house.registry.replace_credentials(known, fresh)
        # The gateway's process has not heard of it.
        assert (await say(gateway, topic, told)).status is Status.OK, topic
        child = await house.device("A")
        [session] = house.sessions.of(child.id)
        assert session.device.credentials_row == child.credentials_row
        assert session.wants_attributes
    assert await house.readings("B") == {"x": 1}


@pytest.mark.parametrize(
    ("fault", "status", "ack"),
    [(StoreUnavailable("x"), Status.INTERNAL, 0x83), (Overloaded("x"), Status.OVERLOADED, 0x97)],
)
async def test_what_is_not_on_disk_is_not_acknowledged(
    house: House,
    gateway: Client,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    status: Status,
    ack: int,
) -> None:
    """MQTT 5 is told and may send again; an older gateway is closed, and will."""
    await say(gateway, CONNECT, {"device": "A"})

    async def fail(*_: object) -> object:
        raise fault

    for name in ("save_many_readings", "save_client_attributes"):
        monkeypatch.setattr(house.parts["traffic"], name, fail)
    monkeypatch.setattr(house.parts["children"], "enter", fail)
    for topic, told in (
        (TELEMETRY, {"A": [{"x": 1}]}),
        (ATTRIBUTES, {"A": {"k": 1}}),
        (TELEMETRY, {"A": [{"x": 1}], "new": [{"x": 1}]}),
    ):
        reply = await say(gateway, topic, told)
        assert reply.status is status
        does = conduct(gateway, topic, reply)
        assert (does.ack, does.close, does.ack_v3, does.close_v3) == (ack, None, False, True)


async def test_a_device_that_is_refused_at_its_second_entry(
    house: House, gateway: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as refused, and the gateway stays."""
    await say(gateway, CONNECT, {"device": "A"})
    await house.registry.remove_device(await house.known("A"))

    async def refuse(*_: object) -> Refused:
        return Refused(RefusalReason.NAME_INVALID)

    monkeypatch.setattr(house.parts["children"], "enter", refuse)
    assert (await say(gateway, TELEMETRY, {"A": [{"x": 1}]})).status is Status.FAILED
    asked = {"id": 1, "device": "A", "client": True, "key": "k"}
    assert (await say(gateway, REQUEST, asked)).status is Status.FAILED


# ── in protobuf ───────────────────────────────────────────────────────────────────────────────


async def test_the_same_in_protobuf(house: House, gateway: Client) -> None:
    """A gateway that speaks protobuf is understood, answered and told in protobuf."""
    guest: Any = gateway.guest
    guest.codec = PROTOBUF_GATEWAY
    gateway.subscribe(ATTRIBUTES, RPC)
    pair = wire.KeyValueProto(key="x", type=wire.LONG_V, long_v=5)
    sent = wire.AttributesMsg(deviceName="A", msg=wire.PostAttributeMsg(kv=[pair]))
    body = wire.GatewayAttributesMsg(msg=[sent]).SerializeToString()
    assert (await gateway.publish(ATTRIBUTES, body)).status is Status.OK
    asked = wire.GatewayAttributesRequestMsg(id=3, deviceName="A", client=True, keys=["x"])
    reply = await gateway.publish(REQUEST, asked.SerializeToString())
    assert reply.format is Format.PROTOBUF
    answer = wire.GatewayAttributeResponseMsg.FromString(reply.body)
    assert (answer.deviceName, answer.responseMsg.requestId) == ("A", 3)
    assert [one.kv for one in answer.responseMsg.clientAttributeList] == [pair]
    await house.share(to="A", k=True)
    [(_, body)] = gateway.link.sent
    told = wire.GatewayAttributeUpdateNotificationMsg.FromString(body)
    assert [one.kv.key for one in told.notificationMsg.sharedUpdated] == ["k"]


async def test_a_call_that_no_message_can_hold_is_not_sent(house: House, gateway: Client) -> None:
    """It fails as if the device were away, and nothing is raised."""
    guest: Any = gateway.guest
    guest.codec = PROTOBUF_GATEWAY
    gateway.subscribe(RPC)
    await gateway.publish(CONNECT, wire.ConnectMsg(deviceName="A").SerializeToString())
    child: Device = await house.device("A")
    call = RpcCall(device_id=child.id, method="m", expires_at=2**63)
    assert (await house.rpc.call(call, 5)).outcome is RpcOutcome.NOT_CONNECTED
    assert gateway.link.sent == []


async def test_a_change_that_no_message_can_hold_is_not_sent(house: House, gateway: Client) -> None:
    """It is not told, nothing is raised, and the next one is."""
    guest: Any = gateway.guest
    guest.codec = PROTOBUF_GATEWAY
    gateway.subscribe(ATTRIBUTES)
    await gateway.publish(CONNECT, wire.ConnectMsg(deviceName="A").SerializeToString())
    (session,) = house.sessions.of((await house.device("A")).id)
    for number in (2**64, 7):
        session.outlet.attributes_changed(AttributesChange({"n": number}))
    assert [topic for topic, *_ in gateway.link.sent] == [ATTRIBUTES]
