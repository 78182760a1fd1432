"""Profile files: one TOML file in a folder describes one device profile.

A file says what devices of one kind may do; `gateway.core.registry` brings the store into line
with it. Nothing here decides anything: it reads, and it proves what it read. A dialect's own table
is proven by the dialect, whose `Validator` is handed in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import structlog
from msgspec import Meta, Struct, field

from gateway.core.errors import ConfigError, GatehouseError
from gateway.core.model import PLAIN_POLICY, Policy, ProfileTransport, ProvisionType, Secret
from gateway.core.pki.model import CertificateProfile, ChainRule
from gateway.core.spelling import nearest
from gateway.profile_certificates import CERTIFICATE, CHAIN, read_certificate, read_chain
from gateway.profile_policies import ANSWER, KEYS, read_policy
from gateway.toml_lines import (
    RateText,
    TomlFile,
    plain,
    read_table,
    read_text,
    read_toml,
    settings_of,
    shown,
)

log = structlog.get_logger()

SECTIONS = ("thingsboard", "blynk")
"""The dialect tables a profile may hold. Their content is the dialect's own affair."""

Validator: TypeAlias = Callable[[Mapping[str, Any], ProfileTransport], object]
"""A dialect's proof of its table, in a profile of that transport. Raises `ValueError`: whole
sentences that begin with the key at fault."""

NO_VALIDATORS: Mapping[str, Validator] = {}

MAX_PROFILES = 1000
"""Files read from one folder: more is a wrong folder."""

MIN_SECRET_CHARACTERS = 8
"""A key or secret shorter than this can be guessed at the rate at which devices may ask."""
MAX_SECRET_CHARACTERS = 255
"""ThingsBoard's own columns, and so the devices' buffers, end here."""

_VARIABLE = re.compile(r"\A[A-Z_][A-Z0-9_]{0,127}\Z")
_KEY, _SECRET, _LIMITS = "provision_key", "provision_secret", "limits"


class ProfileFile(Struct, frozen=True, kw_only=True):
    """One profile as its file describes it.

    `provision_key` or `provision_secret` None means that the file leaves it to the store, which
    makes one, once. `limits` holds the rates the file gives, by name; `sections` the dialect
    tables, unread, with the text of a file where the table names one. `certificate` and `chain` are
    as in `DeviceProfile`.
    """

    name: str
    provision_type: ProvisionType
    description: str = ""
    transport: ProfileTransport = ProfileTransport.DEFAULT
    pre_provision_allowed: bool = False
    require_readable_certificate: bool = False
    claiming_allowed: bool = True
    gateway_may_adopt: bool = True
    readings_keep_days: int | None = None
    provision_key: Secret | None = None
    provision_secret: Secret | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    certificate: CertificateProfile = CertificateProfile()
    chain: ChainRule | None = None
    policy: Policy = PLAIN_POLICY
    sections: Mapping[str, Any] = field(default_factory=dict)
    path: Path


class _Plain(Struct, frozen=True, kw_only=True):
    """The keys of a profile file that are neither secrets nor tables."""

    provision_type: ProvisionType
    name: Annotated[
        str,
        Meta(
            # At least one character, none a control character, no space at either end.
            pattern=r"\A(?!\s)[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,255}(?<!\s)\Z",
            extra={
                "wants": "1 to 255 characters, without control characters or outer spaces",
                "example": "water-meter",
            },
        ),
    ]
    description: Annotated[
        str, Meta(max_length=1024, extra={"wants": "text of at most 1024 characters"})
    ] = ""
    transport: ProfileTransport = ProfileTransport.DEFAULT
    pre_provision_allowed: bool = False
    require_readable_certificate: bool = False
    claiming_allowed: bool = True
    gateway_may_adopt: bool = True
    readings_keep_days: Annotated[int, Meta(ge=1, le=36_500, extra={"example": 30})]


class _Limits(Struct, frozen=True, kw_only=True):
    """The rates of `[limits]`. One that is left out is as configured for all."""

    messages: RateText = ""
    telemetry_messages: RateText = ""
    telemetry_points: RateText = ""
    provisions: RateText = ""
    provisions_per_secret: RateText = ""
    provisions_per_address: RateText = ""


