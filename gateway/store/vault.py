"""Credentials at rest: found by a keyed digest, kept sealed. A stolen database opens nothing.

Both keys derive by HKDF-SHA-256 (RFC 5869) from one master key: the digest is BLAKE2b-256 with a
key (RFC 7693), the seal is AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce, bound to the
digest it belongs to. A row moved under another digest does not open.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.core.errors import ConfigError, StoreUnavailable
from gateway.core.tokens import random_bytes

KEY_FILE = "master.key"
_NONCE = 12


class Vault:
    """Digests and seals with keys derived from `master` (32 bytes)."""

    def __init__(self, master: bytes) -> None:
        self._digest_key = _derive(master, b"gatehouse credential digest 1")
        self._chain_key = _derive(master, b"gatehouse event chain 1")
        self._aead = AESGCM(_derive(master, b"gatehouse credential seal 1"))
        self.signing_key = _derive(master, b"gatehouse login token 1", 64)
        """For the tokens of people's logins: 64 bytes, as HS512 wants (RFC 7518, section 3.2)."""

    def digest(self, text: str) -> bytes:
        """The 32 bytes under which a credential is looked up."""
        data = text.encode("utf-8", "surrogatepass")
        return blake2b(data, digest_size=32, key=self._digest_key).digest()

    def chain_mac(self, head: bytes) -> bytes:
        """The 32 bytes that show who wrote the head of the chain of events."""
        return blake2b(head, digest_size=32, key=self._chain_key).digest()

    def seal(self, clear: bytes, bound_to: bytes) -> bytes:
        nonce = random_bytes(_NONCE)
        return nonce + self._aead.encrypt(nonce, clear, bound_to)

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """The clear bytes. Raises `StoreUnavailable` when another master key sealed them."""
        try:
            return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], bound_to)
        except InvalidTag:
            raise StoreUnavailable(
                "what it holds does not open with this master key; restore the key file that "
                "belongs to this database, or set GATEHOUSE_MASTER_KEY to it"
            ) from None


def _derive(master: bytes, purpose: bytes, length: int = 32) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=purpose).derive(master)


def parse_master_key(text: str, origin: str) -> bytes:
    """32 bytes from 64 hexadecimal digits. `origin` is named in the error, the text never."""
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError(
            f"{origin}: the master key must be 64 hexadecimal digits (256 bits). "
            "Make one with `openssl rand -hex 32`."
        )
    return key


def load_master_key(database: Path | None, environ_value: str | None) -> bytes:
    """The key from the environment, else from `master.key` beside the database file.

    It is made (mode 0600) together with the database, and never for one that is already there: a
    new key would open nothing in it. Without a file (store in memory) it lives with the process.
    """
    if environ_value:
        return parse_master_key(environ_value, "GATEHOUSE_MASTER_KEY")
    if database is None:
        return secrets.token_bytes(32)
    path = database.with_name(KEY_FILE)
    try:
        if not path.exists():
            if database.exists() and database.stat().st_size and not path.exists():
                raise ConfigError(
                    f"{path}: the master key of {database.name} is missing. Without it no "
                    "credential in the database opens. Restore the file from a backup, or set "
                    "GATEHOUSE_MASTER_KEY; to begin anew, move the database away."
                )
            _make_key_file(path)
        return parse_master_key(path.read_text("ascii"), str(path))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"{path}: the master key cannot be read or made ({type(exc).__name__}). "
            "The folder must be writable at first start, the file readable by this user."
        ) from exc


def _make_key_file(path: Path) -> None:
    """Write a fresh key completely and durably before it gets its name; never over another's."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, secrets.token_hex(32).encode() + b"\n")
        os.fsync(handle)
        with suppress(FileExistsError):  # another process was first; its key is as good
            os.link(draft, path)
    finally:
        os.close(handle)
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
