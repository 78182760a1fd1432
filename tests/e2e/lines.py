"""What devices do on secure wires, in one way for all: log in, tell, ask for certificates."""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiocoap import Message
from certs import Issued, pem_of
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from datagrams import Dtls, Psk, Refusal, coaps
from wires import POST, Coap, Http, Mqtt, Ports, dotted, http, mqtt

SECURE = ("https", "mqtts", "coaps")
GRANTED = {"https": "200", "mqtts": "CONNACK 0", "coaps": "2.01"}
"""What each wire answers to a device that it knows."""
_BLOCK = 5
"""2 ** (4 + 5) bytes: of a body in blocks (RFC 7959)."""


def stream_context(trusted: str, identity: Issued | None = None) -> ssl.SSLContext:
    """Believes servers that the PEM `trusted` signed; shows `identity`, its chain to the root."""
    context = ssl.create_default_context(cadata=trusted)
    if identity is not None:
        # What a device may show that a server must refuse: OpenSSL would not take weak keys.
        context.set_ciphers("ALL:@SECLEVEL=0")
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(identity.key_pem + identity.chain_pem())
            file.flush()
            context.load_cert_chain(file.name)
    return context


class Lost(Exception):
    """The wire ended instead of answering."""


class Https:
    """A kept-alive connection; with a certificate the path goes without a token."""

    def __init__(self, web: Http, token: str | None) -> None:
        self.web = web
        self._prefix = f"/api/v1/{token}" if token else "/api/v1"

    async def enter(self) -> str:
        return str((await self._ask("GET", "/attributes?clientKeys=x")).status)

    async def _ask(self, method: str, path: str, body: bytes = b"") -> Any:
        try:
            return await self.web.ask(method, self._prefix + path, body)
        except (ConnectionError, asyncio.IncompleteReadError) as exc:
            raise Lost(type(exc).__name__) from exc

    async def tell(self, **values: Any) -> str:
        return str((await self._ask("POST", "/telemetry", json.dumps(values).encode())).status)

    async def renew(self, csr: str) -> dict[str, Any]:
        return _object((await self._ask("POST", "/certificate", _body(csr=csr))).body)

    async def provision(self, request: Any) -> dict[str, Any]:
        body = json.dumps(request).encode()
        return _object((await self.web.ask("POST", "/api/v1/provision", body)).body)

    async def ended(self) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            assert await self.web.reader.read() == b""


class Mqtts:
    """A session. `enter` logs in; nothing else goes before it."""

    def __init__(self, session: Mqtt, token: str | None) -> None:
        self.session = session
        self._token = token
        self._numbers = itertools.count(1)

    async def enter(self) -> str:
        try:
            return f"CONNACK {await self.session.connect('c', self._token)}"
        except AssertionError as exc:
            raise Lost(str(exc)) from exc

    async def tell(self, **values: Any) -> str:
        await self.session.deliver("v1/devices/me/telemetry", json.dumps(values).encode())
        return "PUBACK"

    async def renew(self, csr: str) -> dict[str, Any]:
        number = next(self._numbers)
        topic = f"v1/devices/me/certificate/request/{number}"
        await self.session.deliver(topic, _body(csr=csr))
        told = await self.session.published()
        assert told.topic == f"v1/devices/me/certificate/response/{number}"
        return _object(told.payload)

    async def provision(self, request: Any) -> dict[str, Any]:
        assert await self.session.connect(username="provision") == 0
        await self.session.deliver("/provision/request", json.dumps(request).encode())
        return _object((await self.session.published()).payload)

    async def ended(self) -> None:
        got = await self.session.next()
        if self.session.version == 5 and got is not None:
            got = await self.session.next()
        assert got is None, got


class Coaps:
    """An association."""

    def __init__(self, device: Coap, dtls: Dtls, token: str | None) -> None:
        self.device = device
        self.dtls = dtls
        self._prefix = f"/api/v1/{token}" if token else "/api/v1"

    async def enter(self) -> str:
        return dotted(await self.device.ask(POST, f"{self._prefix}/telemetry", b"{}"))

    async def tell(self, **values: Any) -> str:
        body = json.dumps(values).encode()
        return dotted(await self.device.ask(POST, f"{self._prefix}/telemetry", body))

    async def renew(self, csr: str) -> dict[str, Any]:
        return _object(await in_blocks(self.device, f"{self._prefix}/certificate", _body(csr=csr)))

    async def provision(self, request: Any) -> dict[str, Any]:
        body = json.dumps(request).encode()
        return _object(await in_blocks(self.device, "/api/v1/provision", body))

    async def ended(self) -> None:
        await self.dtls.over


Line = Https | Mqtts | Coaps


def _body(**members: str) -> bytes:
    return json.dumps(members).encode()


def _object(body: bytes) -> dict[str, Any]:
    answer = json.loads(body)
    assert isinstance(answer, dict)
    return answer


async def in_blocks(device: Coap, path: str, body: bytes) -> bytes:
    """POST a body of any size, Block1 out and Block2 back (RFC 7959)."""
    size = 1 << _BLOCK + 4
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    answer: Message
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        answer = await device.ask(POST, path, piece, block1=(number, not last, _BLOCK))
        assert last or dotted(answer) == "2.31", answer
    told = bytes(answer.payload)
    while (block := answer.opt.block2) is not None and block.more:
        number = block.block_number + 1
        answer = await device.ask(POST, path, block2=(number, False, block.size_exponent))
        told += bytes(answer.payload)
    return told


@asynccontextmanager
async def line(
    ports: Ports,
    trusted: str,
    wire: str,
    identity: Issued | None = None,
    *,
    token: str | None = None,
    psk: Psk | None = None,
    version: int = 4,
) -> AsyncIterator[Line]:
    """A device on one wire, on which nothing was said yet. Raises `Refusal` on CoAPS."""
    if wire == "coaps":
        async with coaps(ports.coaps, trusted, identity, psk) as (device, dtls):
            yield Coaps(device, dtls, token)
        return
    context = stream_context(trusted, identity)
    if wire == "https":
        async with http(ports.https, context) as web:
            yield Https(web, token)
    else:
        async with mqtt(ports.mqtts, version, context) as session:
            yield Mqtts(session, token)


async def answer_to(ports: Ports, trusted: str, wire: str, identity: Issued, **more: Any) -> str:
    """What a wire says to somebody who shows this certificate: `401`, `CONNACK 5`, `alert 48`."""
    try:
        async with line(ports, trusted, wire, identity, **more) as device:
            return await device.enter()
    except Refusal as refusal:
        return f"alert {refusal.alert}"
    except (Lost, ConnectionError, ssl.SSLError):
        return "closed"


# ── what a device was given ───────────────────────────────────────────────────────────────────


def identity_in(answer: dict[str, Any], key: Any) -> Issued:
    """The certificate in a SUCCESS, with the key that was certified."""
    assert answer["status"] == "SUCCESS", answer
    assert answer["credentialsType"] == "X509_CERTIFICATE"
    leaf = x509.load_pem_x509_certificate(pem_of(_bytes(answer["credentialsValue"])).encode())
    chain = answer["certificateChain"]
    if isinstance(chain, str):
        assert x509.load_pem_x509_certificate(answer["certificate"].encode()) == leaf
        found = x509.load_pem_x509_certificates(chain.encode())
        issuers = tuple(one.public_bytes(Encoding.DER) for one in found)
    else:
        assert "certificate" not in answer
        issuers = tuple(map(_bytes, chain))
    return Issued(leaf, key, issuers)


def _bytes(text: str) -> bytes:
    from base64 import b64decode

    return b64decode(text, validate=True)
