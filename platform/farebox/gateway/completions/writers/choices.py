"""A choice that is sent whole, put together of its chunks."""

from dataclasses import dataclass, field

from farebox.gateway.completions.writers.logprobs import ScoredToken, scored_prompt
from farebox.gateway.models.generation import Chunk


@dataclass(slots=True)
class ChoiceBuffer:
    """The chunks of one choice so far. `logprobs` stays empty unless they were asked for."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[ScoredToken] = field(default_factory=list)
    finish_reason: str | None = None

    @property
    def pieces(self) -> int:
        """How much there is to write: log-probabilities, and chunks of text."""
        top = 0 if not self.logprobs or isinstance(self.logprobs[-1], str) else len(self.logprobs[-1].top)
        return len(self.texts) + len(self.logprobs) * (1 + top)

    def add(self, chunk: Chunk) -> None:
        if chunk.prompt is not None:
            self.texts.append(chunk.prompt.text or "")
            self.logprobs.extend(scored_prompt(chunk.prompt))
        self.texts.append(chunk.text)
        if chunk.logprobs:
            self.logprobs.extend(chunk.logprobs)
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason.value
