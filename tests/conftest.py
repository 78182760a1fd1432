"""What every room's tests share: a store in memory, a clock one can turn, counted tokens."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.core.access import Access
from gateway.core.model import (
    Device,
    DeviceProfile,
    FleetTicket,
    Peer,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    ProvisionType,
    RequestedCredentials,
    Secret,
    Wire,
)
from gateway.core.provisioning import Provisioner
from gateway.core.registry import ProfileDraft, Registry
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore
from gateway.store.sqlite import SqliteDriver
from gateway.store.vault import Vault

PEER = Peer(Wire.HTTP, "192.0.2.7:50123")


class FixedClock:
    """A clock that stands until it is turned."""

    def __init__(self, now: int = 1_790_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def tokens() -> Callable[[], str]:
    """Counted tokens of the usual length: token-00000000000001, …"""
    counter = itertools.count(1)
    return lambda: f"token-{next(counter):014d}"


@pytest.fixture
async def store() -> AsyncIterator[SqlStore]:
    """The real SQL on a database in memory."""
    opened = SqlStore(SqliteDriver(None), Vault(bytes(32)))
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def registry(store: SqlStore, clock: FixedClock, tokens: Callable[[], str]) -> Registry:
    return Registry(
        store,
        SqlRegistrar(store),
        clock=clock,
        new_token=tokens,
        peer=Peer(Wire.SHELL, "tester"),
    )


@pytest.fixture
def provisioner(store: SqlStore, clock: FixedClock, tokens: Callable[[], str]) -> Provisioner:
    return Provisioner(
        store, clock=clock, new_token=tokens, readable=lambda text: text.startswith("MII")
    )


@pytest.fixture
def access(store: SqlStore) -> Access:
    return Access(store)


class Fleet:
    """A profile in the store, and requests with its key and secret."""

    def __init__(self, registry: Registry, ticket: FleetTicket) -> None:
        self.registry = registry
        self.ticket = ticket
        self.profile: DeviceProfile = ticket.profile

    def request(
        self,
        name: str | None = None,
        *,
        key: str | None = None,
        secret: str | None = None,
        credentials: RequestedCredentials | None = None,
        gateway: bool = False,
        device_type: str | None = None,
    ) -> ProvisionRequest:
        return ProvisionRequest(
            proof=ProvisionKey(
                self.ticket.key if key is None else Secret(key),
                self.ticket.secret if secret is None else Secret(secret),
            ),
            peer=PEER,
            device_name=name,
            credentials=credentials or RequestedCredentials(),
            gateway=gateway,
            device_type=device_type,
        )

    async def waiting(self, name: str) -> Device:
        """A pre-provisioned device that waits for its claim."""
        added = await self.registry.add_device(self.profile, name)
        assert isinstance(added, Provisioned)
        return added.device


NewFleet = Callable[..., "object"]


@pytest.fixture
def new_fleet(registry: Registry) -> Callable[..., object]:
    """Makes a profile of a provision type, by default one open to new devices."""

    async def make(
        provision_type: ProvisionType = ProvisionType.ALLOW_CREATE_NEW_DEVICES,
        name: str = "fleet",
        **settings: object,
    ) -> Fleet:
        profile = DeviceProfile(id=0, name=name, provision_type=provision_type, **settings)  # type: ignore[arg-type]
        key = Secret(f"{name}-key-0001")
        secret = Secret(f"{name}-secret-0001")
        await registry.save_profile(ProfileDraft(profile=profile, key=key, secret=secret))
        stored = await registry.profile(name)
        assert stored is not None
        ticket = await registry.ticket(stored)
        assert ticket is not None
        return Fleet(registry, ticket)

    return make
