"""What `gatehouse doctor` finds out about certificates and authorities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import certs
import pytest

from gateway.cli.checks import Level
from gateway.cli.tls_checks import chain_anchors, covers, server_certificate, stored_authorities
from gateway.config import load_config
from gateway.core.model import ProvisionType
from gateway.core.pki.authority import make_root
from gateway.core.pki.model import ChainRule
from gateway.core.registry import root_profile

DAY_MS = 86_400_000


class Looked:
    """The findings about the server's certificate, by check."""

    def __init__(self, shell: Any, **env: str) -> None:
        found = list(server_certificate(load_config(None, shell.env | env)))
        self.levels = {check: max(levels) for check, levels in _by_check(found).items()}
        self.text = "\n".join(f"{one.found} {one.todo}" for one in found)


def _by_check(found: list[Any]) -> dict[str, list[Level]]:
    grouped: dict[str, list[Level]] = {}
    for one in found:
        grouped.setdefault(one.check, []).append(one.level)
    return grouped


ORDER = [Level.OK, Level.WARNING, Level.WRONG]
assert sorted(ORDER) == ORDER, "levels sort as they weigh"


@pytest.fixture
def installed(shell: Any) -> Any:
    """Puts a certificate and its key where the server looks for them."""

    def put(issued: certs.Issued, *, chain: str | None = None, mode: int = 0o600) -> Looked:
        folder: Path = shell.folder / "data" / "tls"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "server.pem").write_text(issued.chain_pem() if chain is None else chain)
        key = folder / "server.key"
        key.write_text(issued.key_pem)
        key.chmod(mode)
        return Looked(shell)

    return put


def test_none_is_no_fault(shell: Any) -> None:
    """Without a certificate doctor says that the secure wires are off, and how they come on."""
    looked = Looked(shell)
    assert looked.levels == {"certificate": Level.OK}
    assert "gatehouse cert init" in looked.text


def test_one_that_is_named_must_be_there(shell: Any) -> None:
    """A path in [tls] that leads nowhere keeps the gateway from starting: that is wrong."""
    assert Looked(shell, GATEHOUSE_TLS_CERTIFICATE_FILE="nowhere.pem").levels == {
        "certificate": Level.WRONG
    }
    half = {"GATEHOUSE_STORE_URL": "sqlite::memory:", "GATEHOUSE_TLS_KEY_FILE": "a.key"}
    assert Looked(shell, **half).levels == {"certificate": Level.WRONG}


def test_wires_that_are_off_need_none(shell: Any) -> None:
    """Who switched the secure wires off is not told to make a certificate."""
    env = {f"GATEHOUSE_{wire}_ENABLED": "false" for wire in ("HTTPS", "MQTTS", "COAPS")}
    assert "switched off" in Looked(shell, **env).text


def test_a_lab_certificate_is_found_in_order(shell: Any) -> None:
    """What `cert init` makes leaves nothing to say, and doctor as a whole is content."""
    shell.ok("cert", "init")
    looked = Looked(shell)
    assert set(looked.levels.values()) == {Level.OK}
    assert "localhost" in looked.text
    shell.ok("device", "add", "d1")
    assert "✗" not in shell.ok("doctor")


