"""How often something may happen, by the generic cell rate algorithm (ITU-T I.371).

A token bucket of some capacity that refills evenly is kept as one number: when it will be full
again. The numbers are integers of a unit fine enough that nothing is ever rounded. What the
counters are and what takes from them: ThingsBoard contract, section 12.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct

from gateway.core.model import Device

MOST_WINDOWS = 5
MOST_DIGITS = 9
"""Of a capacity, and of the seconds it refills in."""
_NEVER_WAIT_MS = 1000
"""The least that is told to who asks for more than there will ever be."""


class _Window:
    """One token bucket. `scale` units are a millisecond, and a token is worth `cost` units."""

    __slots__ = ("_capacity", "_cost", "_depth", "_due", "_scale")

    def __init__(self, capacity: int, scale: int, cost: int) -> None:
        self._capacity = capacity
        self._scale = scale
        self._cost = cost
        self._depth = capacity * cost
        self._due = 0
        """When the bucket is full again, in units since the epoch."""

    def wait(self, tokens: int, now: int) -> int:
        """Milliseconds until `tokens` can be spent: 0 for now. Takes nothing.

        More than the capacity never can: then the time until it is full, at least a second.
        """
        lacking = self._due - now * self._scale
        if lacking + tokens * self._cost <= self._depth >= tokens * self._cost:
            return 0
        return self._long_wait(tokens, now, max(lacking, 0))

    def _long_wait(self, tokens: int, now: int, lacking: int) -> int:
        if lacking > self._depth:
            # The clock was set back. The bucket is as good as empty, but not closed until the
            # old time has come again.
            lacking = self._depth
            self._due = now * self._scale + lacking
        if tokens > self._capacity:
            return max(_NEVER_WAIT_MS, -(-lacking // self._scale))
        return -(-(lacking + tokens * self._cost - self._depth) // self._scale)

    def spend(self, tokens: int, now: int) -> None:
        """Take tokens for which `wait` is 0."""
        at = now * self._scale
        due = self._due
        self._due = (due if due > at else at) + tokens * self._cost

    def full(self, now: int) -> bool:
        """Whether it is as if nothing had ever been taken."""
        return self._due <= now * self._scale


class Allowance:
    """`at_once` in a row, then `per_s` a second. Times are milliseconds, handed in."""

    __slots__ = ("_missed", "_window")

    def __init__(self, at_once: int, per_s: float) -> None:
        events, seconds = per_s.as_integer_ratio()
        self._window = _Window(at_once, scale=events, cost=1000 * seconds)
        self._missed = 0

    def take(self, now: int) -> bool:
        """Whether it may happen now. What may not is counted."""
        if self._window.wait(1, now):
            self._missed += 1
            return False
        self._window.spend(1, now)
        return True

    def forget_missed(self) -> int:
        """How many were not allowed since this was last asked."""
        missed, self._missed = self._missed, 0
        return missed

    def untold(self) -> dict[str, str]:
        """The same, in the words of an event's detail; empty when there were none."""
        missed = self.forget_missed()
        return {"refusals not written down before": str(missed)} if missed else {}


class Rate(Struct, frozen=True):
    """How much is allowed: every one of `windows`, each `(capacity, ms to refill it)`."""

    text: str
    windows: tuple[tuple[int, int], ...]


def parse_rate(text: str) -> Rate | None:
    """The rate of `10:1,300:60`: 10 a second, and 300 a minute. Empty text: None, unlimited.

    Raises `ValueError` with a sentence that says what is wrong.
    """
    if not text.strip():
        return None
    parts = text.split(",")
    if len(parts) > MOST_WINDOWS:
        raise ValueError(f"at most {MOST_WINDOWS} pairs of capacity:seconds")
    return Rate(text.strip(), tuple(_parse_window(part) for part in parts))


def _parse_window(text: str) -> tuple[int, int]:
    capacity, colon, seconds = text.partition(":")
    if not colon:
        raise ValueError("write capacity:seconds, for example 10:1, pairs separated by commas")
    return _positive(capacity), _positive(seconds) * 1000


def _positive(text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= MOST_DIGITS and int(digits)):
        raise ValueError(
            f"capacity and seconds are whole numbers from 1, of at most {MOST_DIGITS} digits"
        )
    return int(digits)


