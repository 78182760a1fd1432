"""Configuration: what a file and the environment make of the defaults, and how errors read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import Config, load_config
from gateway.core.errors import ConfigError
from gateway.settings import SECTIONS
from gateway.toml_lines import key_lines, settings_of

REPOSITORY = Path(__file__).parent.parent


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def error(path: Path | None, environ: dict[str, str] | None = None) -> str:
    """The message of the error that loading `path` raises, with the folder taken off."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ or {})
    return str(caught.value).replace(f"{path.parent}/" if path else "\0", "")


def sections(config: Config) -> dict[str, object]:
    return {name: getattr(config, name) for name in SECTIONS}


# ── what comes out ────────────────────────────────────────────────────────────────────────────


def test_the_shipped_file_is_the_defaults() -> None:
    """The commented config.toml holds every setting and changes none."""
    path = REPOSITORY / "config.toml"
    lines = key_lines(path.read_text(encoding="utf-8"))

    assert sections(load_config(path, {})) == sections(Config())
    for section, shape in SECTIONS.items():
        for key in settings_of(shape):
            assert (section, key) in lines, f"[{section}] {key} is not in config.toml"


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no file given and none in the current folder, paths begin at the current folder."""
    monkeypatch.chdir(tmp_path)
    config = load_config(None, {})

    assert sections(config) == sections(Config())
    assert config.source is None
    assert config.store_path == tmp_path / "data/gatehouse.db"
    assert config.data_dir == tmp_path / "data"
    assert config.profiles_dir == tmp_path / "profiles"


def test_the_file_in_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no file given, config.toml of the current folder is read."""
    write(tmp_path, "[http]\nport = 18080\n")
    monkeypatch.chdir(tmp_path)
    config = load_config(None, {})

    assert config.http.port == 18080
    assert config.source == Path("config.toml")


def test_paths_begin_at_the_file(tmp_path: Path) -> None:
    """Relative paths are relative to the file's folder, absolute ones are kept."""
    path = write(tmp_path, '[store]\nurl = "sqlite:x.db"\n[profiles]\ndir = "/etc/profiles"\n')
    config = load_config(path, {})

    assert config.store_path == tmp_path / "x.db"
    assert config.profiles_dir == Path("/etc/profiles")


def test_a_store_in_memory_has_no_path() -> None:
    """A database in memory has no file and no data folder."""
    config = load_config(REPOSITORY / "config.toml", {"GATEHOUSE_STORE_URL": "sqlite::memory:"})

    assert config.store_path is None
    assert config.data_dir is None


def test_the_home_folder_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that begins with ~ is in the home folder, not in a folder named ~."""
    monkeypatch.setenv("HOME", "/home/ada")
    config = load_config(REPOSITORY / "config.toml", {"GATEHOUSE_STORE_URL": "sqlite:~/g.db"})

    assert config.store_path == Path("/home/ada/g.db")


def test_the_environment_stands_above_the_file(tmp_path: Path) -> None:
    """A variable replaces what the file says, in the setting's own type."""
    path = write(tmp_path, '[http]\nport = 1\nenabled = true\n[log]\nlevel = "error"\n')
    environ = {
        "GATEHOUSE_HTTP_PORT": "18080",
        "GATEHOUSE_HTTP_ENABLED": "No",
        "GATEHOUSE_HTTP_READ_TIMEOUT_S": "2.5",
        "GATEHOUSE_LOG_LEVEL": "debug",
        "GATEHOUSE_MASTER_KEY": "aaaa",
        "GATEHOUSE_REQUIRE_CLIENTS": "1",
        "GATEHOUSE_HTTP": "x",
        "HTTP_PORT": "x",
    }
    config = load_config(path, environ)

    assert (config.http.port, config.http.enabled) == (18080, False)
    assert config.http.read_timeout_s == 2.5
    assert config.log.level == "debug"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("1", True), ("YES", True), ("false", False), ("0", False), ("no", False)],
)
def test_truth_in_the_environment(text: str, expected: bool) -> None:
    """true, 1 and yes switch on; false, 0 and no switch off."""
    assert load_config(None, {"GATEHOUSE_COAP_ENABLED": text}).coap.enabled is expected


# ── how errors read ───────────────────────────────────────────────────────────────────────────


