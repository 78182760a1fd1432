"""Who signs: our own root and issuing key, or an authority from a file."""

from __future__ import annotations

from datetime import timedelta

import certs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from msgspec.structs import replace

from gateway.core.errors import ConfigError
from gateway.core.model import RefusalReason, Secret
from gateway.core.pki.authority import file_signer, make_issuing, make_root, signer_of
from gateway.core.pki.chain import verify_chain
from gateway.core.pki.model import AuthorityRole, Unfit

NOW = 1_790_000_000_000
DAY = 86_400_000


def certificate_of(authority):
    return x509.load_der_x509_certificate(authority.certificate)


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


# ── our own ───────────────────────────────────────────────────────────────────────────────────


def test_a_root_and_its_issuing_key():
    """They keep to RFC 5280: names, key identifiers, how long a path may be."""
    root = make_root(NOW)
    issuing = make_issuing(root, NOW)
    assert (root.role, issuing.role) == (AuthorityRole.ROOT, AuthorityRole.ISSUING)
    above, below = certificate_of(root), certificate_of(issuing)
    above.verify_directly_issued_by(above)
    below.verify_directly_issued_by(above)
    for certificate, length in ((above, 1), (below, 0)):
        constraints = extension(certificate, x509.BasicConstraints)
        assert (constraints.critical, constraints.value) == (
            True,
            x509.BasicConstraints(True, length),
        )
        usage = extension(certificate, x509.KeyUsage)
        assert usage.critical
        assert usage.value.key_cert_sign
        assert usage.value.crl_sign
    assert (
        extension(below, x509.AuthorityKeyIdentifier).value.key_identifier
        == extension(above, x509.SubjectKeyIdentifier).value.digest
    )


def test_how_long_they_hold():
    """Twenty years and five, and never longer than what signed them."""
    root = make_root(NOW)
    lives = certificate_of(root).not_valid_after_utc - certificate_of(root).not_valid_before_utc
    assert lives == timedelta(days=20 * 365, minutes=5)
    issuing = certificate_of(make_issuing(root, NOW))
    lives = issuing.not_valid_after_utc - issuing.not_valid_before_utc
    assert lives == timedelta(days=5 * 365, minutes=5)
    late = make_issuing(root, NOW + 18 * 365 * DAY)
    assert certificate_of(late).not_valid_after_utc == certificate_of(root).not_valid_after_utc


def test_a_root_that_ended_signs_nothing():
    """After twenty years there is nobody to sign an issuing key."""
    root = make_root(NOW)
    with pytest.raises(Unfit) as caught:
        make_issuing(root, NOW + 20 * 365 * DAY)
    assert caught.value.reason is RefusalReason.NO_AUTHORITY


def test_two_gateways_have_two_roots():
    """Their names differ, so that nobody takes one for the other."""
    assert certificate_of(make_root(NOW)).subject != certificate_of(make_root(NOW)).subject


def test_the_signer_of_an_authority():
    """It knows the root it is under, among others, and its own certificate is sent along."""
    roots = [replace(make_root(NOW), id=1), replace(make_root(NOW), id=2)]
    issuing = replace(make_issuing(roots[1], NOW), id=3)
    signer = signer_of(issuing, roots)
    assert signer.authority_id == 3
    assert signer.certificate == certificate_of(issuing)
    assert signer.issuers == (issuing.certificate,)
    assert signer.root == roots[1].certificate
    root = signer_of(roots[0], roots)
    assert (root.issuers, root.root) == ((), roots[0].certificate)


def test_an_authority_without_its_key_or_root():
    """Nobody signs with a key that is elsewhere, or under a root that is not ours."""
    root = make_root(NOW)
    issuing = make_issuing(root, NOW)
    for authority, roots in ((replace(issuing, key=None), [root]), (issuing, [make_root(NOW)])):
        with pytest.raises(Unfit) as caught:
            signer_of(authority, roots)
        assert caught.value.reason is RefusalReason.NO_AUTHORITY


def test_keys_are_not_shown():
    """Neither an authority nor a signer tells its key."""
    root = make_root(NOW)
    assert repr(root) == "Authority(0, root)"
    assert repr(signer_of(root, [root])) == "KeySigner(0)"


# ── from a file ───────────────────────────────────────────────────────────────────────────────

