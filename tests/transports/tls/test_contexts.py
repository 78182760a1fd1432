"""The server's certificate and key: read, refused with words that help, and read again."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl

import certs
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import x25519
from OpenSSL import SSL
from transports.tls.conftest import until

from gateway.core.errors import ConfigError
from gateway.transports.tls import Contexts


def replace(files, identity):
    """New files in the old ones' places, as a renewal does it: written beside, then renamed."""
    for path, text in zip(files, (identity.chain_pem(root=False), identity.key_pem), strict=True):
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, path)


def shown_by(writer):
    return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)


async def test_a_new_certificate_is_taken_up(serve, dial, contexts, files, root, server_identity):
    """After a change new clients see the new certificate, and old connections go on."""
    served = await serve()
    reader, writer = await dial(served)
    assert shown_by(writer) == server_identity.der
    assert not contexts.reload_if_changed()

    renewed = root.server()
    replace(files, renewed)

    assert contexts.reload_if_changed()
    assert not contexts.reload_if_changed()
    assert shown_by((await dial(served))[1]) == renewed.der
    writer.write(b"still here")
    assert await reader.readexactly(10) == b"still here"


async def test_the_files_are_watched(contexts, files, root):
    """`watch` takes a change up by itself."""
    before = contexts.stream
    watcher = asyncio.create_task(contexts.watch(0.01))
    try:
        replace(files, root.server())
        await until(lambda: contexts.stream is not before)
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


async def test_a_reload_is_at_once(contexts, files, root):
    """`reload` reads the files whether they changed or not."""
    before = contexts.stream, contexts.datagram
    assert contexts.reload()
    assert contexts.stream is not before[0]
    assert contexts.datagram is not before[1]


async def test_a_broken_key_keeps_the_old_one(serve, dial, contexts, files, server_identity):
    """What cannot be used changes nothing, and is said once for each change."""
    served = await serve()
    before = contexts.stream
    files[1].write_text("-----BEGIN PRIVATE KEY-----\nnothing\n-----END PRIVATE KEY-----\n")

    with structlog.testing.capture_logs() as told:
        assert not contexts.reload_if_changed()
        assert not contexts.reload_if_changed()

    assert [line["event"] for line in told] == ["tls.reload_failed"]
    assert contexts.stream is before
    assert shown_by((await dial(served))[1]) == server_identity.der


async def test_a_pair_is_taken_up_when_it_is_whole(contexts, files, root):
    """A certificate that is renamed in place before its key waits for it."""
    renewed, before = root.server(), contexts.stream
    files[0].write_text(renewed.pem)
    assert not contexts.reload_if_changed()
    files[1].write_text(renewed.key_pem)
    assert contexts.reload_if_changed()
    assert contexts.stream is not before


async def test_a_file_that_is_gone_keeps_the_old_one(contexts, files):
    """While a file is missing, what was loaded goes on."""
    before = contexts.stream
    files[0].unlink()
    assert not contexts.reload_if_changed()
    assert not contexts.reload_if_changed()
    assert contexts.stream is before


def test_issuers_are_sent_along(tmp_path, root):
    """What follows the certificate in its file goes to clients: an intermediate needs no trust."""
    served = certs.Authority("between", parent=root).server()
    contexts = Contexts(*served.files(tmp_path))
    contexts.load()
    server = SSL.Connection(contexts.stream)
    server.set_accept_state()
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cadata=root.pem)
    client = context.wrap_bio(inward, outward, server_hostname="localhost")
    for _ in range(2):
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            server.bio_write(outward.read())
            with pytest.raises(SSL.WantReadError):
                server.do_handshake()
            inward.write(server.bio_read(65_536))
    assert client.getpeercert()["subject"] == ((("commonName", "localhost"),),)


