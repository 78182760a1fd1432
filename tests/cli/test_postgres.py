"""The commands on a PostgreSQL server: what they need, what they say, what they never say."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
from click.testing import Result

from gateway.core.errors import ConfigError

pytestmark = pytest.mark.postgres

KEY = "ab" * 32
PASSWORD = re.compile("hunter2|" + KEY)


@pytest.fixture
def on_server(shell: Any, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A shell whose store is a new database without tables."""
    monkeypatch.delenv("GATEHOUSE_MASTER_KEY", raising=False)
    shell.env |= {"GATEHOUSE_STORE_URL": empty_url, "GATEHOUSE_MASTER_KEY": KEY}
    return shell


def refusal(result: Result) -> str:
    """The sentence a command ends with; it never holds the password or the key."""
    assert isinstance(result.exception, ConfigError), result.exception
    told = str(result.exception)
    assert not PASSWORD.search(result.output + told)
    return told


def doctor(shell: Any, **env: str) -> dict[str, Any]:
    result = shell("doctor", "--json", **env)
    assert not PASSWORD.search(result.output)
    return {one["check"]: one for one in json.loads(result.stdout)["checks"]}


def test_devices_are_kept_on_the_server(on_server: Any) -> None:
    """What one command adds the next one finds, and no file is made."""
    on_server.ok("device", "add", "d1")
    assert [one["name"] for one in on_server.json("device", "list")] == ["d1"]
    assert sorted(path.name for path in on_server.folder.iterdir()) == ["profiles"]


def test_the_doctor_examines_the_server(on_server: Any) -> None:
    """Before the first start it makes nothing; afterwards it looks inside."""
    for _ in range(2):
        before = doctor(on_server)
        assert "none yet" in before["migrations"]["found"]
        assert "postgresql://gate@/" in before["database"]["found"]
    on_server.ok("device", "add", "d1")
    after = doctor(on_server)
    for check in ("database", "migrations", "writing", "credentials", "master key", "clock"):
        assert after[check]["level"] == "ok", after[check]
    assert "1 devices" in after["credentials"]["found"]
    # The server of the tests does not wait for its disk, and the doctor sees that.
    assert (after["durability"]["level"], after["durability"]["found"][:12]) == (
        "warning",
        "fsync is off",
    )


def test_the_doctor_tells_of_a_server_that_is_not_there(on_server: Any) -> None:
    """A database that cannot be reached is one finding with a remedy; the others go on."""
    url = on_server.env["GATEHOUSE_STORE_URL"].replace("host=", "host=/nowhere")
    told = doctor(on_server, GATEHOUSE_STORE_URL=url)
    assert told["database"]["level"] == "wrong"
    assert told["database"]["todo"]
    assert told["http port"]["level"] == "ok"


def test_the_master_key_must_be_given(on_server: Any) -> None:
    """Without a data folder there is no place for a key: the command says how to make one."""
    del on_server.env["GATEHOUSE_MASTER_KEY"]
    told = refusal(on_server("device", "list"))
    assert "GATEHOUSE_MASTER_KEY is not set" in told
    assert "openssl rand -hex 32" in told
    assert doctor(on_server)["master key"]["level"] == "wrong"


def test_a_server_that_is_not_there_is_told(on_server: Any) -> None:
    """The start ends with a sentence that names the address and not its password."""
    url = on_server.env["GATEHOUSE_STORE_URL"].replace("host=", "host=/nowhere")
    told = refusal(on_server("device", "list", GATEHOUSE_STORE_URL=url))
    assert "postgresql://gate@/" in told
    assert "Check that the server runs" in told


def test_the_missing_library_is_named(on_server: Any) -> None:
    """Without asyncpg a PostgreSQL address leads to the command that installs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "asyncpg", None)
        patch.delitem(sys.modules, "gateway.store.postgres", raising=False)
        told = refusal(on_server("device", "list"))
        found = doctor(on_server)["database"]["found"]
    assert "pip install 'gatehouse-iot[postgres]'" in told
    assert "gatehouse-iot[postgres]" in found


def test_the_start_screen_has_no_password(on_server: Any) -> None:
    """A server on PostgreSQL shows its address without the password, and provisions."""
    on_server.ok("profile", "list")
    with on_server.start("serve", stdout=-1, stderr=-3) as process:
        screen = ""
        assert process.stdout is not None
        for line in process.stdout:
            screen += line
            if "gatehouse ready" in line:
                break
        process.terminate()
        screen += process.stdout.read()
        assert process.wait(20) == 0
    assert re.search(r"store\s+postgresql://gate@/", screen), screen
    assert "profile request demo" in screen
    assert "GATEHOUSE_MASTER_KEY" in screen
    assert not PASSWORD.search(screen)
