"""`gatehouse credential`, and what `device show` tells of certificates."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
from pathlib import Path
from typing import Any

import certs
import pytest

from gateway.cli import main
from gateway.cli.options import confirm
from gateway.cli.signing import certificates_given
from gateway.clock import now_ms
from gateway.core.model import Certificate, Event, EventKind, Peer, Wire

REVOKE = ("credential", "revoke", "d1")


@pytest.fixture
def one(shell: Any) -> Any:
    shell.ok("device", "add", "d1")
    return shell


def credentials(shell: Any, name: str = "d1") -> dict[str, str]:
    found: dict[str, str] = shell.json("credential", "show", name, "--reveal")["credentials"]
    return found


@pytest.fixture
def certified(server: Any) -> Any:
    """A shell beside a server that gave the device `c1` a certificate."""
    shell = server.shell
    if shell("device", "show", "c1").exit_code:
        ask = ("provision", "--profile", "demo", "--url", server.url("http"))
        shell.ok(*ask, "--device-name", "c1", "--new-key", str(shell.folder / "c1.key"))
    return shell


# ── looking ───────────────────────────────────────────────────────────────────────────────────


def test_secrets_are_shown_only_when_asked(one: Any) -> None:
    """Without --reveal there is no token, in neither form."""
    token = credentials(one)["token"]
    assert token not in one("credential", "show", "d1").output
    assert token not in json.dumps(one.json("credential", "show", "d1"))
    assert token in one.ok("credential", "show", "d1", "--reveal")


def test_a_certificate_is_told_by_what_it_says(certified: Any) -> None:
    """Serial number and end instead of the text, in both commands that show a device."""
    told = certified.json("credential", "show", "c1")
    serial = told["certificate"]["serial"]
    assert told["certificate"]["subject"] == "CN=c1"
    for words in (("credential", "show"), ("device", "show")):
        text = certified.ok(*words, "c1")
        assert f"serial {serial}" in text
        assert "ends in" in text
        assert told["credentials"]["certificate"] not in text
    assert certified.json("device", "show", "c1")["certificate"] == told["certificate"]


def test_what_was_signed_here_is_listed(certified: Any) -> None:
    """One line for each certificate, of one device or of all."""
    serial = certified.json("credential", "show", "c1")["certificate"]["serial"]
    [row] = certified.json("credential", "list", "c1")
    assert (row["serial"], row["state"], row["reason"]) == (serial, "issued", None)
    assert serial in certified.ok("credential", "list")


def test_a_device_without_certificates_has_none_listed(one: Any) -> None:
    """A token is none, and it is said so."""
    assert "no certificates" in one("credential", "list", "d1").stderr
    assert one.json("credential", "list", "d1") == []


def test_a_renewal_that_was_not_used_is_told(one: Any) -> None:
    """Pending credentials stand beside those that still count."""
    certificate = certs.self_signed("later")

    async def renew() -> None:
        async with one.inside() as inside:
            device = await inside.device("d1")
            event = Event(
                kind=EventKind.DEVICE_CREDENTIALS,
                at=now_ms(),
                peer=Peer(Wire.MQTTS, "192.0.2.7:50123"),
                subject=device.name,
                device_id=device.id,
            )
            assert await inside.store.renew(device, Certificate(certificate.text), None, event)

    asyncio.run(renew())
    shown = one.json("credential", "show", "d1")
    assert shown["credentials"]["type"] == "ACCESS_TOKEN"
    assert shown["pending_certificate"]["subject"] == "CN=later"
    assert "not used yet" in one.ok("credential", "show", "d1")
    assert "not used yet" in one.ok("device", "show", "d1")


# ── revoking ──────────────────────────────────────────────────────────────────────────────────


def test_a_revocation_asks_first(one: Any) -> None:
    """Where nobody can answer it wants --yes, and nothing changed."""
    before = credentials(one)
    refused = one(*REVOKE)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert credentials(one) == before


def test_a_revoked_device_has_nothing_left(one: Any) -> None:
    """It is shown as REVOKED, the reason is in its events, and it is not revoked twice."""
    assert "revoked" in one.ok(*REVOKE, "--yes", "--reason", "key-compromise")

    assert credentials(one) == {"type": "REVOKED"}
    assert "REVOKED" in one.ok("device", "show", "d1")
    event = one.json("device", "events", "d1")[-1]
    assert (event["kind"], event["wire"]) == ("device:credentials:revoke", "shell")
    assert event["detail"]["reason"] == "key_compromise"
    again = one(*REVOKE, "--yes")
    assert again.exit_code == 1
    assert "credential rotate d1" in again.stderr


def test_rotating_makes_a_revoked_device_whole(one: Any) -> None:
    """New credentials are given by the same command, whatever it is called."""
    one.ok(*REVOKE, "--yes")
    one.ok("credential", "rotate", "d1")
    assert credentials(one)["type"] == "ACCESS_TOKEN"
    one.ok("device", "rotate", "d1")


def test_rearming_a_revoked_device_says_that_it_gets_nothing(one: Any) -> None:
    """There is no promise of a claim where there are no credentials to give."""
    one.ok("profile", "add", "valve", "--type", "CHECK_PRE_PROVISIONED_DEVICES")
    one.ok("device", "add", "--profile", "valve", "v1")
    one.ok("credential", "revoke", "v1", "--yes")
    told = one("device", "rearm", "v1")
    assert "credential rotate" in told.stderr
    assert "each may be claimed" not in told.stdout


def test_a_live_session_ends_within_a_second(server: Any) -> None:
    """A running gateway refuses the token of a revoked device almost at once."""
    import time
    import urllib.error
    import urllib.request

    shell = server.shell
    shell.ok("device", "add", "live")
    token = credentials(shell, "live")["token"]
    url = f"{server.url('http')}/api/v1/{token}/telemetry"

    def status() -> int:
        try:
            with urllib.request.urlopen(url, b'{"t":1}', 5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert status() == 200
    shell.ok("credential", "revoke", "live", "--yes")
    until = time.monotonic() + 10
    while status() != 401:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_one_certificate_is_revoked_by_its_number(certified: Any, server: Any) -> None:
    """Hex in any form is taken; the record and the device's login change together."""
    ask = ("provision", "--profile", "demo", "--url", server.url("http"), "--device-name", "c2")
    certified.ok(*ask, "--new-key", str(certified.folder / "c2.key"))
    [row] = certified.json("credential", "list", "c2")
    colons = ":".join(row["serial"][i : i + 2] for i in range(0, len(row["serial"]), 2)).upper()
    by_number = ("credential", "revoke", "--serial", colons, "--reason", "superseded", "--yes")

    assert "c2" in certified.ok(*by_number)

    [row] = certified.json("credential", "list", "c2")
    assert (row["state"], row["reason"]) == ("revoked", "superseded")
    assert "revoked" in certified.ok("credential", "list", "c2")
    assert credentials(certified, "c2") == {"type": "REVOKED"}
    assert certified(*by_number).exit_code == 1


