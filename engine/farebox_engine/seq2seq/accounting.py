"""Who used how much of the device: the time of a call split among the requests in it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from farebox_engine.seq2seq.decoding import Decoding


@dataclass(frozen=True, slots=True)
class CostModel:
    """Estimates what a request costs in a call, in bytes of memory traffic; see `accounting.CostModel`.

    Encoding and decoding each read their own weights once, whoever takes part: sources share
    that equally, and so do hypotheses. `encoder_parameters` are those that a source's tokens
    meet, the projections to the decoder's keys and values among them.
    """

    encoder_parameters: int
    decoder_parameters: int
    encoder_attention_width: int  # layers * heads * head_dim
    decoder_attention_width: int
    item_bytes: int
    operations_per_byte: float

    def encoding(self, decoding: Decoding, sources: int) -> float:
        length = decoding.source_length
        operations = 2 * self.encoder_parameters * length + 4 * self.encoder_attention_width * length**2
        return self._cost(self.encoder_parameters / sources, operations)

    def decoding(self, decoding: Decoding, hypotheses: int) -> float:
        rows = len(decoding.rows)
        # Hypotheses read their own keys and values each, and the source's once for all.
        read = rows * decoding.target_length + decoding.source_length
        seen = rows * (decoding.target_length + decoding.source_length)
        items = self.decoder_parameters * rows / hypotheses + 2 * self.decoder_attention_width * read
        operations = 2 * self.decoder_parameters * rows + 4 * self.decoder_attention_width * seen
        return self._cost(items, operations)

    def _cost(self, items: float, operations: float) -> float:
        return items * self.item_bytes + operations / self.operations_per_byte


class DeviceLedger:
    """Charges the device's busy time to requests, or to the operator.

    In whole nanoseconds, so that the shares sum to the busy time exactly.
    """

    def __init__(self, model: CostModel) -> None:
        self.busy_ns = 0
        self.operator_ns = 0
        self._model = model

    def charge_encoding(self, decodings: Seq[Decoding], busy_ns: int) -> None:
        costs = [self._model.encoding(each, len(decodings)) for each in decodings]
        self._charge(decodings, costs, busy_ns, [each.encoded for each in decodings])

    def charge_decoding(self, decodings: Seq[Decoding], busy_ns: int) -> None:
        """To be called before the step is committed."""
        hypotheses = sum(len(each.rows) for each in decodings)
        costs = [self._model.decoding(each, hypotheses) for each in decodings]
        self._charge(decodings, costs, busy_ns, [each.computed < each.furthest for each in decodings])

    def write_off(self, busy_ns: int) -> None:
        """A failed call is the operator's."""
        self.busy_ns += busy_ns
        self.operator_ns += busy_ns

    def _charge(self, decodings: Seq[Decoding], costs: Seq[float], busy_ns: int, repeated: Seq[bool]) -> None:
        """Split `busy_ns`; the shares of what is done a second time are the operator's."""
        self.busy_ns += busy_ns
        past = list(itertools.accumulate(costs))
        charged = 0
        for each, cost, again in zip(decodings, past, repeated, strict=True):
            # Running sums are rounded, not shares: the last is the whole, so nothing remains.
            share = round(busy_ns * (cost / past[-1])) - charged
            charged += share
            if again:
                self.operator_ns += share
            else:
                each.device_ns += share
