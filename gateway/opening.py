"""Opening what the configuration names: the store, its keys, the profiles, the packages.

The gateway and every command that acts on the store begin here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.authorities import Authorities
from gateway.core.errors import ConfigError, StoreUnavailable
from gateway.core.model import DeviceProfile, Peer, ProfileTransport, Secret
from gateway.core.profile_files import sync_profile_files
from gateway.core.registry import ProfileDraft, Registry
from gateway.core.tokens import new_token
from gateway.profiles import ProfileFile, Validator, read_profiles
from gateway.store.packages import PackageStore
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore
from gateway.store.sqlite import SqliteDriver
from gateway.store.vault import Vault, load_master_key

if TYPE_CHECKING:
    from gateway.core.pki.authority import Signer
    from gateway.store.postgres import PostgresDriver

log = structlog.get_logger()


def _prove_thingsboard(section: Mapping[str, Any], transport: ProfileTransport) -> None:
    # Few profiles have the table, and the dialect is a fifth of what a command loads.
    from gateway.dialects.thingsboard.profile import prove_section

    prove_section(section, transport)


def _prove_blynk(section: Mapping[str, Any], transport: ProfileTransport) -> None:
    from gateway.dialects.blynk.profile import prove_section

    prove_section(section, transport)


VALIDATORS: Mapping[str, Validator] = {
    "thingsboard": _prove_thingsboard,
    "blynk": _prove_blynk,
}
"""Who proves a dialect's table in a profile file. Compiling a schema takes a tenth of a second."""


@asynccontextmanager
async def open_store(config: Config, environ: Mapping[str, str]) -> AsyncIterator[SqlStore]:
    """The configured store, opened, migrated and closed again.

    Raises `ConfigError` when the folder, the key or the database cannot be used.
    """
    folder = config.data_dir
    if folder is not None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(
                f"{folder}: the data folder cannot be made ({exc.strerror}). Make it yourself, "
                "or point [store] url (GATEHOUSE_STORE_URL) to a writable place."
            ) from exc
    vault = Vault(_master_key(config, environ))
    store = SqlStore(make_driver(config), vault, max_pending=config.store.max_pending)
    try:
        await store.open()
    except StoreUnavailable as exc:
        raise ConfigError(_store_trouble(config, exc)) from exc
    try:
        yield store
    finally:
        await store.close()


def _master_key(config: Config, environ: Mapping[str, str]) -> bytes:
    given = environ.get("GATEHOUSE_MASTER_KEY")
    if config.server_url is not None and not given:
        raise ConfigError(
            "GATEHOUSE_MASTER_KEY is not set. A store on a server has no data folder to keep the "
            "master key in: make one with `openssl rand -hex 32`, keep a copy of it in a safe "
            "place, and give the same one to every gateway on this database."
        )
    return load_master_key(config.store_path, given)


def make_driver(config: Config) -> SqliteDriver | PostgresDriver:
    """The driver of the configured database. Raises `ConfigError` when its library is missing."""
    if config.server_url is None:
        return SqliteDriver(config.store_path)
    try:
        from gateway.store.postgres import PostgresDriver
    except ModuleNotFoundError as exc:
        raise ConfigError(
            f"[store] url names a PostgreSQL database, but {exc.name} is not installed. Get it "
            "with `pip install 'gatehouse-iot[postgres]'`."
        ) from exc
    return PostgresDriver(config.server_url)


def _store_trouble(config: Config, exc: StoreUnavailable) -> str:
    if config.server_url is not None:
        return (
            f"{config.store.shown_url}: the database cannot be opened ({exc}). Check that the "
            "server runs and can be reached from here, that the database exists, and that its "
            "user may log in and make tables."
        )
    return (
        f"{config.store_path}: the database cannot be opened ({exc}). Check that the folder "
        "is writable, the disk not full, and that the file is a Gatehouse database."
    )


def open_registry(store: SqlStore, peer: Peer) -> Registry:
    """Profiles and devices for people, acting as `peer`."""
    return Registry(store, SqlRegistrar(store), clock=now_ms, new_token=new_token, peer=peer)


def draft_of(file: ProfileFile) -> ProfileDraft:
    """A profile file as the registry takes it."""
    return ProfileDraft(
        profile=DeviceProfile(
            id=0,
            name=file.name,
            provision_type=file.provision_type,
            description=file.description,
            transport=file.transport,
            pre_provision_allowed=file.pre_provision_allowed,
            require_readable_certificate=file.require_readable_certificate,
            claiming_allowed=file.claiming_allowed,
            gateway_may_adopt=file.gateway_may_adopt,
            readings_keep_days=file.readings_keep_days,
            limits=file.limits,
            certificate=file.certificate,
            chain=file.chain,
            policy=file.policy,
            sections=msgspec.to_builtins(file.sections, str_keys=True),
            source=file.path.name,
        ),
        key=file.provision_key,
        secret=file.provision_secret,
    )


async def load_profiles(config: Config, registry: Registry) -> list[ConfigError]:
    """Bring the store up to the profile folder; give back what could not be used."""
    files, errors = await asyncio.to_thread(
        read_profiles, config.profiles_dir, validators=VALIDATORS
    )
    changed, refused = await sync_profile_files(registry, [draft_of(file) for file in files])
    for name in changed:
        log.info("profile.loaded", profile=name)
    return [*errors, *refused]


def open_packages(config: Config) -> PackageStore | None:
    """Where the content of packages lies; None when the configuration names no place for it."""
    folder = config.packages_dir
    return None if folder is None else PackageStore(folder)


def open_authorities(
    config: Config, store: SqlStore, peer: Peer, environ: Mapping[str, str] = os.environ
) -> Authorities:
    """Who signs devices' certificates. Raises `ConfigError` when a file of theirs is of no use."""
    file: Signer | None = None
    if config.ca_files is not None:
        # Loads cryptography's X.509, which our own authority needs only when it signs.
        from gateway.core.pki.authority import file_signer

        certificate, key = config.ca_files
        passphrase = environ.get("GATEHOUSE_AUTHORITY_PASSPHRASE")
        file = file_signer(
            _bytes_of(certificate, "certificate_file"),
            _bytes_of(key, "key_file"),
            Secret(passphrase) if passphrase else None,
            now=now_ms(),
        )
    return Authorities(store, now_ms, peer, file=file, public_url=config.ca.public_url)


def _bytes_of(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigError(
            f"{path}: cannot be read ({exc.strerror}). Check [ca] {key}, or leave both files out: "
            "then the authority is our own."
        ) from None
