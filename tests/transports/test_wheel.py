"""The wheel, without a loop."""

from __future__ import annotations

from gateway.transports.wheel import Wheel


def test_the_wheel_turns_up_what_is_due_and_nothing_else() -> None:
    """A member comes up once its slot has come; an earlier deadline moves it, a later does not."""

    class Member:
        slot = -1

    wheel, early, late, gone = Wheel(1.0, 100.0), Member(), Member(), Member()
    wheel.place(early, 130.0)
    wheel.place(early, 105.0)
    wheel.place(early, 140.0)
    wheel.place(late, 120.0)
    wheel.place(gone, 105.0)
    wheel.place(Member(), float("inf"))
    wheel.drop(gone)
    assert wheel.due(105.0) == []
    assert wheel.due(106.0) == [early]
    wheel.place(early, 50.0)
    assert wheel.due(200.0) == [early, late]
    assert wheel._slots == {}
