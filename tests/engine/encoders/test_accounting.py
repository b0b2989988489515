"""Whose time it was: a step's nanoseconds split among the inputs in it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_engine.encoders.accounting import EncoderAccounting, EncoderCost
from farebox_engine.encoders.job import Job, JobInput
from farebox_engine.encoders.tokenizer import Tokens
from farebox_engine.serving.device_ledger import DeviceLedger

COST = EncoderCost(layer_parameters=1000, attention_width=64)
LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=40)


def make_input(job: Job, length: int) -> JobInput:
    ids = np.zeros(length, dtype=np.int64)
    return JobInput(job, Tokens(ids, ids))


@settings(deadline=None)
@given(lengths=LENGTHS, steps=st.lists(st.integers(0, 10**12), min_size=1, max_size=4), gone=st.booleans())
def test_no_nanosecond_is_lost_or_charged_twice(lengths: list[int], steps: list[int], gone: bool) -> None:
    ledger = DeviceLedger()
    accounting = EncoderAccounting(COST, ledger)
    jobs = [Job((), "", 0.0) for _ in range(3)]
    inputs = [make_input(jobs[number % 3], length) for number, length in enumerate(lengths)]
    for busy_ns in steps:
        accounting.charge(inputs, busy_ns)
    assert min(job.device_ns for job in jobs) >= 0
    if gone:
        ledger.forgive(jobs[0])
        assert jobs[0].device_ns == 0
    ledger.write_off(7)
    assert ledger.busy_ns == sum(steps) + 7
    assert sum(job.device_ns for job in jobs) + ledger.operator_ns == ledger.busy_ns
    assert accounting.tokens == len(steps) * sum(lengths)


def test_twice_as_long_costs_more_than_twice() -> None:
    short, long = Job((), "", 0.0), Job((), "", 0.0)
    # Operations: 2 * 1000 * 50 + 4 * 64 * 50**2, and the same of 100 tokens.
    operations = [100_000 + 640_000, 200_000 + 2_560_000]
    accounting = EncoderAccounting(COST, DeviceLedger())
    accounting.charge([make_input(short, 50), make_input(long, 100)], sum(operations))
    assert [short.device_ns, long.device_ns] == operations
