"""Certificates signed here, the first and later ones, and keys for DTLS: on every wire."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import certs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.core.access import Access
from gateway.core.authorities import Authorities
from gateway.core.certifying import Certifier
from gateway.core.limits import Limits, RateLimiter, parse_rate
from gateway.core.model import Identity, Peer, ProvisionType, Wire
from gateway.core.pki.authority import file_signer
from gateway.core.pki.model import CertificateProfile
from gateway.core.provisioning import Provisioner
from gateway.dialects.thingsboard import device_api_pb2 as wire
from gateway.wire.call import Admitted, Format, Hello, Rejected, Reply, Status

if TYPE_CHECKING:
    from conftest import Client, House

DAY_MS = 86_400_000
CREATE = ProvisionType.ALLOW_CREATE_NEW_DEVICES
FAILURE = b'{"errorMsg":"Failed to provision device!","status":"FAILURE"}'
WAYS = ("mqtt", "http", "coap")
RENEW = "v1/devices/me/certificate/request/7"


def asked(name: str, profile: str = "meters", **fields: Any) -> str:
    pair = {
        "provisionDeviceKey": f"{profile}-key-0001",
        "provisionDeviceSecret": f"{profile}-secret-0001",
    }
    return json.dumps({"deviceName": name, **pair, **fields})


async def provision(house: House, way: str, body: str | bytes) -> Reply:
    if way != "mqtt":
        _, reply = await house.ask(Wire(way), "POST /api/v1/provision", body)
        return reply
    peer = Peer(Wire.MQTTS, "192.0.2.7:50123")
    admitted = await house.dialect.connect(Hello("provision", None, None, peer, 5))
    assert isinstance(admitted, Admitted)
    raw = body.encode() if isinstance(body, str) else body
    answered: tuple[Any, Reply] = await admitted.router.answer("/provision/request", raw, peer)
    return answered[1]


def leaf_of(reply: Reply) -> x509.Certificate:
    value = json.loads(reply.body)["credentialsValue"]
    return x509.load_der_x509_certificate(b64decode(value))


def named(leaf: x509.Certificate) -> str:
    return leaf.subject.rfc4514_string()


# ── the first certificate ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", WAYS)
async def test_a_signing_request_in_pem_is_answered_in_pem(house: House, way: str) -> None:
    """Leaf and issuers can be written to files as they come; the root is not among them."""
    await house.profile(provision_type=CREATE)
    key = certs.new_key()
    reply = await provision(house, way, asked("d", csr=certs.csr(key, cn="whatever")))
    told = json.loads(reply.body)
    assert list(told) == [
        *("credentialsValue", "credentialsType", "status"),
        *("certificate", "certificateChain"),
    ]
    assert (told["credentialsType"], told["status"]) == ("X509_CERTIFICATE", "SUCCESS")
    leaf = x509.load_pem_x509_certificate(told["certificate"].encode())
    assert leaf == leaf_of(reply)
    assert leaf.public_key() == key.public_key()
    assert named(leaf) == "CN=d"
    (issuer,) = x509.load_pem_x509_certificates(told["certificateChain"].encode())
    leaf.verify_directly_issued_by(issuer)
    assert issuer.issuer != issuer.subject


@pytest.mark.parametrize("way", WAYS)
async def test_a_signing_request_in_base64_is_answered_in_base64(house: House, way: str) -> None:
    """For devices that would rather not read PEM."""
    await house.profile(provision_type=CREATE)
    csr = certs.base64_of(certs.csr())
    kind = "X509_CERTIFICATE"
    reply = await provision(house, way, asked("d", csr=csr, credentialsType=kind))
    told = json.loads(reply.body)
    assert list(told)[3:] == ["certificateChain"]
    (issuer,) = told["certificateChain"]
    leaf_of(reply).verify_directly_issued_by(x509.load_der_x509_certificate(b64decode(issuer)))


@pytest.mark.parametrize("form", [str, certs.base64_of])
async def test_a_root_that_signs_by_itself_has_no_issuers(house: House, form: Any) -> None:
    """The answer to a signing request has the same members whoever signs."""
    root = certs.Authority("elsewhere")
    signer = file_signer(root.pem.encode(), root.key_pem.encode(), None, now=house.clock())
    operator = Peer(Wire.SHELL, "tester")
    authorities = Authorities(house.store, house.clock, operator, file=signer)
    certifier = Certifier(house.store, authorities, house.parts["profiles"], house.clock)
    provisioner = Provisioner(
        house.store, clock=house.clock, new_token=str, readable=bool, certifier=certifier
    )
    house.begin(provisioner=provisioner, certifier=certifier)
    await house.profile(provision_type=CREATE)
    reply = await provision(house, "http", asked("d", csr=form(certs.csr())))
    told = json.loads(reply.body)
    leaf_of(reply).verify_directly_issued_by(root.certificate)
    if form is str:
        assert x509.load_pem_x509_certificate(told["certificate"].encode()) == leaf_of(reply)
        assert told["certificateChain"] == ""
    else:
        assert told["certificateChain"] == []


async def test_a_waiting_device_gets_a_certificate_as_well(house: House) -> None:
    """Instead of the token it was added with, which is nobody's from then on."""
    token = await house.add()
    reply = await provision(house, "http", asked("d", csr=certs.csr()))
    assert named(leaf_of(reply)) == "CN=d"
    _, gone = await house.ask(Wire.HTTP, f"POST /api/v1/{token}/telemetry", "{}")
    assert gone.status is Status.UNAUTHENTICATED


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("csr", ["nonsense", certs.csr_signed_by_another(), certs.csr("RSA-1024")])
async def test_a_refused_signing_request_is_a_failure(house: House, way: str, csr: str) -> None:
    """In ThingsBoard's words, and no device is born."""
    await house.profile(provision_type=CREATE)
    reply = await provision(house, way, asked("d", csr=csr))
    assert (reply.status, reply.body) == (Status.REFUSED, FAILURE)
    assert await house.registry.device("d") is None


