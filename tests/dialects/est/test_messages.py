"""What EST requests are made of."""

from __future__ import annotations

from base64 import b64decode, b64encode

import certs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import RefusalReason, Refused
from gateway.core.pki.csr import read_csr
from gateway.dialects.est.messages import base64_lines, csr_text, read_basic, refusal, sentence
from gateway.wire.call import Status


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "key", "secret"),
    [
        (f"Basic {encoded('key:secret')}", "key", "secret"),
        (f"bAsIc   {encoded('key:secret')} ", "key", "secret"),
        (f"Basic {encoded('key:a:b')}", "key", "a:b"),
        (f"Basic {encoded(':')}", "", ""),
        (f"Basic {encoded('schlüssel:geheimnis')}", "schlüssel", "geheimnis"),
    ],
)
def test_key_and_secret_are_in_the_header(header, key, secret):
    """RFC 7617: the scheme in any case, the secret with its colons, UTF-8."""
    proof = read_basic(header)
    assert proof is not None
    assert (proof.key.reveal(), proof.secret.reveal()) == (key, secret)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        f"Basic {encoded('nocolon')}",
        f"Bearer {encoded('key:secret')}",
        "Basic " + b64encode(b"\xff\xfe:\xff").decode(),
        "Basic k\u00f6y",
        "Basic " + "A" * 20_000,
    ],
)
def test_other_headers_hold_no_login(header):
    """Whatever is no Basic login is as if it were not there."""
    assert read_basic(header) is None


@given(st.text(max_size=60) | st.text(max_size=60).map(lambda text: f"Basic {text}"))
def test_no_header_does_harm(header):
    """Reading a header never raises."""
    read_basic(header)


@given(st.text(max_size=40), st.text(max_size=40))
def test_every_login_is_read_as_it_was_written(key, secret):
    """What a client encodes is what is found, but a key has no colon."""
    proof = read_basic(f"Basic {encoded(f'{key}:{secret}')}")
    assert proof is not None
    expected_key, _, expected_secret = f"{key}:{secret}".partition(":")
    assert (proof.key.reveal(), proof.secret.reveal()) == (expected_key, expected_secret)


@pytest.mark.parametrize("form", ["base64", "lines", "pem", "pem in base64 lines", "der"])
def test_a_request_is_read_in_every_form(form):
    """Base64 in one line or many, PEM, DER: the same request."""
    pem = certs.csr(cn="dev-1")
    der = certs.der_of(pem)
    body = {
        "base64": b64encode(der),
        "lines": base64_lines(der),
        "pem": pem.encode(),
        "pem in base64 lines": pem.replace("\n", "\r\n").encode(),
        "der": der,
    }[form]
    assert read_csr(csr_text(body)).common_name == "dev-1"


@given(st.binary(max_size=200))
def test_any_bytes_become_text(body):
    """Reading a body never raises; base64 keeps all of it."""
    text = csr_text(body)
    if body.startswith(b"0"):
        assert b64decode(text) == body


def test_lines_are_those_of_mail():
    """76 characters and a line feed, which every decoder takes for a blank."""
    lines = base64_lines(bytes(100)).split(b"\n")
    assert [len(line) for line in lines] == [76, 60, 0]


def test_a_login_is_never_told_which_half_was_wrong():
    """An unknown key and a wrong secret have one answer."""
    replies = [
        refusal(Refused(reason))
        for reason in (RefusalReason.UNKNOWN_KEY, RefusalReason.WRONG_SECRET)
    ]
    assert replies[0] == replies[1]
    assert replies[0].status is Status.UNAUTHENTICATED
    assert replies[0].headers["WWW-Authenticate"].startswith('Basic realm="estrealm"')


@pytest.mark.parametrize("reason", RefusalReason)
def test_every_reason_has_a_sentence(reason):
    """A refusal says something in words, and never the reason's own name."""
    assert sentence(reason)
    assert "_" not in sentence(reason)
    body = refusal(Refused(reason)).body.decode()
    assert body.endswith("\n")


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (Refused(RefusalReason.SECRET_EXPIRED), b"the fleet secret it showed has expired\n"),
        (Refused(RefusalReason.DENIED_BY_HOOK, said="not this batch"), b"not this batch\n"),
        (Refused(RefusalReason.UNKNOWN_TOKEN), b"the request was refused\n"),
    ],
)
def test_who_proved_the_secret_is_told_why(refused, words):
    """In the table's words where there are no others, and in a hook's own; a stranger is not."""
    assert refusal(refused).body == words


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (RefusalReason.TOO_MANY_WRONG_SECRETS, Status.LIMITED),
        (RefusalReason.TOO_MANY_REQUESTS, Status.LIMITED),
        (RefusalReason.APPROVAL_PENDING, Status.PENDING),
    ],
)
def test_who_has_to_wait_is_told_how_long(reason, status):
    """And nothing of secrets; who waits for approval has 202 (RFC 7030, section 4.2.3)."""
    reply = refusal(Refused(reason, 7))
    assert (reply.status, reply.retry_after_s) == (status, 7)
    assert b"come again later" in reply.body
    assert b"secret" not in reply.body
