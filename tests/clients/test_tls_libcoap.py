"""libcoap's clients over DTLS, on OpenSSL and on GnuTLS: certificates, pre-shared keys, observing.

On OpenSSL the client sends its certificate alone, so that the factory's root must have signed it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from clients.lab import CUT_S, OBSERVED

if TYPE_CHECKING:
    from clients.lab import Lab, Papers, Watched

    from tests.clients.conftest import FindProgram, Program, RunningGateway

BUILDS = ("openssl", "gnutls")
SERVED = re.compile(r" c:(\d\.\d\d) ")
ALERT = re.compile(r"DTLS: (?:SSL3 alert read:fatal:(.*)|Alert '(\d+)')")
PATIENCE_S = 3
"""How long a client waits for a handshake that it is not told the end of."""


class Response(NamedTuple):
    """The code of the last response (`2.01`; "": there was none), its payload, and all printed."""

    code: str
    payload: str
    printed: str

    def answer(self) -> Any:
        return json.loads(self.payload)


class Libcoap:
    """One build of the client, believing the lab's authority alone."""

    def __init__(self, build: str, program: Program, gate: RunningGateway, got: Path) -> None:
        self.build = build
        self.program = program
        self._gate = gate
        self._got = got

    def told(self, papers: Papers | None) -> tuple[str, ...]:
        shown = () if papers is None else ("-c", papers.certificate, "-j", papers.key)
        return ("-v", "6", "-R", self._gate.ca, *shown)

    def post(self, path: str, body: Any, papers: Papers | None = None, *more: str) -> Response:
        given = ("-m", "post", "-f", "-", *more, f"{self._gate.coaps_url}/{path}")
        return self.run(*self.told(papers), *given, given=json.dumps(body))

    def with_key(self, given: Any, path: str, body: Any) -> Response:
        """The same with a pre-shared key, which the client wants as bytes."""
        key = bytes.fromhex(given["key"])
        told = ("-v", "6", "-u", given["identity"], "-k", key, "-m", "post", "-f", "-")
        return self.run(*told, f"{self._gate.coaps_url}/{path}", given=json.dumps(body))

    def run(self, *args: str | bytes, given: str = "") -> Response:
        self._got.unlink(missing_ok=True)
        done = self.program("-B", str(PATIENCE_S), "-o", str(self._got), *args, given=given)
        codes = SERVED.findall(done.out)
        payload = self._got.read_text() if self._got.exists() else ""
        return Response(codes[-1] if codes else "", payload, done.out + done.err)

    def alert(self, response: Response) -> str:
        """What it was told by the alert that ended the handshake, in its library's words."""
        assert response.code == "", response
        found = ALERT.search(response.printed)
        assert found is not None, response
        return str(found[1] or found[2])


@pytest.fixture(scope="module", params=BUILDS)
def libcoap(
    request: pytest.FixtureRequest,
    system_program: FindProgram,
    gate: RunningGateway,
    tmp_path_factory: pytest.TempPathFactory,
) -> Libcoap:
    program = system_program(f"coap-client-{request.param}", "libcoap3-bin")
    return Libcoap(request.param, program, gate, tmp_path_factory.mktemp("libcoap") / "got")


# ── certificates ──────────────────────────────────────────────────────────────────────────────


def test_a_token_works_over_coaps(libcoap: Libcoap, gate: RunningGateway) -> None:
    """A client that shows nothing provisions and sends as on the plain wire."""
    name = f"tls-{libcoap.build}"
    token = gate.succeeded(libcoap.post("api/v1/provision", gate.request(name)).answer())
    assert libcoap.post(f"api/v1/{token}/telemetry", {"a": 1}).code == "2.01"
    assert gate.readings(name) == {"a": 1}


def test_a_device_is_born_from_a_factory_certificate(
    libcoap: Libcoap, gate: RunningGateway, lab: Lab
) -> None:
    """Its first telemetry creates it; there is no token in the path."""
    name = f"f-{libcoap.build}"
    papers = lab.from_factory(name)
    assert libcoap.post("api/v1/telemetry", {"a": 1}, papers).code == "2.01"
    assert libcoap.post("api/v1/attributes", {"model": "c"}, papers).code == "2.01"
    assert gate.readings(name) == {"a": 1}


@pytest.mark.parametrize(
    ("kind", "alerts"),
    [("stranger", ("unknown CA", "48")), ("expired", ("certificate expired", "45"))],
)
def test_a_certificate_nobody_believes_is_refused(
    libcoap: Libcoap, lab: Lab, kind: str, alerts: tuple[str, str]
) -> None:
    """The handshake ends with the alert that says why, and nothing is served."""
    response = libcoap.post("api/v1/telemetry", {"a": 1}, getattr(lab, kind)())
    assert libcoap.alert(response) == alerts[BUILDS.index(libcoap.build)]