async def test_a_wrong_secret_is_told_nothing_of_the_request(house: House) -> None:
    """NOT_FOUND, however bad the signing request is."""
    await house.profile(provision_type=CREATE)
    body = asked("d", csr="nonsense").replace("secret-0001", "secret-0002")
    reply = await provision(house, "coap", body)
    assert json.loads(reply.body)["status"] == "NOT_FOUND"


@pytest.mark.parametrize("way", WAYS)
async def test_a_key_for_dtls_is_made(house: House, way: str) -> None:
    """Identity and 256 bits, new for each device."""
    await house.profile(provision_type=CREATE)
    seen = set()
    for name in ("a", "b"):
        reply = await provision(house, way, asked(name, credentialsType="DTLS_PSK"))
        told = json.loads(reply.body)
        assert (told["credentialsType"], told["status"]) == ("DTLS_PSK", "SUCCESS")
        value = told["credentialsValue"]
        assert list(value) == ["identity", "key"]
        assert len(bytes.fromhex(value["key"])) == 32
        seen |= set(value.values())
    assert len(seen) == 4


async def test_in_protobuf_there_is_no_key_for_dtls(house: House) -> None:
    """Its types end with LWM2M_CREDENTIALS: one more is a bad payload."""
    body = wire.ProvisionDeviceRequestMsg(deviceName="d").SerializeToString() + b"\x10\x04"
    reply = await provision(house, "coap", body)
    assert reply.status is Status.BAD_REQUEST


async def test_a_device_that_has_a_key_is_told_it_in_json(house: House) -> None:
    """One that was given a key beforehand and asks in protobuf: the messages cannot tell it."""
    await house.add()
    first = await provision(house, "http", asked("d", credentialsType="DTLS_PSK"))
    await house.registry.rearm_device(await house.known())
    pair = wire.ProvisionDeviceCredentialsMsg(
        provisionDeviceKey="meters-key-0001", provisionDeviceSecret="meters-secret-0001"
    )
    body = wire.ProvisionDeviceRequestMsg(deviceName="d", provisionDeviceCredentialsMsg=pair)
    again = await provision(house, "coap", body.SerializeToString())
    assert (again.format, again.body) == (Format.JSON, first.body)


