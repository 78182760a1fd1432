"""A whole gateway in this process, on free ports, with one profile of each kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from wires import Ports

from gateway.app import Gateway
from gateway.config import Config
from gateway.core.model import DeviceProfile, Provisioned, ProvisionType, Secret
from gateway.core.registry import ProfileDraft, Registry
from gateway.listeners import PLAIN
from gateway.opening import open_store
from gateway.settings import (
    BlynkSettings,
    BlynkTcpSettings,
    CoapSettings,
    CoapsSettings,
    HttpSettings,
    HttpsSettings,
    LimitsSettings,
    MqttSettings,
    MqttsSettings,
    ProfilesSettings,
    ProvisioningSettings,
    StoreSettings,
    TlsSettings,
)

PROFILES: dict[str, dict[str, Any]] = {
    "create": {"provision_type": ProvisionType.ALLOW_CREATE_NEW_DEVICES},
    "waiting": {
        "provision_type": ProvisionType.ALLOW_CREATE_NEW_DEVICES,
        "pre_provision_allowed": True,
    },
    "check": {"provision_type": ProvisionType.CHECK_PRE_PROVISIONED_DEVICES},
    "disabled": {"provision_type": ProvisionType.DISABLED},
    "chain": {"provision_type": ProvisionType.X509_CERTIFICATE_CHAIN},
}


class Gate:
    """A running gateway, and requests to it."""

    def __init__(self, gateway: Gateway) -> None:
        assert gateway.http is not None
        assert gateway.mqtt is not None
        assert gateway.coap is not None
        self.gateway = gateway
        self.ports = Ports(**{name: listener.port for name, listener in gateway.listeners})
        self.secrets = {name: f"{name}-secret-0001" for name in PROFILES}

    @property
    def registry(self) -> Registry:
        return self.gateway.registry

    def request(self, name: str | None = None, *, profile: str = "create", **more: Any) -> Any:
        """A provisioning request with the right key and secret of `profile`."""
        asked = {
            "provisionDeviceKey": f"{profile}-key-0001",
            "provisionDeviceSecret": self.secrets[profile],
            **more,
        }
        return asked if name is None else {"deviceName": name, **asked}

    async def profile(self, name: str) -> DeviceProfile:
        found = await self.registry.profile(name)
        assert found is not None
        return found

    async def add(self, name: str, profile: str = "check", token: str | None = None) -> str:
        """Let a device wait for its one claim; the token it has."""
        secret = Secret(token) if token else None
        added = await self.registry.add_device(await self.profile(profile), name, token=secret)
        assert isinstance(added, Provisioned), added
        return added.credentials.id.reveal()

    async def told(self) -> None:
        """Until the gateway has heeded every notice there is."""
        feed, last = self.gateway.feed, await self.gateway.store.last_notice()
        async with asyncio.timeout(10):
            while feed._seen < last:
                feed.nudge()
                await asyncio.sleep(0.005)

    async def readings(self, name: str) -> dict[str, Any]:
        known = await self.registry.device(name)
        assert known is not None
        return {one.key: one.value for one in await self.registry.latest(known)}


@asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncIterator[Gate]:
    """A gateway over the database in `folder`, stopped at the end.

    `certificate` names a certificate's file and its key's: then it has secure wires too.
    """
    certificate, key = settings.get("certificate", ("", ""))
    config = Config(
        store=settings.get("store", StoreSettings(url=f"sqlite:{folder / 'gate.db'}")),
        http=HttpSettings(host="127.0.0.1", port=0, **settings.get("http", {})),
        mqtt=MqttSettings(host="127.0.0.1", port=0, **settings.get("mqtt", {})),
        coap=CoapSettings(host="127.0.0.1", port=0, **settings.get("coap", {})),
        tls=TlsSettings(
            certificate_file=str(certificate), key_file=str(key), **settings.get("tls", {})
        ),
        https=HttpsSettings(host="127.0.0.1", port=0),
        mqtts=MqttsSettings(host="127.0.0.1", port=0),
        coaps=CoapsSettings(host="127.0.0.1", port=0, **settings.get("coaps", {})),
        limits=LimitsSettings(**settings.get("limits", {})),
        provisioning=ProvisioningSettings(**settings.get("provisioning", {})),
        blynk=BlynkSettings(**settings.get("blynk", {})),
        blynk_tcp=BlynkTcpSettings(host="127.0.0.1", port=0, **settings.get("blynk_tcp", {})),
        profiles=ProfilesSettings(dir=str(folder / "profiles"), watch=False),
    )
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(config, {}))
        gateway = Gateway(config, store, kinds=settings.get("kinds", PLAIN))
        for name, shape in PROFILES.items():
            pair = {"key": Secret(f"{name}-key-0001"), "secret": Secret(f"{name}-secret-0001")}
            profile = DeviceProfile(id=0, name=name, **shape)
            await gateway.registry.save_profile(ProfileDraft(profile=profile, **pair))
        try:
            await gateway.start()
            yield Gate(gateway)
        finally:
            await gateway.stop(2.0)


NewGate = Callable[..., Awaitable[Gate]]
