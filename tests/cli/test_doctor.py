"""`gatehouse doctor`."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.checks import Level, open_files
from gateway.cli.store_checks import store_findings
from gateway.config import load_config
from gateway.core.tokens import new_token

DATABASE, KEY = "data/gatehouse.db", "data/master.key"


class Diagnosis:
    """The findings of one `doctor --json`."""

    def __init__(self, shell: Any, **env: str) -> None:
        result = shell("doctor", "--json", **env)
        told = json.loads(result.stdout)
        self.status = result.exit_code
        self.output = result.output
        self.checks: list[dict[str, str]] = told["checks"]
        assert told["ok"] is (self.status == 0)

    def levels(self, check: str) -> set[str]:
        return {one["level"] for one in self.checks if one["check"] == check}

    def found(self, check: str) -> str:
        return "\n".join(one["found"] for one in self.checks if one["check"] == check)


@pytest.fixture
def used(shell: Any) -> Any:
    """A shell whose store exists and holds a device."""
    shell.ok("device", "add", "d1")
    return shell


def test_a_fresh_machine_is_left_as_it_is(shell: Any) -> None:
    """Where nothing was started yet, doctor says so, is content, and makes nothing."""
    told = Diagnosis(shell)

    assert told.status == 0
    for check in ("data folder", "master key", "database"):
        assert "not yet; made at first start" in told.found(check)
    assert sorted(path.name for path in shell.folder.iterdir()) == ["profiles"]


def test_a_sound_store_is_found_sound(used: Any) -> None:
    """Every check of a store in order is ok, and the report for people says the same."""
    told = Diagnosis(used)

    assert told.status == 0
    for check in ("integrity", "migrations", "writing", "credentials", "clock", "master key"):
        assert told.levels(check) == {"ok"}, told.found(check)
    assert "1 devices, 1 fleet keys" in told.found("credentials")
    text = used.ok("doctor")
    assert "✓ integrity" in text
    assert "✗" not in text


def test_an_open_key_file_is_wrong(used: Any) -> None:
    """A master key that others may read is an error, with the command that closes it."""
    (used.folder / KEY).chmod(0o644)

    told = Diagnosis(used)

    assert told.status == 1
    assert "0644" in told.found("master key")
    assert any("chmod 600" in one["todo"] for one in told.checks)


def test_a_lost_key_is_wrong_and_not_replaced(used: Any) -> None:
    """A database without its key is told, and no new key is made for it."""
    (used.folder / KEY).unlink()

    told = Diagnosis(used)

    assert told.status == 1
    assert told.levels("master key") == {"wrong"}
    assert not (used.folder / KEY).exists()


def test_the_wrong_key_is_found_out(used: Any) -> None:
    """A key that does not open the stored credentials is an error; no key is printed."""
    other = "ab" * 32
    told = Diagnosis(used, GATEHOUSE_MASTER_KEY=other)

    assert told.status == 1
    assert told.levels("credentials") == {"wrong"}
    assert other not in told.output


@pytest.mark.parametrize("text", ["no key", "", "\udcff".encode("utf-8", "surrogateescape")])
def test_a_spoilt_key_file_is_wrong(used: Any, text: str | bytes) -> None:
    """A key file with anything else in it is an error, not a traceback."""
    (used.folder / KEY).write_bytes(text.encode() if isinstance(text, str) else text)

    assert Diagnosis(used).levels("master key") == {"wrong"}


def test_a_damaged_database_is_wrong(used: Any) -> None:
    """Overwritten pages are found by the integrity check, and a copy is advised."""
    path: Path = used.folder / DATABASE
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)

    told = Diagnosis(used)

    assert told.status == 1
    assert "wrong" in told.levels("integrity") | told.levels("database")


def test_another_file_is_no_database(used: Any) -> None:
    """A database that is something else is one finding, and the other checks go on."""
    (used.folder / DATABASE).write_text("nothing of the kind " * 100)

    told = Diagnosis(used)

    assert told.levels("database") == {"wrong"}
    assert told.levels("http port") == {"ok"}


@pytest.mark.parametrize(("version", "level"), [(0, "warning"), (99, "wrong")])
def test_the_version_of_the_database_is_compared(used: Any, version: int, level: str) -> None:
    """An older database is migrated at the next start, not now; a newer one is not ours."""
    path = used.folder / DATABASE
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {version}")
    database.close()

    assert Diagnosis(used).levels("migrations") == {level}
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (version,)
    database.close()


def test_a_clock_behind_the_newest_event_is_wrong(used: Any) -> None:
    """Time that runs backwards would mix up events and readings."""
    database = sqlite3.connect(used.folder / DATABASE)
    with database:
        database.execute("UPDATE event SET at = at + 3600000")
    database.close()

    told = Diagnosis(used)

    assert told.status == 1
    assert "behind the newest event" in told.found("clock")


async def test_a_clock_that_was_never_set_is_wrong(
    shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that starts in 1970 is told before it writes anything."""
    monkeypatch.setattr("gateway.cli.store_checks.now_ms", lambda: 5_000)

    findings = await store_findings(load_config(None, shell.env), {})

    assert [one.level for one in findings if one.check == "clock"] == [Level.WRONG]


