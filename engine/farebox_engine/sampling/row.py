"""What the sampler asks of a row of logits."""

from __future__ import annotations

from typing import Protocol

from farebox_engine.grammar.matcher import Matcher
from farebox_engine.params import GenerationRequest
from farebox_engine.sampling.bad_words import BadWords
from farebox_engine.sampling.penalties import TokenCounts


class Row(Protocol):
    """The request that a row of logits belongs to, and its tokens so far.

    A sequence is one; so is what a sequence will be once the drafts before it are accepted.
    """

    @property
    def request(self) -> GenerationRequest: ...

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The tokens that end an answer of this model."""
        ...

    @property
    def counts(self) -> TokenCounts | None:
        """How often each token was seen, if the request has penalties."""
        ...

    @property
    def bad_words(self) -> BadWords | None: ...

    @property
    def matcher(self) -> Matcher | None:
        """Where the answer is in its grammar, if it has one."""
        ...

    @property
    def completion_length(self) -> int:
        """Tokens generated so far."""
        ...

    @property
    def last_token(self) -> int: ...

    def ends_with(self, tokens: list[int]) -> bool:
        """Whether these are the last tokens."""
        ...