@pytest.mark.parametrize(
    ("args", "status"),
    [
        ((), 2),
        (("d1", "--serial", "01"), 2),
        (("--serial", "xyz"), 2),
        (("--serial", "0"), 2),
        (("--serial", "f" * 41), 2),
        (("d1", "--reason", "boredom"), 2),
        (("--serial", "0123", "--yes"), 1),
        (("nobody", "--yes"), 1),
    ],
)
def test_what_cannot_be_revoked_is_told(one: Any, args: tuple[str, ...], status: int) -> None:
    """A wrong number, reason or name changes nothing."""
    before = credentials(one)
    assert one("credential", "revoke", *args).exit_code == status
    assert credentials(one) == before


# ── giving ────────────────────────────────────────────────────────────────────────────────────


def test_a_key_for_dtls_is_made(one: Any) -> None:
    """--psk gives an identity and 256 bits, written where only one can read them."""
    result = one("credential", "rotate", "d1", "--psk", "--output", "d1.json")
    assert result.exit_code == 0
    made = credentials(one)
    assert made["type"] == "DTLS_PSK"
    assert len(bytes.fromhex(made["key"])) == 32
    assert json.loads((one.folder / "d1.json").read_text()) == made
    assert made["key"] not in result.output
    assert made["key"] not in one.ok("device", "show", "d1")


