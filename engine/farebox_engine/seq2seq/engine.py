"""One encoder-decoder, one engine, one thread: the door to it all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from pathlib import Path

from farebox_engine.config import EngineConfig
from farebox_engine.errors import RequestError, TemplateError
from farebox_engine.grammar.compiler import Grammar, GrammarSpec
from farebox_engine.models.sampling_defaults import GenerationDefaults as SamplingDefaults
from farebox_engine.outputs import EngineStats
from farebox_engine.params import GenerationRequest
from farebox_engine.sampling.penalties import TokenCounts
from farebox_engine.scheduling.sequence import Sequence, Update
from farebox_engine.seq2seq.assembly import build_core
from farebox_engine.seq2seq.loader import LoadedSeq2Seq, load_seq2seq
from farebox_engine.seq2seq.sizing import fit
from farebox_engine.serving.generation import Generation, Generations
from farebox_engine.serving.supervisor import Supervisor
from farebox_engine.tokenization.answer_format import AnswerFormat
from farebox_engine.tokenization.transcript import Transcript


class Seq2SeqEngine:
    """Serves one encoder-decoder as `Engine` serves a decoder; a request's prompt is the source.

    When a step hangs, another thread takes over.

    The answer is streamed token by token, that of a beam search as a whole at the end. In
    a request's usage `prefill_seconds` is the encoding with the first token (for beams:
    with their first step); `cached_tokens` is 0.
    """

    def __init__(self, loaded: LoadedSeq2Seq, config: EngineConfig) -> None:
        """Raises `LoadError` if the settings do not fit the model or the machine."""
        self.model_hash = loaded.model_hash
        self._loaded = loaded
        self._sizes = fit(loaded, config)
        self._core = build_core(loaded, config, self._sizes)
        self._generations = Generations()
        self._supervisor: Supervisor[Sequence, Update] = Supervisor(
            self._core, config, deliver=self._generations.deliver, end_all=self._generations.end_all
        )

    @classmethod
    def load(cls, path: str | Path, config: EngineConfig | None = None) -> Seq2SeqEngine:
        """Load the Hugging Face folder at `path`; blocks for as long as that takes.

        `config.context_length` bounds source and target each.

        Raises:
            LoadError: the checkpoint or the settings cannot be used.
        """
        config = config or EngineConfig()
        device = config.torch_device()
        return cls(load_seq2seq(path, device=device, dtype=config.torch_dtype(device)), config)

    @property
    def context_length(self) -> int:
        """Tokens that the longest source and the longest target have together."""
        return self._sizes.source_length + self._sizes.target_length

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the engine's thread; generations are delivered on `loop`."""
        self._supervisor.start(loop)

    def close(self) -> None:
        """End running generations with an error and wait for the thread; further calls do nothing.

        A step that hangs is waited for no longer than `EngineConfig.step_timeout`.
        """
        self._supervisor.close()

    def generate(self, request: GenerationRequest) -> Generation:
        """Begin a generation; to be called on the event loop given to `start`.

        A target ends at the model's longest even if `max_tokens` is greater.

        Raises:
            RequestError: the request does not fit this model.
            ClosedError: the engine is not running.
        """
        return self._generations.begin(request, self._sequence(request), self._supervisor)

    def encode(self, text: str) -> list[int]:
        """The tokens of a source text; control tokens spelled in it are encoded as text."""
        return self._loaded.tokenizer.encode(text)

    def render_chat(
        self,
        messages: Seq[Mapping[str, object]],
        add_generation_prompt: bool = True,
        tools: Seq[object] | None = None,
    ) -> list[int]:
        """The prompt tokens of a chat, if the checkpoint has a template for one.

        Raises:
            TemplateError: there is no template, or it failed or refused the messages.
        """
        if not self._loaded.tokenizer.has_chat_template:
            raise TemplateError("This model turns one text into another and holds no chats; use completions.")
        return self._loaded.tokenizer.render_chat(
            messages, add_generation_prompt=add_generation_prompt, tools=tools
        )

    def spellings(self, word: str) -> list[tuple[int, ...]]:
        """Raises `RequestError`: encoder-decoders take no bad words."""
        raise RequestError("This model has no bad_words; leave it out.", "bad_words")

    def compile_grammar(self, spec: GrammarSpec) -> Grammar:
        """Raises `RequestError`: encoder-decoders take no grammar."""
        raise RequestError("This model takes no grammar.", spec.param)

    @property
    def answer_format(self) -> AnswerFormat:
        """Nothing in a target is marked."""
        return AnswerFormat()

    def opens_reasoning(self, prompt: Seq[int]) -> bool:
        del prompt
        return False

    @property
    def defaults(self) -> SamplingDefaults:
        """Where a request is silent, the likeliest target is looked for, by beams if the model says so."""
        return SamplingDefaults(temperature=0.0, max_new_tokens=self._loaded.defaults.max_tokens)

    @property
    def has_chat_template(self) -> bool:
        return self._loaded.tokenizer.has_chat_template

    def stats(self) -> EngineStats:
        """What the engine is doing now."""
        return replace(self._core.stats(), restarts=self._supervisor.restarts, failed=self._supervisor.failed)

    def _sequence(self, request: GenerationRequest) -> Sequence:
        """Check a request against the model and make it ready to be scheduled."""
        params, defaults, sizes = request.params, self._loaded.defaults, self._sizes
        self._check(request)
        ends = set(params.stop_token_ids)
        if not params.ignore_eos:
            ends |= set(defaults.eos_token_ids)
        sequence = Sequence(
            request=request,
            transcript=Transcript(self._loaded.tokenizer.vocabulary, (), params.stop),
            token_limit=min(
                params.max_tokens or defaults.max_tokens or sizes.target_length, sizes.target_length
            ),
            end_token_ids=frozenset(ends),
            root_key=b"",
            submitted_at=time.perf_counter(),
        )
        if params.penalised:
            # As in transformers, penalties look at the target, not at the source.
            sequence.counts = TokenCounts([defaults.start_token_id])
        if sizes.blocks(sequence, defaults.beams_for(params)) > sizes.num_blocks:
            raise RequestError(
                "The beams of this request do not fit into the cache; ask for fewer.", "num_beams"
            )
        return sequence

    def _check(self, request: GenerationRequest) -> None:
        params, source = request.params, request.prompt_token_ids
        vocab, longest = self._loaded.model.dimensions.vocab_size, self._sizes.source_length
        if not source:
            raise RequestError("The prompt is empty; it needs at least one token.", "prompt")
        if request.adapter is not None:
            raise RequestError("This model takes no adapters.", "model")
        ignored = {
            "echo": params.echo,
            "prompt_logprobs": params.prompt_logprobs is not None,
            "min_tokens": params.min_tokens > 0,
            "bad_words": bool(params.bad_words),
            "grammar": request.grammar is not None,
        }
        for name, asked in ignored.items():
            if asked:
                raise RequestError(f"This model has no {name}; leave it out.", name)
        if not 0 <= min(source) <= max(source) < vocab:
            raise RequestError(f"The prompt has a token id outside 0 to {vocab - 1}.", "prompt")
        if any(not 0 <= token < vocab for token in params.logit_bias):
            raise RequestError(f"logit_bias has a token id outside 0 to {vocab - 1}.", "logit_bias")
        if len(source) > longest:
            raise RequestError(
                f"The prompt has {len(source)} tokens; this model reads at most {longest}.", "prompt"
            )
        if (params.num_beams or 1) > self._sizes.max_hypotheses:
            raise RequestError(
                f"num_beams is {params.num_beams}; this engine has room for {self._sizes.max_hypotheses}.",
                "num_beams",
            )
