"""Profile files: what is read, how errors read, and that no secret is ever told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.errors import ConfigError
from gateway.core.model import ProfileTransport, ProvisionType, Secret
from gateway.dialects.thingsboard.profile import prove_section
from gateway.opening import VALIDATORS
from gateway.profiles import MAX_PROFILES, ProfileFile, look, read_profile, read_profiles, watch

REPOSITORY = Path(__file__).parent.parent
CREATE = 'provision_type = "ALLOW_CREATE_NEW_DEVICES"\n'


def write(folder: Path, text: str, name: str = "meter.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def error(path: Path, environ: dict[str, str] | None = None) -> str:
    """The message of the error that reading `path` raises, with the folder taken off."""
    with pytest.raises(ConfigError) as caught:
        read_profile(path, environ or {})
    return str(caught.value).replace(f"{path.parent}/", "")


# ── what comes out ────────────────────────────────────────────────────────────────────────────


def test_a_full_file(tmp_path: Path) -> None:
    """Every key of a profile file arrives, literals as well as what the environment holds."""
    path = write(
        tmp_path,
        'name = "water meter"\n'
        'provision_type = "CHECK_PRE_PROVISIONED_DEVICES"\n'
        'description = "two\\nlines"\n'
        'transport = "COAP"\n'
        "pre_provision_allowed = true\n"
        "require_readable_certificate = true\n"
        "claiming_allowed = false\n"
        "gateway_may_adopt = false\n"
        "readings_keep_days = 30\n"
        'provision_key = "wm-2026-key"\n'
        'provision_secret = { env = "WM_SECRET" }\n'
        "[limits]\n"
        'messages = "10:1,300:60"\n'
        'telemetry_points = ""\n'
        'provisions_per_address = "100:60"\n'
        "[blynk]\n"
        'template_id = "TMPL1aB2cD3eF"\n'
        "pins = [1, 2.5, true, { a = 1 }]\n",
    )
    assert read_profile(path, {"WM_SECRET": "s3cr3t-from-outside"}) == ProfileFile(
        name="water meter",
        provision_type=ProvisionType.CHECK_PRE_PROVISIONED_DEVICES,
        description="two\nlines",
        transport=ProfileTransport.COAP,
        pre_provision_allowed=True,
        require_readable_certificate=True,
        claiming_allowed=False,
        gateway_may_adopt=False,
        readings_keep_days=30,
        limits={
            "messages": "10:1,300:60",
            "telemetry_points": "",
            "provisions_per_address": "100:60",
        },
        provision_key=Secret("wm-2026-key"),
        provision_secret=Secret("s3cr3t-from-outside"),
        sections={"blynk": {"template_id": "TMPL1aB2cD3eF", "pins": [1, 2.5, True, {"a": 1}]}},
        path=path,
    )


def test_what_may_be_left_out(tmp_path: Path) -> None:
    """A file with a type alone is a profile named like the file, whose pair the store makes."""
    path = write(tmp_path, CREATE)

    assert read_profile(path, {}) == ProfileFile(
        name="meter", provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES, path=path
    )


def test_the_shipped_profiles() -> None:
    """The profiles that come with the product are good, and hold no key and no secret."""
    profiles, errors = read_profiles(REPOSITORY / "profiles", {}, validators=VALIDATORS)

    assert not errors
    assert {p.name: p.provision_type.value for p in profiles} == {
        "blynk": "DISABLED",
        "demo": "ALLOW_CREATE_NEW_DEVICES",
        "disabled": "DISABLED",
        "pre-provisioned": "CHECK_PRE_PROVISIONED_DEVICES",
    }
    assert all(p.provision_key is None and p.provision_secret is None for p in profiles)


def test_the_example_profiles() -> None:
    """The profile that is shown as an example of protobuf is good."""
    path = REPOSITORY / "examples" / "profiles" / "air-quality-protobuf.toml"
    profile = read_profile(path, {}, validators={"thingsboard": prove_section})
    assert profile.provision_type is ProvisionType.ALLOW_CREATE_NEW_DEVICES


def test_a_profile_does_not_show_its_secrets(tmp_path: Path) -> None:
    """The text of a profile holds neither its key nor its secret."""
    path = write(
        tmp_path, CREATE + 'provision_key = "hunter2-key"\nprovision_secret = "hunter2-secret"\n'
    )
    assert "hunter2" not in repr(read_profile(path, {}))


# ── how errors read ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        ("", 1, ["provision_type is missing", '"ALLOW_CREATE_NEW_DEVICES"']),
        (CREATE + "nmae = 'x'\n", 2, ["no setting `nmae`", "Did you mean `name`?"]),
        (CREATE + "provision_secrt = 'hunter2'\n", 2, ["Did you mean `provision_secret`?"]),
        (CREATE + "[blink]\n", 2, ["no setting `blink`", "Did you mean `blynk`?"]),
        (CREATE + "blynk = 'hunter2'\n", 2, ["`blynk` is a section", "[blynk]"]),
        (CREATE + "limits = 'hunter2'\n", 2, ["`limits` is a section", "[limits]"]),
        (CREATE + "[limits]\nmesages = '1:1'\n", 3, ["[limits] has no", "mean `messages`?"]),
        (
            CREATE + "[limits]\nprovisions = '1'\n",
            3,
            ["provisions", "how many in how many seconds"],
        ),
        (
            CREATE + "[limits]\nmessages = '1:0'\n",
            3,
            ['is "1:0"', "whole numbers", '"10:1,300:60"'],
        ),
        (CREATE + "[limits]\nmessages = 10\n", 3, ["how many in how many seconds", "is 10"]),
        (CREATE + "readings_keep_days = 0\n", 2, ["between 1 and 36500", "keep_days = 30`"]),
        (CREATE + "claiming_allowed = 'no'\n", 2, ["true or false"]),
        (CREATE + "[thingsboard]\na = { file = 'no.proto' }\n", 3, ["no.proto: there is no such"]),
        (CREATE + "[thingsboard]\na = { file = '.' }\n", 3, ["a cannot be had", "is not a file"]),
        (CREATE + "[blynk]\nx = 1979-05-27\n", 2, ["[blynk] holds a value", "dates in quotes"]),
        (CREATE + "[blynk]\nx = nan\n", 2, ["[blynk] holds a value"]),
        (CREATE + f"[blynk]\nx = 0x{'f' * 5000}\n", 2, ["[blynk] holds a value"]),
        ("\nprovision_type = 'ALLOW_CREATE_NEW_DEVICE'\n", 2, ["`ALLOW_CREATE_NEW_DEVICES`?"]),
        ("provision_type = 1\n", 1, ["provision_type must be one of", "is 1"]),
        (CREATE + "transport = 'mqtt'\n", 2, ['one of "DEFAULT", "MQTT", "COAP"', "mean `MQTT`?"]),
        (CREATE + "pre_provision_allowed = 'yes'\n", 2, ["true or false"]),
        (CREATE + "name = ''\n", 2, ["name must be 1 to 255 characters"]),
        (CREATE + "name = ' a'\n", 2, ["outer spaces"]),
        (CREATE + "name = 'a '\n", 2, ["outer spaces"]),
        (CREATE + 'name = "a\\u0007b"\n', 2, ["control characters", "a\\x07b"]),
        (CREATE + f"name = '{'n' * 256}'\n", 2, ["1 to 255 characters"]),
        (CREATE + "name = 3\n", 2, ["is 3", '`name = "water-meter"`']),
        (CREATE + f"description = '{'d' * 1025}'\n", 2, ["at most 1024"]),
        (CREATE + "provision_key = 'hunter2'\n", 2, ["provision_key must be 8 to 255"]),
        (CREATE + f"provision_key = '{'hunter2' * 40}'\n", 2, ["8 to 255"]),
        (CREATE + 'provision_secret = "hunter2hunter2\\n"\n', 2, ["line breaks"]),
        (CREATE + "provision_secret = 12345678\n", 2, ['{ env = "METER_SECRET" }']),
        (CREATE + "provision_key = ['hunter2hunter2']\n", 2, ['{ env = "METER_KEY" }']),
        (CREATE + "provision_key = { en = 'hunter2' }\n", 2, ["table with `env`"]),
        (CREATE + "provision_key = { env = 'A', x = 'hunter2' }\n", 2, ["table with `env`"]),
        (CREATE + "provision_key = { env = 'hunter2hunter2' }\n", 2, ["variable in capitals"]),
        (CREATE + "provision_key = { env = 'SHORT' }\n", 2, ["SHORT must be 8", "export SHORT=."]),
        (CREATE + "provision_key = { env = 'METER' }\n", 2, ["not set", "`export METER=...`"]),
        (
            "provision_type = 'X509_CERTIFICATE_CHAIN'\nprovision_key = 'hunter2hunter2'\n",
            2,
            ["takes no provision_key", "Remove it"],
        ),
        (CREATE + "provision_key = hunter2hunter2\n", 2, ["is not TOML"]),
    ],
)
def test_errors_name_line_and_remedy(
    tmp_path: Path, text: str, line: int, parts: list[str]
) -> None:
    """Whatever is wrong in a file, the message has its line, a remedy, and no secret."""
    message = error(write(tmp_path, text), {"SHORT": "hunter2"})

    assert message.startswith(f"meter.toml:{line}:")
    assert "hunter2" not in message
    for part in parts:
        assert part in message


def test_a_section_takes_the_text_of_a_file(tmp_path: Path) -> None:
    """What a section names as a file is read beside the profile, and its text is what is kept."""
    (tmp_path / "x.proto").write_bytes(b"one\r\ntwo\n")
    path = write(tmp_path, CREATE + "[thingsboard]\na = { file = 'x.proto' }\nb = { file = 1 }\n")

    sections = read_profile(path, {}).sections
    assert sections == {"thingsboard": {"a": "one\ntwo\n", "b": {"file": 1}}}


def test_a_dialect_proves_its_table(tmp_path: Path) -> None:
    """A validator sees its table and the transport; its error stands at the key it begins with."""
    seen: list[object] = []

    def refuse(section: object, transport: ProfileTransport) -> None:
        seen.append((section, transport))
        raise ValueError("b is too long. Shorten it.")

    path = write(tmp_path, CREATE + "transport = 'MQTT'\n[blynk]\na = 1\nb = 2\n")
    with pytest.raises(ConfigError) as caught:
        read_profile(path, {}, validators={"blynk": refuse, "thingsboard": refuse})

    assert str(caught.value) == f"{path}:5: [blynk] b is too long. Shorten it."
    assert seen == [({"a": 1, "b": 2}, ProfileTransport.MQTT)]


def test_a_fault_of_a_schema_has_its_line(tmp_path: Path) -> None:
    """A schema that does not compile is told with the profile's line, and with its own."""
    write(tmp_path, 'syntax = "proto3";\nmessage A { foo b = 1; }\n', "x.proto")
    path = write(
        tmp_path,
        f"{CREATE}transport = 'COAP'\n[thingsboard]\npayload = 'PROTOBUF'\n"
        "attributes_schema = 'x'\ntelemetry_schema = { file = 'x.proto' }\n",
    )
    profiles, errors = read_profiles(tmp_path, {}, validators={"thingsboard": prove_section})

    assert profiles == []
    assert [str(error) for error in errors] == [
        f'{path}:6: [thingsboard] telemetry_schema: line 2, column 13: "foo" is not defined.'
    ]