def test_one_kind_at_a_time(one: Any) -> None:
    """Kinds that exclude each other are a usage error."""
    assert one("credential", "rotate", "d1", "--psk", "--mqtt-basic").exit_code == 2


# ── asking for a certificate ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", ["http", "mqtt", "coap"])
def test_a_key_is_made_here_and_certified_there(server: Any, wire: str, tmp_path: Path) -> None:
    """--new-key keeps a key for its owner alone; --out holds the certificate and its issuers."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key, out = tmp_path / "d.key", tmp_path / "d.pem"
    ask = ("provision", "--profile", "demo", "--url", server.url(wire))
    name = f"made-{wire}"
    said = server.shell.ok(*ask, "--device-name", name, "--new-key", str(key), "--out", str(out))

    leaf, issuer = x509.load_pem_x509_certificates(out.read_bytes())
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    private: Any = load_pem_private_key(key.read_bytes(), None)
    assert private.public_key() == leaf.public_key()
    leaf.verify_directly_issued_by(issuer)
    assert leaf.subject.rfc4514_string() == f"CN={name}"
    assert "PRIVATE" not in said


def test_a_request_of_ones_own_is_sent(server: Any, tmp_path: Path) -> None:
    """--csr takes PEM or DER; the certificate is printed when no file is named."""
    for name, content in (
        ("pem", certs.csr(cn="x").encode()),
        ("der", certs.der_of(certs.csr(cn="x"))),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        ask = ("provision", "--profile", "demo", "--url", server.url("http"))
        said = server.shell.ok(*ask, "--device-name", f"own-{name}", "--csr", str(path))
        assert said.count("-----BEGIN CERTIFICATE-----") == 2


def test_a_refused_request_leaves_no_key(server: Any, tmp_path: Path) -> None:
    """A name that is taken gets no certificate, and no file is left behind."""
    key, out = tmp_path / "d.key", tmp_path / "d.pem"
    ask = ("provision", "--profile", "demo", "--url", server.url("http"), "--device-name", "taken")
    server.shell.ok(*ask)
    refused = server.shell(*ask, "--new-key", str(key), "--out", str(out))
    assert refused.exit_code == 1
    assert refused.stdout.startswith("FAILURE")
    assert list(tmp_path.iterdir()) == []


def test_the_key_stays_when_no_answer_comes(one: Any) -> None:
    """Nobody knows whether the device exists now, so its key is not thrown away."""
    ask = ("provision", "--profile", "demo", "--url", "http://127.0.0.1:1")
    result = one(*ask, "--new-key", "d.key", "--out", "d.pem")
    assert result.exit_code == 1
    assert "the key stays in d.key" in result.stderr
    assert (one.folder / "d.key").exists()
    assert not (one.folder / "d.pem").exists()


def test_an_answer_of_either_form_becomes_pem() -> None:
    """Issuers as PEM or as a list of base64, and a leaf alone."""
    root = certs.Authority("root")
    leaf = root.issue("leaf")
    wanted = leaf.pem + root.pem
    pem = {"certificate": leaf.pem, "certificateChain": root.pem}
    assert certificates_given(pem) == wanted
    listed = {"credentialsValue": leaf.text, "certificateChain": [root.text]}
    assert certificates_given(listed) == wanted
    assert certificates_given({"credentialsValue": leaf.text}) == leaf.pem


# ── a person at the terminal ──────────────────────────────────────────────────────────────────


def test_ctrl_c_ends_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also within a command's coroutine, where asyncio would let the question go on waiting."""

    def interrupted(_question: str, *, abort: bool) -> None:
        assert abort
        signal.raise_signal(signal.SIGINT)

    async def ask() -> None:
        confirm("Really?", yes=False)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(ask())
    assert signal.getsignal(signal.SIGINT) is before


def test_a_store_of_another_user_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where not even looking is allowed, it is said who may; no traceback."""

    def forbidden(**_: str) -> None:
        raise PermissionError(13, "Permission denied", "/srv/gatehouse.db")

    monkeypatch.setattr("gateway.cli.cli", forbidden)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "/srv/gatehouse.db: permission denied. Run this as the user" in capsys.readouterr().err
