"""The configuration: read from TOML and environment, proven at start.

A value comes from the environment (`GATEHOUSE_<SECTION>_<KEY>`), else from the file, else from the
default in `gateway.settings`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from gateway.core.errors import ConfigError
from gateway.core.spelling import nearest
from gateway.settings import (
    MEMORY,
    SECTIONS,
    AdminSettings,
    BlynkSettings,
    BlynkTcpSettings,
    CaSettings,
    ClaimsSettings,
    CoapSettings,
    CoapsSettings,
    HttpSettings,
    HttpsSettings,
    LimitsSettings,
    LogSettings,
    MetricsSettings,
    MqttSettings,
    MqttsSettings,
    PackagesSettings,
    ProfilesSettings,
    ProvisioningSettings,
    RpcSettings,
    StoreSettings,
    TlsSettings,
    TracingSettings,
)
from gateway.toml_lines import (
    Setting,
    TomlFile,
    UnfitError,
    plain,
    read_table,
    read_toml,
    settings_of,
)

DEFAULT_FILE = "config.toml"
_PREFIX = "GATEHOUSE_"
_NO_SETTINGS = frozenset({"GATEHOUSE_ADMIN_PASSWORD"})
"""Read at the first start alone, and kept nowhere."""
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Config(Struct, frozen=True, kw_only=True):
    """Everything that can be set. `Config()` is the built-in defaults in the current folder.

    `source` is the file it came from, None without one; relative paths begin at `folder`, which
    is the file's, or else the current one.
    """

    store: StoreSettings = StoreSettings()
    http: HttpSettings = HttpSettings()
    mqtt: MqttSettings = MqttSettings()
    coap: CoapSettings = CoapSettings()
    tls: TlsSettings = TlsSettings()
    https: HttpsSettings = HttpsSettings()
    mqtts: MqttsSettings = MqttsSettings()
    coaps: CoapsSettings = CoapsSettings()
    ca: CaSettings = CaSettings()
    profiles: ProfilesSettings = ProfilesSettings()
    limits: LimitsSettings = LimitsSettings()
    provisioning: ProvisioningSettings = ProvisioningSettings()
    rpc: RpcSettings = RpcSettings()
    claims: ClaimsSettings = ClaimsSettings()
    blynk: BlynkSettings = BlynkSettings()
    blynk_tcp: BlynkTcpSettings = BlynkTcpSettings()
    packages: PackagesSettings = PackagesSettings()
    admin: AdminSettings = AdminSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()
    log: LogSettings = LogSettings()
    source: Path | None = None
    folder: Path = Path()

    @property
    def store_path(self) -> Path | None:
        """The database file; None for one in memory or on a server."""
        if self.store.url == MEMORY or self.server_url is not None:
            return None
        return self._path(self.store.url.removeprefix("sqlite:"))

    @property
    def server_url(self) -> str | None:
        """The address of the PostgreSQL database, with its password; None without a server."""
        return self.store.url if self.store.url.startswith("postgresql:") else None

    @property
    def data_dir(self) -> Path | None:
        """The folder of the database file, which also holds the master key; None without one."""
        path = self.store_path
        return None if path is None else path.parent

    @property
    def profiles_dir(self) -> Path:
        return self._path(self.profiles.dir)

    @property
    def tls_files(self) -> tuple[Path, Path] | None:
        """The server's certificate and key, whether they are there or not; None without a place."""
        return self._pair(self.tls.certificate_file, self.tls.key_file, "server")

    @property
    def ca_files(self) -> tuple[Path, Path] | None:
        """The certificate and key of an authority that is not ours; None when ours signs."""
        if not self.ca.certificate_file and not self.ca.key_file:
            return None
        return self._pair(self.ca.certificate_file, self.ca.key_file, "ca")

    def _pair(self, certificate: str, key: str, stem: str) -> tuple[Path, Path] | None:
        folder = None if self.data_dir is None else self.data_dir / "tls"
        if folder is None and not (certificate and key):
            return None
        folder = folder or Path()
        return (
            self._path(certificate) if certificate else folder / f"{stem}.pem",
            self._path(key) if key else folder / f"{stem}.key",
        )

    @property
    def packages_dir(self) -> Path | None:
        """The folder of packages; None when none is named and the store has no folder."""
        if self.packages.dir:
            return self._path(self.packages.dir)
        return None if self.data_dir is None else self.data_dir / "packages"

    def _path(self, text: str) -> Path:
        # A leading ~ would otherwise become a folder of that name.
        return self.folder / os.path.expanduser(text)


