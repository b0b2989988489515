"""The text of a completion as it grows, and which of its tokens have been delivered."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import NamedTuple

from farebox_engine.outputs import Chunk, PromptDetails, RawLogprobs, TokenAlternative, TokenLogprob
from farebox_engine.tokenization.detokenizer import Detokenizer
from farebox_engine.tokenization.reasoning import ReasoningCount
from farebox_engine.tokenization.stop_strings import StopMatcher
from farebox_engine.tokenization.vocabulary import Vocabulary


class _Undelivered(NamedTuple):
    """A token whose text spans the characters from `start` to `end` of the completion."""

    token: int
    start: int
    end: int
    logprob: TokenLogprob | None


class Transcript:
    """Detokenises a completion, looks for stop strings, and pairs text with tokens."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        prompt: Sequence[int],
        stops: Sequence[str],
        reasoning: ReasoningCount | None = None,
        spelled: Collection[int] = (),
    ) -> None:
        """`prompt` is what the completion goes on from; empty where it is a text of its own.

        `reasoning` is fed every token, if its tokens are to be counted. `spelled` are special tokens
        whose names are part of the text.
        """
        self._vocabulary = vocabulary
        starts_text = not prompt or vocabulary.is_special(prompt[-1])
        self._detokenizer = Detokenizer(vocabulary, starts_text=starts_text, spelled=spelled)
        self._matcher = StopMatcher(stops)
        self._reasoning = reasoning
        self._undelivered: deque[_Undelivered] = deque()
        self._produced = 0  # characters detokenised
        self._shown = 0  # of these, characters past the stop matcher
        self._stopped = False
        self._ready: list[str] = []

    @property
    def reasoning_tokens(self) -> int:
        """How many of the completion's tokens are reasoning; 0 if they are not counted."""
        return 0 if self._reasoning is None else self._reasoning.tokens

    def describe_prompt(
        self, prompt: Sequence[int], scores: Sequence[RawLogprobs] | None, *, echo: bool
    ) -> PromptDetails:
        """The text of `prompt`, with `echo`, and the `scores` of its tokens from the second on."""
        detokenizer = Detokenizer(self._vocabulary, starts_text=True)
        pieces = list(map(detokenizer.feed, prompt))
        text = "".join(pieces) if echo else None
        if scores is None:
            return PromptDetails(text)
        rest = zip(prompt[1:], scores, pieces[1:], strict=True)
        return PromptDetails(text, (None, *(self._describe(*entry) for entry in rest)))

    def feed(self, token: int, logprobs: RawLogprobs | None, *, may_stop: bool = True) -> bool:
        """Add a token; True if it completes a stop string, after which no more may come.

        Without `may_stop` its text is no part of a stop string.
        """
        text = self._detokenizer.feed(token)
        if self._reasoning is not None:
            self._reasoning.feed(text)
        start, self._produced = self._produced, self._produced + len(text)
        # A token that ends in half a character is delivered with the character.
        end = self._produced + self._detokenizer.incomplete
        entry = None if logprobs is None else self._describe(token, logprobs, text)
        self._undelivered.append(_Undelivered(token, start, end, entry))
        shown, self._stopped = text, False
        if may_stop and self._matcher.searches:
            unseen = self._detokenizer.is_silent(token)
            searched = self._vocabulary.bytes_of(token).decode(errors="replace") if unseen else text
            shown, self._stopped = self._matcher.feed(searched, unseen=unseen)
        self._show(shown)
        return self._stopped

    def feed_end(self, token: int) -> None:
        """Add the token that ends the completion; it has no text."""
        if self._reasoning is not None:
            self._reasoning.feed("")
        self._undelivered.append(_Undelivered(token, self._produced, self._produced, None))

    def take(self) -> Chunk:
        """The text and tokens that have become deliverable since the last call."""
        settled = []
        while self._undelivered and self._undelivered[0].end <= self._shown:
            settled.append(self._undelivered.popleft())
        return self._chunk(settled)

    def finish(self) -> Chunk:
        """The text and tokens that are left at a normal end: every token counts as delivered.

        The tokens of a stop string have no log-probabilities, as they have no text.
        """
        stopped = self._stopped
        if not stopped:
            self._show(self._matcher.flush())
        settled = [
            _Undelivered(entry.token, entry.start, entry.end, None)
            if stopped and entry.start >= self._shown
            else entry
            for entry in self._undelivered
        ]
        self._undelivered.clear()
        return self._chunk(settled)

    def _show(self, text: str) -> None:
        if text:
            self._ready.append(text)
            self._shown += len(text)

    def _chunk(self, settled: list[_Undelivered]) -> Chunk:
        text = "".join(self._ready)
        self._ready.clear()
        return Chunk(
            text,
            tuple([entry.token for entry in settled]),
            tuple([entry.logprob for entry in settled if entry.logprob is not None]),
        )

    def _describe(self, token: int, logprobs: RawLogprobs, text: str) -> TokenLogprob:
        alternatives = tuple(
            TokenAlternative(other, *self._spell(other), logprob)
            for other, logprob in zip(logprobs.top_ids, logprobs.top, strict=True)
        )
        return TokenLogprob(token, *self._spell(token), logprobs.chosen, alternatives, characters=len(text))

    def _spell(self, token: int) -> tuple[str, bytes]:
        data = self._vocabulary.bytes_of(token)
        return data.decode(errors="replace"), data
