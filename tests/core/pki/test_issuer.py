"""Certificates we sign: RFC 5280 in every field, and nothing of the request but its key."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import certs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import RefusalReason
from gateway.core.pki import der
from gateway.core.pki.authority import file_signer, make_issuing, make_root, signer_of
from gateway.core.pki.chain import verify_chain
from gateway.core.pki.csr import read_csr
from gateway.core.pki.issuer import Issuer, new_serial
from gateway.core.pki.model import CertificateProfile, Unfit

NOW = 1_790_000_000_000
DAY = 86_400_000
ROOT = make_root(NOW)
SIGNER = signer_of(make_issuing(ROOT, NOW), [ROOT])
ISSUER = Issuer(SIGNER, public_url="http://gate.example:8080/")
REQUEST = read_csr(certs.csr())
OPENSSL = shutil.which("openssl")


def issue(request=REQUEST, profile=None, *, issuer=ISSUER, name="pump-1", now=NOW, serial=7):
    profile = profile or CertificateProfile()
    draft = issuer.draft(request, profile, name=name, profile_name="pumps", now=now)
    return issuer.issue(draft, serial)


def made(*args, **kwargs):
    return x509.load_der_x509_certificate(issue(*args, **kwargs).der)


def found(certificate, kind):
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def asking(*extensions, kind="P-256"):
    return read_csr(certs.csr(kind, extensions=extensions))


def reason_of(*args, **kwargs):
    with pytest.raises(Unfit) as caught:
        issue(*args, **kwargs)
    return caught.value.reason


# ── what is in it ─────────────────────────────────────────────────────────────────────────────


def test_what_is_handed_out():
    """The certificate comes with its number, its end and those above it."""
    issued = issue(serial=4711)
    certificate = x509.load_der_x509_certificate(issued.der)
    assert certificate.serial_number == issued.serial == 4711
    assert issued.authority_id == SIGNER.authority_id
    assert issued.issuers == SIGNER.issuers
    assert issued.not_after == int(certificate.not_valid_after_utc.timestamp() * 1000)
    verify_chain((issued.der, *issued.issuers), SIGNER.root, NOW)


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA-2048"])
@pytest.mark.parametrize("authority", ["P-256", "P-384", "P-521", "Ed25519", "RSA-2048"])
def test_every_kind_of_key_under_every_kind(kind, authority):
    """It is believed, and its bytes are those of cryptography's own builder."""
    root = certs.Authority("Root", key=authority)
    signer = file_signer(root.pem.encode(), root.key_pem.encode(), None, now=NOW)
    names = {"dns_names": ("{name}.example",), "uris": ("urn:dev:{name}",)}
    request = read_csr(certs.csr(kind))
    profile = CertificateProfile(**names)
    certificate = made(request, profile, issuer=Issuer(signer), serial=new_serial())
    certificate.verify_directly_issued_by(root.certificate)
    assert certificate.public_key() == request.public_key
    assert certificate.tbs_certificate_bytes == _by_the_builder(certificate, root.key)


def _by_the_builder(like, key):
    builder = x509.CertificateBuilder(
        like.issuer,
        like.subject,
        like.public_key(),
        like.serial_number,
        like.not_valid_before_utc,
        like.not_valid_after_utc,
    )
    for one in like.extensions:
        builder = builder.add_extension(one.value, one.critical)
    over = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    size = 0 if isinstance(key, ed25519.Ed25519PrivateKey) else min(key.key_size, 2048)
    digest = None if not size else over.get(size, hashes.SHA256())
    return builder.sign(key, digest).tbs_certificate_bytes


def test_it_keeps_to_rfc_5280():
    """Version 3, and each extension as critical as section 4.2 wants it."""
    certificate = made()
    assert certificate.version is x509.Version.v3
    assert certificate.issuer == SIGNER.certificate.subject
    critical = {one.oid.dotted_string: one.critical for one in certificate.extensions}
    assert critical == {
        "2.5.29.19": True,  # basicConstraints
        "2.5.29.15": True,  # keyUsage
        "2.5.29.37": False,  # extKeyUsage
        "2.5.29.14": False,  # subjectKeyIdentifier
        "2.5.29.35": False,  # authorityKeyIdentifier
        "2.5.29.31": False,  # cRLDistributionPoints
        "1.3.6.1.5.5.7.1.1": False,  # authorityInfoAccess
    }
    assert found(certificate, x509.BasicConstraints).value == x509.BasicConstraints(False, None)
    subject_id = found(certificate, x509.SubjectKeyIdentifier).value
    assert subject_id.digest == REQUEST.key_digest[:20]
    issuer_id = found(certificate, x509.AuthorityKeyIdentifier).value
    own = found(SIGNER.certificate, x509.SubjectKeyIdentifier).value
    assert issuer_id.key_identifier == own.digest


