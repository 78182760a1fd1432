"""Guesses at what was meant: real slips are found, and far-off words are not answered with one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.spelling import MOST_CHARACTERS, closest, nearest

COMMANDS = (
    *("serve", "doctor", "provision", "approve", "pending", "secret", "device", "profile"),
    *("export", "import", "explain", "firmware", "role", "user", "ca", "chaos", "refusals"),
)
CHANGES = ("add", "list", "show", "remove", "rename", "rotate", "revoke", "create", "claim")
KEYS = (
    *("port", "host", "enabled", "max_connections", "connect_timeout_s", "max_polls", "url"),
    *("allow_list", "deny_list", "networks", "secret_env", "certificate_file", "key_file"),
)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("prot", "port"),
        ("enabeld", "enabled"),
        ("Enable", "enabled"),
        ("MAX_CONECTIONS", "max_connections"),
        ("max-connections", "max_connections"),
        ("maxconnection", "max_connections"),
        ("connections_max", "max_connections"),
        ("connect_timout_s", "connect_timeout_s"),
        ("timeout", "connect_timeout_s"),
        ("connect", "connect_timeout_s"),
        ("certificate", "certificate_file"),
        ("cert", "certificate_file"),
        ("allowlist", "allow_list"),
        ("deny_lsit", "deny_list"),
        ("secret", "secret_env"),
        ("netwroks", "networks"),
        ("utl", "url"),
    ],
)
def test_slips_are_found(word: str, meant: str) -> None:
    """Letters too many, too few, wrong or swapped; parts in another order, or left out."""
    assert closest(word, KEYS) == meant
    assert nearest(word, KEYS) == f"Did you mean `{meant}`?"


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("revoke", ("role", "serve")),
        ("create", ("rotate", "rename", "secret")),
        ("frobnicate", CHANGES),
        ("answer", COMMANDS),
        ("colour", KEYS),
        ("import", ("port", "host")),
        ("transport", ("port", "host")),
        ("export", ("port", "explain")),
        ("hours", ("host", "chaos")),
        ("claims", ("limits", "list")),
        ("max_calls", KEYS),
        ("max_banana", KEYS),
        ("GATEHOUSE_HTTP_BANANA", tuple(f"GATEHOUSE_HTTP_{key.upper()}" for key in KEYS)),
        ("list", KEYS),  # two have it: which one is not said
        ("max", KEYS),
        ("xy", ("ca", "xs", "xyz-b")),
        ("_", KEYS),
        ("", KEYS),
        ("port" * MOST_CHARACTERS, KEYS),
    ],
)
def test_far_off_words_are_answered_with_what_there_is(word: str, known: tuple[str, ...]) -> None:
    """A wrong guess is worse than none: it reads as if the program knew."""
    assert closest(word, known) is None
    assert nearest(word, known) == f"Known here: {', '.join(known)}."


def test_the_fewest_slips_count() -> None:
    """Whichever comes first in the list."""
    for known in (("rename", "remove"), ("remove", "rename")):
        assert closest("remvoe", known) == "remove"
    assert closest("meter-2", ("gauge-2", "meter-1")) == "meter-1"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([word for word in (*COMMANDS, *CHANGES, *KEYS) if len(word) > 2]),
    st.sampled_from("aeqz"),
    st.data(),
)
def test_one_slip_is_always_found(word: str, letter: str, data: st.DataObject) -> None:
    """Of a word of three letters or more, wherever it is."""
    at = data.draw(st.integers(0, len(word) - 1))
    before, after = word[:at], word[at + 1 :]
    for wrong in (before + after, before + letter + word[at:], before + letter + after):
        assert closest(wrong, ["nothing like it", word]) == word


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300), st.lists(st.text(max_size=40), max_size=5))
def test_any_text_is_answered(word: str, known: list[str]) -> None:
    """With one of those that are there, or with none."""
    assert closest(word, known) in (None, *known)
