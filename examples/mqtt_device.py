"""A device over MQTT, with paho-mqtt: it is provisioned, logs in with its token, sends a reading.

    python examples/mqtt_device.py [mqtt://127.0.0.1]

GATEHOUSE_KEY and GATEHOUSE_SECRET hold the fleet's key and secret.
"""

import json
import os
import secrets
import sys
from queue import Queue
from urllib.parse import urlsplit

from paho.mqtt.client import CallbackAPIVersion, Client

GATEWAY = urlsplit(sys.argv[1] if len(sys.argv) > 1 else "mqtt://127.0.0.1")
NAME = f"mqtt-{secrets.token_hex(4)}"
ASKED = {
    "deviceName": NAME,
    "provisionDeviceKey": os.environ["GATEHOUSE_KEY"],
    "provisionDeviceSecret": os.environ["GATEHOUSE_SECRET"],
}
answers = Queue()
client = Client(CallbackAPIVersion.VERSION2)
client.on_connect = lambda *_: client.subscribe("/provision/response", qos=1)
client.on_subscribe = lambda *_: client.publish("/provision/request", json.dumps(ASKED), qos=1)
client.on_message = lambda _client, _userdata, message: answers.put(json.loads(message.payload))
client.username_pw_set("provision")  # a session of this name may do nothing but ask
client.connect(GATEWAY.hostname, GATEWAY.port or 1883)
client.loop_start()
told = answers.get(timeout=15)
client.disconnect()
client.loop_stop()
if told["status"] != "SUCCESS":
    sys.exit(f"{NAME} was refused: {told['errorMsg']}")

device = Client(CallbackAPIVersion.VERSION2)
device.username_pw_set(told["credentialsValue"])  # the token alone is the login
device.connect(GATEWAY.hostname, GATEWAY.port or 1883)
device.loop_start()
sent = device.publish("v1/devices/me/telemetry", json.dumps({"temperature": 21.5}), qos=1)
sent.wait_for_publish(15)  # until it is acknowledged, and so on the gateway's disk
device.disconnect()
device.loop_stop()
if not sent.is_published():
    sys.exit(f"{NAME} is provisioned, but its reading was not taken")
print(f"{NAME} is provisioned and has sent a reading")
