"""No room on the disk, or no right to write to it: told in each wire's words, and got over."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from house import Gatehouse, NewGatehouse
from wires import DISCONNECT, POST, PUBACK, Ports, coap, dotted, http, knows, mqtt, provision

UNLIMITED = resource.RLIM_INFINITY


def limit_files(house: Gatehouse, size: int) -> None:
    """No file of the process may grow past `size` bytes; a write that would, fails (EFBIG)."""
    resource.prlimit(house.running.pid, resource.RLIMIT_FSIZE, (size, UNLIMITED))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB that is this test's alone."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def told_on_every_wire(house: Gatehouse, name: str) -> None:
    """Section 2.9: HTTP 500 and CoAP 5.00 without a word, MQTT PUBACK and goodbye, 0x83 for 5."""
    async with http(house.ports.http) as web:
        reply = await web.ask("POST", "/api/v1/provision", house.request(name))
        assert (reply.status, reply.body) == (500, b"")
    async with coap(house.ports.coap) as device:
        answer = await device.ask(POST, "api/v1/provision", house.request(name))
        assert (dotted(answer), answer.payload) == ("5.00", b"")
    for version in (3, 4, 5):
        for qos in (0, 1):
            async with mqtt(house.ports.mqtt, version) as session:
                assert await session.connect("provision") == 0
                session.publish("/provision/request", house.request(name), qos)
                code = 0x83 if version == 5 else 0
                goodbye = [(DISCONNECT, 0x83)] if version == 5 else []
                acknowledged = [(PUBACK, code)] * qos
                assert await session.outcome() == [*acknowledged, *goodbye, (0, 0)]


async def a_device_is_told(house: Gatehouse, token: str) -> None:
    """A device that is already in gets no acknowledgement, and may try again (7.4)."""
    async with http(house.ports.http) as web:
        reply = await web.ask("POST", f"/api/v1/{token}/telemetry", b'{"n":1}')
        assert (reply.status, reply.body) == (500, b"")
    async with coap(house.ports.coap) as device:
        answer = await device.ask(POST, f"api/v1/{token}/telemetry", b'{"n":1}')
        assert (dotted(answer), answer.payload) == ("5.00", b"")
    for version in (4, 5):
        async with mqtt(house.ports.mqtt, version) as session:
            assert await session.connect("c", token) == 0
            session.publish("v1/devices/me/telemetry", b'{"n":1}', 1)
            goodbye = [(DISCONNECT, 0x83)] if version == 5 else []
            assert await session.outcome() == [*goodbye, (0, 0)]


async def readiness(house: Gatehouse, wanted: int, within_s: float = 5) -> bytes:
    """Wait until `/readyz` answers `wanted`; its body."""
    give_up = time.monotonic() + within_s
    while True:
        status, body = await house.ready()
        if status == wanted:
            return body
        assert time.monotonic() < give_up, (status, body)
        await asyncio.sleep(0.1)


async def full_and_free_again(
    house: Gatehouse, fill: Callable[[], None], empty: Callable[[], None]
) -> None:
    """The whole story: served, full, told so on all wires, free, served again."""
    answer = await provision(house.ports, "http", house.request("before"))
    token = json.loads(answer)["credentialsValue"]
    assert await readiness(house, 200)
    fill()
    await told_on_every_wire(house, "meanwhile")
    await a_device_is_told(house, token)
    assert json.loads(await readiness(house, 503))["checks"]["store"] == "cannot be written"
    assert await knows(house.ports, token), "reading needs no room"
    empty()
    assert json.loads(await readiness(house, 200))["status"] == "ready"
    for wire in ("http", "mqtt311", "coap"):
        answer = await provision(house.ports, wire, house.request(f"after-{wire}"))
        assert b"SUCCESS" in answer
    assert b"SUCCESS" in await provision(house.ports, "http", house.request("meanwhile"))
    assert await knows(house.ports, token)
    assert house.rows("PRAGMA integrity_check") == [("ok",)]
    house.running.terminate()
    assert await asyncio.to_thread(house.wait) == 0
    assert house.log().count('"store.unavailable"') == 1, "said once, not once for each call"
    assert '"store.recovered"' in house.log()
    assert "Traceback" not in house.log()


async def test_files_that_may_not_grow(house: Gatehouse) -> None:
    """A limit on the size of files is a full disk, and its end is noticed without a restart."""
    await full_and_free_again(
        house, lambda: limit_files(house, 4096), lambda: limit_files(house, UNLIMITED)
    )


async def test_a_disk_that_is_full(new_gatehouse: NewGatehouse, small_disk: Path) -> None:
    """A file system without a free byte, and then with some."""
    house = new_gatehouse(GATEHOUSE_STORE_URL=f"sqlite:{small_disk / 'gate.db'}")
    house.database = small_disk / "gate.db"
    house.start()
    ballast = small_disk / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    await full_and_free_again(house, fill, ballast.unlink)


async def test_a_folder_that_turns_read_only(new_gatehouse: NewGatehouse, small_disk: Path) -> None:
    """A data folder that cannot be written any more is a full disk to the devices."""
    house = new_gatehouse(GATEHOUSE_STORE_URL=f"sqlite:{small_disk / 'data' / 'gate.db'}")
    house.start()
    answer = await provision(house.ports, "http", house.request("before"))
    assert b"SUCCESS" in answer
    house.running.terminate()
    assert await asyncio.to_thread(house.wait) == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused_to_start(house, "gate.db")


def refused_to_start(house: Gatehouse, names: str) -> None:
    """One sentence that names the culprit and says what to do, status 1, no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--quiet"],
        env=house.environ,
        cwd=house.folder,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1, done
    assert names in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