class Bucket:
    """What is left of a `Rate`. All its windows are taken from, or none. Times are ms."""

    __slots__ = ("_windows",)

    def __init__(self, rate: Rate) -> None:
        self._windows = tuple(
            _Window(capacity, scale=capacity, cost=period_ms)
            for capacity, period_ms in rate.windows
        )

    def wait(self, tokens: int, now: int) -> int:
        """How long until `tokens` can be taken, at least a second when never: 0 for now."""
        longest = 0
        for window in self._windows:
            wait = window.wait(tokens, now)
            if wait > longest:
                longest = wait
        return longest

    def spend(self, tokens: int, now: int) -> None:
        """Take tokens for which `wait` is 0."""
        for window in self._windows:
            window.spend(tokens, now)

    def take(self, tokens: int, now: int) -> int:
        """Take `tokens` and return 0, or take nothing and return how long to wait."""
        wait = self.wait(tokens, now)
        if not wait:
            self.spend(tokens, now)
        return wait

    def full(self, now: int) -> bool:
        """Whether nothing is missing, so that it need not be remembered."""
        return all(window.full(now) for window in self._windows)


class Counted(StrEnum):
    """What is counted; the value is its name in a profile's `limits`."""

    MESSAGES = "messages"
    TELEMETRY_MESSAGES = "telemetry_messages"
    TELEMETRY_POINTS = "telemetry_points"


class Limits(Struct, frozen=True):
    """The rates of one party; None is unlimited. `messages` are those without data points."""

    messages: Rate | None = None
    telemetry_messages: Rate | None = None
    telemetry_points: Rate | None = None


UNLIMITED = Limits()


def limits_of(texts: Mapping[str, str], fallback: Limits) -> Limits:
    """The limits written in a profile; those it leaves out are as in `fallback`.

    An empty text lifts the limit of `fallback`. Raises `ValueError` that begins with the name.
    """
    if not texts:
        return fallback
    rates = {counted.value: getattr(fallback, counted.value) for counted in Counted}
    for name, text in texts.items():
        if name in PROVISIONS:
            continue
        if name not in rates:
            known = ", ".join((*rates, *PROVISIONS))
            raise ValueError(f"{name}: no such limit; there are {known}")
        rates[name] = _named_rate(name, text)
    return _plainly(Limits(**rates))


PROVISIONS: Final[Mapping[str, str]] = {
    "provisions": "profile",
    "provisions_per_secret": "secret",
    "provisions_per_address": "address",
}
"""What a profile's `limits` may say of provisioning, and whose rate it is then."""


def provisions_of(texts: Mapping[str, str]) -> dict[str, Rate | None]:
    """The rates of provisioning written in a profile, by whose they are; None lifts the limit that
    is configured for all. Raises `ValueError` that begins with the name."""
    return {
        whose: _named_rate(name, texts[name]) for name, whose in PROVISIONS.items() if name in texts
    }


def _named_rate(name: str, text: object) -> Rate | None:
    if not isinstance(text, str):
        raise ValueError(f"{name}: must be a text such as 10:1,300:60")
    try:
        return parse_rate(text)
    except ValueError as exc:
        raise ValueError(f"{name}: {exc}") from None


def _plainly(limits: Limits) -> Limits:
    """What is unlimited is `UNLIMITED` itself, so that it costs nothing to see."""
    return UNLIMITED if limits == UNLIMITED else limits


class Scope(StrEnum):
    """Whose limit it is. `GATEWAY` is a gateway's own traffic, `GATEWAY_DEVICES` that of all the
    devices it speaks for."""

    ORGANISATION = "organisation"
    DEVICE = "device"
    GATEWAY = "gateway"
    GATEWAY_DEVICES = "gateway_devices"


