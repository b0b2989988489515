"""Requests under way without an engine, for tests of its parts."""

from collections.abc import Sequence as Seq

from farebox_engine.seq2seq.constraints import Constraints
from farebox_engine.seq2seq.decoding import Decoding, Hypothesis
from farebox_engine.seq2seq.generation_config import GenerationConfig
from tests.engine.sequences import make_sequence


def make_decoding(source: Seq[int], rows: Seq[list[int]]) -> Decoding:
    """A request with hypotheses of these tokens, without a beam search to choose among them."""
    sequence = make_sequence(source)
    constraints = Constraints(GenerationConfig(start_token_id=0), sequence)
    hypotheses = [Hypothesis(list(tokens)) for tokens in rows]
    return Decoding(sequence, constraints, None, hypotheses, 0, computed=len(rows[0]) - 1)
