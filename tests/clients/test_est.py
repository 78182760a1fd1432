"""Enrolment over Secure Transport with clients other people wrote: strongSwan's, curl, libcoap's.

What comes back is read by openssl. strongSwan brings a TLS of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from clients.lab import Papers

if TYPE_CHECKING:
    from clients.lab import Lab

    from tests.clients.conftest import FindProgram, Finished, Program, RunningGateway

PKI = "strongswan-pki libstrongswan-standard-plugins"
ROOT, ISSUING = "subject=CN = Gatehouse root ", "subject=CN = Gatehouse issuing "


def certificates(lab: Lab, der: str) -> str:
    """The subjects in a file that is a PKCS #7 of certificates alone, as openssl reads it."""
    told = lab.openssl("pkcs7", "-inform", "DER", "-in", der, "-print_certs", "-noout")
    assert told.status == 0, told
    return told.out


def enrolled(lab: Lab, der: str, key: str) -> Papers:
    """The files of an enrolled certificate with the issuer that `cacerts` tells of."""
    told = lab.openssl("pkcs7", "-inform", "DER", "-in", der, "-print_certs")
    assert told.out.count("BEGIN CERTIFICATE") == 1, told
    issuing = Path(lab.authority[1]).read_text()
    return Papers(lab.file(f"{Path(key).stem}-enrolled.pem", told.out + issuing), key)


# ── curl ──────────────────────────────────────────────────────────────────────────────────────


class Answer(NamedTuple):
    """The HTTP status and media type; the file of the body, freed of its base64."""

    status: int
    media: str
    der: str


class CurlEst:
    """The operations of RFC 7030 as its readers type them."""

    def __init__(self, curl: Program, gate: RunningGateway, lab: Lab) -> None:
        self._curl = curl
        self._gate = gate
        self._lab = lab

    def ask(self, operation: str, *more: str, papers: Papers | None = None) -> Answer:
        """`more` may hold `-u`; secrets come on standard input."""
        shown = () if papers is None else ("--cert", papers.certificate, "--key", papers.key)
        out = str(self._lab.folder / "answer.b64")
        given = ("-sS", "--cacert", self._gate.ca, "-o", out, *shown)
        told = ("-w", "%{http_code} %{content_type}", "-K", "-")
        url = f"{self._gate.https_url}/.well-known/est/{operation}"
        done = self._curl(*given, *told, url, given="\n".join(more))
        assert done.status == 0, done
        status, _, media = done.out.partition(" ")
        der = str(self._lab.folder / "answer.der")
        self._lab.openssl("base64", "-d", "-in", out, "-out", der)
        return Answer(int(status), media, der)

    def enrol(self, operation: str, csr: str, *more: str, papers: Papers | None = None) -> Answer:
        """Send a signing request as base64 of DER, in lines."""
        der = str(self._lab.folder / "asked.der")
        self._lab.openssl("req", "-in", csr, "-outform", "DER", "-out", der)
        asked = str(self._lab.folder / "asked.b64")
        self._lab.openssl("base64", "-e", "-in", der, "-out", asked)
        body = f'data-binary = "@{asked}"'
        kind = 'header = "Content-Type: application/pkcs10"'
        return self.ask(operation, body, kind, *more, papers=papers)

    @property
    def login(self) -> str:
        """The fleet's key and secret, as a line of curl's configuration."""
        return 'user = "{}:{}"'.format(*self._gate.pairs["create"])


@pytest.fixture
def est(system_program: FindProgram, gate: RunningGateway, lab: Lab) -> CurlEst:
    return CurlEst(system_program("curl", "curl"), gate, lab)


def test_cacerts_are_the_authoritys(est: CurlEst, lab: Lab) -> None:
    """The root and who signs, for everybody, as PKCS #7 of certificates alone."""
    told = est.ask("cacerts")
    assert (told.status, told.media) == (200, "application/pkcs7-mime")
    subjects = certificates(lab, told.der)
    assert ROOT in subjects
    assert ISSUING in subjects


def test_csrattrs_name_a_curve(est: CurlEst, lab: Lab) -> None:
    """A SEQUENCE that says what key a request should be for."""
    told = est.ask("csrattrs")
    assert (told.status, told.media) == (200, "application/csrattrs")
    read = lab.openssl("asn1parse", "-inform", "DER", "-in", told.der)
    assert ":prime256v1" in read.out


