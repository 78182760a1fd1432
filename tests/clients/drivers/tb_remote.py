"""ThingsBoard's SDK under remote control, with the interpreter it is installed for: one client.

The first line on standard input makes it: {"make": "device", "arguments": {...}}; "gateway" and
"http" are the others. Every further line is a call of one of its methods:

    {"call": "send_telemetry", "arguments": [{"temperature": 21.5}], "keywords": {}}

Each line is answered by one on standard output: what was returned, as JSON. "@name" among the
arguments stands for a callback. What callbacks are given is kept in order, each as
[name, given, ...], and {"call": "take", "arguments": [seconds]} takes the eldest; null when there
is none in that time. What a publish returns is awaited and told as the reason code of each PUBACK.
"""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import sys
import time
from collections.abc import Callable
from typing import Any

from tb_device_http import TBHTTPDevice
from tb_device_mqtt import TBDeviceMqttClient, TBPublishInfo
from tb_gateway_mqtt import TBGatewayMqttClient

WAIT_S = 10
KINDS = {"device": TBDeviceMqttClient, "gateway": TBGatewayMqttClient, "http": TBHTTPDevice}


class Remote:
    """One client of the SDK, and what its callbacks were given."""

    def __init__(self, make: str, arguments: dict[str, Any]) -> None:
        self._client = KINDS[make](**arguments)
        self._given: queue.Queue[list[Any]] = queue.Queue()
        self._acknowledged: dict[int, int] = {}
        if make != "http":
            self._watch_acknowledgements()

    def _watch_acknowledgements(self) -> None:
        paho = self._client._client
        told = paho.on_publish

        def on_publish(client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
            told(client, userdata, mid, reason, properties)
            self._acknowledged[mid] = reason.value

        paho.on_publish = on_publish

    def call(
        self,
        call: str,
        arguments: tuple[Any, ...] = (),
        keywords: dict[str, Any] | None = None,
    ) -> Any:
        """What the method of this name gives back, as JSON can say it."""
        own: dict[str, Callable[..., Any]] = {
            "take": self.take,
            "begin": self.begin,
            "limits": self.limits,
        }
        method = own[call] if call in own else getattr(self._client, call)
        named = {name: self._argument(value) for name, value in (keywords or {}).items()}
        return self._result(method(*map(self._argument, arguments), **named))

    def take(self, within_s: float) -> list[Any] | None:
        try:
            return self._given.get(timeout=within_s)
        except queue.Empty:
            return None

    def begin(self) -> None:
        """Connect, and wait for the session limits: the subscriptions sent before them stand."""
        self._client.connect()
        wait_until(lambda: self._client.rate_limits_received)

    def limits(self) -> dict[str, Any]:
        """What the SDK made of the session limits it was told."""
        client = self._client
        rates = (
            client._messages_rate_limit,
            client._telemetry_rate_limit,
            client._telemetry_dp_rate_limit,
        )
        return {
            "max_payload": client.max_payload_size,
            "max_inflight": client._client._max_inflight_messages,
            "limited": [rate.has_limit() for rate in rates],
        }

    def _argument(self, argument: Any) -> Any:
        if not isinstance(argument, str) or not argument.startswith("@"):
            return argument

        def callback(*given: Any) -> None:
            others = [plain(one) for one in given if one is not self._client]
            self._given.put([argument[1:], *others])

        return callback

    def _result(self, result: Any) -> Any:
        if not isinstance(result, TBPublishInfo):
            return result
        mid = result.mid()
        mids = mid if isinstance(mid, list) else [mid]
        wait_until(lambda: all(one in self._acknowledged for one in mids))
        return [self._acknowledged[one] for one in mids]


def plain(given: Any) -> Any:
    """What a callback was given, as JSON can say it."""
    if isinstance(given, bytes):
        return {"bytes": len(given), "sha256": hashlib.sha256(given).hexdigest()}
    return type(given).__name__ if isinstance(given, Exception) else given


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait for what the SDK's threads do. Raises `TimeoutError`."""
    give_up = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError
        time.sleep(0.02)


def main() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    remote = Remote(**json.loads(sys.stdin.readline()))
    print("null", flush=True)
    for line in sys.stdin:
        print(json.dumps(remote.call(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
