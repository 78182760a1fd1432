"""The three lines that `gatehouse serve` prints, pasted as a stranger would."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.clients


def test_each_printed_line_provisions_a_device_that_sends_a_reading(tmp_path, system_program):
    """The start screen's lines make three devices over three wires, each with a reading."""
    system_program("curl", "curl")
    system_program("mosquitto_rr", "mosquitto-clients")
    system_program("coap-client-notls", "libcoap3-bin")
    environ = {
        **os.environ,
        **{f"GATEHOUSE_{wire}_PORT": "0" for wire in ("HTTP", "MQTT", "COAP")},
        "GATEHOUSE_STORE_URL": f"sqlite:{tmp_path}/g.db",
        "GATEHOUSE_PROFILES_DIR": str(ROOT / "profiles"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "gateway", "serve"]
    with subprocess.Popen(
        command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        try:
            assert server.stdout is not None
            lines = []
            for raw in server.stdout:
                line = raw.decode()
                if line.startswith("gatehouse ready"):
                    break
                if line.startswith("T="):
                    lines.append(line)
            plain = {k: v for k, v in os.environ.items() if not k.startswith("GATEHOUSE_")}
            plain["PYTHONPATH"] = str(ROOT)
            tokens = [
                subprocess.run(
                    ["bash", "-c", line],
                    env=plain,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=30,
                    check=True,
                ).stdout.split()[-1]
                for line in lines
            ]
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(15) == 0
    assert len(set(tokens)) == 3
    db = sqlite3.connect(tmp_path / "g.db")
    try:
        wires = db.execute("SELECT wire FROM event WHERE kind = 'device:provision'").fetchall()
        readings = db.execute("SELECT key, real FROM latest_reading").fetchall()
    finally:
        db.close()
    assert sorted(wire for (wire,) in wires) == ["coap", "http", "mqtt"]
    assert readings == [("temperature", 21.5)] * 3
