"""aiocoap's client, over CoAP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiocoap
import pytest
from aiocoap.numbers import ContentFormat

if TYPE_CHECKING:
    from tests.clients.conftest import Answer, RunningGateway

CROWD = 20


class AiocoapClient:
    """Requests of one aiocoap context to the gateway."""

    def __init__(self, context: aiocoap.Context, gate: RunningGateway) -> None:
        self._context = context
        self._gate = gate

    async def ask(self, code: aiocoap.Code, path: str, body: bytes = b"", **more: Any) -> Any:
        """Send a request and give back the response message."""
        message = aiocoap.Message(code=code, uri=self._gate.coap_url + path, payload=body, **more)
        async with asyncio.timeout(15):
            return await self._context.request(message).response

    async def post(self, path: str, body: Any, **more: Any) -> Any:
        return await self.ask(aiocoap.POST, path, json.dumps(body).encode(), **more)

    async def provision(self, asked: Answer, **more: Any) -> Answer:
        """The answer in the response: 2.01 for SUCCESS, 4.00 for the others (section 5)."""
        response = await self.post("/api/v1/provision", asked, **more)
        told: Answer = json.loads(response.payload)
        wanted = aiocoap.CREATED if told["status"] == "SUCCESS" else aiocoap.BAD_REQUEST
        assert response.code is wanted
        return told


@pytest.fixture
async def client(gate: RunningGateway) -> AsyncIterator[AiocoapClient]:
    context = await aiocoap.Context.create_client_context()
    yield AiocoapClient(context, gate)
    await context.shutdown()


async def test_a_device_provisions_and_sends(client: AiocoapClient, gate: RunningGateway) -> None:
    """The token aiocoap is given opens telemetry and attributes."""
    token = gate.succeeded(await client.provision(gate.request("aiocoap-1")))
    device = f"/api/v1/{token}"

    sent = await client.post(f"{device}/telemetry", {"temperature": 21.5})
    kept = await client.post(f"{device}/attributes", {"model": "a1"})
    read = await client.ask(aiocoap.GET, f"{device}/attributes?clientKeys=model")
    none = await client.ask(aiocoap.GET, f"{device}/attributes?clientKeys=colour")

    assert (sent.code, sent.payload) == (aiocoap.CREATED, b"")
    assert kept.code is aiocoap.CREATED
    assert gate.readings("aiocoap-1") == {"temperature": 21.5}
    assert read.code is aiocoap.CONTENT
    assert read.opt.content_format == ContentFormat.JSON
    assert json.loads(read.payload) == {"client": {"model": "a1"}}
    assert none.code is aiocoap.NOT_FOUND


async def test_a_wrong_secret_is_not_found(
    client: AiocoapClient, gate: RunningGateway, not_found: Answer
) -> None:
    """A wrong secret is answered NOT_FOUND."""
    assert await client.provision(gate.wrong_request("aiocoap-2")) == not_found


async def test_a_name_is_given_once(
    client: AiocoapClient, gate: RunningGateway, failure: Answer
) -> None:
    """The second request for a name is a FAILURE and the first one's token stays good."""
    token = gate.succeeded(await client.provision(gate.request("aiocoap-3")))

    assert await client.provision(gate.request("aiocoap-3")) == failure
    assert gate.knows(token)


async def test_of_twenty_one_gets_the_name(client: AiocoapClient, gate: RunningGateway) -> None:
    """Twenty requests at once for one name: one SUCCESS, nineteen FAILURE."""
    asked = gate.request("aiocoap-4")
    gate.gave_to_one(await asyncio.gather(*(client.provision(asked) for _ in range(CROWD))))


async def test_long_bodies_go_in_blocks(client: AiocoapClient, gate: RunningGateway) -> None:
    """Telemetry of several blocks arrives whole."""
    token = gate.succeeded(await client.provision(gate.request("aiocoap-5", note="n" * 3000)))
    readings = {f"key-{number:03}": number for number in range(300)}

    sent = await client.post(f"/api/v1/{token}/telemetry", readings)

    assert sent.code is aiocoap.CREATED
    assert gate.readings("aiocoap-5") == readings


async def test_long_answers_go_in_blocks(client: AiocoapClient, gate: RunningGateway) -> None:
    """Attributes that fill several blocks are read whole."""
    token = gate.succeeded(await client.provision(gate.request("aiocoap-6")))
    attributes = {f"key-{number:03}": "v" * 20 for number in range(150)}
    await client.post(f"/api/v1/{token}/attributes", attributes)

    read = await client.ask(aiocoap.GET, f"/api/v1/{token}/attributes")

    assert read.code is aiocoap.CONTENT
    assert json.loads(read.payload) == {"client": attributes}


async def test_a_non_confirmable_request_is_answered(
    client: AiocoapClient, gate: RunningGateway
) -> None:
    """NON requests provision like CON ones."""
    asked = gate.request("aiocoap-7")
    response = await client.post("/api/v1/provision", asked, transport_tuning=aiocoap.Unreliable)
    assert response.mtype is aiocoap.NON
    gate.succeeded(json.loads(response.payload))


async def test_resources_can_be_discovered(client: AiocoapClient) -> None:
    """`/.well-known/core` tells where to provision."""
    listed = await client.ask(aiocoap.GET, "/.well-known/core")
    assert listed.code is aiocoap.CONTENT
    assert b"</api/v1/provision>" in listed.payload


@pytest.mark.parametrize(
    ("method", "code"),
    [
        (aiocoap.PUT, aiocoap.METHOD_NOT_ALLOWED),
        (aiocoap.DELETE, aiocoap.METHOD_NOT_ALLOWED),
        (aiocoap.GET, aiocoap.BAD_REQUEST),
    ],
    ids=str,
)
async def test_other_methods_are_told_so(
    client: AiocoapClient, method: aiocoap.Code, code: aiocoap.Code
) -> None:
    """PUT and DELETE on the provisioning resource are 4.05, GET is 4.00 (contract, section 5)."""
    assert (await client.ask(method, "/api/v1/provision")).code is code