def test_a_file_name_that_is_no_profile_name(tmp_path: Path) -> None:
    """A name taken from the file's must be as good as a written one."""
    assert "name must be" in error(write(tmp_path, CREATE, "a\tb.toml"))


_OUTSIDE = "n" * 7  # too short; not a literal, since Hypothesis tries those as values
_KEYS = st.sampled_from(
    [
        *("name", "provision_type", "transport", "description", "pre_provision_allowed"),
        *("provision_key", "provision_secret", "blynk", "[blynk]", "x", "provision_key.env"),
    ]
)
_VALUES = st.sampled_from(
    [
        *("'DISABLED'", "'MQTT'", "true", "1", "nan", "[]", "{}", "{ env = 'A' }", "{ env = 1 }"),
        *("''", "'eight-or-more'", "1979-05-27", "'''\n'''", "", "{ env = 'A', b = 1 }"),
        *('"\\ufffe\\u2028"', f"0x{'f' * 5000}", "[" * 50 + "]" * 50),
    ]
)
_LINES = st.lists(st.tuples(_KEYS, _VALUES).map(" = ".join), max_size=5).map("\n".join)


@given(st.one_of(st.binary(max_size=200), _LINES.map(str.encode)))
@settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever a file holds, it is a profile or a one-line ConfigError without the environment."""
    path = tmp_path / "any.toml"
    path.write_bytes(content)
    message = message_of(path)

    assert message is None or message.startswith(str(path))
    assert message is None or message.isprintable()
    assert message is None or _OUTSIDE not in message


def message_of(path: Path) -> str | None:
    try:
        read_profile(path, {"A": _OUTSIDE})
    except ConfigError as exc:
        return str(exc)
    return None


# ── a folder ──────────────────────────────────────────────────────────────────────────────────


def test_a_folder_is_read_in_order_and_past_errors(tmp_path: Path) -> None:
    """Good files are read by file name; a bad one is an error beside them."""
    for name in ("c.toml", "a.toml"):
        write(tmp_path, CREATE, name)
    write(tmp_path, "x = 1\n", "b.toml")
    (tmp_path / "d.toml").mkdir()
    profiles, errors = read_profiles(tmp_path, {})

    assert [p.name for p in profiles] == ["a", "c"]
    assert [str(e).split(":")[0] for e in errors] == [f"{tmp_path}/b.toml", f"{tmp_path}/d.toml"]


def test_what_editors_leave_is_not_read(tmp_path: Path) -> None:
    """Hidden files, locks, backups and other files are nobody's profile."""
    for name in (".a.toml", ".#a.toml", "#a.toml#", "~a.toml", "a.toml~", "a.toml.bak", "a.txt"):
        write(tmp_path, "x", name)

    assert read_profiles(tmp_path, {}) == ([], [])
    assert look(tmp_path) == {}


