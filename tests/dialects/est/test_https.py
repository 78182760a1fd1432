"""EST over HTTPS, row by row of RFC 7030."""

from __future__ import annotations

import subprocess

import certs
import pytest
from certified import identity_of
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from est_desk import Desk, basic, bundle, csr_of, der_of, only
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.limits import Limits, RateLimiter, parse_rate
from gateway.core.model import ProvisionType, Wire
from gateway.core.pki.model import CertificateProfile, KeyKind
from gateway.wire.call import Format
from gateway.wire.router import REQUEST_ID

ISSUED = "application/pkcs7-mime; smime-type=certs-only"


# ── 4.1 cacerts ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", [Wire.HTTP, Wire.HTTPS])
@pytest.mark.parametrize("path", ["cacerts", "any-label/cacerts"])
async def test_4_1_cacerts_are_for_everybody(desk, lab, wire, path):
    """The root and who signs now, without a login, also over plain HTTP."""
    code, reply = await desk.https(f"GET {path}", wire=wire)
    assert code == 200
    assert reply.headers["Content-Type"] == "application/pkcs7-mime"
    found = {one.subject for one in bundle(der_of(reply))}
    assert found == {(await lab.root()).subject, (await lab.issuing()).subject}


async def test_a_client_that_does_not_say_who_it_is_gets_one_line(desk):
    """strongSwan before 5.9.11 is such a one, and cannot read base64 in lines (RFC 8951, 3.1)."""
    _, lines = await desk.https("GET cacerts")
    _, line = await desk.https("GET cacerts", agent="")
    assert b"\n" in lines.body
    assert line.body == lines.body.replace(b"\n", b"")


async def test_4_1_cacerts_follow_a_rotation(desk, lab, clock):
    """After a rotation the new issuing certificate is told."""
    await lab.authorities.rotate()
    _, reply = await desk.https("GET cacerts")
    assert await lab.issuing() in bundle(der_of(reply))


# ── 4.2.1 simpleenroll ────────────────────────────────────────────────────────────────────────


