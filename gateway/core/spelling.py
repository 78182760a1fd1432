"""Which known word was a wrong one most likely meant to be?

Slips of the keyboard are found, and parts left out or in another order. What merely looks a
little alike is not: a guess that is far off sends people the wrong way, a list of what there is
never does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

MOST_CHARACTERS = 64
"""Of a word that is looked at; a longer one is nothing that anybody typed."""
_LEAST_BEGINNING = 3
_LEAST_TO_SLIP = 3
"""Of two letters one that is wrong makes another word; in `meter-2` it may be a slip."""
_PART = re.compile(r"[^\W_]+")


def nearest(word: str, known: Iterable[str]) -> str:
    """The sentence that leads from a wrong `word` to a right one."""
    names = list(known)
    close = closest(word, names)
    return f"Did you mean `{close}`?" if close else f"Known here: {', '.join(names)}."


def closest(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `word` was meant to be, in any case of letters; None: none is near.

    The fewest slips count (`_slips`); without any near one, the only one that says more than
    `word`, or less (`_says_more`): `timeout` is `connect_timeout`.
    """
    if not 0 < len(word) <= MOST_CHARACTERS:
        return None
    asked, names = word.lower(), list(known)
    near = [(slips, name) for name in names if (slips := _slips(asked, name.lower())) is not None]
    if near:
        return min(near, key=lambda one: one[0])[1]
    fuller = list(filter(partial(_says_more, asked), names))
    return fuller[0] if len(fuller) == 1 else None


def _says_more(word: str, name: str) -> bool:
    """Whether `name` is `word` and more: it begins so, or has all its parts.

    Or some of `word`, as long as that is most of it.
    """
    whole = name.lower()
    if len(word) >= _LEAST_BEGINNING and whole.startswith(word):
        return True
    asked, told = set(_parts(word)), set(_parts(whole))
    shared = asked & told
    if max(map(len, shared), default=0) <= _LEAST_BEGINNING:
        return False
    return shared == asked or (shared == told and 2 * _letters(told) >= _letters(asked))


def _letters(parts: Iterable[str]) -> int:
    return sum(map(len, parts))


def _slips(word: str, name: str) -> int | None:
    """How many letters are missing, too many, wrong, or swapped with the next; None: too many.

    Parts that both have are left out: `max_calls` and `max_polls` have as little in common as
    `calls` and `polls`.
    """
    asked, told = _parts(word), _parts(name)
    for part in list(asked):
        if part in told:
            asked.remove(part)
            told.remove(part)
    one, other = "".join(asked), "".join(told)
    most = _may_slip(max(len(one), len(other), min(len(word), _LEAST_TO_SLIP)))
    if abs(len(one) - len(other)) > most:
        return None
    return _distance(one, other, most)


def _parts(text: str) -> list[str]:
    return _PART.findall(text)


def _may_slip(length: int) -> int:
    if length < _LEAST_TO_SLIP:
        return 0
    return 1 if length < 7 else 2 if length < 12 else 3


def _distance(one: str, other: str, most: int) -> int | None:
    """Of Damerau and Levenshtein, each pair of letters swapped at most once; None: over `most`."""
    before: list[int] = []
    row, least = list(range(len(other) + 1)), 0
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i] + [most + 1] * len(other)
        least, less = min(i, most + 1), least
        # Whatever is further from the diagonal has more slips than there may be.
        for j in range(max(1, i - most), min(len(other), i + most) + 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other[j - 1]))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == other[j - 1]:
                cost = min(cost, last[j - 2] + 1)
            row[j] = cost
            least = min(least, cost)
        if least > most and less > most:  # from the row before a swap may still come
            return None
    return row[-1] if row[-1] <= most else None
