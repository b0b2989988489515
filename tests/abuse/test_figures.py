"""The arithmetic of `make abuse`: percentiles, stalls, and when a row fails."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.abuse.figures import Phase, Row, counted, percentile, stall_seconds

QUIET = Phase(
    latencies=[10.0] * 99 + [40.0],
    outcomes={"200": 100},
    probes=20,
    reds=0,
    slowest_probe_ms=5.0,
    memory_mib=400.0,
    stall_ms=8.0,
)


def row(**attacked: object) -> Row:
    """An attack that changed nothing but this."""
    changed = msgspec.structs.replace(QUIET, **attacked)
    return Row(attacker="any", replicas=1, quiet=QUIET, attacked=changed, told={})


def test_a_percentile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.01, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([3.0], 0.5) == 3.0
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.floats(0.01, 1))
def test_a_percentile_is_not_exceeded_by_its_share_and_by_no_smaller_value(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values) + 1e-6


def test_what_changes_nothing_passes() -> None:
    assert row().faults == []


def test_the_p99_may_double_and_take_fifty_milliseconds_more() -> None:
    assert QUIET.p99_ms == 10.0
    assert row(latencies=[70.0] * 100).faults == []
    assert row(latencies=[70.1] * 100).faults == ["p99"]


@pytest.mark.parametrize(
    ("attacked", "fault"),
    [
        ({"outcomes": {"200": 99, "503": 1}}, "5xx"),
        ({"outcomes": {"200": 99, "429": 1}}, "429"),
        ({"outcomes": {"200": 99, "broken stream": 1}}, "broken"),
        ({"outcomes": {"200": 99, "ReadTimeout": 1}}, "broken"),
        ({"reds": 1}, "readyz"),
        ({"memory_mib": 700.1}, "memory"),
        ({"stall_ms": 50.1}, "stall"),
    ],
)
def test_each_harm_fails_its_row(attacked: dict[str, object], fault: str) -> None:
    assert row(**attacked).faults == [fault]


def test_an_attack_that_had_to_be_ended_fails_its_row() -> None:
    assert msgspec.structs.replace(row(), stopped="3001 MiB grown").faults == ["stopped"]


def test_memory_that_shrinks_is_no_growth() -> None:
    assert row(memory_mib=100.0).grown_mib == 0


def test_outcomes_are_counted_by_what_they_were() -> None:
    phase = msgspec.structs.replace(QUIET, outcomes=counted(["200", "503", "500", "429", "ReadError", "200"]))
    assert (phase.server_errors, phase.refused, phase.broken) == (2, 1, 1)
    assert list(phase.outcomes.items())[0] == ("200", 2)


@pytest.mark.parametrize(
    ("what", "late", "waited", "forced", "voluntary", "computed", "stall"),
    [
        ("it computed all the time", 0.3, 0.0, 0, 1, 0.3, 0.3),
        ("its thread woke up and had no processor", 0.3, 0.29, 0, 1, 0.3, 0.01),
        ("it computed, and lost the processor again and again", 0.3, 0.24, 30, 1, 0.06, 0.06),
        ("another thread held the interpreter", 0.3, 0.0, 0, 500, 0.3, 0.3),
        ("another held it, and each look at it waited for a processor", 0.3, 0.25, 0, 100, 0.3, 0.2975),
        ("another held it, and waited for a processor itself", 0.3, 0.0, 0, 500, 0.02, 0.02),
        ("two clocks never agree to the nanosecond", 0.001, 0.002, 0, 1, 0.0, 0.0),
        ("nothing is known of its switches", 0.3, 0.1, 0, 0, 0.3, 0.2),
    ],
)
def test_a_stall_is_what_the_process_did_and_not_what_the_machine_did(
    what: str, late: float, waited: float, forced: int, voluntary: int, computed: float, stall: float
) -> None:
    found = stall_seconds(late=late, waited=waited, forced=forced, voluntary=voluntary, computed=computed)
    assert found == pytest.approx(stall), what
