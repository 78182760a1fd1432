"""A device over CoAP, with aiocoap: it is provisioned, then sends a reading.

    python examples/coap_device.py [coap://127.0.0.1]

GATEHOUSE_KEY and GATEHOUSE_SECRET hold the fleet's key and secret.
"""

import asyncio
import json
import os
import secrets
import sys

from aiocoap import POST, Context, Message

GATEWAY = sys.argv[1] if len(sys.argv) > 1 else "coap://127.0.0.1"
NAME = f"coap-{secrets.token_hex(4)}"
JSON = 50
"""Content-Format (RFC 7252)."""


async def post(context: Context, path: str, body: dict[str, object]) -> Message:
    request = Message(code=POST, uri=f"{GATEWAY}/api/v1/{path}", payload=json.dumps(body).encode())
    request.opt.content_format = request.opt.accept = JSON  # refusals with `status` in words, too
    return await asyncio.wait_for(context.request(request).response, 15)


async def main() -> None:
    context = await Context.create_client_context()
    asked: dict[str, object] = {
        "deviceName": NAME,
        "provisionDeviceKey": os.environ["GATEHOUSE_KEY"],
        "provisionDeviceSecret": os.environ["GATEHOUSE_SECRET"],
    }
    told = json.loads((await post(context, "provision", asked)).payload)
    if told["status"] != "SUCCESS":  # 2.01 comes with credentials, 4.00 with what went wrong
        sys.exit(f"{NAME} was refused: {told['errorMsg']}")
    sent = await post(context, f"{told['credentialsValue']}/telemetry", {"temperature": 21.5})
    if not sent.code.is_successful():
        sys.exit(f"{NAME}: the reading was answered {sent.code}")
    await context.shutdown()
    print(f"{NAME} is provisioned and has sent a reading")


asyncio.run(main())