def load_config(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read the file at `path` and lay `environ` over it.

    With `path` None, `config.toml` in the current folder is read if it is there. Raises
    `ConfigError`, whose message says where, what is wrong, and what to do.
    """
    source = path
    if source is None and os.path.lexists(DEFAULT_FILE):
        source = Path(DEFAULT_FILE)
    values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    folder = Path.cwd()
    if source is not None:
        # Not resolved: a link to a file elsewhere is used where the link is.
        folder = source.absolute().parent
        _lay_file(values, read_toml(source))
    _lay_environ(values, environ)
    sections: dict[str, Any] = {name: shape(**values[name]) for name, shape in SECTIONS.items()}
    return Config(**sections, source=source, folder=folder)


def _lay_file(values: dict[str, dict[str, Any]], file: TomlFile) -> None:
    for name, table in file.data.items():
        shape = SECTIONS.get(name)
        if shape is None:
            raise _unknown_section(file, name, table)
        if not isinstance(table, dict):
            raise file.fault((name,), f"`{name}` is a section.", f"Write it as `[{name}]`.")
        values[name] = read_table(file, (name,), table, shape)


def _unknown_section(file: TomlFile, name: str, table: object) -> ConfigError:
    if isinstance(table, dict):
        wrong = f"there is no section [{plain(name)}]."
        return file.fault((name,), wrong, nearest(name, SECTIONS))
    homes = [section for section, shape in SECTIONS.items() if name in settings_of(shape)]
    remedy = f"Put it under [{homes[0]}]." if homes else nearest(name, SECTIONS)
    if len(homes) > 1:
        remedy = f"Put it under one of [{'], ['.join(homes)}]."
    return file.fault((name,), f"`{plain(name)}` stands outside of a section.", remedy)


def _lay_environ(values: dict[str, dict[str, Any]], environ: Mapping[str, str]) -> None:
    for variable in sorted(environ):
        section, key = _place(variable)
        if not section or not key:
            continue  # other people's, or one of ours that is no setting (GATEHOUSE_MASTER_KEY)
        if variable not in _NO_SETTINGS:
            values[section][key] = _from_environ(variable, section, key, environ)


def _place(variable: str) -> tuple[str, str]:
    """The section and the key that a variable names; "" for one that names no section of ours."""
    if not variable.startswith(_PREFIX):
        return "", ""
    name = variable.removeprefix(_PREFIX).lower()
    found = [one for one in SECTIONS if name.startswith(f"{one}_")]
    section = max(found, key=len, default="")
    return section, name.removeprefix(f"{section}_")


def _from_environ(variable: str, section: str, key: str, environ: Mapping[str, str]) -> Any:
    settings = settings_of(SECTIONS[section])
    setting = settings.get(key)
    if setting is None or variable != _variable(section, key):
        known = [_variable(section, name) for name in settings]
        raise ConfigError(
            f"environment: there is no setting {plain(variable)}. "
            f"{nearest(variable, known)}{_hint(environ)}"
        )
    try:
        return _from_text(setting, environ[variable])
    except UnfitError as unfit:
        remedy = f"Write for example `{variable}={_as_text(setting.example)}`, or unset it."
        raise ConfigError(
            f"environment: {variable} ([{section}] {key}) {unfit.wrong} {remedy}{_hint(environ)}"
        ) from None


def _variable(section: str, key: str) -> str:
    return f"{_PREFIX}{section}_{key}".upper()


def _from_text(setting: Setting, text: str) -> Any:
    if setting.type is bool:
        return setting.check(_TRUTH.get(text.lower(), text))
    return setting.check(text, strict=False)


def _as_text(example: object) -> str:
    return str(example).lower() if isinstance(example, bool) else str(example)


def _hint(environ: Mapping[str, str]) -> str:
    """Kubernetes sets GATEHOUSE_HTTP_PORT=tcp://… for a service that is named `gatehouse-http`."""
    if "KUBERNETES_SERVICE_HOST" not in environ:
        return ""
    return " If Kubernetes set it for a service, give the pod `enableServiceLinks: false`."
