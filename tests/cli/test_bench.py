"""`gatehouse bench`: that its figures are of what they claim to be. Speed itself is not tested."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.bench import ROWS, command
from gateway.core.model import Wire
from gateway.simulator import Fleet
from gateway.simulator.bare import ANSWER, SERVERS, packet_end
from gateway.simulator.load import LoadFailed, put_load
from gateway.simulator.processes import (
    FleetPair,
    Server,
    ServerFailed,
    gateway_process,
    server_process,
)
from gateway.simulator.tally import Tally, percentile
from gateway.transports.mqtt.encoder import (
    encode_ack,
    encode_connack,
    encode_connect,
    encode_disconnect,
    encode_publish,
    encode_suback,
    encode_subscribe,
)
from gateway.transports.mqtt.packets import PUBACK, Connect, Subscribe

LOADS = (("http", "http"), ("mqtt", "mqtt"), ("mqtt-cycle", "mqtt"), ("coap", "coap"))
PAIR = FleetPair.random()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with gateway_process(folder, PAIR, settings={"GATEHOUSE_LOG_LEVEL": "warning"}) as one:
        yield one


def _devices(folder: Path) -> int:
    connection = sqlite3.connect(f"file:{folder / 'data' / 'gatehouse.db'}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM device").fetchone()[0])
    finally:
        connection.close()


@pytest.mark.parametrize(("load", "port"), LOADS)
def test_each_answer_counted_is_a_device_stored(
    server: Server, folder: Path, load: str, port: str
) -> None:
    """A load counts as answered only what the store then holds."""
    before = _devices(folder)
    measured = uvloop.run(put_load(load, server.ports[port], PAIR, at_once=4, seconds=0.2))

    assert measured.answered > 0
    assert measured.failed == 0
    # What was under way at the end is answered, but no longer counted.
    assert measured.answered <= _devices(folder) - before <= measured.answered + 4
    assert 0 < measured.p50_ms <= measured.p99_ms


@pytest.mark.parametrize(("load", "port"), LOADS)
def test_a_refusal_is_never_counted_as_an_answer(server: Server, load: str, port: str) -> None:
    """With a wrong secret every answer is a failure."""
    wrong = FleetPair(PAIR.key, FleetPair.random().secret)
    measured = uvloop.run(put_load(load, server.ports[port], wrong, at_once=2, seconds=0.2))

    assert measured.answered == 0
    assert measured.failed > 0


@pytest.mark.parametrize("name", list(SERVERS))
def test_a_bare_handler_answers_the_same_load(name: str, tmp_path: Path) -> None:
    """Each bare handler speaks enough of its protocol for the load to take its answers."""
    loads = [row.name for row in ROWS if name in {bare.name for bare in row.bare}]
    assert loads
    with server_process(("-m", "gateway.simulator.bare", name), tmp_path, {}) as one:
        for load in loads:
            measured = uvloop.run(put_load(load, one.ports[name], PAIR, at_once=2, seconds=0.1))
            assert measured.answered > 0
            assert measured.failed == 0


@pytest.mark.parametrize("name", ["mqtt", "amqtt"])
def test_a_device_takes_a_bare_answer(name: str, tmp_path: Path) -> None:
    """A device of ours reads the constant answer from each of the bare MQTT servers."""

    async def provision(port: int) -> bytes:
        async with Fleet("127.0.0.1", {Wire.MQTT: port}, timeout_s=5) as fleet:
            return await fleet.device(Wire.MQTT).provision(b"{}")

    with server_process(("-m", "gateway.simulator.bare", name), tmp_path, {}) as one:
        assert uvloop.run(provision(one.ports[name])) == ANSWER


async def _talk(port: int, said: bytes) -> bytes:
    """All that the server answers until it closes the connection."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        writer.write_eof()
        heard = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        return heard


def test_bare_amqtt_answers_what_it_decoded(tmp_path: Path) -> None:
    """Only the request's topic is answered, only QoS 1 acknowledged, and a DISCONNECT obeyed."""
    said = (
        encode_connect(Connect(client_id="one", username="provision", version=4)),
        encode_subscribe(Subscribe(7, (("/provision/response", 1), ("other", 0))), 4),
        encode_publish(b"other", b"{}", 1, 8, 4),
        encode_publish(b"/provision/request", b"{}", 0, 0, 4),
        encode_publish(b"/provision/request", bytes(20_000), 1, 9, 4),
        encode_disconnect(0, 4),
    )
    response = encode_publish(b"/provision/response", ANSWER, 1, 1, 4)
    heard = (
        encode_connack(0, 4),
        encode_suback(7, (1, 1), 4),
        encode_ack(PUBACK, 8, 4),
        response,
        encode_ack(PUBACK, 9, 4),
        response,
    )

    with server_process(("-m", "gateway.simulator.bare", "amqtt"), tmp_path, {}) as one:
        assert uvloop.run(_talk(one.ports["amqtt"], b"".join(said))) == b"".join(heard)
    assert (tmp_path / "server.log").read_text() == ""