def test_where_its_status_is_to_be_had():
    """The revocation list, OCSP and the issuer are named under the public address."""
    certificate = made()
    number = SIGNER.authority_id
    (point,) = found(certificate, x509.CRLDistributionPoints).value
    assert [one.value for one in point.full_name] == [f"http://gate.example:8080/crl/{number}"]
    access = found(certificate, x509.AuthorityInformationAccess).value
    assert {one.access_method: one.access_location.value for one in access} == {
        AuthorityInformationAccessOID.OCSP: "http://gate.example:8080/ocsp",
        AuthorityInformationAccessOID.CA_ISSUERS: f"http://gate.example:8080/ca/{number}",
    }


def test_without_a_public_address_nothing_is_named():
    """An address nobody reaches is worse than none."""
    certificate = made(issuer=Issuer(SIGNER))
    assert found(certificate, x509.CRLDistributionPoints) is None
    assert found(certificate, x509.AuthorityInformationAccess) is None


def test_how_long_it_holds():
    """As the profile says, from five minutes ago on, and never longer than its issuer."""
    certificate = made(profile=CertificateProfile(lifetime_days=30))
    start = datetime.fromtimestamp(NOW // 1000, UTC)
    assert certificate.not_valid_before_utc == start - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == start + timedelta(days=30)
    longest = made(profile=CertificateProfile(lifetime_days=7300))
    assert longest.not_valid_after_utc == SIGNER.certificate.not_valid_after_utc


def test_an_issuer_that_ended_signs_nothing():
    """A certificate under an expired one is none."""
    assert reason_of(now=NOW + 5 * 365 * DAY) is RefusalReason.NO_AUTHORITY


@pytest.mark.parametrize(
    ("kind", "asked", "given"),
    [
        ("P-256", ("digital_signature", "key_agreement"), {"digital_signature", "key_agreement"}),
        ("P-384", ("digital_signature", "key_encipherment"), {"digital_signature"}),
        ("RSA-2048", ("digital_signature", "key_agreement"), {"digital_signature"}),
        (
            "RSA-2048",
            ("digital_signature", "key_encipherment"),
            {"digital_signature", "key_encipherment"},
        ),
        ("Ed25519", ("digital_signature", "key_agreement"), {"digital_signature"}),
        ("Ed25519", ("key_agreement",), {"digital_signature"}),
        ("P-256", ("digital_signature", "key_cert_sign", "crl_sign"), {"digital_signature"}),
    ],
)
def test_key_usage_fits_the_key(kind, asked, given):
    """What a kind of key cannot do is left out; an authority's work always is."""
    certificate = made(read_csr(certs.csr(kind)), CertificateProfile(key_usage=asked))
    assert found(certificate, x509.KeyUsage).value == certs.key_usage(given)


def test_extended_key_usage():
    """As the profile says; without any there is no such extension."""
    both = made(profile=CertificateProfile(extended_key_usage=("client_auth", "server_auth")))
    assert set(found(both, x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    }
    none = made(profile=CertificateProfile(extended_key_usage=()))
    assert found(none, x509.ExtendedKeyUsage) is None


def test_serial_numbers():
    """Positive, at most 20 bytes, and never twice."""
    serials = {new_serial() for _ in range(1000)}
    assert len(serials) == 1000
    assert all(0 < serial < 1 << 159 for serial in serials)
    assert max(serials).bit_length() > 150


# ── names ─────────────────────────────────────────────────────────────────────────────────────


def subject_of(certificate):
    return [(one.rfc4514_attribute_name, one.value) for one in certificate.subject]


def test_the_profile_names_the_subject():
    """In its order, the device's and the profile's name filled in; the request's is not heard."""
    profile = CertificateProfile(
        subject={
            "C": "DE",
            "O": "Acme",
            "OU": "{profile}",
            "CN": "{name}",
            "serialNumber": "{name}",
        }
    )
    certificate = made(read_csr(certs.csr(cn="admin")), profile)
    assert subject_of(certificate) == [
        ("C", "DE"),
        ("O", "Acme"),
        ("OU", "pumps"),
        ("CN", "pump-1"),
        ("2.5.4.5", "pump-1"),
    ]


def test_a_name_is_no_template():
    """A device named like a placeholder is named so."""
    assert subject_of(made(name="{profile}{name}")) == [("CN", "{profile}{name}")]


@pytest.mark.parametrize("name", ["n" * 65, "ж" * 33, "device " * 30, "漢字" * 100])
def test_a_name_that_is_too_long(name):
    """It is cut to what RFC 5280 allows, marked by its hash, so that two do not become one."""
    ((_, text),) = subject_of(made(name=name))
    assert len(text.encode()) <= 64
    head, mark = text.split("~")
    assert name.startswith(head)
    assert mark == hashlib.sha256(name.encode()).hexdigest()[:16]
    assert subject_of(made(name=name + "x")) != [("CN", text)]


def test_a_name_that_just_fits():
    """64 bytes are not cut."""
    assert subject_of(made(name="n" * 64)) == [("CN", "n" * 64)]


def test_a_serial_number_that_cannot_be_printed():
    """PrintableString has few characters; what does not fit is told by its hash."""
    profile = CertificateProfile(subject={"serialNumber": "{name}"})
    assert subject_of(made(profile=profile, name="A-1 (x)")) == [("2.5.4.5", "A-1 (x)")]
    for name in ("насос_1", "n" * 65):
        ((_, text),) = subject_of(made(profile=profile, name=name))
        assert text == hashlib.sha256(name.encode()).hexdigest()


def test_alternative_names():
    """DNS names and URIs of the profile, what a URI cannot hold percent-encoded."""
    profile = CertificateProfile(
        dns_names=("{name}.devices.example", "{profile}.example"), uris=("urn:dev:x:{name}",)
    )
    extension = found(made(profile=profile), x509.SubjectAlternativeName)
    assert not extension.critical
    assert [one.value for one in extension.value] == [
        "pump-1.devices.example",
        "pumps.example",
        "urn:dev:x:pump-1",
    ]
    odd = CertificateProfile(uris=("urn:dev:{name}",))
    extension = found(made(profile=odd, name="a b/ж"), x509.SubjectAlternativeName)
    assert [one.value for one in extension.value] == ["urn:dev:a%20b%2F%D0%B6"]


def test_alternative_names_alone_are_critical():
    """Without a subject they are the only name (RFC 5280, section 4.2.1.6)."""
    profile = CertificateProfile(subject={}, uris=("urn:dev:{name}",))
    certificate = made(profile=profile)
    assert subject_of(certificate) == []
    assert found(certificate, x509.SubjectAlternativeName).critical


@pytest.mark.parametrize("name", ["two words", "a_b", "насос", "a..b", "-a", "x" * 64, "*", "a\n"])
def test_a_name_that_is_no_host_name(name):
    """Nothing is signed where the profile wants a DNS name of it."""
    profile = CertificateProfile(dns_names=("{name}.example",))
    assert reason_of(profile=profile, name=name) is RefusalReason.NAME_INVALID


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=300))
@settings(deadline=None, max_examples=50)
def test_any_name_is_signed(name):
    """Whatever a device is called, its certificate can be read and says it as well as it can."""
    profile = CertificateProfile(
        subject={"CN": "{name}", "serialNumber": "{name}", "OU": "x {name}"}, uris=("u:{name}",)
    )
    certificate = made(profile=profile, name=name)
    values = dict(subject_of(certificate))
    assert len(values) == 3
    assert values["CN"] == name or "~" in values["CN"]


