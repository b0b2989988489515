"""What an adapter is trained on: texts and answers in the base model's own tokens and template."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from farebox_engine.errors import TemplateError
from farebox_engine.models.loader import LoadedModel
from farebox_engine.training.corpus import Conversation, Passage, Unit
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.vocabulary import Encoder


@dataclass(frozen=True, slots=True)
class Example:
    """Tokens that see nothing of other examples; a label of -100 is not learned."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


def make_examples(units: Iterable[Unit], loaded: LoadedModel, context: int) -> list[Example]:
    """Cut passages into stretches of at most `context` tokens; make an example of every answer.

    Of a conversation that is longer than `context` its end is kept.

    Raises:
        TrainingError: the chat template fails, or does not write an answer after its question.
    """
    examples: list[Example] = []
    for unit in units:
        if isinstance(unit, Passage):
            examples += _stretches(unit, loaded, context)
        else:
            examples += (_last(example, context) for example in _answers(unit, loaded))
    # A single token has no next one to learn.
    return [each for each in examples if any(label != Encoder.IGNORED for label in each.labels[1:])]


def batch_of(examples: list[Example]) -> tuple[Tensor, Tensor, int]:
    """Inputs and labels of the next tokens, int64 [examples * length], padded, and that length."""
    length = max(len(each.ids) for each in examples) - 1
    inputs = torch.zeros(len(examples), length, dtype=torch.int64)
    labels = torch.full((len(examples), length), Encoder.IGNORED, dtype=torch.int64)
    for row, each in enumerate(examples):
        inputs[row, : len(each.ids) - 1] = torch.tensor(each.ids[:-1])
        labels[row, : len(each.ids) - 1] = torch.tensor(each.labels[1:])
    return inputs.flatten(), labels.flatten(), length


def _stretches(passage: Passage, loaded: LoadedModel, context: int) -> Iterator[Example]:
    ids = loaded.tokenizer.encode(passage.text)
    if passage.ends_document and loaded.config.eos_token_ids:
        ids = [*ids, loaded.config.eos_token_ids[0]]
    for start in range(0, len(ids) - 1, context):
        # The last token of one stretch is the first of the next, which is learned only once.
        stretch = tuple(ids[start : start + context + 1])
        yield Example(stretch, stretch)


def _answers(conversation: Conversation, loaded: LoadedModel) -> Iterator[Example]:
    messages = [{"role": each.role, "content": each.content} for each in conversation.messages]
    for turn, message in enumerate(conversation.messages):
        if message.role != "assistant":
            continue
        try:
            asked = loaded.tokenizer.render_chat(messages[:turn], add_generation_prompt=True)
            whole = loaded.tokenizer.render_chat(messages[: turn + 1], add_generation_prompt=False)
        except TemplateError as error:
            raise TrainingError(f"the base model's chat template refuses a conversation: {error}") from error
        if whole[: len(asked)] != asked:
            raise TrainingError(
                "the base model's chat template does not write an answer right after its question; "
                "train on --text instead."
            )
        labels = [Encoder.IGNORED] * len(asked) + whole[len(asked) :]
        yield Example(tuple(whole), tuple(labels))


def _last(example: Example, context: int) -> Example:
    return Example(example.ids[-context - 1 :], example.labels[-context - 1 :])
