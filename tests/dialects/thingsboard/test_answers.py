"""Answers of provisioning: golden bytes."""

from __future__ import annotations

import json
import ssl
from base64 import b64decode, b64encode

import certs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.core.model import (
    AccessToken,
    Certificate,
    DeviceCredentials,
    MqttBasic,
    PresharedKey,
    Revoked,
    Secret,
)
from gateway.dialects.thingsboard.answers import (
    FAILURE_BODY,
    NOT_FOUND_BODY,
    encode_provisioned,
    encode_signed,
    error_body,
)


@pytest.mark.parametrize(
    ("credentials", "body"),
    [
        (
            AccessToken(Secret("A1b2")),
            b'{"credentialsValue":"A1b2","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}',
        ),
        (
            AccessToken(Secret('a"\\\té')),
            b'{"credentialsValue":"a\\"\\\\\\t\xc3\xa9","credentialsType":"ACCESS_TOKEN",'
            b'"status":"SUCCESS"}',
        ),
        (
            Certificate("MIIB+a/=AAAA"),
            b'{"credentialsValue":"MIIB+a/=AAAA","credentialsType":"X509_CERTIFICATE",'
            b'"status":"SUCCESS"}',
        ),
        (
            MqttBasic("c", "u", Secret("p")),
            b'{"credentialsValue":{"clientId":"c","userName":"u","password":"p"},'
            b'"credentialsType":"MQTT_BASIC","status":"SUCCESS"}',
        ),
        (
            MqttBasic(username="u"),
            b'{"credentialsValue":{"clientId":"","userName":"u","password":""},'
            b'"credentialsType":"MQTT_BASIC","status":"SUCCESS"}',
        ),
    ],
)
def test_success_has_these_very_bytes(credentials: DeviceCredentials, body: bytes) -> None:
    """Shape and order of keys are ThingsBoard's, and device-chosen text is escaped."""
    assert encode_provisioned(credentials) == body
    assert json.loads(body)["status"] == "SUCCESS"


def test_refusals_have_these_very_bytes() -> None:
    """The two refusals are ThingsBoard's, letter for letter."""
    assert NOT_FOUND_BODY == b'{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}'
    assert FAILURE_BODY == b'{"errorMsg":"Failed to provision device!","status":"FAILURE"}'


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, 31),
        (401, 10),
        (403, 20),
        (404, 32),
        (405, 31),
        (413, 31),
        (429, 33),
        (500, 2),
        (503, 2),
    ],
)
def test_an_error_body_carries_thingsboards_code(status: int, code: int) -> None:
    """HTTP errors have ThingsBoard's members in its order, and its number for the status."""
    body = error_body(status, 'say "no"', 1795219296308)
    assert body == (
        b'{"status":%d,"message":"say \\"no\\"","errorCode":%d,"timestamp":1795219296308}'
        % (status, code)
    )


def test_a_preshared_key_has_these_very_bytes() -> None:
    """An object, like ThingsBoard's triple."""
    assert encode_provisioned(PresharedKey("abc", Secret("0f" * 32))) == (
        b'{"credentialsValue":{"identity":"abc","key":"%b"},"credentialsType":"DTLS_PSK",'
        b'"status":"SUCCESS"}' % (b"0f" * 32)
    )


def test_revoked_credentials_are_not_told() -> None:
    """They are nobody's."""
    with pytest.raises(ValueError, match="revoked"):
        encode_provisioned(Revoked("mark"))


def test_an_answer_in_base64_has_these_very_bytes() -> None:
    """ThingsBoard's answer, and the issuers behind it."""
    assert encode_signed(Certificate("AAEC"), (b"\x01", b"\x02\x03"), "MIIB") == (
        b'{"credentialsValue":"AAEC","credentialsType":"X509_CERTIFICATE","status":"SUCCESS",'
        b'"certificateChain":["AQ==","AgM="]}'
    )


def test_an_answer_in_pem_has_these_very_bytes() -> None:
    """The leaf once more, as a file would have it, and the issuers in one text."""
    mark = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB"
    assert encode_signed(Certificate("A" * 65), (b"\x01", b"\x02\x03"), mark) == (
        b'{"credentialsValue":"%b","credentialsType":"X509_CERTIFICATE","status":"SUCCESS",'
        b'"certificate":"-----BEGIN CERTIFICATE-----\\n%b\\nA\\n-----END CERTIFICATE-----\\n",'
        b'"certificateChain":"-----BEGIN CERTIFICATE-----\\nAQ==\\n-----END CERTIFICATE-----\\n'
        b'-----BEGIN CERTIFICATE-----\\nAgM=\\n-----END CERTIFICATE-----\\n"}'
    ) % (b"A" * 65, b"A" * 64)


def test_real_certificates_can_be_read_back() -> None:
    """By what reads PEM elsewhere."""
    root = certs.Authority("Root")
    leaf = certs.Authority("Issuing", parent=root).issue("d")
    told = json.loads(encode_signed(Certificate(leaf.text), leaf.issuers[:1], certs.csr()))
    assert ssl.PEM_cert_to_DER_cert(told["certificate"]) == b64decode(told["credentialsValue"])
    assert [
        one.public_bytes(Encoding.DER)
        for one in x509.load_pem_x509_certificates(told["certificateChain"].encode())
    ] == [leaf.issuers[0]]
    told = json.loads(encode_signed(Certificate(leaf.text), leaf.issuers, "MIIB"))
    assert told["certificateChain"] == [b64encode(der).decode() for der in leaf.issuers]
