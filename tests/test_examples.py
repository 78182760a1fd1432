"""The examples, each run as its reader would run it, and what README.md says about commands."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from gateway.cli import cli
from gateway.config import load_config
from gateway.settings import SECTIONS
from gateway.simulator.processes import PROFILE, FleetPair, Server, gateway_process

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text()
CLAIMED_ONCE = "meters"
"""A profile beside the gateway's own, whose devices must have been added."""
WIRES = ("http", "mqtt", "coap")


# ── a gateway, and scripts against it ─────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Finished:
    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Gate:
    """A gateway process with its folder, and the pair that its profiles take."""

    server: Server
    folder: Path
    pair: FleetPair

    def url(self, wire: str) -> str:
        return f"{wire}://127.0.0.1:{self.server.ports[wire]}"

    def environ(self) -> dict[str, str]:
        """An operator's environment, whose `gatehouse` acts on this gateway's store."""
        ports = {f"GATEHOUSE_{w.upper()}_PORT": str(self.server.ports[w]) for w in WIRES}
        plain = {k: v for k, v in os.environ.items() if not k.startswith("GATEHOUSE_")}
        return {
            **plain,
            **ports,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{plain['PATH']}",
            "GATEHOUSE_STORE_URL": f"sqlite:{self.database}",
            "GATEHOUSE_PROFILES_DIR": str(self.folder / "profiles"),
            "FLEET_KEY": self.pair.key.reveal(),
            "FLEET_SECRET": self.pair.secret.reveal(),
        }

    def run(self, *command: str, environ: dict[str, str], folder: Path | None = None) -> Finished:
        done = subprocess.run(
            command,
            env=environ,
            cwd=folder or self.folder,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=40,
            check=False,
        )
        told = done.stdout + done.stderr
        assert self.pair.secret.reveal() not in told
        return Finished(done.returncode, done.stdout, done.stderr)

    def device(self, script: str, *arguments: str, secret: str = "", key: str = "") -> Finished:
        """Run an example with the fleet's pair, or with another secret or key."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("GATEHOUSE_")}
        environ["GATEHOUSE_KEY"] = key or self.pair.key.reveal()
        environ["GATEHOUSE_SECRET"] = secret or self.pair.secret.reveal()
        command = (sys.executable, "-W", "error", str(EXAMPLES / script), *arguments)
        return self.run(*command, environ=environ)

    def operate(self, *arguments: str) -> str:
        done = self.run("gatehouse", *arguments, environ=self.environ())
        assert done.status == 0, done
        return done.out

    @property
    def database(self) -> Path:
        return self.folder / "data" / "gatehouse.db"

    def rows(self, statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as store:
            return store.execute(statement, values).fetchall()

    def readings(self, name: str) -> list[Any]:
        """The latest value of each key of a device."""
        return self.rows(
            "SELECT key, real FROM latest_reading"
            " JOIN device ON device.id = device_id WHERE device.name = ?",
            name,
        )

    def provisionings(self, name: str) -> list[str]:
        """The outcomes of all requests for a name, in order."""
        asked = "SELECT outcome FROM event WHERE kind = 'device:provision' AND subject = ?"
        return [outcome for (outcome,) in self.rows(f"{asked} ORDER BY seq", name)]


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("examples")
    (folder / "profiles").mkdir()
    (folder / "profiles" / f"{CLAIMED_ONCE}.toml").write_text(
        'provision_type = "CHECK_PRE_PROVISIONED_DEVICES"\ndetailed_refusals = true\n'
        'provision_key = "meters-key-0001"\nprovision_secret = { env = "FLEET_SECRET" }\n'
    )
    (folder / "profiles" / "asking.toml").write_text(
        'provision_type = "ALLOW_CREATE_NEW_DEVICES"\ndetailed_refusals = true\n'
        'provision_key = "asking-key-0001"\nprovision_secret = { env = "FLEET_SECRET" }\n'
        "[admission]\napproval = true\napproval_backoff_s = 1\n"
    )
    command = folder / "bin" / "gatehouse"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m gateway "$@"\n')
    command.chmod(0o755)
    pair = FleetPair.random()
    (folder / "data").mkdir()
    made = subprocess.run(
        (str(command), "cert", "init"),
        env={**os.environ, "GATEHOUSE_STORE_URL": f"sqlite:{folder}/data/gatehouse.db"},
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made
    with gateway_process(folder, pair) as server:
        yield Gate(server, folder, pair)


def named(done: Finished, wire: str) -> str:
    """The device's name from the one line an example prints."""
    found = re.fullmatch(rf"(\S*{wire}-\S+) is provisioned and has sent a reading\n?", done.out)
    assert found, done
    return found[1]


