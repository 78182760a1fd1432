"""curl over HTTPS: a device is its certificate, whoever signed it, and needs no token."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from clients.lab import CUT_S, until

if TYPE_CHECKING:
    from clients.lab import Lab, Papers

    from tests.clients.conftest import Answer, FindProgram, Program, RunningGateway


class Https:
    """curl, believing the lab's authority alone."""

    def __init__(self, curl: Program, gate: RunningGateway) -> None:
        self._curl = curl
        self._gate = gate

    def get(self, path: str, papers: Papers | None = None) -> tuple[int, str]:
        return self._ask(path, papers)

    def post(self, path: str, body: Any, papers: Papers | None = None) -> tuple[int, str]:
        return self._ask(path, papers, "-d", "@-", given=json.dumps(body))

    def _ask(
        self, path: str, papers: Papers | None, *more: str, given: str = ""
    ) -> tuple[int, str]:
        """The HTTP status and the body."""
        shown = () if papers is None else ("--cert", papers.certificate, "--key", papers.key)
        trust = ("-sS", "--cacert", self._gate.ca, "-w", "\n%{http_code}")
        done = self._curl(*trust, *shown, *more, f"{self._gate.https_url}/{path}", given=given)
        assert done.status == 0, done
        body, _, status = done.out.rpartition("\n")
        return int(status), body

    def provision(self, asked: Answer) -> Answer:
        status, body = self.post("api/v1/provision", asked)
        assert status == 200, body
        told: Answer = json.loads(body)
        return told


@pytest.fixture
def https(system_program: FindProgram, gate: RunningGateway) -> Https:
    return Https(system_program("curl", "curl"), gate)


def test_a_token_works_over_https(https: Https, gate: RunningGateway) -> None:
    """Without a client certificate it is what it is over HTTP."""
    token = gate.succeeded(https.provision(gate.request("curl-tls")))
    assert https.post(f"api/v1/{token}/telemetry", {"a": 1}) == (200, "")
    assert gate.readings("curl-tls") == {"a": 1}


def test_curl_checks_us(system_program: FindProgram, gate: RunningGateway) -> None:
    """A client that was not told of the lab's authority does not believe our certificate."""
    done = system_program("curl", "curl")("-sS", f"{gate.https_url}/readyz")
    assert done.status == 60, done


@pytest.mark.parametrize("plant", [False, True], ids=["root", "plant"])
def test_a_device_is_born_from_a_factory_certificate(
    https: Https, gate: RunningGateway, lab: Lab, plant: bool
) -> None:
    """Its first telemetry creates it, and it has attributes, all without a token in the path."""
    name = f"f-curl-{plant}"
    papers = lab.from_factory(name, plant=plant)
    assert https.post("api/v1/telemetry", {"t": 21.5}, papers) == (200, "")
    assert https.post("api/v1/attributes", {"model": "c1"}, papers) == (200, "")
    status, read = https.get("api/v1/attributes?clientKeys=model", papers)
    assert (status, json.loads(read)) == (200, {"client": {"model": "c1"}})
    assert gate.readings(name) == {"t": 21.5}


def test_a_newer_factory_certificate_replaces_the_older(
    https: Https, gate: RunningGateway, lab: Lab
) -> None:
    """The same name with another key is the same device (contract, section 2.8)."""
    older = lab.from_factory("f-rotates")
    assert https.post("api/v1/telemetry", {"a": 1}, older) == (200, "")
    newer = lab.papers(gate.factory.issue("f-rotates"), "newer")
    assert https.post("api/v1/telemetry", {"b": 2}, newer) == (200, "")
    assert gate.readings("f-rotates") == {"a": 1, "b": 2}


