"""What the operations of the device API are, for the document (contract, sections 3, 8 to 11, 14).

Nobody logs in for them: the token in the path says which device it is. The address without a token
is for HTTPS, where the client certificate says it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, Literal

from msgspec import Struct

from gateway.dialects.thingsboard.formats import CBOR_MEDIA, SENML_MEDIA
from gateway.wire.operation import Answer, Operation, Query

TAG: Final = "Device"
_TOKEN: Final = {"token": "The device's access token."}
_PROOF: Final = (
    "Without a token in the path: over HTTPS, with the device's certificate. Over CoAP at the same "
    "path; over MQTT by topic."
)
_BAD: Final = Answer("The request cannot be understood; `message` says why.")
_UNKNOWN: Final = Answer("No device has this token, or the certificate counts no more.")
_DONE: Final = Answer("It is stored.")
_LIMITED: Final = Answer("A rate limit is reached; `Retry-After` says when to come again.")

_of_device: Final = partial(Operation, tag=TAG, public=True, path=_TOKEN)
_MILLISECONDS: Final = Query(
    "timeout", "Milliseconds to wait; 0 or none: 60 s. At most 300 s.", int, example=1000
)


class ProvisionBody(Struct, rename="camel"):
    """What a device asks the first time it speaks. `hash` is the certificate itself, `csr` a
    PKCS #10 request (PEM, or base64 of DER). Whoever repeats a request with the same `nonce`, 16 to
    64 characters, gets the same answer; `oldCredential` or `claimCode` prove that a device was here
    before; `hardware` is what it tells of itself; with `dryRun` nothing is done but told."""

    provision_device_key: str
    provision_device_secret: str
    device_name: str | None = None
    device_type: str | None = None
    credentials_type: (
        Literal["ACCESS_TOKEN", "MQTT_BASIC", "X509_CERTIFICATE", "DTLS_PSK"] | None
    ) = None
    token: str | None = None
    client_id: str | None = None
    username: str | None = None
    password: str | None = None
    hash: str | None = None
    csr: str | None = None
    gateway: bool | None = None
    nonce: str | None = None
    old_credential: str | None = None
    claim_code: str | None = None
    hardware: dict[str, Any] | None = None
    dry_run: bool | None = None


class LegacyBody(Struct, rename="camel"):
    """The request of 2020."""

    provision_profile_key: str
    provision_profile_secret: str
    device_name: str
    device_type: str | None = None
    x509_cert_pub_key: str | None = None


class ProvisionProblem(Struct, rename="camel"):
    """What is wrong (RFC 9457), for who asks for `application/problem+json`. `code` and the words
    are those of the table at `/refusals`; who proved no secret is told no code."""

    type: str
    title: str
    status: int
    detail: str
    code: str = ""
    retry_after: int = 0


class ProvisionAnswer(Struct, rename="camel"):
    """The credentials, or why there are none. With a `csr` also who signed it; from `deviceName` on
    what the profile lets it tell; to a `dryRun` what would happen, in `steps`."""

    status: Literal["SUCCESS", "NOT_FOUND", "FAILURE", "PENDING"]
    credentials_type: str = ""
    credentials_value: Any = None
    error_msg: str = ""
    retry_after: int = 0
    certificate: str = ""
    certificate_chain: str | list[str] = ""
    device_id: str = ""
    credentials_id: str = ""
    device_name: str = ""
    server_time: int = 0
    servers: dict[str, str] = {}
    ca_certificate: str = ""
    dry_run: bool = False
    profile: str = ""
    claims: bool = False
    steps: list[str] = []
    code: str = ""


class CertificateBody(Struct):
    """A PKCS #10 request: PEM, or base64 of DER."""

    csr: str


class AttributesAnswer(Struct):
    client: dict[str, Any] | None = None
    shared: dict[str, Any] | None = None


class CallBody(Struct):
    """A call of a method."""

    method: str
    params: Any


class CallAnswer(Struct):
    id: int
    method: str
    params: Any


class ClaimBody(Struct, rename="camel"):
    """`durationMs` is how long the claim may be taken up."""

    secret_key: str | None = None
    duration_ms: int | None = None


class SenmlRecord(Struct):
    """A record of SenML (RFC 8428): base fields, a name, and a value or a sum."""

    bn: str | None = None
    bt: float | None = None
    bu: str | None = None
    bv: float | None = None
    bs: float | None = None
    bver: int | None = None
    n: str | None = None
    u: str | None = None
    v: float | None = None
    vs: str | None = None
    vb: bool | None = None
    vd: str | None = None
    s: float | None = None
    t: float | None = None
    ut: float | None = None


def _in_cbor(body: Any) -> dict[str, Any]:
    return {CBOR_MEDIA: body}


