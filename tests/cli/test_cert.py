"""`gatehouse cert`: a server certificate for a lab, and what is told of one."""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
from pathlib import Path
from typing import Any

import certs
import pytest
from cryptography import x509

from gateway.cli.certificates import (
    DAY_MS,
    chain_of,
    days_left,
    facts_of,
    facts_of_der,
    facts_of_text,
    lasting_until,
    serial_text,
)
from gateway.cli.lab_certificate import host_name
from gateway.cli.new_file import put_file

NAMES = ("server.pem", "server.key", "lab-ca.pem", "lab-ca.key")


@pytest.fixture
def tls(shell: Any) -> Path:
    """The folder of the four files."""
    folder: Path = shell.folder / "data" / "tls"
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


# ── making ────────────────────────────────────────────────────────────────────────────────────


def test_a_lab_gets_a_certificate_and_its_authority(shell: Any, tls: Path) -> None:
    """Keys and folders are for their owner alone, whatever the umask; nothing else is left."""
    umask = os.umask(0)
    try:
        said = shell.ok("cert", "init", GATEHOUSE_HTTPS_PORT="8443")
    finally:
        os.umask(umask)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tls.iterdir()}
    assert modes == dict(zip(NAMES, (0o644, 0o600, 0o644, 0o600), strict=True))
    for folder in (tls, tls.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert f"curl --cacert {tls}/lab-ca.pem https://localhost:8443/" in said
    assert "coaps://localhost:PORT/" in said
    assert "mosquitto_pub" in said
    assert "coap-client" in said
    assert "has to be started again" in said


def test_openssl_finds_it_in_order(shell: Any, tls: Path) -> None:
    """The chain is strictly as RFC 5280 has it, for each name and address that was given."""
    shell.ok("cert", "init", "--host", "gate.example", "--host", "192.0.2.7", "--host", "::1")

    for check in (("-verify_hostname", "gate.example"), ("-verify_ip", "192.0.2.7")):
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", *check]
        done = subprocess.run(
            [*command, "-CAfile", tls / "lab-ca.pem", tls / "server.pem"], capture_output=True
        )
        assert done.returncode == 0, done.stderr
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
        tls / "server.pem", tls / "server.key"
    )


def test_what_is_there_is_not_written_over(shell: Any, tls: Path) -> None:
    """A second call changes nothing and names --force; one of the two files is enough."""
    shell.ok("cert", "init")
    before = contents(tls)

    again = shell("cert", "init")
    assert again.exit_code == 1
    assert "--force" in again.stderr
    assert contents(tls) == before

    (tls / "server.pem").unlink()
    assert shell("cert", "init").exit_code == 1
    assert not (tls / "server.pem").exists()


def test_force_keeps_the_authority(shell: Any, tls: Path) -> None:
    """Clients that trust the lab authority need nothing new after --force."""
    shell.ok("cert", "init")
    before = contents(tls)

    told = shell.json("cert", "init", "--force", "--days", "30")

    after = contents(tls)
    assert told["authority_made"] is False
    assert [name for name in NAMES if before[name] != after[name]] == ["server.pem", "server.key"]
    assert shell.json("cert", "show")["days_left"] == 29


def test_an_authority_that_is_spoilt_is_not_replaced(shell: Any, tls: Path) -> None:
    """A lab authority that lost its key, or has another's, is told and left alone."""
    shell.ok("cert", "init")
    before = contents(tls)
    for content in (None, b"no key", before["server.key"]):
        path = tls / "lab-ca.key"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        result = shell("cert", "init", "--force")
        assert result.exit_code == 1
        assert "move both away" in result.stderr
        assert (tls / "server.pem").read_bytes() == before["server.pem"]


def test_the_files_that_the_configuration_names_are_made(shell: Any) -> None:
    """[tls] says where; a store without a folder needs it to."""
    memory = {"GATEHOUSE_STORE_URL": "sqlite::memory:"}
    nowhere = shell("cert", "init", **memory)
    assert nowhere.exit_code == 1
    assert "GATEHOUSE_TLS_CERTIFICATE_FILE" in nowhere.stderr

    place = {
        "GATEHOUSE_TLS_CERTIFICATE_FILE": str(shell.folder / "certs" / "a.pem"),
        "GATEHOUSE_TLS_KEY_FILE": str(shell.folder / "private" / "a.key"),
    }
    shell.ok("cert", "init", **memory, **place)
    made = {str(path.relative_to(shell.folder)) for path in shell.folder.rglob("*.???")}
    assert made >= {"certs/a.pem", "private/a.key", "certs/lab-ca.pem", "private/lab-ca.key"}


def test_a_folder_that_cannot_be_made_is_a_sentence(shell: Any) -> None:
    """A file in the folder's place ends with what to do, and no traceback."""
    (shell.folder / "data").write_text("in the way")
    result = shell("cert", "init")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize("host", ["a_b", "", "-x.example", "a b", "gäte.example", "x" * 64, "*"])
def test_what_is_no_host_is_a_usage_error(shell: Any, host: str) -> None:
    """Nothing is made for a name that no certificate can have."""
    assert shell("cert", "init", "--host", host).exit_code == 2
    assert not (shell.folder / "data").exists()


def test_a_host_may_be_written_as_in_an_address(shell: Any) -> None:
    """Brackets and a last dot are not taken for a part of the name."""
    made = shell.json("cert", "init", "--host", "[::1]", "--host", "gate.example.")
    assert made["hosts"][:2] == ["::1", "gate.example"]
    assert made["hosts"].count("::1") == 1


