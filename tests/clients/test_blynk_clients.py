"""Blynk's libraries: blynklib (command 2), blynk-library-python and npm's blynk-library (29).

All are older than templates, so their own INTERNAL message names none. A program that uses them
names it in one more (`info`), or claims the token over HTTP before. blynklib hangs up on any status
but 200, which is therefore what an INTERNAL message without a template is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clients.conftest import Conversation
from clients.lab import until
from clients.office import INVALID, PROVISION, Office, Reply
from clients.running import TEMPLATE

if TYPE_CHECKING:
    from tests.clients.conftest import Program, RunningGateway

INFO = ["ver", "1.0.0", "fw-type", TEMPLATE, "tmpl", TEMPLATE]


class Library:
    """One of the libraries, in a process of its own for each device."""

    def __init__(self, name: str, driver: Program, port: int, folder: Path) -> None:
        self.name = name
        self._driver = driver
        self._port = port
        self._folder = folder
        self._running: list[Conversation] = []

    def device(self, token: str) -> tuple[Conversation, Any]:
        """A device that tries to log in, and how that went."""
        one = Conversation(self._driver, self._folder)
        self._running.append(one)
        return one, one.say(do="connect", port=self._port, token=token)

    def close(self) -> None:
        for one in self._running:
            one.close()


@pytest.fixture(params=["blynklib", "blynk-library-python", "blynk-library"])
def library(
    request: pytest.FixtureRequest,
    python_driver: Callable[..., Program],
    node_driver: Callable[[str], Program],
    gate: RunningGateway,
    tmp_path: Path,
) -> Iterator[Library]:
    drivers = {
        "blynklib": lambda: python_driver("blynk_login2.py", of="blynk"),
        "blynk-library-python": lambda: python_driver("blynk_login29.py", of="blynk"),
        "blynk-library": lambda: node_driver("blynkjs.js"),
    }
    made = Library(request.param, drivers[request.param](), gate.blynk_tcp, tmp_path)
    yield made
    made.close()


def born(office: Office) -> tuple[str, int]:
    """The token and the number of a device that claimed it over HTTP."""
    token, number = office.issue()
    assert office.device("provision", token, templateId=TEMPLATE).status == 200
    return token, number


def test_it_works_with_a_claimed_token(
    library: Library, office: Office, gate: RunningGateway
) -> None:
    """It logs in, is online, writes, reads back, pings, and hears what is written to it."""
    token, number = born(office)
    device, told = library.device(token)
    assert told == {"connected": True, "login": 200, "info": 200}
    assert office.is_online(number)

    assert device.say(do="write", pin=1, values=["21.5"]) == {"status": 200}
    assert office.device("get", token, v1="") == Reply(200, 21.5)
    assert gate.readings(f"Meter {number}") == {"temperature": 21.5}
    assert device.say(do="ping") == {"status": 200}

    assert office.device("update", token, v0="1").status == 200
    assert device.say(do="heard", pin=0) == {"values": ["1"]}
    assert [float(one) for one in device.say(do="sync", pin=1)["values"]] == [21.5]


def test_it_claims_its_token(library: Library, office: Office, gate: RunningGateway) -> None:
    """A pending token logs in; the message that names the template makes the device."""
    token, number = office.issue()
    device, told = library.device(token)
    assert told == {"connected": True, "login": 200, "info": 200}
    assert not office.is_claimed(token)
    assert not office.is_online(number)

    assert device.say(do="info", words=INFO) == {"status": 200}

    assert office.is_online(number)
    assert device.say(do="write", pin=1, values=["4.5"]) == {"status": 200}
    assert gate.readings(f"Meter {number}") == {"temperature": 4.5}


def test_a_wrong_template_claims_nothing(library: Library, office: Office) -> None:
    """It is told so, stays connected, and may name the right one."""
    token, number = office.issue()
    device, _ = library.device(token)
    refused = device.say(do="info", words=["ver", "1", "tmpl", "TMPLnobody000"])
    assert refused["status"] != 200
    assert not office.is_claimed(token)
    assert device.say(do="info", words=INFO) == {"status": 200}
    assert office.is_online(number)


def test_a_token_that_nobody_was_given(library: Library) -> None:
    """Is answered with status 9."""
    _, told = library.device("nobody-was-ever-given-this-token")
    assert (told["connected"], told["login"]) == (False, 9)


def test_it_is_told_to_reconfigure(library: Library, office: Office) -> None:
    """The console's word for it arrives, and the answer of the Platform API is honest."""
    token, number = born(office)
    reconfigure = ("POST", f"{PROVISION}/reconfigure", {"deviceId": number})
    assert office.ask(*reconfigure) == Reply(200, {"deviceIsOffline": True})
    device, _ = library.device(token)
    assert office.ask(*reconfigure) == Reply(200, {"deviceIsOffline": False})
    assert device.say(do="told")["words"][0] == "config"


def test_the_older_of_two_ends(library: Library, office: Office) -> None:
    """A second device with the same token takes the place of the first."""
    token, number = born(office)
    first, _ = library.device(token)
    second, told = library.device(token)
    assert told["connected"]
    assert first.say(do="gone") == {"connected": False}
    assert second.say(do="ping") == {"status": 200}
    assert office.is_online(number)


def test_a_new_token_ends_the_old_ones_session(library: Library, office: Office) -> None:
    """When the new token is claimed, not before; the device has its number and its values still."""
    token, number = born(office)
    device, _ = library.device(token)
    assert device.say(do="write", pin=1, values=["7.5"]) == {"status": 200}
    renewed = office.reissue(number)
    assert device.say(do="ping") == {"status": 200}

    assert office.device("provision", renewed.token, templateId=TEMPLATE).status == 200

    assert renewed.device == number
    assert device.say(do="gone") == {"connected": False}
    until(lambda: office.device("getAll", token) == Reply(400, INVALID))
    assert office.device("get", renewed.token, v1="") == Reply(200, 7.5)
