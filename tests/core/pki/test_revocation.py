"""Revocation lists and OCSP answers, over a real store."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import threading
from datetime import UTC, datetime, timedelta

import certs
import pytest
from certified import Certified
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.errors import StoreUnavailable
from gateway.core.pki import statements
from gateway.core.pki.authority import make_issuing, make_root, signer_of
from gateway.core.pki.model import (
    CertificateRecord,
    CertificateState,
    RevocationReason,
    SerialReservation,
)
from gateway.core.pki.revocation import MOST_REQUEST_BYTES, OcspResponder, RevocationLists
from gateway.core.pki.statements import make_list

HOUR = 3_600_000
NOW = 1_790_000_000_000


@pytest.fixture
async def lab(store, clock, tokens):
    return Certified(store, clock, tokens)


@pytest.fixture
async def fleet(new_fleet):
    return await new_fleet()


@pytest.fixture
def lists(lab):
    return RevocationLists(lab.store, lab.authorities, lab.clock, lifetime_ms=24 * HOUR)


@pytest.fixture
def responder(lab):
    return OcspResponder(lab.store, lab.authorities, lab.clock, lifetime_ms=HOUR)


async def listed(lists, lab) -> x509.CertificateRevocationList:
    made = await lists.of((await lab.authorities.issuer()).signer.authority_id)
    assert made is not None
    return x509.load_der_x509_crl(made.der)


def number(crl):
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def moment(ms):
    return datetime.fromtimestamp(ms // 1000, UTC)


# ── lists ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_list_names_the_revoked_and_nobody_else(lab, fleet, lists, clock):
    """A revoked certificate is on the list with time and reason; one that counts is not."""
    _, kept = await lab.device(fleet, "kept")
    _, gone = await lab.device(fleet, "gone")
    await lab.revoke(gone, RevocationReason.KEY_COMPROMISE)

    crl = await listed(lists, lab)

    assert crl.get_revoked_certificate_by_serial_number(kept.serial_number) is None
    entry = crl.get_revoked_certificate_by_serial_number(gone.serial_number)
    assert entry is not None
    assert entry.revocation_date_utc == moment(clock.now)
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.key_compromise


async def test_the_list_is_its_authoritys(lab, lists, clock):
    """Issuer, key identifier, signature and times are those of RFC 5280, section 5."""
    issuing = await lab.issuing()
    crl = await listed(lists, lab)

    assert crl.issuer == issuing.subject
    assert crl.is_signature_valid(issuing.public_key())
    assert crl.last_update_utc == moment(clock.now)
    assert crl.next_update_utc == moment(clock.now + 24 * HOUR)
    named = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = issuing.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert named.key_identifier == own.digest


async def test_an_unspecified_reason_is_left_out(lab, fleet, lists):
    """RFC 5280, section 5.3.1: unspecified is said by saying nothing."""
    _, gone = await lab.device(fleet, "gone")
    await lab.revoke(gone)
    entry = (await listed(lists, lab)).get_revoked_certificate_by_serial_number(gone.serial_number)
    assert entry is not None
    assert len(entry.extensions) == 0


async def test_a_list_is_kept_until_something_is_revoked(lab, fleet, lists):
    """Asking again gives the same list; after `forget` it gives another with a higher number."""
    _, gone = await lab.device(fleet, "gone")
    first = await listed(lists, lab)
    await lab.revoke(gone)
    assert await listed(lists, lab) == first
    lists.forget()
    second = await listed(lists, lab)
    assert number(second) > number(first)
    assert second.get_revoked_certificate_by_serial_number(gone.serial_number) is not None


async def test_a_list_is_made_anew_before_it_is_due(lab, lists, clock):
    """When a third of its life is left there is a new one; before that there is not."""
    first = await listed(lists, lab)
    clock.now += 16 * HOUR - 1000
    assert await listed(lists, lab) == first
    clock.now += 1000
    assert number(await listed(lists, lab)) > number(first)


async def test_many_who_ask_at_once_get_one_list(lab, lists):
    """However many ask at the same moment, one list is made."""
    crls = await asyncio.gather(*(listed(lists, lab) for _ in range(20)))
    assert len({number(crl) for crl in crls}) == 1
    lists.forget()
    assert number(await listed(lists, lab)) == number(crls[0]) + 1


async def test_what_was_revoked_while_a_list_is_made_is_on_the_next(lab, fleet, lists):
    """A list that was begun before a `forget` is given to nobody who asks after it."""
    _, gone = await lab.device(fleet, "gone")
    asked = asyncio.create_task(listed(lists, lab))
    await asyncio.sleep(0)
    await lab.revoke(gone)
    lists.forget()
    after = await listed(lists, lab)
    assert after.get_revoked_certificate_by_serial_number(gone.serial_number) is not None
    await asked


async def test_one_that_ended_is_on_one_more_list(lab, fleet, lists, clock):
    """RFC 5280, section 3.3: it leaves the list only after a list that follows its end."""
    _, gone = await lab.device(fleet, "gone")
    await lab.revoke(gone)
    end = int(gone.not_valid_after_utc.timestamp() * 1000)
    clock.now = end + HOUR
    lists.forget()
    crl = await listed(lists, lab)
    assert crl.get_revoked_certificate_by_serial_number(gone.serial_number) is not None
    clock.now = end + 25 * HOUR
    lists.forget()
    crl = await listed(lists, lab)
    assert crl.get_revoked_certificate_by_serial_number(gone.serial_number) is None


async def test_a_retired_authority_has_its_own_list(lab, fleet, lists):
    """After a rotation the old key goes on signing the list of what it signed, and only that."""
    _, old = await lab.device(fleet, "old")
    retired = await lab.issuing()
    retired_id = (await lab.authorities.issuer()).signer.authority_id
    await lab.authorities.rotate()
    _, new = await lab.device(fleet, "new")
    await lab.revoke(old)
    await lab.revoke(new)

    made = await lists.of(retired_id)
    assert made is not None
    crl = x509.load_der_x509_crl(made.der)
    assert crl.is_signature_valid(retired.public_key())
    assert [entry.serial_number for entry in crl] == [old.serial_number]
    assert [entry.serial_number for entry in await listed(lists, lab)] == [new.serial_number]


async def test_who_is_no_authority_here_has_no_list(lab, lists):
    """An unknown number gets no list."""
    await lab.issuing()
    assert await lists.of(4711) is None
    assert await lists.of(-1) is None


async def test_the_authority_from_a_file_has_one_too(store, clock, tokens, new_fleet):
    """Number 0 is the authority from elsewhere; it signs its lists with its own key."""
    from gateway.core.pki.authority import file_signer

    authority = certs.Authority("elsewhere", key="P-384")
    signer = file_signer(authority.pem.encode(), authority.key_pem.encode(), None, now=clock.now)
    lab = Certified(store, clock, tokens, file=signer)
    _, gone = await lab.device(await new_fleet(), "gone")
    await lab.revoke(gone)
    made = await RevocationLists(store, lab.authorities, clock).of(0)
    assert made is not None
    crl = x509.load_der_x509_crl(made.der)
    assert crl.is_signature_valid(authority.certificate.public_key())
    assert isinstance(crl.signature_hash_algorithm, hashes.SHA384)
    assert [entry.serial_number for entry in crl] == [gone.serial_number]


def test_a_list_of_thousands_is_quick():
    """The time grows with the number of entries, not with its square."""
    root = make_root(NOW)
    signer = signer_of(make_issuing(root, NOW), [root])
    records = [
        CertificateRecord(
            serial=serial,
            authority_id=1,
            state=CertificateState.REVOKED,
            revoked_at=NOW,
            reason=RevocationReason.SUPERSEDED,
        )
        for serial in range(1, 20_001)
    ]
    began = datetime.now(UTC)
    crl = x509.load_der_x509_crl(make_list(signer, records, 7, NOW, NOW + HOUR))
    assert len(crl) == 20_000
    assert datetime.now(UTC) - began < timedelta(seconds=5)


@pytest.mark.parametrize("reason", RevocationReason)
def test_every_reason_is_said_in_the_lists_words(reason):
    """Each reason we write down has its CRLReason, by the same number."""
    root = make_root(NOW)
    signer = signer_of(make_issuing(root, NOW), [root])
    record = CertificateRecord(
        serial=5, authority_id=1, state=CertificateState.REVOKED, revoked_at=NOW, reason=reason
    )
    (entry,) = x509.load_der_x509_crl(make_list(signer, [record], 1, NOW, NOW + HOUR))
    said = [one.value.reason.name.upper() for one in entry.extensions]
    assert said == ([] if reason is RevocationReason.UNSPECIFIED else [reason.name])


async def test_openssl_refuses_a_revoked_certificate_by_the_list(lab, fleet, lists, tmp_path):
    """`openssl verify -crl_check` lets the one pass and not the other."""
    _, kept = await lab.device(fleet, "kept")
    _, gone = await lab.device(fleet, "gone")
    await lab.revoke(gone)
    crl = await listed(lists, lab)
    (tmp_path / "list.pem").write_bytes(crl.public_bytes(Encoding.PEM))
    (tmp_path / "root.pem").write_bytes((await lab.root()).public_bytes(Encoding.PEM))
    (tmp_path / "issuing.pem").write_bytes((await lab.issuing()).public_bytes(Encoding.PEM))

    def verify(certificate):
        (tmp_path / "leaf.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        return subprocess.run(
            [
                *("openssl", "verify", "-crl_check", "-attime", str(lab.clock.now // 1000 + 60)),
                *("-CAfile", "root.pem", "-untrusted", "issuing.pem", "-CRLfile", "list.pem"),
                "leaf.pem",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    assert verify(kept).returncode == 0
    refused = verify(gone)
    assert refused.returncode != 0
    assert "certificate revoked" in refused.stderr


# ── OCSP ──────────────────────────────────────────────────────────────────────────────────────


def asked(serial, issuer, *, algorithm=None, nonce=None) -> bytes:
    """A request for the certificate of that serial number."""
    algorithm = algorithm or hashes.SHA1()
    named = ocsp.OCSPRequestBuilder().add_certificate(issuer, issuer, algorithm).build()
    name_hash = hashlib.new(algorithm.name, issuer.subject.public_bytes()).digest()
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        name_hash, named.issuer_key_hash, serial, algorithm
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


async def answer(responder, der) -> ocsp.OCSPResponse:
    return ocsp.load_der_ocsp_response((await responder.answer(der)).der)


@pytest.mark.parametrize(
    "algorithm",
    [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()],
    ids=lambda algorithm: algorithm.name,
)
async def test_a_certificate_that_counts_is_good(lab, fleet, responder, clock, algorithm):
    """Good, signed by the issuing key, named as it was asked for, for as long as configured."""
    _, kept = await lab.device(fleet, "kept")
    issuing = await lab.issuing()
    told = await answer(responder, asked(kept.serial_number, issuing, algorithm=algorithm))
    assert told.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    assert told.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert told.serial_number == kept.serial_number
    assert told.hash_algorithm.name == algorithm.name
    assert told.this_update_utc == moment(clock.now)
    assert told.next_update_utc == moment(clock.now + HOUR)
    assert told.revocation_time_utc is None
    issuing.public_key().verify(
        told.signature,
        told.tbs_response_bytes,
        certs.ec.ECDSA(hashes.SHA256()),
    )


async def test_a_revoked_certificate_is_revoked(lab, fleet, responder, clock):
    """With when and why."""
    _, gone = await lab.device(fleet, "gone")
    await lab.revoke(gone, RevocationReason.SUPERSEDED)
    told = await answer(responder, asked(gone.serial_number, await lab.issuing()))
    assert told.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert told.revocation_time_utc == moment(clock.now)
    assert told.revocation_reason is x509.ReasonFlags.superseded


async def test_a_serial_number_nobody_has_is_unknown(lab, responder):
    """Unknown, not good: we know what we signed. Impossible numbers are unknown as well."""
    issuing = await lab.issuing()
    for serial in (4711, 2**159, 2**200):
        told = await answer(responder, asked(serial, issuing))
        assert told.certificate_status is ocsp.OCSPCertStatus.UNKNOWN, serial


async def test_a_reserved_serial_number_is_unknown(lab, responder, clock):
    """Its certificate was given to nobody."""
    signer = (await lab.authorities.issuer()).signer
    reservation = SerialReservation(
        serial=99,
        authority_id=signer.authority_id,
        key_digest=bytes(32),
        organisation_id=1,
        name="x",
        at=clock.now,
    )
    assert await lab.store.reserve_serial(reservation)
    told = await answer(responder, asked(99, signer.certificate))
    assert told.certificate_status is ocsp.OCSPCertStatus.UNKNOWN


async def test_another_authoritys_serial_number_is_unknown(lab, fleet, responder):
    """A certificate is known under who signed it, and under nobody else."""
    _, kept = await lab.device(fleet, "kept")
    old = await lab.issuing()
    await lab.authorities.rotate()
    new = await lab.issuing()
    told = await answer(responder, asked(kept.serial_number, new))
    assert told.certificate_status is ocsp.OCSPCertStatus.UNKNOWN
    told = await answer(responder, asked(kept.serial_number, old))
    assert told.certificate_status is ocsp.OCSPCertStatus.GOOD


async def test_about_a_stranger_nothing_is_said(responder):
    """An issuer that is none of ours: unauthorized, without a signature."""
    stranger = certs.Authority("stranger").certificate
    told = await answer(responder, asked(1, stranger))
    assert told.response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED


async def test_a_new_issuing_key_is_known_soon(lab, responder, clock):
    """An authority that came after the last look is found some seconds later."""
    stranger = certs.Authority("stranger").certificate
    await responder.answer(asked(1, stranger))
    await lab.authorities.rotate()
    clock.now += 5000
    told = await answer(responder, asked(1, await lab.issuing()))
    assert told.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL


async def test_the_first_who_ask_at_once_are_all_answered(lab, fleet, responder):
    """While one of them waits for the list of authorities, the others are no strangers."""
    _, certificate = await lab.device(fleet, "pump-1")
    question = asked(certificate.serial_number, await lab.issuing())
    answers = await asyncio.gather(*(responder.answer(question) for _ in range(5)))
    statuses = {ocsp.load_der_ocsp_response(one.der).response_status for one in answers}
    assert statuses == {ocsp.OCSPResponseStatus.SUCCESSFUL}


async def test_after_a_look_that_failed_the_next_one_looks_again(
    lab, fleet, responder, monkeypatch
):
    """Who asks while the store cannot be read is to try again, and not told that we are none."""
    _, certificate = await lab.device(fleet, "pump-1")
    question = asked(certificate.serial_number, await lab.issuing())

    async def broken():
        raise StoreUnavailable("the disk is gone")

    monkeypatch.setattr(lab.store, "authorities", broken)
    statuses = []
    for _ in range(2):
        answer = ocsp.load_der_ocsp_response((await responder.answer(question)).der)
        statuses.append(answer.response_status)
    assert statuses == [ocsp.OCSPResponseStatus.TRY_LATER] * 2
    monkeypatch.undo()
    answer = ocsp.load_der_ocsp_response((await responder.answer(question)).der)
    assert answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL


async def test_a_list_is_made_though_nobody_waits_any_more(lab, lists, monkeypatch):
    """A large one takes longer than its askers may wait: it is there for the next of them."""
    made, go = [], threading.Event()
    make = statements.make_list

    def slow(*args):
        made.append(1)
        go.wait(10)
        return make(*args)

    monkeypatch.setattr(statements, "make_list", slow)
    authority = (await lab.authorities.issuer()).signer.authority_id
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await lists.of(authority)
    go.set()
    assert await lists.of(authority) is not None
    assert made == [1]


@pytest.mark.parametrize("length", [1, 16, 32])
async def test_a_nonce_is_repeated(lab, responder, length):
    """RFC 9654: a nonce of up to 32 bytes comes back, and such an answer is for nobody else."""
    told = await responder.answer(asked(1, await lab.issuing(), nonce=bytes(range(length))))
    response = ocsp.load_der_ocsp_response(told.der)
    nonce = response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    assert nonce == bytes(range(length))
    assert told.next_update == 0


async def test_an_answer_without_a_nonce_may_be_kept(lab, responder, clock):
    """Until its next update."""
    told = await responder.answer(asked(1, await lab.issuing()))
    assert told.next_update == clock.now + HOUR


async def test_a_long_nonce_is_left_out(lab, responder):
    """RFC 9654, section 2.1: over 32 bytes it may be ignored; then anybody may have the answer."""
    told = await responder.answer(asked(1, await lab.issuing(), nonce=bytes(33)))
    assert len(ocsp.load_der_ocsp_response(told.der).extensions) == 0
    assert told.next_update > 0


@pytest.mark.parametrize("length", [0, 129])
async def test_a_nonce_of_no_length_a_nonce_has_is_malformed(lab, responder, length):
    """RFC 9654, section 2.1: 1 to 128 bytes."""
    told = await answer(responder, asked(1, await lab.issuing(), nonce=bytes(length)))
    assert told.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


async def test_a_request_for_two_is_not_answered(lab, responder, tmp_path):
    """Several certificates in one request: unauthorized, as RFC 5019 allows."""
    (tmp_path / "c.pem").write_bytes((await lab.issuing()).public_bytes(Encoding.PEM))
    subprocess.run(
        [
            *("openssl", "ocsp", "-issuer", "c.pem", "-serial", "1", "-serial", "2"),
            *("-reqout", "two.der"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    told = await answer(responder, (tmp_path / "two.der").read_bytes())
    assert told.response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED


async def test_a_request_that_is_too_long_is_malformed(lab, responder):
    """Over 4 KiB nothing is read."""
    der = asked(1, await lab.issuing())
    told = await answer(responder, der + bytes(MOST_REQUEST_BYTES))
    assert told.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


async def test_a_store_that_is_closed_is_asked_again_later(lab, responder):
    """RFC 6960, section 2.3: tryLater."""
    issuing = await lab.issuing()
    await answer(responder, asked(1, issuing))
    await lab.store.close()
    told = await answer(responder, asked(1, issuing))
    assert told.response_status is ocsp.OCSPResponseStatus.TRY_LATER


class _Nobody:
    """No authorities at all: enough to read requests."""

    file = None

    async def all(self):
        return []


_SOME = asked(1, certs.Authority("some").certificate, nonce=bytes(16))


@settings(deadline=None, max_examples=80)
@given(st.binary(max_size=200))
@example(b"")
@example(_SOME)
def test_any_bytes_get_a_response(noise):
    """Whatever is sent, the answer is a well-formed response that says no."""
    responder = OcspResponder(None, _Nobody(), lambda: NOW)
    told = asyncio.run(answer(responder, noise))
    assert told.response_status in (
        ocsp.OCSPResponseStatus.MALFORMED_REQUEST,
        ocsp.OCSPResponseStatus.UNAUTHORIZED,
    )


@settings(deadline=None, max_examples=80)
@given(st.integers(0, len(_SOME) - 1), st.integers(1, 255))
def test_any_spoilt_request_gets_a_response(place, change):
    """The same for requests that were nearly right."""
    spoilt = bytearray(_SOME)
    spoilt[place] ^= change
    test_any_bytes_get_a_response.hypothesis.inner_test(bytes(spoilt))
