"""Whose time it was: the device's busy nanoseconds split among requests."""

from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_engine.seq2seq.accounting import Seq2SeqAccounting, Seq2SeqCost
from farebox_engine.serving.device_ledger import DeviceLedger
from tests.engine.seq2seq.decodings import make_decoding

COST = Seq2SeqCost(
    encoder_parameters=20_000,
    decoder_parameters=30_000,
    encoder_attention_width=96,
    decoder_attention_width=64,
    item_bytes=4,
    operations_per_byte=10.0,
)
LENGTHS = st.integers(1, 90)


@settings(deadline=None)
@given(
    st.lists(st.tuples(LENGTHS, st.integers(1, 6), LENGTHS), min_size=1, max_size=12),
    st.lists(st.integers(0, 10**12), min_size=1, max_size=4),
)
def test_no_nanosecond_is_lost_or_charged_twice(shapes: list[tuple[int, int, int]], steps: list[int]) -> None:
    accounting = Seq2SeqAccounting(COST, DeviceLedger())
    decodings = [make_decoding([1] * source, [[0] * target] * rows) for source, rows, target in shapes]
    for busy_ns in steps:
        accounting.charge_encoding(decodings, busy_ns)
        accounting.charge_decoding(decodings, busy_ns)
    ledger = accounting.ledger
    ledger.write_off(7)
    assert sum(each.sequence.device_ns for each in decodings) == 2 * sum(steps)
    assert (ledger.busy_ns, ledger.operator_ns) == (2 * sum(steps) + 7, 7)
    assert min(each.sequence.device_ns for each in decodings) >= 0


def test_beams_and_lengths_are_paid_for() -> None:
    accounting = Seq2SeqAccounting(COST, DeviceLedger())
    plain, searching, reading, writing = decodings = [
        make_decoding([1] * 5, [[0]]),
        make_decoding([1] * 5, [[0]] * 4),
        make_decoding([1] * 80, [[0]]),
        make_decoding([1] * 5, [[0] * 80]),
    ]
    accounting.charge_decoding(decodings, 10**9)
    # Four hypotheses but one source: somewhat less than four times as much.
    assert 3.5 * plain.sequence.device_ns < searching.sequence.device_ns < 4 * plain.sequence.device_ns
    assert min(reading.sequence.device_ns, writing.sequence.device_ns) > 1.05 * plain.sequence.device_ns
    accounting = Seq2SeqAccounting(COST, DeviceLedger())
    short, long = make_decoding([1] * 5, [[0]]), make_decoding([1] * 50, [[0]])
    accounting.charge_encoding([short, long], 10**9)
    assert long.sequence.device_ns > 2 * short.sequence.device_ns