def test_a_device_enrols_with_the_fleets_secret(
    est: CurlEst, gate: RunningGateway, lab: Lab
) -> None:
    """The request's common name is the device's; the certificate verifies and logs in."""
    asked = lab.asks("first", cn="est-curl")
    told = est.enrol("simpleenroll", asked.csr, est.login)
    assert told.status == 200, Path(told.der).with_suffix(".b64").read_text()
    assert told.media == "application/pkcs7-mime; smime-type=certs-only"
    papers = enrolled(lab, told.der, asked.key)
    assert lab.verify(papers, "-purpose", "sslclient")
    assert gate.device("est-curl")["credentials"]["type"] == "X509_CERTIFICATE"


@pytest.mark.parametrize("login", [None, "user = wrong:pair"], ids=["nobody", "wrong"])
def test_a_stranger_is_401(est: CurlEst, lab: Lab, login: str | None) -> None:
    """Without the fleet's key and secret nobody enrols."""
    asked = lab.asks("stranger", cn="est-stranger")
    told = est.enrol("simpleenroll", asked.csr, *(() if login is None else (login,)))
    assert told.status == 401


def test_a_device_enrols_again_with_its_certificate(
    est: CurlEst, gate: RunningGateway, lab: Lab
) -> None:
    """`simplereenroll` takes the certificate for a login, and nothing else."""
    old, asked = lab.certified("est-again"), lab.asks("second", cn="est-again")
    assert est.enrol("simplereenroll", asked.csr, est.login).status == 403
    told = est.enrol("simplereenroll", asked.csr, papers=old)
    assert told.status == 200
    assert lab.verify(enrolled(lab, told.der, asked.key))


def test_the_plain_wire_enrols_nobody(system_program: FindProgram, gate: RunningGateway) -> None:
    """Over HTTP the authority's certificates are told, and nothing is asked for."""
    curl = system_program("curl", "curl")
    url = f"{gate.http_url}/.well-known/est"
    assert curl("-sS", "-f", f"{url}/cacerts").status == 0
    refused = curl("-sS", "-w", "%{http_code}", "-d", "x", f"{url}/simpleenroll")
    assert refused.out.endswith("403")


# ── strongSwan ────────────────────────────────────────────────────────────────────────────────


class Pki:
    """`pki --estca` and `pki --est`; what it is given comes in a file, since a secret is in it."""

    def __init__(self, program: Program, gate: RunningGateway, lab: Lab) -> None:
        self._program = program
        self._gate = gate
        self._lab = lab

    def authority(self) -> tuple[str, str]:
        """Fetch the authority's certificates: the files of the root and of who signs."""
        root = self._lab.folder / "estca.pem"
        self._run("--estca", f"--caout {root}", "--force")
        return str(root), str(self._lab.folder / "estca-1.pem")

    def enrol(self, csr: str, *more: str) -> Finished:
        """Ask for a certificate; it believes it when it comes from the authority fetched before."""
        known = [f"--cacert {file}" for file in self.authority()]
        return self._run("--est", f"--in {csr}", *known, *more)

    def _run(self, command: str, *options: str) -> Finished:
        own = (f"--url {self._gate.https_url}", f"--cacert {self._gate.ca}", "--outform pem")
        file = self._lab.file("pki.options", "\n".join((*own, *options)) + "\n")
        return self._program(command, "--options", file)


@pytest.fixture
def pki(
    system_program: FindProgram,
    client_missing: Callable[[str, str], None],
    gate: RunningGateway,
    lab: Lab,
) -> Pki:
    program = system_program("pki", PKI)
    if "--est " not in program("--help").out:  # another program of that name, or before 5.9.7
        client_missing("strongSwan's pki with --est", f"apt-get install {PKI}")
    return Pki(program, gate, lab)


def test_strongswan_enrols_and_enrols_again(pki: Pki, gate: RunningGateway, lab: Lab) -> None:
    """First with the fleet's secret, then with the certificate; it believes what it is given."""
    first, second = lab.asks("swan-1", cn="est-swan"), lab.asks("swan-2", cn="est-swan")
    born = pki.enrol(first.csr, "--userpass {}:{}".format(*gate.pairs["create"]))
    assert born.status == 0, born
    assert "Issued certificate is trusted" in born.err
    assert gate.device("est-swan")["credentials"]["type"] == "X509_CERTIFICATE"

    old = lab.file("swan-1.pem", born.out)
    again = pki.enrol(second.csr, f"--cert {old}", f"--key {first.key}")
    assert again.status == 0, again
    assert "Issued certificate is trusted" in again.err
    assert lab.verify(
        Papers(lab.file("swan-2.pem", again.out + Path(lab.authority[1]).read_text()), second.key)
    )


