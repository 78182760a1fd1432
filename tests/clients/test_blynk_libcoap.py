"""libcoap's client as a Blynk-style device: the claim and the device API over CoAP, and orders."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from clients.lab import Watched
from clients.office import INVALID, PROVISION, Office, Reply
from clients.running import TEMPLATE

if TYPE_CHECKING:
    from tests.clients.conftest import FindProgram, Program, RunningGateway

NAMES = ("coap-client", "coap-client-notls", "coap-client-openssl", "coap-client-gnutls")
CLIENT = next((name for name in NAMES if shutil.which(name)), "coap-client-notls")


@pytest.fixture(scope="module")
def coap_client(system_program: FindProgram) -> Program:
    return system_program(CLIENT, "libcoap3-bin")


class Coap:
    """Asks the device API over CoAP."""

    def __init__(self, client: Program, gate: RunningGateway) -> None:
        self.client = client
        self._url = f"{gate.coap_url}/external/api"

    def address(self, call: str, token: str, query: str = "") -> str:
        return f"{self._url}/{call}?token={token}{query}"

    def ask(self, method: str, call: str, token: str, query: str = "") -> tuple[str, str]:
        """The code of the answer and what came with it; refusals go to standard error."""
        done = self.client("-v", "6", "-B", "15", "-m", method, self.address(call, token, query))
        assert done.status == 0, done
        code = re.findall(r" c:(\d\.\d\d) ", done.out)[-1]
        if done.err:
            told, _, payload = done.err.rstrip().partition(" ")
            assert told == code
            return code, payload
        printed = done.out.rstrip().rpartition("\n")[2]
        return code, "" if printed.startswith("v:1 ") else printed

    def claim(self, token: str, template: str = TEMPLATE) -> tuple[str, str]:
        return self.ask("get", "provision", token, f"&templateId={template}&ver=1.0")


@pytest.fixture(scope="module")
def coap(coap_client: Program, gate: RunningGateway) -> Coap:
    return Coap(coap_client, gate)


def test_it_claims_its_token_and_sends(coap: Coap, office: Office, gate: RunningGateway) -> None:
    """As often as it asks; by GET or POST, and without a body in the answer."""
    token, number = office.issue()
    code, told = coap.claim(token)
    assert (code[0], told) == ("2", "")
    code, told = coap.ask("post", "provision", token, f"&templateId={TEMPLATE}")
    assert (code[0], told) == ("2", "")
    code, _ = coap.ask("get", "update", token, "&v1=21.5")
    assert code[0] == "2"
    code, told = coap.ask("get", "get", token, "&v1")
    assert (code, float(told)) == ("2.05", 21.5)
    assert gate.readings(f"Meter {number}") == {"temperature": 21.5}


def test_refusals_are_those_of_http(coap: Coap, office: Office) -> None:
    """4.00 with the same envelope; a wrong template does not use the token up."""
    code, told = coap.claim("nobody-was-ever-given-this-token")
    assert (code, json.loads(told)) == ("4.00", INVALID)
    token, _ = office.issue()
    code, told = coap.claim(token, "TMPLnobody000")
    assert (code, json.loads(told)) == ("4.00", {"error": {"message": "Template is not found."}})
    assert not office.is_claimed(token)


def test_it_hears_orders(coap: Coap, office: Office, watch: Callable[..., Watched]) -> None:
    """A device that observes `reconfigure` is told by it, and so is not offline."""
    token, number = office.issue()
    assert coap.claim(token)[0][0] == "2"
    address = coap.address("reconfigure", token)
    seen = watch(coap.client, "-v", "6", "-s", "20", "-m", "get", address)
    seen.until(r"""c:2\.05 .*Observe:0[^\n]*:: '\{"reconfigure":false\}'""")
    asked = office.ask("POST", f"{PROVISION}/reconfigure", {"deviceId": number})
    assert asked == Reply(200, {"deviceIsOffline": False})
    seen.until(r"""Observe:1[^\n]*:: '\{"reconfigure":true\}'""")