async def test_4_2_1_a_fleets_key_and_secret_enrol_a_device(desk, lab):
    """The answer holds the certificate alone; the device exists and is called as asked."""
    key = certs.new_key()
    body = csr_of("dev-1", key=key)
    code, reply = await desk.https("POST simpleenroll", body, headers=desk.login)
    assert (code, reply.headers["Content-Type"]) == (200, ISSUED)
    certificate = only(der_of(reply))
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(await lab.issuing())
    (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert name.value == "dev-1"
    known = await lab.registrar.find_device("dev-1")
    assert known is not None
    assert await desk.counts(known.device, certificate)


@pytest.mark.parametrize("form", ["lines", "pem", "der"])
async def test_4_2_1_the_request_comes_in_every_form(desk, form):
    """Base64 in lines (RFC 7030), PEM and DER are all read."""
    pem = certs.csr(cn="dev-1")
    body = {
        "lines": "\r\n".join(pem.splitlines()[1:-1]).encode(),
        "pem": pem.encode(),
        "der": certs.der_of(pem),
    }[form]
    code, _ = await desk.https("POST simpleenroll", body, headers=desk.login)
    assert code == 200
    assert await desk.lab.devices() == ["dev-1"]


async def test_4_2_1_without_a_common_name_the_device_gets_a_name(desk):
    """An empty subject leaves the name to us."""
    code, reply = await desk.https("POST simpleenroll", csr_of(None), headers=desk.login)
    assert code == 200
    (name,) = only(der_of(reply)).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert await desk.lab.devices() == [name.value]


async def test_4_2_1_a_waiting_device_is_claimed_by_its_name(new_fleet, lab, limiter):
    """With pre-provisioned devices the common name says which; an unknown one gets nothing."""
    fleet = await new_fleet(ProvisionType.CHECK_PRE_PROVISIONED_DEVICES)
    await fleet.waiting("expected")
    desk = Desk(lab, fleet, limiter)
    code, reply = await desk.https("POST simpleenroll", csr_of("other"), headers=desk.login)
    assert (code, reply.reason) == (400, "no_such_device")
    code, reply = await desk.https("POST simpleenroll", csr_of(None), headers=desk.login)
    assert (code, reply.reason) == (400, "name_missing")
    code, reply = await desk.https("POST simpleenroll", csr_of("expected"), headers=desk.login)
    assert code == 200
    code, reply = await desk.https("POST simpleenroll", csr_of("expected"), headers=desk.login)
    assert (code, reply.reason) == (400, "already_provisioned")


async def test_4_2_1_a_client_certificate_enrols_again(desk):
    """A device that shows its certificate gets another; what it has goes on counting."""
    device, identity = await desk.enrolled("dev-1")
    code, reply = await desk.https("POST simpleenroll", csr_of("x"), identity=identity)
    assert code == 200
    assert await desk.counts(device, only(der_of(reply)))
    assert (await desk.lab.access.by_identity(identity)).id == device.id
    assert await desk.lab.devices() == ["dev-1"]


# ── 3.2.3 authentication ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", ["simpleenroll", "label/simpleenroll"])
async def test_3_2_3_nobody_is_asked_for_a_login(desk, operation):
    """401 with the Basic challenge, and no device."""
    code, reply = await desk.https(f"POST {operation}", csr_of())
    assert (code, reply.format) == (401, Format.TEXT)
    assert reply.headers["WWW-Authenticate"] == 'Basic realm="estrealm", charset="UTF-8"'
    assert await desk.lab.devices() == []


@pytest.mark.parametrize("wrong", ["key", "secret", "both", "empty"])
async def test_3_2_3_a_wrong_pair_is_401(desk, wrong):
    """Whichever half is wrong the answer is the same, the event says which, no device is born."""
    key = desk.fleet.ticket.key.reveal()
    secret = desk.fleet.ticket.secret.reveal()
    headers = {
        "key": basic("x", secret),
        "secret": basic(key, "x"),
        "both": basic("x", "y"),
        "empty": basic("", ""),
    }[wrong]
    code, reply = await desk.https("POST simpleenroll", csr_of(), headers=headers)
    assert (code, reply.headers["WWW-Authenticate"][:5]) == (401, "Basic")
    assert await desk.refusals() == ["wrong_secret" if wrong == "secret" else "unknown_key"]
    assert await desk.lab.devices() == []


async def test_3_2_3_a_request_of_a_stranger_is_not_looked_into(desk):
    """Whoever has no login learns nothing of what they sent."""
    code, _ = await desk.https("POST simpleenroll", b"nonsense", headers=basic("x", "y"))
    assert code == 401
    assert await desk.refusals() == ["unknown_key"]


async def test_3_2_3_a_revoked_certificate_enrols_nobody(desk, lab):
    """After its revocation the certificate proves nothing."""
    device, certificate = await lab.device(desk.fleet, "dev-1")
    await lab.revoke(certificate)
    identity = identity_of(device, certificate)
    assert (await desk.https("POST simpleenroll", csr_of(), identity=identity))[0] == 401
    assert (await desk.https("POST simplereenroll", csr_of(), identity=identity))[0] == 403


@pytest.mark.parametrize(
    ("operation", "method"),
    [("simpleenroll", "POST"), ("simplereenroll", "POST"), ("csrattrs", "GET")],
)
async def test_3_3_enrolment_is_not_served_in_clear(desk, operation, method):
    """Over plain HTTP the answer is 403 in words, whatever login came along."""
    code, reply = await desk.https(
        f"{method} {operation}", csr_of(), headers=desk.login, wire=Wire.HTTP
    )
    assert code == 403
    assert b"HTTPS" in reply.body
    assert await desk.lab.devices() == []


# ── 3.2.2 labels ──────────────────────────────────────────────────────────────────────────────


async def test_3_2_2_the_label_is_the_profile(desk):
    """With the profile's name it is served, with another it is 404 and nothing happens."""
    code, reply = await desk.https("POST other/simpleenroll", csr_of(), headers=desk.login)
    assert (code, reply.format) == (404, Format.TEXT)
    assert await desk.lab.devices() == []
    code, _ = await desk.https("POST fleet/simpleenroll", csr_of(), headers=desk.login)
    assert code == 200
    _, identity = await desk.enrolled("dev-2")
    code, _ = await desk.https("POST other/simplereenroll", csr_of(None), identity=identity)
    assert code == 404
    code, _ = await desk.https("POST fleet/simplereenroll", csr_of(None), identity=identity)
    assert code == 200


async def test_3_2_2_a_label_is_no_oracle(desk):
    """A stranger is told the same for a label that exists and one that does not."""
    told = []
    for label in ("fleet", "other"):
        code, reply = await desk.https(
            f"POST {label}/simpleenroll", csr_of(), headers=basic("x", "y")
        )
        headers = {name: reply.headers[name] for name in reply.headers if name != REQUEST_ID}
        told.append((code, reply.body, reply.status, reply.reason, headers))
    assert told[0] == told[1]


# ── 4.2.2 simplereenroll ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cn", ["dev-1", None])
async def test_4_2_2_a_device_renews(desk, cn):
    """With its own name in the request, or none."""
    device, identity = await desk.enrolled("dev-1")
    code, reply = await desk.https("POST simplereenroll", csr_of(cn), identity=identity)
    assert (code, reply.headers["Content-Type"]) == (200, ISSUED)
    assert await desk.counts(device, only(der_of(reply)))


async def test_4_2_2_another_name_is_refused(desk):
    """A request that names another device is 400 in words, and written down."""
    _, identity = await desk.enrolled("dev-1")
    code, reply = await desk.https("POST simplereenroll", csr_of("dev-2"), identity=identity)
    assert (code, reply.reason) == (400, "cn_mismatch")
    assert await desk.refusals() == ["cn_mismatch"]


async def test_4_2_2_the_name_in_its_certificate_is_its_own(new_fleet, lab, limiter):
    """Where the profile calls devices otherwise in their certificates, that name does as well."""
    profile = CertificateProfile(subject={"CN": "{profile}/{name}", "O": "Example"})
    desk = Desk(lab, await new_fleet(certificate=profile), limiter)
    _, identity = await desk.enrolled("dev-1")
    for cn, expected in (("fleet/dev-1", 200), ("dev-1", 200), ("fleet/dev-2", 400)):
        code, _ = await desk.https("POST simplereenroll", csr_of(cn), identity=identity)
        assert code == expected, cn


async def test_4_2_2_a_login_does_not_renew(desk):
    """Key and secret are not enough: 403 says what is."""
    code, reply = await desk.https("POST simplereenroll", csr_of(), headers=desk.login)
    assert code == 403
    assert b"client certificate" in reply.body


async def test_4_2_2_renewal_after_the_end_is_as_the_profile_says(new_fleet, lab, limiter, clock):
    """In its days of grace an ended certificate renews, and after them it does not."""
    desk = Desk(lab, await new_fleet(certificate=CertificateProfile(grace_days=2)), limiter)
    _, identity = await desk.enrolled("dev-1")
    day = 86_400_000
    clock.now = identity.expires_at + 2 * day
    code, _ = await desk.https("POST simplereenroll", csr_of(None), identity=identity)
    assert code == 200
    clock.now += 1
    code, _ = await desk.https("POST simplereenroll", csr_of(None), identity=identity)
    assert code == 403


async def test_4_2_2_renewals_count_as_messages(lab, fleet):
    """A device that renews too often is told when to come again."""
    limiter = RateLimiter(device=Limits(messages=parse_rate("1:60")))
    desk = Desk(lab, fleet, limiter)
    _, identity = await desk.enrolled("dev-1")
    code, _ = await desk.https("POST simplereenroll", csr_of(None), identity=identity)
    assert code == 200
    code, reply = await desk.https("POST simplereenroll", csr_of(None), identity=identity)
    assert code == 429
    assert reply.retry_after_s > 0


# ── 4.2.3 refusals ────────────────────────────────────────────────────────────────────────────

_EXTRA = ((x509.BasicConstraints(ca=True, path_length=None), True),)


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        ("csr_unreadable", b""),
        ("csr_unreadable", b" \r\n"),
        ("csr_unreadable", b"nonsense"),
        ("csr_unreadable", b"0\x82"),
        ("csr_unreadable", b"\xff\xfe"),
        ("weak_key", csr_of(key="RSA-1024").encode()),
        ("csr_extra_extensions", csr_of(None, extensions=_EXTRA).encode()),
        ("bad_signature", certs.csr_signed_by_another().encode()),
    ],
)
@pytest.mark.parametrize("way", ["login", "certificate"])
async def test_4_2_3_a_request_that_cannot_be_signed_is_400_in_words(desk, reason, body, way):
    """A sentence as text/plain, an event with the reason, and no certificate."""
    if way == "login":
        code, reply = await desk.https("POST simpleenroll", body, headers=desk.login)
    else:
        _, identity = await desk.enrolled("enrolled")
        code, reply = await desk.https("POST simplereenroll", body, identity=identity)
    assert (code, reply.format, reply.reason) == (400, Format.TEXT, reason)
    assert reply.body
    assert reason in await desk.refusals()
    assert set(await desk.lab.devices()) <= {"enrolled"}


