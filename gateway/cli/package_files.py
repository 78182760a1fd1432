"""The contents of packages, taken into the folder beside the store and out of it again."""

from __future__ import annotations

import asyncio
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from msgspec import structs

from gateway.config import Config
from gateway.core.model import Package
from gateway.core.names import printable
from gateway.core.registry import Registry
from gateway.store.packages import Added, PackageStore

_WORTH_A_BAR = 8 * 2**20


async def take_in(config: Config, package: Package, source: Path) -> Package:
    """The package with the content of `source`, which is copied; a `ClickException` otherwise."""
    folder = config.packages_dir
    if folder is None:
        raise click.ClickException(
            "there is no folder for packages: this store has none beside it. Name one in "
            "[packages] dir, or GATEHOUSE_PACKAGES_DIR, that all gateways on the store can read."
        )
    try:
        with _progress(_size(source)) as advance:
            added = await _copied(PackageStore(folder), source, package, advance)
    except OSError as exc:
        where = exc.filename or source
        raise click.ClickException(
            f"{where}: {exc.strerror or exc}. {source} must be readable, and {folder} writable "
            "with room for it."
        ) from None
    return structs.replace(
        package,
        file=added.file,
        size=added.size,
        checksum=added.checksum,
        file_name=printable(source.name),
    )


def _size(source: Path) -> int:
    """Bytes. A pipe has no size, and a device no end."""
    found = source.stat()
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        raise click.ClickException(f"{source}: is empty or no file. Give a file with content.")
    return found.st_size


async def _copied(
    files: PackageStore, source: Path, package: Package, advance: Callable[[int], None]
) -> Added:
    """Copy in a thread. Ctrl-C ends it with its next piece; nothing is left behind."""
    stopped = threading.Event()

    def progress(done: int) -> None:
        if stopped.is_set():
            raise InterruptedError
        advance(done)

    try:
        return await asyncio.to_thread(files.add, source, package.algorithm, progress)
    except asyncio.CancelledError:
        stopped.set()
        raise


async def discard(config: Config, registry: Registry, package: Package) -> None:
    """Delete a package's content, unless another package has the same."""
    folder = config.packages_dir
    shared = any(one.file == package.file for one in await registry.packages.all())
    if package.file and folder is not None and not shared:
        PackageStore(folder).remove(package.file)


@contextmanager
def _progress(size: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, for a file that takes long enough to look at it."""
    if not sys.stderr.isatty() or size < _WORTH_A_BAR:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress("copying", *columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("copying", total=size)
        yield lambda done: bar.update(task, completed=done)