def test_the_message_of_a_wrong_value(tmp_path: Path) -> None:
    """A wrong value is told with file, line, what is wanted, what is there, and an example."""
    path = write(tmp_path, '# a comment\n\n[http]\nhost = "0.0.0.0"\nport = "abc"\n')

    assert error(path) == (
        "config.toml:5: [http] port must be a whole number between 0 and 65535, "
        'is "abc". Write for example `port = 8080`.'
    )


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        ("[http]\nport = 65536\n", 2, ["between 0 and 65535, is 65536"]),
        ("[http]\nport = -1\n", 2, ["is -1"]),
        ("[http]\nport = true\n", 2, ["is true"]),
        ("[http]\nport = 8080.0\n", 2, ["whole number"]),
        (f"[http]\nport = 0x{'f' * 6000}\n", 2, ["more than 18 digits"]),
        ("[http]\nport = 1979-05-27\n", 2, ["is a date or time"]),
        ("[http]\nenabled = 1\n", 2, ["true or false, is 1", "`enabled = true`"]),
        ("[http]\nread_timeout_s = nan\n", 2, ["a number between 0.05 and 3600, is nan"]),
        ("[http]\nread_timeout_s = 0\n", 2, ["is 0", "`read_timeout_s = 30`"]),
        ('[http]\nhost = ""\n', 2, ["host name"]),
        ('[http]\nhost = "[::]"\n', 2, ["without brackets"]),
        ('[http]\nhost = "a\\n"\n', 2, ['is "a\\n"']),
        ("[http]\nprot = 1\n", 2, ["[http] has no setting `prot`.", "Did you mean `port`?"]),
        ("[http]\nzzz = 1\n", 2, ["Known here: enabled, host, port"]),
        ("[http]\nx = '''\nport = 1\n'''\n", 2, ["no setting `x`"]),
        ("\n[htpp]\nport = 1\n", 2, ["no section [htpp]", "Did you mean `http`?"]),
        ("port = 1\n", 1, ["outside of a section", "one of [http], [mqtt], [coap]"]),
        ("max_calls = 1\n", 1, ["Put it under [limits]."]),
        ("# x\nhttp = 3\n", 2, ["`http` is a section"]),
        ("[[http]]\nport = 1\n", 1, ["`http` is a section"]),
        ("[log]\nlevel = 'inof'\n", 2, ['one of "debug", "error", "info"', "Did you mean `info`?"]),
        ("[log]\nlevel = 3\n", 2, ["is 3"]),
        ("http.port = 1\nhttp.prot = 2\n", 2, ["Did you mean `port`?"]),
        ("\nhttp = { prot = 2 }\n", 2, ["Did you mean `port`?"]),
        ("[mqtt]\nmax_inflight = 0\n", 2, ["between 1 and 65535"]),
        ("[mqtt]\nmax_unacked = 65536\n", 2, ["between 1 and 65535"]),
        ("[mqtt]\nsession_idle_s = 0\n", 2, ["between 0.05 and 86400"]),
        ("[coap]\nmax_observations = 0\n", 2, ["is 0"]),
        ("[http]\nmax_polls = 0\n", 2, ["is 0"]),
        ("[claims]\nduration_s = 0\n", 2, ["is 0"]),
        ("[rpc]\nhook_max_calls = 0\n", 2, ["is 0"]),
        ("[limits]\ndevice_messages = 10\n", 2, ['as in "10:1,300:60"', "is 10"]),
        (
            "[limits]\ngateway_devices_messages = '10:x'\n",
            2,
            ['is "10:x": capacity and seconds', '`gateway_devices_messages = "10:1,300:60"`'],
        ),
        (f"[limits]\ndevice_messages = '{','.join(['1:1'] * 9)}'\n", 2, ["at most"]),
    ],
)
def test_errors_name_line_and_remedy(
    tmp_path: Path, text: str, line: int, parts: list[str]
) -> None:
    """Whatever is wrong in a file, the message has its line and leads to what is right."""
    message = error(write(tmp_path, text))

    assert message.startswith(f"config.toml:{line}: ")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "hook",
    [
        "http://ada:hunter2@host/rpc",
        "http://hunter2@host/",
        "http://host/rpc#hunter2",
        "ftp://host/hunter2",
        "host/hunter2",
        "http://",
        "http://host/a hunter2",
    ],
)
def test_a_hook_with_credentials_is_refused_unshown(tmp_path: Path, hook: str) -> None:
    """A hook's address with a user name, or that is none, is refused and not repeated."""
    path = write(tmp_path, f'[rpc]\nhook = "{hook}"\n')
    for message in (error(path), error(None, {"GATEHOUSE_RPC_HOOK": hook})):
        assert "without user name and password" in message
        assert "hunter2" not in message


