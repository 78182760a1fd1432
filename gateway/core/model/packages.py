"""Firmware and software."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from gateway.core.model.traffic import Value


class PackageKind(StrEnum):
    """What is delivered over the air; the value is the prefix of its attributes."""

    FIRMWARE = "fw"
    SOFTWARE = "sw"


class ChecksumAlgorithm(StrEnum):
    """How a device checks what it downloaded (ThingsBoard's names)."""

    MD5 = "MD5"
    SHA256 = "SHA256"
    SHA384 = "SHA384"
    SHA512 = "SHA512"
    CRC32 = "CRC32"
    MURMUR3_32 = "MURMUR3_32"
    MURMUR3_128 = "MURMUR3_128"


class Package(Struct, frozen=True, kw_only=True):
    """Firmware or software: a file kept beside the store, or a `url` where devices find it.

    `checksum` is lower-case hex. `file` is the name of the content on disk, empty with a `url`.
    """

    id: int = 0
    kind: PackageKind
    title: str
    version: str
    tag: str = ""
    size: int = 0
    checksum: str = ""
    algorithm: ChecksumAlgorithm = ChecksumAlgorithm.SHA256
    file_name: str = ""
    file: str = ""
    url: str = ""
    created_at: int = 0

    def attributes(self) -> dict[str, Value]:
        """The shared attributes that announce it to a device (ThingsBoard contract, section 14)."""
        prefix = self.kind.value
        told: dict[str, Value] = {
            f"{prefix}_title": self.title,
            f"{prefix}_version": self.version,
            f"{prefix}_tag": self.tag or f"{self.title} {self.version}",
        }
        if self.url:
            told[f"{prefix}_url"] = self.url
            return told
        told[f"{prefix}_size"] = self.size
        told[f"{prefix}_checksum_algorithm"] = self.algorithm.value
        told[f"{prefix}_checksum"] = self.checksum
        return told


class Download(Struct, frozen=True, kw_only=True):
    """How far one device came with one package: bytes given to it, and when last (ms)."""

    kind: PackageKind
    package_id: int
    sent: int
    at: int