ROOT = certs.Authority("Company root")
ISSUING = certs.Authority("Company issuing", parent=ROOT)


def opened(certificate=None, key=None, passphrase=None):
    return file_signer(
        (certificate or ISSUING.chain_pem()).encode(),
        (key or ISSUING.key_pem).encode(),
        passphrase,
        now=NOW,
    )


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "Ed25519", "RSA-2048"])
def test_an_authority_from_a_file(kind):
    """It is number 0, and its signatures hold, whatever its kind of key."""
    issuing = certs.Authority("Company issuing", parent=ROOT, key=kind)
    signer = opened(issuing.chain_pem(), issuing.key_pem)
    assert signer.authority_id == 0
    assert signer.issuers == (issuing.der,)
    assert signer.root == ROOT.der


def test_a_file_without_the_root():
    """The root need not be in it: the last one known stands for it."""
    signer = opened(ISSUING.chain_pem(root=False))
    assert (signer.issuers, signer.root) == ((ISSUING.der,), ISSUING.der)


def test_a_root_alone_in_a_file():
    """A root that signs devices itself has nobody above it to send along."""
    signer = opened(ROOT.pem, ROOT.key_pem)
    assert (signer.issuers, signer.root) == ((), ROOT.der)


def test_an_encrypted_key():
    """The passphrase opens it, and does no harm where none is needed."""
    key = certs.key_pem(ISSUING.key, "open sesame")
    assert opened(key=key, passphrase=Secret("open sesame")).key.key_size == 256
    assert opened(passphrase=Secret("open sesame")).key.key_size == 256


def test_a_key_as_openssl_once_wrote_it():
    """PEM of before PKCS #8 is read too, encrypted or not."""
    form = PrivateFormat.TraditionalOpenSSL
    plain = ISSUING.key.private_bytes(Encoding.PEM, form, NoEncryption())
    sealed = ISSUING.key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"sesame"))
    assert opened(key=plain.decode()).key.key_size == 256
    assert opened(key=sealed.decode(), passphrase=Secret("sesame")).key.key_size == 256


_OLD = certs.Authority("Old", not_after=certs.NOT_BEFORE + timedelta(days=9))
_EARLY = certs.Authority("Early", not_before=certs.NOT_AFTER - timedelta(days=9))
_LISTS = certs.Authority("Lists", key_usage=("crl_sign",))
_WEAK = certs.Authority("Weak", key="RSA-1024")
_DEVICE = ISSUING.issue("dev")
_UNSAID = certs.Authority("Unsaid", ca=None)
_SEALED = certs.key_pem(ISSUING.key, "open sesame")


@pytest.mark.parametrize(
    ("certificate", "key", "passphrase", "says"),
    [
        (None, _SEALED, None, "is encrypted. Set GATEHOUSE_AUTHORITY_PASSPHRASE"),
        (None, _SEALED, Secret("open wheat"), "passphrase is not its"),
        (None, "no key", None, "cannot be read as a key"),
        (None, ROOT.key_pem, None, "does not belong"),
        ("no certificate", None, None, "no certificate that can be read"),
        (_DEVICE.pem, _DEVICE.key_pem, None, "no authority's"),
        (_UNSAID.pem, _UNSAID.key_pem, None, "no authority's"),
        (_LISTS.pem, _LISTS.key_pem, None, "no keyCertSign"),
        (_OLD.pem, _OLD.key_pem, None, "expired at 2020-01-10"),
        (_EARLY.pem, _EARLY.key_pem, None, "only from 2049-12-22"),
        (_WEAK.pem, _WEAK.key_pem, None, "too weak"),
        (ISSUING.pem + certs.Authority("Other").pem, None, None, "certificate 2 .* not the issuer"),
    ],
)
def test_files_of_no_use(certificate, key, passphrase, says):
    """Each is refused by a sentence that says what to do, and not what the passphrase is."""
    with pytest.raises(ConfigError, match=says) as caught:
        opened(certificate, key, passphrase)
    assert str(caught.value).startswith("[ca]: ")
    assert "open" not in str(caught.value).replace("opens", "")


def test_a_file_authority_is_believed_by_what_it_signs():
    """What it signs leads to its root."""
    verify_chain(ISSUING.issue("dev").chain, opened().root, NOW)
