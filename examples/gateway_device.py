"""A gateway over MQTT, with paho-mqtt: it speaks for two devices that cannot speak for themselves.

    python examples/gateway_device.py [mqtt://127.0.0.1]

GATEHOUSE_KEY and GATEHOUSE_SECRET hold the fleet's key and secret. The two need no key: they come
into being when the gateway first names them. Ctrl-C ends it.
"""

import json
import os
import secrets
import sys
import time
from contextlib import suppress
from queue import Queue
from urllib.parse import urlsplit

from paho.mqtt.client import CallbackAPIVersion, Client

GATEWAY = urlsplit(sys.argv[1] if len(sys.argv) > 1 else "mqtt://127.0.0.1")
NAME = f"gateway-{secrets.token_hex(4)}"
CHILDREN = {f"{NAME}-boiler": {"temperature": 62.5}, f"{NAME}-meter": {"power": 1250}}
ASKED = {
    "deviceName": NAME,
    "provisionDeviceKey": os.environ["GATEHOUSE_KEY"],
    "provisionDeviceSecret": os.environ["GATEHOUSE_SECRET"],
    "gateway": True,
}


def provisioned_token() -> str:
    """Be provisioned: in a session that may do nothing but ask."""
    answers = Queue()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe("/provision/response", qos=1)
    client.on_subscribe = lambda *_: client.publish("/provision/request", json.dumps(ASKED), qos=1)
    client.on_message = lambda _client, _userdata, message: answers.put(message.payload)
    client.username_pw_set("provision")
    client.connect(GATEWAY.hostname, GATEWAY.port or 1883)
    client.loop_start()
    told = json.loads(answers.get(timeout=15))
    client.disconnect()
    client.loop_stop()
    if told["status"] != "SUCCESS":
        sys.exit(f"{NAME} was refused: {told['errorMsg']}")
    return told["credentialsValue"]


def connected(client: Client, *_: object) -> None:
    client.subscribe([("v1/gateway/rpc", 1), ("v1/gateway/attributes", 1)])


def subscribed(client: Client, *_: object) -> None:
    """Name both, so that they can be called, and send a reading of each in one message."""
    for child in CHILDREN:
        client.publish("v1/gateway/connect", json.dumps({"device": child}), qos=1)
    now = round(time.time() * 1000)
    told = {child: [{"ts": now, "values": values}] for child, values in CHILDREN.items()}
    client.publish("v1/gateway/telemetry", json.dumps(told), qos=1)
    print(f"{NAME} speaks for {' and '.join(CHILDREN)}", flush=True)


def heard(client: Client, _userdata: object, message: object) -> None:
    """A call of one of the two, which is answered in its name, or a change of its attributes."""
    told = json.loads(message.payload)
    child, data = told["device"], told["data"]
    if message.topic == "v1/gateway/attributes":
        print(f"{child} hears of {', '.join(data.get('deleted', data))}", flush=True)
        return
    answer = CHILDREN[child] if data["method"] == "read" else {"error": "no such method"}
    told = {"device": child, "id": data["id"], "data": answer}
    client.publish(message.topic, json.dumps(told), qos=1)
    print(f"{child} was called: {data['method']}", flush=True)


with suppress(KeyboardInterrupt):
    gateway = Client(CallbackAPIVersion.VERSION2)
    gateway.username_pw_set(provisioned_token())
    gateway.on_connect, gateway.on_subscribe, gateway.on_message = connected, subscribed, heard
    gateway.connect(GATEWAY.hostname, GATEWAY.port or 1883)
    gateway.loop_forever()
