"""OpenSSL's own client against the listener."""

from __future__ import annotations

import asyncio
import re
import shutil

import certs
import pytest

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture
async def s_client(root, tmp_path):
    """Runs `openssl s_client`; everything it printed.

    `say` is its input, line by line, each with what it prints before the next one.
    """
    authority = tmp_path / "root.pem"
    authority.write_text(root.pem)
    started = []

    async def run(served, *options, say=((b"hello\n", b"hello"),)):
        process = await asyncio.create_subprocess_exec(
            "openssl",
            "s_client",
            *("-connect", f"127.0.0.1:{served.port}", "-servername", "localhost"),
            *("-CAfile", str(authority), "-verify_return_error", *options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        started.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        printed = b""
        async with asyncio.timeout(10):
            while b"Verify return code" not in printed and (
                data := await process.stdout.read(65_536)
            ):
                printed += data
            for line, answer in say:
                process.stdin.write(line)
                seen = len(printed)
                while answer not in printed[seen:] and (data := await process.stdout.read(65_536)):
                    printed += data
            process.stdin.close()
            while data := await process.stdout.read(65_536):
                printed += data
            await process.wait()
        return printed.decode(errors="replace")

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("shows", [False, True], ids=["anonymous", "certificate"])
async def test_it_talks(serve, s_client, tmp_path, version, shows):
    """Both versions, with and without a certificate: verified, and what is said comes back."""
    device = certs.self_signed("device-1")
    certificate, key = device.files(tmp_path)
    served = await serve()

    options = ("-cert", str(certificate), "-key", str(key)) if shows else ()
    printed = await s_client(served, version, *options)

    assert "Verify return code: 0 (ok)" in printed
    assert "hello" in printed
    assert served.made[0].received == b"hello\n"
    assert "Compression: NONE" in printed
    assert "ECDHE-ECDSA" in printed if version == "-tls1_2" else "TLS_AES" in printed
    assert "alert" not in printed


async def test_a_client_may_update_its_keys(serve, s_client):
    """A key update asked for in TLS 1.3 does not disturb what is said."""
    served = await serve()
    printed = await s_client(
        served, "-tls1_3", say=((b"K\n", b"KEYUPDATE"), (b"hello\n", b"hello"))
    )
    assert "KEYUPDATE" in printed
    assert served.made[0].received == b"hello\n"


async def test_a_client_may_not_renegotiate(serve, s_client):
    """Renegotiation, asked for in TLS 1.2, is refused."""
    served = await serve()
    printed = await s_client(served, "-tls1_2", say=((b"R\n", b"no renegotiation"),))
    assert re.search("no renegotiation", printed)


@pytest.mark.parametrize(
    "options",
    [
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "AES128-SHA"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"),
    ],
)
async def test_what_is_too_old_is_refused(serve, s_client, options):
    """TLS 1.1, RSA key transport and CBC get an alert."""
    served = await serve()
    printed = await s_client(served, *options, say=())
    assert "alert" in printed
    assert served.made == []
