"""`gatehouse provision`, and the devices it is made of, against a server on all three wires."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import Secret, Wire
from gateway.core.tokens import new_token
from gateway.simulator import Credentials, Device, Fleet, SimulatorError, parse_credentials
from gateway.simulator.messages import Wish, json_of_protobuf, json_request, protobuf_request

WIRES = [Wire.HTTP, Wire.MQTT, Wire.COAP]
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.fixture
def provision(server: Any) -> Callable[..., Any]:
    """Runs `gatehouse provision` at the server, with the key and secret of `demo`."""

    def call(wire: str, *args: str, **env: str) -> Any:
        return server.shell(
            "provision", "--profile", "demo", "--url", server.url(wire), *args, **env
        )

    return call


# ── what comes back ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", WIRES)
def test_a_device_is_provisioned_once_over_each_wire(provision: Any, wire: Wire) -> None:
    """The first request gets a token; the second of the same name is refused, with status 1."""
    name = f"once-{wire}"

    first = provision(wire, "--device-name", name, "--json")
    again = provision(wire, "--device-name", name)

    told = json.loads(first.stdout)
    assert first.exit_code == 0
    assert (told["status"], told["credentialsType"]) == ("SUCCESS", "ACCESS_TOKEN")
    assert (told["deviceName"], told["wire"]) == (name, wire)
    assert again.exit_code == 1
    assert again.stdout.startswith("FAILURE")
    assert "--dry-run tells which" in again.stderr
    assert "gatehouse explain" in again.stderr


@pytest.mark.parametrize("wire", WIRES)
def test_a_wrong_secret_is_explained(server: Any, wire: Wire) -> None:
    """NOT_FOUND is told in plain words, without the key and secret that were sent."""
    env = {"K": new_token(), "S": new_token()}
    result = server.shell(
        "provision", "--url", server.url(wire), "--key-env", "K", "--secret-env", "S", **env
    )

    assert result.exit_code == 1
    assert result.stdout.startswith("NOT_FOUND")
    assert "profile show" in result.stderr
    assert env["K"] not in result.output
    assert env["S"] not in result.output


@pytest.mark.parametrize("version", ["3.1", "3.1.1", "5"])
def test_every_mqtt_version_is_spoken(provision: Any, version: str) -> None:
    """MQTT 3.1, 3.1.1 and 5 all get credentials."""
    assert provision("mqtt", "--mqtt-version", version).exit_code == 0


@pytest.mark.parametrize("wire", ["mqtt", "coap"])
def test_protobuf_is_told_as_json(provision: Any, wire: str) -> None:
    """A protobuf answer reads like the JSON one, an MQTT triple and a refusal included."""
    ask = ("--protobuf", "--device-name", f"pb-{wire}", "--json", "--username")

    first = provision(wire, *ask, f"u-{wire}")
    other = provision(wire, *ask, f"other-{wire}")

    assert json.loads(first.stdout)["credentialsValue"]["userName"] == f"u-{wire}"
    assert json.loads(other.stdout)["status"] == "FAILURE"
    assert other.exit_code == 1


def test_own_credentials_are_asked_for(provision: Any) -> None:
    """A token, a triple and a certificate of one's own come back as they were given."""
    token, password = new_token(), new_token()
    triple = ("--client-id", "c1", "--username", "own-u", "--password-env", "PW")

    own = provision("http", "--token-env", "T", "--json", T=token)
    basic = provision("http", *triple, "--json", PW=password)

    assert json.loads(own.stdout)["credentialsValue"] == token
    assert json.loads(basic.stdout)["credentialsValue"] == {
        "clientId": "c1",
        "userName": "own-u",
        "password": password,
    }


def test_a_certificate_is_sent_from_its_file(provision: Any, tmp_path: Any) -> None:
    """--certificate sends the file's text and implies the credentials' type; DER is no text."""
    pem, der = tmp_path / "c.pem", tmp_path / "c.der"
    pem.write_text(PEM)
    der.write_bytes(b"\x30\x82\xff\xfe")

    result = provision("coap", "--certificate", str(pem), "--json")

    told = json.loads(result.stdout)
    assert (told["credentialsType"], told["credentialsValue"]) == ("X509_CERTIFICATE", "MIIBAAAA")
    assert provision("coap", "--certificate", str(der)).exit_code == 2


def test_a_gateway_is_marked_as_one(provision: Any, server: Any) -> None:
    """--gateway makes the device a gateway."""
    assert provision("http", "--gateway", "--device-name", "gw").exit_code == 0
    assert server.shell.json("device", "show", "gw")["gateway"] is True


# ── keeping it ────────────────────────────────────────────────────────────────────────────────


def test_saved_credentials_are_for_their_owner_alone(provision: Any, tmp_path: Any) -> None:
    """--save writes the answer with mode 0600, whatever the umask."""
    path = tmp_path / "answer.json"
    umask = os.umask(0)
    try:
        result = provision("http", "--save", str(path), "--json")
    finally:
        os.umask(umask)

    assert result.exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == json.loads(result.stdout)


