"""A device over CoAP that speaks CBOR: it is provisioned, then sends measurements in SenML.

    python examples/senml_device.py [coap://127.0.0.1]

GATEHOUSE_KEY and GATEHOUSE_SECRET hold the fleet's key and secret. One that is told to wait for an
operator (`gatehouse approve NAME`) asks again as late as it was told to.
"""

import asyncio
import os
import secrets
import sys
from typing import Any

import cbor2
from aiocoap import POST, Context, Message

GATEWAY = sys.argv[1] if len(sys.argv) > 1 else "coap://127.0.0.1"
NAME = f"senml-coap-{secrets.token_hex(4)}"
CBOR, SENML_CBOR = 60, 112
"""Content-Formats (RFC 8949, RFC 8428)."""
BASE_NAME, NAME_LABEL, UNIT, VALUE, TIME = -2, 0, 1, 2, 6
"""Labels of SenML in CBOR (RFC 8428, section 6)."""


async def post(context: Context, path: str, body: Any, content_format: int) -> Message:
    request = Message(
        code=POST,
        uri=f"{GATEWAY}/api/v1/{path}",
        payload=cbor2.dumps(body),
        content_format=content_format,
        accept=CBOR,  # refusals with `status` in words, too
    )
    return await asyncio.wait_for(context.request(request).response, 15)


async def provision(context: Context) -> str:
    """The token. The nonce stays the same: by it the gateway knows who asks again."""
    asked = {
        "deviceName": NAME,
        "provisionDeviceKey": os.environ["GATEHOUSE_KEY"],
        "provisionDeviceSecret": os.environ["GATEHOUSE_SECRET"],
        "nonce": secrets.token_hex(16),
    }
    while True:
        answer = await post(context, "provision", asked, CBOR)
        told = cbor2.loads(answer.payload)
        if told["status"] == "SUCCESS":
            return str(told["credentialsValue"])
        if told["status"] != "PENDING":
            sys.exit(f"{NAME} was refused: {told['errorMsg']}")
        print(f"{NAME} waits for an operator", file=sys.stderr)
        await asyncio.sleep(told["retryAfter"])


async def main() -> None:
    context = await Context.create_client_context()
    token = await provision(context)
    pack = [
        {BASE_NAME: "cellar:", NAME_LABEL: "temperature", UNIT: "Cel", VALUE: 21.5},
        {NAME_LABEL: "humidity", UNIT: "%RH", TIME: -10, VALUE: 48.25},  # ten seconds ago
    ]
    sent = await post(context, f"{token}/telemetry", pack, SENML_CBOR)
    if not sent.code.is_successful():
        sys.exit(f"{NAME}: the measurements were answered {sent.code}")
    await context.shutdown()
    print(f"{NAME} is provisioned and has sent a reading")


asyncio.run(main())
