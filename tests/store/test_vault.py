"""Credentials at rest."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import ConfigError, StoreUnavailable
from gateway.store.vault import KEY_FILE, Vault, load_master_key

KEY = bytes(range(32))


@given(st.binary(), st.binary())
def test_what_is_sealed_opens(clear, bound_to):
    """The same vault opens what it sealed, and the sealed form shows nothing of it."""
    vault = Vault(KEY)
    sealed = vault.seal(clear, bound_to)
    assert vault.open(sealed, bound_to) == clear
    assert len(clear) < 8 or clear not in sealed


def test_sealing_twice_differs():
    """Equal secrets cannot be told from their sealed forms; their digests are equal."""
    vault = Vault(KEY)
    assert vault.seal(b"x", b"") != vault.seal(b"x", b"")
    assert vault.digest("x") == vault.digest("x")
    assert len(vault.digest("x")) == 32


@pytest.mark.parametrize("other", [(Vault(bytes(32)), b"row"), (Vault(KEY), b"another row")])
def test_another_key_or_row_does_not_open(other):
    """A seal opens with its own key and beside its own digest only."""
    vault, bound_to = other
    sealed = Vault(KEY).seal(b"secret", b"row")
    with pytest.raises(StoreUnavailable, match="master key"):
        vault.open(sealed, bound_to)


def test_digests_depend_on_the_key():
    """A stolen database cannot be searched for a known token."""
    assert Vault(KEY).digest("x") != Vault(bytes(32)).digest("x")


def test_the_key_file_is_made_once_and_private(tmp_path):
    """The first start makes the file with mode 0600; later ones read the same key."""
    made = load_master_key(tmp_path / "g.db", None)
    path = tmp_path / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_master_key(tmp_path / "g.db", None) == made
    assert [entry.name for entry in tmp_path.iterdir()] == [KEY_FILE]


def test_the_environment_comes_first(tmp_path):
    """GATEHOUSE_MASTER_KEY is used as it is, and no file is made."""
    assert load_master_key(tmp_path / "g.db", "ab" * 32) == bytes.fromhex("ab" * 32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "zz", "ab" * 31, "not hexadecimal " * 4])
def test_a_bad_key_is_explained_and_not_shown(tmp_path, text):
    """The error says what a key looks like, and does not repeat the one given."""
    (tmp_path / KEY_FILE).write_text(text)
    with pytest.raises(ConfigError, match="64 hexadecimal digits") as caught:
        load_master_key(tmp_path / "g.db", None)
    assert not text.strip() or text not in str(caught.value)


def test_a_lost_key_is_not_replaced(tmp_path):
    """Beside a database that exists no key is made: it would open nothing."""
    (tmp_path / "g.db").write_bytes(b"something")
    with pytest.raises(ConfigError, match=r"master key of g\.db is missing"):
        load_master_key(tmp_path / "g.db", None)
    assert not (tmp_path / KEY_FILE).exists()


def test_a_left_over_draft_is_no_obstacle(tmp_path):
    """What a crash left of making a key does not keep the next start from making one."""
    (tmp_path / f".{KEY_FILE}.1").write_text("half")
    assert len(load_master_key(tmp_path / "g.db", None)) == 32