# ── another certificate ───────────────────────────────────────────────────────────────────────


class Certified:
    """A device with a certificate of ours, and its session on whichever wire."""

    def __init__(self, house: House, leaf: x509.Certificate) -> None:
        self.house = house
        self.der = leaf.public_bytes(Encoding.DER)
        self.peer = Peer(Wire.MQTTS, "192.0.2.7:50123")

    async def identity(self) -> Identity:
        found = await self.house.parts["identities"].by_chain((self.der,), self.peer)
        assert isinstance(found, Identity), found
        return found

    @property
    def hello(self) -> Hello:
        return Hello("anything", "ignored", b"ignored", self.peer, 5, (self.der,))

    async def enter(self) -> Client:
        return await self.house.enter(self.hello)

    async def renew(self, way: str, body: str) -> tuple[int | None, Reply]:
        if way == "mqtt":
            client = await self.enter()
            client.subscribe("v1/devices/me/certificate/response/+")
            reply = await client.publish(RENEW, body)
            client.hang_up()
            assert reply.topic == RENEW.replace("request", "response")
            return None, reply
        return await self.house.ask(
            Wire(way + "s"), "POST /api/v1/certificate", body, identity=await self.identity()
        )


async def certified(house: House, name: str = "d", **settings: Any) -> Certified:
    await house.profile(provision_type=CREATE, **settings)
    return Certified(house, leaf_of(await provision(house, "http", asked(name, csr=certs.csr()))))


def renewal(**options: Any) -> str:
    return json.dumps({"csr": certs.csr(**options)})


@pytest.mark.parametrize("way", WAYS)
async def test_a_certificate_renews_itself(house: House, way: str) -> None:
    """The old one counts until the new one is used, and then no more."""
    old = await certified(house)
    code, reply = await old.renew(way, renewal())
    assert (code, reply.status) == (201 if way == "coap" else None, Status.OK)
    new = Certified(house, leaf_of(reply))
    assert named(leaf_of(reply)) == "CN=d"
    assert "certificateChain" in json.loads(reply.body)
    await old.identity()
    device = await house.device()
    assert (await new.identity()).device_id == device.id
    refused = await house.dialect.connect(old.hello)
    assert isinstance(refused, Rejected)
    assert (refused.code_v3, refused.code_v5) == (5, 0x87)


@pytest.mark.parametrize("way", ["http", "coap"])
async def test_a_token_asks_for_a_certificate_too(house: House, way: str) -> None:
    """It works on until the certificate is used."""
    token = await house.add()
    _, reply = await house.ask(Wire(way), f"POST /api/v1/{token}/certificate", renewal())
    await house.connect(token)
    await Certified(house, leaf_of(reply)).identity()
    _, gone = await house.ask(Wire.HTTP, f"POST /api/v1/{token}/telemetry", "{}")
    assert gone.status is Status.UNAUTHENTICATED


@pytest.mark.parametrize("way", WAYS)
async def test_a_refused_renewal_is_a_failure(house: House, way: str) -> None:
    """200 over HTTP and 4.00 over CoAP, as in provisioning; the old certificate works on."""
    old = await certified(house)
    code, reply = await old.renew(way, renewal(key="RSA-1024"))
    assert (reply.status, reply.body) == (Status.REFUSED, FAILURE)
    assert code == {"mqtt": None, "http": 200, "coap": 400}[way]
    await old.identity()


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"csr":1}', '{"csr":""}'])
async def test_a_renewal_without_a_request(house: House, body: str) -> None:
    """A bad payload, which is told."""
    token = await house.add()
    _, reply = await house.ask(Wire.HTTP, f"POST /api/v1/{token}/certificate", body)
    assert reply.status in (Status.BAD_REQUEST, Status.UNDECODABLE)
    client = await house.connect(token)
    assert (await client.publish(RENEW, body)).status is reply.status
    assert (await client.publish(RENEW + "x", renewal())).status is Status.BAD_REQUEST