# ── one device per wire ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", WIRES)
def test_a_device_is_provisioned_and_its_reading_stored(gate: Gate, wire: str) -> None:
    """When an example ends well, its device exists and its reading is on disk."""
    done = gate.device(f"{wire}_device.py", gate.url(wire))
    assert done.status == 0, done
    assert done.err == ""
    assert gate.readings(named(done, wire)) == [("temperature", 21.5)]


def test_a_device_speaks_cbor_and_senml(gate: Gate) -> None:
    """Its measurements are on disk under their whole names; where an operator is to be asked, it
    waits, and comes in once it is approved."""
    done = gate.device("senml_device.py", gate.url("coap"))
    assert (done.status, done.err) == (0, ""), done
    sent = [("cellar:humidity", 48.25), ("cellar:temperature", 21.5)]
    assert sorted(gate.readings(named(done, "coap"))) == sent
    pair = {"key": "asking-key-0001", "secret": gate.pair.secret.reveal()}
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(gate.device, "senml_device.py", gate.url("coap"), **pair)
        deadline = time.monotonic() + 20
        while not (names := json.loads(gate.operate("pending", "--json"))):
            assert time.monotonic() < deadline
        gate.operate("approve", names[0]["device"])
        done = waits.result()
    assert done.status == 0, done
    assert set(done.err.splitlines()) == {f"{names[0]['device']} waits for an operator"}
    assert sorted(gate.readings(named(done, "coap"))) == sent


def test_a_device_gets_a_certificate_for_its_own_key(gate: Gate) -> None:
    """And logs in with it over HTTPS; its reading is on disk."""
    authority = str(gate.folder / "data" / "tls" / "lab-ca.pem")
    done = gate.device("certificate_device.py", authority, gate.url("https"))
    assert done.status == 0, done
    assert gate.readings(named(done, "https")) == [("temperature", 21.5)]
    refused = gate.device(
        "certificate_device.py", authority, gate.url("https"), secret="not-the-secret"
    )
    assert refused.status == 1
    assert re.fullmatch(r"\S+ was refused: Provision data was not found!\n", refused.err), refused


@pytest.mark.parametrize("wire", WIRES)
def test_a_refusal_is_told_and_makes_no_device(gate: Gate, wire: str) -> None:
    """A refused example says so in one sentence, exits with 1 and leaves no device behind; also
    where its profile tells why."""
    before = gate.rows("SELECT count(*) FROM device")
    done = gate.device(f"{wire}_device.py", gate.url(wire), secret="not-the-secret")
    assert done.status == 1, done
    assert re.fullmatch(r"\S+ was refused: Provision data was not found!\n", done.err), done
    done = gate.device(f"{wire}_device.py", gate.url(wire), key="meters-key-0001")
    assert re.fullmatch(r"\S+ was refused: Failed to provision device!\n", done.err), done
    assert gate.rows("SELECT count(*) FROM device") == before


@pytest.mark.clients
def test_the_shell_session_provisions_on_all_wires(gate: Gate) -> None:
    """The shell session makes one device on each wire, each with its reading on disk."""
    coap_clients = ("coap-client", "coap-client-notls", "coap-client-openssl")
    require("curl", "curl")
    require("mosquitto_rr", "mosquitto-clients")
    if not any(map(shutil.which, coap_clients)):
        require("coap-client-notls", "libcoap3-bin")
    script = str(EXAMPLES / "shell-session.sh")
    done = gate.run(script, PROFILE, environ=gate.environ())
    assert done.status == 0, done
    names = [line.split()[0] for line in done.out.splitlines()]
    assert [name.split("-")[1] for name in names] == ["http", "mqtt", "coap"]
    assert [gate.readings(name) for name in names] == [[("temperature", 21.5)]] * 3


def require(program: str, package: str) -> None:
    if shutil.which(program):
        return
    told = f"{program} is not here; get it with `apt-get install {package}`"
    if os.environ.get("GATEHOUSE_REQUIRE_CLIENTS") == "1":
        pytest.fail(told)
    pytest.skip(told)


# ── the device that loses power and network ───────────────────────────────────────────────────