# ── one file ──────────────────────────────────────────────────────────────────────────────────


def read_profile(
    path: Path,
    environ: Mapping[str, str] = os.environ,
    *,
    validators: Mapping[str, Validator] = NO_VALIDATORS,
) -> ProfileFile:
    """Read the profile file at `path`; `{ env = "NAME" }` is looked up in `environ`.

    A dialect's table that has no validator is taken as it is.

    Raises `ConfigError`, whose message says where, what is wrong, and what to do. It never holds
    a key or a secret.
    """
    file = read_toml(path)
    known = [*settings_of(_Plain), _KEY, _SECRET, _LIMITS, CERTIFICATE, CHAIN, *SECTIONS, *KEYS]
    for key in file.data:
        if key not in known:
            raise file.fault(
                (key,), f"a profile has no setting `{plain(key)}`.", nearest(key, known)
            )
    table = {key: value for key, value in file.data.items() if key in settings_of(_Plain)}
    table.setdefault("name", path.stem)
    values = read_table(file, (), table, _Plain)
    if "provision_type" not in values:
        raise file.fault((), "provision_type is missing.", _provision_type_remedy())
    _refuse_pair_of_chain(file, values["provision_type"])
    sections = {name: _section(file, name, path.parent) for name in SECTIONS if name in file.data}
    _prove(file, sections, values.get("transport", ProfileTransport.DEFAULT), validators)
    tables = {
        name: _resolved(file, name, path.parent)
        for name in (CERTIFICATE, CHAIN)
        if name in file.data
    }
    return ProfileFile(
        **values,
        provision_key=_secret(file, _KEY, environ),
        provision_secret=_secret(file, _SECRET, environ),
        limits=_limits(file),
        certificate=read_certificate(file, tables.get(CERTIFICATE, {})),
        chain=read_chain(file, tables.get(CHAIN), values["provision_type"]),
        policy=read_policy(file, _policy(file, path.parent)),
        sections=sections,
        path=path,
    )


def _policy(file: TomlFile, folder: Path) -> dict[str, Any]:
    """The keys of the policy, with the text of files they name."""
    data = {key: value for key, value in file.data.items() if key in KEYS}
    if isinstance(data.get(ANSWER), dict):
        data[ANSWER] = _resolved(file, ANSWER, folder)
    return data


def _provision_type_remedy() -> str:
    # Not left to a default: a file cut short while it is copied must not switch a fleet off.
    return f"Write `provision_type = ...` with {settings_of(_Plain)['provision_type'].wants}."


def _refuse_pair_of_chain(file: TomlFile, provision_type: ProvisionType) -> None:
    """A certificate chain is its own proof: a key beside it would open a second door."""
    by_chain = provision_type is ProvisionType.X509_CERTIFICATE_CHAIN
    if not by_chain and CHAIN not in file.data:
        return
    whose = "of type X509_CERTIFICATE_CHAIN" if by_chain else "with [chain]"
    for key in (_KEY, _SECRET):
        if key in file.data:
            raise file.fault(
                (key,),
                f"a profile {whose} takes no {key}.",
                "Remove it, or choose another provision_type.",
            )


def _table(file: TomlFile, name: str) -> dict[str, Any]:
    table = file.data[name]
    if not isinstance(table, dict):
        raise file.fault((name,), f"`{name}` is a section.", f"Write it as `[{name}]`.")
    return table


def _limits(file: TomlFile) -> dict[str, str]:
    if _LIMITS not in file.data:
        return {}
    return read_table(file, (_LIMITS,), _table(file, _LIMITS), _Limits)


# ── a dialect's table ─────────────────────────────────────────────────────────────────────────


def _section(file: TomlFile, name: str, folder: Path) -> dict[str, Any]:
    section = _resolved(file, name, folder)
    if not _survives_json(section):
        raise file.fault(
            (name,),
            f"[{name}] holds a value that cannot be kept.",
            "Use text, finite numbers, true, false, lists and tables; put dates in quotes.",
        )
    return section


