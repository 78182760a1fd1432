"""Measures `gatehouse import`: rows a second, and the most memory it took.

`make bench-import` makes a table of a million devices with types, labels, customers and tokens,
imports it into a new store and once more, when nothing changes. ROWS=100000 takes less time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LEAST_RATE = 10_000
MOST_MIB = 150
_ROOT = Path(__file__).resolve().parents[2]


def write_table(path: Path, rows: int) -> None:
    """Devices of five types and a hundred customers, each with a token and an attribute."""
    with path.open("w", encoding="utf-8") as file:
        file.write("name,type,label,customer,access_token,server:batch\n")
        for n in range(rows):
            file.write(
                f"meter-{n:09d},type-{n % 5},Meter number {n},Customer {n % 100},"
                f"token-{n * 2654435761 % 2**32:010d}-{n:09d},{n // 1000}\n"
            )


def imported(table: Path, folder: Path) -> tuple[float, float, float]:
    """Import in a process of its own: seconds, those of the processor, and MiB at most."""
    store = {"GATEHOUSE_STORE_URL": f"sqlite:{folder}/data/gatehouse.db"}
    env = os.environ | store | {"PYTHONPATH": str(_ROOT)}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "import", str(table)], env=env, cwd=folder
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the import ended with {process.returncode}")
    worked = usage.ru_utime + usage.ru_stime
    return time.monotonic() - began, worked, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="gatehouse-import-") as name:
        folder = Path(name)
        table = folder / "devices.csv"
        write_table(table, rows)
        for title in ("new", "again"):
            seconds, worked, mib = imported(table, folder)
            rate = rows / seconds
            print(
                f"{title}: {rows:,} rows in {seconds:.1f} s, {rate:,.0f} rows/s, "
                f"{worked / rows * 1e6:.0f} µs of processor each, {mib:.0f} MiB"
            )
            if rate < LEAST_RATE or mib > MOST_MIB:
                print(f"  less than {LEAST_RATE:,} rows/s, or more than {MOST_MIB} MiB")


if __name__ == "__main__":
    main()
