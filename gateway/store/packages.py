"""The contents of packages: files in one folder, each under the SHA-256 of what is in it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol

import mmh3

from gateway.core.errors import StoreUnavailable
from gateway.core.model import ChecksumAlgorithm, Package

_PIECE = 1 << 20
_NAME = re.compile(r"[0-9a-f]{64}")
_DRAFT = ".draft-"
_MOST_OPEN: Final = 64


class Added(NamedTuple):
    """A file that was taken in: its name in the folder, its size in bytes, its checksum as hex."""

    file: str
    size: int
    checksum: str


class PackageStore:
    """Implements `core.ports.PackageFiles` over `folder`.

    `most_open` bounds the files kept open between two pieces: devices of one rollout read the same
    few.
    """

    def __init__(self, folder: Path, *, most_open: int = _MOST_OPEN) -> None:
        self._folder = folder
        self._open = _OpenFiles(folder, most_open)

    async def read(self, package: Package, offset: int, size: int) -> bytes:
        if size <= 0 or offset < 0 or offset >= package.size:
            return b""
        size = min(size, package.size - offset)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._open.read, package.file, offset, size)

    def add(
        self,
        source: Path,
        algorithm: ChecksumAlgorithm,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Added:
        """Copy `source` into the folder, piece by piece; `progress` hears the bytes so far.

        It blocks: call it from a thread where a loop runs. Raises `OSError`; then nothing stays.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._folder / (_DRAFT + secrets.token_hex(8))
        try:
            with source.open("rb") as original, _private(draft) as copy:
                added = _copy(original, copy, algorithm, progress)
            draft.replace(self._folder / added.file)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        _sync_folder(self._folder)
        return added

    def remove(self, file: str) -> None:
        """Delete a content no package refers to any more: two packages may share one."""
        if _NAME.fullmatch(file):
            self._open.forget(file)
            (self._folder / file).unlink(missing_ok=True)

    def close(self) -> None:
        self._open.close()


def _private(path: Path) -> BinaryIO:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(handle, "wb")


def _copy(
    original: BinaryIO,
    copy: BinaryIO,
    algorithm: ChecksumAlgorithm,
    progress: Callable[[int], None],
) -> Added:
    name, checksum, size = hashlib.sha256(), new_checksum(algorithm), 0
    while piece := original.read(_PIECE):
        name.update(piece)
        checksum.update(piece)
        copy.write(piece)
        size += len(piece)
        progress(size)
    copy.flush()
    os.fsync(copy.fileno())
    return Added(name.hexdigest(), size, checksum.hexdigest())


def _sync_folder(folder: Path) -> None:
    """The new name is durable, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ── checksums ─────────────────────────────────────────────────────────────────────────────────


class Checksum(Protocol):
    def update(self, piece: bytes) -> None: ...

    def hexdigest(self) -> str: ...


def new_checksum(algorithm: ChecksumAlgorithm) -> Checksum:
    """ThingsBoard's: CRC32 and MURMUR3 are written as Guava does, least significant byte first."""
    match algorithm:
        case ChecksumAlgorithm.MD5:
            return hashlib.md5(usedforsecurity=False)
        case ChecksumAlgorithm.SHA256:
            return hashlib.sha256()
        case ChecksumAlgorithm.SHA384:
            return hashlib.sha384()
        case ChecksumAlgorithm.SHA512:
            return hashlib.sha512()
        case ChecksumAlgorithm.CRC32:
            return _Crc32()
        case ChecksumAlgorithm.MURMUR3_32:
            return _Murmur(mmh3.mmh3_32())
        case ChecksumAlgorithm.MURMUR3_128:
            return _Murmur(mmh3.mmh3_x64_128())


class _Crc32:
    def __init__(self) -> None:
        self._sum = 0

    def update(self, piece: bytes) -> None:
        self._sum = zlib.crc32(piece, self._sum)

    def hexdigest(self) -> str:
        return self._sum.to_bytes(4, "little").hex()


class _Murmur:
    """Seed 0; the 128 bits in the variant for 64-bit machines."""

    def __init__(self, hasher: mmh3.Hasher) -> None:
        self._hasher = hasher

    def update(self, piece: bytes) -> None:
        self._hasher.update(piece)

    def hexdigest(self) -> str:
        return self._hasher.digest().hex()


# ── open files ────────────────────────────────────────────────────────────────────────────────


class _OpenFile:
    __slots__ = ("handle", "kept", "readers")

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.readers = 0
        self.kept = True


class _OpenFiles:
    """The files read last, used from the executor's threads. One being read is never closed."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Raises `StoreUnavailable`."""
        try:
            file = self._take(name)
            try:
                return os.pread(file.handle, size, offset)
            finally:
                self._give_back(file)
        except OSError as exc:
            reason = exc.strerror or type(exc).__name__
            raise StoreUnavailable(f"the content of a package cannot be read ({reason})") from exc

    def _take(self, name: str) -> _OpenFile:
        if not _NAME.fullmatch(name):
            raise FileNotFoundError(2, "no such content")
        with self._lock:
            file = self._files.get(name)
            if file is None:
                file = _OpenFile(os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC))
                self._files[name] = file
            self._files.move_to_end(name)
            file.readers += 1
            if len(self._files) > self._most:
                self._drop(next(iter(self._files)))
            return file

    def _give_back(self, file: _OpenFile) -> None:
        with self._lock:
            file.readers -= 1
            if not file.kept and not file.readers:
                os.close(file.handle)

    def _drop(self, name: str) -> None:
        file = self._files.pop(name)
        file.kept = False
        if not file.readers:
            os.close(file.handle)

    def forget(self, name: str) -> None:
        with self._lock, suppress(KeyError):
            self._drop(name)

    def close(self) -> None:
        with self._lock:
            for name in list(self._files):
                self._drop(name)
