"""What a soak remembers, and how it judges: readings that were acknowledged, and memory."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

MOST_NAMED = 5
"""Examples of a trouble that are told."""
FEWEST_SAMPLES = 9
"""Of memory; with fewer nothing is said of its growth."""
TOLERATED_SHARE = 0.10
TOLERATED_KIB = 10 * 1024


class Ledger:
    """Readings by device: numbers count up, `base_ts + number` is the time, the number the value.

    One byte for each number. A reading whose acknowledgement never came is in nobody's debt.
    """

    def __init__(self, base_ts: int) -> None:
        self.base_ts = base_ts
        self._numbers: dict[str, bytearray] = {}

    def take(self, device: str) -> int:
        """The next number of a device."""
        numbers = self._numbers.setdefault(device, bytearray())
        numbers.append(0)
        return len(numbers) - 1

    def acknowledge(self, device: str, number: int) -> None:
        """The server said that it has the reading."""
        self._numbers[device][number] = 1

    @property
    def acknowledged(self) -> int:
        return sum(sum(numbers) for numbers in self._numbers.values())

    @property
    def devices(self) -> list[str]:
        return list(self._numbers)

    def lost(self, device: str, stored: Iterable[tuple[int, object]]) -> list[int]:
        """Numbers that were acknowledged and are not in `stored`, `(ts, value)` of each reading."""
        left = bytearray(self._numbers[device])
        for ts, value in stored:
            number = ts - self.base_ts
            if 0 <= number < len(left) and value == number:
                left[number] = 0
        return [number for number, owed in enumerate(left) if owed]


class Tally:
    """How often what happened, by kind; and what should not have happened, by what it was."""

    def __init__(self) -> None:
        self.did: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()

    def count(self, kind: str, number: int = 1) -> None:
        self.did[kind] += number

    def unexpected(self, kind: str, what: object) -> None:
        self.wrong[f"{kind}: {what}"[:200]] += 1

    def expect(self, kind: str, got: object, *wanted: object) -> None:
        """Count what happened; under `wrong` when it was none of what was wanted."""
        self.did[kind] += 1
        if got not in wanted:
            self.unexpected(kind, got)


class Memory(Struct, frozen=True):
    """What became of the server's memory, in KiB. `judged` is false with too few samples."""

    judged: bool
    middle: int = 0
    last: int = 0

    @property
    def allowed(self) -> int:
        return max(TOLERATED_KIB, round(self.middle * TOLERATED_SHARE))

    @property
    def grew(self) -> bool:
        return self.judged and self.last - self.middle > self.allowed


def judge_memory(samples_kib: Sequence[int]) -> Memory:
    """The first third of the samples is warm-up. The median of the last third may exceed that of
    the middle third by a tenth of it or by 10 MiB, whichever is more."""
    if len(samples_kib) < FEWEST_SAMPLES:
        return Memory(judged=False)
    third = len(samples_kib) // 3
    middle = statistics.median_high(samples_kib[third : 2 * third])
    return Memory(True, middle, statistics.median_high(samples_kib[2 * third :]))


class Verdict(Struct, frozen=True, kw_only=True):
    """All that was found at the end of a soak. It passed when there is nothing in `faults`."""

    acknowledged: int
    lost: Sequence[str]
    memory: Memory
    wrong: Counter[str]
    complaints: Sequence[str]
    died: bool = False
    untried: Sequence[str] = ()

    @property
    def faults(self) -> list[str]:
        """One line for each thing that must not be."""
        faults = ["the server process died"] if self.died else []
        if not self.acknowledged:
            faults.append("no reading was acknowledged at all")
        if self.lost:
            faults.append(f"{len(self.lost)} acknowledged readings lost: {_some(self.lost)}")
        if self.memory.grew:
            grown = (self.memory.last - self.memory.middle) / 1024
            faults.append(f"the server's memory grows: {grown:.1f} MiB from middle to last third")
        faults += [f"{what} ({times} times)" for what, times in self.wrong.most_common()]
        if self.complaints:
            faults.append(
                f"{len(self.complaints)} errors in the server's log: {_some(self.complaints)}"
            )
        return faults + [f"never came about: {kind}" for kind in self.untried]


def _some(all_of_them: Sequence[str]) -> str:
    more = len(all_of_them) - MOST_NAMED
    return "; ".join(all_of_them[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
