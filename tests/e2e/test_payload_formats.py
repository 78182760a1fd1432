"""CBOR on HTTP and CoAP, and telemetry in SenML: from socket to store and back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import cbor2
from inside import Gate
from operating import Operator
from wires import GET, POST, Http, HttpReply, coap, dotted, http, mqtt, observing

from gateway.core.model import AttributeScope, ClaimResult, Secret

CBOR, SENML_JSON, SENML_CBOR = 60, 110, 112


async def sent(
    web: Http, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[HttpReply, Any]:
    """The reply to a request with these headers, and its body if that is CBOR."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"{method} {path} HTTP/1.1\r\nHost: gate\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    reply = await web.raw(head.encode() + body)
    is_cbor = reply.headers.get("content-type") == "application/cbor"
    return reply, cbor2.loads(reply.body) if is_cbor and reply.body else None


async def test_a_device_lives_in_cbor_over_http(gate: Gate) -> None:
    """Provisioned, telling, asking, called, calling and claimed; JSON beside it as ever."""
    asked = cbor2.dumps(gate.request("meter"))
    labels = {"Content_Type": "application/cbor"}
    async with http(gate.ports.http) as web:
        reply, told = await sent(web, "POST", "/api/v1/provision", asked, **labels)
        assert (reply.status, told["status"]) == (200, "SUCCESS")
        base = f"/api/v1/{told['credentialsValue']}"
        for feature, said in (("telemetry", {"t": 0.1 + 0.2}), ("attributes", {"fw": "1.4"})):
            body = cbor2.dumps(said)
            reply, _ = await sent(web, "POST", f"{base}/{feature}", body, **labels)
            assert (reply.status, reply.body) == (200, b"")
        accepts = {"Accept": "application/cbor"}
        _, found = await sent(web, "GET", f"{base}/attributes", **accepts)
        assert found == {"client": {"fw": "1.4"}}
        assert (await web.ask("GET", f"{base}/attributes")).body == b'{"client":{"fw":"1.4"}}'
        call = cbor2.dumps({"method": "getCurrentTime", "params": {}})
        _, answer = await sent(web, "POST", f"{base}/rpc", call, **labels)
        assert list(answer) == ["currentTime"]
        reply, _ = await sent(web, "POST", f"{base}/rpc", call, **labels, Accept="application/json")
        assert list(json.loads(reply.body)) == ["currentTime"]
        claim = cbor2.dumps({"secretKey": "a"})
        assert (await sent(web, "POST", f"{base}/claim", claim, **labels))[0].status == 200
        poll = asyncio.create_task(
            sent(web, "GET", f"{base}/attributes/updates?timeout=5000", **accepts)
        )
        await asyncio.sleep(0.1)
        await Operator(gate, "meter").share(interval=30)
        assert (await poll)[1] == {"interval": 30}
        refused, told = await sent(web, "POST", "/api/v1/provision", asked, **labels)
        assert (refused.status, told["status"]) == (200, "FAILURE")
        broken, _ = await sent(web, "POST", f"{base}/telemetry", b"\xa1\x61t", **labels)
        assert broken.status == 400
    assert await gate.readings("meter") == {"t": 0.30000000000000004}
    known = await gate.registry.device("meter")
    assert known is not None
    assert await gate.registry.claim(known, "Acme", Secret("a")) is ClaimResult.SUCCESS


async def test_a_device_lives_in_cbor_over_coap(gate: Gate) -> None:
    """The same by Content-Format 60 and Accept 60, and what it observes."""
    asked = cbor2.dumps(gate.request("meter"))
    async with observing(gate.ports.coap) as device:
        answer = await device.ask(POST, "/api/v1/provision", asked, content_format=CBOR)
        assert (dotted(answer), answer.opt.content_format) == ("2.01", CBOR)
        base = f"/api/v1/{cbor2.loads(answer.payload)['credentialsValue']}"
        for feature, said in (("telemetry", {"t": 21.5}), ("attributes", {"fw": "1.4"})):
            body = cbor2.dumps(said)
            answer = await device.ask(POST, f"{base}/{feature}", body, content_format=CBOR)
            assert (dotted(answer), answer.payload) == ("2.01", b"")
        answer = await device.ask(GET, f"{base}/attributes", accept=CBOR)
        assert (dotted(answer), answer.opt.content_format) == ("2.05", CBOR)
        assert cbor2.loads(answer.payload) == {"client": {"fw": "1.4"}}
        plain = await device.ask(GET, f"{base}/attributes")
        assert (plain.opt.content_format, plain.payload) == (50, b'{"client":{"fw":"1.4"}}')
        call = cbor2.dumps({"method": "getCurrentTime"})
        answer = await device.ask(POST, f"{base}/rpc", call, content_format=CBOR)
        assert list(cbor2.loads(answer.payload)) == ["currentTime"]
        # It takes JSON for its answer, which has its own name then.
        answer = await device.ask(POST, f"{base}/rpc", call, content_format=CBOR, accept=50)
        assert (answer.opt.content_format, answer.payload[:1]) == (50, b"{")
        data, token = device.datagram(GET, f"{base}/attributes", observe=0, accept=CBOR)
        device.queues[token] = asyncio.Queue()
        device.transport.sendto(data)
        assert cbor2.loads((await device.next(token)).payload) == {}
        await Operator(gate, "meter").share(interval=30)
        notified = await device.next(token)
        assert notified.opt.content_format == CBOR
        assert cbor2.loads(notified.payload) == {"interval": 30}
        broken = await device.ask(POST, f"{base}/telemetry", b"\xa1\x01\x01", content_format=CBOR)
        assert dotted(broken) == "4.00"
    assert await gate.readings("meter") == {"t": 21.5}


