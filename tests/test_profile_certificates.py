"""`[certificate]` and `[chain]` of profile files: what is read, and how errors read."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import certs
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import profile_certificates
from gateway.core.errors import ConfigError
from gateway.core.pki.chain import device_name, read_leaf, verify_chain
from gateway.core.pki.model import CertificateProfile, ChainRule, KeyKind
from gateway.opening import draft_of
from gateway.profiles import look, read_profile

REPOSITORY = Path(__file__).parent.parent
CREATE = 'provision_type = "ALLOW_CREATE_NEW_DEVICES"\n'
CHAIN = 'provision_type = "X509_CERTIFICATE_CHAIN"\n'
FACTORY = CHAIN + '[chain]\ncertificate = { file = "f.pem" }\n'
ROOT = certs.Authority("Factory")


def write(folder: Path, text: str, name: str = "meter.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def error(path: Path) -> str:
    """The message of the error that reading `path` raises, with the folder taken off."""
    with pytest.raises(ConfigError) as caught:
        read_profile(path, {})
    return str(caught.value).replace(f"{path.parent}/", "")


def shell(folder: Path, commands: str) -> None:
    subprocess.run(["sh", "-ec", commands], cwd=folder, check=True, capture_output=True)


# ── what comes out ────────────────────────────────────────────────────────────────────────────


def test_a_profile_says_nothing_of_certificates(tmp_path: Path) -> None:
    """Then they are as the authority makes them by itself, and no factory is believed."""
    file = read_profile(write(tmp_path, CREATE), {})
    assert (file.certificate, file.chain) == (CertificateProfile(), None)


def test_a_full_certificate_table(tmp_path: Path) -> None:
    """Every key arrives, and goes into the profile as the core has it."""
    path = write(
        tmp_path,
        CREATE + "[certificate]\n"
        'dns_names = ["{name}.example", "a.example"]\n'
        'uris = ["urn:x:{profile}:{name}"]\n'
        "lifetime_days = 7300\n"
        'key_usage = ["digital_signature"]\n'
        "extended_key_usage = []\n"
        'keys = ["Ed25519", "RSA"]\n'
        "grace_days = 30\n"
        "fresh_key = true\n"
        "[certificate.subject]\n"
        'CN = "{name}"\n'
        'C = "DE"\n',
    )
    assert draft_of(read_profile(path, {})).profile.certificate == CertificateProfile(
        subject={"CN": "{name}", "C": "DE"},
        dns_names=("{name}.example", "a.example"),
        uris=("urn:x:{profile}:{name}",),
        lifetime_days=7300,
        key_usage=("digital_signature",),
        extended_key_usage=(),
        keys=(KeyKind.ED25519, KeyKind.RSA),
        grace_days=30,
        fresh_key=True,
    )


@pytest.mark.parametrize("inline", [True, False])
def test_a_full_chain_table(tmp_path: Path, inline: bool) -> None:
    """The certificate is text, or a file beside the profile."""
    write(tmp_path, ROOT.pem, "f.pem")
    certificate = f"'''\n{ROOT.pem}'''" if inline else '{ file = "f.pem" }'
    path = write(
        tmp_path,
        f"{CHAIN}[chain]\ncreate = true\npattern = '^(m-\\d+)$'\ncertificate = {certificate}\n",
    )
    rule = ChainRule(certificate=ROOT.pem, pattern=r"^(m-\d+)$", create=True)
    assert draft_of(read_profile(path, {})).profile.chain == rule


def test_a_device_must_exist_unless_it_may_be_created(tmp_path: Path) -> None:
    """As in ThingsBoard, where the flag is off at first."""
    write(tmp_path, ROOT.pem, "f.pem")
    chain = read_profile(write(tmp_path, FACTORY + "pattern = '(.+)'\n"), {}).chain
    assert chain is not None
    assert not chain.create


def test_a_closed_door_keeps_its_chain(tmp_path: Path) -> None:
    """To shut a fleet out for a while, the type alone is changed."""
    write(tmp_path, ROOT.pem, "f.pem")
    text = FACTORY.replace("X509_CERTIFICATE_CHAIN", "DISABLED") + "pattern = '(.+)'\n"
    assert read_profile(write(tmp_path, text), {}).chain == ChainRule(
        certificate=ROOT.pem, pattern="(.+)"
    )


def test_what_is_between_may_stand_behind_the_anchor(tmp_path: Path) -> None:
    """The first certificate of a text counts (section 2.8), an intermediate one or a root."""
    middle = certs.Authority("Line 1", parent=ROOT)
    write(tmp_path, middle.pem + ROOT.pem, "f.pem")
    chain = read_profile(write(tmp_path, FACTORY + "pattern = '(.+)'\n"), {}).chain
    assert chain is not None
    assert chain.certificate == middle.pem + ROOT.pem


def test_the_authority_that_does_not_say_it_is_one(tmp_path: Path) -> None:
    """A certificate of version 1 cannot: it is believed, with a warning."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    shell(
        tmp_path,
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout f.key -subj /CN=Old"
        " | openssl x509 -req -signkey f.key -out f.pem",
    )
    with structlog.testing.capture_logs() as logged:
        assert read_profile(write(tmp_path, FACTORY + "pattern = '(.+)'\n"), {}).chain
    assert [one["event"] for one in logged] == ["profile.authority_unmarked"]


