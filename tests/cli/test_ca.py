"""`gatehouse ca`: the authority that signs devices' certificates."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import certs
import pytest
from cryptography import x509


@pytest.fixture
def one(shell: Any) -> Any:
    """A shell whose store exists; there is no authority in it yet."""
    shell.ok("device", "add", "d1")
    return shell


def test_looking_makes_no_authority(one: Any) -> None:
    """Before the first certificate there is nothing to show, and showing makes nothing."""
    assert "no authority yet" in one.ok("ca", "show")
    assert one.json("ca", "show") == []


def test_the_root_is_exported_before_the_first_device(one: Any) -> None:
    """Export makes the authority; the chain holds, and no key is printed."""
    chain = x509.load_pem_x509_certificates(one.ok("ca", "export").encode())
    [root] = x509.load_pem_x509_certificates(one.ok("ca", "export", "--root").encode())

    chain[0].verify_directly_issued_by(chain[1])
    assert chain[-1] == root
    assert "PRIVATE" not in one.ok("ca", "export")
    assert {row["role"] for row in one.json("ca", "show")} == {"root", "issuing"}


def test_a_retired_root_can_still_be_had(one: Any) -> None:
    """After a rotation verifiers need the old root as well as the new one."""
    [old] = x509.load_pem_x509_certificates(one.ok("ca", "export", "--root").encode())
    one.ok("ca", "rotate", "--root", "--yes")
    kept = x509.load_pem_x509_certificates(one.ok("ca", "export", "--all").encode())
    assert len(kept) == 4
    assert old in kept
    assert one("ca", "export", "--all", "--root").exit_code == 2


def test_openssl_takes_the_exported_chain(one: Any) -> None:
    """What is written to a file is what `openssl verify` wants of an authority."""
    one.ok("ca", "export", "--root", "-o", "root.pem")
    one.ok("ca", "export", "-o", "chain.pem")
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", "root.pem", "chain.pem"],
        capture_output=True,
        cwd=one.folder,
    )
    assert done.returncode == 0, done.stderr
    assert one("ca", "export", "-o", "root.pem").exit_code == 1  # is there already


def test_each_authority_is_told_with_where_its_key_is(one: Any) -> None:
    """Names, serial numbers, fingerprints, validity and state, for people and as JSON."""
    one.ok("ca", "export")
    rows = one.json("ca", "show")
    text = one.ok("ca", "show")
    for row in rows:
        assert row["active"] is True
        assert len(row["sha256"]) == 64
        assert row["sha256"] in text
        assert row["serial"] in text
    assert text.count("sealed in the store") == 2


def test_a_rotation_asks_and_keeps_the_old_one(one: Any) -> None:
    """Without anybody to ask it wants --yes; afterwards the old key is retired, the root stays."""
    one.ok("ca", "export")
    before = {row["id"] for row in one.json("ca", "show")}
    refused = one("ca", "rotate")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr

    [made] = one.json("ca", "rotate", "--yes")

    rows = {row["id"]: row for row in one.json("ca", "show")}
    assert set(rows) == before | {made["id"]}
    assert [row["active"] for row in rows.values() if row["role"] == "root"] == [True]
    issuing = {row["id"]: row["active"] for row in rows.values() if row["role"] == "issuing"}
    assert issuing == dict.fromkeys(before & set(issuing), False) | {made["id"]: True}
    kinds = [event["kind"] for event in one.json("device", "events")]
    assert kinds[-2:] == ["authority:create", "authority:rotate"]


def test_a_new_root_is_made_with_root(one: Any) -> None:
    """--root makes both anew, says how others get the root, and keeps the old ones."""
    one.ok("ca", "export")
    said = one.ok("ca", "rotate", "--root", "--yes")
    assert "ca export --root" in said
    active = {row["role"]: row["active"] for row in one.json("ca", "show")[:2]}
    assert active == {"root": True, "issuing": True}
    assert len(one.json("ca", "show")) == 4


def from_files(shell: Any, authority: certs.Authority) -> dict[str, str]:
    """Settings with an authority from elsewhere."""
    certificate, key = shell.folder / "ca.pem", shell.folder / "ca.key"
    certificate.write_text(authority.chain_pem())
    key.write_text(authority.key_pem)
    key.chmod(0o600)
    return {
        "GATEHOUSE_CA_CERTIFICATE_FILE": str(certificate),
        "GATEHOUSE_CA_KEY_FILE": str(key),
    }


def test_an_authority_from_a_file_is_shown_and_not_rotated(one: Any) -> None:
    """Where it comes from is said; it is rotated where it was made."""
    root = certs.Authority("Elsewhere root")
    env = from_files(one, certs.Authority("Elsewhere issuing", parent=root))

    [row] = one.json("ca", "show", **env)
    assert row["subject"] == "CN=Elsewhere issuing"
    assert row["key_kept"] == env["GATEHOUSE_CA_KEY_FILE"]
    refused = one("ca", "rotate", "--yes", **env)
    assert refused.exit_code == 1
    assert "where it was made" in refused.stderr
    exported = x509.load_pem_x509_certificates(one.ok("ca", "export", **env).encode())
    assert [str(found.subject.rfc4514_string()) for found in exported] == [
        "CN=Elsewhere issuing",
        "CN=Elsewhere root",
    ]
    assert one.json("ca", "show") == []


def test_options_that_exclude_each_other(one: Any, tmp_path: Path) -> None:
    """The root alone or the chain: not both."""
    assert one("ca", "export", "--root", "--chain").exit_code == 2


def test_without_a_store_nothing_is_made(shell: Any) -> None:
    """Looking for an authority in a folder without a store says so."""
    for words in (("show",), ("export",), ("rotate", "--yes")):
        result = shell("ca", *words)
        assert result.exit_code == 1
        assert "there is no store" in result.stderr
    assert not (shell.folder / "data").exists()