class Limited(Struct, frozen=True):
    """Too much, of what, and for whom. `wait_ms`: when as much will be allowed again."""

    wait_ms: int
    scope: Scope
    what: Counted

    @property
    def retry_after_s(self) -> int:
        """`wait_ms` in whole seconds, at least one."""
        return max(1, -(-self.wait_ms // 1000))


class _Account:
    """The buckets of one party."""

    __slots__ = ("_plain", "_scope", "_telemetry", "limits")

    def __init__(self, scope: Scope, limits: Limits) -> None:
        self.limits = limits
        self._scope = scope
        self._plain = _buckets(limits, Counted.MESSAGES)
        self._telemetry = _buckets(limits, Counted.TELEMETRY_MESSAGES, Counted.TELEMETRY_POINTS)

    def check(self, points: int | None, now: int, limited: Limited | None) -> Limited | None:
        """What is longest to be waited for, here or by `limited`; takes nothing."""
        for what, bucket in self._plain if points is None else self._telemetry:
            wait = bucket.wait(points or 0 if what is Counted.TELEMETRY_POINTS else 1, now)
            if wait and (limited is None or wait > limited.wait_ms):
                limited = Limited(wait, self._scope, what)
        return limited

    def spend(self, points: int | None, now: int) -> None:
        """Take what `check` found to be there."""
        for what, bucket in self._plain if points is None else self._telemetry:
            bucket.spend(points or 0 if what is Counted.TELEMETRY_POINTS else 1, now)

    def full(self, now: int) -> bool:
        return all(bucket.full(now) for _, bucket in (*self._plain, *self._telemetry))


def _buckets(limits: Limits, *counted: Counted) -> tuple[tuple[Counted, Bucket], ...]:
    rates = ((what, getattr(limits, what.value)) for what in counted)
    return tuple((what, Bucket(rate)) for what, rate in rates if rate is not None)


class _Accounts:
    """The accounts of all parties of one scope by their number, those used last at the end."""

    __slots__ = ("_known", "_most", "_scope")

    def __init__(self, scope: Scope, most: int) -> None:
        self._scope = scope
        self._most = most
        self._known: OrderedDict[int, _Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def account(self, number: int, limits: Limits, now: int) -> _Account:
        """The account of a party; a new one when its limits are others than before."""
        known = self._known
        account = known.get(number)
        if account is None:
            self._make_room(now)
        elif account.limits is limits or account.limits == limits:
            known.move_to_end(number)
            return account
        account = known[number] = _Account(self._scope, limits)
        known.move_to_end(number)
        return account

    def _make_room(self, now: int) -> None:
        """For one more, forget up to two that were not used for long and have nothing to tell."""
        known = self._known
        for _ in range(2):
            if known and next(iter(known.values())).full(now):
                known.popitem(last=False)
        if len(known) >= self._most:
            known.popitem(last=False)


class RateLimiter:
    """Counts what devices send, and says when it is too much.

    `organisation` holds for all devices of an organisation together, `device` for each, `gateway`
    for what a gateway sends for itself, `gateway_devices` for all devices behind one gateway
    together. At most `most` parties of each of the four are remembered; those not heard of for
    the longest time are forgotten, and so have their full allowance again.
    """

    def __init__(
        self,
        *,
        organisation: Limits = UNLIMITED,
        device: Limits = UNLIMITED,
        gateway: Limits = UNLIMITED,
        gateway_devices: Limits = UNLIMITED,
        most: int = 100_000,
    ) -> None:
        if most < 1:
            raise ValueError("most must be at least 1")
        self._organisation = _plainly(organisation)
        self._device = _plainly(device)
        self._gateway = _plainly(gateway)
        self._gateway_devices = _plainly(gateway_devices)
        self._shared = not (organisation == gateway_devices == UNLIMITED)
        self._organisations = _Accounts(Scope.ORGANISATION, most)
        self._devices = _Accounts(Scope.DEVICE, most)
        self._gateways = _Accounts(Scope.GATEWAY, most)
        self._sums = _Accounts(Scope.GATEWAY_DEVICES, most)

    def own_limits(self, texts: Mapping[str, str], *, gateway: bool) -> Limits:
        """What `take` is to be given as `own`: the profile's `texts` above what is configured.

        Worth keeping for as long as the profile stands. Raises `ValueError` as `limits_of`.
        """
        return limits_of(texts, self._gateway if gateway else self._device)

    @property
    def gateway_devices(self) -> Limits:
        """What holds for all devices behind one gateway together."""
        return self._gateway_devices

    def take(
        self,
        device: Device,
        points: int | None,
        now: int,
        *,
        own: Limits | None = None,
        gateway: Device | None = None,
    ) -> Limited | None:
        """Count one message of `device`, or say why not; then nothing is counted anywhere.

        `points` is how many data points it has; None for a message that cannot have any. `own`
        stands instead of the configured limits of a device or gateway. `gateway` is the one that
        speaks for the device.
        """
        if own is None:
            own = self._gateway if device.gateway else self._device
        if own is UNLIMITED and not self._shared:
            return None
        accounts = self._concerned(device, now, own, gateway)
        limited = None
        for account in accounts:
            limited = account.check(points, now, limited)
        if limited is None:
            for account in accounts:
                account.spend(points, now)
        return limited

    def _concerned(
        self, device: Device, now: int, own: Limits, gateway: Device | None
    ) -> list[_Account]:
        """The accounts the message takes from."""
        accounts = []
        if self._organisation is not UNLIMITED:
            party = device.organisation_id
            accounts.append(self._organisations.account(party, self._organisation, now))
        if own is not UNLIMITED:
            owners = self._gateways if device.gateway else self._devices
            accounts.append(owners.account(device.id, own, now))
        if gateway is not None and self._gateway_devices is not UNLIMITED:
            accounts.append(self._sums.account(gateway.id, self._gateway_devices, now))
        return accounts
