"""Enrollment over Secure Transport: certificates for devices that speak EST.

RFC 7030 (with the clarifications of RFC 8951) over HTTPS, RFC 9148 over CoAPS. Behind it is what
every dialect has: a first enrolment is a provisioning call with a signing request, a later one is
the renewal of a device that proved who it is.

Who may do what:

- `simpleenroll` with HTTP Basic, the fleet's key as user and its secret as password: provisioning.
  The request's common name is the device's; without one the device gets a name from us.
- `simpleenroll`, `sen` by a device known by its certificate (or, over CoAPS, its pre-shared key),
  be it one of ours or a factory's: another certificate for that device. The certificate it has
  goes on working until the new one is used.
- `simplereenroll`, `sren`: the same, and HTTP Basic does not do. A common name in the request must
  be the device's name, or the one its certificates get.
- `cacerts`, `crts`, `csrattrs`, `att`: everybody, since they hold nothing secret. `cacerts` is
  served over plain HTTP as well; nothing else is (403).
- A label in the path (`/.well-known/est/{label}/…`) is the name of the profile, and must be that of
  the key and secret, or of the device: else 404.

Where we differ from the RFCs, and what is not here:

- What the certificate holds is decided by the profile alone. The request gives the key; its subject
  and names are not copied, and extensions that ask for more than the profile gives refuse it.
- The request is not linked to the TLS session by a challenge password (RFC 7030, section 3.5), and
  `csrattrs` does not ask for it.
- `csrattrs` names one kind of key, the first of the profile's; the others are accepted too.
- Base64 is sent in lines of 76 characters, in one line to a client without `User-Agent`.
- The media type of a request is not looked at: base64 (lines or none), PEM and DER are all read.
- `fullcmc` and `serverkeygen` are 501. 202 is for devices that wait for an operator's approval;
  every other request is decided at once.
- A renewal that asks too often is 429 (4.29), one while the authority's key cannot be had is 503.
- CoAPS has no HTTP Basic: a device without certificate and pre-shared key provisions with the
  dialect of its fleet, `csr` included. Its `sen` is 4.01. `crts` and `att` are answered to
  strangers, whom RFC 9148 would turn away.
- CoAPS answers are format 281 unless Accept says 287: then the certificate alone, and of the
  authority the root alone. Any other Accept gets 281. There is no `skg`.
"""

from __future__ import annotations

from gateway.core.access import Access
from gateway.core.authorities import Authorities
from gateway.core.certifying import Certifier
from gateway.core.limits import RateLimiter
from gateway.core.ports import Clock
from gateway.core.profiles import Profiles
from gateway.core.provisioning import Provisioner
from gateway.dialects.est.coaps import LINKS, EstCoaps
from gateway.dialects.est.enrolment import Enrolment, Tickets
from gateway.dialects.est.https import EstHttps
from gateway.wire.route import Route

__all__ = ["Est"]


class Est:
    """The dialect: its routes, and the links for `/.well-known/core` of CoAPS.

    `tickets` is `Store.find_fleet_ticket`; `limiter` is the one of devices' messages.
    """

    def __init__(
        self,
        *,
        provisioner: Provisioner,
        certifier: Certifier,
        authorities: Authorities,
        access: Access,
        profiles: Profiles,
        tickets: Tickets,
        limiter: RateLimiter,
        clock: Clock,
    ) -> None:
        enrolment = Enrolment(
            provisioner=provisioner,
            certifier=certifier,
            access=access,
            profiles=profiles,
            tickets=tickets,
            limiter=limiter,
            clock=clock,
        )
        self._https = EstHttps(enrolment, authorities)
        self._coaps = EstCoaps(enrolment, authorities)

    def routes(self) -> tuple[Route, ...]:
        return (*self._https.routes(), *self._coaps.routes())

    def links(self) -> tuple[str, ...]:
        """Entries in link format (RFC 6690), as RFC 9148 section 4.1 wants them."""
        return LINKS
