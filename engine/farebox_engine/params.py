"""What a caller asks of the engine: sampling parameters and generation requests."""

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farebox_engine.errors import RequestError
from farebox_engine.grammar.compiler import Grammar

MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 1024
MAX_BIASED_TOKENS = 1024
MAX_BEAMS = 16
MAX_BAD_WORDS = 256
MAX_BAD_WORD_TOKENS = 64

# Batch work, what is usual, and what goes before it.
PRIORITIES = (-1, 0, 1)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens and when to stop; checked on construction.

    The defaults sample from the model's own distribution. `temperature` 0 is greedy.
    `top_k` 0, `top_p` 1 and `min_p` 0 switch the respective filter off; they apply in
    that order, after the penalties and the temperature. Presence and frequency penalties
    count generated tokens, the repetition penalty also those of the prompt. With `seed`
    the same request yields the same tokens in any batch. `logprobs` asks for the chosen
    token's log-probability and that many alternatives, of the raw distribution: before
    penalties, bias and temperature. `max_tokens` None means up to the context length, and
    0, with `echo` or `prompt_logprobs`, that only the prompt is wanted.

    Before `min_tokens` neither an end token nor a stop string ends the completion. No
    sequence of tokens among `bad_words` appears in it. `prompt_logprobs` asks for the same
    as `logprobs`, of the tokens of the prompt, which is then computed in full, with
    nothing from the prefix cache; `echo` asks for the prompt's text. Both come with the
    first chunk.

    Encoder-decoders also search with `num_beams` beams, at temperature 0 and without
    penalties, bias and `logprobs`; `length_penalty` is the power of its length by which a
    hypothesis' log-probability is divided. None leaves both to the model's
    generation_config.json.

    Raises:
        RequestError: a value out of range; names the parameter.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    logprobs: int | None = None
    ignore_eos: bool = False
    num_beams: int | None = None
    length_penalty: float | None = None
    min_tokens: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    prompt_logprobs: int | None = None
    echo: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens is not None:
            _check_range("max_tokens", self.max_tokens, 0 if self.describes_prompt else 1, 2**31)
        _check_range("min_tokens", self.min_tokens, 0, 2**31 if self.max_tokens is None else self.max_tokens)
        _check_range("temperature", self.temperature, 0, 100)
        _check_range("top_p", self.top_p, 0, 1)
        _check_range("top_k", self.top_k, 0, 2**31)
        _check_range("min_p", self.min_p, 0, 1)
        _check_range("presence_penalty", self.presence_penalty, -2, 2)
        _check_range("frequency_penalty", self.frequency_penalty, -2, 2)
        _check_range("repetition_penalty", self.repetition_penalty, 0.01, 100)
        if self.logprobs is not None:
            _check_range("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        if self.prompt_logprobs is not None:
            _check_range("prompt_logprobs", self.prompt_logprobs, 0, MAX_LOGPROBS)
        if self.seed is not None:
            _check_range("seed", self.seed, -(2**63), 2**64 - 1)
        self._check_stops()
        self._check_bias()
        self._check_beams()
        self._check_bad_words()

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        # Below this the division overflows fp32 for common logits, and no other token has a chance.
        return self.temperature < 1e-5

    @property
    def penalised(self) -> bool:
        """Whether the choice depends on the tokens seen so far."""
        return bool(self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1.0)

    @property
    def excludes_beams(self) -> bool:
        """Whether something is asked for that only makes sense token by token."""
        return not self.greedy or self.penalised or bool(self.logit_bias) or self.logprobs is not None

    @property
    def describes_prompt(self) -> bool:
        """Whether something about the prompt itself is asked for."""
        return self.echo or self.prompt_logprobs is not None

    def _check_beams(self) -> None:
        if self.length_penalty is not None:
            _check_range("length_penalty", self.length_penalty, -10, 10)
        if self.num_beams is None:
            return
        _check_range("num_beams", self.num_beams, 1, MAX_BEAMS)
        if self.num_beams > 1 and self.excludes_beams:
            raise RequestError(
                "A beam search needs temperature 0 and no penalties, logit_bias or logprobs.", "num_beams"
            )

    def _check_bad_words(self) -> None:
        if len(self.bad_words) > MAX_BAD_WORDS:
            raise RequestError(
                f"bad_words has {len(self.bad_words)} words; at most {MAX_BAD_WORDS}.", "bad_words"
            )
        for word in self.bad_words:
            if not 0 < len(word) <= MAX_BAD_WORD_TOKENS:
                raise RequestError(f"Each of bad_words has 1 to {MAX_BAD_WORD_TOKENS} tokens.", "bad_words")

    def _check_stops(self) -> None:
        if len(self.stop) > MAX_STOP_STRINGS:
            raise RequestError(f"stop has {len(self.stop)} strings; at most {MAX_STOP_STRINGS}.", "stop")
        for text in self.stop:
            if not 0 < len(text) <= MAX_STOP_LENGTH:
                raise RequestError(f"Each stop string has 1 to {MAX_STOP_LENGTH} characters.", "stop")

    def _check_bias(self) -> None:
        if len(self.logit_bias) > MAX_BIASED_TOKENS:
            raise RequestError(f"logit_bias has over {MAX_BIASED_TOKENS} entries.", "logit_bias")
        for bias in self.logit_bias.values():
            _check_range("logit_bias", bias, -100, 100)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One sequence to generate.

    `cache_salt` separates prefix caches: only requests with equal salts share blocks, so
    that no tenant can time another's prompts. `grammar` is what the answer must obey.
    `seed` resolves to a random one here, once, so that preemption and replay see the same
    number.

    The engine's time is shared fairly among `tenant`s (an opaque name) by `weight`: one
    with weight 2 gets twice the tokens of one with weight 1 while both have work waiting.
    The last request's weight counts. `priority` is 1, 0 or -1; a higher class goes first,
    and in a decoder's engine takes slots and blocks from lower ones. `adapter` names one that
    the engine has loaded. With `counts_reasoning` the usage tells `reasoning_tokens`, where the
    model marks its reasoning. With `spells_marks` the text holds the marks of reasoning and calls
    also where they are special tokens, which have no text otherwise. With `tells_when_served` what it
    computes counts as served, hence as cached for others, once `Generation.mark_served` is called; else
    also when it ends well.

    Raises:
        RequestError: a weight or priority out of range.
    """

    request_id: str
    prompt_token_ids: Sequence[int]
    params: SamplingParams = field(default_factory=SamplingParams)
    cache_salt: bytes = b""
    grammar: Grammar | None = None
    tenant: bytes | str = b""
    weight: float = 1.0
    priority: int = 0
    adapter: str | None = None
    counts_reasoning: bool = False
    spells_marks: bool = False
    tells_when_served: bool = False
    seed: int = field(init=False)

    def __post_init__(self) -> None:
        _check_range("weight", self.weight, 1e-3, 1e6)
        if self.priority not in PRIORITIES:
            raise RequestError(f"priority is {self.priority}; it must be -1, 0 or 1.", "priority")
        seed = self.params.seed
        object.__setattr__(self, "seed", secrets.randbits(64) if seed is None else seed & (2**64 - 1))


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise RequestError(f"{name} is {value}; it must lie between {low:g} and {high:g}.", name)