def test_a_missing_folder_has_no_profiles(tmp_path: Path) -> None:
    """A folder that is not there is no error: the store may hold profiles of its own."""
    assert read_profiles(tmp_path / "absent", {}) == ([], [])


def test_a_file_instead_of_a_folder_is_an_error(tmp_path: Path) -> None:
    """A folder setting that names a file is told, not overlooked."""
    profiles, errors = read_profiles(write(tmp_path, CREATE), {})

    assert profiles == []
    assert "Check [profiles] dir." in str(errors[0])


def test_a_folder_of_too_many_files(tmp_path: Path) -> None:
    """A folder with more files than any gateway has profiles is refused as a whole."""
    for number in range(MAX_PROFILES + 1):
        (tmp_path / f"{number}.toml").touch()
    profiles, errors = read_profiles(tmp_path, {})

    assert profiles == []
    assert f"more than {MAX_PROFILES}" in str(errors[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CREATE + "name = 'same'\n", 'same name "same"'),
        (CREATE + "provision_key = 'hunter2-key'\n", "same provision_key"),
    ],
)
def test_two_files_may_not_share(tmp_path: Path, text: str, said: str) -> None:
    """Of two files with one name or one key the first is kept, and the error names both."""
    write(tmp_path, text, "a.toml")
    write(tmp_path, text, "b.toml")
    profiles, errors = read_profiles(tmp_path, {})

    assert [p.path.name for p in profiles] == ["a.toml"]
    assert len(errors) == 1
    assert str(errors[0]).startswith(f"{tmp_path}/b.toml: has the {said} as {tmp_path}/a.toml.")
    assert "hunter2" not in str(errors[0])


