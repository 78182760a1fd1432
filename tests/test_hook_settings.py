"""Hooks in a profile file: what may be written, and what a start says of those that cannot run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import ConfigError
from gateway.core.model import DeviceProfile, HookRule, OnFailure, Policy
from gateway.hooks import Hooks
from gateway.profiles import read_profile


def read(folder: Path, hooks: str) -> Policy:
    path = folder / "meters.toml"
    path.write_text(f'provision_type = "ALLOW_CREATE_NEW_DEVICES"\n{hooks}')
    return read_profile(path).policy


def test_a_profile_file_names_hooks(tmp_path: Path) -> None:
    policy = read(
        tmp_path,
        """
[hooks.before]
url = "https://erp.example/before"
secret_env = "BIRTH_HOOK_SECRET"
deadline_ms = 500
on_failure = "allow"

[hooks.after]
entry_point = "fleet_rules.after:heard"
events = ["device:provision", "device:remove"]
""",
    )
    assert policy.before == HookRule(
        url="https://erp.example/before",
        secret_env="BIRTH_HOOK_SECRET",
        deadline_ms=500,
        on_failure=OnFailure.ALLOW,
    )
    assert policy.after is not None
    assert policy.after.entry_point == "fleet_rules.after:heard"
    assert policy.after.events == ("device:provision", "device:remove")


@pytest.mark.parametrize(
    "hook",
    [
        '[hooks.before]\nurl = "https://e.example/"',
        '[hooks.before]\nurl = "https://e.example/"\nsecret_env = "GATEHOUSE_MASTER_KEY"',
        '[hooks.before]\nurl = "https://e.example/"\nsecret_env = "lower"',
        '[hooks.before]\nurl = "ftp://e.example/"\nsecret_env = "S"',
        '[hooks.before]\nurl = "https://u:p@e.example/"\nsecret_env = "S"',
        '[hooks.before]\nentry_point = "no function"',
        '[hooks.before]\nentry_point = "a:b"\nurl = "https://e.example/"\nsecret_env = "S"',
        '[hooks.before]\nentry_point = "a:b"\ndeadline_ms = 60000',
        '[hooks.after]\nentry_point = "a:b"\nevents = ["device:nonsense"]',
        '[hooks.after]\nentry_point = "a:b"\nevents = ["hook:dead"]',
        '[hooks.between]\nentry_point = "a:b"',
    ],
)
def test_what_is_no_hook_is_refused_with_its_line(tmp_path: Path, hook: str) -> None:
    """Before anything is saved; what stands there is not repeated where it may be a secret."""
    with pytest.raises(ConfigError, match=r"meters\.toml") as caught:
        read(tmp_path, hook)
    assert "u:p@" not in str(caught.value)


@pytest.mark.parametrize("name", ["GATEHOUSE_HOOK_SECRET", "ERP_SECRET"])
def test_a_secret_is_named_by_a_variable_that_is_not_ours(tmp_path: Path, name: str) -> None:
    hook = f'[hooks.after]\nurl = "http://e.example/"\nsecret_env = "{name}"'
    policy = read(tmp_path, hook)
    assert policy.after is not None
    assert policy.after.secret_env == name


async def test_a_start_says_which_hooks_cannot_run_and_why(store: Any) -> None:
    """Of which profile; those that can are not mentioned, and nothing is called."""

    def profile(name: str, rule: HookRule, source: str | None = "x.toml") -> DeviceProfile:
        return DeviceProfile(id=1, name=name, policy=Policy(before=rule), source=source)

    web = HookRule(url="http://127.0.0.1:9/", secret_env="GOOD")
    hooks = Hooks(store, {"GOOD": "a-secret-of-both-sides"})
    wrong = await hooks.prove(
        [
            profile("good", web),
            profile("unset", HookRule(url="http://127.0.0.1:9/", secret_env="ABSENT")),
            profile("code", HookRule(entry_point="no_such_module_here:f")),
            profile("saved", HookRule(entry_point="json:loads"), None),
            DeviceProfile(id=1, name="plain"),
        ]
    )
    await hooks.close(0.1)
    assert wrong == [
        "profile unset, [hooks.before]: the environment variable ABSENT is not set",
        "profile code, [hooks.before]: no_such_module_here cannot be imported "
        "(ModuleNotFoundError)",
        "profile saved, [hooks.before]: only a profile file may name an entry point",
    ]
    assert not asyncio.all_tasks() - {asyncio.current_task()} - set(_of_the_store())


def _of_the_store() -> list[Any]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "store.writer"]
