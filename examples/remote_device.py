"""A device over MQTT, with paho-mqtt, that is operated from afar: it hears of shared attributes,
answers calls, and downloads, checks and installs the firmware it is to run.

    python examples/remote_device.py [mqtt://127.0.0.1]

GATEHOUSE_KEY and GATEHOUSE_SECRET hold the fleet's key and secret. Ctrl-C ends it.
"""

import hashlib
import json
import os
import secrets
import sys
from contextlib import suppress
from queue import Queue
from urllib.parse import urlsplit

from paho.mqtt.client import CallbackAPIVersion, Client

GATEWAY = urlsplit(sys.argv[1] if len(sys.argv) > 1 else "mqtt://127.0.0.1")
NAME = f"remote-{secrets.token_hex(4)}"
ME = "v1/devices/me/"
CHUNK = 4096  # bytes of the firmware in one message
FIRMWARE = ("fw_title", "fw_version", "fw_size", "fw_checksum", "fw_checksum_algorithm")
FILTERS = (
    f"{ME}attributes",
    f"{ME}attributes/response/+",
    f"{ME}rpc/request/+",
    "v2/fw/response/+/chunk/+",
)


def provisioned_token() -> str:
    """Be provisioned: in a session that may do nothing but ask."""
    asked = {
        "deviceName": NAME,
        "provisionDeviceKey": os.environ["GATEHOUSE_KEY"],
        "provisionDeviceSecret": os.environ["GATEHOUSE_SECRET"],
    }
    answers = Queue()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe("/provision/response", qos=1)
    client.on_subscribe = lambda *_: client.publish("/provision/request", json.dumps(asked), qos=1)
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


class Device:
    """What is asked of it, and what it answers."""

    def __init__(self, token: str) -> None:
        self.shared = {}  # the attributes that were shared with it, as far as it knows
        self.running = ("factory", "1.0")
        self.wanted = None  # title and version of the firmware that is being downloaded
        self.download = 0  # how many there were: the request id, so that no two mix
        self.content = bytearray()
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.username_pw_set(token)
        self.client.on_connect = self.connected
        self.client.on_subscribe = self.subscribed
        self.client.on_message = self.heard

    def connected(self, *_: object) -> None:
        self.client.subscribe([(one, 1) for one in FILTERS])

    def subscribed(self, *_: object) -> None:
        """Ask for what was shared while we were away; from now on we are told each change."""
        self.client.publish(f"{ME}attributes/request/1", b"{}", qos=1)
        print(f"{NAME} is ready", flush=True)

    def heard(self, _client: Client, _userdata: object, message: object) -> None:
        if message.topic.startswith(f"{ME}rpc/request/"):
            answer = json.dumps(self.called(**json.loads(message.payload)))
            self.client.publish(message.topic.replace("request", "response"), answer, qos=1)
        elif message.topic.startswith("v2/fw/response/"):
            request, number = message.topic.split("/")[3::2]
            if (int(request), int(number) * CHUNK) == (self.download, len(self.content)):
                self.took(message.payload)
        else:
            told = json.loads(message.payload)
            is_change = message.topic == f"{ME}attributes"
            self.attributes_changed(told if is_change else told.get("shared", {}))

    def called(self, method: str, params: object = None) -> object:
        match method:
            case "getTemperature":
                return {"temperature": 21.5}
            case "echo":
                return params
        return {"error": f"no method {method}"}

    # ── firmware ──────────────────────────────────────────────────────────────────────────────

    def attributes_changed(self, told: dict[str, object]) -> None:
        for key in told.pop("deleted", ()):
            self.shared.pop(key, None)
        self.shared |= told
        print(f"{NAME} hears of {', '.join(sorted(told)) or 'nothing'}", flush=True)
        wanted = (self.shared.get("fw_title"), self.shared.get("fw_version"))
        announced = all(key in self.shared for key in FIRMWARE)
        if announced and wanted not in (self.running, self.wanted):
            self.wanted = wanted
            self.download += 1
            self.content.clear()
            self.report("DOWNLOADING")
            self.ask_for_chunk()

    def ask_for_chunk(self) -> None:
        topic = f"v2/fw/request/{self.download}/chunk/{len(self.content) // CHUNK}"
        self.client.publish(topic, str(CHUNK), qos=1)

    def took(self, chunk: bytes) -> None:
        """One chunk after the other: a device has no more memory than it needs."""
        self.content += chunk
        if chunk and len(self.content) < self.shared["fw_size"]:
            self.ask_for_chunk()
            return
        self.report("DOWNLOADED")
        if self.checksum() != self.shared["fw_checksum"]:
            self.report("FAILED", fw_error="the checksum is another")
            return
        self.report("VERIFIED")
        self.report("UPDATING")  # here a device would write it to its flash, and start again
        self.running, self.wanted = self.wanted, None
        self.report("UPDATED")
        print(f"{NAME} runs {' '.join(self.running)}", flush=True)

    def checksum(self) -> str:
        """Of what was downloaded; of an algorithm this device does not know, none."""
        try:
            return hashlib.new(self.shared["fw_checksum_algorithm"], self.content).hexdigest()
        except ValueError:
            return ""

    def report(self, state: str, **more: str) -> None:
        title, version = self.running
        told = {"current_fw_title": title, "current_fw_version": version, "fw_state": state}
        self.client.publish(f"{ME}telemetry", json.dumps(told | more), qos=1)


with suppress(KeyboardInterrupt):
    device = Device(provisioned_token())
    device.client.connect(GATEWAY.hostname, GATEWAY.port or 1883)
    device.client.loop_forever()