# ── what was asked for ────────────────────────────────────────────────────────────────────────


def test_a_request_may_ask_for_what_it_gets():
    """The same constraints, fewer usages, fewer names: fine, and of no effect."""
    request = asking(
        (x509.BasicConstraints(False, None), True),
        (certs.key_usage(["digital_signature"]), True),
        (certs.extended_key_usage(["client_auth"]), False),
        (certs.alternative_names(["pump-1.example"]), False),
    )
    profile = CertificateProfile(
        dns_names=("{name}.example",), uris=("urn:dev:{name}",), extended_key_usage=("client_auth",)
    )
    certificate = made(request, profile)
    assert found(certificate, x509.KeyUsage).value.key_agreement
    assert len(list(found(certificate, x509.SubjectAlternativeName).value)) == 2


_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")


@pytest.mark.parametrize(
    "extension",
    [
        x509.BasicConstraints(True, None),
        x509.BasicConstraints(True, 0),
        certs.key_usage(["digital_signature", "key_cert_sign"]),
        certs.key_usage(["key_encipherment"]),
        certs.key_usage(["key_agreement", "decipher_only"]),
        certs.extended_key_usage(["server_auth"]),
        certs.extended_key_usage(["client_auth", "any"]),
        certs.alternative_names(["admin.example"]),
        certs.alternative_names(["pump-1.example", "192.0.2.1"]),
        x509.NameConstraints([x509.DNSName("example")], None),
        _UNKNOWN,
    ],
)
def test_csr_extra_extensions(extension):
    """A request for more than the profile gives is refused; it is not silently given less."""
    profile = CertificateProfile(dns_names=("{name}.example",))
    request = asking((extension, False))
    assert reason_of(request, profile) is RefusalReason.CSR_EXTRA_EXTENSIONS


