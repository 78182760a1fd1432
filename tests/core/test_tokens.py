"""Random names and tokens."""

from __future__ import annotations

import os
import string
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tokens import new_key, new_token, random_bytes


@given(st.integers(min_value=1, max_value=200))
def test_tokens_are_alphanumeric_and_long_enough(length):
    """A token has exactly the letters and digits asked for."""
    token = new_token(length)
    assert len(token) == length
    assert set(token) <= set(string.ascii_letters + string.digits)


def test_no_token_comes_twice():
    """Ten thousand tokens are ten thousand different ones."""
    assert len({new_token() for _ in range(10_000)}) == 10_000


def test_all_letters_are_equally_likely():
    """Over 124,000 letters none is 15 % off its share (a biased modulo would be 25 %)."""
    counts = Counter(new_token(124_000))
    assert len(counts) == 62
    assert all(abs(count - 2000) < 300 for count in counts.values())


@given(st.lists(st.integers(min_value=0, max_value=5000), max_size=20))
def test_bytes_are_never_short(sizes):
    """Whatever is asked for, before and after a refill, comes in full."""
    assert [len(random_bytes(size)) for size in sizes] == sizes


def test_a_forked_child_gets_other_bytes():
    """What was read ahead is not used by both sides of a fork."""
    read, write = os.pipe()
    random_bytes(1)
    child = os.fork()
    if child == 0:
        os.write(write, random_bytes(16))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 16) != random_bytes(16)
    os.close(read)
    os.close(write)


def test_keys_have_no_zero_bytes():
    """Whoever takes a key for a C string has all of it; all other bytes come up."""
    keys = [new_key() for _ in range(2000)]
    assert {len(key) for key in keys} == {32}
    assert set().union(*keys) == set(range(1, 256)) - {0x0A}
    assert len(set(keys)) == 2000