@pytest.mark.parametrize("hook", ["", "http://h", "https://[::1]:8/a@b?c=d", "http://h:9/rpc"])
def test_a_hook(hook: str) -> None:
    """A plain address is taken as it is, and an empty one is none."""
    assert load_config(None, {"GATEHOUSE_RPC_HOOK": hook}).rpc.hook == hook


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "data/packages"),
        ("[packages]\ndir = 'p'\n", "p"),
        ("[store]\nurl = 'sqlite:/var/x/g.db'\n", "/var/x/packages"),
        ("[store]\nurl = 'sqlite::memory:'\n", None),
        ("[store]\nurl = 'postgresql://a@b/c'\n", None),
        ("[store]\nurl = 'sqlite::memory:'\n[packages]\ndir = '/p'\n", "/p"),
    ],
)
def test_where_packages_are(tmp_path: Path, text: str, expected: str | None) -> None:
    """Packages lie beside the database file unless a folder is named; else there are none."""
    config = load_config(write(tmp_path, text), {})

    assert config.packages_dir == (None if expected is None else tmp_path / expected)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://gate:hunter2@db",
        "postgresql://gate:hunter2@db/",
        "postgresql://gate:hunter2/@db/x",
        "postgresql://gate:hunter2@@db/x",
        "postgresql://gate:hunter2?@db/x",
        "postgresql://gate:hunter2#@db/x",
        "postgresql://gate:12/hunter2@db/x",
        "postgresql://db:hunter2/x",
        "postgresql://gate@db/x?password=hunter2",
        "postgresql://gate@db/x?sslmode=require&password=hunter2",
        "postgresql://gate@db/x?sslpassword=hunter2",
        "postgresql://gate@db/x?%70assword=hunter2",
        "postgresql:hunter2@db/x",
        "postgres://gate:hunter2@db/x",
        "mysql://gate:hunter2@db/x",
        "sqlite://hunter2",
        "sqlite:",
        "sqlite:hunter2/",
        "sqlite::hunter2",
        "sqlite:hunter2\n",
        "hunter2.db",
    ],
)
def test_a_database_address_is_never_repeated(tmp_path: Path, url: str) -> None:
    """An address that cannot be used is refused without showing it: it may hold a password."""
    path = write(tmp_path, f"[store]\nurl = {url!r}\n".replace("'", '"'))
    for message in (error(path), error(None, {"GATEHOUSE_STORE_URL": url})):
        assert 'must be "sqlite:PATH"' in message
        assert "hunter2" not in message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://gate:hunter2@db:5432/x", "postgresql://gate@db:5432/x"),
        ("postgresql://gate:hunter2:@db/x", "postgresql://gate@db/x"),
        ("postgresql://gate:hunter2@a:1,[::1]:2/x?y=1", "postgresql://gate@a:1,[::1]:2/x?y=1"),
        ("postgresql://gate@db/x", "postgresql://gate@db/x"),
        ("postgresql:///x?host=/run/a&port=2", "postgresql:///x?host=/run/a&port=2"),
        ("postgresql://g:hunter2@%2Frun/x", "postgresql://g@%2Frun/x"),
    ],
)
def test_the_address_of_a_server_is_shown_without_its_password(url: str, shown: str) -> None:
    """A PostgreSQL address is taken as it is, has no folder, and no repr tells its password."""
    config = load_config(REPOSITORY / "config.toml", {"GATEHOUSE_STORE_URL": url})

    assert config.server_url == url
    assert config.store.shown_url == shown
    assert (config.store_path, config.data_dir) == (None, None)
    assert repr(shown) in repr(config)
    assert "hunter2" not in repr(config) + repr(config.store) + str(config.store.__rich_repr__())


@pytest.mark.parametrize(
    ("content", "start"),
    [
        (b"[http]\nport 8080\n", "config.toml:2:6: is not TOML"),
        (b"[http]\nport = \n", "config.toml:2:8: is not TOML"),
        (b"[http]\r\nport = 8080\r\n[http\r\n", "config.toml:3:6: is not TOML"),
        (b'x = """', "config.toml:1:8: is not TOML"),
        (b"[http]\n[http]\n", "config.toml:2:"),
        (b"[http]\nport = 1\nport = 2\n", "config.toml:3:"),
        (b"\n\xff\n", "config.toml:2: is not UTF-8"),
        (b"x = " + b"[" * 5000, "config.toml:1: lists or tables are nested too deep"),
        (b"x = " + b"9" * 5000, "config.toml:1: a number is too long"),
        (b"#" * 300_000, "config.toml: is larger than 262144 bytes"),
    ],
)
def test_what_is_not_toml(tmp_path: Path, content: bytes, start: str) -> None:
    """A file that cannot be parsed is told with line and column, and nothing else escapes."""
    path = tmp_path / "config.toml"
    path.write_bytes(content)

    assert error(path).startswith(start)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    """A file saved with a byte order mark and CRLF line ends is read like any other."""
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf[http]\r\nport = 81\r\n")

    assert load_config(path, {}).http.port == 81


def test_files_that_are_none(tmp_path: Path) -> None:
    """A missing file, a folder and a pipe are refused at once, without reading."""
    os.mkfifo(tmp_path / "pipe")

    assert "no such file" in error(tmp_path / "absent.toml")
    assert "is not a file" in error(tmp_path)
    assert "is not a file" in error(tmp_path / "pipe")
    assert "not valid" in error(tmp_path / "a\0b")


