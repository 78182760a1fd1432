"""A device over HTTP, on nothing but the standard library: it is provisioned, then sends a reading.

    python examples/http_device.py [http://127.0.0.1:8080]

GATEHOUSE_KEY and GATEHOUSE_SECRET hold the fleet's key and secret.
"""

import json
import os
import secrets
import sys
from urllib.request import Request, urlopen

GATEWAY = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
NAME = f"http-{secrets.token_hex(4)}"


def post(path: str, body: dict[str, object]) -> bytes:
    request = Request(f"{GATEWAY}/api/v1/{path}", json.dumps(body).encode(), method="POST")
    request.add_header("Accept", "application/json")  # refusals with `status` in words, too
    with urlopen(request, timeout=15) as answer:
        return bytes(answer.read())


asked: dict[str, object] = {
    "deviceName": NAME,
    "provisionDeviceKey": os.environ["GATEHOUSE_KEY"],
    "provisionDeviceSecret": os.environ["GATEHOUSE_SECRET"],
}
told = json.loads(post("provision", asked))  # a refusal is 200 as well: `status` tells
if told["status"] != "SUCCESS":
    sys.exit(f"{NAME} was refused: {told['errorMsg']}")

post(f"{told['credentialsValue']}/telemetry", {"temperature": 21.5})
print(f"{NAME} is provisioned and has sent a reading")
