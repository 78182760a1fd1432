"""The contents of packages, in files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.core.model import ChecksumAlgorithm, Package, PackageKind
from gateway.store.packages import PackageStore, new_checksum


@pytest.fixture
def files(tmp_path):
    opened = PackageStore(tmp_path / "packages", most_open=2)
    yield opened
    opened.close()


def package(added):
    return Package(
        kind=PackageKind.FIRMWARE, title="t", version="1", size=added.size, file=added.file
    )


@pytest.mark.parametrize(
    ("algorithm", "checksum"),
    [
        ("MD5", "900150983cd24fb0d6963f7d28e17f72"),  # RFC 1321, A.5
        ("SHA256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("CRC32", "c2412435"),  # 0x352441c2, least significant byte first
        ("MURMUR3_32", "fa93ddb3"),  # 0xb3dd93fa
        ("MURMUR3_128", "6778ad3f3f3f96b4522dca264174a23b"),
    ],
)
def test_checksums_are_thingsboards(algorithm, checksum):
    """Of "abc", in pieces: those of several bytes are written as Guava writes them."""
    made = new_checksum(ChecksumAlgorithm(algorithm))
    made.update(b"a")
    made.update(b"bc")
    assert made.hexdigest() == checksum


@pytest.mark.parametrize("algorithm", list(ChecksumAlgorithm))
def test_a_file_is_taken_in(files, tmp_path, algorithm):
    """Under the SHA-256 of its content, readable by us alone, with nothing left beside it."""
    content = random.Random(1).randbytes(3_000_000)
    source, heard = tmp_path / "fw.bin", []
    source.write_bytes(content)
    added = files.add(source, algorithm, heard.append)
    whole = new_checksum(algorithm)
    whole.update(content)
    assert added == (hashlib.sha256(content).hexdigest(), len(content), whole.hexdigest())
    assert heard[-1] == len(content)
    assert len(heard) > 1
    assert [path.name for path in (tmp_path / "packages").iterdir()] == [added.file]
    assert (tmp_path / "packages" / added.file).stat().st_mode & 0o777 == 0o600
    assert files.add(source, algorithm) == added


def test_what_breaks_leaves_nothing(files, tmp_path):
    """Neither a draft nor a file, when it is given up halfway or is not there."""
    source = tmp_path / "fw.bin"
    source.write_bytes(bytes(3_000_000))

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.add(source, ChecksumAlgorithm.MD5, stop)
    with pytest.raises(OSError):
        files.add(tmp_path / "none", ChecksumAlgorithm.MD5)
    assert list((tmp_path / "packages").iterdir()) == []


async def test_pieces_are_read(files, tmp_path):
    """From any place, fewer bytes at the end, none behind it; removed files are no more."""
    (tmp_path / "fw.bin").write_bytes(b"0123456789")
    one = package(files.add(tmp_path / "fw.bin", ChecksumAlgorithm.SHA256))
    assert await files.read(one, 0, 4) == b"0123"
    assert await files.read(one, 8, 4) == b"89"
    assert await files.read(one, 10, 4) == b""
    assert await files.read(one, 3, 0) == b""
    files.remove(one.file)
    with pytest.raises(StoreUnavailable):
        await files.read(one, 0, 4)


async def test_files_kept_open_are_bounded(files, tmp_path):
    """Many packages read at once, in any order, with two files kept open between."""
    before = len(os.listdir("/proc/self/fd"))
    packages = []
    for n in range(10):
        source = tmp_path / "source"
        source.write_bytes(bytes([n]) * 1000)
        packages.append(package(files.add(source, ChecksumAlgorithm.MD5)))
    pieces = await asyncio.gather(*(files.read(packages[n % 10], n, 1) for n in range(500)))
    assert pieces == [bytes([n % 10]) for n in range(500)]
    assert len(os.listdir("/proc/self/fd")) <= before + 2 + 2  # and the executor's own
    files.close()


@pytest.mark.parametrize("name", ["", "../secret", "/etc/passwd", "0" * 63])
async def test_names_that_are_none_of_ours_are_not_opened(files, tmp_path, name):
    """A row that names another file does not open it."""
    (tmp_path / "secret").write_text("secret")
    odd = Package(kind=PackageKind.FIRMWARE, title="t", version="1", size=6, file=name)
    with pytest.raises(StoreUnavailable):
        await files.read(odd, 0, 6)
