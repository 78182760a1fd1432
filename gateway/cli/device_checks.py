"""What `doctor` asks about serving devices: templates, packages, and who answers their calls."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.cli.checks import Finding, doubtful, good, wrong
from gateway.config import Config

_CONNECT_S = 2.0


def templates(config: Config) -> Iterator[Finding]:
    """Which profile files Blynk's devices may name, and two that have one name."""
    from gateway.opening import VALIDATORS
    from gateway.profiles import read_profiles

    check = "templates"
    files, _ = read_profiles(config.profiles_dir, validators=VALIDATORS)
    named: dict[str, str] = {}
    for file in files:
        name = str(file.sections.get("blynk", {}).get("template_id", ""))
        if name in named:
            yield doubtful(
                check,
                f"{named[name]} and {file.path} are both template {name}",
                "Devices get the profile that is older; give one of them another template_id.",
            )
        elif name:
            named[name] = str(file.path)
    if named:
        yield good(check, ", ".join(named))


def packages(config: Config) -> Iterator[Finding]:
    """Is there a folder for firmware and software, and can it be written?"""
    path = config.packages_dir
    if path is None:
        yield good("packages", "no folder for firmware; name one with [packages] dir to serve any")
    elif not path.exists():
        yield good("packages", f"{path}: not yet; made with the first package")
    elif not path.is_dir():
        yield wrong("packages", f"{path} is no folder", "Move it away, or set [packages] dir.")
    elif not os.access(path, os.W_OK | os.X_OK):
        yield wrong("packages", f"{path} cannot be written", "Give it to the server's user.")
    else:
        kept = [one for one in path.iterdir() if one.is_file()]
        size = sum(one.stat().st_size for one in kept)
        yield good("packages", f"{path}, {len(kept)} files, {size / 2**20:,.1f} MiB")


def hook(config: Config) -> Iterator[Finding]:
    """Does anybody listen where devices' calls are put to? Nothing is sent there."""
    if not config.rpc.hook:
        return
    address = urlsplit(config.rpc.hook)
    host = address.hostname or ""
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as exc:
        yield doubtful(
            "hook",
            f"nobody answers at {host}:{port} ({exc.strerror or exc})",
            "Start the service of [rpc] hook, or mend its address: until then devices' calls of "
            "methods that are not built in are answered with an error.",
        )
    else:
        yield good("hook", f"somebody listens at {host}:{port}")
