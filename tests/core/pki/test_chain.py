"""Chains: which are believed, why others are not, and whose they are."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ipaddress
import random
import shutil
import subprocess
import time
from datetime import timedelta

import certs
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL._util import lib

from gateway.core.model import RefusalReason, Secret
from gateway.core.pki.chain import (
    MOST_CERTIFICATES,
    Leaf,
    anchor_key,
    anchor_of,
    compiled,
    device_name,
    read_leaf,
    verify_chain,
)
from gateway.core.pki.model import ChainRule, Unfit

NOW = 1_790_000_000_000
OPENSSL = shutil.which("openssl")
ROOT = certs.Authority("Factory root")
ISSUING = certs.Authority("Factory issuing", parent=ROOT, path_length=0)


def reason_of(chain, anchor=ROOT.der, now=NOW):
    with pytest.raises(Unfit) as caught:
        verify_chain(chain, anchor, now)
    return caught.value.reason


# ── believed ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "Ed25519", "RSA-2048"])
def test_a_good_chain(kind):
    """Every usual kind of key is believed, in the leaf and above it."""
    root = certs.Authority("Root", key=kind)
    leaf = certs.Authority("Issuing", parent=root, key=kind).issue("dev", key=kind)
    verify_chain(leaf.chain, root.der, NOW)


def test_the_anchor_need_not_be_sent():
    """A device may leave out what we have."""
    leaf = ISSUING.issue("dev")
    verify_chain(leaf.chain[:-1], ROOT.der, NOW)
    verify_chain(leaf.chain[:1], ISSUING.der, NOW)


def test_an_anchor_in_the_middle():
    """A factory's issuing certificate alone is believed, its root is not."""
    verify_chain(ISSUING.issue("dev").chain, ISSUING.der, NOW)
    other = certs.Authority("Another issuing", parent=ROOT)
    assert reason_of(other.issue("dev").chain, ISSUING.der) is RefusalReason.UNKNOWN_CA


def test_a_leaf_that_is_the_anchor():
    """A certificate that was named itself needs nobody above it."""
    own = certs.self_signed("dev")
    verify_chain(own.chain, own.der, NOW)
    leaf = ISSUING.issue("dev")
    verify_chain(leaf.chain, leaf.der, NOW)
    under_an_old_one = certs.expired_issuer(ROOT)
    verify_chain(under_an_old_one.chain, under_an_old_one.der, NOW)
    assert reason_of(certs.self_signed("dev").chain, own.der) is RefusalReason.UNKNOWN_CA


@pytest.mark.parametrize("make", [certs.reordered, certs.cross_signed, certs.without_cn])
def test_an_odd_but_good_chain(make):
    """Neither the order nor what else was sent matters, nor a missing name."""
    verify_chain(make(ROOT).chain, ROOT.der, NOW)


def test_cross_signed_the_other_way():
    """The same key under two roots is believed by whichever of them is the anchor."""
    key = certs.new_key()
    other = certs.Authority("Other root")
    ours = certs.Authority("Crossed", parent=ROOT, key=key)
    theirs = certs.Authority("Crossed", parent=other, key=key)
    leaf = ours.issue("dev")
    for anchor in (ROOT, other):
        verify_chain((leaf.der, ours.der, theirs.der, ROOT.der, other.der), anchor.der, NOW)
        verify_chain((leaf.der, theirs.der, ours.der, other.der, ROOT.der), anchor.der, NOW)


def test_strangers_along_with_it_do_no_harm():
    """Certificates that lead nowhere are passed over."""
    others = [certs.self_signed(f"stranger {n}").der for n in range(5)]
    verify_chain((*ISSUING.issue("dev").chain, *others), ROOT.der, NOW)


def test_path_lengths_are_kept():
    """An authority that may have one under it has one; a self-issued one is not counted."""
    root = certs.Authority("Root", path_length=1)
    one = certs.Authority("One", parent=root, path_length=0)
    verify_chain(one.issue("dev").chain, root.der, NOW)
    again = certs.Authority("One", parent=one, path_length=0)
    verify_chain(again.issue("dev").chain, root.der, NOW)


def test_names_within_constraints():
    """Names that are permitted are believed."""
    within = [x509.DNSName("plant.example"), x509.DirectoryName(certs.name_of(None, O="Plant"))]
    plant = certs.Authority("Plant", parent=ROOT, permitted=within)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Plant"),
            x509.NameAttribute(NameOID.COMMON_NAME, "dev"),
        ]
    )
    leaf = plant.issue("dev", subject=subject, san=("dev.plant.example",))
    verify_chain(leaf.chain, ROOT.der, NOW)