async def test_renewals_count_as_messages(house: House) -> None:
    """Signing costs more than any message does."""
    house.begin(limiter=RateLimiter(device=Limits(messages=parse_rate("1:60"))))
    token = await house.add()
    path = f"POST /api/v1/{token}/certificate"
    assert (await house.ask(Wire.HTTP, path, renewal()))[1].status is Status.OK
    for way in (Wire.HTTP, Wire.COAP):
        code, reply = await house.ask(way, path, renewal())
        assert (code, reply.status) == (500, Status.LIMITED)


async def test_strangers_renew_nothing(house: House) -> None:
    """Neither without a token nor with a wrong one."""
    for path in ("POST /api/v1/certificate", "POST /api/v1/nobody/certificate"):
        for way in (Wire.HTTP, Wire.COAP):
            assert (await house.ask(way, path, renewal()))[1].status is Status.UNAUTHENTICATED


# ── after its end ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def ended(house: House) -> Certified:
    """A device whose certificate ended yesterday, and may be renewed for two days."""
    profile = CertificateProfile(lifetime_days=10, grace_days=2)
    found = await certified(house, certificate=profile)
    house.begin(access=Access(house.store, house.clock))
    house.clock.now += 11 * DAY_MS
    return found


@pytest.mark.parametrize("way", WAYS)
async def test_a_certificate_that_ended_renews_itself(
    house: House, ended: Certified, way: str
) -> None:
    """As long as its profile says; the new one is good for everything."""
    if way == "mqtt":
        admitted = await house.dialect.connect(ended.hello)
        assert isinstance(admitted, Admitted)
        assert (admitted.name, admitted.linger_s) == ("renewal", 60.0)
        assert admitted.filters == {
            "v1/devices/me/certificate/response",
            "v1/devices/me/certificate/response/+",
        }
        _, reply = await admitted.router.answer(
            RENEW, renewal().encode(), ended.peer, device=admitted.device
        )
        found, other = await admitted.router.answer("v1/devices/me/telemetry", b"{}", ended.peer)
        assert (found, other.status) == (None, Status.NOT_FOUND)
    else:
        _, reply = await ended.renew(way, renewal())
    new = Certified(house, leaf_of(reply))
    assert (await new.enter()).admitted.name == "device"


async def test_a_revocation_ends_the_session_for_its_renewal(
    house: House, ended: Certified
) -> None:
    """Revoked is more than ended: 0x98. Until then nothing says that the device is here."""
    client = await ended.enter()
    assert client.admitted.name == "renewal"
    device = await house.device()
    await house.registry.replace_credentials(await house.known())
    await house.feed.look()
    assert client.link.closed == 0x98
    client.hang_up()
    assert house.sessions.of(device.id) == ()


async def test_a_certificate_that_ended_does_nothing_else(house: House, ended: Certified) -> None:
    """Whatever else it asks for is 401."""
    identity = await ended.identity()
    for way in (Wire.HTTPS, Wire.COAPS):
        _, reply = await house.ask(way, "POST /api/v1/telemetry", '{"a":1}', identity=identity)
        assert reply.status is Status.UNAUTHENTICATED


async def test_grace_ends(house: House, ended: Certified) -> None:
    """For a connection that is open still, too."""
    identity = await ended.identity()
    house.clock.now += DAY_MS + 1
    path = "POST /api/v1/certificate"
    for way in (Wire.HTTPS, Wire.COAPS):
        _, reply = await house.ask(way, path, renewal(), identity=identity)
        assert reply.status is Status.UNAUTHENTICATED
    assert isinstance(await house.dialect.connect(ended.hello), Rejected)


async def test_without_a_word_of_it_there_is_no_grace(house: House) -> None:
    """A profile that says nothing lets no ended certificate in."""
    found = await certified(house)
    house.clock.now += 366 * DAY_MS
    refused = await house.dialect.connect(found.hello)
    assert isinstance(refused, Rejected)
    assert refused.reason == "the certificate is refused: expired leaf"
