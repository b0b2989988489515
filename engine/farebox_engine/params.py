"""What a caller asks of the engine: sampling parameters and generation requests."""

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farebox_engine.errors import RequestError
from farebox_engine.grammar import Grammar

MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 1024
MAX_BIASED_TOKENS = 1024
MAX_BEAMS = 16


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens and when to stop; checked on construction.

    The defaults sample from the model's own distribution. `temperature` 0 is greedy.
    `top_k` 0, `top_p` 1 and `min_p` 0 switch the respective filter off; they apply in
    that order, after the penalties and the temperature. Presence and frequency penalties
    count generated tokens, the repetition penalty also those of the prompt. With `seed`
    the same request yields the same tokens in any batch. `logprobs` asks for the chosen
    token's log-probability and that many alternatives, of the raw distribution: before
    penalties, bias and temperature. `max_tokens` None means up to the context length.

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

    def __post_init__(self) -> None:
        if self.max_tokens is not None:
            _check_range("max_tokens", self.max_tokens, 1, 2**31)
        _check_range("temperature", self.temperature, 0, 100)
        _check_range("top_p", self.top_p, 0, 1)
        _check_range("top_k", self.top_k, 0, 2**31)
        _check_range("min_p", self.min_p, 0, 1)
        _check_range("presence_penalty", self.presence_penalty, -2, 2)
        _check_range("frequency_penalty", self.frequency_penalty, -2, 2)
        _check_range("repetition_penalty", self.repetition_penalty, 0.01, 100)
        if self.logprobs is not None:
            _check_range("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        if self.seed is not None:
            _check_range("seed", self.seed, -(2**63), 2**64 - 1)
        self._check_stops()
        self._check_bias()
        self._check_beams()

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
    """

    request_id: str
    prompt_token_ids: Sequence[int]
    params: SamplingParams = field(default_factory=SamplingParams)
    cache_salt: bytes = b""
    grammar: Grammar | None = None
    seed: int = field(init=False)

    def __post_init__(self) -> None:
        seed = self.params.seed
        object.__setattr__(self, "seed", secrets.randbits(64) if seed is None else seed & (2**64 - 1))


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise RequestError(f"{name} is {value}; it must lie between {low:g} and {high:g}.", name)