async def test_a_log_that_cannot_be_written(new_gatehouse: NewGatehouse) -> None:
    """Devices are served although every line of the log is lost to a full disk."""
    house = new_gatehouse()
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", "--quiet"],
            env=house.environ,
            cwd=house.folder,
            stdout=subprocess.PIPE,
            stderr=full,
        )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            house.ports = Ports(*map(int, re.findall(rb"=(\d+)", line)))
            for wire in ("http", "mqtt5", "coap"):
                answer = await provision(house.ports, wire, house.request(f"d-{wire}"))
                assert b"SUCCESS" in answer
        finally:
            process.terminate()


def test_a_start_on_an_unusable_folder(tmp_path: Path, new_gatehouse: NewGatehouse) -> None:
    """A data folder that cannot be made, or holds no database, ends the start with a sentence."""
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    house = new_gatehouse(GATEHOUSE_STORE_URL=f"sqlite:{in_the_way}/gate.db")
    refused_to_start(house, str(in_the_way))
    not_ours = tmp_path / "other.db"
    not_ours.write_bytes(b"this is no database, whatever its name says" * 100)
    (tmp_path / "master.key").write_text("ab" * 32)
    house = new_gatehouse(GATEHOUSE_STORE_URL=f"sqlite:{not_ours}")
    refused_to_start(house, str(not_ours))
    house = new_gatehouse(
        GATEHOUSE_STORE_URL=f"sqlite:{tmp_path / 'key' / 'gate.db'}", GATEHOUSE_MASTER_KEY="short"
    )
    refused_to_start(house, "GATEHOUSE_MASTER_KEY")
    house = new_gatehouse(GATEHOUSE_STORE_URL="sqlite:/proc/nowhere/gate.db")
    refused_to_start(house, "/proc/nowhere")


async def test_another_key_does_not_open_the_store(new_gatehouse: NewGatehouse) -> None:
    """With a lost master key the start fails with a sentence, and nothing is overwritten."""
    house = new_gatehouse()
    house.start()
    house.running.terminate()
    assert await asyncio.to_thread(house.wait) == 0
    house.environ["GATEHOUSE_MASTER_KEY"] = "00" * 32
    refused_to_start(house, "master key")
    del house.environ["GATEHOUSE_MASTER_KEY"]
    house.start()
    assert b"SUCCESS" in await provision(house.ports, "http", house.request("d"))