def _resolved(file: TomlFile, name: str, folder: Path) -> dict[str, Any]:
    """The section `name`, with the text of a file where it names one."""
    return {
        key: _text_of_file(file, (name, key), value, folder)
        for key, value in _table(file, name).items()
    }


def _text_of_file(file: TomlFile, where: tuple[str, ...], value: object, folder: Path) -> object:
    """The text that `{ file = "NAME" }` names, relative to the profile's folder; else `value`."""
    match value:
        case {"file": str(name), **rest} if not rest:
            try:
                return read_text(folder / name)
            except ConfigError as exc:
                raise file.fault(where, f"{plain(where[-1])} cannot be had:", str(exc)) from None
    return value


def _prove(
    file: TomlFile,
    sections: Mapping[str, Mapping[str, Any]],
    transport: ProfileTransport,
    validators: Mapping[str, Validator],
) -> None:
    for name, section in sections.items():
        validator = validators.get(name)
        if validator is None:
            continue
        try:
            validator(section, transport)
        except ValueError as exc:
            key, _, rest = str(exc).partition(" ")
            wrong = f"[{name}] {plain(key)}"
            raise file.fault((name, key.rstrip(":")), wrong, plain(rest, 500)) from None


def _survives_json(section: dict[str, Any]) -> bool:
    """The store keeps sections as JSON: what JSON cannot hold is found here, with its line."""
    try:
        # Dates come back as text, nan and infinity as nothing.
        return bool(msgspec.json.decode(msgspec.json.encode(section)) == section)
    except (ValueError, RecursionError):
        return False


# ── keys and secrets ──────────────────────────────────────────────────────────────────────────


def _secret(file: TomlFile, key: str, environ: Mapping[str, str]) -> Secret | None:
    match file.data.get(key):
        case None:
            return None
        case str(text):
            remedy = f"Write a longer or plainer one, or leave {key} out to have one made."
            return _fit(file, key, text, f"{key} must be", remedy)
        case {"env": str(variable), **rest} if not rest:
            return _from_environ(file, key, variable, environ)
        case _:
            raise file.fault(
                (key,),
                f"{key} must be text in quotes or a table with `env`.",
                f'Write for example `{key} = {{ env = "{_example_variable(file, key)}" }}`.',
            )


def _from_environ(file: TomlFile, key: str, variable: str, environ: Mapping[str, str]) -> Secret:
    if not _VARIABLE.match(variable):
        # Not repeated in the message: it may be the secret itself, put in the wrong place.
        raise file.fault(
            (key,),
            f"env of {key} must name an environment variable in capitals.",
            f'Write for example `{key} = {{ env = "{_example_variable(file, key)}" }}`.',
        )
    text = environ.get(variable)
    if text is None:
        raise file.fault(
            (key,),
            f"{key} is taken from the environment variable {variable}, which is not set.",
            f"Set it before the start: `export {variable}=...`.",
        )
    return _fit(file, key, text, f"{variable} must be", f"Set it anew: `export {variable}=...`.")


def _fit(file: TomlFile, key: str, text: str, subject: str, remedy: str) -> Secret:
    fits = MIN_SECRET_CHARACTERS <= len(text) <= MAX_SECRET_CHARACTERS
    # A line break comes along when a secret is read from a file; no device would ever send it.
    if fits and text.isprintable() and text == text.strip():
        return Secret(text)
    limits = f"{MIN_SECRET_CHARACTERS} to {MAX_SECRET_CHARACTERS} characters"
    raise file.fault((key,), f"{subject} {limits}, without line breaks or outer spaces.", remedy)


def _example_variable(file: TomlFile, key: str) -> str:
    stem = re.sub(r"[^A-Z0-9]+", "_", Path(file.name).stem.upper()).strip("_")
    return f"{stem or 'PROFILE'}_{key.removeprefix('provision_').upper()}"


# ── a folder of files ─────────────────────────────────────────────────────────────────────────


