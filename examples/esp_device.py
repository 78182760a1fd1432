"""A device as firmware is written: it may lose power and network at any moment.

    python examples/esp_device.py NAME [--gateway URL] [--file FILE] [--readings N] [--every S]

GATEHOUSE_KEY and GATEHOUSE_SECRET hold the fleet's key and secret. They are needed until the
device is provisioned; from then on it lives on what is in FILE. Standard library only.

A name is provisioned once, and an answer may be lost on its way. So the device makes its token
itself, and has it on disk before it asks for it. The same request is then answered the same; after
a FAILURE (of ThingsBoard, or when it was too late) the device tries whether that token opens: then
an earlier request had succeeded and only its answer was lost.

Exit status: 0 all readings were sent, 2 an operator must act (standard error says what to do).
"""

import argparse
import json
import os
import random
import secrets
import string
import sys
import time
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
TIMEOUT_S = 15  # the gateway answers within 10 s
LATER = {408, 429, 500, 502, 503, 504}
WAITING = 202


class OperatorNeededError(Exception):
    """Asking again changes nothing. The message says what would."""


# ── what is kept ──────────────────────────────────────────────────────────────────────────────


def load(path: Path) -> dict[str, str]:
    """The credential of this device, and whether the gateway has confirmed it; empty at first."""
    try:
        kept: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return kept


def save(path: Path, kept: dict[str, str]) -> None:
    """On disk when this returns; whoever pulls the plug meanwhile finds the old file or the new."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(kept, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name is on disk, too
    finally:
        os.close(folder)


# ── talking ───────────────────────────────────────────────────────────────────────────────────


def post(url: str, body: dict[str, object]) -> tuple[int, bytes]:
    """Post until there is an answer that is more than "later"; its status and body.

    Waits twice as long each time, and at random within that, so that a fleet whose power returns
    does not ask in step. A `Retry-After` is the least it waits.
    """
    most = FIRST_WAIT_S
    while True:
        least = 0.0
        try:
            request = Request(url, json.dumps(body).encode(), method="POST")
            request.add_header("Accept", "application/json")  # refusals with `status` in words, too
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                if answer.status != WAITING:
                    return answer.status, answer.read()
                why = "an operator has to say yes first"
                least = min(float(answer.headers.get("Retry-After") or 0), LONGEST_WAIT_S)
        except HTTPError as refused:
            with refused:
                if refused.code not in LATER:
                    return refused.code, refused.read()
                why = f"the gateway answers {refused.code}"
                least = min(float(refused.headers.get("Retry-After") or 0), LONGEST_WAIT_S)
        except (OSError, HTTPException) as trouble:
            why = f"no answer ({type(trouble).__name__})"
        wait = least + random.uniform(most / 2, most)
        print(f"{why}; again in {wait:.1f} s", file=sys.stderr, flush=True)
        time.sleep(wait)
        most = min(most * 2, LONGEST_WAIT_S)


def opens(gateway: str, token: str) -> bool:
    """Whether the gateway knows the token: an empty reading stores nothing."""
    return post(f"{gateway}/api/v1/{token}/telemetry", {})[0] == 200


# ── being provisioned ─────────────────────────────────────────────────────────────────────────


def provisioned_token(gateway: str, name: str, path: Path) -> str:
    """The token of this device, confirmed by the gateway and on disk."""
    kept = load(path)
    if not kept:
        letters = string.ascii_letters + string.digits
        token = "".join(secrets.choice(letters) for _ in range(20))
        kept = {"name": name, "token": token, "state": "asked"}
        save(path, kept)
    if kept["name"] != name:
        raise OperatorNeededError(f"{path} is the file of {kept['name']}: give each device its own")
    if kept["state"] != "confirmed":
        kept = {"name": name, "token": ask(gateway, name, kept["token"]), "state": "confirmed"}
        save(path, kept)
        print(f"{name} is provisioned; its token is in {path}", flush=True)
    return kept["token"]


def ask(gateway: str, name: str, token: str) -> str:
    """Ask for `token`; the token that was given, which a pre-provisioned device had before."""
    asked: dict[str, object] = {
        "deviceName": name,
        "token": token,
        "provisionDeviceKey": fleet("GATEHOUSE_KEY"),
        "provisionDeviceSecret": fleet("GATEHOUSE_SECRET"),
    }
    status, body = post(f"{gateway}/api/v1/provision", asked)
    if status != 200:
        raise OperatorNeededError(f"{gateway} answers {status}: is it a Gatehouse, and this URL?")
    told = json.loads(body)
    if told["status"] == "NOT_FOUND":
        raise OperatorNeededError(
            "the gateway does not take the fleet's key and secret, or the profile is closed.\n"
            "Compare them at the gateway: gatehouse profile show PROFILE --reveal"
        )
    if told["status"] == "SUCCESS":
        if told["credentialsType"] != "ACCESS_TOKEN":
            raise OperatorNeededError(f"{name} was added with {told['credentialsType']}")
        return str(told["credentialsValue"])
    if opens(gateway, token):
        return token  # it had been given; the answer was lost
    raise OperatorNeededError(
        f"the name {name} is taken, was claimed before, or was never added.\n"
        "The reason stands at the gateway: gatehouse device events\n"
        f"If {name} is this device, let it be claimed once more: gatehouse device rearm {name}\n"
        f"or, where its profile lets only new devices in: gatehouse device remove {name}"
    )


def fleet(variable: str) -> str:
    try:
        return os.environ[variable]
    except KeyError:
        raise OperatorNeededError(f"{variable} is not set, and this device needs it") from None


# ── working ───────────────────────────────────────────────────────────────────────────────────


def work(gateway: str, token: str, *, readings: int, every_s: float) -> None:
    """Send so many readings; with 0, for ever."""
    sent = 0
    while not readings or sent < readings:
        if sent:
            time.sleep(every_s)
        temperature = round(random.gauss(21.5, 0.5), 2)
        status, _ = post(f"{gateway}/api/v1/{token}/telemetry", {"temperature": temperature})
        if status == 401:
            raise OperatorNeededError(
                "the gateway knows this device's token no longer: it was removed there, or given\n"
                "other credentials. To start anew, remove its file and the device at the gateway:\n"
                "gatehouse device remove NAME"
            )
        if status != 200:
            raise OperatorNeededError(f"the gateway answers a reading with {status}")
        sent += 1
        print(f"reading {sent} is stored", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="what the device is called, for example its serial number")
    parser.add_argument("--gateway", default="http://127.0.0.1:8080")
    parser.add_argument("--file", type=Path, help="where the credential is kept: NAME.json")
    parser.add_argument("--readings", type=int, default=0, help="how many; 0: for ever")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two readings")
    given = parser.parse_args()
    path = given.file or Path(f"{given.name}.json")
    try:
        token = provisioned_token(given.gateway, given.name, path)
        work(given.gateway, token, readings=given.readings, every_s=given.every)
    except OperatorNeededError as needed:
        print(needed, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