def test_broken_and_clashing_profiles_are_told(used: Any) -> None:
    """Each file's error is a finding, and so are keys that two profiles claim."""
    folder = used.folder / "profiles"
    key = used.json("profile", "show", "demo", "--reveal")["provision_key"]
    (folder / "broken.toml").write_text('provision_type = "OPEN"\n')
    (folder / "clash.toml").write_text(
        f'provision_type = "ALLOW_CREATE_NEW_DEVICES"\nprovision_key = "{key}"\n'
    )

    told = Diagnosis(used)

    assert told.status == 1
    assert "broken.toml:1" in told.found("profiles")
    assert "clash.toml: its provision_key is the key of profile `demo`" in told.found("profiles")
    assert key not in told.output


def test_a_secret_others_may_read_is_a_warning(used: Any) -> None:
    """A profile file with a literal secret and mode 0644 is pointed out; a closed one is not."""
    path = used.folder / "profiles" / "open.toml"
    path.write_text(
        f'provision_type = "ALLOW_CREATE_NEW_DEVICES"\nprovision_secret = "{new_token()}"\n'
    )
    path.chmod(0o644)
    assert "may be read by other users" in Diagnosis(used).found("profiles")

    path.chmod(0o600)
    assert "may be read" not in Diagnosis(used).found("profiles")


@pytest.fixture
def occupied() -> Iterator[int]:
    """A TCP port that somebody else listens on, and answers nobody."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_a_port_somebody_has_is_wrong(shell: Any, occupied: int) -> None:
    """A port in use by a stranger is an error that says how to find out who."""
    told = Diagnosis(shell, GATEHOUSE_MQTT_PORT=str(occupied))

    assert told.status == 1
    assert told.levels("mqtt port") == {"wrong"}
    assert told.levels("coap port") == {"ok"}
    assert any(f"ss -lntp | grep {occupied}" in one["todo"] for one in told.checks)


def test_an_address_that_is_not_ours_is_wrong(shell: Any) -> None:
    """An address of another machine cannot be listened on."""
    told = Diagnosis(shell, GATEHOUSE_HTTP_HOST="192.0.2.1", GATEHOUSE_HTTP_PORT="18080")

    assert told.levels("http port") == {"wrong"}


def test_our_own_ports_are_recognised(server: Any) -> None:
    """Beside a running server its ports are in order: it says that it is ready."""
    env = {f"GATEHOUSE_{wire.upper()}_PORT": str(port) for wire, port in server.ports.items()}

    told = Diagnosis(server.shell, **env)

    assert told.status == 0
    for wire in server.ports:
        assert "served by Gatehouse" in told.found(f"{wire} port")


def test_too_few_files_is_a_warning(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More connections than files is pointed out, with the number that is needed."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    few = load_config(None, shell.env | {"GATEHOUSE_HTTP_MAX_CONNECTIONS": "10"})
    many = load_config(None, shell.env | {"GATEHOUSE_HTTP_MAX_CONNECTIONS": "10000000"})
    fewer = load_config(
        None,
        shell.env
        | {"GATEHOUSE_HTTP_MAX_CONNECTIONS": "10", "GATEHOUSE_MQTT_MAX_CONNECTIONS": "10"},
    )

    assert [one.level for one in open_files(fewer)] == [Level.OK]
    assert [one.level for one in open_files(many)] == [Level.WARNING]
    assert "20110" in next(iter(open_files(few))).found


def test_a_configuration_that_cannot_be_read_ends_the_examination(shell: Any) -> None:
    """Nothing else can be judged without the configuration; its error is the finding."""
    told = Diagnosis(shell, GATEHOUSE_HTTP_PORT="many")

    assert told.status == 1
    assert "GATEHOUSE_HTTP_PORT" in told.found("configuration")
    assert told.checks[-1]["check"] == "configuration"


def test_templates_are_told_and_twins_found(shell: Any) -> None:
    """Which profiles Blynk's devices may name; of two with one name only one is ever found."""
    assert Diagnosis(shell).found("templates") == ""
    for name in ("a", "b"):
        path = shell.folder / "profiles" / f"{name}.toml"
        path.write_text('provision_type = "DISABLED"\n[blynk]\ntemplate_id = "TMPLone000001"\n')
        told = Diagnosis(shell)
        assert "TMPLone000001" in told.found("templates")
        assert told.levels("templates") == ({"ok"} if name == "a" else {"ok", "warning"})


def test_the_folder_of_packages_is_looked_at(used: Any) -> None:
    """Not there yet is fine, a file in its place is wrong, and what it holds is told."""
    assert "not yet" in Diagnosis(used).found("packages")
    folder = used.folder / "data" / "packages"
    folder.write_text("in the way")
    assert Diagnosis(used).levels("packages") == {"wrong"}
    folder.unlink()
    folder.mkdir()
    (folder / "a").write_bytes(bytes(3 * 2**20))
    assert "1 files, 3.0 MiB" in Diagnosis(used).found("packages")


def test_a_hook_nobody_serves_is_a_warning(used: Any) -> None:
    """Whether somebody listens is found out without sending anything."""
    assert Diagnosis(used).levels("hook") == set()
    with socket.create_server(("127.0.0.1", 0)) as service:
        url = f"http://127.0.0.1:{service.getsockname()[1]}/rpc"
        assert Diagnosis(used, GATEHOUSE_RPC_HOOK=url).levels("hook") == {"ok"}
    assert Diagnosis(used, GATEHOUSE_RPC_HOOK=url).levels("hook") == {"warning"}