def test_its_time_is_looked_at(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over is wrong, not yet is wrong, and less than 30 days are a warning."""
    root = certs.Authority("root")
    assert installed(certs.expired_leaf(root)).levels["certificate"] is Level.WRONG
    assert installed(certs.not_yet_valid(root)).levels["certificate"] is Level.WRONG
    soon = root.server("gate.example")
    ends = round(soon.certificate.not_valid_after_utc.timestamp() * 1000)
    for days, level in ((29, Level.WARNING), (31, Level.OK), (-1, Level.WRONG)):
        monkeypatch.setattr("gateway.cli.tls_checks.now_ms", lambda days=days: ends - days * DAY_MS)
        assert installed(soon).levels["certificate"] is level, days


def test_a_chain_with_a_gap_is_a_warning(installed: Any) -> None:
    """Clients that know the root alone need the certificates between."""
    middle = certs.Authority("middle", parent=certs.Authority("root"))
    leaf = middle.server("gate.example")
    assert installed(leaf).levels["chain"] is Level.OK
    assert installed(leaf, chain=leaf.pem).levels["chain"] is Level.WARNING


def test_names_must_be_there(installed: Any, shell: Any) -> None:
    """No alternative name is wrong; an address that is listened on and not named is a warning."""
    root = certs.Authority("root")
    assert installed(root.issue("gate.example", san=())).levels["host names"] is Level.WRONG
    everywhere = {f"GATEHOUSE_{wire}_HOST": "0.0.0.0" for wire in ("HTTPS", "MQTTS", "COAPS")}
    installed(root.server("gate.example"))
    assert Looked(shell, **everywhere).levels["host names"] is Level.OK
    here = Looked(shell)
    assert here.levels["host names"] is Level.WARNING
    assert "127.0.0.1" in here.text


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("gate.example", True),
        ("GATE.example.", True),
        ("a.lab.example", True),
        ("lab.example", False),
        ("a.b.lab.example", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("::1", True),
    ],
)
def test_a_name_is_covered_as_clients_see_it(host: str, good: bool) -> None:
    """A star is one label; addresses are compared as addresses."""
    names = ("DNS:gate.example", "DNS:*.lab.example", "IP:192.0.2.7", "IP:::1")
    assert covers(names, host) is good


def test_weak_ones_are_wrong(installed: Any) -> None:
    """Keys and signatures that today's clients refuse are told before they do."""
    weak = certs.weak_key(certs.Authority("root"))
    looked = installed(weak)
    assert looked.levels["certificate"] is Level.WRONG
    assert "1024 bits" in looked.text


def test_one_for_clients_is_wrong(installed: Any) -> None:
    """Clients refuse a certificate whose extended key usage is not that of a server."""
    looked = installed(certs.Authority("root").issue("localhost", eku=certs.CLIENT))
    assert looked.levels["certificate"] is Level.WRONG
    assert "serverAuth" in looked.text


def test_the_key_must_belong(installed: Any, shell: Any) -> None:
    """Another's key, one that is none, and an encrypted one are told apart."""
    root = certs.Authority("root")
    installed(root.server("gate.example"))
    key: Path = shell.folder / "data" / "tls" / "server.key"
    for content, told in (
        (root.key_pem, "does not belong"),
        ("no key", "no private key"),
        (certs.key_pem(certs.new_key(), "swordfish"), "encrypted"),
    ):
        key.write_text(content)
        looked = Looked(shell)
        assert looked.levels["server key"] is Level.WRONG
        assert told in looked.text
    key.unlink()
    assert Looked(shell).levels["server key"] is Level.WRONG


def test_who_may_read_the_key(installed: Any) -> None:
    """Everybody is wrong, a group may be on purpose."""
    leaf = certs.Authority("root").server("gate.example")
    for mode, level in ((0o604, Level.WRONG), (0o640, Level.WARNING), (0o400, Level.OK)):
        assert installed(leaf, mode=mode).levels["server key"] is level


def test_the_authority_in_use_is_looked_at(monkeypatch: pytest.MonkeyPatch, shell: Any) -> None:
    """Half a year before its end, and after it, doctor says how to rotate."""
    config, made = load_config(None, shell.env), make_root(1_790_000_000_000)
    assert [one.level for one in stored_authorities(config, [])] == [Level.OK]
    ends = 1_790_000_000_000 + 20 * 365 * DAY_MS
    for days, level in ((200, Level.OK), (100, Level.WARNING), (-1, Level.WRONG)):
        monkeypatch.setattr("gateway.cli.tls_checks.now_ms", lambda days=days: ends - days * DAY_MS)
        [finding] = stored_authorities(config, [made])
        assert finding.level is level
        assert level is Level.OK or "ca rotate --root" in finding.todo


def test_an_authority_from_a_file_is_opened(shell: Any) -> None:
    """Doctor tells a missing passphrase and an open key; the passphrase itself never."""
    authority = certs.Authority("Elsewhere")
    certificate, key = shell.folder / "ca.pem", shell.folder / "ca.key"
    certificate.write_text(authority.pem)
    key.write_text(certs.key_pem(authority.key, "swordfish"))
    env = {
        "GATEHOUSE_CA_CERTIFICATE_FILE": str(certificate),
        "GATEHOUSE_CA_KEY_FILE": str(key),
    }

    def told(**more: str) -> dict[str, str]:
        report = shell("doctor", "--json", **env, **more)
        assert "swordfish" not in report.output
        import json

        found = json.loads(report.stdout)["checks"]
        return {one["found"]: one["level"] for one in found if one["check"] == "authority"}

    key.chmod(0o600)
    assert list(told().values()) == ["wrong"]
    passphrase = {"GATEHOUSE_AUTHORITY_PASSPHRASE": "swordfish"}
    assert list(told(**passphrase).values()) == ["ok"]
    key.chmod(0o644)
    assert list(told(**passphrase).values()) == ["ok", "wrong"]
    key.unlink()
    assert list(told(**passphrase).values()) == ["wrong"]


def test_factory_authorities_of_profiles_are_looked_at() -> None:
    """An anchor that ended admits nobody, and one that cannot be read neither."""
    root = certs.Authority("factory")
    old = certs.Authority("old", not_after=certs.NOT_BEFORE + certs.timedelta(days=30))

    def level(pem: str) -> Level:
        rule = ChainRule(certificate=pem, pattern="(.*)")
        kind = ProvisionType.X509_CERTIFICATE_CHAIN
        [finding] = chain_anchors([root_profile("p", provision_type=kind, chain=rule)])
        return finding.level

    assert level(root.pem) is Level.OK
    assert level(old.pem) is Level.WRONG
    assert level("nothing") is Level.WRONG
    assert list(chain_anchors([root_profile("q")])) == []
