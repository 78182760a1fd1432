"""ThingsBoard's own IoT Gateway (`thingsboard-gateway`), with one child behind its TCP socket.

It provisions itself as MQTT 3.1.1 and works as MQTT 5. Of its child it reads the first four bytes
as a temperature and the rest as a unit. To a child that hung up it connects at the port the child
last spoke from; to one that did not, it can only write what the operator's call `set` names.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import RunningGateway

PROGRAM = Path(__file__).parent / ".programs" / "iot-gateway"
WAIT_S = 15
DEAD_PROXY = "http://127.0.0.1:9"  # it asks its maker's server for updates; nothing listens here


class IotGateway:
    """The program, while it runs: the port of its socket connector, and its log."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log

    def child(self) -> Child:
        return Child(self.port)

    def wait_for_port(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + WAIT_S
        while process.poll() is None and time.monotonic() < give_up:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                time.sleep(0.1)
            else:
                return
        pytest.fail(f"the IoT Gateway does not listen:\n{self.log.read_text()}")


class Child:
    """A device behind the IoT Gateway's socket: it speaks and is spoken to at one port."""

    def __init__(self, port: int) -> None:
        # The port is bound first: one that is picked by connecting may be somebody else's, too.
        self._door, self._line = _reusable(), _reusable()
        self._door.bind(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self._line.bind(("127.0.0.1", self.port))
        self._line.connect(("127.0.0.1", port))
        self._door.listen()

    def say(self, words: bytes) -> None:
        self._line.sendall(words)

    def hear(self) -> bytes:
        """What comes over the line the child opened."""
        return self._line.recv(1024)

    def hang_up(self) -> None:
        self._line.close()

    def hear_call(self) -> bytes:
        """All that comes over the next line the IoT Gateway opens."""
        line, _ = self._door.accept()
        with line:
            line.settimeout(WAIT_S)
            return b"".join(iter(lambda: line.recv(1024), b""))

    def close(self) -> None:
        self._line.close()
        self._door.close()


def _reusable() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(WAIT_S)
    return made


@pytest.fixture(scope="module")
def iot_gateway(
    gate: RunningGateway,
    client_missing: Callable[[str, str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[IotGateway]:
    """The IoT Gateway, provisioned, at work, and ended by SIGINT."""
    if not (PROGRAM / ".filled-from").exists():
        client_missing("thingsboard-gateway", "make clients")
    folder = tmp_path_factory.mktemp("iot-gateway")
    made = IotGateway(_free_port(), folder / "log")
    for name, settings in _settings(gate, made.port).items():
        (folder / name).write_text(json.dumps(settings))
    with made.log.open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM / "bin" / "thingsboard-gateway"],
            cwd=folder,
            env=_environ(folder),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    with process:
        try:
            made.wait_for_port(process)
            yield made
            process.send_signal(signal.SIGINT)
            process.wait(timeout=WAIT_S)
        finally:
            process.kill()


def _free_port() -> int:
    with closing(socket.socket()) as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def _environ(folder: Path) -> dict[str, str]:
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), DEAD_PROXY)
    own = {"TB_GW_CONFIG_DIR": str(folder), "PIP_NO_INDEX": "1"}
    return {**os.environ, **proxies, **own}


def _settings(gate: RunningGateway, port: int) -> dict[str, dict[str, Any]]:
    """The files the IoT Gateway reads, by name."""
    key, secret = gate.pairs["create"]
    off = {"enable": False}
    return {
        "tb_gateway.json": {
            "thingsboard": {
                "host": "127.0.0.1",
                "port": gate.mqtt,
                "remoteShell": False,
                "remoteConfiguration": False,
                "statistics": off,
                "deviceFiltering": off,
                "provisioning": {
                    "type": "ACCESS_TOKEN",
                    "provisionDeviceKey": key,
                    "provisionDeviceSecret": secret,
                    "deviceName": "iot-gateway",
                },
            },
            "storage": {"type": "memory", "read_records_count": 100, "max_records_count": 1000},
            "grpc": {"enabled": False},
            "connectors": [{"type": "socket", "name": "sockets", "configuration": "socket.json"}],
        },
        "socket.json": {
            "socket": {"type": "TCP", "address": "127.0.0.1", "port": port, "bufferSize": 1024},
            "devices": [_child_settings()],
        },
        "logs.json": {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"all": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
            "root": {"level": "INFO", "handlers": ["all"]},
        },
    }


def _child_settings() -> dict[str, Any]:
    return {
        "address": "127.0.0.1:*",
        "deviceName": "pump",
        "deviceType": "pumps",
        "encoding": "utf-8",
        "telemetry": [{"key": "temperature", "byteFrom": 0, "byteTo": 4}],
        "attributes": [{"key": "unit", "byteFrom": 4, "byteTo": -1}],
        "attributeRequests": [
            {
                "type": "shared",
                "requestExpression": "${[0:3]==ask}",
                "attributeNameExpression": "[3:]",
            }
        ],
        "attributeUpdates": [{"encoding": "utf-8", "attributeOnThingsBoard": "target"}],
        "serverSideRpc": [
            {
                "methodRPC": "open",
                "methodProcessing": "write",
                "withResponse": True,
                "encoding": "utf-8",
            }
        ],
    }


@pytest.fixture
def child(iot_gateway: IotGateway) -> Iterator[Child]:
    with closing(iot_gateway.child()) as made:
        yield made


def speak(child: Child, gate: RunningGateway, iot_gateway: IotGateway, temperature: float) -> None:
    """Send a reading and wait for it: the IoT Gateway then knows the child and where it is."""
    child.say(f"{temperature}kPa".encode())
    give_up = time.monotonic() + WAIT_S
    while gate.readings("pump") != {"temperature": temperature}:
        assert time.monotonic() < give_up, iot_gateway.log.read_text()
        time.sleep(0.02)


def test_what_a_child_says_is_its_reading(
    gate: RunningGateway, iot_gateway: IotGateway, child: Child
) -> None:
    """A child's bytes become a reading of a device of the child's name and type."""
    speak(child, gate, iot_gateway, 21.5)

    assert gate.device("iot-gateway")["gateway"] is True
    assert gate.device("pump")["type"] == "pumps"
    assert gate.device("pump")["gateway"] is False


def test_an_operators_call_is_answered_by_the_connector(
    gate: RunningGateway, iot_gateway: IotGateway, child: Child
) -> None:
    """A call of the child is written to it, and what became of that is the operator's answer."""
    speak(child, gate, iot_gateway, 22.5)
    asked = gate.rpc("pump", "set", f"address=127.0.0.1;port={child.port};value=open")

    assert child.hear() == b"open"
    assert asked.result(WAIT_S) == {"result": "ok"}


def test_a_configured_method_reaches_a_child_that_hung_up(
    gate: RunningGateway, iot_gateway: IotGateway, child: Child
) -> None:
    """A call of a method the connector knows is taken to where the child last was."""
    speak(child, gate, iot_gateway, 23.5)
    child.hang_up()
    asked = gate.rpc("pump", "open", "valve")

    assert child.hear_call() == b"valve"
    assert asked.result(WAIT_S) == {"result": "ok"}


def test_a_shared_attribute_reaches_the_child(
    gate: RunningGateway, iot_gateway: IotGateway, child: Child
) -> None:
    """What an operator sets for the child is taken to it."""
    speak(child, gate, iot_gateway, 24.5)
    child.hang_up()
    gate.share("pump", target=65)

    assert child.hear_call() == b"65"


def test_a_child_asks_for_a_shared_attribute(
    gate: RunningGateway, iot_gateway: IotGateway, child: Child
) -> None:
    """A child that asks for what an operator set is told."""
    speak(child, gate, iot_gateway, 25.5)
    gate.share("pump", highest=80)
    child.say(b"askhighest")
    child.hang_up()

    assert child.hear_call() == b"80"


def test_the_iot_gateway_answers_for_itself(
    gate: RunningGateway, iot_gateway: IotGateway, child: Child
) -> None:
    """Calls of the IoT Gateway's own device are answered: it lives, and names its children."""
    speak(child, gate, iot_gateway, 26.5)

    assert gate.rpc("iot-gateway", "gateway_ping").result(WAIT_S) == {"code": 200, "resp": "pong"}
    told = gate.rpc("iot-gateway", "gateway_devices").result(WAIT_S)
    assert told == {"code": 200, "resp": {"pump": "sockets"}}