def esp(gate: Gate, name: str, *more: str, url: str = "", **fleet: str) -> Finished:
    given = ("--gateway", url or gate.url("http"), "--readings", "2", "--every", "0", *more)
    return gate.device("esp_device.py", name, *given, **fleet)


def kept(gate: Gate, name: str) -> dict[str, str]:
    told: dict[str, str] = json.loads((gate.folder / f"{name}.json").read_text())
    return told


def test_the_device_comes_back_with_what_it_kept(gate: Gate) -> None:
    """A restarted device is the same one: it sends with the kept token and asks for nothing."""
    first = esp(gate, "esp-1")
    assert first.status == 0, first
    assert stat.S_IMODE((gate.folder / "esp-1.json").stat().st_mode) == 0o600
    before = kept(gate, "esp-1")

    again = esp(gate, "esp-1", key="no-longer-needed", secret="no-longer-needed")

    assert again.status == 0, again
    assert again.out.splitlines() == ["reading 1 is stored", "reading 2 is stored"]
    assert kept(gate, "esp-1") == before
    assert gate.provisionings("esp-1") == ["success"]
    assert before["token"] not in first.out + first.err + again.out + again.err


@contextmanager
def bad_line(target: int, *troubles: Callable[[bytes], None] | None) -> Iterator[str]:
    """The URL of a line to port `target` that fails once for each of `troubles`.

    None hangs up without a word. A function is given the request; that is passed on, and its
    answer is lost.
    """
    left = list(troubles)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return  # closed: the test is over
            with near:
                trouble = left.pop(0) if left else len
                if trouble is None:
                    continue
                request = _whole_request(near)
                trouble(request)
                with socket.create_connection(("127.0.0.1", target)) as far:
                    far.sendall(request)
                    answer = _all_of(far)
                if trouble is len:
                    near.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _whole_request(line: socket.socket) -> bytes:
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += line.recv(4096)
    head, _, body = heard.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])  # type: ignore[index]
    while len(body) < length:
        body += line.recv(4096)
    return head + b"\r\n\r\n" + body


def _all_of(line: socket.socket) -> bytes:
    heard = b""
    while part := line.recv(4096):
        heard += part
    return heard


def test_a_lost_answer_costs_the_device_nothing(gate: Gate) -> None:
    """The token is on disk before it is asked for, and opens although its answer was lost."""
    on_disk: list[dict[str, str]] = []
    asked: list[str] = []

    def lose(request: bytes) -> None:
        asked.append(json.loads(request.partition(b"\r\n\r\n")[2])["token"])
        on_disk.append(kept(gate, "esp-2"))

    with bad_line(gate.server.ports["http"], None, lose) as url:
        done = esp(gate, "esp-2", url=url)

    assert done.status == 0, done
    assert done.err.count("; again in ") == 2
    assert on_disk == [{"name": "esp-2", "token": asked[0], "state": "asked"}]
    assert kept(gate, "esp-2") == {"name": "esp-2", "token": asked[0], "state": "confirmed"}
    assert gate.provisionings("esp-2") == ["success"]  # the same request again is no refusal
    assert len(gate.readings("esp-2")) == 1


def test_a_device_that_was_added_gets_the_token_it_has(gate: Gate) -> None:
    """A claimed device keeps the token it was added with, not the one it made up."""
    gate.operate("device", "add", "--profile", CLAIMED_ONCE, "esp-3")
    done = esp(gate, "esp-3", key="meters-key-0001")
    assert done.status == 0, done
    known = json.loads(gate.operate("device", "show", "esp-3", "--reveal", "--json"))
    assert kept(gate, "esp-3")["token"] in json.dumps(known)


def test_what_a_refused_device_advises_helps(gate: Gate) -> None:
    """A claimed device that lost its file is refused, and gets its token again once re-armed."""
    gate.operate("device", "add", "--profile", CLAIMED_ONCE, "esp-7")
    assert esp(gate, "esp-7", key="meters-key-0001").status == 0
    token = kept(gate, "esp-7")["token"]
    (gate.folder / "esp-7.json").unlink()

    refused = esp(gate, "esp-7", key="meters-key-0001")
    assert refused.status == 2, refused
    assert "gatehouse device rearm esp-7" in refused.err
    gate.operate("device", "rearm", "esp-7")

    assert esp(gate, "esp-7", key="meters-key-0001").status == 0
    assert kept(gate, "esp-7")["token"] == token


