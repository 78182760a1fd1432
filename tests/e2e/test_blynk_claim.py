"""The claim over HTTP: every row of the contract's section 5.2."""

from __future__ import annotations

import asyncio

from blynk_ground import OTHER_TEMPLATE, TEMPLATE, BlynkGate

INVALID = b'{"error":{"message":"Invalid token."}}'
NO_TEMPLATE = b'{"error":{"message":"Template is not found."}}'


async def test_a_pending_token_gives_birth(blynk: BlynkGate) -> None:
    """200 without a body, and the device is there, with the number that was reserved."""
    issued = await blynk.tickets.issue(blynk.admin, blynk.admin.organisation, None)
    reply = await blynk.claim(issued.token.reveal(), ver="1.2", build="Oct+1")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")
    assert reply.headers["cache-control"] == "no-store"
    device = await blynk.device(issued.token.reveal())
    assert device is not None
    assert (device.id, device.name) == (issued.ticket.device_id, f"Meter {device.id}")


async def test_a_hundred_claims_give_one_device(blynk: BlynkGate) -> None:
    """All callers get 200, and there is one device."""
    token = await blynk.issue()
    replies = await asyncio.gather(*(blynk.claim(token) for _ in range(100)))
    assert {reply.status for reply in replies} == {200}
    assert await blynk.gateway.store.driver.rows("count_devices") == [(1,)]


async def test_wrong_templates_use_nothing_up(blynk: BlynkGate) -> None:
    """Missing, empty and unknown ones are refused, and the token can still be claimed."""
    token = await blynk.issue()
    for query in ({"token": token}, {"token": token, "templateId": ""}):
        reply = await blynk.ask("GET", "/external/api/provision", **query)
        assert (reply.status, reply.body) == (400, NO_TEMPLATE)
    reply = await blynk.claim(token, "TMPLnobody000")
    assert (reply.status, reply.body) == (400, NO_TEMPLATE)
    assert (await blynk.claim(token)).status == 200


async def test_an_active_token_of_another_template(blynk: BlynkGate) -> None:
    token, record = await blynk.born()
    reply = await blynk.claim(token, OTHER_TEMPLATE)
    assert (reply.status, reply.body) == (400, NO_TEMPLATE)
    again = await blynk.services.inventory.find(blynk.admin, record.device.uuid)
    assert again == record


async def test_head_does_not_claim(blynk: BlynkGate) -> None:
    token = await blynk.issue()
    query = {"token": token, "templateId": TEMPLATE}
    reply = await blynk.ask("HEAD", "/external/api/provision", **query)
    assert reply.status == 200
    assert await blynk.device(token) is None
