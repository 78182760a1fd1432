"""Whom an answer is bound to: what a device alone can show again."""

from __future__ import annotations

import certs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.core.binding import binding_of
from gateway.core.model import (
    DeviceCredentialsType,
    DeviceProfile,
    FleetTicket,
    Peer,
    Policy,
    ProvisionKey,
    ProvisionRequest,
    ProvisionType,
    RequestedCredentials,
    Secret,
    Wire,
    WithoutNonce,
)

NOW = 1_790_000_000_000
NONCE = Secret("0123456789abcdef")
BASIC = DeviceCredentialsType.MQTT_BASIC
X509 = DeviceCredentialsType.X509_CERTIFICATE
OPEN, CHECK = (
    ProvisionType.ALLOW_CREATE_NEW_DEVICES,
    ProvisionType.CHECK_PRE_PROVISIONED_DEVICES,
)


def ticket(kind=OPEN, number=1, **policy):
    profile = DeviceProfile(id=1, name="p", provision_type=kind, policy=Policy(**policy))
    return FleetTicket(id=number, profile=profile, key=Secret("k"), secret=Secret("s"))


def asking(name="meter", address="192.0.2.7:50123", **fields):
    proof = ProvisionKey(Secret("k"), Secret("s"))
    peer = Peer(Wire.HTTP, address)
    return ProvisionRequest(proof=proof, peer=peer, device_name=name, **fields)


def wanting(**members):
    return RequestedCredentials(**members)


def bound(request, of=None):
    return binding_of(of or ticket(), request, NOW)


def test_a_request_that_shows_nothing_is_bound_to_nothing():
    """As ThingsBoard's devices ask: the answer is given once."""
    assert bound(asking()) is None
    assert bound(asking(None)) is None
    assert bound(asking(nonce=NONCE), ticket(retry_window_s=0)) is None


def test_a_binding_lasts_as_long_as_the_profile_says():
    assert bound(asking(nonce=NONCE)).until == NOW + 900_000
    assert bound(asking(nonce=NONCE), ticket(retry_window_s=60)).until == NOW + 60_000


def test_the_same_from_elsewhere_is_the_same():
    """The wire, the address and the name's blanks matter not."""
    other = structs.replace(
        asking(" meter ", nonce=NONCE), peer=Peer(Wire.COAP, "[2001:db8::1]:5683")
    )
    assert bound(other) == bound(asking(nonce=NONCE))
    assert bound(asking(None, nonce=NONCE)) is not None


@pytest.mark.parametrize(
    "other",
    [
        asking("other", nonce=NONCE),
        asking(None, nonce=NONCE),
        asking(nonce=Secret("0123456789abcdeF")),
        asking(nonce=NONCE, credentials=wanting(token=Secret("t"))),
        asking(nonce=NONCE, credentials=wanting(type=DeviceCredentialsType.DTLS_PSK)),
        asking(nonce=NONCE, credentials=wanting(type=X509, csr=certs.csr())),
        asking(credentials=wanting(token=NONCE)),
    ],
)
def test_all_that_is_shown_must_be_the_same(other):
    assert bound(other) != bound(asking(nonce=NONCE))
    assert bound(asking(nonce=NONCE), ticket(number=2)) != bound(asking(nonce=NONCE))


def test_a_signing_request_binds_by_its_key():
    """Whichever form it comes in; one that cannot be read binds nothing, with a nonce neither."""
    key = certs.new_key()

    def by(csr, **more):
        return bound(asking(credentials=wanting(type=X509, csr=csr), **more))

    pem = certs.csr(key)
    assert by(pem) is not None
    assert by(certs.base64_of(pem)) == by(pem) == by(certs.csr(key, cn="else"))
    assert by(certs.csr(certs.new_key())) != by(pem)
    assert by("rubbish", nonce=NONCE) is by("MII" * 9000) is None


@pytest.mark.parametrize(
    "own",
    [
        wanting(token=Secret("t")),
        wanting(type=BASIC, client_id="c", username="u", password=Secret("p")),
        wanting(type=X509, certificate="MII"),
    ],
)
def test_a_chosen_credential_binds_where_it_becomes_the_devices(own):
    """A device that waits is given another, and so is one that wants a key: they are not bound by
    what others may know."""
    assert bound(asking(credentials=own)) is not None
    assert bound(asking(credentials=own), ticket(CHECK)) is None
    key = structs.replace(own, type=DeviceCredentialsType.DTLS_PSK)
    assert bound(asking(credentials=key)) is None
    assert bound(asking(credentials=key, nonce=NONCE), ticket(CHECK)) is not None


def test_without_a_nonce_the_profile_says_who_may_repeat():
    """From the same address, or anybody until the first use; only a device that has a name."""
    here, there = asking(), asking(address="192.0.2.8:50123")
    near, any_ = (
        ticket(retry_without_nonce=WithoutNonce.SAME_ADDRESS),
        ticket(retry_without_nonce=WithoutNonce.UNTIL_FIRST_USE),
    )
    assert bound(here, near) == bound(asking(address="192.0.2.7:1"), near) != bound(there, near)
    assert bound(here, any_) == bound(there, any_) is not None
    assert bound(asking(None), near) is bound(asking(None), any_) is None
    ignored = asking(credentials=wanting(type=BASIC, username="u"))
    check = ticket(CHECK, retry_without_nonce=WithoutNonce.UNTIL_FIRST_USE)
    assert bound(ignored, check) is not None
    assert bound(asking(nonce=NONCE), any_) != bound(here, any_)


_texts = st.text(max_size=6)


@settings(max_examples=60)
@given(st.tuples(*[_texts] * 5), st.tuples(*[_texts] * 5))
def test_no_two_requests_that_differ_are_bound_alike(one, other):
    def made(parts):
        nonce, name, client, user, password = parts
        basic = wanting(type=BASIC, client_id=client, username=user, password=Secret(password))
        return bound(asking(f"n{name}".strip(), nonce=Secret(f"!{nonce}"), credentials=basic))

    same = [(nonce, f"n{name}".strip(), *more) for nonce, name, *more in (one, other)]
    assert (made(one) == made(other)) is (same[0] == same[1])