def test_a_file_of_something_else_is_told_apart(shell: Any, tmp_path: Path) -> None:
    """A signing request and a key are named, instead of being taken for DER."""
    key = certs.new_key()
    for content, told in ((certs.csr(key), "a signing request"), (certs.key_pem(key), "a key")):
        file = tmp_path / "other.pem"
        file.write_text(content)
        assert f"holds {told}" in str(shell("cert", "show", str(file)).exception)


def test_hosts_are_names_or_addresses() -> None:
    """Addresses of both kinds, names without their dot, and a pattern's star."""
    shown = [str(host_name(text).value) for text in ("10.0.0.1", "[::1]", "A.example.", "*.b.org")]
    assert shown == ["10.0.0.1", "::1", "a.example", "*.b.org"]


def test_a_replacement_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """A file is replaced whole or not at all, and no draft stays behind."""
    path = tmp_path / "f"
    put_file(path, b"old", mode=0o600)
    (tmp_path / "d").mkdir()
    with pytest.raises(OSError):
        put_file(tmp_path / "d", b"new", mode=0o600)
    put_file(path, b"new", mode=0o600)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["d", "f"]
    assert path.read_bytes() == b"new"


# ── looking ───────────────────────────────────────────────────────────────────────────────────


def test_a_certificate_is_explained(shell: Any, tls: Path) -> None:
    """Subject, names, validity, key and chain, for people and as JSON."""
    shell.ok("cert", "init", "--host", "gate.example", "--host", "192.0.2.7")

    told = shell.json("cert", "show")
    text = shell.ok("cert", "show")

    assert told["names"][:5] == [
        *("DNS:gate.example", "IP:192.0.2.7"),
        *("DNS:localhost", "IP:127.0.0.1", "IP:::1"),
    ]
    assert told["key"] == "EC P-256"
    assert told["days_left"] == 824
    assert told["chain"]["sound"] is True
    assert "signed by the lab authority" in text
    assert "ends in 824 days" in text


def test_no_certificate_is_a_sentence(shell: Any) -> None:
    """It says that the secure wires are off, and how they come on."""
    result = shell("cert", "show")
    assert result.exit_code == 1
    assert "gatehouse cert init" in result.stderr


def test_any_file_may_be_shown(shell: Any, tmp_path: Path) -> None:
    """A file is named; every certificate in it is told, and one that expired is status 1."""
    root = certs.Authority("root")
    path = tmp_path / "f.pem"
    path.write_text(root.issue("leaf").chain_pem())
    told = shell.json("cert", "show", str(path))
    assert [one["subject"] for one in told["issuers"]] == ["CN=root"]
    assert told["chain"]["sound"] is True

    path.write_text(certs.expired_leaf(root).chain_pem())
    expired = shell("cert", "show", str(path))
    assert expired.exit_code == 1
    assert "EXPIRED" in expired.stdout

    path.write_text("nothing of the kind")
    with pytest.raises(BaseException, match="no certificate in PEM"):
        raise shell("cert", "show", str(path)).exception


def test_a_chain_is_as_long_as_its_signatures_hold() -> None:
    """Complete, signed by a known one, open at its end, out of order: each is told."""
    root = certs.Authority("root")
    middle = certs.Authority("middle", parent=root)
    leaf, other = middle.issue("leaf"), certs.Authority("other")

    def chain(*found: certs.Issued, known: certs.Issued | None = None) -> tuple[bool, str]:
        loaded = [x509.load_der_x509_certificate(one.der) for one in found]
        lab = x509.load_der_x509_certificate(known.der) if known else None
        verdict = chain_of(loaded, lab)
        return verdict.sound, verdict.told

    assert chain(leaf, middle, root) == (True, "complete up to its root, CN=root")
    assert chain(leaf, middle)[0] is True
    assert chain(leaf, middle, known=root)[1].startswith("signed by the lab authority")
    assert chain(leaf) == (False, "its issuer, CN=middle, is not in the file")
    assert chain(leaf, root)[0] is False
    assert chain(leaf, middle, other)[0] is False
    assert chain(certs.self_signed("alone"))[0] is True


def test_facts_are_read_of_what_can_be_read() -> None:
    """Weak keys are faults; bytes that are no certificate have no facts."""
    weak = certs.weak_key(certs.Authority("root"))
    facts = facts_of(x509.load_der_x509_certificate(weak.der))
    assert any("1024 bits" in fault for fault in facts.faults)
    assert facts_of_der(b"nothing") is None
    assert facts_of_text("no base64!") is None
    assert facts_of_text(weak.text) == facts


def test_time_left_is_told_in_days() -> None:
    """The last day, the first after it, and many."""
    now = 1_000 * DAY_MS
    assert lasting_until(now + 30 * DAY_MS, now) == "ends in 30 days"
    assert lasting_until(now + 1, now) == "ends within a day"
    assert lasting_until(now - 1, now) == "EXPIRED less than a day ago"
    assert lasting_until(now - DAY_MS - 1, now) == "EXPIRED 1 day ago"
    assert lasting_until(now - 3 * DAY_MS, now) == "EXPIRED 3 days ago"
    assert days_left(now - 1, now) == -1
    assert serial_text(0xABC) == "0abc"


def test_the_answer_for_scripts_is_json(shell: Any) -> None:
    """`cert init --json` tells where the files are."""
    told = json.loads(shell.ok("cert", "init", "--json"))
    assert Path(told["certificate"]).exists()
    assert Path(told["authority"]).exists()
    assert "localhost" in told["hosts"]
