"""What the tests of the contract need beside the wires: profiles, sessions, gateways, packages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from inside import Gate
from wires import Mqtt, mqtt, provisioned

from gateway.core.model import (
    ChecksumAlgorithm,
    DeviceProfile,
    Package,
    PackageKind,
    ProfileTransport,
    ProvisionType,
    Secret,
)
from gateway.core.registry import ProfileDraft
from gateway.opening import open_packages

CLOSED = (0, 0)

PROTOBUF: dict[str, Any] = {
    "payload": "PROTOBUF",
    "telemetry_schema": 'syntax = "proto3"; message Sent { optional double t = 1; }',
    "attributes_schema": 'syntax = "proto3"; message Known { optional string serial = 1; }',
}
"""A profile whose telemetry is `t = 1`, a double, and whose attributes are `serial = 1`, text."""


async def save_profile(
    gate: Gate, name: str, transport: ProfileTransport = ProfileTransport.DEFAULT, **more: Any
) -> None:
    """Make a profile or change it; `thingsboard` is its section."""
    sections = {"thingsboard": more.pop("thingsboard", {})}
    profile = DeviceProfile(
        id=0,
        name=name,
        provision_type=ProvisionType.CHECK_PRE_PROVISIONED_DEVICES,
        transport=transport,
        sections=sections,
        **more,
    )
    pair = {"key": Secret(f"{name}-key-0001"), "secret": Secret(f"{name}-secret-0001")}
    await gate.registry.save_profile(ProfileDraft(profile=profile, **pair))


@asynccontextmanager
async def session_of(gate: Gate, token: str, version: int = 5) -> AsyncIterator[Mqtt]:
    """An MQTT session that is open."""
    async with mqtt(gate.ports.mqtt, version) as session:
        assert await session.connect("c", token) == 0
        yield session


async def add_gateway(gate: Gate, name: str = "gw") -> str:
    """A device that may speak for others; its token."""
    answer = await provisioned(gate.ports, "http", gate.request(name, gateway=True))
    token: str = answer["credentialsValue"]
    return token


@asynccontextmanager
async def gateway_of(gate: Gate, version: int = 5) -> AsyncIterator[Mqtt]:
    """The session of a new gateway."""
    async with session_of(gate, await add_gateway(gate), version) as session:
        yield session


async def told(session: Mqtt) -> tuple[str, Any]:
    """The next PUBLISH: its topic and its JSON."""
    topic, payload, _ = await session.published()
    return topic, json.loads(payload)


async def add_package(
    gate: Gate, folder: Path, content: bytes, kind: PackageKind = PackageKind.FIRMWARE, **more: Any
) -> Package:
    """A package with its content on disk; with a `url` it lies elsewhere."""
    given: dict[str, Any] = {"title": "app", "version": "1", "file_name": "app.bin", **more}
    if "url" not in more:
        files = open_packages(gate.gateway.config)
        assert files is not None
        source = folder / "source.bin"
        source.write_bytes(content)
        added = files.add(source, ChecksumAlgorithm.SHA256)
        given |= {"size": added.size, "file": added.file, "checksum": added.checksum}
    package = await gate.registry.packages.add(Package(kind=kind, **given))
    assert package is not None
    return package


async def assign(gate: Gate, package: Package, name: str = "d") -> None:
    known = await gate.registry.device(name)
    assert known is not None
    await gate.registry.packages.assign(package.kind, package, known.device)