@pytest.mark.parametrize(
    ("name", "fleet", "advice"),
    [
        ("esp-4", {"secret": "not-the-secret"}, "gatehouse profile show PROFILE --reveal"),
        ("esp-5", {"key": "meters-key-0001"}, "gatehouse device rearm esp-5"),
    ],
)
def test_a_refused_device_says_what_to_do(
    gate: Gate, name: str, fleet: dict[str, str], advice: str
) -> None:
    """A refusal ends the device at once, with status 2 and the command that helps."""
    done = esp(gate, name, **fleet)
    assert done.status == 2, done
    assert advice in done.err
    assert "again in" not in done.err
    assert kept(gate, name)["state"] == "asked"


def test_a_removed_device_does_not_come_back_by_itself(gate: Gate) -> None:
    """A token that opens no longer ends the device with status 2; it does not provision anew."""
    assert esp(gate, "esp-6").status == 0
    gate.operate("device", "remove", "--yes", "esp-6")
    done = esp(gate, "esp-6")
    assert done.status == 2, done
    assert "gatehouse device remove" in done.err
    assert gate.provisionings("esp-6") == ["success"]


# ── devices that stay ─────────────────────────────────────────────────────────────────────────


@contextmanager
def staying(gate: Gate, script: str) -> Iterator[tuple[str, Callable[[str], str]]]:
    """An example that runs until the block ends, by Ctrl-C: its name, and a wait for a line."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("GATEHOUSE_")}
    environ["GATEHOUSE_KEY"] = gate.pair.key.reveal()
    environ["GATEHOUSE_SECRET"] = gate.pair.secret.reveal()
    command = (sys.executable, "-W", "error", str(EXAMPLES / script), gate.url("mqtt"))
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        alarm = threading.Timer(30, process.kill)
        alarm.start()
        assert process.stdout is not None
        lines = process.stdout

        def await_line(part: str) -> str:
            for line in lines:
                if part in line:
                    return line
            raise AssertionError(f"{script} ended without a line with {part!r}")

        try:
            yield await_line("").split()[0], await_line
        finally:
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=10)
            alarm.cancel()
        assert (process.returncode, complaints) == (0, "")


def wait_for_latest(gate: Gate, name: str, **wanted: Any) -> None:
    """Until the device's latest readings are at least these."""
    seen: dict[str, Any] = {}
    for _ in range(100):
        query = (
            "SELECT key, coalesce(whole, real, text) FROM latest_reading"
            " JOIN device ON device.id = device_id WHERE device.name = ?"
        )
        seen = dict(gate.rows(query, name))
        if wanted.items() <= seen.items():
            return
        time.sleep(0.05)
    raise AssertionError(f"{name}: {seen} instead of {wanted}")


def test_a_remote_device_is_operated(gate: Gate) -> None:
    """It answers calls, hears of a shared attribute, and runs the firmware it was assigned."""
    content = gate.folder / "firmware.bin"
    content.write_bytes(bytes(range(256)) * 100)
    gate.operate("firmware", "add", str(content), "--title", "valve", "--version", "1.4.0")
    with staying(gate, "remote_device.py") as (name, await_line):
        assert json.loads(gate.operate("device", "rpc", name, "getTemperature")) == {
            "temperature": 21.5
        }
        assert json.loads(gate.operate("device", "rpc", name, "echo", '{"a":[1]}')) == {"a": [1]}
        gate.operate("device", "attributes", "set", name, "interval=30")
        await_line(f"{name} hears of interval")
        gate.operate("firmware", "assign", "valve", "1.4.0", "--device", name)
        await_line(f"{name} runs valve 1.4.0")
        told = {"current_fw_title": "valve", "current_fw_version": "1.4.0", "fw_state": "UPDATED"}
        wait_for_latest(gate, name, **told)


def test_a_firmware_that_came_wrong_is_not_installed(gate: Gate) -> None:
    """A content other than the one that was announced is reported as FAILED."""
    content = gate.folder / "tampered.bin"
    content.write_bytes(bytes(10_000))
    gate.operate("firmware", "add", str(content), "--title", "tampered", "--version", "2")
    stored = gate.folder / "data" / "packages" / hashlib.sha256(bytes(10_000)).hexdigest()
    stored.write_bytes(bytes(9_999) + b"x")
    with staying(gate, "remote_device.py") as (name, _):
        gate.operate("firmware", "assign", "tampered", "2", "--device", name)
        wait_for_latest(gate, name, fw_state="FAILED", fw_error="the checksum is another")


