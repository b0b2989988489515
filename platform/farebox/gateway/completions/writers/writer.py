"""What the writers of all endpoints have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from farebox.gateway.completions.responses import CompletionUsage
from farebox.gateway.completions.writers.choices import ChoiceBuffer
from farebox.gateway.models.answer_format import AnswerParser
from farebox.gateway.models.generation import Chunk


@dataclass(slots=True)
class AnswerHead:
    """What every event of an answer repeats, and what was asked for. `created` is in Unix seconds.

    `new_parser` makes what tells reasoning and calls of tools from content, where there may be any.

    `choices` is how many answers there are. With `closes_with_receipt` the event that ends the last of them
    is held back until the receipt is there.
    """

    id: str
    created: int
    model: str
    fingerprint: str
    include_usage: bool
    with_logprobs: bool
    new_parser: Callable[[], AnswerParser] | None = None
    choices: int = 1
    closes_with_receipt: bool = False


class Writer(Protocol):
    """Turns what the engine says into bytes. Made of an AnswerHead; answers' ids begin with `id_prefix`."""

    id_prefix: ClassVar[str]

    def events(self, index: int, chunk: Chunk) -> bytes:
        """The server-sent events of a chunk of choice `index`; empty if there is nothing to show yet, or all
        there was to show is held back."""
        ...

    def plain_event(self, index: int, chunk: Chunk) -> bytes | None:
        """What `events` gives for a chunk of nothing but text, which is all text; None for any other.

        Costs little, and does not raise.
        """
        ...

    def closing_events(self, usage: CompletionUsage, receipt: str | None) -> bytes:
        """What comes when the request is settled: the end of the last choice if it was held back, and the
        usage if it was asked for; the receipt in the last of these. Empty where none of them is to come."""
        ...

    def document(self, choices: Sequence[ChoiceBuffer], usage: CompletionUsage) -> bytes:
        """The whole answer as one JSON document."""
        ...
