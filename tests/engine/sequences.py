"""Sequences without an engine, for tests of its parts."""

from collections.abc import Sequence as Seq
from functools import cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from farebox_engine import GenerationRequest, SamplingParams
from farebox_engine.scheduling.blocks import root_key
from farebox_engine.scheduling.sequence import Sequence
from farebox_engine.tokenization.transcript import Transcript
from farebox_engine.tokenization.vocabulary import Vocabulary


@cache
def byte_vocabulary() -> Vocabulary:
    """One token per byte, in the order of byte-level BPE's alphabet."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return Vocabulary(tokenizer, {"decoder": {"type": "ByteLevel"}, "added_tokens": []})


def make_sequence(
    prompt: Seq[int],
    *,
    token_limit: int = 16,
    salt: bytes = b"",
    tenant: bytes | str = b"",
    weight: float = 1.0,
    priority: int = 0,
    generated: Seq[int] = (),
    **params: Any,
) -> Sequence:
    sampling = SamplingParams(**params)
    sequence = Sequence(
        request=GenerationRequest(
            "request", list(prompt), sampling, salt, tenant=tenant, weight=weight, priority=priority
        ),
        transcript=Transcript(byte_vocabulary(), prompt, sampling.stop),
        token_limit=token_limit,
        end_token_ids=frozenset(sampling.stop_token_ids),
        root_key=root_key(salt),
        submitted_at=0.0,
    )
    for token in generated:
        sequence.append(token)
    return sequence
