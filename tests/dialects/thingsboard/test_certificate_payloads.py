"""Signing requests, and keys for DTLS asked for: our extensions of provisioning."""

from __future__ import annotations

import json
import traceback
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import (
    DeviceCredentialsType,
    Peer,
    RequestedCredentials,
    Wire,
)
from gateway.dialects.thingsboard.payloads import decode_provision, decode_renewal
from gateway.wire.call import BadPayload

PEER = Peer(Wire.COAPS, "192.0.2.7:50123")
PROVEN = {"provisionDeviceKey": "key-1", "provisionDeviceSecret": "secret-1"}
X509 = DeviceCredentialsType.X509_CERTIFICATE
MARK = "zq7Marker"
"""Stands where a secret could stand; must not be found in any message."""


def asked(**fields: Any) -> RequestedCredentials:
    return decode_provision(json.dumps(PROVEN | fields).encode(), PEER).credentials


# ── what a device asks ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [None, "X509_CERTIFICATE"])
@pytest.mark.parametrize("csr", ["-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END", "AA=="])
def test_a_signing_request_is_passed_on_as_sent(kind: str | None, csr: str) -> None:
    """It needs no credentials type, and its line breaks stay: the core reads it."""
    assert asked(csr=csr, credentialsType=kind) == RequestedCredentials(type=X509, csr=csr)


@pytest.mark.parametrize("kind", ["ACCESS_TOKEN", "MQTT_BASIC", "LWM2M_CREDENTIALS", "DTLS_PSK"])
def test_a_signing_request_is_for_a_certificate(kind: str) -> None:
    """With any other type the request contradicts itself."""
    with pytest.raises(BadPayload, match=r"^csr goes with") as caught:
        asked(csr="AA==", credentialsType=kind)
    assert not caught.value.undecodable


@pytest.mark.parametrize("field", ["hash", "x509CertPubKey"])
def test_a_signing_request_and_a_certificate_exclude_each_other(field: str) -> None:
    """Which of the two keys the device means cannot be told."""
    with pytest.raises(BadPayload, match="exclude each other"):
        asked(csr="AA==", **{field: "AA=="})


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_signing_request_is_none(nothing: object) -> None:
    """As with every other field, null and empty mean that the device did not say."""
    assert asked(csr=nothing) == RequestedCredentials()


def test_a_key_for_dtls_may_be_asked_for() -> None:
    """Identity and key are ours to make."""
    kind = DeviceCredentialsType.DTLS_PSK
    assert asked(credentialsType="DTLS_PSK") == RequestedCredentials(type=kind)


def test_nobody_asks_to_be_revoked() -> None:
    """It is a state an operator puts a device in, and no type of credentials."""
    with pytest.raises(BadPayload, match=r"LWM2M_CREDENTIALS, DTLS_PSK$"):
        asked(credentialsType="REVOKED")


@pytest.mark.parametrize(
    ("body", "undecodable"),
    [(b"", True), (b"[]", True), (b'{"csr":7}', True), (b"{}", False), (b'{"csr":null}', False)],
)
def test_a_renewal_without_a_request_is_a_bad_payload(body: bytes, undecodable: bool) -> None:
    """What is no such object is told apart from one that lacks its member."""
    with pytest.raises(BadPayload) as caught:
        decode_renewal(body)
    assert caught.value.undecodable is undecodable


def test_a_renewal_is_its_request() -> None:
    """Other members are ignored."""
    assert decode_renewal(b'{"csr":"AA==","x":1}') == "AA=="


@given(st.binary() | st.dictionaries(st.just("csr") | st.text(), st.text() | st.integers()))
@settings(deadline=None, max_examples=80)
def test_arbitrary_renewals_are_read_or_refused(body: bytes | dict[str, object]) -> None:
    """Nothing but `BadPayload` comes out of the decoder."""
    with suppress(BadPayload):
        decode_renewal(body if isinstance(body, bytes) else json.dumps(body).encode())


def test_no_message_repeats_a_signing_request() -> None:
    """Not even in a traceback."""
    bodies = ({"csr": MARK, "hash": "x"}, {"csr": MARK, "credentialsType": "ACCESS_TOKEN"})
    for fields in bodies:
        try:
            asked(**fields)
        except BadPayload:
            assert MARK not in traceback.format_exc()
    with pytest.raises(BadPayload):
        decode_renewal(f'{{"csr":"{MARK}"'.encode())
