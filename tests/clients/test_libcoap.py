"""libcoap's client, over CoAP: Debian has it without TLS, with OpenSSL and with GnuTLS."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Answer, FindProgram, Program, RunningGateway

NAMES = ("coap-client", "coap-client-notls", "coap-client-openssl", "coap-client-gnutls")
BUILDS = [name for name in NAMES if shutil.which(name)] or ["coap-client-notls"]


@pytest.fixture(scope="module", params=BUILDS)
def coap_client(request: pytest.FixtureRequest, system_program: FindProgram) -> Program:
    return system_program(request.param, "libcoap3-bin")


class Response(NamedTuple):
    """The code of the last response as libcoap prints it (`2.01`), and the payload."""

    code: str
    payload: str

    def answer(self) -> Answer:
        told: Answer = json.loads(self.payload)
        return told


def ask(coap_client: Program, *args: str) -> Response:
    """Run the client so that it prints every message; its exit status is 0 even for 4.00."""
    done = coap_client("-v", "6", "-B", "15", *args)
    assert done.status == 0, done
    codes = re.findall(r" c:(\d\.\d\d) ", done.out)
    assert codes, done
    if done.err:
        code, _, payload = done.err.rstrip().partition(" ")
        assert code == codes[-1]
        return Response(code, payload)
    printed = done.out.rstrip().rpartition("\n")[2]
    return Response(codes[-1], "" if printed.startswith("v:1 ") else printed)


def provision(coap_client: Program, gate: RunningGateway, asked: Answer, *more: str) -> Response:
    """`coap-client -v 6 -m POST -t "application/json" -e '{…}' coap://…/api/v1/provision`"""
    url = f"{gate.coap_url}/api/v1/provision"
    kind = ("-t", "application/json")
    return ask(coap_client, "-m", "POST", *kind, *more, "-e", json.dumps(asked), url)


def test_a_device_provisions_and_sends(coap_client: Program, gate: RunningGateway) -> None:
    """The token libcoap is given opens telemetry and attributes over CoAP."""
    name = f"{Path(coap_client.path).name}-1"
    created = provision(coap_client, gate, gate.request(name))
    device = f"{gate.coap_url}/api/v1/{gate.succeeded(created.answer())}"

    sent = ask(coap_client, "-m", "post", "-e", '{"temperature":21.5}', f"{device}/telemetry")
    kept = ask(coap_client, "-m", "post", "-e", '{"model":"c1"}', f"{device}/attributes")
    read = ask(coap_client, "-m", "get", f"{device}/attributes?clientKeys=model")

    assert created.code == "2.01"
    assert (sent, kept) == (("2.01", ""), ("2.01", ""))
    assert gate.readings(name) == {"temperature": 21.5}
    assert (read.code, read.answer()) == ("2.05", {"client": {"model": "c1"}})


def test_a_wrong_secret_is_not_found(
    coap_client: Program, gate: RunningGateway, not_found: Answer
) -> None:
    """A wrong secret is 4.00 with the NOT_FOUND answer in it (contract, section 5)."""
    told = provision(coap_client, gate, gate.wrong_request(f"{Path(coap_client.path).name}-2"))
    assert (told.code, told.answer()) == ("4.00", not_found)


def test_a_name_is_given_once(coap_client: Program, gate: RunningGateway, failure: Answer) -> None:
    """The second request for a name is 4.00 with the FAILURE answer in it."""
    asked = gate.request(f"{Path(coap_client.path).name}-3")
    token = gate.succeeded(provision(coap_client, gate, asked).answer())

    told = provision(coap_client, gate, asked)

    assert (told.code, told.answer()) == ("4.00", failure)
    assert gate.knows(token)


def test_of_twenty_one_gets_the_name(
    coap_client: Program, gate: RunningGateway, all_at_once: Any
) -> None:
    """Twenty clients at once for one name: one SUCCESS, nineteen FAILURE."""
    asked = gate.request(f"{Path(coap_client.path).name}-4")
    gate.gave_to_one(all_at_once(lambda: provision(coap_client, gate, asked).answer()))


@pytest.mark.parametrize("size", ["16", "64", "1024"])
def test_a_body_may_come_in_blocks(coap_client: Program, gate: RunningGateway, size: str) -> None:
    """A request cut into blocks of any size is put together and answered once."""
    asked = gate.request(f"{Path(coap_client.path).name}-block-{size}", note="n" * 1500)
    told = provision(coap_client, gate, asked, "-b", size)

    assert told.code == "2.01"
    gate.succeeded(told.answer())


def test_a_non_confirmable_request_is_answered(coap_client: Program, gate: RunningGateway) -> None:
    """NON requests provision and send like CON ones."""
    name = f"{Path(coap_client.path).name}-non"
    token = gate.succeeded(provision(coap_client, gate, gate.request(name), "-N").answer())
    telemetry = f"{gate.coap_url}/api/v1/{token}/telemetry"

    assert ask(coap_client, "-N", "-m", "post", "-e", '{"n":1}', telemetry) == ("2.01", "")
    assert gate.readings(name) == {"n": 1}


def test_no_content_format_is_needed(coap_client: Program, gate: RunningGateway) -> None:
    """A request without Content-Format, to a host by name, is read as JSON all the same."""
    asked = json.dumps(gate.request(f"{Path(coap_client.path).name}-plain"))
    url = f"coap://localhost:{gate.coap}/api/v1/provision"
    told = ask(coap_client, "-a", "127.0.0.1", "-m", "post", "-e", asked, url)
    gate.succeeded(told.answer())


def test_an_unknown_token_is_unauthorised(coap_client: Program, gate: RunningGateway) -> None:
    """Telemetry with a token nobody has is 4.01."""
    telemetry = f"{gate.coap_url}/api/v1/nobody-has-this/telemetry"
    assert ask(coap_client, "-m", "post", "-e", '{"n":1}', telemetry).code == "4.01"


# ── protobuf ──────────────────────────────────────────────────────────────────────────────────


def field(number: int, content: str | bytes) -> bytes:
    """A protobuf field of text or of a message under 128 bytes, written by hand."""
    raw = content.encode() if isinstance(content, str) else content
    assert len(raw) < 128
    return bytes([number << 3 | 2, len(raw)]) + raw


def protobuf_request(asked: Answer) -> bytes:
    """`ProvisionDeviceRequestMsg` with name, key and secret (contract, section 15)."""
    pair = field(1, asked["provisionDeviceKey"]) + field(2, asked["provisionDeviceSecret"])
    return field(1, asked["deviceName"]) + field(3, pair)


def provision_by_protobuf(
    coap_client: Program, gate: RunningGateway, asked: Answer, folder: Path
) -> bytes:
    """The `ProvisionDeviceResponseMsg` that a successful request brings."""
    body, told = folder / "body", folder / "told"
    body.write_bytes(protobuf_request(asked))
    url = f"{gate.coap_url}/api/v1/provision"
    done = coap_client("-B", "15", "-m", "post", "-f", str(body), "-o", str(told), url)
    assert done.status == 0
    return told.read_bytes()


def test_protobuf_is_answered_in_protobuf(
    coap_client: Program, gate: RunningGateway, tmp_path: Path
) -> None:
    """A protobuf request gets a protobuf answer with status SUCCESS and a token that works."""
    asked = gate.request(f"{Path(coap_client.path).name}-pb")
    told = provision_by_protobuf(coap_client, gate, asked, tmp_path)

    status, token = told[:2], told[4:].decode()
    assert status == b"\x08\x01"
    assert told[2:4] == bytes([3 << 3 | 2, len(token)])
    assert gate.knows(token)