_MEDIA: Final = "application/problem+json"
_PROBLEM: Final = Answer("Refused, for who asks for a problem.", ProvisionProblem, _MEDIA)
_WAITS: Final = ProvisionAnswer | ProvisionProblem
PROVISION: Final = Operation(
    summary="Provision a device",
    about="A refusal is no error of HTTP: `status` says it. A wrong key and a wrong secret are "
    "not told apart. Who sends `Accept: application/problem+json`, and devices of a profile with "
    "`detailed_refusals` that do not ask for JSON or CBOR itself, are told as a problem (RFC 9457; "
    "in CBOR, RFC 9290, to who speaks that), with a status of its own, if they showed a right "
    "secret.",
    tag="Provisioning",
    public=True,
    body=ProvisionBody | LegacyBody,
    media=_in_cbor(ProvisionBody | LegacyBody),
    body_example={
        "deviceName": "meter-1",
        "provisionDeviceKey": "the fleet's key",
        "provisionDeviceSecret": "the fleet's secret",
    },
    answers={
        200: Answer("Decided.", ProvisionAnswer),
        202: Answer("An operator has to say yes; `retryAfter` says when to come again.", _WAITS),
        400: Answer(f"{_BAD.about} Or a problem.", ProvisionProblem, _MEDIA),
        401: _PROBLEM,
        403: _PROBLEM,
        404: _PROBLEM,
        409: _PROBLEM,
        429: Answer("Too many; `retryAfter` says when to come again.", _WAITS),
        503: Answer("Later; `retryAfter` says when to come again.", _WAITS),
    },
)
CERTIFICATE: Final = Operation(
    summary="Renew a device's certificate",
    about="The certificate the device has counts until the new one is used. " + _PROOF,
    tag="Provisioning",
    public=True,
    path=_TOKEN,
    body=CertificateBody,
    answers={200: Answer("Decided.", ProvisionAnswer), 400: _BAD, 401: _UNKNOWN},
)
TELEMETRY: Final = _of_device(
    summary="Send telemetry",
    about="Values by key, values with their time (`ts` in ms), or a list of such; or a SenML pack. "
    + _PROOF,
    body=dict[str, Any] | list[dict[str, Any]],
    media={
        **_in_cbor(dict[str, Any] | list[dict[str, Any]]),
        **dict.fromkeys(SENML_MEDIA, list[SenmlRecord]),
    },
    body_example={"ts": 1_790_000_000_000, "values": {"temperature": 21.5}},
    answers={200: _DONE, 400: _BAD, 401: _UNKNOWN},
)
POST_ATTRIBUTES: Final = _of_device(
    summary="Set client attributes",
    about=_PROOF,
    body=dict[str, Any],
    media=_in_cbor(dict[str, Any]),
    body_example={"firmware": "1.4.2"},
    answers={200: _DONE, 400: _BAD, 401: _UNKNOWN},
)
GET_ATTRIBUTES: Final = _of_device(
    summary="Read attributes",
    about=_PROOF,
    query=(
        Query("clientKeys", "Names, with commas between them.", example="firmware"),
        Query("sharedKeys", "Names, with commas between them.", example="interval"),
    ),
    answers={
        200: Answer("Those there are; all of them when no name was given.", AttributesAnswer),
        400: _BAD,
        401: _UNKNOWN,
        429: _LIMITED,
    },
)
POLL_ATTRIBUTES: Final = _of_device(
    summary="Wait for a change of shared attributes",
    about=_PROOF,
    query=(_MILLISECONDS,),
    answers={
        200: Answer("The new values by key; `deleted` lists keys that are gone.", dict[str, Any]),
        400: _BAD,
        401: _UNKNOWN,
        403: Answer("The device was deleted meanwhile.", media="text/plain"),
        408: Answer("Nothing changed in time."),
        429: _LIMITED,
    },
)
POLL_CALLS: Final = _of_device(
    summary="Wait for a call to the device",
    about=_PROOF,
    query=(_MILLISECONDS,),
    answers={
        200: Answer("The next call.", CallAnswer),
        400: _BAD,
        401: _UNKNOWN,
        403: Answer("The device was deleted meanwhile.", media="text/plain"),
        408: Answer("Nobody called in time."),
        429: _LIMITED,
    },
)
CLIENT_CALL: Final = _of_device(
    summary="Call a method of the server",
    about=_PROOF,
    body=CallBody,
    media=_in_cbor(CallBody),
    body_example={"method": "getTime", "params": {}},
    answers={
        200: Answer("What the method gave, any JSON value.", Any),
        400: _BAD,
        401: _UNKNOWN,
        408: Answer("No answer within 60 s."),
        429: _LIMITED,
    },
)
ANSWER: Final = _of_device(
    summary="Answer a call",
    about="Any JSON value. An answer nobody waits for is taken like any other. " + _PROOF,
    path={**_TOKEN, "id": "The number of the call, 0 to 2147483647."},
    body=Any,
    media=_in_cbor(Any),
    body_example={"on": True},
    answers={200: Answer("It is taken."), 400: _BAD, 401: _UNKNOWN},
)
CLAIM: Final = _of_device(
    summary="Let a customer claim the device",
    about=_PROOF,
    body=ClaimBody,
    media=_in_cbor(ClaimBody),
    body_required=False,
    answers={200: Answer("Heard. Whether it stands is not told."), 400: _BAD, 401: _UNKNOWN},
)
PACKAGE: Final = _of_device(
    summary="Download the assigned package",
    about="Whole, a chunk by `size` and `chunk`, or a part by `Range`. " + _PROOF,
    query=(
        Query("title", "As in the attribute `fw_title`.", required=True, example="boiler"),
        Query("version", "As in the attribute `fw_version`.", required=True, example="1.4.2"),
        Query("size", "Bytes of a chunk; 0: everything.", int, example=4096),
        Query("chunk", "Which chunk, from 0.", int, example=0),
    ),
    answers={
        200: Answer("The bytes.", media="application/octet-stream"),
        206: Answer("Some of the bytes.", media="application/octet-stream"),
        400: Answer("Title and version are missing, or not those of the package."),
        401: _UNKNOWN,
        404: Answer("No package is assigned, or it is kept elsewhere."),
        416: Answer("There are not so many bytes.", dict[str, Any]),
    },
)
