"""CoAPS with clients other people wrote: libcoap on OpenSSL and on GnuTLS, `openssl s_client`."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from transports.coap.dtls_device import Gate, folder_of, until

from gateway.core.model import RefusalReason, Refused
from gateway.wire.call import Format, Reply

LIBCOAP = ("coap-client-openssl", "coap-client-gnutls")
LONG = (b'{"certificate":"' + b"0123456789" * 450 + b'"}')[:4000]
PSK_TEXT = "0123456789abcdef"


@pytest.fixture
async def gate(service) -> AsyncIterator[Gate]:
    gate = Gate(service)
    await gate.listener.start()
    yield gate
    await gate.listener.stop(1)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return folder_of(tmp_path)


async def run(program: str, *arguments: str, stdin: bytes = b"") -> tuple[str, str]:
    if shutil.which(program) is None:
        if os.environ.get("GATEHOUSE_REQUIRE_CLIENTS") == "1":
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode(errors="replace"), err.decode(errors="replace")


def uri(gate: Gate, path: str = "api/v1/provision") -> str:
    return f"coaps://127.0.0.1:{gate.port}/{path}"


def certificate(files: dict[str, str]) -> tuple[str, ...]:
    return ("-c", files["certificate"], "-j", files["key"], "-R", files["root"])


@pytest.mark.parametrize("program", LIBCOAP)
async def test_libcoap_with_a_certificate(program: str, gate, service, files) -> None:
    """libcoap's clients log in with a certificate and believe ours."""
    out, err = await run(
        program, "-B", "5", *certificate(files), "-m", "POST", "-e", '{"a":1}', uri(gate)
    )
    assert (out.strip(), err) == ('{"status":"SUCCESS"}', "")
    assert service.calls[0].identity.device_id == 8
    assert len(gate.core.chains[0]) >= 1


@pytest.mark.parametrize("program", LIBCOAP)
async def test_libcoap_with_a_key(program: str, gate, service, monkeypatch) -> None:
    """libcoap's clients log in with a pre-shared key; a wrong one gets nothing."""
    monkeypatch.setattr("transports.coap.dtls_device.KEY", PSK_TEXT.encode())
    key = ("-B", "3", "-u", "meter-7", "-k")
    out, err = await run(program, *key, PSK_TEXT, "-m", "POST", "-e", "{}", uri(gate))
    assert (out.strip(), err) == ('{"status":"SUCCESS"}', "")
    assert service.calls[0].identity.device_id == 7
    assert gate.core.named == ["meter-7"]
    out, err = await run(program, *key, "another key", "-m", "POST", "-e", "{}", uri(gate))
    assert "SUCCESS" not in out + err
    assert len(service.calls) == 1


@pytest.mark.parametrize("program", LIBCOAP)
async def test_libcoap_anonymous(program: str, gate, service, files) -> None:
    """libcoap's clients that show nothing, but check us, are served as nobody."""
    out, _ = await run(program, "-B", "5", "-R", files["root"], "-m", "POST", "-e", "{}", uri(gate))
    assert out.strip() == '{"status":"SUCCESS"}'
    assert service.calls[0].identity is None


@pytest.mark.parametrize("program", LIBCOAP)
async def test_libcoap_is_refused(program: str, gate, service, files) -> None:
    """A refused certificate is told by an alert, and no request is ever served."""
    gate.core.judgement = Refused(RefusalReason.EXPIRED_LEAF)
    out, err = await run(
        program, "-B", "5", *certificate(files), "-m", "POST", "-e", "{}", uri(gate)
    )
    assert "expired" in out + err
    assert service.calls == []


@pytest.mark.parametrize("program", LIBCOAP)
async def test_libcoap_blocks(program: str, gate, service, files, tmp_path) -> None:
    """A long body in blocks, there and back, within one association."""
    service.reply = Reply(LONG, format=Format.JSON)
    (tmp_path / "body").write_bytes(LONG)
    out, err = await run(
        program,
        *("-B", "5", *certificate(files), "-b", "256"),
        *("-m", "POST", "-f", str(tmp_path / "body"), uri(gate)),
    )
    assert (out.strip().encode(), err) == (LONG, "")
    assert [call.body for call in service.calls] == [LONG]


@pytest.mark.parametrize("program", LIBCOAP)
async def test_libcoap_observes(program: str, gate, service, files) -> None:
    """libcoap observes over DTLS and hears each notification; its going away ends it."""
    service.reply = Reply(b"first", format=Format.JSON)
    observing = asyncio.create_task(
        run(program, "-s", "1", "-w", *certificate(files), uri(gate, "watch"))
    )
    await until(lambda: service.observers)
    (observer,) = service.observers
    for number in range(3):
        assert observer.notify(Reply(b"told %d" % number, format=Format.JSON))
    out, _ = await observing
    for text in ("first", "told 0", "told 1", "told 2"):
        assert text in out
    await until(lambda: service.ended == [observer.identity])
    await until(lambda: gate.dtls.sessions == 0)


async def test_openssl_sees_the_alert(gate, files) -> None:
    """`openssl s_client` prints the number of the alert that a refusal is."""
    gate.core.judgement = Refused(RefusalReason.UNKNOWN_CA)
    out, err = await run(
        "openssl",
        *("s_client", "-dtls1_2", "-connect", f"127.0.0.1:{gate.port}"),
        *("-cert", files["certificate"], "-key", files["key"]),
    )
    assert "alert number 48" in out + err


async def test_openssl_believes_us(gate, files) -> None:
    """`openssl s_client` verifies our certificate."""
    out, _ = await run(
        "openssl",
        *("s_client", "-dtls1_2", "-connect", f"127.0.0.1:{gate.port}"),
        *("-CAfile", files["root"], "-verify_return_error"),
        stdin=b"Q\n",
    )
    assert "Verification: OK" in out


async def test_no_weak_signatures(gate, files) -> None:
    """No signature with SHA-1 or by DSA is asked for, though the security level would allow it."""
    out, _ = await run(
        "openssl",
        *("s_client", "-dtls1_2", "-connect", f"127.0.0.1:{gate.port}"),
        *("-cipher", "ALL:@SECLEVEL=0"),
        stdin=b"Q\n",
    )
    (asked,) = [line for line in out.splitlines() if line.startswith("Requested Signature")]
    assert "ECDSA+SHA256" in asked
    assert "SHA1" not in asked
    assert "DSA" not in asked.replace("ECDSA", "")
