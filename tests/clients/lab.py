"""Devices with keys and certificates, as files for other people's clients; clients that stay."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import certs

if TYPE_CHECKING:
    from tests.clients.conftest import Program, RunningGateway

WAIT_S = 10.0
OBSERVED = r"c:2\.05 [^\n]*Observe:0"
"""What libcoap's client prints of the answer that begins an observation."""
CUT_S = 1.0
"""Within which a revocation must end what is connected."""


class Papers(NamedTuple):
    """The files of a certificate (PEM, then its issuers without the root) and of its key."""

    certificate: str
    key: str


class Asked(NamedTuple):
    """The files of a key and of a signing request for it (PEM)."""

    key: str
    csr: str

    @property
    def text(self) -> str:
        return Path(self.csr).read_text("ascii")


class Lab:
    """What a factory and a device's own tools do; everything is written below one folder."""

    def __init__(self, gate: RunningGateway, openssl: Program, folder: Path) -> None:
        self.openssl = openssl
        self.folder = folder
        self._gate = gate

    def file(self, name: str, content: str | bytes = b"") -> str:
        """Write a file; its path."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    # ── certificates ────────────────────────────────────────────────────────────────────────

    def from_factory(self, name: str, *, plant: bool = False) -> Papers:
        """A certificate that makes its owner a device; `plant`: there is an issuer in between."""
        by = certs.Authority("Plant", parent=self._gate.factory) if plant else self._gate.factory
        return self.papers(by.issue(name), name)

    def papers(self, issued: certs.Issued, stem: str) -> Papers:
        return Papers(*map(str, issued.files(self.folder, stem)))

    def called(self, kind: str) -> str:
        """The common name of this test's `stranger` or `expired`, which no other test has."""
        return f"f-{kind}-{self.folder.name}"

    def stranger(self) -> Papers:
        """Of an authority that nobody believes."""
        return self.papers(certs.stranger(self._gate.factory, self.called("stranger")), "stranger")

    def expired(self) -> Papers:
        """A factory's, and its time is over."""
        return self.papers(
            certs.expired_leaf(self._gate.factory, self.called("expired")), "expired"
        )

    def asks(self, stem: str, *, cn: str = "whoever") -> Asked:
        """A new key and a signing request, made by `openssl req`."""
        asked = Asked(str(self.folder / f"{stem}.key"), str(self.folder / f"{stem}.csr"))
        done = self.openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={cn}", "-keyout", asked.key, "-out", asked.csr),
        )
        assert done.status == 0, done
        return asked

    def given(self, asked: Asked, answer: dict[str, Any]) -> Papers:
        """The files of what a signing request was answered with; the key was ours all along."""
        assert answer["status"] == "SUCCESS", answer
        assert answer["credentialsType"] == "X509_CERTIFICATE"
        chain = answer["certificate"] + answer["certificateChain"]
        return Papers(self.file(f"{secrets.token_hex(4)}.pem", chain), asked.key)

    def certified(self, name: str) -> Papers:
        """A new device that was given a certificate for its signing request, over plain HTTP."""
        asked = self.asks(name)
        return self.given(asked, self._gate.provision(name, csr=asked.text))

    @cached_property
    def authority(self) -> tuple[str, str]:
        """The files of the gateway's own root, and of its issuing certificate and issuers."""
        root = self.file("root.pem", self._gate.operate("ca", "export", "--root"))
        return root, self.file("issuing.pem", self._gate.operate("ca", "export"))

    def verify(self, papers: Papers, *more: str) -> bool:
        """Whether openssl believes the certificate, knowing the gateway's root alone."""
        root, _ = self.authority
        given = ("-untrusted", papers.certificate, papers.certificate)
        done = self.openssl("verify", "-x509_strict", "-CAfile", root, *more, *given)
        assert (done.status == 0) == (": OK" in done.out), done
        return done.status == 0

    # ── operating ───────────────────────────────────────────────────────────────────────────

    def revoke(self, name: str) -> float:
        """Take the credentials of a device back, as an operator does; when that was done."""
        self._gate.operate("credential", "revoke", name, "--yes", "--reason", "key-compromise")
        return time.monotonic()

    def why_refused(self, subject: str) -> str:
        """The reason of the newest refusal that is written down for a device or certificate."""
        events = json.loads(self._gate.operate("device", "events", "--json"))
        found = [one for one in events if one["subject"] == subject and one["reason"]]
        reason: str = max(found, key=lambda one: one["seq"])["reason"]
        return reason


def until(condition: Callable[[], bool], within_s: float = WAIT_S) -> None:
    """Wait for it; fails when it does not come in time."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class Watched:
    """A program that stays, and what it has printed so far."""

    def __init__(self, command: Sequence[str | bytes], out: Path) -> None:
        self._out = out
        with out.open("wb") as file:
            # It would keep what it prints to itself until its buffer is full.
            self._process = subprocess.Popen(
                ("stdbuf", "-oL", *command),
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def until(self, pattern: str, within_s: float = WAIT_S) -> re.Match[str]:
        """The first match of `pattern` in its output; fails when there is none in time."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            found = re.search(pattern, self.printed())
            if found is not None:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} not in {self.printed()!r}")

    def printed(self) -> str:
        return self._out.read_text(errors="replace")

    def say(self, line: bytes) -> None:
        """Type something into it."""
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def status(self, within_s: float = 2 * WAIT_S) -> int:
        """Let it end by itself; its exit status."""
        return self._process.wait(within_s)

    def kill(self) -> None:
        with self._process:
            self._process.kill()
