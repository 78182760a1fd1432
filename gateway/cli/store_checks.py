"""What `gatehouse doctor` looks at inside the database. It neither makes nor migrates one."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.checks import Finding, doubtful, good, wrong
from gateway.cli.tls_checks import chain_anchors, stored_authorities
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.errors import ConfigError, StoreUnavailable
from gateway.core.model import Secret
from gateway.opening import make_driver
from gateway.store.driver import Driver, Transaction
from gateway.store.migrate import migrations
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore
from gateway.store.sqlite import SqliteDriver
from gateway.store.vault import KEY_FILE, Vault, parse_master_key

_BORN = 2025
"""A clock before this year was never set: the product is not older."""
_FAR = 2200
_SLACK_MS = 5_000


async def store_findings(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    """Everything about the database and the clock; the clock alone when there is no database."""
    if config.server_url is not None:
        return await _server_findings(config, environ)
    path = config.store_path
    if path is None or not path.exists():
        return [*([] if path is None else [_not_yet(path)]), _clock(None)]
    driver = SqliteDriver(path)
    try:
        await driver.open()
        integrity = _integrity(await driver.integrity())
        return [_mode(path), integrity, *await _inside(driver, config, environ)]
    except StoreUnavailable as exc:
        return [
            wrong(
                "database",
                f"{path}: {exc}",
                "Check that this user may write the file and its folder, that the disk is not "
                "full, and that it is a Gatehouse database; else restore it from a backup.",
            ),
            _clock(None),
        ]
    finally:
        await driver.close()


async def _server_findings(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    """The same, for a database on a PostgreSQL server."""
    check, shown = "database", config.store.shown_url
    try:
        driver = make_driver(config)
    except ConfigError as exc:
        return [wrong(check, str(exc), "Install it, or choose another store."), _clock(None)]
    try:
        await driver.open()
        facts = (await driver.rows("server"))[0]
        found = [good(check, f"{shown}, PostgreSQL {facts[0]}"), _durability(*facts[1:])]
        if not await driver.migrate(()):
            return [*found, good("migrations", "none yet; made at first start"), _clock(None)]
        return [*found, *await _inside(driver, config, environ)]
    except (StoreUnavailable, ConfigError) as exc:
        todo = (
            "Check that the server runs and can be reached from here, that the database exists, "
            "and that its user may log in, make tables and write them."
        )
        return [wrong(check, f"{shown}: {exc}", todo), _clock(None)]
    finally:
        await driver.close()


def _durability(fsync: str, synchronous_commit: str, standby: bool) -> Finding:
    check = "durability"
    if standby:
        return wrong(check, "the server is a standby", "Name the primary in [store] url.")
    if "off" in (fsync, synchronous_commit):
        found = f"fsync is {fsync}, synchronous_commit is {synchronous_commit}"
        todo = "Switch both on: else a power cut takes back what devices were told."
        return doubtful(check, found, todo)
    return good(check, f"fsync is on, synchronous_commit is {synchronous_commit}")


def _not_yet(path: Path) -> Finding:
    return good("database", f"{path}: not yet; made at first start")


def _mode(path: Path) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    # The folder is what keeps others out: a database alone opens no credential, but names devices.
    if mode & 0o077 and path.parent.stat().st_mode & 0o077:
        todo = f"`chmod 600 {path}`: it names every device."
        return doubtful("database", f"{path} has mode {mode:04o}", todo)
    return good("database", f"{path}, {path.stat().st_size / 2**20:,.1f} MiB")


async def _inside(driver: Driver, config: Config, environ: Mapping[str, str]) -> list[Finding]:
    newest = max(number for number, _ in migrations(driver.database))
    version = await driver.migrate(())
    findings = [_version(version, newest)]
    if version != newest:
        return [*findings, _clock(None)]
    await driver.transact(_write_little)
    findings.append(good("writing", "the database can be written"))
    vault = _vault(config, environ)
    if vault is not None:
        findings += await _credentials(SqlStore(driver, vault), config)
    rows = await driver.rows("last_events", 1)
    return [*findings, _clock(rows[0][1] if rows else None)]


async def _write_little(tx: Transaction) -> None:
    await tx.fetch("probe")


def _integrity(said: list[str]) -> Finding:
    if said == ["ok"]:
        return good("integrity", "SQLite finds no fault")
    todo = "Stop the server, keep a copy of the file, and restore a backup."
    return wrong("integrity", "; ".join(said[:3]), todo)


def _version(version: int, newest: int) -> Finding:
    if version > newest:
        todo = "Install the Gatehouse that wrote it, or a newer one."
        return wrong("migrations", f"version {version}; this Gatehouse knows {newest}", todo)
    if version < newest:
        todo = "Nothing to do; make a copy of the database first if you like."
        return doubtful("migrations", f"version {version}; {newest} at the next start", todo)
    return good("migrations", f"version {version}, the newest")


def _vault(config: Config, environ: Mapping[str, str]) -> Vault | None:
    """The vault, if the key is there; what is wrong with the key is told elsewhere."""
    text = environ.get("GATEHOUSE_MASTER_KEY")
    try:
        if not text and config.data_dir is not None:
            text = (config.data_dir / KEY_FILE).read_text("ascii")
        return Vault(parse_master_key(text or "", "the key"))
    except (OSError, UnicodeDecodeError, ConfigError):
        return None


async def _credentials(store: SqlStore, config: Config) -> list[Finding]:
    """Does the key open what is stored? One device stands for all: one key sealed them."""
    check, registrar = "credentials", SqlRegistrar(store)
    devices = await registrar.devices(after_id=0, limit=1, profile_id=None, text="")
    try:
        for listing in devices:
            await store.known_device(listing.device.id)
        stored = await _keys(registrar)
        authorities = await store.authorities()
    except StoreUnavailable as exc:
        return [wrong(check, "stored ones do not open", f"{str(exc)[:1].upper()}{str(exc)[1:]}.")]
    count = await registrar.count_devices()
    found = f"the master key opens them; {count} devices, {len(stored)} fleet keys"
    return [
        good(check, found),
        *_key_twins(config, stored),
        *stored_authorities(config, authorities),
        *chain_anchors(await store.chain_profiles()),
    ]


async def _keys(registrar: SqlRegistrar) -> dict[str, Secret]:
    """The fleet keys in the store, by profile."""
    tickets = {
        one.name: await registrar.profile_ticket(one.id) for one in await registrar.profiles()
    }
    return {name: ticket.key for name, ticket in tickets.items() if ticket is not None}


def _key_twins(config: Config, stored: Mapping[str, Secret]) -> list[Finding]:
    """Files whose key is already that of another profile in the store: they cannot be loaded."""
    from gateway.opening import VALIDATORS
    from gateway.profiles import read_profiles

    owners = {key: name for name, key in stored.items()}
    files, _ = read_profiles(config.profiles_dir, validators=VALIDATORS)
    return [
        wrong(
            "profiles",
            f"{file.path}: its provision_key is the key of profile `{owner}`",
            "Keys are unique. Choose another one, or leave it out to have one made.",
        )
        for file in files
        if file.provision_key is not None
        and (owner := owners.get(file.provision_key, file.name)) != file.name
    ]


def _clock(newest_event: int | None) -> Finding:
    now = now_ms()
    moment = datetime.fromtimestamp(now / 1000, UTC)
    todo = "Set the clock, and keep it set (NTP): events and readings carry its time."
    if not _BORN <= moment.year < _FAR:
        return wrong("clock", f"says {moment:%Y-%m-%d %H:%M}Z", todo)
    if newest_event is not None and now + _SLACK_MS < newest_event:
        behind = (newest_event - now) // 1000
        return wrong("clock", f"is {behind:,} s behind the newest event", todo)
    return good("clock", f"{moment:%Y-%m-%d %H:%M:%S}Z")