@pytest.mark.parametrize("secure", [False, True], ids=["coap", "coaps"])
def test_a_signing_request_is_answered_with_a_certificate(
    libcoap: Libcoap, gate: RunningGateway, lab: Lab, secure: bool
) -> None:
    """Asked and answered block by block; what comes back logs in over DTLS."""
    name = f"csr-{libcoap.build}-{secure}"
    asked = lab.asks("born")
    body = gate.request(name, csr=asked.text)
    if secure:
        told = libcoap.post("api/v1/provision", body, None, "-b", "256")
    else:
        plain = ("-v", "6", "-b", "256", "-m", "post", "-f", "-")
        told = libcoap.run(*plain, f"{gate.coap_url}/api/v1/provision", given=json.dumps(body))
    papers = lab.given(asked, told.answer())
    assert lab.verify(papers)
    assert libcoap.post("api/v1/telemetry", {"a": 1}, papers).code == "2.01"
    assert gate.readings(name) == {"a": 1}


def test_renewal_leaves_the_old_one_until_the_new_one_is_used(libcoap: Libcoap, lab: Lab) -> None:
    """Both work after the renewal; once the new one did, the old one is refused."""
    old = lab.certified(f"renews-{libcoap.build}")
    asked = lab.asks("renewed")
    told = libcoap.post("api/v1/certificate", {"csr": asked.text}, old)
    new = lab.given(asked, told.answer())
    codes = [libcoap.post("api/v1/telemetry", {"a": 1}, one).code for one in (old, new, old)]
    assert codes == ["2.01", "2.01", ""]


# ── pre-shared keys ───────────────────────────────────────────────────────────────────────────


def test_a_device_is_given_a_key(libcoap: Libcoap, gate: RunningGateway) -> None:
    """Identity and 256 bits for `-u` and `-k`; they log in, and another key does not."""
    name = f"psk-{libcoap.build}"
    asked = gate.request(name, credentialsType="DTLS_PSK")
    answer = libcoap.post("api/v1/provision", asked).answer()
    assert (answer["status"], answer["credentialsType"]) == ("SUCCESS", "DTLS_PSK")
    given = answer["credentialsValue"]
    assert len(bytes.fromhex(given["key"])) == 32
    assert libcoap.with_key(given, "api/v1/telemetry", {"a": 1}).code == "2.01"
    wrong = {**given, "key": "ab" * 32}
    assert libcoap.with_key(wrong, "api/v1/telemetry", {"a": 2}).code == ""
    assert gate.readings(name) == {"a": 1}


def test_a_revoked_key_is_refused(libcoap: Libcoap, gate: RunningGateway, lab: Lab) -> None:
    """What `gatehouse credential revoke` took back shakes hands no more."""
    name = f"psk-revoked-{libcoap.build}"
    given = gate.provision(name, credentialsType="DTLS_PSK")["credentialsValue"]
    assert libcoap.with_key(given, "api/v1/telemetry", {"a": 1}).code == "2.01"
    lab.revoke(name)
    assert libcoap.with_key(given, "api/v1/telemetry", {"a": 2}).code == ""
    assert gate.readings(name) == {"a": 1}


# ── observing ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def observe(libcoap: Libcoap, gate: RunningGateway, watch: Callable[..., Watched]) -> Any:
    """Observe shared attributes, logged in by certificate."""

    def begin(papers: Papers) -> Watched:
        path = f"{gate.coaps_url}/api/v1/attributes"
        started: Watched = watch(libcoap.program, *libcoap.told(papers), "-s", "20", path)
        return started

    return begin


def test_shared_attributes_are_observed(
    observe: Callable[..., Watched], libcoap: Libcoap, gate: RunningGateway, lab: Lab
) -> None:
    """First the current state, then each change, through the DTLS session."""
    name = f"observes-{libcoap.build}"
    papers = lab.certified(name)
    gate.share(name, interval=30)
    seen = observe(papers)
    seen.until(r'c:2\.05 .*Observe:0[^\n]*:: \'\{"interval":30\}')
    gate.share(name, interval=31)
    seen.until(r'Observe:1[^\n]*:: \'\{"interval":31\}')


def test_an_observation_is_cut(
    observe: Callable[..., Watched], libcoap: Libcoap, gate: RunningGateway, lab: Lab
) -> None:
    """Within a second of the revocation the session is closed; coming back is refused."""
    name = f"observes-cut-{libcoap.build}"
    papers = lab.certified(name)
    seen = observe(papers)
    seen.until(OBSERVED)
    lab.revoke(name)
    told = seen.until(ALERT.pattern, CUT_S)
    assert (told[1] or told[2]) in ("access denied", "49")
    again = libcoap.post("api/v1/telemetry", {"a": 1}, papers)
    assert libcoap.alert(again) in ("certificate revoked", "44")