def test_what_is_not_there_can_be_made(tmp_path):
    """Without files, the message names the command that makes them."""
    with pytest.raises(ConfigError, match=r"server\.pem.*not there.*gatehouse cert init"):
        Contexts(tmp_path / "server.pem", tmp_path / "server.key").load()


def test_a_key_of_another_certificate(tmp_path, root):
    """A pair that does not fit is named with both its files."""
    one, other = root.server().files(tmp_path, "one"), root.server().files(tmp_path, "other")
    with pytest.raises(ConfigError, match=r"other\.key.*does not belong.*one\.pem"):
        Contexts(one[0], other[1]).load()


def test_an_encrypted_key(tmp_path, root):
    """Nobody is there to type a passphrase; the message says how to do without."""
    identity = root.server()
    certificate, key = identity.files(tmp_path)
    key.write_text(certs.key_pem(identity.key, "secret"))
    with pytest.raises(ConfigError, match=r"encrypted.*openssl pkey") as told:
        Contexts(certificate, key).load()
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x30\x82\xff\xff", b"x" * 2_000_000])
def test_what_is_no_pem(tmp_path, root, which, content):
    """Any other content is refused with the name of its file."""
    files = root.server().files(tmp_path, "server")
    files[which].write_bytes(content)
    with pytest.raises(ConfigError, match=files[which].name):
        Contexts(*files).load()


def test_a_folder_in_a_files_place(tmp_path, root):
    """What cannot be opened is refused in words, too."""
    certificate, _ = root.server().files(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        Contexts(certificate, tmp_path).load()


def test_a_key_that_no_server_can_use(tmp_path, root):
    """A key for key agreement alone signs nothing."""
    certificate, key = root.server().files(tmp_path)
    key.write_text(certs.key_pem(x25519.X25519PrivateKey.generate()))
    with pytest.raises(ConfigError, match="no TLS server can use"):
        Contexts(certificate, key).load()


async def test_a_certificate_of_an_unknown_kind(contexts, files, server_identity):
    """A certificate whose key nobody can read changes nothing, and the watch goes on."""
    certificate, _ = files
    strange = server_identity.der.replace(b"\x3d\x03\x01\x07", b"\x3d\x03\x01\x06")
    text = base64.encodebytes(strange).decode()
    certificate.write_text(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")
    before = contexts.stream
    assert contexts.reload_if_changed() is False
    assert contexts.stream is before
    with pytest.raises(ConfigError, match="P-256"):
        contexts.load()


def test_a_key_openssl_finds_too_weak(tmp_path, root):
    """What OpenSSL refuses is said with its reason and a remedy."""
    with pytest.raises(ConfigError, match=r"key too small.*P-256"):
        Contexts(*root.server(key="RSA-1024").files(tmp_path)).load()


@pytest.mark.parametrize(
    "times",
    [
        {"not_after": certs.NOT_BEFORE.replace(year=2021)},
        {"not_before": certs.NOT_AFTER.replace(year=2048)},
    ],
    ids=["expired", "not yet valid"],
)
def test_a_certificate_outside_its_time_is_only_warned_of(tmp_path, root, times):
    """A gateway with one still starts: devices may not look."""
    contexts = Contexts(*root.server(**times).files(tmp_path))
    with structlog.testing.capture_logs() as told:
        contexts.load()
    assert [(line["event"], line["log_level"]) for line in told] == [
        ("tls.certificate_out_of_date", "warning")
    ]
    assert contexts.stream


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA-2048"])
def test_every_common_kind_of_key_will_do(tmp_path, root, kind):
    """EC, Edwards and RSA keys all serve."""
    contexts = Contexts(*root.server(key=kind).files(tmp_path))
    contexts.load()
    assert contexts.stream


def test_a_key_is_not_in_any_repr(files):
    """What was read does not show itself."""
    from gateway.transports.tls.files import read_pair

    pair = read_pair(*files)
    assert repr(pair) == "Pair(***)"
    assert isinstance(pair.leaf, x509.Certificate)