def test_nothing_is_asked_for_when_it_could_not_be_saved(
    provision: Any, server: Any, tmp_path: Any
) -> None:
    """An existing file is not written over, and the device's one request is not spent."""
    path = tmp_path / "answer.json"
    path.write_text("mine")

    result = provision("http", "--save", str(path), "--device-name", "unspent")

    assert result.exit_code == 1
    assert path.read_text() == "mine"
    assert server.shell("device", "show", "unspent").exit_code == 1


def test_a_refusal_leaves_no_file(provision: Any, tmp_path: Any) -> None:
    """There is nothing to keep of a refusal."""
    path = tmp_path / "answer.json"
    ask = ("--device-name", "refused-twice")

    assert provision("http", *ask).exit_code == 0
    assert provision("http", *ask, "--save", str(path)).exit_code == 1
    assert not path.exists()


# ── what cannot be ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", WIRES)
def test_nobody_there_is_one_sentence(shell: Any, wire: Wire) -> None:
    """Without a gateway at the address the error says so, where, and what to look at."""
    shell.ok("profile", "list")
    result = shell("provision", "--profile", "demo", "--url", f"{wire}://127.0.0.1:1")

    assert result.exit_code == 1
    assert "Connection refused" in result.stderr
    assert "127.0.0.1 port 1" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--profile", "demo"),  # port 0: nobody knows where
        ("--profile", "demo", "--url", "coaps://127.0.0.1"),
        ("--profile", "demo", "--url", "http://127.0.0.1", "--cacert", "profiles/demo.toml"),
        ("--profile", "demo", "--url", "http://127.0.0.1", "--out", "d1.pem"),
        ("--profile", "demo", "--url", "http://127.0.0.1", "--csr", "profiles/demo.toml"),
        ("--profile", "demo", "--url", "coap://127.0.0.1", "--protobuf", "--new-key", "d1.key"),
        ("--profile", "demo", "--url", "mqtt://127.0.0.1", "--username", "u", "--new-key", "k"),
        (
            *("--profile", "demo", "--url", "coap://127.0.0.1"),
            *("--protobuf", "--credentials", "dtls-psk"),
        ),
        ("--profile", "demo", "--url", "coap://127.0.0.1:99999"),
        ("--profile", "demo", "--url", "http://127.0.0.1/api/v1/provision"),
        ("--profile", "demo", "--url", "coap://127.0.0.1", "--wire", "mqtt"),
        ("--profile", "demo", "--url", "http://127.0.0.1", "--protobuf"),
        ("--profile", "demo", "--url", "http://127.0.0.1", "--mqtt-version", "5"),
        ("--profile", "demo", "--url", "http://127.0.0.1", "--key-env", "PATH"),
        ("--url", "http://127.0.0.1", "--key-env", "NOT_SET_1", "--secret-env", "NOT_SET_2"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(shell: Any, args: tuple[str, ...]) -> None:
    """Status 2 and a sentence, before anything is sent."""
    result = shell("provision", *args)

    assert result.exit_code == 2
    assert "Error: " in result.stderr


# ── the devices themselves ────────────────────────────────────────────────────────────────────


async def body_of(server: Any, *args: str) -> bytes:
    """The body of a provisioning request, from a thread: commands bring their own loop."""
    text = await asyncio.to_thread(server.shell.ok, "profile", "request", "demo", *args)
    return bytes(text.encode())


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("wire", WIRES)
async def test_a_device_provisions_logs_in_and_reports(
    server: Any, wire: Wire, version: int
) -> None:
    """What provisioning gives is good for telemetry at once, and closing twice does no harm."""
    body = await body_of(server)
    async with Fleet("127.0.0.1", server.ports, mqtt_version=version) as fleet:
        device = fleet.device(wire)
        credentials = parse_credentials(await device.provision(body))
        assert isinstance(credentials, Credentials)
        await device.connect(credentials)
        for reading in range(3):
            await device.telemetry(json.dumps({"n": reading}).encode())
        await device.close()
        await device.close()

    name = json.loads(body)["deviceName"]
    shown = await asyncio.to_thread(server.shell.json, "device", "show", name)
    assert shown["latest"]["n"]["value"] == 2


@pytest.mark.parametrize("wire", WIRES)
async def test_trouble_is_one_kind_of_error(server: Any, wire: Wire) -> None:
    """A bad body, a wrong token, and telemetry before login all raise `SimulatorError`."""
    wrong = Credentials(kind="ACCESS_TOKEN", token=Secret("wrong-token/with a slash"))
    async with Fleet("127.0.0.1", server.ports, 5) as fleet:
        device = fleet.device(wire)
        with pytest.raises(SimulatorError):
            await device.provision(b'{"provisionDeviceKey":')
        if wire is not Wire.COAP:
            with pytest.raises(SimulatorError, match="connect comes before"):
                await device.telemetry(b'{"t":1}')
        with pytest.raises(SimulatorError) as refused:
            await log_in_and_report(device, wrong)
        assert "wrong-token" not in str(refused.value)
        await device.close()


async def log_in_and_report(device: Device, credentials: Credentials) -> None:
    await device.connect(credentials)
    await device.telemetry(b'{"t":1}')


@pytest.mark.parametrize("end", ["provision", "telemetry"])
async def test_a_gateway_that_hangs_up_is_noticed(end: str) -> None:
    """A connection that closes in the middle ends the wait at once, not after the timeout."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if end == "telemetry":
            writer.write(b"\x20\x02\x00\x00")
            await writer.drain()

    token = Credentials(kind="ACCESS_TOKEN", token=Secret("token"))
    async with peer(hang_up) as port, Fleet("127.0.0.1", {Wire.MQTT: port}, 30) as fleet:
        device = fleet.device(Wire.MQTT)
        with pytest.raises(SimulatorError, match=r"closed the connection|connection failed"):
            async with asyncio.timeout(5):
                await log_in_and_report(device, token)
        await device.close()


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def peer(handle: Handle) -> AsyncIterator[int]:
    """A TCP server that serves one connection with `handle`, then closes it; gives its port."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handle(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        done.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.wait_for(done.wait(), 5)


@pytest.mark.parametrize("wire", [Wire.HTTP, Wire.MQTT])
async def test_silence_ends_in_time(wire: Wire) -> None:
    """A peer that accepts and says nothing is given up after the timeout."""

    async def listen_only(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with peer(listen_only) as port, Fleet("127.0.0.1", {wire: port}, 0.2) as fleet:
        device = fleet.device(wire)
        with pytest.raises(SimulatorError, match="in time"):
            await device.provision(b"{}")
        await device.close()


async def test_an_mqtt_triple_logs_in(server: Any) -> None:
    """Client id, user name and password that were asked for are a login."""
    body = json.loads(await body_of(server))
    body |= {"credentialsType": "MQTT_BASIC", "clientId": "tri", "username": "ple"}
    async with Fleet("127.0.0.1", server.ports) as fleet:
        device = fleet.device(Wire.MQTT)
        given = parse_credentials(await device.provision(json.dumps(body).encode()))
        assert isinstance(given, Credentials)
        assert (given.client_id, given.username) == ("tri", "ple")
        await device.connect(given)
        await device.telemetry(b'{"t":1}')
        await device.close()
        with pytest.raises(SimulatorError, match="access token"):
            await fleet.device(Wire.HTTP).connect(given)


# ── reading and writing ───────────────────────────────────────────────────────────────────────


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=60)
def test_no_answer_breaks_the_reader(answer: bytes) -> None:
    """Whatever a peer answers is read, or is a `SimulatorError`."""
    for read in (parse_credentials, json_of_protobuf):
        with contextlib.suppress(SimulatorError):
            assert read(answer)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    st.sampled_from(["SUCCESS", "FAILURE"]),
    st.sampled_from(["ACCESS_TOKEN", "MQTT_BASIC", "X509_CERTIFICATE", "LWM2M_CREDENTIALS", ""]),
    json_values,
)
@settings(deadline=None, max_examples=60)
def test_odd_answers_are_credentials_a_status_or_an_error(
    status: str, kind: str, value: object
) -> None:
    """Members of any shape never come out as credentials of the wrong type."""
    answer = {"status": status, "credentialsType": kind, "credentialsValue": value}
    try:
        given_credentials = parse_credentials(json.dumps(answer).encode())
    except SimulatorError:
        return
    if isinstance(given_credentials, str):
        assert given_credentials == "FAILURE"
        return
    assert isinstance(given_credentials.token.reveal(), str)
    assert isinstance(given_credentials.username, str)
    assert isinstance(given_credentials.password.reveal(), str)