async def test_4_2_3_a_key_of_another_device_is_refused(desk):
    """One key, one device."""
    key = certs.new_key()
    await desk.enrolled("dev-1", key=key)
    code, reply = await desk.https(
        "POST simpleenroll", csr_of("dev-2", key=key), headers=desk.login
    )
    assert (code, reply.reason) == (400, "reused_key")
    assert await desk.lab.devices() == ["dev-1"]


async def test_4_2_3_a_taken_name_is_refused(desk):
    """Whoever has key and secret cannot become a device that exists."""
    await desk.enrolled("dev-1")
    code, reply = await desk.https("POST simpleenroll", csr_of("dev-1"), headers=desk.login)
    assert (code, reply.reason) == (400, "name_taken")


async def test_4_2_3_a_fleet_that_is_switched_off_says_so(new_fleet, lab, limiter):
    """To whoever has its key and secret."""
    desk = Desk(lab, await new_fleet(ProvisionType.DISABLED), limiter)
    code, reply = await desk.https("POST simpleenroll", csr_of(), headers=desk.login)
    assert (code, reply.reason) == (400, "provisioning_disabled")


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.binary(max_size=120))
async def test_any_body_is_a_clean_refusal(desk, body):
    """Whatever is sent with a good login, the answer is 400 in words."""
    code, reply = await desk.https("POST simpleenroll", body, headers=desk.login)
    assert (code, reply.format) == (400, Format.TEXT)


