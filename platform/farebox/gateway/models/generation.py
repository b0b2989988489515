"""One answer: what a backend is asked for, and what it says. The engine's own types, under one roof.

The rest of the platform imports them from here, never from `farebox_engine`. They are passed on, not
wrapped: a copy of each streamed token's chunk would cost more than most of what is done with it.
"""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from farebox_engine.models.sampling_defaults import GenerationDefaults
from farebox_engine.outputs import Chunk, EngineStats, FinishReason, PromptDetails, TokenLogprob, Usage
from farebox_engine.params import GenerationRequest, SamplingParams

__all__ = [
    "Chunk",
    "EngineStats",
    "FinishReason",
    "Generation",
    "GenerationDefaults",
    "GenerationRequest",
    "PromptDetails",
    "SamplingParams",
    "TokenLogprob",
    "Usage",
]


class Generation(Protocol):
    """One answer under way: iterate it for its chunks. The last one has `finish_reason` and `usage`.

    A chunk holds all that became deliverable since the one before was taken: a consumer that is slow
    gets fewer and larger ones.
    """

    def __aiter__(self) -> AsyncIterator[Chunk]: ...

    def tap(self, take: Callable[[Chunk], bool]) -> None:
        """Allow chunks to be handed to `take` at once, while the iterating task waits for the next.

        It returns False for what that task is to be given instead; it never raises. The last chunk is
        for the task in any case.
        """
        ...

    def mark_served(self) -> None:
        """Note that it was delivered, or something of it: what it computed of the prompt is billed, and may
        be sold as cached from now on. Also after the end."""
        ...

    def cancel(self) -> None:
        """End it at the next step. The iteration still ends with a last chunk, reason `cancelled`."""
        ...