def test_strongswan_is_refused(pki: Pki, lab: Lab) -> None:
    """A wrong secret gets nothing."""
    asked = lab.asks("swan-wrong", cn="est-swan-wrong")
    refused = pki.enrol(asked.csr, "--userpass wrong:pair")
    assert refused.status != 0
    assert refused.out == ""


# ── libcoap: EST-coaps (RFC 9148) ─────────────────────────────────────────────────────────────


class Coaps:
    """One build of libcoap's client and the short paths."""

    def __init__(self, build: str, program: Program, gate: RunningGateway, lab: Lab) -> None:
        self.build = build
        self._program = program
        self._gate = gate
        self._lab = lab

    def ask(self, path: str, papers: Papers | None, *more: str) -> tuple[str, str]:
        """The code with the Content-Format (`2.05 281`), and the file of the body."""
        out = self._lab.folder / "coaps.der"
        out.unlink(missing_ok=True)
        shown = () if papers is None else ("-c", papers.certificate, "-j", papers.key)
        given = ("-v", "6", "-B", "10", "-R", self._gate.ca, *shown, "-o", str(out), *more)
        done = self._program(*given, f"{self._gate.coaps_url}/est/{path}")
        lines = [line for line in done.out.splitlines() if " t:ACK " in line]
        assert lines, done
        code, _, rest = lines[-1].partition(" c:")[2].partition(" ")
        kind = rest.partition("Content-Format:")[2].partition(" ")[0].rstrip(",")
        return f"{code} {kind}".strip(), str(out)

    def enrol(self, operation: str, csr: str, papers: Papers | None, *more: str) -> tuple[str, str]:
        """Send a signing request in DER."""
        der = str(self._lab.folder / "asked.der")
        self._lab.openssl("req", "-in", csr, "-outform", "DER", "-out", der)
        return self.ask(operation, papers, "-m", "post", "-t", "286", "-f", der, *more)


@pytest.fixture(params=["openssl", "gnutls"])
def coaps(
    request: pytest.FixtureRequest, system_program: FindProgram, gate: RunningGateway, lab: Lab
) -> Coaps:
    program = system_program(f"coap-client-{request.param}", "libcoap3-bin")
    return Coaps(request.param, program, gate, lab)


def test_coaps_tells_the_authoritys_certificates(coaps: Coaps, lab: Lab) -> None:
    """`/est/crts` is format 281; with Accept 287 it is the root alone."""
    code, der = coaps.ask("crts", None)
    assert code == "2.05 281"
    subjects = certificates(lab, der)
    assert ROOT in subjects
    assert ISSUING in subjects

    code, der = coaps.ask("crts", None, "-A", "287")
    assert code == "2.05 287"
    assert ROOT in lab.openssl("x509", "-inform", "DER", "-in", der, "-noout", "-subject").out


def test_coaps_tells_what_to_ask_for(coaps: Coaps, lab: Lab) -> None:
    """`/est/att` is format 285."""
    code, der = coaps.ask("att", None)
    assert code == "2.05 285"
    assert ":prime256v1" in lab.openssl("asn1parse", "-inform", "DER", "-in", der).out


@pytest.mark.parametrize("operation", ["sen", "sren"])
def test_a_factory_certificate_enrols_over_coaps(
    coaps: Coaps, gate: RunningGateway, lab: Lab, operation: str
) -> None:
    """A device born from its factory's certificate gets one of ours, in format 281 or 287."""
    name = f"f-est-{operation}-{coaps.build}"
    papers, asked = lab.from_factory(name), lab.asks("coaps", cn=name)
    code, der = coaps.enrol(operation, asked.csr, papers)
    assert code == "2.04 281"
    assert lab.verify(enrolled(lab, der, asked.key))

    asked = lab.asks("coaps-2", cn=name)
    code, der = coaps.enrol(operation, asked.csr, papers, "-A", "287")
    assert code == "2.04 287"
    read = lab.openssl("x509", "-inform", "DER", "-in", der, "-noout", "-subject")
    assert read.out == f"subject=CN = {name}\n"


def test_a_stranger_enrols_nowhere_over_coaps(coaps: Coaps, lab: Lab) -> None:
    """`sen` needs somebody who is known by the handshake: 4.01."""
    code, _ = coaps.enrol("sen", lab.asks("nobody").csr, None)
    assert code == "4.01"
