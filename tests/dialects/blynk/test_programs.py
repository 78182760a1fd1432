"""Connections of OAuth clients, by their clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.dialects.blynk.line import Line
from gateway.dialects.blynk.programs import MOST_REVOKED, Programs


class Ends:
    """The transport's side of a connection, which notes how it was ended."""

    version = 5

    def __init__(self) -> None:
        self.codes: list[int] = []

    def push(
        self,
        topic: str,
        body: bytes,
        delivered: Callable[[], None] | None = None,
        *,
        unasked: int = 1,
    ) -> bool:
        return True

    def close(self, code: int, reason: str = "") -> None:
        self.codes.append(code)


def opened() -> tuple[Line, Ends]:
    line, link = Line(lambda: 0), Ends()
    line.open(link)
    return line, link


async def test_a_revoked_client_loses_its_connections() -> None:
    """Those it has, and those that open just now; other clients keep theirs, and what is over is
    not ended again."""
    programs = Programs()
    lines = [opened() for _ in range(5)]
    for number, (line, _) in zip((1, 1, 2, 1), lines, strict=False):
        programs.enter(number, line)
    programs.leave(1, lines[3][0])
    programs.revoked(1)
    programs.enter(1, lines[4][0])
    await asyncio.sleep(0)
    assert [link.codes for _, link in lines] == [[0x98], [0x98], [], [], [0x98]]
    assert len(programs) == 1
    programs.leave(2, lines[2][0])
    programs.leave(2, lines[2][0])
    assert len(programs) == 0


async def test_all_may_have_to_log_in_again() -> None:
    """Where it is not known whose client was revoked: all connections end, and may open anew."""
    programs = Programs()
    (line, link), (other, its_link), (again, kept) = opened(), opened(), opened()
    programs.enter(1, line)
    programs.enter(2, other)
    programs.end_all()
    programs.leave(1, line)
    programs.enter(1, again)
    await asyncio.sleep(0)
    assert (link.codes, its_link.codes, kept.codes) == ([0x98], [0x98], [])
    assert len(programs) == 1


async def test_what_is_remembered_is_bounded() -> None:
    """The clients that were revoked first are forgotten first."""
    programs = Programs()
    for number in range(MOST_REVOKED + 1):
        programs.revoked(number)
    (first, kept), (last, ended) = opened(), opened()
    programs.enter(0, first)
    programs.enter(MOST_REVOKED, last)
    await asyncio.sleep(0)
    assert (kept.codes, ended.codes) == ([], [0x98])
