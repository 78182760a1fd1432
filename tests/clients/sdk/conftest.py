"""ThingsBoard's own SDK (`tb-mqtt-client`) under remote control, one client in a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from clients.conftest import Conversation, Program


class Client(Conversation):
    """One client of the SDK in a process of its own, told what to do one call a line."""

    def __init__(self, program: Program, folder: Path, **made: Any) -> None:
        super().__init__(program, folder)
        self._folder = folder
        self.say(**made)

    def do(self, call: str, *arguments: Any, **keywords: Any) -> Any:
        """Call a method of what the driver drives; what it gave back."""
        return self.say(call=call, arguments=arguments, keywords=keywords)

    def told(self, within_s: float = 10) -> list[Any]:
        """What the next callback was given, after the name the callback has."""
        given: list[Any] | None = self.do("take", within_s)
        assert given is not None, self.log.read_text()
        return given

    def file(self, name: str) -> Path:
        """A file the driver wrote to its folder."""
        return self._folder / name


@pytest.fixture
def tb_client(
    python_driver: Callable[[str], Program], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Client]]:
    """Makes clients of ThingsBoard's SDK: `tb_client("device", host=..., port=...)`."""
    with ExitStack() as opened:

        def make(kind: str, **arguments: Any) -> Client:
            client = Client(
                python_driver("tb_remote.py"),
                tmp_path_factory.mktemp("sdk"),
                make=kind,
                arguments=arguments,
            )
            opened.callback(client.close)
            return client

        yield make