def test_a_request_may_name_usages_its_key_cannot_have():
    """One text for a whole fleet may ask as the profile says, whatever the key."""
    request = asking(
        (certs.key_usage(["digital_signature", "key_agreement"]), True), kind="Ed25519"
    )
    assert found(made(request), x509.KeyUsage).value == certs.key_usage(["digital_signature"])


def test_nobody_becomes_an_authority():
    """Not by a profile that wants it either."""
    profile = CertificateProfile(key_usage=("digital_signature", "key_cert_sign"))
    request = asking((certs.key_usage(["key_cert_sign"]), True))
    assert reason_of(request, profile) is RefusalReason.CSR_EXTRA_EXTENSIONS


def test_profiles_are_told_apart():
    """What is kept of one profile is not taken for another's."""
    short, long = CertificateProfile(lifetime_days=1), CertificateProfile(lifetime_days=2)
    ends = [issue(profile=one).not_after for one in (short, long, short)]
    assert ends == [NOW // 1000 * 1000 + days * DAY for days in (1, 2, 1)]
    assert found(made(profile=short), x509.ExtendedKeyUsage) is not None


# ── DER, and a foreign reader ─────────────────────────────────────────────────────────────────


@given(st.integers(0, 2**160))
def test_integers(value):
    """An INTEGER is as short as can be, and not negative."""
    content = der.integer(value)
    assert int.from_bytes(content[2:], "big", signed=True) == value
    assert content[1] == len(content) - 2 == value.bit_length() // 8 + 1


@pytest.mark.parametrize("size", [0, 127, 128, 255, 256, 65_535, 65_536])
def test_lengths(size):
    """Lengths are in their short form where there is one."""
    head = {0: "0400", 127: "047f", 128: "048180", 255: "0481ff", 256: "04820100"}
    head |= {65_535: "0482ffff", 65_536: "0483010000"}
    assert der.octet_string(bytes(size)) == bytes.fromhex(head[size]) + bytes(size)


def test_times_of_two_centuries():
    """Until 2049 in two digits of the year, then in four (RFC 5280, section 4.1.2.5)."""
    assert der.time(datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC))[2:] == b"491231235959Z"
    assert der.time(datetime(2050, 1, 1, tzinfo=UTC))[2:] == b"20500101000000Z"


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not here")
@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA-2048"])
def test_openssl_agrees(kind, tmp_path):
    """`openssl verify` believes the certificate, with every check it has, for a client."""
    profile = CertificateProfile(dns_names=("{name}.example",))
    issued = issue(read_csr(certs.csr(kind)), profile, serial=new_serial())
    for name, content in (("root", SIGNER.root), ("issuing", issued.issuers[0])):
        (tmp_path / name).write_text(certs.pem_of(content))
    (tmp_path / "leaf").write_text(certs.pem_of(issued.der))
    told = subprocess.run(
        [
            *(
                OPENSSL,
                "verify",
                "-x509_strict",
                "-purpose",
                "sslclient",
                "-attime",
                str(NOW // 1000),
            ),
            *("-CAfile", "root", "-untrusted", "issuing", "leaf"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (told.returncode, told.stdout) == (0, "leaf: OK\n"), told.stderr


def test_it_can_be_written_again():
    """What is read of a certificate and written again is the same bytes."""
    issued = issue()
    again = x509.load_der_x509_certificate(issued.der).public_bytes(Encoding.DER)
    assert again == issued.der
    assert x509.load_der_x509_certificate(issued.der).subject.get_attributes_for_oid(
        NameOID.COMMON_NAME
    )