@pytest.mark.parametrize("eku", [None, ("client_auth",), ("server_auth", "client_auth"), ("any",)])
def test_usages_that_include_clients(eku):
    """No extended key usage means any; "any" is one."""
    verify_chain(ROOT.issue("dev", eku=eku).chain, ROOT.der, NOW)


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not here")
def test_a_root_of_version_1(tmp_path):
    """Old factory roots have no extensions; as an anchor that was chosen they are believed."""
    key, root = tmp_path / "key", tmp_path / "root"
    key.write_text(certs.key_pem(certs.new_key()))
    asked = openssl("req", "-new", "-key", key, "-subj", "/CN=Old root")
    root.write_text(openssl("x509", "-req", "-days", "9000", "-signkey", key, given=asked))
    leaf = openssl(*_SIGN, "-CA", root, "-CAkey", key, given=certs.csr(cn="dev"))
    anchor = certs.der_of(root.read_text())
    assert x509.load_der_x509_certificate(anchor).version is x509.Version.v1
    verify_chain((certs.der_of(leaf),), anchor, _soon())


_SIGN = ("x509", "-req", "-days", "9000", "-CAcreateserial")


def openssl(*words, given=""):
    made = subprocess.run(
        [OPENSSL, *map(str, words)], input=given, capture_output=True, check=True, text=True
    )
    return made.stdout


def _soon():
    """What the program signs holds by the real clock."""
    return int(time.time() * 1000) + 60_000


def test_an_anchor_that_says_it_by_its_key_usage():
    """It was chosen by a person; one that says it is no authority's is believed by nobody."""
    old = certs.Authority("Old style", ca=None)
    verify_chain(old.issue("dev").chain, old.der, NOW)
    none = certs.Authority("None", ca=False)
    assert reason_of(none.issue("dev").chain, none.der) is RefusalReason.BAD_CHAIN


# ── refused ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bogus", certs.BOGUS)
def test_a_bogus_chain(bogus):
    """Each is refused, and for its own reason."""
    make, reason = certs.BOGUS[bogus]
    assert reason_of(make(ROOT).chain) == reason


@pytest.mark.parametrize("bogus", certs.BOGUS)
def test_a_bogus_chain_without_its_root(bogus):
    """What is sent along changes nothing."""
    make, reason = certs.BOGUS[bogus]
    chain = make(ROOT).chain
    if len(chain) <= MOST_CERTIFICATES:
        assert reason_of(chain[:-1]) == reason


def test_an_expired_anchor():
    """An anchor that ended admits nobody."""
    old = certs.Authority("Old", not_after=certs.NOT_BEFORE + timedelta(days=30))
    assert reason_of(old.issue("dev").chain, old.der) is RefusalReason.BAD_CHAIN


def test_time_is_the_one_given():
    """The same chain is early, good and late by the clock that is handed in."""
    end = certs.NOT_BEFORE + timedelta(days=30)
    leaf = ROOT.issue("dev", not_before=certs.NOT_BEFORE + timedelta(days=10), not_after=end)
    at = int(certs.NOT_BEFORE.timestamp() * 1000)
    day = 86_400_000
    assert reason_of(leaf.chain, now=at + 9 * day) is RefusalReason.NOT_YET_VALID
    verify_chain(leaf.chain, ROOT.der, at + 20 * day)
    assert reason_of(leaf.chain, now=at + 31 * day) is RefusalReason.EXPIRED_LEAF


def test_an_anchor_for_servers_only():
    """What an anchor says of itself counts too."""
    servers = certs.Authority("Servers", eku=("server_auth",))
    assert reason_of(servers.issue("dev").chain, servers.der) is RefusalReason.WRONG_USAGE


def test_a_weak_anchor():
    """Nobody is admitted by a key that can be broken."""
    weak = certs.Authority("Weak", key="RSA-1024")
    assert reason_of(weak.issue("dev").chain, weak.der) is RefusalReason.WEAK_KEY


