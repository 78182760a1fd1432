"""ThingsBoard's own SDK (`tb-mqtt-client`) under remote control, one client in a process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Program


class Conversation:
    """A driver script that stays: told one call a line, it answers each with a line of JSON."""

    def __init__(self, program: Program, folder: Path, **made: Any) -> None:
        self._folder = folder
        self._log = folder / "driver.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program.path, *program.first],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env={**os.environ, "PIP_NO_INDEX": "1"},
            )
        self._say(made)

    def do(self, call: str, *arguments: Any, **keywords: Any) -> Any:
        """Call a method of what the driver drives; what it gave back."""
        return self._say({"call": call, "arguments": arguments, "keywords": keywords})

    def told(self, within_s: float = 10) -> list[Any]:
        """What the next callback was given, after the name the callback has."""
        given: list[Any] | None = self.do("take", within_s)
        assert given is not None, self._log.read_text()
        return given

    def file(self, name: str) -> Path:
        """A file the driver wrote to its folder."""
        return self._folder / name

    def _say(self, line: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self._log.read_text()  # the driver raised, and ended
        return json.loads(answer)

    def close(self) -> None:
        with self._process:
            self._process.kill()


@pytest.fixture
def tb_client(
    python_driver: Callable[[str], Program], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Conversation]]:
    """Makes clients of ThingsBoard's SDK: `tb_client("device", host=..., port=...)`."""
    with ExitStack() as opened:

        def make(kind: str, **arguments: Any) -> Conversation:
            client = Conversation(
                python_driver("tb_remote.py"),
                tmp_path_factory.mktemp("sdk"),
                make=kind,
                arguments=arguments,
            )
            opened.callback(client.close)
            return client

        yield make