@pytest.mark.parametrize("kind", ["stranger", "expired"])
def test_a_certificate_nobody_believes_is_401(
    https: Https, gate: RunningGateway, lab: Lab, kind: str
) -> None:
    """Every request on the connection, and an event says why; a good token does not help."""
    papers = getattr(lab, kind)()
    token = gate.token(f"curl-beside-{kind}")
    for path in ("api/v1/telemetry", f"api/v1/{token}/telemetry"):
        status, body = https.post(path, {"a": 1}, papers)
        assert (status, json.loads(body)["status"]) == (401, 401)
    reason = {"stranger": "unknown_ca", "expired": "expired_leaf"}[kind]
    assert lab.why_refused(lab.called(kind)) == reason


def test_a_signing_request_is_answered_with_a_certificate(
    https: Https, gate: RunningGateway, lab: Lab
) -> None:
    """Key, secret and a request of `openssl req`; what comes back verifies and logs in."""
    asked = lab.asks("born")
    papers = lab.given(asked, https.provision(gate.request("curl-csr", csr=asked.text)))
    assert lab.verify(papers, "-purpose", "sslclient")
    subject = lab.openssl("x509", "-in", papers.certificate, "-noout", "-subject")
    assert subject.out == "subject=CN = curl-csr\n"  # the profile says it, not the request
    assert https.post("api/v1/telemetry", {"a": 1}, papers) == (200, "")
    assert gate.readings("curl-csr") == {"a": 1}


def test_a_signing_request_in_one_line(https: Https, gate: RunningGateway, lab: Lab) -> None:
    """Base64 of DER is answered in kind: a certificate and its issuers, none of them PEM."""
    asked = lab.asks("line")
    der = lab.openssl("req", "-in", asked.csr, "-outform", "PEM").out
    line = "".join(der.splitlines()[1:-1])
    answer = https.provision(gate.request("curl-line", csr=line))
    assert answer["status"] == "SUCCESS"
    assert "certificate" not in answer
    chain = [answer["credentialsValue"], *answer["certificateChain"]]
    pem = "".join(
        f"-----BEGIN CERTIFICATE-----\n{one}\n-----END CERTIFICATE-----\n" for one in chain
    )
    lines = lab.openssl("crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", given=pem)
    assert lines.status == 0, lines


def test_renewal_leaves_the_old_one_until_the_new_one_is_used(
    https: Https, gate: RunningGateway, lab: Lab
) -> None:
    """Both work after the renewal; once the new one did, the old one is nobody's."""
    old = lab.certified("curl-renews")
    asked = lab.asks("renewed")
    status, body = https.post("api/v1/certificate", {"csr": asked.text}, old)
    assert status == 200, body
    new = lab.given(asked, json.loads(body))
    assert https.post("api/v1/telemetry", {"old": 1}, old) == (200, "")
    assert https.post("api/v1/telemetry", {"new": 1}, new) == (200, "")
    assert https.post("api/v1/telemetry", {"old": 2}, old)[0] == 401
    assert gate.readings("curl-renews") == {"old": 1, "new": 1}


def test_a_token_is_exchanged_for_a_certificate(
    https: Https, gate: RunningGateway, lab: Lab
) -> None:
    """A device with a token renews under it; from the certificate's first use it has no token."""
    token = gate.token("curl-exchanges")
    asked = lab.asks("exchanged")
    status, body = https.post(f"api/v1/{token}/certificate", {"csr": asked.text})
    assert status == 200, body
    papers = lab.given(asked, json.loads(body))
    assert gate.knows(token)
    assert https.post("api/v1/telemetry", {"a": 1}, papers) == (200, "")
    until(lambda: not gate.knows(token), CUT_S)


def test_a_revoked_one_is_401(https: Https, lab: Lab) -> None:
    """What `gatehouse credential revoke` took back logs in no more."""
    papers = lab.certified("curl-revoked")
    assert https.post("api/v1/telemetry", {"a": 1}, papers) == (200, "")
    lab.revoke("curl-revoked")
    assert https.post("api/v1/telemetry", {"a": 1}, papers)[0] == 401
    assert lab.why_refused("curl-revoked") == "credentials_revoked"