def test_the_factory_example_works_as_it_says(tmp_path: Path) -> None:
    """The commands in it make a factory and a device that the profile admits."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    example = REPOSITORY / "examples" / "profiles" / "factory-certificates.toml"
    text = example.read_text("utf-8")
    script = text.partition("try it with:\n#\n")[2].partition("#\n# Copy")[0]
    commands = "\n".join(line.removeprefix("#") for line in script.splitlines())
    shell(tmp_path, commands)
    file = read_profile(Path(shutil.copy(example, tmp_path)), {})
    assert file.certificate.grace_days == 30
    assert file.chain is not None
    pem = (tmp_path / "meter-0001.pem").read_text("ascii")
    leaf = read_leaf(certs.der_of(pem))
    assert leaf.common_name == "meter-0001"
    assert device_name(file.chain, leaf) == "meter-0001"
    anchor = certs.der_of(file.chain.certificate)
    verify_chain([certs.der_of(pem)], anchor, leaf.not_before + 1000)


# ── how errors read ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("lifetime_day = 1", ["[certificate] has no setting", "Did you mean `lifetime_days`?"]),
        ("lifetime_days = 0", ["between 1 and 7300", "is 0", "`lifetime_days = 365`"]),
        ("lifetime_days = 7301", ["between 1 and 7300"]),
        ("grace_days = -1", ["between 0 and 3650"]),
        ("fresh_key = 1", ["true or false"]),
        ("subject = 'CN=x'", ["a table of texts", '`subject = { CN = "{name}", O = "Acme" }`']),
        ("subject = { CN = 1 }", ["a table of texts"]),
        ("subject = {}", ["it is empty"]),
        ("subject = { X = 'a' }", ['"X" is no attribute known here']),
        ("subject = { CN = '{nam}' }", ["braces around something else"]),
        ("subject = { CN = '{name' }", ["braces around something else"]),
        ("subject = { CN = '' }", ["a text is empty"]),
        ("subject = { CN = ' a' }", ["outer spaces"]),
        ('subject = { CN = "a\\u0007" }', ["control characters"]),
        (f"subject = {{ O = '{'x' * 65}' }}", ["O has more than 64 characters"]),
        ("subject = { C = 'Germany' }", ["two letters"]),
        ("subject = { C = 'de' }", ["two letters"]),
        ("dns_names = '{name}'", ["a list of host names", '["{name}.devices.example"]']),
        ("dns_names = ['a b']", ['"a b" is no host name']),
        ("dns_names = ['-a.b']", ["is no host name"]),
        ("dns_names = ['{serial}.b']", ["braces"]),
        ("dns_names = ['a', 'a']", ["named twice"]),
        (f"dns_names = [{','.join(repr(f'a{n}') for n in range(17))}]", ["more than 16"]),
        ("uris = ['no-scheme']", ['"no-scheme" is no URI']),
        ("uris = ['urn:a b']", ["is no URI"]),
        ("key_usage = ['key_cert_sign']", ['"key_cert_sign" is none of them']),
        ("key_usage = ['key_agreement']", ["without digital_signature no device could log in"]),
        ("key_usage = []", ["without digital_signature"]),
        ("key_usage = [1]", ['a list of "digital_signature"']),
        ("extended_key_usage = ['server_auth']", ["without client_auth"]),
        ("extended_key_usage = ['any']", ['"any" is none of them']),
        ("keys = []", ["no kind of key is left"]),
        ("keys = ['P-521']", ['"P-256", "P-384", "Ed25519", "RSA"', '`keys = ["P-256"]`']),
        ("keys = ['RSA', 'RSA']", ["named twice"]),
    ],
)
def test_errors_of_the_certificate_table(tmp_path: Path, line: str, parts: list[str]) -> None:
    """Each has its line, what is wrong, and an example that is right."""
    message = error(write(tmp_path, f"{CREATE}\n[certificate]\n{line}\n"))
    assert message.startswith("meter.toml:4: [certificate] ")
    for part in parts:
        assert part in message


def test_every_example_of_an_error_is_good(tmp_path: Path) -> None:
    """What an error message tells to write can be written."""
    for key in ("subject", "dns_names", "uris", "key_usage", "extended_key_usage", "keys"):
        message = error(write(tmp_path, f"{CREATE}[certificate]\n{key} = 1\n"))
        advised = message.partition("Write for example `")[2].removesuffix("`.")
        assert advised.startswith(f"{key} = ")
        read_profile(write(tmp_path, f"{CREATE}[certificate]\n{advised}\n"), {})


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        (CHAIN, 1, ["needs a section [chain]", 'file = "factory-root.pem"']),
        (CHAIN + "chain = 1\n", 2, ["`chain` is a section"]),
        (CREATE + "[chain]\n", 2, ["[chain] belongs to", "X509_CERTIFICATE_CHAIN"]),
        (
            'provision_type = "DISABLED"\nprovision_key = "eight-or-more"\n[chain]\n',
            2,
            ["a profile with [chain] takes no provision_key"],
        ),
        (FACTORY, 2, ["[chain] pattern is missing", "`pattern = "]),
        (FACTORY + "patern = '(.+)'\n", 4, ["[chain] has no", "Did you mean `pattern`?"]),
        (FACTORY + "pattern = ''\n", 4, ["[chain] pattern must be an RE2 expression"]),
        (FACTORY + "pattern = 1\n", 4, ["no look-around"]),
        (FACTORY + "pattern = '.+'\n", 4, ["[chain] pattern must", "group"]),
        (FACTORY + "pattern = '(a'\n", 4, ["[chain] pattern must", '"^(meter-[0-9]+)$"']),
        (FACTORY + "pattern = '(?=a)(b)'\n", 4, ["no look-around and no back references"]),
        (FACTORY + "pattern = '(a)\\1'\n", 4, ["no look-around and no back references"]),
        (FACTORY + f"pattern = '({'a' * 255})'\n", 4, ["at most 256 characters"]),
        (FACTORY + "pattern = '(.+)'\ncreate = 1\n", 5, ["true or false"]),
        (CHAIN + "[chain]\npattern = '(.+)'\n", 2, ["must be the text of a PEM file"]),
        (CHAIN + "[chain]\npattern = '(.+)'\ncertificate = 1\n", 4, ["text of a PEM file"]),
        (CHAIN + "[chain]\npattern = '(.+)'\ncertificate = ''\n", 4, ["cannot be read"]),
        (CHAIN + "[chain]\ncertificate = { file = 'x' }\n", 3, ["cannot be had", "no such file"]),
    ],
)
def test_errors_of_the_chain_table(tmp_path: Path, text: str, line: int, parts: list[str]) -> None:
    """Each has its line, what is wrong, and what to do."""
    write(tmp_path, ROOT.pem, "f.pem")
    message = error(write(tmp_path, text))
    assert message.startswith(f"meter.toml:{line}: ")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("pem", "part"),
    [
        (certs.Authority("x", ca=None).pem, "is not a certificate authority's"),
        (certs.self_signed("d").pem, "is not a certificate authority's"),
        (ROOT.issue("d").pem, "is not a certificate authority's"),
        (certs.Authority("x", ca=False).pem, "is not a certificate authority's"),
        (certs.Authority("x", key_usage=("crl_sign",)).pem, "is not a certificate authority's"),
        (ROOT.key_pem + ROOT.pem, "holds a private key"),
        (ROOT.pem.replace("M", "!", 1), "cannot be read"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
    ],
)
def test_what_cannot_be_an_anchor(tmp_path: Path, pem: str, part: str) -> None:
    """A certificate that signs none, or is none; and no key ever stays in the store."""
    write(tmp_path, pem, "f.pem")
    path = write(tmp_path, FACTORY + "pattern = '(.+)'\n")
    message = error(path)
    assert message.startswith("meter.toml:3: [chain] certificate ")
    assert part in message
    assert "AAAA" not in message


def test_a_public_authority_is_nobodys_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody has a certificate from one of those: ThingsBoard's own words refuse it."""
    monkeypatch.setattr(profile_certificates, "_trusted", lambda: iter([ROOT.der]))
    profile_certificates._well_known.cache_clear()
    write(tmp_path, ROOT.pem, "f.pem")
    try:
        message = error(write(tmp_path, FACTORY + "pattern = '(.+)'\n"))
    finally:
        profile_certificates._well_known.cache_clear()
    assert "Device profile certificate cannot be well known root CA!" in message