# ── watching ──────────────────────────────────────────────────────────────────────────────────

EVERY_S = 0.02


class Applied:
    """Counts the calls of `apply`, and raises what it is told to."""

    def __init__(self) -> None:
        self.times = 0
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.times += 1
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def watching(folder: Path, applied: Applied, **options: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(watch(folder, applied, EVERY_S, **options))
    await asyncio.sleep(0)  # the first look is taken
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(EVERY_S / 2)


async def test_every_kind_of_change_is_applied(tmp_path: Path) -> None:
    """A file that comes, changes, is replaced or goes is applied, each once."""
    applied = Applied()
    path = tmp_path / "a.toml"
    async with watching(tmp_path, applied):
        path.write_text("one")
        await until(lambda: applied.times == 1)
        path.write_text("three")
        await until(lambda: applied.times == 2)
        write(tmp_path, "other", "new").replace(path)
        await until(lambda: applied.times == 3)
        path.unlink()
        await until(lambda: applied.times == 4)
        await asyncio.sleep(5 * EVERY_S)
    assert applied.times == 4


async def test_a_changed_schema_is_applied(tmp_path: Path) -> None:
    """A schema beside the profiles is part of them: its change is applied."""
    applied = Applied()
    async with watching(tmp_path, applied):
        (tmp_path / "a.proto").write_text("one")
        await until(lambda: applied.times == 1)


async def test_what_was_there_is_not_applied(tmp_path: Path) -> None:
    """Files that stay as they were, and files that are no profiles, apply nothing."""
    applied = Applied()
    write(tmp_path, "x")
    async with watching(tmp_path, applied):
        write(tmp_path, "x", "notes.txt")
        await asyncio.sleep(5 * EVERY_S)
    assert applied.times == 0


async def test_a_change_before_the_watch_is_not_lost(tmp_path: Path) -> None:
    """With the look taken before the files were read, a change since then is applied."""
    applied = Applied()
    since = look(tmp_path)
    write(tmp_path, "x")
    async with watching(tmp_path, applied, since=since):
        await until(lambda: applied.times == 1)


async def test_a_file_still_being_written_is_waited_for(tmp_path: Path) -> None:
    """As long as every look differs from the one before, nothing is applied."""
    applied = Applied()
    path = tmp_path / "a.toml"
    async with watching(tmp_path, applied):
        for length in range(40):
            path.write_text("x" * length)
            await asyncio.sleep(EVERY_S / 4)
        early = applied.times
        await until(lambda: applied.times == early + 1)
    assert early == 0


@pytest.mark.parametrize("raised", [ConfigError("a.toml:1: bad"), RuntimeError("broken")])
async def test_a_failed_change_does_not_end_the_watch(tmp_path: Path, raised: Exception) -> None:
    """What applying raises is logged, and the next change is applied all the same."""
    applied = Applied()
    applied.error = raised
    with structlog.testing.capture_logs() as events:
        async with watching(tmp_path, applied):
            write(tmp_path, "x", "a.toml")
            await until(lambda: applied.times == 1)
            write(tmp_path, "x", "b.toml")
            await until(lambda: applied.times == 2)
    assert len(events) == 2
    assert {event["log_level"] for event in events} == {"error"}


def test_a_folder_that_goes_away_looks_empty(tmp_path: Path) -> None:
    """Looking at a folder that is gone, or at a broken link in one, raises nothing."""
    (tmp_path / "broken.toml").symlink_to("nowhere")
    write(tmp_path, "x", "z.toml")

    assert look(tmp_path / "gone") == {}
    assert list(look(tmp_path)) == ["z.toml"]


async def test_a_change_that_could_not_be_applied_is_tried_again(tmp_path: Path) -> None:
    """While the store cannot be written a changed file waits; it is not forgotten."""
    from gateway.core.errors import StoreUnavailable

    calls: list[int] = []

    async def apply() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise StoreUnavailable("locked")

    seen = look(tmp_path)
    (tmp_path / "a.toml").write_text("new")
    watching = asyncio.create_task(watch(tmp_path, apply, 0.02, since=seen))
    async with asyncio.timeout(10):
        while len(calls) < 3:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    watching.cancel()
    assert len(calls) == 3
