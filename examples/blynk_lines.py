"""How a Blynk device talks to its cloud: over HTTP, over MQTT, or by Blynk's binary protocol.

Three lines with the same four verbs. `open` logs in with the token and names the template: with a
provision token that is the claim, with one that was claimed before it is a login like any other.
Everything else a device does is left out.
"""

import json
import select
import socket
import ssl
import struct
import time
from queue import Empty, Queue
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from paho.mqtt.client import CallbackAPIVersion, Client

WAIT_S, HEARTBEAT_S = 15, 45
RESULTS = {
    0: "ok",
    700: "bad configuration",
    701: "network not reachable",
    702: "cloud not reachable",
    703: "invalid token",
    705: "the cloud said something else",
    710: "no such host",
    711: "TLS certificate",
    720: "network not found",
    722: "wrong Wi-Fi credentials",
}
"""What devices report of a set-up; those a Wi-Fi board without a cable and a SIM can meet."""
VERSION, BUILD = "1.0.0", "Nov 21 2026 12:00:00"


class SetupError(Exception):
    """The set-up ended with one of `RESULTS`."""

    def __init__(self, code, why=""):
        super().__init__(why or RESULTS[code])
        self.code = code


def unreachable(trouble):
    """The result that an `OSError` on the way to the cloud comes to."""
    reason = trouble.reason if isinstance(trouble, URLError) else trouble
    if isinstance(reason, socket.gaierror):
        return SetupError(710)
    if isinstance(reason, ssl.SSLError):
        return SetupError(711)
    return SetupError(702)


# ── HTTP ──────────────────────────────────────────────────────────────────────────────────────


class HttpLine:
    """One request at a time. Nobody can tell such a device anything."""

    def __init__(self, host, port, token):
        self._url = f"{'https' if port == 443 else 'http'}://{host}:{port}/external/api"
        self._token = token

    def _get(self, call, **query):
        """Raises `SetupError`. The address holds the token: keep it out of logs."""
        address = f"{self._url}/{call}?{urlencode({'token': self._token, **query})}"
        try:
            with urlopen(address, timeout=WAIT_S) as answer:
                return answer.read().decode()
        except HTTPError as refused:
            with refused:
                told = json.load(refused)["error"]["message"]
            raise SetupError(703 if told == "Invalid token." else 705, told) from None
        except OSError as trouble:
            raise unreachable(trouble) from None

    def open(self, template):
        self._get("provision", templateId=template, ver=VERSION, build=BUILD, type="MCU")

    def set_meta(self, field, value):
        self._get("device/meta/update", metaFieldName=field, value=value)

    def write(self, pin, value):
        self._get("update", **{f"v{pin}": value})

    def order(self, wait_s, stop):
        """Ask nothing for so long, and be told nothing."""
        stop.wait(wait_s)
        return ""

    def close(self):
        pass


# ── MQTT ──────────────────────────────────────────────────────────────────────────────────────

BAD_TOKEN = 0x86
"""Code 4 of MQTT 3.1.1, as paho tells it."""


class MqttLine:
    """A session with the user name `device`; the password is the token."""

    def __init__(self, host, port, token):
        self._host, self._port = host, port
        self._events = Queue()
        self._client = client = Client(CallbackAPIVersion.VERSION2)
        client.username_pw_set("device", token)
        client.on_connect = lambda _c, _u, _f, code, _p: self._events.put(("connected", code))
        client.on_disconnect = lambda *_: self._events.put(("closed", ""))
        client.on_subscribe = lambda *_: self._events.put(("subscribed", ""))
        client.on_message = lambda _c, _u, one: self._events.put((one.topic, one.payload.decode()))

    def _await(self, wanted):
        """The next event of that name. What the server complains of ends the set-up."""
        while True:
            try:
                name, what = self._events.get(timeout=WAIT_S)
            except Empty:
                raise SetupError(702) from None
            if name == wanted:
                return what
            if name == "downlink/diag":
                raise SetupError(705, what)
            if name == "closed":
                raise SetupError(702)

    def open(self, template):
        try:
            self._client.connect(self._host, self._port, keepalive=HEARTBEAT_S)
        except OSError as trouble:
            raise unreachable(trouble) from None
        self._client.loop_start()
        code = self._await("connected")
        if code.is_failure:
            raise SetupError(703 if code.value == BAD_TOKEN else 702)
        self._client.subscribe("downlink/#", qos=1)
        self._await("subscribed")
        info = {"tmpl": template, "ver": VERSION, "build": BUILD, "type": template, "rxbuff": 1024}
        self._publish("info/mcu", json.dumps(info))
        self._publish("get/utc/all/json", "")  # only a device that was claimed is answered
        self._await("downlink/utc/all/json")

    def _publish(self, topic, text):
        self._client.publish(topic, text, qos=1).wait_for_publish(WAIT_S)

    def set_meta(self, field, value):
        self._publish(f"meta/{field}", value)

    def write(self, pin, value):
        """Datastreams have names here; `Temperature` is that of pin 1 in our template."""
        self._publish({1: "ds/Temperature"}[pin], str(value))

    def order(self, wait_s, stop):
        """Wait for an order: "reconfigure", "reboot", or "" when there was none."""
        try:
            topic, _ = self._events.get(timeout=wait_s)
        except Empty:
            return ""
        if topic == "closed":
            raise SetupError(702)
        name = topic.removeprefix("downlink/")
        return name if name in ("reconfigure", "reboot") else ""

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


