"""`gatehouse serve` with a certificate: what it says, taking up another, and TLS from the shell."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Wire


def fingerprint(server: Any) -> bytes:
    """Of the certificate the server shows at its HTTPS port."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = ("127.0.0.1", server.ports[Wire.HTTPS])
    with socket.create_connection(address, 5) as plain, context.wrap_socket(plain) as wrapped:
        found = wrapped.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_the_ready_line_names_six_wires(secure_server: Any) -> None:
    """With a certificate the secure wires are served, and scripts are told where."""
    assert set(secure_server.ports) == set(Wire) - {Wire.SHELL, Wire.BLYNK}


def test_without_a_certificate_three_are_off(server: Any, shell: Any) -> None:
    """The ready line has the plain ones alone, and the start screen says what to do."""
    assert set(server.ports) == {Wire.HTTP, Wire.MQTT, Wire.COAP}
    with shell.start("serve", stdout=-1, stderr=-3) as process:
        assert process.stdout is not None
        screen = ""
        while "gatehouse ready" not in screen:
            line = process.stdout.readline()
            assert line, screen
            screen += line
        process.send_signal(signal.SIGHUP)  # nothing to read again, and no reason to end
        process.terminate()
        assert process.wait(20) == 0
    assert re.search(r"off: no certificate; `gatehouse cert init` makes one", screen)


@pytest.mark.parametrize("wire", ["https", "mqtts"])
def test_the_shell_speaks_tls(secure_server: Any, wire: str) -> None:
    """The lab authority is trusted when it is named; else the server is not."""
    shell = secure_server.shell
    ask = ("provision", "--profile", "demo", "--url", secure_server.url(wire))
    ca = str(shell.folder / "data" / "tls" / "lab-ca.pem")

    assert shell.json(*ask, "--cacert", ca)["status"] == "SUCCESS"
    stranger = shell(*ask)
    assert stranger.exit_code == 1
    assert "unable to get local issuer certificate" in stranger.stderr


def test_this_machine_trusts_its_own_lab(secure_server: Any) -> None:
    """Without --url the lab authority beside the store is trusted without being named."""
    port = {"GATEHOUSE_HTTPS_PORT": str(secure_server.ports[Wire.HTTPS])}
    told = secure_server.shell.json("provision", "--profile", "demo", "--wire", "https", **port)
    assert (told["status"], told["wire"]) == ("SUCCESS", "https")


def test_sighup_takes_a_new_certificate_up(secure_server: Any) -> None:
    """The signal ends nobody's session and no process; the new certificate is shown."""
    before = fingerprint(secure_server)
    secure_server.shell.ok("cert", "init", "--force")
    secure_server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 5
    while fingerprint(secure_server) == before:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert secure_server.process.poll() is None


def test_doctor_recognises_the_secure_ports(secure_server: Any) -> None:
    """Beside a running server all six ports are its own."""
    ports = secure_server.ports.items()
    env = {f"GATEHOUSE_{wire.value.upper()}_PORT": str(port) for wire, port in ports}
    told = secure_server.shell.json("doctor", **env)
    served = {one["check"] for one in told["checks"] if "served by Gatehouse" in one["found"]}
    assert served == {f"{wire.value} port" for wire in secure_server.ports}


def test_a_certificate_that_cannot_be_read_is_one_sentence(shell: Any) -> None:
    """The server does not start in the open what was to be secure."""
    shell.ok("cert", "init")
    path: Path = shell.folder / "data" / "tls" / "server.key"
    path.write_text("no key")
    with shell.start("serve", "--quiet", stdout=-1, stderr=-1) as process:
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "server.key" in said
