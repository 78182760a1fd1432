"""Certificates in a PKCS #7, and what a request should hold."""

from __future__ import annotations

import subprocess

import certs
import pytest
from cryptography.hazmat.primitives.serialization import pkcs7

from gateway.core.pki.bundle import certs_only, csr_attributes
from gateway.core.pki.model import CertificateProfile, KeyKind


def test_certificates_come_back_out_of_the_bundle():
    """What was put in comes out, each of them."""
    root = certs.Authority("root")
    leaf = root.issue("leaf")
    found = pkcs7.load_der_pkcs7_certificates(certs_only((leaf.der, root.der)))
    assert {certificate.serial_number for certificate in found} == {
        leaf.certificate.serial_number,
        root.certificate.serial_number,
    }


@pytest.mark.parametrize(
    ("kind", "objects"),
    [
        (KeyKind.P256, ["id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256"]),
        (KeyKind.P384, ["id-ecPublicKey", "secp384r1", "ecdsa-with-SHA384"]),
        (KeyKind.ED25519, ["ED25519"]),
        (KeyKind.RSA, ["rsaEncryption", "sha256WithRSAEncryption"]),
    ],
)
def test_the_first_key_of_the_profile_is_asked_for(kind, objects):
    """The attributes are DER that OpenSSL reads, with the objects of that kind of key."""
    keys = (kind, *(other for other in KeyKind if other is not kind))
    made = csr_attributes(CertificateProfile(keys=keys))
    shown = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER"], input=made, capture_output=True, check=True
    ).stdout.decode()
    found = [line.rsplit(":", 1)[1] for line in shown.splitlines() if "OBJECT" in line]
    assert found == objects
    assert ("INTEGER           :0800" in shown) is (kind is KeyKind.RSA)