# ── the binary protocol ───────────────────────────────────────────────────────────────────────

RESPONSE, PING, INTERNAL, HARDWARE, LOGIN = 0, 6, 17, 20, 29
OK, INVALID_TOKEN = 200, 9
HEAD = struct.Struct(">BHH")
"""A command, the number of the message, and the length of its body; of a RESPONSE: its status."""


class BinaryLine:
    """Frames with a number each, which the server answers with a status."""

    def __init__(self, host, port, token):
        self._address, self._token = (host, port), token
        self._number, self._socket, self._asked_at = 0, None, 0.0
        self._orders = []

    def open(self, template):
        try:
            self._socket = socket.create_connection(self._address, timeout=WAIT_S)
            status = self._ask(LOGIN, self._token)
        except OSError as trouble:
            raise unreachable(trouble) from None
        if status != OK:
            raise SetupError(703 if status == INVALID_TOKEN else 705, f"the status is {status}")
        info = {"mcu": VERSION, "fw-type": template, "build": BUILD, "blynk": "1.4.0"}
        more = {"h-beat": HEARTBEAT_S, "buff-in": 1024, "dev": "Emulator", "tmpl": template}
        self._tell(INTERNAL, *(word for pair in (info | more).items() for word in pair))

    def set_meta(self, field, value):
        self._tell(INTERNAL, "meta", "set", field, value)

    def write(self, pin, value):
        self._tell(HARDWARE, "vw", pin, value)

    def _tell(self, command, *words):
        try:
            status = self._ask(command, *words)
        except OSError as trouble:
            raise unreachable(trouble) from None
        if status != OK:
            raise SetupError(705, f"the status is {status}")

    def _ask(self, command, *words):
        """Send a message; the status it is answered with. Orders that come meanwhile are kept."""
        self._number += 1
        self._asked_at = time.monotonic()
        body = "\0".join(map(str, words)).encode()
        self._socket.sendall(HEAD.pack(command, self._number, len(body)) + body)
        while True:
            came, number, body_or_status = self._read()
            if (came, number) == (RESPONSE, self._number):
                return body_or_status

    def _read(self):
        """One frame; its body, or the status of a RESPONSE."""
        command, number, length = HEAD.unpack(self._exactly(HEAD.size))
        if command == RESPONSE:
            return command, number, length
        words = self._exactly(length).decode().split("\0")
        if command == INTERNAL and words[0] == "dbg":
            self._orders.append(words[1].split()[0])
        if command == PING:
            self._socket.sendall(HEAD.pack(RESPONSE, number, OK))
        return command, number, words

    def _exactly(self, count):
        heard = b""
        while len(heard) < count:
            part = self._socket.recv(count - len(heard))
            if not part:
                raise ConnectionError("the server hung up")
            heard += part
        return heard

    def order(self, wait_s, stop):
        """The console's word for reconfigure is `config`."""
        try:
            if time.monotonic() - self._asked_at > HEARTBEAT_S / 2:
                self._ask(PING)
            if not self._orders and select.select([self._socket], [], [], wait_s)[0]:
                self._read()
        except OSError as trouble:
            raise unreachable(trouble) from None
        word = self._orders.pop(0) if self._orders else ""
        return "reconfigure" if word == "config" else word

    def close(self):
        if self._socket is not None:
            self._socket.close()


LINES = {"http": HttpLine, "mqtt": MqttLine, "blynk": BinaryLine}
"""By the scheme of the address that the app was given."""
