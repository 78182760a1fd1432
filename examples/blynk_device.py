"""A device with a Blynk token, over HTTP or MQTT: it claims the token, then sends a reading.

    python examples/blynk_device.py [http://127.0.0.1:8080 | mqtt://127.0.0.1:1883] [TEMPLATE]

GATEHOUSE_TOKEN holds the token, as `gatehouse ticket issue` printed it; mqtt:// needs `paho-mqtt`.
The token is the device's only credential from the claim on, and claiming it again changes nothing:
run this as often as you like.
"""

import json
import os
import sys
from queue import Queue
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

GATEWAY = urlsplit(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080")
TEMPLATE = sys.argv[2] if len(sys.argv) > 2 else "TMPLexample01"
TOKEN = os.environ.get("GATEHOUSE_TOKEN") or sys.exit(
    "GATEHOUSE_TOKEN is not set: `gatehouse ticket issue` prints a token for it"
)


def over_http() -> None:
    """Only the status tells: 200 is success, 400 is not, with a sentence."""

    def get(call: str, **query: str) -> None:
        address = f"{GATEWAY.geturl()}/external/api/{call}?{urlencode({'token': TOKEN, **query})}"
        try:
            with urlopen(address, timeout=15):
                pass
        except HTTPError as refused:
            with refused:
                sys.exit(f"refused: {json.load(refused)['error']['message']}")

    get("provision", templateId=TEMPLATE, ver="1.0.0", type="MCU")
    get("update", v1="21.5")


def over_mqtt() -> None:
    """The login alone is no claim: `info/mcu` is. What goes wrong arrives as text."""
    from paho.mqtt.client import CallbackAPIVersion, Client

    heard: Queue[str] = Queue()
    client = Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set("device", TOKEN)
    client.on_connect = lambda _c, _u, _f, code, _p: heard.put(str(code))
    client.on_subscribe = lambda *_: heard.put("subscribed")
    client.on_message = lambda _c, _u, message: heard.put(message.payload.decode())
    client.connect(GATEWAY.hostname or "127.0.0.1", GATEWAY.port or 1883, keepalive=45)
    client.loop_start()
    if (code := heard.get(timeout=15)) != "Success":
        sys.exit(f"refused: {code}")
    client.subscribe("downlink/diag", qos=1)
    heard.get(timeout=15)
    info = json.dumps({"tmpl": TEMPLATE, "ver": "1.0.0", "type": TEMPLATE})
    for topic, text in (("info/mcu", info), ("ds/Temperature", "21.5")):
        client.publish(topic, text, qos=1).wait_for_publish(15)
    client.disconnect()
    client.loop_stop()
    if not heard.empty():
        sys.exit(f"refused: {heard.get()}")


(over_mqtt if GATEWAY.scheme == "mqtt" else over_http)()
print("the token is claimed and a reading was sent")