@pytest.mark.parametrize("key", ["DSA", "P-224"])
def test_weak_kinds_of_key(key):
    """Neither DSA nor a small curve."""
    assert reason_of(ROOT.issue("dev", key=key).chain) is RefusalReason.WEAK_KEY


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not here")
def test_sha1_in_a_chain(tmp_path):
    """A signature over SHA-1 can be forged."""
    _, key = ROOT.files(tmp_path, "root")
    root = tmp_path / "root.pem"
    root.write_text(ROOT.pem)
    for digest, reason in (("-sha1", RefusalReason.WEAK_KEY), ("-sha256", None)):
        leaf = openssl(*_SIGN, digest, "-CA", root, "-CAkey", key, given=certs.csr())
        if reason is None:
            verify_chain((certs.der_of(leaf),), ROOT.der, _soon())
        else:
            assert reason_of((certs.der_of(leaf),), now=_soon()) is reason


def test_excluded_names():
    """A name that is excluded is refused though the rest of the chain is good."""
    plant = certs.Authority("Plant", parent=ROOT, excluded=[x509.DNSName("secret.example")])
    leaf = plant.issue("dev", san=("a.secret.example",))
    assert reason_of(leaf.chain) is RefusalReason.BAD_CHAIN
    verify_chain(plant.issue("dev", san=("a.example",)).chain, ROOT.der, NOW)


@pytest.mark.parametrize(
    ("permitted", "san"),
    [
        (x509.IPAddress(ipaddress.ip_network("192.0.2.0/24")), "198.51.100.1"),
        (x509.UniformResourceIdentifier("plant.example"), "coap://other.example/x"),
    ],
)
def test_other_kinds_of_constrained_names(permitted, san):
    """Addresses and URIs are held to their constraints as well."""
    plant = certs.Authority("Plant", parent=ROOT, permitted=[permitted])
    assert reason_of(plant.issue("dev", san=(san,)).chain) is RefusalReason.BAD_CHAIN
    within = "192.0.2.9" if san[0] == "1" else "coap://plant.example/x"
    verify_chain(plant.issue("dev", san=(within,)).chain, ROOT.der, NOW)


def test_no_chain_at_all():
    """Nothing, and what is no certificate, is unreadable."""
    assert reason_of(()) is RefusalReason.CHAIN_UNREADABLE
    assert reason_of((b"no certificate",)) is RefusalReason.CHAIN_UNREADABLE
    good = ISSUING.issue("dev")
    assert reason_of((good.der, b"0\x00")) is RefusalReason.CHAIN_UNREADABLE


def test_a_refusal_leaves_nothing_to_tls_connections():
    """Errors of a refused chain do not stay where the next connection looks for its own."""
    while lib.ERR_get_error():
        pass
    for bogus in ("bad_signature", "forged_issuer", "unknown_ca"):
        make, _ = certs.BOGUS[bogus]
        reason_of(make(ROOT).chain)
        assert lib.ERR_peek_error() == 0


# ── leaves and anchors ────────────────────────────────────────────────────────────────────────


def test_a_leaf_is_known_by_thingsboards_hash():
    """Its id is SHA3-256 over one line of base64 (contract, section 7.2)."""
    issued = ISSUING.issue("dev-1")
    leaf = read_leaf(issued.der)
    text = base64.b64encode(issued.der).decode()
    assert leaf == Leaf(
        text=text,
        id=Secret(hashlib.sha3_256(text.encode()).hexdigest()),
        common_name="dev-1",
        not_before=int(certs.NOT_BEFORE.timestamp()) * 1000,
        not_after=int(certs.NOT_AFTER.timestamp()) * 1000,
    )


def test_the_first_common_name_counts():
    """A subject with several has one that counts; without one there is none."""
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("first", "second")]
    subject = x509.Name(names)
    assert read_leaf(certs.self_signed("x", subject=subject).der).common_name == "first"
    assert read_leaf(certs.without_cn(ROOT).der).common_name is None


def test_a_common_name_over_64_bytes_is_read():
    """Factories do that; cryptography's warning of it is nobody's."""
    with pytest.warns(UserWarning, match="length"):
        long = x509.NameAttribute(NameOID.COMMON_NAME, "c" * 100, _validate=False)
    der = certs.self_signed(None, subject=x509.Name([long])).der
    assert read_leaf(der).common_name == "c" * 100


def test_the_first_certificate_of_a_text_is_the_anchor():
    """Its key is the one ThingsBoard gives (contract, section 2.8), whatever comes after."""
    chain = ISSUING.chain_pem()
    assert anchor_of(chain) == ISSUING.der
    assert anchor_of("Früher: " + chain) == ISSUING.der
    assert anchor_key(chain) == hashlib.sha3_256(ISSUING.text.encode()).hexdigest()
    for text in ("", "no certificate", certs.csr(), "\ud800"):
        with pytest.raises(ValueError, match="no certificate"):
            anchor_of(text)