def test_an_anchor_that_no_file_gives_is_proven_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no device's certificate and no public authority's admits a fleet."""
    wrong = {
        ROOT.pem + ROOT.key_pem: "private key",
        ROOT.issue("device").pem: "not a certificate authority's",
        "PEM?": "no certificate",
    }
    for text, told in wrong.items():
        with pytest.raises(ValueError, match=told):
            profile_certificates.prove_anchor(text)
    profile_certificates.prove_anchor(ROOT.pem)
    monkeypatch.setattr(profile_certificates, "_trusted", lambda: iter([ROOT.der]))
    profile_certificates._well_known.cache_clear()
    try:
        with pytest.raises(ValueError, match="well known root CA"):
            profile_certificates.prove_anchor(ROOT.pem)
    finally:
        profile_certificates._well_known.cache_clear()


def test_the_systems_own_list_is_found() -> None:
    """Where the system has one; a system without is no error."""
    for der in list(profile_certificates._trusted())[:3]:
        assert read_leaf(der).id


def test_a_pattern_that_ruins_others_is_harmless(tmp_path: Path) -> None:
    """regex_bomb: RE2 takes time by the length of the name, whatever the pattern."""
    write(tmp_path, ROOT.pem, "f.pem")
    assert read_profile(write(tmp_path, FACTORY + "pattern = '(a+)+$'\n"), {}).chain


_VALUES = st.sampled_from(
    [
        *("1", "''", "'x'", "[]", "['a']", "{}", "{ CN = 'a' }", "{ file = 'f.pem' }", "true"),
        *("['{name}']", "[[1]]", "1979-05-27", "nan", "'(?P<n>.)'", "'(*)'", '"\\u0000(.)"'),
    ]
)
_KEYS = st.sampled_from(
    [*CertificateProfile.__struct_fields__, *ChainRule.__struct_fields__, "x", "subject.CN"]
)
_LINES = st.lists(st.tuples(_KEYS, _VALUES).map(" = ".join), max_size=4).map("\n".join)


@given(_LINES, _LINES, st.sampled_from([CREATE, CHAIN]))
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_tables_are_read_or_refused(tmp_path: Path, one: str, two: str, head: str) -> None:
    """Whatever they hold, it is a profile or a one-line ConfigError."""
    write(tmp_path, ROOT.pem, "f.pem")
    path = write(tmp_path, f"{head}[certificate]\n{one}\n[chain]\n{two}\n")
    message = message_of(path)
    assert message is None or (message.startswith(str(path)) and message.isprintable())


def message_of(path: Path) -> str | None:
    try:
        read_profile(path, {})
    except ConfigError as exc:
        return str(exc)
    return None


# ── a folder ──────────────────────────────────────────────────────────────────────────────────


def test_certificates_beside_profiles_are_watched(tmp_path: Path) -> None:
    """A factory's certificate that is replaced counts like a changed profile."""
    write(tmp_path, ROOT.pem, "f.pem")
    assert list(look(tmp_path)) == ["f.pem"]
