"""The device's time in whole nanoseconds: shares of a step sum to the step."""

from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_engine.serving.device_ledger import DeviceLedger

COSTS = st.lists(st.floats(1e-3, 1e15), min_size=1, max_size=300)


@settings(deadline=None)
@given(costs=COSTS, busy_ns=st.integers(0, 10**14))
def test_shares_sum_to_the_step_and_are_proportional_to_a_nanosecond(
    costs: list[float], busy_ns: int
) -> None:
    ledger = DeviceLedger()
    shares = ledger.split(busy_ns, costs)
    assert sum(shares) == busy_ns == ledger.busy_ns
    assert min(shares) >= 0
    for share, cost in zip(shares, costs, strict=True):
        assert abs(share - busy_ns * cost / sum(costs)) <= 1.01 + busy_ns * 1e-12
    assert ledger.operator_ns == 0


@settings(deadline=None)
@given(steps=st.lists(st.integers(0, 10**12)), failed=st.lists(st.integers(0, 10**12)))
def test_busy_time_is_what_is_charged_and_what_is_the_operators(steps: list[int], failed: list[int]) -> None:
    ledger, charged = DeviceLedger(), 0
    for busy_ns in steps:
        mine, operators = ledger.split(busy_ns, (2.0, 1.0))
        charged += mine
        ledger.charge_operator(operators)
    for busy_ns in failed:
        ledger.write_off(busy_ns)
    assert ledger.busy_ns == sum(steps) + sum(failed)
    assert charged + ledger.operator_ns == ledger.busy_ns
