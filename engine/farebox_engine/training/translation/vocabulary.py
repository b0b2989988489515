"""The tokenizer of a translator trained here: byte-level BPE, one for both languages."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from farebox_engine.training.errors import TrainingError
from farebox_engine.training.translation.pairs import Pair

END, PAD = "</s>", "<pad>"
_SMALLEST_VOCABULARY = 256 + 2


def train_pair_tokenizer(pairs: Sequence[Pair], vocab_size: int) -> Tokenizer:
    """Train one byte-level BPE tokenizer for both sides; it ends every text with the end token.

    Raises:
        TrainingError: ``vocab_size`` cannot hold all bytes and the special tokens.
    """
    if vocab_size < _SMALLEST_VOCABULARY:
        raise TrainingError(f"a vocabulary of {vocab_size} is too small: {_SMALLEST_VOCABULARY} are needed.")
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for pair in pairs for text in (pair.source, pair.target)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return tokenizer


def token_settings(tokenizer: Tokenizer) -> dict[str, int]:
    """The special tokens as config.json and generation_config.json name them."""
    ids = tokenizer.get_vocab()
    end, pad = ids[END], ids[PAD]
    return {
        "eos_token_id": end,
        "forced_eos_token_id": end,
        "pad_token_id": pad,
        "decoder_start_token_id": pad,
    }