def test_a_gateway_speaks_for_two_devices(gate: Gate) -> None:
    """Its children have their readings, are called by their names, and hear of attributes."""
    with staying(gate, "gateway_device.py") as (name, await_line):
        boiler, meter = f"{name}-boiler", f"{name}-meter"
        wait_for_latest(gate, boiler, temperature=62.5)
        wait_for_latest(gate, meter, power=1250)
        assert json.loads(gate.operate("device", "rpc", boiler, "read")) == {"temperature": 62.5}
        gate.operate("device", "attributes", "set", meter, "interval=30")
        await_line(f"{meter} hears of interval")


# ── the examples as a whole ───────────────────────────────────────────────────────────────────


def test_the_examples_stand_alone() -> None:
    """No example imports the gateway, and the list in their README names each of them."""
    scripts = sorted(EXAMPLES.glob("*.py"))
    listed = (EXAMPLES / "README.md").read_text()
    assert len(scripts) == 13
    for script in scripts:
        tree = ast.parse(script.read_text())
        names = {
            alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
        }
        names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not {name for name in names if name.split(".")[0] == "gateway"}
    for path in EXAMPLES.iterdir():
        assert path.name == "README.md" or path.is_dir() or f"]({path.name})" in listed


# ── what README.md says ───────────────────────────────────────────────────────────────────────


def commands_of(text: str) -> list[tuple[list[str], set[str]]]:
    """Every `gatehouse …` in code, as its words so far as they are commands, and its options."""
    code = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    code += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = []
    for part in code:
        for line in part.replace("\\\n", " ").splitlines():
            for use in re.findall(r"(?:^|[\s(])gatehouse((?: +[^|#;)]+)?)", line):
                words = use.split()
                options = {word for word in words if re.match(r"--?[a-z]", word)}
                found.append((words, options))
    return found


@pytest.mark.parametrize("document", ["README.md", "examples/README.md"])
def test_every_command_of_the_readme_exists(document: str) -> None:
    """Each `gatehouse …` in a README is a command of that name, and its options are that one's."""
    uses = commands_of((ROOT / document).read_text())
    assert len(uses) >= 4
    for words, options in uses:
        command: click.Command = cli
        context = click.Context(cli)
        for word in words:
            if not isinstance(command, click.Group):
                break
            if command.invoke_without_command and word.startswith("-"):
                break
            inner = command.get_command(context, word)
            assert inner is not None, f"{document}: gatehouse {' '.join(words)}"
            command, context = inner, click.Context(inner, parent=context)
        assert not words or command is not cli
        known = {name for one in command.get_params(context) for name in one.opts}
        assert options <= known, f"{document}: gatehouse {' '.join(words)}"


def test_every_command_is_in_the_readme() -> None:
    """No command of `gatehouse --help` is missing in README.md."""
    named_there = {words[0] for words, _ in commands_of(README) if words}
    assert set(cli.list_commands(click.Context(cli))) <= named_there


def test_the_table_of_settings_tells_the_true_defaults() -> None:
    """Each row of README's table of settings is a setting, with the default it really has."""
    rows = re.findall(r"^\| `\[(\w+)\] (\w+)` \| `([^`]+)` \|", README, re.MULTILINE)
    assert len(rows) >= 8
    for section, key, default in rows:
        value = getattr(SECTIONS[section](), key)
        told = str(value).lower() if isinstance(value, bool) else str(value)
        assert told == default, f"[{section}] {key}"


def test_the_variables_of_the_readme_are_settings(tmp_path: Path, monkeypatch: Any) -> None:
    """Each GATEHOUSE_… that README.md sets to a value is taken by the configuration."""
    monkeypatch.chdir(tmp_path)
    given = dict(re.findall(r"\b(GATEHOUSE_[A-Z_]+)=([^\s`]+)", README))
    assert given
    config = load_config(None, given)
    assert config != load_config(None, {})


def test_the_links_of_the_readmes_lead_somewhere() -> None:
    """Every relative link of a README names a file that is there."""
    for path in (ROOT / "README.md", EXAMPLES / "README.md"):
        links = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
        assert links
        for link in links:
            assert (path.parent / link).exists(), f"{path.name}: {link}"
