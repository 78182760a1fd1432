"""How long a page of 100 out of a million devices takes, by text, order and who asks.

    python tests/bench/list_page.py [--devices 1000000] [--store FILE]

Makes the store once and keeps it when it is named. The customer has a tenth of the devices.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from gateway.core.inventory import Inventory
from gateway.core.model import (
    Actor,
    DeviceOrder,
    DeviceQuery,
    Organisation,
    Peer,
    Permission,
    User,
    Wire,
)
from gateway.core.tokens import new_token
from gateway.store.search import SearchIndexer
from gateway.store.sql_inventory import SqlInventory
from gateway.store.sql_store import SqlStore
from gateway.store.sqlite import SqliteDriver
from gateway.store.vault import Vault

ROOT = Organisation(id=1, uuid="", name="root", path="/1/")
CUSTOMER = Organisation(id=2, uuid="", name="Acme", path="/1/2/", parent_id=1)
TEXTS = {
    "none": "",
    "common": "meter",
    "rare": "7f3a9",
    "absent": "zebra",
    "2 common": "7f",
    "2 rare": "qz",
}
RUNS = 5


def fill(path: Path, devices: int) -> float:
    """Devices with names like `meter-0a1b2c-42`, each tenth of a customer. Seconds it took."""
    began = time.perf_counter()
    db = sqlite3.connect(path)
    db.execute(
        "INSERT INTO organisation (id, uuid, parent_id, name, path, created_at)"
        " VALUES (2, x'02', 1, 'Acme', '/1/2/', 0)"
    )
    db.execute(
        "INSERT INTO device_profile (id, uuid, organisation_id, name, settings, transport,"
        " created_at) VALUES (1, x'01', 1, 'meters', '{}', 'DEFAULT', 0)"
    )
    numbers = range(1, devices + 1)
    db.executemany(
        "INSERT INTO device (id, uuid, organisation_id, profile_id, name, type, gateway,"
        " created_at, customer_id, label) VALUES (?, ?, 1, 1, ?, 'meters', 0, 0, ?, ?)",
        (
            (
                n,
                n.to_bytes(16),
                f"{'qz' if n % 500_000 == 1 else ''}meter-{n * 2654435761 % 2**24:06x}-{n}",
                2 if n % 10 == 0 else None,
                f"hall {n % 97}" if n % 3 == 0 else "",
            )
            for n in numbers
        ),
    )
    db.executemany(
        "INSERT INTO credentials (device_id, generation, type, digest, sealed, created_at)"
        " VALUES (?, 1, 'ACCESS_TOKEN', ?, x'00', 0)",
        ((n, n.to_bytes(32)) for n in numbers),
    )
    db.execute("UPDATE sequence SET last = ? WHERE name = 'device'", (devices,))
    db.commit()
    db.close()
    return time.perf_counter() - began


def actor(organisation: Organisation) -> Actor:
    user = User(id=5, uuid="", organisation_id=organisation.id, email="a@b.example", role="")
    return Actor(
        peer=Peer(Wire.HTTP, "127.0.0.1"),
        organisation=organisation,
        permissions=frozenset(Permission),
        user=user,
    )


async def measure(inventory: Inventory, who: Actor, query: DeviceQuery) -> tuple[float, int, int]:
    """The median in milliseconds of some runs, how many devices came, and the total told."""
    took = []
    for _ in range(RUNS):
        began = time.perf_counter()
        page = await inventory.page(who, query)
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), len(page.data), page.total


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--store", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = asked.store or Path(folder) / "g.db"
        store = SqlStore(SqliteDriver(path), Vault(bytes(32)))
        await store.open()
        if not (await store.driver.rows("count_devices"))[0][0]:
            print(f"filled in {fill(path, asked.devices):.1f} s")
            began = time.perf_counter()
            await SearchIndexer(store).catch_up(everything=True)
            print(f"indexed in {time.perf_counter() - began:.1f} s, pauses included")
        inventory = Inventory(store, SqlInventory(store), clock=lambda: 0, new_token=new_token)
        print(f"{'who':9}{'order':11}{'text':9}{'page':>5}{'ms':>9}{'devices':>9}{'total':>9}")
        for who, organisation in (("root", ROOT), ("customer", CUSTOMER)):
            for order in DeviceOrder:
                for name, text in TEXTS.items():
                    query = DeviceQuery(text=text, order=order)
                    took, count, total = await measure(inventory, actor(organisation), query)
                    print(f"{who:9}{order:11}{name:9}{0:5}{took:9.1f}{count:9}{total:9}")
            for page, descending in ((500, False), (0, True)):
                query = DeviceQuery(page=page, order=DeviceOrder.NAME, descending=descending)
                took, count, total = await measure(inventory, actor(organisation), query)
                order = "name desc" if descending else "name"
                print(f"{who:9}{order:11}{'none':9}{page:5}{took:9.1f}{count:9}{total:9}")
        await store.close()


if __name__ == "__main__":
    asyncio.run(main())
