"""One encoder-decoder, one engine, one thread: the door to it all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from pathlib import Path

from farebox_engine.answer_format import AnswerFormat
from farebox_engine.blocks import BlockPool
from farebox_engine.core import Update
from farebox_engine.engine_thread import EngineThread
from farebox_engine.errors import RequestError, TemplateError
from farebox_engine.generation import Generation
from farebox_engine.generation_defaults import GenerationDefaults as SamplingDefaults
from farebox_engine.grammar import Grammar, GrammarSpec
from farebox_engine.mailbox import Mail
from farebox_engine.options import EngineConfig
from farebox_engine.outputs import EngineStats, FinishReason
from farebox_engine.params import GenerationRequest
from farebox_engine.penalties import TokenCounts
from farebox_engine.seq2seq.accounting import CostModel, DeviceLedger
from farebox_engine.seq2seq.beam import BeamSearch
from farebox_engine.seq2seq.cache import BlockCache
from farebox_engine.seq2seq.constraints import Constraints
from farebox_engine.seq2seq.core import Seq2SeqCore
from farebox_engine.seq2seq.decoding import Decoding, Hypothesis
from farebox_engine.seq2seq.loader import LoadedSeq2Seq, load_seq2seq
from farebox_engine.seq2seq.runner import Seq2SeqRunner
from farebox_engine.seq2seq.scheduler import Seq2SeqScheduler
from farebox_engine.seq2seq.sizing import Sizes, fit
from farebox_engine.sequence import Sequence
from farebox_engine.transcript import EMPTY_DELTA, Transcript


class Seq2SeqEngine:
    """Serves one encoder-decoder as `Engine` serves a decoder; a request's prompt is the source.

    The answer is streamed token by token, that of a beam search as a whole at the end. In
    a request's usage `prefill_seconds` is the encoding with the first token (for beams:
    with their first step); `cached_tokens` is 0.
    """

    def __init__(self, loaded: LoadedSeq2Seq, config: EngineConfig) -> None:
        """Raises `LoadError` if the settings do not fit the model or the machine."""
        self.model_hash = loaded.model_hash
        self._loaded = loaded
        self._sizes = fit(loaded, config)
        self._work = _Work(_build_core(loaded, config, self._sizes))
        self._thread = EngineThread(self._work, config.cpu_threads())

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
        self._thread.start(loop)

    def close(self) -> None:
        """End running generations with an error and wait for the thread; further calls do nothing."""
        self._thread.close()

    def generate(self, request: GenerationRequest) -> Generation:
        """Begin a generation; to be called on the event loop given to `start`.

        A target ends at the model's longest even if `max_tokens` is greater.

        Raises:
            RequestError: the request does not fit this model.
            ClosedError: the engine is not running.
        """
        sequence = self._sequence(request)
        generation = Generation(
            request.request_id,
            lambda: self._thread.cancel(sequence),
            with_logprobs=request.params.logprobs is not None,
        )
        self._thread.submit(sequence)
        # Deliveries run on this very loop, so that none can come before this line.
        self._work.generations[sequence] = generation
        return generation

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
        return self._work.core.stats()

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
            "priority": request.priority != 0,
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


class _Work:
    """What the engine's thread does with a core, and who hears of it."""

    def __init__(self, core: Seq2SeqCore) -> None:
        self.core = core
        self.generations: dict[Sequence, Generation] = {}

    def idle(self) -> bool:
        return self.core.idle

    def turn(self, mail: Mail[Sequence]) -> list[Update]:
        for sequence in mail.submitted:
            self.core.add(sequence)
        # A sequence may have ended while its cancellation was under way.
        updates = [self.core.cancel(sequence) for sequence in mail.cancelled if self.core.has(sequence)]
        if not self.core.idle:
            updates += self.core.step()
        return updates

    def deliver(self, updates: list[Update]) -> None:
        for update in updates:
            self.generations[update.sequence].push(update)
            if update.finish_reason is not None:
                del self.generations[update.sequence]

    def end(self) -> None:
        """Whatever ends the engine's thread, nobody waits for it for ever."""
        now = time.perf_counter()
        self.deliver(
            [
                Update(
                    sequence, EMPTY_DELTA, FinishReason.ERROR, sequence.usage(now), "The engine was closed."
                )
                for sequence in self.generations
            ]
        )


def _build_core(loaded: LoadedSeq2Seq, config: EngineConfig, sizes: Sizes) -> Seq2SeqCore:
    device, dimensions = loaded.device, loaded.model.dimensions
    cache = BlockCache(
        dimensions,
        num_blocks=sizes.num_blocks,
        block_size=sizes.block_size,
        dtype=loaded.dtype,
        device=device,
    )
    pool = BlockPool(sizes.num_blocks)

    def plan(sequence: Sequence) -> Decoding:
        return _plan(loaded, sizes, sequence)

    scheduler = Seq2SeqScheduler(
        pool,
        plan,
        block_size=sizes.block_size,
        token_budget=config.tokens_per_step(device),
        max_hypotheses=sizes.max_hypotheses,
    )
    cost = CostModel(
        encoder_parameters=loaded.encoder_parameters,
        decoder_parameters=loaded.decoder_parameters,
        encoder_attention_width=dimensions.encoder_layers * dimensions.encoder_width,
        decoder_attention_width=dimensions.decoder_layers * dimensions.decoder_width,
        item_bytes=loaded.dtype.itemsize,
        # As in `accounting.CostModel`.
        operations_per_byte=200.0 if device.type == "cuda" else 10.0,
    )
    return Seq2SeqCore(scheduler, pool, Seq2SeqRunner(loaded.model, cache), DeviceLedger(cost))


def _plan(loaded: LoadedSeq2Seq, sizes: Sizes, sequence: Sequence) -> Decoding:
    """The hypotheses a request begins with, and how they are to be searched."""
    params, defaults = sequence.request.params, loaded.defaults
    num_beams = defaults.beams_for(params)
    beams = None
    if num_beams > 1:
        beams = BeamSearch(
            num_beams,
            limit=sequence.token_limit,
            end_token_ids=sequence.end_token_ids,
            length_penalty=(
                defaults.length_penalty if params.length_penalty is None else params.length_penalty
            ),
            early_stopping=defaults.early_stopping,
        )
    return Decoding(
        sequence=sequence,
        constraints=Constraints(defaults, sequence),
        beams=beams,
        rows=[Hypothesis([defaults.start_token_id]) for _ in range(num_beams)],
        reserved=sizes.blocks(sequence, num_beams),
    )
