"""A gateway process with secure wires, a factory it believes, and devices that ask to be signed."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import certs
from house import Gatehouse, Storm
from lines import Line, answer_to, identity_in, line

LAB = certs.Authority("Lab")
SERVER = LAB.server()
FACTORY = certs.Authority("Factory")


class Secured:
    """`house` with a certificate in its folder; devices of `FACTORY` are born by their chain."""

    def __init__(self, new_gatehouse: Callable[..., Gatehouse], folder: Path, **environ: str):
        certificate, key = SERVER.files(folder, "server")
        self.house = new_gatehouse(
            GATEHOUSE_TLS_CERTIFICATE_FILE=str(certificate),
            GATEHOUSE_TLS_KEY_FILE=str(key),
            **environ,
        )
        profiles = folder / "profiles"
        (profiles / "factory.pem").write_text(FACTORY.pem)
        (profiles / "factory.toml").write_text(
            'provision_type = "X509_CERTIFICATE_CHAIN"\n[chain]\npattern = "(.*)"\ncreate = true\n'
            'certificate = { file = "factory.pem" }\n'
        )
        self.house.start()

    def line(
        self, wire: str, identity: certs.Issued | None = None, **more: Any
    ) -> AbstractAsyncContextManager[Line]:
        """See `lines.line`."""
        return line(self.house.ports, LAB.pem, wire, identity, **more)

    async def answer(self, wire: str, identity: certs.Issued) -> str:
        return await answer_to(self.house.ports, LAB.pem, wire, identity)

    async def signed(self, name: str) -> certs.Issued:
        """A new device with a certificate of the gateway's authority."""
        key = certs.new_key()
        async with self.line("https") as device:
            request = json.loads(self.house.request(name)) | {"csr": certs.csr(key)}
            return identity_in(await device.provision(request), key)


class SigningStorm(Storm):
    """Devices that ask for a certificate each, over HTTP and MQTT.

    `given` holds the certificate of each name a SUCCESS arrived for.
    """

    def __init__(self, house: Gatehouse, label: str) -> None:
        super().__init__(house, label)
        self.given: dict[str, certs.Issued] = {}
        self._keys: dict[str, Any] = {}

    def has_given(self) -> bool:
        return bool(self.given)

    def next_request(self, wire: str) -> tuple[str, bytes]:
        name, plain = super().next_request(wire)
        key = self._keys[name] = certs.new_key()
        return name, json.dumps(json.loads(plain) | {"csr": certs.csr(key)}).encode()

    def took(self, wire: str, name: str, answer: bytes) -> None:
        told = json.loads(answer)
        if told["status"] != "SUCCESS":
            self.refused.append((name, answer))
            return
        self.given[name] = identity_in(told, self._keys[name])
        self.by_wire[wire] += 1

    def devices(self) -> list[Coroutine[Any, Any, None]]:
        return [self.over_http(), self.over_http(), *(self.over_mqtt(one) for one in (3, 4, 5))]
