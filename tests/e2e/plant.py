"""A gateway with secure wires in this process, and the factory whose devices it believes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import certs
from inside import Gate, serving
from lines import GRANTED, Line, answer_to, identity_in, line

from gateway.clock import now_ms
from gateway.core.custody import Custody
from gateway.core.model import DeviceProfile, Event, Peer, ProvisionType, Secret, Wire
from gateway.core.pki.model import CertificateProfile, ChainRule
from gateway.core.ports import KnownCredentials
from gateway.core.registry import ProfileDraft, Registry
from gateway.opening import open_registry, open_store
from gateway.settings import StoreSettings
from gateway.store.sql_registrar import SqlRegistrar

OPERATOR = Peer(Wire.SHELL, "operator")


class People:
    """Somebody in a shell: a store of their own on the same database."""

    def __init__(self, registry: Registry, custody: Custody) -> None:
        self.registry = registry
        self.custody = custody

    async def known(self, name: str) -> KnownCredentials:
        known = await self.registry.device(name)
        assert known is not None, name
        return known


class Plant:
    """`trusted` is the PEM of who signed the server's certificate; `factory` signs devices."""

    def __init__(self, gate: Gate, trusted: str, factory: certs.Authority) -> None:
        self.gate = gate
        self.ports = gate.ports
        self.trusted = trusted
        self.factory = factory

    # ── profiles ──────────────────────────────────────────────────────────────────────────────

    async def believe(
        self,
        anchor: certs.Issued | None = None,
        *,
        name: str = "factory",
        pattern: str = "(.*)",
        create: bool = True,
        **settings: Any,
    ) -> None:
        """A profile for devices whose certificates `anchor` signed, by default the factory."""
        rule = ChainRule(certificate=(anchor or self.factory).pem, pattern=pattern, create=create)
        kind = ProvisionType.X509_CERTIFICATE_CHAIN
        await self.save(DeviceProfile(id=0, name=name, provision_type=kind, chain=rule, **settings))

    async def certify(self, name: str = "signed", **certificate: Any) -> None:
        """A profile for new devices, with settings of its own for their certificates."""
        await self.save(
            DeviceProfile(
                id=0,
                name=name,
                provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES,
                certificate=CertificateProfile(**certificate),
            )
        )

    async def save(self, profile: DeviceProfile) -> None:
        name = profile.name
        pair = {"key": Secret(f"{name}-key-0001"), "secret": Secret(f"{name}-secret-0001")}
        self.gate.secrets[name] = f"{name}-secret-0001"
        assert await self.gate.registry.save_profile(ProfileDraft(profile=profile, **pair))
        await self.told()

    async def told(self) -> None:
        """See `Gate.told`."""
        await self.gate.told()

    # ── devices ───────────────────────────────────────────────────────────────────────────────

    def line(self, wire: str, identity: certs.Issued | None = None, **more: Any) -> Any:
        """See `lines.line`."""
        return line(self.ports, self.trusted, wire, identity, **more)

    @asynccontextmanager
    async def entered(
        self, wire: str, identity: certs.Issued | None = None, **more: Any
    ) -> AsyncIterator[Line]:
        """A device that is logged in."""
        async with self.line(wire, identity, **more) as device:
            told = await device.enter()
            assert told == GRANTED[wire], told
            yield device

    async def answer(self, wire: str, identity: certs.Issued, **more: Any) -> str:
        """What a wire says to a device that shows this certificate."""
        return await answer_to(self.ports, self.trusted, wire, identity, **more)

    async def signed(self, name: str, wire: str = "https", profile: str = "create") -> certs.Issued:
        """A new device with a certificate of the gateway's own authority."""
        key = certs.new_key()
        request = self.gate.request(name, profile=profile, csr=certs.csr(key))
        async with self.line(wire) as device:
            return identity_in(await device.provision(request), key)

    async def registered(self, name: str, identity: certs.Issued, profile: str = "create") -> None:
        """A new device that logs in with a certificate it has."""
        request = self.gate.request(
            name, profile=profile, credentialsType="X509_CERTIFICATE", hash=identity.text
        )
        async with self.line("https") as device:
            assert (await device.provision(request))["status"] == "SUCCESS"

    # ── what is written down ──────────────────────────────────────────────────────────────────

    async def devices(self) -> set[str]:
        return {one.device.name for one in await self.gate.registry.devices(limit=1000)}

    async def events(self) -> list[Event]:
        await self.gate.gateway.store.writer.settled()
        return await self.gate.registry.events(limit=1000)

    async def refusals(self) -> list[str]:
        return [one.reason for one in await self.events() if one.outcome.value == "refused"]


@asynccontextmanager
async def beside(gate: Gate) -> AsyncIterator[People]:
    """Who opens the database of a gateway on disk beside it."""
    async with open_store(gate.gateway.config, {}) as store:
        custody = Custody(store, SqlRegistrar(store), clock=now_ms, peer=OPERATOR)
        yield People(open_registry(store, OPERATOR), custody)


class Within:
    """Measures that a block takes less than `most_s` seconds."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None:
            took = time.monotonic() - self._began
            assert took < self._most_s, f"took {took:.2f} s"


@asynccontextmanager
async def plant_in(
    folder: Path,
    lab: certs.Authority,
    server: certs.Issued,
    factory: certs.Authority,
    *,
    memory: bool = True,
    **settings: Any,
) -> AsyncIterator[Plant]:
    """A plant with `server`'s certificate in `folder`, over a database in memory or on disk."""
    files = server.files(folder, "server")
    if memory:
        settings["store"] = StoreSettings(url="sqlite::memory:")
    async with serving(folder, certificate=files, **settings) as gate:
        yield Plant(gate, lab.pem, factory)
