"""EST with foreign clients: curl over HTTPS and libcoap over CoAPS, on real sockets."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from base64 import b64decode
from typing import Any

import certs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from est_desk import Desk, bundle, only
from http_ground import shapes

from gateway.core.identities import Identities
from gateway.core.limits import RateLimiter
from gateway.core.model import Wire
from gateway.core.presence import Attendance
from gateway.core.sessions import Sessions
from gateway.transports.coap.dtls import Dtls
from gateway.transports.coap.listener import CoapListener
from gateway.transports.http import HttpListener
from gateway.transports.tls import Contexts, TlsServer
from gateway.wire.router import Gauge, Router

LIBCOAP = [
    name for name in ("coap-client-openssl", "coap-client-gnutls") if shutil.which(name)
] or ["coap-client-openssl"]


class RealClock:
    """Handshakes look at the time of day, so the certificates must too."""

    def __call__(self) -> int:
        from gateway.clock import now_ms

        return now_ms()


class Wires:
    """The dialect on HTTPS and CoAPS, and a folder for clients' files."""

    def __init__(self, desk: Desk, folder: Any) -> None:
        self.desk = desk
        self.folder = folder
        lab = desk.lab
        sessions = Sessions(Attendance(lab.store, lab.clock))
        self._identities = Identities(lab.store, sessions, lab.profiles, lab.clock)
        ca = certs.Authority("lab")
        (folder / "ca.pem").write_text(ca.pem)
        self._contexts = Contexts(*ca.server().files(folder, "server"))
        self._contexts.load()

    async def start(self) -> None:
        def error(code: int, message: str) -> bytes:
            return json.dumps({"status": code, "message": message}).encode()

        routes = self.desk.est.routes()
        self.https = HttpListener(
            Router(routes, Wire.HTTP, Gauge(100)),
            host="127.0.0.1",
            port=0,
            shapes=shapes(error),
            tls=TlsServer(self._contexts),
            vouch=self._identities.vouch,
        )
        self.coaps = CoapListener(
            Router(routes, Wire.COAP, Gauge(100)),
            host="127.0.0.1",
            port=0,
            links=self.desk.est.links(),
            dtls=Dtls(self._contexts, vouch=self._identities.vouch, keys=self._identities),
        )
        await self.https.start()
        await self.coaps.start()

    async def stop(self) -> None:
        await self.https.stop(0)
        await self.coaps.stop(0)

    async def run(self, *words: str) -> bytes:
        """What a program prints; it must succeed."""
        running = await asyncio.create_subprocess_exec(
            *words, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        async with asyncio.timeout(20):
            output, errors = await running.communicate()
        assert running.returncode == 0, (words, output, errors)
        return output

    async def curl(self, operation: str, *options: str) -> tuple[int, bytes]:
        url = f"https://127.0.0.1:{self.https.port}/.well-known/est/{operation}"
        told = await self.run(
            *("curl", "-s", "--cacert", "ca.pem", "-w", "\n%{http_code}", *options, url)
        )
        body, _, code = told.rpartition(b"\n")
        return int(code), body

    async def libcoap(self, program: str, path: str, *options: str) -> bytes:
        """The payload of the answer."""
        answer = self.folder / "answer"
        answer.unlink(missing_ok=True)
        url = f"coaps://127.0.0.1:{self.coaps.port}{path}"
        await self.run(program, "-B", "10", "-o", "answer", *options, url)
        return answer.read_bytes() if answer.exists() else b""

    async def request(self, name: str, stem: str) -> None:
        """`openssl req`: a new key, and a request in DER and in base64."""
        await self.run(
            *("openssl", "req", "-new", "-nodes", "-newkey", "ec", "-subj", f"/CN={name}"),
            *("-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", f"{stem}.key"),
            *("-outform", "DER", "-out", f"{stem}.der"),
        )
        await self.run("openssl", "base64", "-in", f"{stem}.der", "-out", f"{stem}.b64")

    async def enrol(self, name: str, stem: str) -> x509.Certificate:
        """A device that enrolled with curl; `<stem>.pem` is its certificate with its issuer's."""
        await self.request(name, stem)
        ticket = self.desk.fleet.ticket
        code, body = await self.curl(
            "simpleenroll",
            *("-u", f"{ticket.key.reveal()}:{ticket.secret.reveal()}"),
            *("-H", "Content-Type: application/pkcs10", "--data-binary", f"@{stem}.b64"),
        )
        assert code == 200, body
        return await self.keep(only(b64decode(body)), stem)

    async def keep(self, certificate: x509.Certificate, stem: str) -> x509.Certificate:
        issuing = await self.desk.lab.issuing()
        chain = [one.public_bytes(Encoding.PEM) for one in (certificate, issuing)]
        (self.folder / f"{stem}.pem").write_bytes(b"".join(chain))
        return certificate


@pytest.fixture
def clock():
    return RealClock()


@pytest.fixture
def limiter():
    return RateLimiter()


@pytest.fixture
async def wires(desk, tmp_path):
    made = Wires(desk, tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
async def test_curl_enrols_and_renews(wires):
    """The whole life by RFC 7030: cacerts, enrol with key and secret, re-enrol by certificate."""
    code, body = await wires.curl("cacerts")
    assert code == 200
    assert await wires.desk.lab.root() in bundle(b64decode(body))

    first = await wires.enrol("dev-1", "first")
    await wires.request("dev-1", "second")
    code, body = await wires.curl(
        "simplereenroll",
        *("--cert", "first.pem", "--key", "first.key", "--data-binary", "@second.b64"),
    )
    assert code == 200, body
    second = await wires.keep(only(b64decode(body)), "second")

    known = await wires.desk.lab.registrar.find_device("dev-1")
    assert known is not None
    assert await wires.desk.counts(known.device, first)
    assert await wires.desk.counts(known.device, second)

    code, _ = await wires.curl("csrattrs", "--cert", "second.pem", "--key", "second.key")
    assert code == 200
    wires.desk.lab.access.forget()
    assert not await wires.desk.counts(known.device, first)  # the new one was used


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
async def test_curl_without_a_login_is_asked_for_one(wires):
    """401 with a challenge that curl understands; a wrong pair gets the same."""
    await wires.request("dev-1", "one")
    for options in ((), ("-u", "wrong:pair")):
        code, body = await wires.curl("simpleenroll", "--data-binary", "@one.b64", "-D-", *options)
        assert code == 401
        assert b'www-authenticate: basic realm="estrealm"' in body.lower()
    assert await wires.desk.lab.devices() == []


@pytest.mark.parametrize("program", LIBCOAP)
async def test_libcoap_re_enrols_by_certificate(wires, program):
    """RFC 9148: the CAs' certificates, and a new one, block by block over DTLS."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here; get it with `apt-get install libcoap3-bin`")
    device_certificate = await wires.enrol("dev-1", "first")
    await wires.request("dev-1", "second")
    proof = ("-c", "first.pem", "-j", "first.key", "-R", "ca.pem")

    crts = await wires.libcoap(program, "/est/crts", "-m", "get", *proof)
    assert await wires.desk.lab.root() in bundle(crts)
    one = await wires.libcoap(program, "/est/crts", "-m", "get", "-A", "287", *proof)
    assert x509.load_der_x509_certificate(one) == await wires.desk.lab.root()

    answer = await wires.libcoap(
        program, "/est/sren", "-m", "post", "-t", "286", "-f", "second.der", *proof
    )
    second = only(answer)
    assert second.serial_number != device_certificate.serial_number
    known = await wires.desk.lab.registrar.find_device("dev-1")
    assert known is not None
    assert await wires.desk.counts(known.device, second)


@pytest.mark.parametrize("program", LIBCOAP)
async def test_libcoap_with_a_pre_shared_key_enrols(wires, program):
    """A device that only has a key gets its first certificate under it."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here; get it with `apt-get install libcoap3-bin`")
    device, _ = await wires.desk.keyed("dev-1")
    await wires.request("dev-1", "one")
    answer = await wires.libcoap(
        program,
        "/est/sen",
        *("-m", "post", "-t", "286", "-f", "one.der", "-u", "psk-dev-1", "-k", "@" * 32),
    )
    assert await wires.desk.counts(device, only(answer))


@pytest.mark.parametrize("program", LIBCOAP)
async def test_libcoap_finds_the_resources(wires, program):
    """`/.well-known/core` has the links of RFC 9148, section 4.1."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here; get it with `apt-get install libcoap3-bin`")
    told = await wires.libcoap(program, "/.well-known/core", "-m", "get", "-R", "ca.pem")
    for link in wires.desk.est.links():
        assert link.encode() in told
