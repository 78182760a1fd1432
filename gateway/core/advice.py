"""A refusal in plain words: what was wrong, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final

from gateway.core.model import RefusalReason as R

ADVICE: Final[Mapping[R, tuple[str, str]]] = {
    R.UNKNOWN_KEY: (
        "it showed a provision key that no profile has",
        "Compare the key in the device with `gatehouse profile show PROFILE --reveal`.",
    ),
    R.WRONG_SECRET: (
        "its provision key is known, its provision secret is not the one of that profile",
        "Compare the secret with `gatehouse profile show PROFILE --reveal`; after a rotation "
        "devices need the new one.",
    ),
    R.PROVISIONING_DISABLED: (
        "provisioning is switched off in its profile",
        "Give the profile another provision type, or add the device by hand.",
    ),
    R.CERTIFICATE_CHAIN_ONLY: (
        "devices of its profile come with their factory certificate, not with key and secret",
        "Let it connect over TLS with its certificate chain, or choose another provision type.",
    ),
    R.NAME_BLANK: (
        "the device name in its request is blank",
        "Let the firmware send its serial number, or leave `deviceName` out to be given a name.",
    ),
    R.NAME_INVALID: (
        "the device name in its request is none: 1 to 255 characters, no control characters",
        "Correct the name in the firmware.",
    ),
    R.TYPE_INVALID: (
        "the device type in its request cannot be the name of a profile",
        "Correct the type in the firmware, or leave it out.",
    ),
    R.NAME_MISSING: (
        "its request has no device name, and its profile waits for devices by name",
        "Let the firmware send `deviceName`.",
    ),
    R.NAME_TAKEN: (
        "a device of that name exists, and the request does not show that it comes from it",
        "If this is the same device, it has credentials already: let it use them, ask with the "
        "`nonce` it sent at first (within `retry_window`, until they are used), or come back with "
        "a proof (`reprovisioning` in its profile); or remove it with `gatehouse device remove "
        "DEVICE`. If it is another, give it another name.",
    ),
    R.NO_SUCH_DEVICE: (
        "its profile only lets in devices that were entered before, and this one was not",
        "Enter it with `gatehouse device add DEVICE`, or import a list with `gatehouse import`.",
    ),
    R.OTHER_PROFILE: (
        "the device of that name belongs to another profile than the key it showed",
        "Give it the key and secret of its own profile, or move the device to this one.",
    ),
    R.ALREADY_PROVISIONED: (
        "it was provisioned before, and each device gets its credentials once",
        "If it lost them, let it ask once more with `gatehouse device rearm DEVICE`. If it did not "
        "ask the first time, somebody else did: revoke the credentials.",
    ),
    R.BLOCKED: (
        "its provision state is neither waiting nor provisioned, which blocks it",
        "Set the device to wait again with `gatehouse device rearm DEVICE`.",
    ),
    R.CREDENTIALS_INVALID: (
        "the credentials it asked for are incomplete or of no kind that is known",
        "Correct `credentialsType` and what belongs to it in the firmware.",
    ),
    R.CREDENTIALS_TAKEN: (
        "the credentials it brought are another device's already",
        "Look whether two devices were built with one token or certificate.",
    ),
    R.CERTIFICATE_UNREADABLE: (
        "the certificate in its request cannot be read",
        "Let the firmware send one X.509 certificate in PEM.",
    ),
    R.NOT_ITS_GATEWAY: (
        "the device came through a gateway that is not the one that brought it",
        "Let its own gateway speak for it, or allow the profile to be adopted.",
    ),
    R.CUSTOMER_HAS_IT: (
        "a customer has the device already",
        "Take it back first: `gatehouse device unclaim DEVICE`.",
    ),
    R.CLAIMING_DISABLED: (
        "claiming is switched off for the device or its profile",
        "Set `claiming_allowed` in the profile.",
    ),
    R.CLAIM_STANDS: (
        "a claim was offered before and has not expired",
        "Use that one, or wait until it expires; `gatehouse label DEVICE --replace -o labels.pdf` "
        "ends it and makes another.",
    ),
    R.NO_CLAIM: (
        "the device offers no claim",
        "Let the device send its claim request, or make a code for it with "
        "`gatehouse label DEVICE -o labels.pdf`; then claim it within its time.",
    ),
    R.CLAIM_EXPIRED: (
        "the time in which the device could be claimed is over",
        "Let the device send its claim request once more, or make a code for it with "
        "`gatehouse label DEVICE --replace -o labels.pdf`.",
    ),
    R.WRONG_CLAIM_KEY: (
        "the claim key is not the one the device told",
        "A wrong code ends the offer, and the right one is refused, too, from then on. Make "
        "another with `gatehouse label DEVICE --replace -o labels.pdf`, or let the device offer "
        "itself again.",
    ),
    R.CREDENTIALS_REVOKED: (
        "its credentials were revoked",
        "If that was a mistake, give it others: `gatehouse credential rotate DEVICE`.",
    ),
    R.UNKNOWN_TOKEN: (
        "its token is nobody's: it was never issued here, was revoked or forgotten, or another has "
        "taken its place",
        "Look with `gatehouse ticket list` whether one waits for it. If none does, issue another: "
        "`gatehouse ticket issue`, or for a device that exists `gatehouse device reprovision "
        "DEVICE`.",
    ),
    R.TICKET_EXPIRED: (
        "its token was not used in time",
        "Issue another: `gatehouse ticket issue`, or for a device that exists `gatehouse device "
        "reprovision DEVICE`; `--days` gives it longer.",
    ),
    R.UNKNOWN_TEMPLATE: (
        "it names no template, or one that no profile has or its organisation may not use",
        "Compare the template id in the firmware with `template_id` in the `[blynk]` table of the "
        "profile (`gatehouse profile show PROFILE`), and look at `organisations` there; clients "
        "that name none, as Blynk's for Python, need a profile with `fallback = true`. Its token "
        "is still good.",
    ),
    R.OTHER_TEMPLATE: (
        "it names another template than the one its profile has",
        "Give it the firmware of its own template; if it is another device in the same place, it "
        "wants a token of its own: `gatehouse ticket issue`. The token is still good.",
    ),
    R.SECRET_NOT_YET_VALID: (
        "the fleet secret it showed is not good yet",
        "Let it come later, or set another beginning: `gatehouse secret list` shows it.",
    ),
    R.SECRET_EXPIRED: (
        "the fleet secret it showed has expired",
        "Give the device the secret of today; `gatehouse secret list` shows which are good.",
    ),
    R.SECRET_REVOKED: (
        "the fleet secret it showed was revoked",
        "Give the device another secret of its profile; `gatehouse secret list` shows them.",
    ),
    R.SECRET_QUARANTINED: (
        "the fleet secret it showed, or came by before, is in quarantine with all that came by it",
        "Once it is known to be safe: `gatehouse secret release LABEL`; else give the device "
        "another secret, and remove what is there by its name: `gatehouse device remove DEVICE`.",
    ),
    R.SECRET_USED_UP: (
        "as many devices came by the fleet secret it showed as may",
        "Make another secret with `gatehouse secret add`, or look with `gatehouse secret "
        "blast-radius LABEL` who came by this one.",
    ),
    R.NETWORK_NOT_ALLOWED: (
        "its address is in none of the networks that its profile or fleet secret allows",
        "Let it come from there, or correct `networks`.",
    ),
    R.OUTSIDE_HOURS: (
        "its profile lets devices in at other times",
        "Let it come within the `hours` of `[admission]`, or change them.",
    ),
    R.NOT_ON_ALLOW_LIST: (
        "neither its name nor its serial number nor its MAC is on the list of its profile",
        "Put it there: `gatehouse admission allow PROFILE DEVICE`; or correct the pattern in "
        "`allow` of `[admission]`.",
    ),
    R.ON_DENY_LIST: (
        "its name, serial number or MAC is one that its profile denies",
        "If it is to come, take it off the list: `gatehouse admission remove PROFILE DEVICE`.",
    ),
    R.PROFILE_FULL: (
        "its profile has as many devices as it may",
        "Raise `max_devices` of `[admission]`, or remove devices that are no more.",
    ),
    R.ORGANISATION_FULL: (
        "its organisation has as many devices as its profile allows",
        "Raise `max_devices_in_organisation` of `[admission]`, or remove devices that are no more.",
    ),
    R.APPROVAL_PENDING: (
        "an operator has to say yes first, and has not yet",
        "Let it come again after the wait; say yes with `gatehouse approve DEVICE`.",
    ),
    R.APPROVAL_DENIED: (
        "an operator said no",
        "If that was a mistake: `gatehouse approve DEVICE`.",
    ),
    R.TOO_MANY_REQUESTS: (
        "more devices came than its fleet secret, profile, address or organisation may send",
        "Let it come again after the wait it was told; the rates are in `[provisioning]` and in "
        "`[limits]` of the profile.",
    ),
    R.TOO_MANY_WRONG_SECRETS: (
        "too many wrong secrets were shown from its address, for its key, or by itself",
        "Let it wait as long as it was told. Look with `gatehouse audit` at `provision:block` who "
        "showed them, and give broken devices the right secret.",
    ),
    R.DENIED_BY_HOOK: (
        "the hook of its profile said no",
        "Ask whoever runs the hook; what it said is told by `gatehouse explain DEVICE`.",
    ),
    R.HOOK_FAILED: (
        "the hook of its profile gave no usable answer in time",
        "Let it come again; try the hook with `gatehouse hook test PROFILE`. How it failed is in "
        "the gateway's log (`hook.failed`).",
    ),
    R.NO_PROOF_OF_OLD: (
        "it was provisioned before, and did not prove that it is the same device",
        "Let it send its old credential, or allow it once: `gatehouse device rearm DEVICE`.",
    ),
    R.TOO_MANY_REPROVISIONINGS: (
        "it asked for new credentials too often",
        "Look why it loses them; it may ask again later (`reprovisioning_limit` in its profile).",
    ),
    R.CSR_UNREADABLE: (
        "its signing request cannot be read",
        "Let the firmware send a PKCS #10 request, in base64 or DER.",
    ),
    R.BAD_SIGNATURE: (
        "a signature does not fit: of its signing request, or of a certificate in its chain",
        "The request must be signed by the key in it; the chain must be sent complete.",
    ),
    R.WEAK_KEY: (
        "this kind or size of key is not accepted",
        "Let the firmware make a key on the curve P-256, or RSA of 2048 bits or more.",
    ),
    R.REUSED_KEY: (
        "its key was certified before, for this device or another",
        "Let the firmware make a fresh key for each certificate.",
    ),
    R.TOO_MANY_CERTIFICATES: (
        "it was given too many certificates within an hour",
        "Look why it asks again; it may do so later.",
    ),
    R.CSR_EXTRA_EXTENSIONS: (
        "its signing request asks for extensions that the profile does not give",
        "Take them out of the request, or allow them in the profile.",
    ),
    R.NO_AUTHORITY: (
        "nobody here can sign: the authority's key cannot be had",
        "Look with `gatehouse ca show` and `gatehouse doctor`.",
    ),
    R.CHAIN_UNREADABLE: (
        "the certificate chain it showed cannot be read",
        "Let it send X.509 certificates, its own first.",
    ),
    R.OVERSIZED_CHAIN: (
        "the certificate chain it showed is too long",
        "Let it send its own certificate and its issuers, without the root.",
    ),
    R.EXPIRED_LEAF: (
        "its certificate has expired",
        "Give it another certificate, or look whether the clock of this server is right.",
    ),
    R.NOT_YET_VALID: (
        "its certificate is not valid yet",
        "Look whether the clock of this server is right.",
    ),
    R.WRONG_USAGE: (
        "its certificate is not made for clients",
        "Have it issued with the extended key usage clientAuth.",
    ),
    R.PATH_TOO_LONG: (
        "there are more issuers in its chain than a certificate in it allows",
        "Have the device certificate issued by an authority that may.",
    ),
    R.UNKNOWN_CA: (
        "no profile trusts the authority at the end of its chain",
        "Put that authority's certificate into the profile's chain anchors.",
    ),
    R.BAD_CHAIN: (
        "its certificate chain does not hold",
        "Look at the chain with `openssl verify`; an issuer in it may be none.",
    ),
    R.UNKNOWN_CERTIFICATE: (
        "its certificate was signed here, and is not (or no longer) the one of a device",
        "Let it enrol again; it may show the certificate of a device that was removed.",
    ),
    R.CN_MISMATCH: (
        "the common name in its certificate or request is not that of the device",
        "Correct the name in the request, or the pattern in the profile.",
    ),
    R.CN_MISSING: (
        "its certificate has no common name to take the device's name from",
        "Have its certificate issued with the device's name as common name.",
    ),
}
"""What was wrong, as the end of a sentence that begins with the device; and what to do.
`DEVICE` in a command stands for the device's name, `PROFILE` for that of a profile."""


def wrong_with(reason: str) -> str:
    """What was wrong. A reason that is no `RefusalReason` is given back as words."""
    try:
        return ADVICE[R(reason)][0]
    except ValueError:
        return reason.replace("_", " ")


def next_step(reason: str, device: str = "") -> str:
    """What to do about it, for the device of this name; "" where nothing is known."""
    try:
        return about(device, ADVICE[R(reason)][1])
    except ValueError:
        return ""


def about(device: str, text: str) -> str:
    """With the device's name in its commands, as a shell takes it. Without a name as it is."""
    return text.replace("DEVICE", shlex.quote(device)) if device else text