def read_profiles(
    folder: Path,
    environ: Mapping[str, str] = os.environ,
    *,
    validators: Mapping[str, Validator] = NO_VALIDATORS,
) -> tuple[list[ProfileFile], list[ConfigError]]:
    """Read every profile file in `folder`, by file name, and what is wrong with the rest.

    One bad file does not hide the good ones. A folder that is not there has no profiles.
    """
    profiles: list[ProfileFile] = []
    errors: list[ConfigError] = []
    try:
        paths = _files(folder)
    except ConfigError as exc:
        return [], [exc]
    for path in paths:
        try:
            profiles.append(read_profile(path, environ, validators=validators))
        except ConfigError as exc:
            errors.append(exc)
    for attribute in ("name", _KEY):
        profiles = _without_twins(profiles, attribute, errors)
    return profiles, errors


def _files(folder: Path, suffixes: tuple[str, ...] = (".toml",)) -> list[Path]:
    """The profile files of `folder`: `*.toml`, but no hidden files, locks or editors' copies."""
    name = plain(str(folder), 4096)
    try:
        paths = sorted(
            p for p in folder.iterdir() if p.suffix in suffixes and p.name[0] not in ".#~"
        )
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "the path is not valid"
        raise ConfigError(f"{name}: cannot be read: {reason}. Check [profiles] dir.") from None
    if len(paths) > MAX_PROFILES:
        raise ConfigError(
            f"{name}: holds more than {MAX_PROFILES} profile files. Check [profiles] dir."
        )
    return paths


def _without_twins(
    profiles: list[ProfileFile], attribute: str, errors: list[ConfigError]
) -> list[ProfileFile]:
    """The first by file name of those that share a name or key: dropping both would take a
    profile away from devices that use it because somebody copied its file."""
    value_of = attrgetter(attribute)
    first: dict[Any, ProfileFile] = {}
    kept = []
    for profile in profiles:
        value = value_of(profile)
        twin = profile if value is None else first.setdefault(value, profile)
        if twin is profile:
            kept.append(profile)
            continue
        said = f"name {shown(value)}" if attribute == "name" else attribute
        errors.append(
            ConfigError(
                f"{plain(str(profile.path), 4096)}: has the same {said} as "
                f"{plain(str(twin.path), 4096)}. Give one of them another."
            )
        )
    return kept


# ── watching ──────────────────────────────────────────────────────────────────────────────────

Look: TypeAlias = Mapping[str, tuple[int, int, int]]


def look(folder: Path) -> Look:
    """What tells that a file changed: time of change (ns), size and inode of each, by file name.

    A folder or file that cannot be read is as good as absent. Schemas and certificates that
    profiles may name (`*.proto`, `*.pem`) are looked at as well.
    """
    seen: dict[str, tuple[int, int, int]] = {}
    with contextlib.suppress(ConfigError):
        for path in _files(folder, (".toml", ".proto", ".pem")):
            with contextlib.suppress(OSError):
                found = path.stat()
                seen[path.name] = (found.st_mtime_ns, found.st_size, found.st_ino)
    return seen


async def watch(
    folder: Path,
    apply: Callable[[], Awaitable[None]],
    every_s: float = 1.0,
    *,
    since: Look | None = None,
) -> None:
    """Call `apply` whenever a profile file came, went or changed. Runs until it is cancelled.

    Polled, not notified: it works on network file systems and in containers, where notifications
    do not arrive, and costs one stat per file and look. A change is applied when two looks in a
    row agree, so that a file is not read while an editor still writes it. `since` is the `look`
    taken before the files were first read; without it changes before the start are not noticed.
    A `GatehouseError` of `apply` is logged, and it is called again; after any other error the
    next change is awaited.
    """
    applied = latest = look(folder) if since is None else since
    while True:
        await asyncio.sleep(every_s)
        before, latest = latest, look(folder)
        if latest == applied or latest != before:
            continue
        try:
            await apply()
        except GatehouseError as exc:
            # A store that is locked or full right now: the change is still to be made.
            log.error("profiles.not_applied", reason=str(exc), again_in_s=every_s)
        except Exception:
            log.exception("profiles.failed")
            applied = latest
        else:
            applied = latest
