"""One model, one engine, one thread: the door to it all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from pathlib import Path

from farebox_engine.accounting import CostModel, DeviceLedger
from farebox_engine.answer_format import AnswerFormat
from farebox_engine.blocks import BlockPool, root_key
from farebox_engine.core import EngineCore, Update
from farebox_engine.engine_thread import EngineThread
from farebox_engine.errors import RequestError
from farebox_engine.generation import Generation
from farebox_engine.grammar import Grammar, GrammarCompiler, GrammarSpec
from farebox_engine.kv_cache import KVCache
from farebox_engine.loader import LoadedModel, load_model
from farebox_engine.mailbox import Mail
from farebox_engine.options import EngineConfig
from farebox_engine.outputs import EngineStats, FinishReason
from farebox_engine.params import GenerationRequest
from farebox_engine.runner import ModelRunner
from farebox_engine.scheduler import Scheduler
from farebox_engine.sequence import Sequence
from farebox_engine.sizing import context_length, num_blocks
from farebox_engine.transcript import EMPTY_DELTA, Transcript


class Engine:
    """Serves one model: takes requests on an event loop, computes them in a thread of its own.

    The thread waits while there is nothing to do, and hands over to the loop once per
    step, whatever the number of requests.
    """

    def __init__(self, loaded: LoadedModel, config: EngineConfig) -> None:
        """Raises `LoadError` if the settings do not fit the model or the machine."""
        self.context_length = context_length(loaded, config)
        self.model_hash = loaded.model_hash
        self._loaded = loaded
        self._tokenizer = loaded.tokenizer
        self._grammars = GrammarCompiler(
            loaded.tokenizer.vocabulary,
            loaded.tokenizer.encode_plainly,
            loaded.config.vocab_size,
            loaded.eos_token_ids,
        )
        self._work = _Work(_build_core(loaded, config, self.context_length))
        self._thread = EngineThread(self._work, config.cpu_threads())

    @classmethod
    def load(cls, path: str | Path, config: EngineConfig | None = None) -> Engine:
        """Load the Hugging Face folder at `path`; blocks for as long as that takes.

        Raises:
            LoadError: the checkpoint or the settings cannot be used.
        """
        config = config or EngineConfig()
        device = config.torch_device()
        return cls(load_model(path, device=device, dtype=config.torch_dtype(device)), config)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the engine's thread; generations are delivered on `loop`."""
        self._thread.start(loop)

    def close(self) -> None:
        """End running generations with an error and wait for the thread; further calls do nothing."""
        self._thread.close()

    def generate(self, request: GenerationRequest) -> Generation:
        """Begin a generation; to be called on the event loop given to `start`.

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
        """The tokens of a user's text; control tokens spelled in it are encoded as text."""
        return self._tokenizer.encode(text)

    def render_chat(
        self,
        messages: Seq[Mapping[str, object]],
        add_generation_prompt: bool = True,
        tools: Seq[object] | None = None,
    ) -> list[int]:
        """The prompt tokens of a chat, by the model's template; slow, so not for the event loop.

        Raises:
            TemplateError: there is no template, or it failed or refused the messages.
        """
        return self._tokenizer.render_chat(messages, add_generation_prompt=add_generation_prompt, tools=tools)

    def compile_grammar(self, spec: GrammarSpec) -> Grammar:
        """What `GenerationRequest.grammar` takes; not for the event loop.

        Raises:
            RequestError: it cannot be enforced, or is too large.
        """
        return self._grammars.compile(spec)

    @property
    def answer_format(self) -> AnswerFormat:
        """How the model marks reasoning and calls of tools."""
        return self._tokenizer.answer_format

    def opens_reasoning(self, prompt: Seq[int]) -> bool:
        """Whether an answer to `prompt` begins within reasoning."""
        return self._tokenizer.opens_reasoning(prompt)

    @property
    def has_chat_template(self) -> bool:
        return self._tokenizer.has_chat_template

    def stats(self) -> EngineStats:
        """What the engine is doing now."""
        return self._work.core.stats()

    def _sequence(self, request: GenerationRequest) -> Sequence:
        """Check a request against the model and make it ready to be scheduled."""
        params, prompt = request.params, request.prompt_token_ids
        vocab = self._loaded.config.vocab_size
        if not prompt:
            raise RequestError("The prompt is empty; it needs at least one token.", "prompt")
        if not 0 <= min(prompt) <= max(prompt) < vocab:
            raise RequestError(f"The prompt has a token id outside 0 to {vocab - 1}.", "prompt")
        if any(not 0 <= token < vocab for token in params.logit_bias):
            raise RequestError(f"logit_bias has a token id outside 0 to {vocab - 1}.", "logit_bias")
        if (params.num_beams or 1) > 1:
            raise RequestError("This model offers no beam search; leave num_beams out.", "num_beams")
        room = self.context_length - len(prompt)
        if room < 1 or (params.max_tokens or 1) > room:
            raise RequestError(
                f"The context holds {self.context_length} tokens; the prompt has {len(prompt)} and "
                f"max_tokens is {params.max_tokens or 1}.",
                "max_tokens" if room >= 1 else "prompt",
            )
        ends = set(params.stop_token_ids)
        if not params.ignore_eos:
            ends |= self._loaded.eos_token_ids
        return Sequence(
            request=request,
            transcript=Transcript(self._tokenizer.vocabulary, prompt, params.stop),
            token_limit=params.max_tokens or room,
            end_token_ids=frozenset(ends),
            root_key=self._root_key(request),
            submitted_at=time.perf_counter(),
        )

    def _root_key(self, request: GenerationRequest) -> bytes:
        scope = [self.model_hash.encode(), request.cache_salt]
        if self._loaded.model.lengths_matter:
            # Keys then depend on the prompt's length: prefixes of other lengths must not match.
            scope.append(len(request.prompt_token_ids).to_bytes(8, "little"))
        return root_key(*scope)


class _Work:
    """What the engine's thread does with a core, and who hears of it."""

    def __init__(self, core: EngineCore) -> None:
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


def _build_core(loaded: LoadedModel, config: EngineConfig, context: int) -> EngineCore:
    device = loaded.device
    blocks = num_blocks(loaded, config, context)
    cache = KVCache(
        loaded.config, num_blocks=blocks, block_size=config.block_size, dtype=loaded.dtype, device=device
    )
    pool = BlockPool(blocks)
    scheduler = Scheduler(
        pool,
        block_size=config.block_size,
        token_budget=config.tokens_per_step(device),
        max_running=config.running_limit(device),
    )
    cost = CostModel.of(
        loaded.config,
        parameters=loaded.parameters,
        item_bytes=loaded.dtype.itemsize,
        on_gpu=device.type == "cuda",
    )
    return EngineCore(scheduler, pool, ModelRunner(loaded.model, cache), DeviceLedger(cost))
