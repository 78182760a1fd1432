"""One fleet's whole life over all wires, against a model of what must be true."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from inside import Gate, serving
from wires import WIRES, knows, provision

from gateway.core.model import Secret
from gateway.settings import StoreSettings

T = TypeVar("T")

NOT_FOUND = {"errorMsg": "Provision data was not found!", "status": "NOT_FOUND"}
FAILURE = {"errorMsg": "Failed to provision device!", "status": "FAILURE"}

NAMES = st.sampled_from(["a", "b", "c"])
WIRE = st.sampled_from(WIRES)
PROFILE = st.sampled_from(["create", "waiting", "check"])


@dataclass
class Known:
    """A device as the model has it."""

    profile: str
    token: str
    waits: bool


class Life(RuleBasedStateMachine):
    """Devices of three profiles are added, provisioned, re-armed and removed, secrets rotated."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: dict[str, Known] = {}
        self.spoilt: set[str] = set()
        self.old_secrets: list[tuple[str, str]] = []
        self.rotations = 0
        self.successes = 0
        self.folder = tempfile.TemporaryDirectory()
        self.stack = AsyncExitStack()
        self.runner = asyncio.Runner()
        self.gate: Gate

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def ask(self, wire: str, request: Any) -> dict[str, Any]:
        body = json.dumps(request).encode()
        answer: dict[str, Any] = json.loads(self.run(provision(self.gate.ports, wire, body)))
        return answer

    @initialize()
    def open(self) -> None:
        memory = StoreSettings(url="sqlite::memory:")
        running = serving(Path(self.folder.name), store=memory)
        self.gate = self.run(self.stack.enter_async_context(running))

    @rule(name=NAMES, profile=PROFILE)
    def add(self, name: str, profile: str) -> None:
        """An operator adds a device that waits; a taken name is refused."""
        if name in self.devices:
            return
        token = self.run(self.gate.add(name, profile))
        self.devices[name] = Known(profile, token, waits=True)

    @rule(name=NAMES, profile=PROFILE, wire=WIRE)
    def provision(self, name: str, profile: str, wire: str) -> None:
        """The decision table of the contract, section 2.3."""
        answer = self.ask(wire, self.gate.request(name, profile=profile))
        known = self.devices.get(name)
        if known is None and profile != "check":
            assert answer["status"] == "SUCCESS"
            self.devices[name] = Known(profile, answer["credentialsValue"], waits=False)
            self.successes += 1
        elif known and known.waits and known.profile == profile != "create":
            assert answer["credentialsValue"] == known.token
            known.waits = False
            self.successes += 1
        else:
            assert answer == FAILURE

    @rule(name=NAMES, profile=PROFILE, wire=WIRE)
    def show_a_wrong_secret(self, name: str, profile: str, wire: str) -> None:
        """Nothing is said of the device, and nothing changes."""
        wrong = self.gate.request(name, profile=profile) | {"provisionDeviceSecret": "not it"}
        assert self.ask(wire, wrong) == NOT_FOUND

    @rule(name=NAMES, wire=WIRE)
    def show_an_old_secret(self, name: str, wire: str) -> None:
        """A rotated secret never works again."""
        for profile, secret in self.old_secrets[-2:]:
            old = self.gate.request(name, profile=profile) | {"provisionDeviceSecret": secret}
            assert self.ask(wire, old) == NOT_FOUND

    @rule(name=NAMES, wire=WIRE)
    def take_anothers_token(self, name: str, wire: str) -> None:
        """A new device cannot bring a token that another one has."""
        for other, known in self.devices.items():
            if name not in self.devices and other != name:
                asked = self.gate.request(name, token=known.token)
                assert self.ask(wire, asked) == FAILURE

    @rule(name=NAMES)
    def rearm(self, name: str) -> None:
        if name in self.devices:
            found = self.run(self.gate.registry.device(name))
            assert found is not None
            assert self.run(self.gate.registry.rearm_device(found))
            self.devices[name].waits = True

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if name in self.devices:
            found = self.run(self.gate.registry.device(name))
            assert found is not None
            assert self.run(self.gate.registry.remove_device(found))
            self.spoilt.add(self.devices.pop(name).token)

    @rule(profile=PROFILE)
    def rotate(self, profile: str) -> None:
        found = self.run(self.gate.profile(profile))
        self.rotations += 1
        self.old_secrets.append((profile, self.gate.secrets[profile]))
        self.gate.secrets[profile] = f"{profile}-rotated-{self.rotations}"
        fresh = Secret(self.gate.secrets[profile])
        assert self.run(self.gate.registry.rotate_secret(found, secret=fresh))

    @invariant()
    def credentials_open_what_they_should(self) -> None:
        """Every live device's token works, every removed one's does not; one event per success."""
        if not hasattr(self, "gate"):
            return
        for known in self.devices.values():
            assert self.run(knows(self.gate.ports, known.token))
        for token in list(self.spoilt)[-2:]:
            assert not self.run(knows(self.gate.ports, token))
        events = self.run(self.gate.registry.events(limit=10_000))
        granted = [e for e in events if e.kind == "device:provision" and e.outcome == "success"]
        assert len(granted) == self.successes

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
