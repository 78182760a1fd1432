"""A receiver for a profile's hooks: decides about births, and writes down what happened after.

    export BIRTH_HOOK_SECRET="$(openssl rand -hex 32)"     # the gateway has the same
    python examples/hook_receiver.py --port 9000 --allow 'WM-*'

A profile names it so:

    [hooks.before]
    url = "http://127.0.0.1:9000/before"
    secret_env = "BIRTH_HOOK_SECRET"

    [hooks.after]
    url = "http://127.0.0.1:9000/after"
    secret_env = "BIRTH_HOOK_SECRET"
    events = ["device:provision", "device:remove"]

Python's standard library alone. What to keep when you write your own: the signature is verified
over the bytes as they came, in constant time, before they are read; a request that is older than a
few minutes is refused, so that nobody can send a recorded one again; and what was told before is
taken without being done twice.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import sys
import time
from collections import OrderedDict
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

MOST_BODY = 1 << 20
MOST_AGE_S = 300
MOST_REMEMBERED = 10_000


def is_genuine(secret: bytes, timestamp: str, signature: str, body: bytes, now: float) -> bool:
    """Whether the gateway sent this body, and within the last minutes."""
    if not timestamp.isdigit() or abs(now - int(timestamp)) > MOST_AGE_S:
        return False
    digest = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v1={digest}".encode(), signature.encode())


class Receiver(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        if not size.isdigit() or int(size) > MOST_BODY:
            return self.answer(413)
        body = self.rfile.read(int(size))
        timestamp = self.headers.get("X-Gatehouse-Timestamp", "")
        signature = self.headers.get("X-Gatehouse-Signature", "")
        if not is_genuine(self.server.secret, timestamp, signature, body, time.time()):
            return self.answer(401)
        told = json.loads(body)
        if self.path == "/before":
            return self.answer(200, decide(told, self.server.allow))
        if self.server.is_new(self.headers.get("X-Gatehouse-Delivery", "")):
            say(json.dumps(told))
        return self.answer(204)

    def answer(self, status: int, said: dict | None = None) -> None:
        body = b"" if said is None else json.dumps(said).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """What was decided is printed; requests are not."""


def say(line: str) -> None:
    """Print it in one piece: several threads speak, and `print` by itself ends a line later."""
    print(f"{line}\n", end="", flush=True)


def decide(asked: dict, allow: str) -> dict:
    """Yes or no; and what the device is to have besides."""
    name = asked.get("deviceName") or ""
    say(f"{asked['profile']}: may {name!r} come, from {asked['address']}?")
    if not fnmatchcase(name, allow):
        return {"decision": "deny", "reason": f"only {allow} may come"}
    hardware = asked.get("hardware") or {}
    return {
        "decision": "allow",
        "attributes": {"batch": str(hardware.get("batch", "unknown"))},
        "groups": ["by-hook"],
    }


class Server(ThreadingHTTPServer):
    def __init__(self, port: int, secret: bytes, allow: str) -> None:
        super().__init__(("127.0.0.1", port), Receiver)
        self.secret = secret
        self.allow = allow
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = Lock()

    def is_new(self, delivery: str) -> bool:
        """Events are told at least once: whether this one was not told before."""
        with self._lock:
            new = delivery not in self._seen
            self._seen[delivery] = None
            if len(self._seen) > MOST_REMEMBERED:
                self._seen.popitem(last=False)
            return new


def main() -> None:
    parser = argparse.ArgumentParser(description="A receiver for Gatehouse's hooks.")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--allow", default="*", help="which names may come, as in 'WM-*'")
    asked = parser.parse_args()
    secret = os.environ.get("BIRTH_HOOK_SECRET", "")
    if len(secret) < 16:
        sys.exit('Set the secret first: export BIRTH_HOOK_SECRET="$(openssl rand -hex 32)"')
    with Server(asked.port, secret.encode(), asked.allow) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
