"""Who used how much of the device: a step's time split among the sequences in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from farebox_engine.checkpoint.config import DecoderConfig
from farebox_engine.scheduling.sequence import Sequence, Span
from farebox_engine.serving.device_ledger import DeviceLedger


@dataclass(frozen=True, slots=True)
class DecoderCost:
    """Estimates what a span costs, in bytes of memory traffic.

    A step reads the weights once, whoever is in it: its sequences share that equally. To
    that each adds the keys and values it reads and its operations, turned into bytes by
    `operations_per_byte`, the machine's ratio of arithmetic to bandwidth. Only the
    proportions matter: the shares are scaled to the measured time.

    `active_parameters` are those a token meets, without the experts it is not sent to;
    `layers` counts the layers by their window, and the other sizes are those of one layer.
    """

    weight_bytes: int
    active_parameters: int
    layers: tuple[tuple[int | None, int], ...]
    kv_bytes_per_token: int
    attention_width: int
    operations_per_byte: float

    @classmethod
    def of(
        cls, config: DecoderConfig, *, weight_bytes: int, parameters: int, item_bytes: int, on_gpu: bool
    ) -> DecoderCost:
        """`item_bytes` is the size of a number in the cache; weights may be smaller."""
        windows = Counter(config.window(layer) for layer in range(config.num_layers))
        return cls(
            weight_bytes=weight_bytes,
            active_parameters=parameters - config.idle_parameters,
            layers=tuple(windows.items()),
            kv_bytes_per_token=2 * config.num_kv_heads * config.head_dim * item_bytes,
            attention_width=config.num_heads * config.head_dim,
            # Rounded figures of an H200 (bf16) and of a server's CPU core (fp32).
            operations_per_byte=200.0 if on_gpu else 10.0,
        )

    def cost(self, span: Span, spans_in_step: int) -> float:
        """The span's estimated cost in a step of `spans_in_step`."""
        # Two operations per weight and token; four per unit of width and pair of positions.
        operations = 2.0 * self.active_parameters * span.length
        traffic = self.weight_bytes / spans_in_step
        for window, layers in self.layers:
            pairs = _pairs(span.stop, window) - _pairs(span.start, window)
            operations += 4 * layers * self.attention_width * pairs
            read = span.stop if window is None else min(span.stop, window + span.length - 1)
            traffic += layers * self.kv_bytes_per_token * read
        return traffic + operations / self.operations_per_byte


def _pairs(length: int, window: int | None) -> float:
    """How many pairs of a query and a key it sees there are in the first `length` positions."""
    if window is None or length <= window:
        return length * (length + 1) / 2
    return window * (window + 1) / 2 + (length - window) * window


class DecoderAccounting:
    """Charges each step to its sequences, or to the operator, on a `DeviceLedger`."""

    def __init__(self, model: DecoderCost, ledger: DeviceLedger) -> None:
        self.ledger = ledger
        self.discarded_tokens = 0
        self._model = model

    def charge(
        self, spans: Seq[Span], busy_ns: int, discarded: Mapping[Sequence, int] | None = None
    ) -> dict[Sequence, int]:
        """Split `busy_ns` among `spans`; call before they are committed.

        `discarded` says how many of a span's tokens came to nothing, all of them if the
        output was unusable. Drafts are left open: what is returned are the nanoseconds of each
        draft of a sequence, for `accept` or `refuse` once it is known which were right.
        """
        open_shares = {}
        costs = [self._model.cost(span, len(spans)) for span in spans]
        for span, share in zip(spans, self.ledger.split(busy_ns, costs), strict=True):
            sequence = span.sequence
            repeated = max(0, min(span.stop, sequence.furthest) - span.start)
            thrown_away = discarded.get(sequence, 0) if discarded else 0
            self.discarded_tokens += thrown_away
            drafts = 0 if thrown_away else len(span.drafts)
            if drafts:
                each = share // span.length
                open_shares[sequence] = each
                share -= each * drafts
            if repeated or thrown_away:
                sure = span.length - drafts
                wasted = share * min(sure, repeated + thrown_away) // sure
                self.ledger.charge_operator(wasted)
                share -= wasted
            sequence.device_ns += share
        return open_shares

    def accept(self, sequence: Sequence, draft_ns: int) -> None:
        """Charge the time of a draft that proved right."""
        sequence.device_ns += draft_ns

    def refuse(self, drafts: int, draft_ns: int) -> None:
        """Charge the time of refused drafts, `draft_ns` each, to the operator."""
        self.discarded_tokens += drafts
        self.ledger.charge_operator(drafts * draft_ns)
