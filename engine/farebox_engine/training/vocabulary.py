"""The tokenizer of a model trained here: byte-level BPE with ChatML markers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from farebox_engine.training.corpus import END_OF_TEXT, Conversation, Passage, Unit
from farebox_engine.training.errors import TrainingError

TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)
SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer (any text round-trips, up to NFC) of at most ``vocab_size`` tokens.

    Digits stand alone, so that numbers are spelled one way only.

    Raises:
        TrainingError: ``vocab_size`` cannot hold all bytes and the special tokens.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise TrainingError(
            f"a vocabulary of {vocab_size} is too small: 256 bytes and {len(SPECIAL_TOKENS)} special "
            f"tokens need {SMALLEST_VOCABULARY}."
        )
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a ``tokenizer.json`` written by `train_tokenizer`."""
    return Tokenizer.from_file(str(path))


class Encoder:
    """Turns units of the corpus into token ids and into labels, -100 where nothing is to be learned."""

    IGNORED = -100

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # Text that happens to contain "<|im_end|>" must not end a turn.
        tokenizer.encode_special_tokens = True
        self.end_of_text, self._turn_start, self.turn_end = (self._id(token) for token in SPECIAL_TOKENS)

    def encode(self, unit: Unit) -> tuple[list[int], list[int]]:
        """Return ids and labels, equally long; every token of a passage is to be learned."""
        if isinstance(unit, Passage):
            ids = self._tokenizer.encode(unit.text).ids
            ids = [*ids, self.end_of_text] if unit.ends_document else ids
            return ids, ids
        return self._encode_conversation(unit)

    def _encode_conversation(self, conversation: Conversation) -> tuple[list[int], list[int]]:
        """Render as the chat template does; learn what assistants say and that they stop."""
        ids: list[int] = []
        labels: list[int] = []
        newline = self._tokenizer.encode("\n").ids
        for message in conversation.messages:
            header = f"{message.role}\n"
            encoding = self._tokenizer.encode(header + message.content)
            turn = [self._turn_start, *encoding.ids, self.turn_end]
            # A token that spans the border belongs to the header: it is given, not generated.
            said = [False, *(start >= len(header) for start, _ in encoding.offsets), True]
            learned = message.role == "assistant"
            ids += turn + newline
            labels += [
                token if learned and spoken else self.IGNORED
                for token, spoken in zip(turn, said, strict=True)
            ]
            labels += [self.IGNORED] * len(newline)
        return [*ids, self.end_of_text], [*labels, self.IGNORED]

    def _id(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise TrainingError(f"the tokenizer has no token {token}.")
        return int(number)
