"""A changed certificate is served to who comes new, and nobody who is there is disturbed."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import certs
import pytest
from cryptography import x509
from inside import serving
from lines import SECURE
from plant import Plant, Within, plant_in
from wires import HOST

A_MOMENT = 2.0


async def shown(plant: Plant, wire: str = "https") -> x509.Certificate:
    """The certificate that a TLS port shows to a newcomer."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection(HOST, getattr(plant.ports, wire), ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(der)


async def until_shown(plant: Plant, certificate: x509.Certificate) -> None:
    """On both TLS wires, within two seconds."""
    with Within(A_MOMENT):
        for wire in ("https", "mqtts"):
            while await shown(plant, wire) != certificate:
                await asyncio.sleep(0.02)


async def test_a_new_certificate_is_taken_up_while_sessions_go_on(
    plant: Plant, tmp_path: Path
) -> None:
    """Newcomers see the new one; session, keep-alive connection and association do not notice."""
    other = certs.Authority("Other lab")
    identity = await plant.signed("stays")
    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(plant.entered(wire, identity)) for wire in SECURE]
        other.server().files(tmp_path, "server")
        async with asyncio.timeout(A_MOMENT):
            while (await shown(plant)).issuer != other.certificate.subject:
                await asyncio.sleep(0.02)
        for line in lines:
            await line.tell(still=1)
        # Who believes the new authority alone gets in on every wire.
        believer = Plant(plant.gate, other.pem, plant.factory)
        for wire in SECURE:
            async with believer.entered(wire, identity) as device:
                await device.tell(new=1)
    with pytest.raises(ssl.SSLCertVerificationError):
        async with plant.line("mqtts"):
            pass


@pytest.mark.parametrize("spoilt", ["certificate", "key", "pair", "gone"])
async def test_a_broken_file_changes_nothing(plant: Plant, tmp_path: Path, spoilt: str) -> None:
    """Half a file, a key of another, none at all: what was served goes on being served."""
    before = await shown(plant)
    if spoilt == "gone":
        (tmp_path / "server.key").unlink()
    elif spoilt == "pair":
        (tmp_path / "server.key").write_text(certs.key_pem(certs.new_key()))
    else:
        file = tmp_path / ("server.pem" if spoilt == "certificate" else "server.key")
        file.write_text(file.read_text()[:200])
    assert not plant.gate.gateway.reload_certificates()
    assert await shown(plant) == before
    for wire in SECURE:
        identity = await plant.signed(f"{spoilt}-{wire}")
        async with plant.entered(wire, identity) as device:
            await device.tell(n=1)


async def test_a_mended_file_is_taken_up_after_a_broken_one(plant: Plant, tmp_path: Path) -> None:
    """Certificate and key are written one after the other; in between they do not fit."""
    lab = certs.Authority("Next lab")
    fresh = lab.server()
    assert plant.gate.gateway.reload_certificates()
    (tmp_path / "server.pem").write_text(fresh.chain_pem(root=False))
    assert not plant.gate.gateway.reload_certificates()
    (tmp_path / "server.key").write_text(fresh.key_pem)
    assert plant.gate.gateway.reload_certificates()
    await until_shown(plant, fresh.certificate)


async def test_without_a_certificate_there_are_no_secure_wires(tmp_path: Path) -> None:
    """The plain ones are there all the same."""
    async with serving(tmp_path) as gate:
        assert gate.ports.https == gate.ports.mqtts == gate.ports.coaps == 0
        assert gate.ports.http


async def test_tls_1_2_is_served_unless_it_is_forbidden(
    tmp_path: Path, lab: certs.Authority, server: certs.Issued, factory: certs.Authority
) -> None:
    """Old devices have no more than 1.2; `min_version` shuts them out."""
    for version, served in (("1.2", True), ("1.3", False)):
        folder = tmp_path / version
        folder.mkdir()
        settings: dict[str, Any] = {"tls": {"min_version": version}}
        async with plant_in(folder, lab, server, factory, **settings) as plant:
            context = ssl.create_default_context(cadata=lab.pem)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            try:
                _, writer = await asyncio.open_connection(HOST, plant.ports.mqtts, ssl=context)
            except ssl.SSLError:
                assert not served
            else:
                assert served
                assert writer.get_extra_info("cipher")[0].startswith("ECDHE-ECDSA")
                writer.transport.abort()
