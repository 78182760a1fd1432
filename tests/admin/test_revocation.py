"""`/crl`, `/ocsp` and `/ca` over the real listener, asked by hand and by OpenSSL."""

from __future__ import annotations

import asyncio
import json
import subprocess
from base64 import b64encode
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import aiohttp
import pytest
from certified import Certified
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from http_ground import shapes
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admin.revocation import RevocationApi
from gateway.core.model import Peer, Wire
from gateway.core.pki.revocation import OcspResponder, RevocationLists
from gateway.transports.http import HttpListener
from gateway.wire.call import Call, Status
from gateway.wire.router import Gauge, Router

HOUR = 3_600_000
PEER = Peer(Wire.HTTP, "192.0.2.1:1")


@pytest.fixture
async def lab(store, clock, tokens):
    return Certified(store, clock, tokens)


@pytest.fixture
async def lists(lab):
    return RevocationLists(lab.store, lab.authorities, lab.clock, lifetime_ms=24 * HOUR)


@pytest.fixture
async def api(lab, lists):
    responder = OcspResponder(lab.store, lab.authorities, lab.clock, lifetime_ms=HOUR)
    return RevocationApi(lists, responder, lab.authorities, lab.clock)


@pytest.fixture
async def url(api):
    def error(code, message):
        return json.dumps({"status": code, "message": message}).encode()

    router = Router(api.routes(), Wire.HTTP, Gauge(100))
    listener = HttpListener(router, host="127.0.0.1", port=0, shapes=shapes(error))
    await listener.start()
    yield f"http://127.0.0.1:{listener.port}"
    await listener.stop(0)


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


def asked(certificate, issuer) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA256())
    return builder.build().public_bytes(Encoding.DER)


async def test_the_list_is_served_with_its_labels(lab, url, http, clock):
    """`/crl` is the list of who signs now; a cache may keep it for a minute."""
    async with http.get(f"{url}/crl") as response:
        crl = x509.load_der_x509_crl(await response.read())
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/pkix-crl"
        assert "max-age=60" in response.headers["Cache-Control"]
        made = parsedate_to_datetime(response.headers["Last-Modified"])
    assert int(made.timestamp()) == clock.now // 1000
    assert crl.is_signature_valid((await lab.issuing()).public_key())


async def test_the_address_in_a_certificate_leads_to_its_list(store, clock, tokens, new_fleet, api):
    """The distribution point and both access points of a certificate are addresses served here."""
    lab = Certified(store, clock, tokens, public_url="http://gate.example:8080")
    _, certificate = await lab.device(await new_fleet(), "one")
    extensions = certificate.extensions
    (point,) = extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    told = extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    places = [point.full_name[0].value, *(one.access_location.value for one in told)]
    router = Router(api.routes(), Wire.HTTP, Gauge(100))
    for place in places:
        path = place.removeprefix("http://gate.example:8080")
        method = "POST" if path == "/ocsp" else "GET"
        assert router.match(f"{method} {path}") is not None, place


async def test_each_authority_is_served_by_its_number(lab, url, http):
    """`/crl/{id}` and `/ca/{id}` are those of that authority, also of a retired one."""
    old = (await lab.authorities.issuer()).signer
    await lab.authorities.rotate()
    async with http.get(f"{url}/ca/{old.authority_id}") as response:
        assert response.headers["Content-Type"] == "application/pkix-cert"
        assert x509.load_der_x509_certificate(await response.read()) == old.certificate
    async with http.get(f"{url}/crl/{old.authority_id}") as response:
        crl = x509.load_der_x509_crl(await response.read())
    assert crl.issuer == old.certificate.subject


@pytest.mark.parametrize("number", ["0", "4711", "x", "-1", "1.0", "٣", "9" * 30])
@pytest.mark.parametrize("place", ["crl", "ca"])
async def test_other_numbers_are_not_found(url, http, place, number):
    """404 with a sentence for whatever is no authority's number."""
    async with http.get(f"{url}/{place}/{number}") as response:
        assert response.status == 404
        assert "authority" in (await response.json())["message"]


async def test_ocsp_by_post_and_by_address(lab, url, http, new_fleet):
    """The same question, both ways (RFC 6960, appendix A.1), with the base64 escaped or bare."""
    _, certificate = await lab.device(await new_fleet(), "one")
    der = asked(certificate, await lab.issuing())
    text = b64encode(der).decode()
    escaped = f"{url}/ocsp/{quote(text, safe='')}"
    for response in (
        await http.post(f"{url}/ocsp", data=der),
        await http.get(aiohttp.client.URL(escaped, encoded=True)),
        await http.get(
            aiohttp.client.URL(escaped.removesuffix("%3D").removesuffix("%3D"), encoded=True)
        ),
    ):
        async with response:
            told = ocsp.load_der_ocsp_response(await response.read())
            assert response.headers["Content-Type"] == "application/ocsp-response"
            assert "max-age=3600" in response.headers["Cache-Control"]
        assert told.certificate_status is ocsp.OCSPCertStatus.GOOD


async def test_an_ocsp_refusal_is_an_answer_and_not_kept(url, http):
    """What is no request is 200 with malformedRequest inside, for no cache."""
    for response in (
        await http.post(f"{url}/ocsp", data=b"nonsense"),
        await http.post(f"{url}/ocsp", data=b""),
        await http.get(f"{url}/ocsp/nonsense"),
    ):
        async with response:
            told = ocsp.load_der_ocsp_response(await response.read())
            assert response.status == 200
            assert response.headers["Cache-Control"] == "no-store"
        assert told.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


async def test_openssl_asks(lab, url, new_fleet, lists, tmp_path):
    """`openssl ocsp` verifies the answers: good, then revoked."""
    _, certificate = await lab.device(await new_fleet(), "one")
    for name, one in (
        ("root", await lab.root()),
        ("issuing", await lab.issuing()),
        ("leaf", certificate),
    ):
        (tmp_path / f"{name}.pem").write_bytes(one.public_bytes(Encoding.PEM))

    async def said() -> str:
        asking = await asyncio.create_subprocess_exec(
            *("openssl", "ocsp", "-issuer", "issuing.pem", "-cert", "leaf.pem"),
            *("-url", f"{url}/ocsp", "-CAfile", "root.pem"),
            *("-attime", str(lab.clock.now // 1000), "-validity_period", "2000000000"),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await asking.communicate()
        return output.decode()

    first = await said()
    assert "Response verify OK" in first
    assert "leaf.pem: good" in first
    await lab.revoke(certificate)
    second = await said()
    assert "Response verify OK" in second
    assert "leaf.pem: revoked" in second


@pytest.fixture(scope="module")
def nobody():
    """Without a store: enough for requests that name no authority."""

    class Authorities:
        file = None

        async def all(self):
            return []

    responder = OcspResponder(None, Authorities(), lambda: 1)
    return RevocationApi(None, responder, Authorities(), lambda: 1)


@settings(deadline=None, max_examples=80)
@given(text=st.text(max_size=200) | st.binary(max_size=100).map(lambda b: b64encode(b).decode()))
def test_any_address_gets_a_response(nobody, text):
    """Whatever stands behind `/ocsp/`, the answer is an OCSP response that says no."""
    call = Call(b"", PEER, {"request": text})
    reply = asyncio.run(nobody.ocsp_get(call))
    assert reply.status is Status.OK
    told = ocsp.load_der_ocsp_response(reply.body)
    assert told.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL
