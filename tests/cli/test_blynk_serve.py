"""`gatehouse serve` with the listener of Blynk's binary protocol: what it says, and that it is."""

from __future__ import annotations

import json
import re
import socket
import struct
from typing import Any

import pytest

ON = {"GATEHOUSE_BLYNK_TCP_ENABLED": "true", "GATEHOUSE_BLYNK_TCP_PORT": "0"}


def test_it_is_shown_and_listens(shell: Any) -> None:
    """The start screen and the ready line name it, and a wrong token is answered there."""
    shell.env.update(ON)
    with shell.start("serve", stdout=-1, stderr=-3) as process:
        try:
            assert process.stdout is not None
            screen = ""
            while "gatehouse ready" not in screen:
                line = process.stdout.readline()
                assert line, screen
                screen += line
            found = re.search(r"blynk_tcp=(\d+)", screen)
            assert found is not None
            port = int(found[1])
            assert f"Blynk 127.0.0.1:{port}" in screen or f"Blynk 0.0.0.0:{port}" in screen
            with socket.create_connection(("127.0.0.1", port), 5) as device:
                device.sendall(struct.pack("!BHH", 29, 1, 5) + b"wrong")
                assert device.recv(100) == struct.pack("!BHH", 0, 1, 9)
                assert device.recv(100) == b""
        finally:
            process.terminate()
            assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        ("DISABLED", "Blynk tokens"),
        ("ALLOW_CREATE_NEW_DEVICES", "open to new devices, Blynk tokens"),
    ],
)
def test_a_template_is_not_called_closed(shell: Any, strategy: str, told: str) -> None:
    """The start screen says that a profile with a [blynk] table lets tokens in."""
    (shell.folder / "profiles" / "meter.toml").write_text(
        f'provision_type = "{strategy}"\n[blynk]\ntemplate_id = "TMPLmeter0001"\n'
    )
    with shell.start("serve", stdout=-1, stderr=-3) as process:
        try:
            assert process.stdout is not None
            screen = ""
            while "gatehouse ready" not in screen:
                line = process.stdout.readline()
                assert line, screen
                screen += line
            assert f"meter ({told})" in screen
        finally:
            process.terminate()
            assert process.wait(20) == 0


def test_its_port_is_examined(shell: Any) -> None:
    """`gatehouse doctor` looks at it when it is switched on, and only then."""
    names = [one["check"] for one in _examined(shell)]
    assert "blynk_tcp port" not in names
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        address = {"GATEHOUSE_BLYNK_TCP_HOST": "127.0.0.1", "GATEHOUSE_BLYNK_TCP_PORT": port}
        checks = _examined(shell, **(ON | address))
        (found,) = (one for one in checks if one["check"] == "blynk_tcp port")
    assert found["level"] == "wrong"


def _examined(shell: Any, **env: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(shell("doctor", "--json", **env).stdout)["checks"]
    return found
