"""`gatehouse chaos`: what it is told, what it says, and that it serves."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any

import pytest

from gateway.cli.chaos import _SpanType


def ask(port: int, shell: Any, name: str) -> bytes:
    pair = shell.json("profile", "show", "demo", "--reveal")
    body = {
        "deviceName": name,
        "provisionDeviceKey": pair["provision_key"],
        "provisionDeviceSecret": pair["provision_secret"],
    }
    url = f"http://127.0.0.1:{port}/api/v1/provision"
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=5) as answer:
        return answer.read()


def test_it_serves_loses_and_says_so(shell: Any) -> None:
    """It warns before it is ready; a lost answer is a line with the device's address and no secret,
    and its device exists."""
    words = ("chaos", "--drop=100", "--only=provision", "--quiet")
    with shell.start(*words, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        found = re.search(r"ready http=(\d+)", process.stdout.readline())
        assert found is not None
        port = int(found[1])
        with pytest.raises((ConnectionError, urllib.error.URLError)):
            ask(port, shell, "lost-1")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as alive:
            assert alive.status == 200
        process.terminate()
        _, said = process.communicate(timeout=20)

    assert process.returncode == 0
    warned, _, rest = said.partition("\n")
    assert "CHAOS" in warned
    assert "100 % lost" in warned
    (line,) = [json.loads(one) for one in rest.splitlines() if "chaos.dropped" in one]
    assert line["peer"].startswith("127.0.0.1:")
    assert (line["wire"], line["route"]) == ("http", "thingsboard.provision.json")
    pair = shell.json("profile", "show", "demo", "--reveal")
    assert pair["provision_secret"] not in said
    assert [one["name"] for one in shell.json("device", "list")] == ["lost-1"]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("2s", (2, 2)),
        ("0-2s", (0, 2)),
        ("100ms-2s", (0.1, 2)),
        ("100-250ms", (0.1, 0.25)),
        ("0.5s", (0.5, 0.5)),
        ("0s", (0, 0)),
    ],
)
def test_a_delay_is_a_time_or_two(text: str, span: tuple[float, float]) -> None:
    """One unit is enough for both ends."""
    assert _SpanType().convert(text, None, None) == pytest.approx(span)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say what is to go wrong"),
        (("--drop=101",), "101"),
        (("--delay=2",), "write 2s, 0-2s or 100ms-2s"),
        (("--delay=3-2s",), "the shorter time first"),
        (("--delay=601s",), "at most 600s"),
        (("--delay=1s-500ms",), "the shorter time first"),
    ],
)
def test_a_wrong_command_line_is_told(shell: Any, words: tuple[str, ...], said: str) -> None:
    """Nothing is served before the command line makes sense."""
    result = shell("chaos", *words)

    assert result.exit_code == 2
    assert said in result.stderr
