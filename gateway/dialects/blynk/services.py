"""What sessions are opened with and served by, over MQTT as by the binary protocol."""

from __future__ import annotations

from msgspec import Struct

from gateway.core.ports import Clock
from gateway.core.presence import Attendance
from gateway.core.provisioning import Provisioner
from gateway.core.rpc import Rpc
from gateway.core.sessions import Sessions
from gateway.dialects.blynk.callers import Callers
from gateway.dialects.blynk.data import DeviceData
from gateway.dialects.blynk.profile import Templates
from gateway.wire.router import Gauge


class Services(Struct, frozen=True, kw_only=True):
    """`timeout_s`: of one call. `claim_s`: how long a connection with a pending token may take to
    claim it."""

    provisioner: Provisioner
    callers: Callers
    templates: Templates
    data: DeviceData
    sessions: Sessions
    rpc: Rpc
    attendance: Attendance
    clock: Clock
    gauge: Gauge
    timeout_s: float
    claim_s: float
