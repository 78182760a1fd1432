"""libcoap's client observing: shared attributes, calls, and a firmware block by block."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clients.lab import OBSERVED, WAIT_S, Watched

if TYPE_CHECKING:
    from tests.clients.conftest import FindProgram, Program, RunningGateway

NAMES = ("coap-client", "coap-client-notls", "coap-client-openssl", "coap-client-gnutls")
CLIENT = next((name for name in NAMES if shutil.which(name)), "coap-client-notls")


@pytest.fixture(scope="module")
def coap_client(system_program: FindProgram) -> Program:
    return system_program(CLIENT, "libcoap3-bin")


@pytest.fixture
def observe(
    coap_client: Program, gate: RunningGateway, watch: Callable[..., Watched]
) -> Callable[..., Watched]:
    """Begin to observe a path; `seconds` is when the client cancels and ends."""

    def begin(path: str, *more: str, seconds: int = 20) -> Watched:
        given = ("-v", "6", "-s", str(seconds), "-m", "get", *more)
        return watch(coap_client, *given, f"{gate.coap_url}/{path}")

    return begin


def until_online(gate: RunningGateway, name: str, *, wanted: bool = True) -> None:
    """Fails when the device does not come (or go, with `wanted` False) in time."""
    end = time.monotonic() + WAIT_S
    while gate.device(name)["online"] is not wanted:
        assert time.monotonic() < end, f"{name} stays {'offline' if wanted else 'online'}"
        time.sleep(0.1)


def test_shared_attributes_are_observed(
    observe: Callable[..., Watched], gate: RunningGateway
) -> None:
    """First the current state, then each change."""
    token = gate.token("libcoap-observes")
    gate.share("libcoap-observes", interval=30)
    seen = observe(f"api/v1/{token}/attributes")
    seen.until(r'c:2\.05 .*Observe:0[^\n]*:: \'\{"interval":30\}')
    gate.share("libcoap-observes", interval=31)
    seen.until(r'Observe:1[^\n]*:: \'\{"interval":31\}')
    gate.operate("device", "attributes", "delete", "libcoap-observes", "interval")
    seen.until(r'Observe:2[^\n]*:: \'\{"deleted":\["interval"\]\}')


def test_a_client_that_cancels_is_gone(
    observe: Callable[..., Watched], gate: RunningGateway
) -> None:
    """It sends Observe 1 and ends before the answer; the device is offline then."""
    token = gate.token("libcoap-cancels")
    seen = observe(f"api/v1/{token}/attributes", seconds=3)
    seen.until(OBSERVED)
    until_online(gate, "libcoap-cancels")
    seen.status()
    until_online(gate, "libcoap-cancels", wanted=False)


def test_calls_are_observed_and_answered(
    observe: Callable[..., Watched], coap_client: Program, gate: RunningGateway
) -> None:
    """2.03 without a body first, then the call, whose answer the shell prints."""
    token = gate.token("libcoap-called")
    seen = observe(f"api/v1/{token}/rpc")
    seen.until(r"c:2\.03 ")
    answer = gate.rpc("libcoap-called", "getState", {"deep": True})
    asked = r'\{"id":(\d+),"method":"getState","params":\{"deep": true\}\}'
    found = seen.until(rf"c:2\.05 [^\n]*{asked}")
    told = coap_client(
        "-v", "6", "-m", "post", "-e", '{"state":"on"}',
        f"{gate.coap_url}/api/v1/{token}/rpc/{found[1]}",
    )  # fmt: skip
    assert "c:2.01" in told.out
    assert answer.result(WAIT_S) == {"state": "on"}


@pytest.mark.parametrize("kind", [(), ("-N",)], ids=["confirmable", "non-confirmable"])
def test_a_newer_observer_takes_over(
    observe: Callable[..., Watched], gate: RunningGateway, kind: tuple[str, ...]
) -> None:
    """One observation of a resource for each device: the older client gets a final 2.02."""
    name = f"libcoap-twice{len(kind)}"
    token = gate.token(name)
    older = observe(f"api/v1/{token}/attributes", *kind)
    older.until(OBSERVED)
    newer = observe(f"api/v1/{token}/attributes", *kind)
    newer.until(OBSERVED)
    older.until(r"c:2\.02")
    gate.share(name, interval=5)
    newer.until(r'\{"interval":5\}')


def test_a_firmware_is_fetched_block_by_block(
    coap_client: Program, gate: RunningGateway, tmp_path: Path
) -> None:
    """What arrives is the file, byte for byte, whatever the size of the blocks."""
    content = random.Random(5).randbytes(70_001)
    file = tmp_path / "image.bin"
    file.write_bytes(content)
    token = gate.token("libcoap-flashes")
    gate.offer_firmware(file, "libcoap-image", "1.0", "libcoap-flashes")
    for size in ("1024", "64"):
        got = tmp_path / f"got-{size}"
        done = coap_client(
            "-m", "get", "-b", size, "-B", "30", "-o", str(got), f"{gate.coap_url}/fw/{token}"
        )
        assert done.status == 0, done
        assert got.read_bytes() == content
