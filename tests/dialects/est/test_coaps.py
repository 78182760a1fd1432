"""EST over CoAPS, row by row of RFC 9148."""

from __future__ import annotations

import certs
import pytest
from cryptography import x509
from est_desk import bundle, csr_of, only
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.model import Wire
from gateway.wire.call import Format

ENROLMENTS = ["POST /est/sen", "POST /est/sren", "POST /.well-known/est/sen"]


def request(cn="dev-1", **options) -> bytes:
    return certs.der_of(certs.csr(cn=cn, **options))


def test_4_1_the_resources_are_told(desk):
    """The links name each resource, its type and its formats."""
    assert desk.est.links() == (
        '</est/crts>;rt="ace.est.crts";ct="281 287"',
        '</est/sen>;rt="ace.est.sen";ct="281 287"',
        '</est/sren>;rt="ace.est.sren";ct="281 287"',
        '</est/att>;rt="ace.est.att";ct=285',
    )


@pytest.mark.parametrize("path", ["/est", "/.well-known/est", "/.well-known/est/label"])
async def test_4_1_crts_under_each_path(desk, lab, path):
    """2.05 with the root and who signs now, in DER."""
    code, label, reply = await desk.coaps(f"GET {path}/crts")
    assert (code, label) == ("2.05", 281)
    found = {one.subject for one in bundle(reply.body)}
    assert found == {(await lab.root()).subject, (await lab.issuing()).subject}


async def test_4_3_a_single_certificate_is_given_when_asked_for(desk, lab):
    """Accept 287: of the authority the root, of a device its certificate."""
    code, label, reply = await desk.coaps("GET /est/crts", accept=287)
    assert (code, label) == ("2.05", 287)
    assert x509.load_der_x509_certificate(reply.body) == await lab.root()
    device, identity = await desk.enrolled("dev-1")
    code, label, reply = await desk.coaps("POST /est/sen", request(), identity=identity, accept=287)
    assert (code, label) == ("2.04", 287)
    assert await desk.counts(device, x509.load_der_x509_certificate(reply.body))


@pytest.mark.parametrize("accept", [None, 281, 50])
@pytest.mark.parametrize("address", ENROLMENTS)
async def test_4_3_a_device_enrols_again(desk, address, accept):
    """2.04 with its certificate alone, in a PKCS #7 of format 281; other wishes are not heard."""
    key = certs.new_key()
    device, identity = await desk.enrolled("dev-1")
    code, label, reply = await desk.coaps(
        address, request(key=key), identity=identity, accept=accept
    )
    assert (code, label) == ("2.04", 281)
    certificate = only(reply.body)
    assert certificate.public_key() == key.public_key()
    assert await desk.counts(device, certificate)


async def test_a_pre_shared_key_enrols(desk):
    """A device that has a key for DTLS gets a certificate, and keeps its key until it uses it."""
    device, identity = await desk.keyed("dev-1")
    code, _, reply = await desk.coaps("POST /est/sen", request(), identity=identity)
    assert code == "2.04"
    assert await desk.counts(device, only(reply.body))
    assert await desk.lab.access.by_identity(identity) is not None


@pytest.mark.parametrize("address", ENROLMENTS)
async def test_3_a_session_of_nobody_enrols_nobody(desk, address):
    """Without certificate and key: 4.01 in words without a format."""
    code, label, reply = await desk.coaps(address, request())
    assert (code, label) == ("4.01", None)
    assert b"pre-shared key" in reply.body
    assert await desk.lab.devices() == []


@pytest.mark.parametrize("address", [*ENROLMENTS, "GET /est/crts", "GET /est/att"])
async def test_3_nothing_is_served_in_clear(desk, address):
    """Over plain CoAP: 4.03."""
    code, label, reply = await desk.coaps(address, request(), wire=Wire.COAP)
    assert (code, label) == ("4.03", None)
    assert b"CoAPS" in reply.body


async def test_att_asks_for_the_profiles_key(desk):
    """2.05, format 285, DER."""
    code, label, reply = await desk.coaps("GET /est/att")
    assert (code, label) == ("2.05", 285)
    assert reply.body[0] == 0x30
    assert len(reply.body) == reply.body[1] + 2


async def test_sren_looks_at_the_name_and_sen_does_not(desk):
    """RFC 7030, section 4.2.2: a re-enrolment is for the same name."""
    _, identity = await desk.enrolled("dev-1")
    code, _, reply = await desk.coaps("POST /est/sren", request("dev-2"), identity=identity)
    assert (code, reply.reason) == ("4.00", "cn_mismatch")
    code, _, _ = await desk.coaps("POST /est/sen", request("dev-2"), identity=identity)
    assert code == "2.04"


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        ("csr_unreadable", b""),
        ("csr_unreadable", b"\x30\x03nix"),
        ("weak_key", request(key="RSA-1024")),
        ("bad_signature", certs.der_of(certs.csr_signed_by_another())),
    ],
)
async def test_a_request_that_cannot_be_signed_is_4_00_in_words(desk, reason, body):
    """With a diagnostic payload and an event."""
    _, identity = await desk.enrolled("dev-1")
    code, label, reply = await desk.coaps("POST /est/sen", body, identity=identity)
    assert (code, label, reply.format, reply.reason) == ("4.00", None, Format.TEXT, reason)
    assert reason in await desk.refusals()


async def test_base64_is_read_as_well(desk):
    """A client that sends what it would send over HTTPS is served."""
    _, identity = await desk.enrolled("dev-1")
    code, _, _ = await desk.coaps("POST /est/sen", csr_of().encode(), identity=identity)
    assert code == "2.04"


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.binary(max_size=120))
async def test_any_body_is_a_clean_refusal(desk, body):
    """Whatever a stranger sends, the answer is 4.01."""
    code, _, _ = await desk.coaps("POST /est/sen", body)
    assert code == "4.01"
