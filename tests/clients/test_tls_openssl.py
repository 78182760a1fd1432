"""`openssl s_client` on each secure wire, and what openssl makes of lists and answers of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from clients.lab import Lab, Papers, Watched

    from tests.clients.conftest import Finished, Program, RunningGateway

TCP = ("https", "mqtts")
WEAK = ("-cipher", "ALL:@SECLEVEL=0")
"""OpenSSL 3 offers nothing older than TLS 1.2 unless it is told to."""


@pytest.fixture
def openssl(lab: Lab) -> Program:
    return lab.openssl


def s_client(openssl: Program, gate: RunningGateway, wire: str, *more: str) -> Finished:
    """Shake hands, check the gateway's certificate and name, and hang up."""
    return openssl(*_told(gate, wire), "-brief", *more)


def _told(gate: RunningGateway, wire: str) -> tuple[str, ...]:
    place = f"127.0.0.1:{getattr(gate, wire)}"
    trust = ("-CAfile", gate.ca, "-verify_return_error", "-verify_ip", "127.0.0.1")
    return ("s_client", "-connect", place, *trust)


def shown(papers: Papers) -> tuple[str, ...]:
    files = ("-cert", papers.certificate, "-key", papers.key)
    return (*files, "-cert_chain", papers.certificate)


@pytest.mark.parametrize("wire", TCP)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_is_spoken(openssl: Program, gate: RunningGateway, wire: str, version: str) -> None:
    """Both versions, with ECDSA, and a chain and a name that the lab's authority vouches for."""
    done = s_client(openssl, gate, wire, f"-tls{version.replace('.', '_')}")
    assert done.status == 0, done
    assert f"Protocol version: TLSv{version}" in done.err
    assert "Signature type: ECDSA" in done.err
    assert "Verification: OK" in done.err


@pytest.mark.parametrize("wire", TCP)
def test_tls_1_1_is_not(openssl: Program, gate: RunningGateway, wire: str) -> None:
    """An older version is refused with the alert protocol_version (70)."""
    done = s_client(openssl, gate, wire, "-tls1_1", *WEAK)
    assert done.status == 1
    assert "alert number 70" in done.err


@pytest.mark.parametrize("wire", TCP)
def test_a_client_certificate_is_asked_for(
    openssl: Program, gate: RunningGateway, wire: str, lab: Lab
) -> None:
    """The server asks for one, names no authority, and takes a factory's with its issuer."""
    told = openssl(*_told(gate, wire), "-tls1_2")
    assert "No client certificate CA names sent" in told.out
    assert "Requested Signature Algorithms:" in told.out
    done = s_client(openssl, gate, wire, *shown(lab.from_factory("f-s-client", plant=True)))
    assert done.status == 0, done


def test_a_name_that_is_not_ours(openssl: Program, gate: RunningGateway) -> None:
    """Whoever expects another host hears that the certificate is not for it."""
    place = ("s_client", "-connect", f"127.0.0.1:{gate.https}", "-CAfile", gate.ca)
    done = openssl(*place, "-verify_return_error", "-verify_hostname", "other.example")
    assert done.status == 1
    assert "hostname mismatch" in done.err


def test_http_is_spoken_within(
    gate: RunningGateway, lab: Lab, watch: Callable[..., Watched]
) -> None:
    """A request typed into s_client, with a factory's certificate, is a device's telemetry."""
    papers = lab.from_factory("f-typed")
    typed = watch(lab.openssl, *_told(gate, "https"), "-quiet", *shown(papers))
    body = b'{"typed":1}'
    head = b"POST /api/v1/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    typed.say(head % len(body) + body)
    typed.until(r"HTTP/1\.1 200 ")
    assert gate.readings("f-typed") == {"typed": 1}


# ── DTLS ──────────────────────────────────────────────────────────────────────────────────────


def dtls(watch: Callable[..., Watched], gate: RunningGateway, lab: Lab, *more: str) -> Watched:
    given = (*_told(gate, "coaps"), "-brief", "-dtls1_2")
    started: Watched = watch(lab.openssl, *given, *more)
    return started


def test_dtls_is_spoken(gate: RunningGateway, lab: Lab, watch: Callable[..., Watched]) -> None:
    """DTLS 1.2 with ECDSA, and a factory's certificate with its issuer makes a device."""
    papers = lab.from_factory("f-dtls", plant=True)
    seen = dtls(watch, gate, lab, *shown(papers))
    seen.until("Protocol version: DTLSv1.2")
    seen.until("Verification: OK")
    assert gate.device("f-dtls")["name"] == "f-dtls"


@pytest.mark.parametrize(("kind", "alert"), [("stranger", 48), ("expired", 45)])
def test_dtls_refuses_with_an_alert(
    gate: RunningGateway, lab: Lab, watch: Callable[..., Watched], kind: str, alert: int
) -> None:
    """The last flight of the handshake is the reason: unknown_ca, or certificate_expired."""
    seen = dtls(watch, gate, lab, *shown(getattr(lab, kind)()))
    seen.until(f"alert number {alert}")
    assert seen.status() != 0
    assert lab.why_refused(lab.called(kind)) == {48: "unknown_ca", 45: "expired_leaf"}[alert]


@pytest.mark.parametrize("suite", ["PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256"])
def test_dtls_with_a_key(
    gate: RunningGateway, lab: Lab, watch: Callable[..., Watched], suite: str
) -> None:
    """The key of the answer is what `-psk` wants, with the suite devices must have and with GCM."""
    given = gate.provision(suite, credentialsType="DTLS_PSK")["credentialsValue"]
    seen = watch(
        lab.openssl,
        *("s_client", "-dtls1_2", "-brief", "-connect", f"127.0.0.1:{gate.coaps}"),
        *("-cipher", suite, "-psk_identity", given["identity"], "-psk", given["key"]),
    )
    seen.until(f"Ciphersuite: {suite}")


# ── whoever checks a device's certificate ─────────────────────────────────────────────────────


def ocsp(gate: RunningGateway, lab: Lab, papers: Papers) -> Finished:
    root, issuing = lab.authority
    asked = ("-issuer", issuing, "-cert", papers.certificate, "-url", f"{gate.http_url}/ocsp")
    return lab.openssl("ocsp", *asked, "-CAfile", root)


def test_ocsp_tells_a_revocation(gate: RunningGateway, lab: Lab) -> None:
    """`openssl ocsp` hears good, and after `gatehouse credential revoke` revoked and why."""
    papers = lab.certified("ocsp-1")
    good = ocsp(gate, lab, papers)
    assert "Response verify OK" in good.err
    assert f"{papers.certificate}: good" in good.out

    lab.revoke("ocsp-1")
    bad = ocsp(gate, lab, papers)
    assert "Response verify OK" in bad.err
    assert f"{papers.certificate}: revoked" in bad.out
    assert "Reason: keyCompromise" in bad.out


def test_ocsp_knows_what_it_did_not_sign(gate: RunningGateway, lab: Lab) -> None:
    """A certificate of ours by name, of a number never given: unknown, and signed so."""
    root, issuing = lab.authority
    asked = ("-issuer", issuing, "-serial", "0x1234", "-url", f"{gate.http_url}/ocsp")
    told = lab.openssl("ocsp", *asked, "-CAfile", root)
    assert "Response verify OK" in told.err
    assert "0x1234: unknown" in told.out


def test_the_list_tells_a_revocation(gate: RunningGateway, lab: Lab) -> None:
    """`openssl verify -crl_check` believes a certificate until its device's are revoked."""
    papers = lab.certified("crl-1")
    assert lab.verify(papers, "-crl_check", "-CRLfile", crl(gate, lab))
    lab.revoke("crl-1")
    assert not lab.verify(papers, "-crl_check", "-CRLfile", crl(gate, lab))
    assert lab.verify(papers)


def crl(gate: RunningGateway, lab: Lab) -> str:
    """Fetch the list, as openssl does by itself, and check who signed it; its file."""
    root, issuing = lab.authority
    both = lab.file("both.pem", Path(issuing).read_text() + Path(root).read_text())
    out = str(lab.folder / "list.pem")
    url = f"{gate.http_url}/crl"
    read = lab.openssl("crl", "-in", url, "-inform", "DER", "-CAfile", both, "-out", out)
    assert "verify OK" in read.out + read.err, read
    return out
