"""Passwords hashed off the loop."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher, extract_parameters

from gateway.core.errors import Overloaded
from gateway.core.model import Secret
from gateway.passwords import Argon2Passwords

RIGHT, WRONG = Secret("correct horse 1"), Secret("wrong horse 9")


@pytest.fixture
def cheap() -> Iterator[Argon2Passwords]:
    made = Argon2Passwords(memory_kib=8, passes=1)
    yield made
    made.close()


async def test_a_password_fits_its_hash_alone(cheap: Argon2Passwords) -> None:
    """Two hashes of one password differ; it fits both, another fits neither."""
    one, two = await cheap.hash(RIGHT), await cheap.hash(RIGHT)
    assert one != two
    for kept in (one, two):
        assert await cheap.verify(kept, RIGHT)
        assert not await cheap.verify(kept, WRONG)


@pytest.mark.parametrize("kept", [None, Secret(""), Secret("no hash"), Secret("$argon2id$v=19$m")])
async def test_what_is_no_hash_fits_nothing(cheap: Argon2Passwords, kept: Secret | None) -> None:
    """Nobody's password, and a damaged one, are wrong whatever is said."""
    for password in (RIGHT, Secret("")):
        assert not await cheap.verify(kept, password)


async def test_any_text_is_hashed(cheap: Argon2Passwords) -> None:
    """Also what is no valid Unicode, and zeros."""
    for text in ("\ud800", "\x00", "ä" * 1000, ""):
        assert await cheap.verify(await cheap.hash(Secret(text)), Secret(text))


async def test_the_cost_is_what_owasp_asks() -> None:
    """argon2id, 19 MiB, two passes, one lane; and that is what a hash says of itself."""
    passwords = Argon2Passwords()
    kept = (await passwords.hash(RIGHT)).reveal()
    passwords.close()
    assert re.match(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$", kept)


async def test_what_waits_is_bounded() -> None:
    """Beyond the bound it is said so at once; what waits is done, and then there is room again."""
    passwords = Argon2Passwords(max_waiting=2, memory_kib=8, passes=1)
    done = await asyncio.gather(*(passwords.hash(RIGHT) for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in done] == [Secret, Secret, Overloaded, Overloaded, Overloaded]
    await passwords.hash(RIGHT)
    passwords.close()


async def test_a_login_that_is_given_up_leaves_its_place(cheap: Argon2Passwords) -> None:
    """Whoever hangs up does not fill the queue."""
    tasks = [asyncio.ensure_future(cheap.hash(RIGHT)) for _ in range(50)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert cheap._waiting == 0
    assert await cheap.verify(await cheap.hash(RIGHT), RIGHT)


async def test_the_thread_gives_way(cheap: Argon2Passwords) -> None:
    """It has a lower priority than the loop's, which keeps its own."""
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    told = await cheap._aside(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert told == 10
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


async def test_nobody_is_found_as_slowly_as_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password of an unknown user takes what a wrong one does: one hash, at the real cost."""
    verify, costs = PasswordHasher.verify, []

    def counted(hasher: PasswordHasher, kept: str, given: bytes) -> bool:
        costs.append(extract_parameters(kept))
        return verify(hasher, kept, given)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    passwords = Argon2Passwords()
    kept = await passwords.hash(RIGHT)
    for given in (kept, None):
        assert not await passwords.verify(given, WRONG)
    passwords.close()
    known, unknown = costs
    assert known == unknown