# ── 4.3, 4.4 what is not offered; 4.5 csrattrs ────────────────────────────────────────────────


@pytest.mark.parametrize("operation", ["fullcmc", "serverkeygen", "label/serverkeygen"])
async def test_4_3_and_4_4_are_not_offered(desk, operation):
    """501 in words."""
    code, reply = await desk.https(f"POST {operation}", csr_of(), headers=desk.login)
    assert (code, reply.format) == (501, Format.TEXT)


def objects(der: bytes) -> list[str]:
    shown = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER"], input=der, capture_output=True, check=True
    ).stdout.decode()
    return [line.rsplit(":", 1)[1] for line in shown.splitlines() if "OBJECT" in line]


async def test_4_5_csrattrs_are_the_usual_ones_for_a_stranger(desk):
    """Without a login: a P-256 key, ECDSA with SHA-256."""
    code, reply = await desk.https("GET csrattrs")
    assert (code, reply.headers["Content-Type"]) == (200, "application/csrattrs")
    assert objects(der_of(reply)) == ["id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256"]


async def test_4_5_csrattrs_are_those_of_the_callers_profile(new_fleet, lab, limiter):
    """By key and secret, and by certificate."""
    profile = CertificateProfile(keys=(KeyKind.P384,))
    desk = Desk(lab, await new_fleet(certificate=profile), limiter)
    _, identity = await desk.enrolled("dev-1", key="P-384")
    for caller in ({"headers": desk.login}, {"identity": identity}):
        _, reply = await desk.https("GET csrattrs", **caller)
        assert objects(der_of(reply)) == ["id-ecPublicKey", "secp384r1", "ecdsa-with-SHA384"]
    _, reply = await desk.https("GET csrattrs", headers=basic("x", "y"))
    assert "secp384r1" not in objects(der_of(reply))


async def test_openssl_reads_the_answers(desk, tmp_path):
    """`openssl pkcs7` prints what `cacerts` and `simpleenroll` gave."""
    for address, body in (("GET cacerts", ""), ("POST simpleenroll", csr_of("dev-1"))):
        _, reply = await desk.https(address, body, headers=desk.login)
        (tmp_path / "answer.der").write_bytes(der_of(reply))
        shown = subprocess.run(
            ["openssl", "pkcs7", "-inform", "DER", "-print_certs", "-in", "answer.der"],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        ).stdout
        found = x509.load_pem_x509_certificates(shown)
        assert {one.public_bytes(Encoding.DER) for one in found} == {
            one.public_bytes(Encoding.DER) for one in bundle(der_of(reply))
        }
