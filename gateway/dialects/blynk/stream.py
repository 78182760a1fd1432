"""The binary protocol's words: what its commands mean (contract, section 11)."""

from __future__ import annotations

from gateway.core.ports import Clock
from gateway.core.presence import Attendance
from gateway.core.provisioning import Provisioner
from gateway.core.rpc import Rpc
from gateway.core.sessions import Sessions
from gateway.dialects.blynk.callers import Callers
from gateway.dialects.blynk.data import DeviceData
from gateway.dialects.blynk.profile import Templates
from gateway.wire.call import Admitted, Hello, Rejected
from gateway.wire.router import Gauge


class BlynkStream:
    def __init__(
        self,
        *,
        provisioner: Provisioner,
        callers: Callers,
        templates: Templates,
        data: DeviceData,
        sessions: Sessions,
        rpc: Rpc,
        attendance: Attendance,
        clock: Clock,
        gauge: Gauge,
        timeout_s: float,
        claim_s: float,
    ) -> None: ...

    async def connect(self, hello: Hello) -> Admitted | Rejected:
        return Rejected(9, 9, "unknown token")
