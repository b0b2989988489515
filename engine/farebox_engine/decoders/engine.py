"""One model, one engine, one thread: the door to it all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from pathlib import Path

from farebox_engine.config import EngineConfig
from farebox_engine.decoders.assembly import build_core
from farebox_engine.decoders.intake import Intake
from farebox_engine.decoders.sizing import context_length
from farebox_engine.errors import RequestError
from farebox_engine.grammar.compiler import Grammar, GrammarCompiler, GrammarSpec
from farebox_engine.lora.adapter import AdapterInfo
from farebox_engine.lora.store import AdapterStore
from farebox_engine.machine import single_threaded
from farebox_engine.models.loader import LoadedModel, load_model
from farebox_engine.outputs import EngineStats
from farebox_engine.params import GenerationRequest
from farebox_engine.quantization.prepare import check_quantization
from farebox_engine.scheduling.sequence import Sequence, Update
from farebox_engine.serving.generation import Generation, Generations
from farebox_engine.serving.supervisor import Supervisor
from farebox_engine.tokenization.answer_format import AnswerFormat


class Engine:
    """Serves one model: takes requests on an event loop, computes them in a thread of its own.

    The thread waits while there is nothing to do, and hands over to the loop once per
    step, whatever the number of requests. When a step hangs, another thread takes over.
    """

    def __init__(self, loaded: LoadedModel, config: EngineConfig) -> None:
        """Raises `LoadError` if the settings do not fit the model or the machine."""
        self.context_length = context_length(loaded, config)
        self.model_hash = loaded.model_hash
        self.defaults = loaded.defaults
        self._tokenizer = loaded.tokenizer
        self._grammars = GrammarCompiler(
            loaded.tokenizer.vocabulary,
            loaded.tokenizer.encode_plainly,
            loaded.config.vocab_size,
            loaded.eos_token_ids,
        )
        # Before the core packs the projections: what can be adapted is read off their weights.
        self._adapters = AdapterStore(loaded)
        self._intake = Intake(loaded, self.context_length, self._adapters)
        with single_threaded():
            self._core = build_core(loaded, config, self.context_length)
        self._generations = Generations()
        self._supervisor: Supervisor[Sequence, Update] = Supervisor(
            self._core, config, deliver=self._generations.deliver, end_all=self._generations.end_all
        )

    @classmethod
    def load(cls, path: str | Path, config: EngineConfig | None = None) -> Engine:
        """Load the Hugging Face folder at `path`; blocks for as long as that takes.

        Raises:
            LoadError: the checkpoint or the settings cannot be used.
        """
        config = config or EngineConfig()
        device = config.torch_device()
        check_quantization(config.quantization, device)
        with single_threaded():
            loaded = load_model(path, device=device, dtype=config.torch_dtype(device))
        return cls(loaded, config)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the engine's thread; generations are delivered on `loop`."""
        self._supervisor.start(loop)

    def close(self) -> None:
        """End running generations with an error and wait for the thread; further calls do nothing.

        A step that hangs is waited for no longer than `EngineConfig.step_timeout`.
        """
        self._supervisor.close()
        self._grammars.close()

    def generate(self, request: GenerationRequest) -> Generation:
        """Begin a generation; to be called on the event loop given to `start`.

        Raises:
            RequestError: the request does not fit this model.
            ClosedError: the engine is not running.
        """
        return self._generations.begin(request, self._intake.sequence(request), self._supervisor)

    def load_adapter(self, name: str, folder: str | Path) -> AdapterInfo:
        """Load the adapter in peft's `folder` for requests that name it; slow, so not for the event loop.

        Running requests go on undisturbed, also those with a former adapter of that name.

        Raises:
            LoadError: it does not fit the model or is not supported; nothing is loaded then.
        """
        return self._adapters.load(name, folder)

    def unload_adapter(self, name: str) -> None:
        """Refuse new requests for an adapter; its memory is freed when the last running one has ended.

        Raises:
            LoadError: there is no such adapter.
        """
        self._adapters.unload(name)

    def adapters(self) -> list[AdapterInfo]:
        """The adapters that requests can name."""
        return self._adapters.all()

    def encode(self, text: str) -> list[int]:
        """The tokens of a user's text; control tokens spelled in it are encoded as text."""
        return self._tokenizer.encode(text)

    def spellings(self, word: str) -> list[tuple[int, ...]]:
        """What `SamplingParams.bad_words` takes for a word: it after a space, without one, at a text's start.

        Raises:
            RequestError: the word is nothing but white space; names `bad_words`.
        """
        found = self._tokenizer.spellings(word)
        if not found:
            raise RequestError("Each of bad_words needs more than white space.", "bad_words")
        return found

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
        return replace(self._core.stats(), restarts=self._supervisor.restarts, failed=self._supervisor.failed)