texts = st.text(max_size=20)


@given(texts, texts, texts, texts, st.booleans())
@settings(deadline=None, max_examples=50)
def test_requests_say_what_was_wished(
    name: str, key: str, secret: str, username: str, gateway: bool
) -> None:
    """JSON leaves out what is empty; protobuf carries the same."""
    from gateway.dialects.thingsboard import device_api_pb2 as wire

    wish = Wish(device_name=name, username=username, gateway=gateway)
    said = json.loads(json_request(Secret(key), Secret(secret), wish))
    message = wire.ProvisionDeviceRequestMsg()
    message.ParseFromString(protobuf_request(Secret(key), Secret(secret), wish))

    assert said.get("deviceName", "") == message.deviceName == name
    assert said.get("provisionDeviceKey", "") == key
    assert message.provisionDeviceCredentialsMsg.provisionDeviceSecret == secret
    assert message.credentialsDataProto.validateBasicMqttCredRequestMsg.userName == username
    assert said.get("gateway", False) is message.gateway is gateway
    assert None not in said.values()


def test_secrets_are_in_no_repr() -> None:
    """Neither credentials nor a wish show a token or password when printed."""
    secret = Secret(new_token())
    for one in (
        Credentials(kind="MQTT_BASIC", token=secret, password=secret),
        Wish(token=secret, password=secret),
    ):
        assert secret.reveal() not in repr(one)
