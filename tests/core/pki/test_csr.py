"""Signing requests: every form is read, and only from who has the key, and a good one."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess

import certs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import RefusalReason
from gateway.core.pki.csr import MOST_REQUEST_BYTES, check_key, key_kind, read_csr
from gateway.core.pki.model import KeyKind, Unfit

OPENSSL = shutil.which("openssl")
GOOD = certs.csr(cn="pump-1")


def reason_of(text):
    with pytest.raises(Unfit) as caught:
        read_csr(text)
    return caught.value.reason


@pytest.mark.parametrize(
    ("form", "pem"),
    [
        (GOOD, True),
        (GOOD.encode(), True),
        (GOOD.replace("\n", "\r\n"), True),
        (GOOD.replace("\n", ""), True),
        ("Subject: CN = pump-1\n" + GOOD, True),
        (GOOD.replace("CERTIFICATE", "NEW CERTIFICATE"), True),
        (certs.base64_of(GOOD), False),
        (certs.base64_of(GOOD).encode(), False),
        ("\n".join(GOOD.splitlines()[1:-1]) + "\n", False),
        (certs.der_of(GOOD), False),
    ],
)
def test_every_form_is_read(form, pem):
    """PEM, with its line breaks or without, base64, and DER say the same."""
    request = read_csr(form)
    assert request.common_name == "pump-1"
    assert request.pem is pem
    assert request.key_digest == read_csr(GOOD).key_digest


def test_the_digest_is_that_of_the_key():
    """SHA-256 over SubjectPublicKeyInfo, as anybody can compute it."""
    key = certs.new_key()
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    request = read_csr(certs.csr(key))
    assert request.spki == spki
    assert request.key_digest == hashlib.sha256(spki).digest()


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA-2048"])
def test_good_keys_pass(kind):
    """Each kind we certify is told apart."""
    public_key = read_csr(certs.csr(kind)).public_key
    assert key_kind(public_key).value == kind.partition("-2048")[0]
    check_key(public_key, tuple(KeyKind))


@pytest.mark.parametrize("kind", ["RSA-1024", "RSA-2048-e3", "P-192", "P-224", "P-521", "K-256"])
def test_weak_key(kind):
    """A key we certify for nobody is refused before its signature is looked at."""
    assert reason_of(certs.csr(kind)) is RefusalReason.WEAK_KEY


def test_a_profile_may_allow_fewer_kinds():
    """A good key is refused where the profile does not name its kind."""
    request = read_csr(certs.csr("Ed25519"))
    with pytest.raises(Unfit) as caught:
        check_key(request.public_key, (KeyKind.P256, KeyKind.RSA))
    assert caught.value.reason is RefusalReason.WEAK_KEY


def test_bad_signature():
    """A request that its key did not sign proves nothing."""
    assert reason_of(certs.csr_signed_by_another()) is RefusalReason.BAD_SIGNATURE


def test_another_key_in_a_signed_request():
    """Nobody gets a certificate for a key that he has only seen."""
    mine, theirs = certs.der_of(certs.csr(cn="a")), certs.der_of(certs.csr(cn="a"))
    swapped = mine.replace(_point(mine), _point(theirs))
    assert reason_of(swapped) is RefusalReason.BAD_SIGNATURE


def _point(der: bytes) -> bytes:
    key = x509.load_der_x509_csr(der).public_key()
    form = serialization.PublicFormat.UncompressedPoint
    return key.public_bytes(serialization.Encoding.X962, form)


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not here")
def test_sha1_proves_nothing(tmp_path):
    """A signature over SHA-1 is as good as none."""
    key = tmp_path / "key"
    key.write_text(certs.key_pem(certs.new_key()))
    made = subprocess.run(
        [OPENSSL, "req", "-new", "-sha1", "-key", str(key), "-subj", "/CN=old"],
        capture_output=True,
        check=True,
    )
    assert reason_of(made.stdout) is RefusalReason.BAD_SIGNATURE


@pytest.mark.parametrize(
    "text",
    [
        "",
        b"",
        "no request",
        "MII=",
        certs.base64_of(GOOD)[:-8],
        certs.der_of(GOOD)[:-1],
        certs.der_of(GOOD) + b"\x00",
        certs.self_signed("a certificate").pem,
        "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----",
        "é" * 100,
        "A" * (MOST_REQUEST_BYTES + 1),
        b"0" * (MOST_REQUEST_BYTES + 1),
    ],
)
def test_what_is_no_request(text):
    """It is unreadable, and nothing worse."""
    assert reason_of(text) is RefusalReason.CSR_UNREADABLE


def test_without_a_name():
    """An empty subject is a good one: the profile decides the name."""
    assert read_csr(certs.csr(cn=None)).common_name is None


def test_attributes_are_let_pass():
    """A challenge password is nobody's business."""
    assert read_csr(certs.csr(challenge=b"secret")).common_name == "any"


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300)))
@settings(deadline=None, max_examples=60)
def test_anything_is_a_request_or_unfit(text):
    """No text and no bytes raise anything else."""
    with pytest.raises(Unfit):
        read_csr(text)


@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from(["P-256", "RSA-2048", "Ed25519"]))
@settings(deadline=None, max_examples=80)
def test_a_spoilt_request_is_never_proven(seed, times, kind):
    """Whatever bytes are changed, it is refused, with nothing but `Unfit`; or what was signed is as
    it was, and only the frame around it says the same in another way."""
    good = certs.der_of(_requests(kind))
    der = bytearray(good)
    dice = random.Random(seed)
    for at in dice.sample(range(len(der)), times):
        der[at] ^= 1 << dice.randrange(8)
    try:
        read_csr(bytes(der))
    except Unfit:
        return
    assert signed_part(bytes(der)) == signed_part(good)


def signed_part(der: bytes) -> bytes:
    return x509.load_der_x509_csr(der).tbs_certrequest_bytes


_MADE: dict[str, str] = {}


def _requests(kind: str) -> str:
    if kind not in _MADE:
        san = (certs.alternative_names(["a.example"]), False)
        _MADE[kind] = certs.csr(kind, extensions=[san], challenge=b"x")
    return _MADE[kind]
