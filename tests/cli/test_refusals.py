"""`gatehouse refusals`."""

from __future__ import annotations

from gateway.core.refusals import REFUSALS


def test_the_table_is_printed_whole(shell):
    """Each reason has its line with its numbers, and the same in JSON."""
    lines = shell.ok("refusals").splitlines()
    for row in REFUSALS.values():
        (line,) = (one for one in lines if one.split()[:1] == [row.code])
        assert f"{row.coap // 100}.{row.coap % 100:02}" in line
        assert f"0x{row.mqtt:02X}" in line
    told = shell.json("refusals")
    assert [one["code"] for one in told] == [row.code for row in REFUSALS.values()]
    assert {"title", "detail", "proven", "http", "coap", "mqtt"} < set(told[0])


def test_one_row_says_what_to_do(shell):
    """However the code is written."""
    for code in ("name_taken", "NAME-TAKEN"):
        said = shell.ok("refusals", code)
        assert "gatehouse device remove DEVICE" in said
        assert "4.09" in said
    one = shell.json("refusals", "too_many_wrong_secrets")
    assert (one["http"], one["coap"], one["mqtt"], one["proven"]) == (429, "4.29", "0x97", False)


def test_a_code_that_is_none_is_an_error(shell):
    """It says which was meant, or where to look."""
    result = shell("refusals", "name_takn")
    assert result.exit_code == 1
    assert "Did you mean `name_taken`?" in result.output
    assert "gatehouse refusals" in shell("refusals", "zzz").output
