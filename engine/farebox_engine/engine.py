"""One model, one engine, one thread: the door to it all, for every family that writes text."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from pathlib import Path

from farebox_engine.checkpoint.json_file import read_optional_json
from farebox_engine.config import EngineConfig
from farebox_engine.decoders.assembly import Layout, assemble_decoder
from farebox_engine.errors import LoadError, RequestError
from farebox_engine.grammar.compiler import Grammar, GrammarSpec
from farebox_engine.lora.adapter import AdapterInfo
from farebox_engine.lora.store import AdapterStore
from farebox_engine.machine import single_threaded
from farebox_engine.models.loader import LoadedModel, load_model
from farebox_engine.outputs import EngineStats
from farebox_engine.params import GenerationRequest
from farebox_engine.quantization.prepare import check_quantization
from farebox_engine.scheduling.sequence import Sequence, SequenceOutput
from farebox_engine.seq2seq.assembly import assemble_seq2seq
from farebox_engine.seq2seq.loader import LoadedSeq2Seq, is_seq2seq, load_seq2seq
from farebox_engine.serving.generation import Generation, Generations
from farebox_engine.serving.supervisor import Supervisor
from farebox_engine.tokenization.answer_format import AnswerFormat


class Engine:
    """Serves one model: takes requests on an event loop, computes them in a thread of its own.

    The thread waits while there is nothing to do, and hands over to the loop once per
    step, whatever the number of requests. When a step hangs, another thread takes over.

    The prompt of an encoder-decoder is its source, and the completion the target. That of a beam search
    comes as a whole at the end. In a request's usage `prefill_seconds` is then the encoding with the
    first step, and `cached_tokens` is 0.
    """

    def __init__(
        self, loaded: LoadedModel | LoadedSeq2Seq, config: EngineConfig, layout: Layout | None = None
    ) -> None:
        """`layout` is a decoder's, and the device's own unless given.

        Raises `LoadError` if the settings do not fit the model or the machine.
        """
        with single_threaded():
            if isinstance(loaded, LoadedSeq2Seq):
                parts = assemble_seq2seq(loaded, config)
            else:
                parts = assemble_decoder(loaded, config, layout or Layout())
        self.context_length = parts.context_length
        self.cache_bytes = parts.core.stats().total_blocks * parts.block_bytes
        self.model_hash = parts.model_hash
        self.defaults = parts.defaults
        self._core = parts.core
        self._intake = parts.intake
        self._tokenizer = parts.tokenizer
        self._grammars = parts.grammars
        self._adapters = parts.adapters
        self._generations = Generations(self._core.note_served)
        self._supervisor: Supervisor[Sequence, SequenceOutput] = Supervisor(
            self._core, config, deliver=self._generations.deliver, end_all=self._generations.end_all
        )

    @classmethod
    def load(
        cls, path: str | Path, config: EngineConfig | None = None, layout: Layout | None = None
    ) -> Engine:
        """Load the Hugging Face folder at `path`; blocks for as long as that takes.

        `config.context_length` bounds an encoder-decoder's source and target each.

        Raises:
            LoadError: the checkpoint or the settings cannot be used.
        """
        config = config or EngineConfig()
        with single_threaded():
            loaded = _load(Path(path), config)
        return cls(loaded, config, layout)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the engine's thread; generations are delivered on `loop`."""
        self._supervisor.start(loop)

    def close(self) -> None:
        """End running generations with an error and wait for the thread; further calls do nothing.

        A step that hangs is waited for no longer than `EngineConfig.step_timeout`.
        """
        self._supervisor.close()
        if self._grammars is not None:
            self._grammars.close()

    def generate(self, request: GenerationRequest) -> Generation:
        """Begin a generation; to be called on the event loop given to `start`.

        An encoder-decoder's target ends at the model's longest even if `max_tokens` is greater.

        Raises:
            RequestError: the request does not fit this model.
            ClosedError: the engine is not running.
        """
        return self._generations.begin(self._intake.sequence(request), self._supervisor)

    def load_adapter(self, name: str, folder: str | Path) -> AdapterInfo:
        """Load the adapter in peft's `folder` for requests that name it; slow, so not for the event loop.

        Running requests go on undisturbed, also those with a former adapter of that name.

        Raises:
            LoadError: it does not fit the model or is not supported; nothing is loaded then.
        """
        return self._adapter_store().load(name, folder)

    def unload_adapter(self, name: str) -> None:
        """Refuse new requests for an adapter; its memory is freed when the last running one has ended.

        Raises:
            LoadError: there is no such adapter.
        """
        self._adapter_store().unload(name)

    @property
    def takes_adapters(self) -> bool:
        """Whether its family has adapters at all."""
        return self._adapters is not None

    def adapters(self) -> list[AdapterInfo]:
        """The adapters that requests can name."""
        return [] if self._adapters is None else self._adapters.all()

    def encode(self, text: str) -> list[int]:
        """The tokens of a user's text; control tokens spelled in it are encoded as text."""
        return self._tokenizer.encode(text)

    def spellings(self, word: str) -> list[tuple[int, ...]]:
        """What `SamplingParams.bad_words` takes for a word: it after a space, without one, at a text's start.

        Raises:
            RequestError: the word is nothing but white space, or the model takes none; names `bad_words`.
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
        variables: Mapping[str, object] | None = None,
    ) -> list[int]:
        """The prompt tokens of a chat, by the model's template; slow, so not for the event loop.

        `variables` are for the template, such as `enable_thinking`.

        Raises:
            TemplateError: there is no template, or it failed or refused the messages.
        """
        return self._tokenizer.render_chat(
            messages, add_generation_prompt=add_generation_prompt, tools=tools, variables=variables
        )

    def compile_grammar(self, spec: GrammarSpec) -> Grammar:
        """What `GenerationRequest.grammar` takes; not for the event loop.

        Raises:
            RequestError: it cannot be enforced, or is too large, or the model takes none.
        """
        if self._grammars is None:
            raise RequestError("This model takes no grammar.", spec.param)
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

    def _adapter_store(self) -> AdapterStore:
        if self._adapters is None:
            raise LoadError("This model takes no adapters.")
        return self._adapters


def _load(path: Path, config: EngineConfig) -> LoadedModel | LoadedSeq2Seq:
    device = config.torch_device()
    dtype = config.torch_dtype(device)
    if is_seq2seq(read_optional_json(path / "config.json")):
        return load_seq2seq(path, device=device, dtype=dtype)
    check_quantization(config.quantization, device)
    return load_model(path, device=device, dtype=dtype)