# ── names ─────────────────────────────────────────────────────────────────────────────────────


def named(pattern, cn):
    return device_name(ChainRule(certificate="", pattern=pattern), _leaf(cn))


def _leaf(cn):
    return Leaf(text="", id=Secret(""), common_name=cn, not_before=0, not_after=0)


@pytest.mark.parametrize(
    ("pattern", "cn", "name"),
    [
        ("(.*)", "dev-1", "dev-1"),
        ("^dev-([0-9]+)", "dev-17.plant", "17"),
        ("([a-z]+)", "17 dev", "dev"),
        ("(.*)\\.company\\.com", "pump.company.com", "pump"),
        ("(?:x|y)(.)", "yz", "z"),
        ("(.+)", "насос", "насос"),
        ("^dev-([0-9]+)$", "pump-1", RefusalReason.CN_MISMATCH),
        ("dev(-x)?", "dev", RefusalReason.CN_MISMATCH),
        ("dev(.*)", "dev", RefusalReason.CN_MISMATCH),
        ("(?=look)(.)", "look", RefusalReason.CN_MISMATCH),
        ("(.*)", None, RefusalReason.CN_MISSING),
    ],
)
def test_names(pattern, cn, name):
    """Group 1 of what is found in the common name is the name (contract, section 2.8)."""
    assert named(pattern, cn) == name


def test_cn_missing_and_cn_mismatch():
    """A certificate without a common name, and one with another."""
    rule = ChainRule(certificate=ROOT.pem, pattern="^dev-(.*)$")
    assert device_name(rule, read_leaf(certs.without_cn(ROOT).der)) is RefusalReason.CN_MISSING
    assert device_name(rule, read_leaf(ROOT.issue("pump").der)) is RefusalReason.CN_MISMATCH


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("dev", "no group"),
        ("(?:dev)", "no group"),
        ("(?=dev)(.)", "no look-around"),
        ("(a)\\1", "no back"),
        ("(", "missing"),
        ("(a" + "b" * 300 + ")", "256 characters"),
        ("(((x{100}){100}){100})", "cannot be used"),
        ("(\\pL{500})", "too large"),
        ("(\ud800)", "none"),
    ],
)
def test_unusable_patterns(pattern, says):
    """Each is refused with a sentence that says why."""
    with pytest.raises(ValueError, match=says):
        compiled(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+$", "((a|aa)+)+$", "(.*)*x(.*)*y$", "(a?){30}a{30}$"])
def test_regex_bomb(pattern):
    """A pattern that others take for ever over takes as long as its text is."""
    for length in (64, 60_000):
        text = "a" * length + "!"
        began = time.perf_counter()
        assert named(pattern, text) is RefusalReason.CN_MISMATCH
        assert time.perf_counter() - began < 2


# ── anything ──────────────────────────────────────────────────────────────────────────────────


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=50)
def test_anything_is_a_leaf_or_unfit(der):
    """No bytes raise anything else."""
    with pytest.raises(Unfit):
        read_leaf(der)
    with pytest.raises(Unfit):
        verify_chain((der, der), ROOT.der, NOW)


_SAMPLE = certs.Authority(
    "Sample", parent=ROOT, path_length=0, permitted=[x509.DNSName("a.example")]
).issue("dev", san=("x.a.example",))


@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from([0, 1]))
@settings(deadline=None, max_examples=120)
def test_a_spoilt_chain_is_never_believed(seed, times, which):
    """Whatever bytes of a certificate are changed: nothing but `Unfit`, and no path through it."""
    dice = random.Random(seed)
    chain = list(_SAMPLE.chain)
    spoilt = bytearray(chain[which])
    for at in dice.sample(range(len(spoilt)), times):
        spoilt[at] ^= 1 << dice.randrange(8)
    chain[which] = bytes(spoilt)
    with pytest.raises(Unfit):
        verify_chain(chain, ROOT.der, NOW)
    with contextlib.suppress(Unfit):
        read_leaf(chain[which])


@given(st.text(max_size=40), st.text(max_size=40))
@settings(deadline=None, max_examples=80)
def test_any_pattern_over_any_name(pattern, cn):
    """A pattern is refused with a `ValueError`, or it gives a name or a reason."""
    try:
        compiled(pattern)
    except ValueError:
        return
    if not any(0xD800 <= ord(letter) < 0xE000 for letter in cn):
        assert isinstance(named(pattern, cn or None), str)