async def test_an_operator_calls_a_device_that_speaks_cbor(gate: Gate) -> None:
    """The call is observed in CBOR, and answered in it."""
    token = await gate.add("d")
    base, operator = f"/api/v1/{token}", Operator(gate)
    async with observing(gate.ports.coap) as device:
        data, watch = device.datagram(GET, f"{base}/rpc", observe=0, accept=CBOR)
        device.queues[watch] = asyncio.Queue()
        device.transport.sendto(data)
        await device.next(watch)
        waiting = asyncio.create_task(operator.call("setLed", '{"on":true}'))
        asked = cbor2.loads((await device.next(watch)).payload)
        assert (asked["method"], asked["params"]) == ("setLed", {"on": True})
        body = cbor2.dumps({"lit": True})
        path = f"{base}/rpc/{asked['id']}"
        assert dotted(await device.ask(POST, path, body, content_format=CBOR)) == "2.01"
        assert await waiting == ("SUCCESSFUL", '{"lit":true}')


async def test_labels_that_lie_change_nothing(gate: Gate) -> None:
    """JSON under the name of CBOR, and names nobody knows, are JSON as ever; MQTT has no labels."""
    token = await gate.add("d")
    async with coap(gate.ports.coap) as device, http(gate.ports.http) as web:
        path = f"/api/v1/{token}/telemetry"
        for number, key in ((CBOR, "a"), (11_542, "b"), (0, "c")):
            answer = await device.ask(POST, path, b'{"%b":1}' % key.encode(), content_format=number)
            assert dotted(answer) == "2.01"
        for media, key in (("application/cbor", "d"), ("text/plain", "e")):
            reply, _ = await sent(web, "POST", path, b'{"%b":1}' % key.encode(), Content_Type=media)
            assert reply.status == 200
    async with mqtt(gate.ports.mqtt) as session:
        assert await session.connect(username=token) == 0
        await session.deliver("v1/devices/me/telemetry", b'{"f":1}')
    assert await gate.readings("d") == dict.fromkeys("abcdef", 1)


async def test_telemetry_in_senml(gate: Gate) -> None:
    """Both forms over both wires; what is no pack is 400 with a sentence, and 4.00."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/telemetry"
    pack = [{"bn": "cellar:", "n": "temp", "u": "Cel", "v": 21.5}, {"n": "open", "vb": False}]
    packed = cbor2.dumps([{-2: "attic:", 0: "temp", 2: 30}])
    async with http(gate.ports.http) as web:
        for media, body in (
            ("application/senml+json", json.dumps(pack).encode()),
            ("application/senml+cbor", packed),
        ):
            reply, _ = await sent(web, "POST", path, body, Content_Type=media)
            assert (reply.status, reply.body) == (200, b"")
        reply, _ = await sent(
            web, "POST", path, b'[{"n":"x"}]', Content_Type="application/senml+json"
        )
        assert reply.status == 400
        assert "neither a value nor a sum" in json.loads(reply.body)["message"]
    async with coap(gate.ports.coap) as device:
        for number, body in ((SENML_JSON, b'[{"n":"hall","v":1}]'), (SENML_CBOR, packed)):
            answer = await device.ask(POST, path, body, content_format=number)
            assert (dotted(answer), answer.payload) == ("2.01", b"")
        assert dotted(await device.ask(POST, path, b"[]", content_format=SENML_JSON)) == "4.00"
    expected = {"cellar:temp": 21.5, "cellar:open": False, "attic:temp": 30, "hall": 1}
    assert await gate.readings("d") == expected
    assert await Operator(gate).attributes(AttributeScope.CLIENT) == {}
