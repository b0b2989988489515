"""Who used how much of the device: the time of a call split among the requests in it."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from farebox_engine.seq2seq.decoding import Decoding
from farebox_engine.serving.device_ledger import DeviceLedger


@dataclass(frozen=True, slots=True)
class Seq2SeqCost:
    """Estimates what a request costs in a call, in bytes of memory traffic; see `DecoderCost`.

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


class Seq2SeqAccounting:
    """Charges each call to its requests, or to the operator, on a `DeviceLedger`."""

    def __init__(self, model: Seq2SeqCost, ledger: DeviceLedger) -> None:
        self.ledger = ledger
        self._model = model

    def charge_encoding(self, decodings: Seq[Decoding], busy_ns: int) -> None:
        """Split the time of a call; what was encoded before is the operator's."""
        costs = [self._model.encoding(each, len(decodings)) for each in decodings]
        self._charge(decodings, costs, busy_ns, [each.encoded for each in decodings])

    def charge_decoding(self, decodings: Seq[Decoding], busy_ns: int) -> None:
        """Split the time of a call; to be called before the step is committed."""
        hypotheses = sum(len(each.rows) for each in decodings)
        costs = [self._model.decoding(each, hypotheses) for each in decodings]
        self._charge(decodings, costs, busy_ns, [each.computed < each.furthest for each in decodings])

    def _charge(self, decodings: Seq[Decoding], costs: Seq[float], busy_ns: int, repeated: Seq[bool]) -> None:
        shares = self.ledger.split(busy_ns, costs)
        for decoding, share, again in zip(decodings, shares, repeated, strict=True):
            if again:
                self.ledger.charge_operator(share)
            else:
                decoding.sequence.device_ns += share