def test_bare_amqtt_survives_what_it_cannot_read(tmp_path: Path) -> None:
    """Half a packet, or none of MQTT's, ends that connection and no other, without a complaint."""
    hello = encode_connect(Connect(client_id="one", version=4))
    with server_process(("-m", "gateway.simulator.bare", "amqtt"), tmp_path, {}) as one:
        for wrong in (b"", hello[:5], b"\xf0\0", b"\x30\xff\xff\xff\xff\x01"):
            assert uvloop.run(_talk(one.ports["amqtt"], wrong)) == b""
        assert uvloop.run(_talk(one.ports["amqtt"], hello)) == encode_connack(0, 4)
    assert (tmp_path / "server.log").read_text() == ""


def test_amqtt_is_loaded_by_nothing_but_its_bare_server() -> None:
    """The command, the loads and the bare servers can be imported without amqtt."""
    seen = "import sys, gateway.cli.bench, gateway.simulator.bare; print('amqtt' in sys.modules)"
    done = subprocess.run((sys.executable, "-c", seen), capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("name", "handlers"),
    [
        ("http", ["aiohttp"]),
        ("mqtt", ["protocol", "amqtt"]),
        ("mqtt-cycle", ["protocol", "amqtt"]),
        ("coap", ["datagram", "aiocoap"]),
    ],
)
def test_the_command_tells_machine_rates_and_ratios(
    name: str, handlers: list[str], tmp_path: Path
) -> None:
    """JSON has the machine, a row as asked for, and its ratio to each handler; nothing is left."""
    words = ["--seconds=0.2", "--at-once=4", f"--only={name}", "--json", f"--folder={tmp_path}"]
    result = CliRunner().invoke(command, words)

    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["machine"]["cpu"]
    assert said["machine"]["sync_ms"] > 0
    (row,) = said["rows"]
    assert row["name"] == name
    assert row["gateway"]["answered"] > 0
    assert [bare["handler"] for bare in row["bare"]] == handlers
    for bare in row["bare"]:
        assert bare["ratio"] == pytest.approx(row["gateway"]["rate"] / bare["rate"], abs=0.01)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_row_is_status_2() -> None:
    """A row that does not exist is told with those that do, before anything is started."""
    result = CliRunner().invoke(command, ["--only=http,ftp"])

    assert result.exit_code == 2
    assert "'ftp'" in result.stderr
    assert "mqtt-cycle" in result.stderr


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The last line a server wrote is in the error."""
    with (
        pytest.raises(ServerFailed, match="no such wire"),
        server_process(("-c", "raise SystemExit('no such wire')"), tmp_path, {}),
    ):
        pass


def test_a_load_without_a_server_fails_in_a_sentence() -> None:
    """Nobody listening is told as such, not as a rate of zero."""
    with pytest.raises(LoadFailed, match="does not take connections"):
        uvloop.run(put_load("http", 1, PAIR, at_once=1, seconds=0.1))


def test_late_answers_are_not_counted() -> None:
    """What arrives after the end does not flatter the rate."""
    tally = Tally()
    tally.begin()
    tally.under_way = 2
    tally.count(0.0, good=True)
    measured = tally.end()
    tally.count(0.0, good=True)

    assert measured.answered == tally.answered == 1


def test_percentiles_of_few() -> None:
    """The median of nothing is 0, and the highest percentile is the largest value."""
    assert percentile([], 0.5) == 0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0], 0.999) == 3.0


@given(body=st.binary(max_size=20_000), cut=st.integers(0, 25_000), before=st.binary(max_size=9))
@settings(deadline=None, max_examples=60)
def test_a_packet_ends_where_its_length_says(body: bytes, cut: int, before: bytes) -> None:
    """A packet is found behind any other bytes, exactly when all of it is there."""
    length, digits = len(body), []
    while not digits or length:
        digits.append(length & 0x7F | (0x80 if length >> 7 else 0))
        length >>= 7
    packet = b"\x30" + bytes(digits) + body
    part = before + packet[:cut]

    assert packet_end(before + packet + b"\x20\x02", len(before)) == len(before + packet)
    assert (packet_end(part, len(before)) is None) == (cut < len(packet))