def test_a_link_to_nowhere_is_not_overlooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config.toml that is a broken link is an error, not a reason to run on defaults."""
    (tmp_path / "config.toml").symlink_to("gone.toml")
    monkeypatch.chdir(tmp_path)

    assert error(None) == "config.toml: there is no such file. Check the path."


@pytest.mark.parametrize(
    ("variable", "value", "parts"),
    [
        ("GATEHOUSE_HTTP_PROT", "1", ["no setting GATEHOUSE_HTTP_PROT", "`GATEHOUSE_HTTP_PORT`"]),
        ("GATEHOUSE_HTTP_port", "1", ["no setting GATEHOUSE_HTTP_port"]),
        ("GATEHOUSE_HTTP_PORT", "abc", ["([http] port) must be", '"abc"', "`GATEHOUSE_HTTP_PORT="]),
        ("GATEHOUSE_HTTP_PORT", "65536", ["between 0 and 65535"]),
        ("GATEHOUSE_HTTP_PORT", "", ['is ""']),
        ("GATEHOUSE_HTTP_ENABLED", "maybe", ["true or false", "`GATEHOUSE_HTTP_ENABLED=true`"]),
        ("GATEHOUSE_HTTP_READ_TIMEOUT_S", "nan", ["between 0.05 and 3600"]),
        ("GATEHOUSE_HTTP_READ_TIMEOUT_S", "inf", ["between 0.05 and 3600"]),
        ("GATEHOUSE_HTTP_READ_TIMEOUT_S", "soon", ["between 0.05 and 3600"]),
        ("GATEHOUSE_LOG_LEVEL", "loud", ['one of "debug"']),
        ("GATEHOUSE_PROFILES_DIR", "\x1b[2J", ["a folder's path", "\\x1b"]),
    ],
)
def test_errors_of_the_environment(variable: str, value: str, parts: list[str]) -> None:
    """A variable that cannot be used is told by its name, with what it must be."""
    message = error(None, {variable: value})

    assert message.startswith("environment: ")
    assert "enableServiceLinks" not in message
    for part in parts:
        assert part in message


def test_kubernetes_service_links_are_explained() -> None:
    """The variable Kubernetes makes for a service named gatehouse-http gets a hint."""
    environ = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "GATEHOUSE_HTTP_PORT": "tcp://10.0.0.2:80",
    }
    assert "enableServiceLinks: false" in error(None, environ)


# ── any input ─────────────────────────────────────────────────────────────────────────────────

_FRAGMENTS = st.sampled_from(
    [
        *("[http]", "[", "]", "port", "=", "\n", '"', "'''", '"""', "{", "}", "#", "1", ".", ","),
        *("true", "[[", "]]", "nan", "\\", "a.b", "é", "\r\n", "\x00", "1979-05-27", " "),
    ]
)


@given(st.one_of(st.binary(max_size=200), st.lists(_FRAGMENTS).map(lambda x: "".join(x).encode())))
@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever a file holds, it is a configuration or a ConfigError that names it."""
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    message = message_of(path)

    assert message is None or message.startswith(str(path))
    assert message is None or message.isprintable()


def message_of(path: Path) -> str | None:
    try:
        load_config(path, {})
    except ConfigError as exc:
        return str(exc)
    return None


@given(st.text(max_size=300), st.lists(_FRAGMENTS).map("".join))
@settings(deadline=None, max_examples=80)
def test_lines_of_any_text(text: str, fragments: str) -> None:
    """Looking for lines never raises, TOML or not."""
    for candidate in (text, fragments):
        assert all(line >= 1 for line in key_lines(candidate).values())


def test_lines_of_every_kind_of_value() -> None:
    """Keys are found behind strings, lists, tables and comments that look like keys."""
    text = (
        'a = """\nb = 1\n""\\"x"""""\n'  # lines 1 to 3
        "c = '''\nd = 2''''\n"  # 4, 5
        'e = [ # [f]\n  \'g = 3\', "]", {h = "}"},\n]\n'  # 6 to 8
        'i . "j\\u002ek" = "#" # l = 4\n'  # 9
        "[m.'n o']\np = 1979-05-27 07:32:00\n"  # 10, 11
        "[[q]]\nr = 1\n[[q]]\nr = 2\n"  # 12 to 15
    )
    assert key_lines(text) == {
        ("a",): 1,
        ("c",): 4,
        ("e",): 6,
        ("i",): 9,
        ("i", "j.k"): 9,
        ("m",): 10,
        ("m", "n o"): 10,
        ("m", "n o", "p"): 11,
        ("q",): 12,
        ("q", "r"): 13,
    }
