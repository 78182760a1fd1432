"""SIGTERM and SIGINT while devices come in: what was taken is answered, then it is gone."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from beside import until
from house import Gatehouse, NewStorm
from wires import http, mqtt

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_stop_answers_what_was_taken(
    house: Gatehouse, new_storm: NewStorm, number: signal.Signals
) -> None:
    """No device is born whose answer was not sent, and the status is 0 within ten seconds."""
    storm = new_storm(house, "s")
    async with storm.raging():
        await asyncio.sleep(0.4)
        await until(lambda: all(storm.by_wire.values()), 15, "a wire gave nothing")
        began = time.monotonic()
        house.signal(number)
        while house.running.poll() is None and time.monotonic() < began + 10:
            await asyncio.sleep(0.01)
        assert house.running.poll() == 0, house.log()[-2000:]
        # Busy kept-alive connections do not use up the time that is meant for slow answers.
        assert time.monotonic() < began + 5
    house.wait()
    assert storm.refused == []
    born = {name for (name,) in house.rows("SELECT name FROM device")}
    assert born == set(storm.answered)
    assert "Traceback" not in house.log()


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_stop_does_not_wait_for_idle_connections(
    house: Gatehouse, number: signal.Signals
) -> None:
    """Silent connections, before and after logging in, are closed; the stop is soon over."""
    async with (
        mqtt(house.ports.mqtt) as silent,
        mqtt(house.ports.mqtt, 5) as idle,
        http(house.ports.http) as web,
        http(house.ports.http) as half,
    ):
        assert await idle.connect("provision") == 0
        assert (await web.ask("GET", "/healthz")).status == 200
        half.writer.write(b"POST /api/v1/provision HTTP/1.1\r\nContent-Le")
        silent.send(b"\x10\x20")
        await asyncio.sleep(0.05)
        house.signal(number)
        assert await asyncio.to_thread(house.wait, 10) == 0
        assert await idle.outcome() == [(0xE0, 0x8B), (0, 0)]
        assert await silent.next() is None
        assert await web.reader.read() == b""


async def test_a_second_signal_does_not_spoil_the_stop(house: Gatehouse) -> None:
    """An impatient Ctrl-C Ctrl-C still ends with status 0 and a whole database."""
    for _ in range(2):
        house.signal(signal.SIGINT)
    house.signal(signal.SIGTERM)
    assert await asyncio.to_thread(house.wait, 10) == 0
    assert house.rows("PRAGMA integrity_check") == [("ok",)]
