"""The models of `tests.bench.batch_streams`, and the prompts that they are given."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from farebox_engine.bench.decoding.shapes import SHAPES, build_model
from farebox_engine.config import EngineConfig
from farebox_engine.engine import Engine
from farebox_engine.layers.attention import AttentionBackend
from farebox_engine.models.loader import LoadedModel
from farebox_engine.tokenization.tokenizer import ChatTokenizer

CPU = torch.device("cpu")
DEMO = Path(str(files("farebox_engine") / "demo"))
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
Message = dict[str, str]


class PacedModel:
    """A stand-in for a GPU: a step ends so many seconds after the one before, and computes nothing.

    As under the engine's device runner, a step may begin while the host still handles the last one, but
    not before the host has been through with the one before that. The wait holds no lock.
    """

    lengths_matter = False
    outgrown_at = None

    def __init__(self, step_seconds: float, vocab_size: int) -> None:
        self._step_seconds = step_seconds
        self._launched = self._done = 0.0
        self._logits = torch.rand(1024, vocab_size, generator=torch.Generator().manual_seed(0))

    def __call__(
        self, tokens: Tensor, positions: Tensor, attention: AttentionBackend, lengths: Tensor | None = None
    ) -> Tensor:
        """Return hidden states [T, 1] that say nothing, once the step's time is over."""
        del positions, attention, lengths
        launched, self._launched = self._launched, time.perf_counter()
        self._done = max(self._done, launched) + self._step_seconds
        time.sleep(max(0.0, self._done - self._launched))
        return tokens[:, None].float()

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the same logits [N, vocab_size] in every step."""
        return self._logits[: len(hidden)]


@dataclass(frozen=True, slots=True)
class Case:
    """A model, and how many tokens each answer has."""

    title: str
    new_tokens: int
    load: Callable[[], LoadedModel]


def _demo() -> LoadedModel:
    """The demo model's shape and texts. Its weights would choose end tokens, for which nothing is written."""
    shape = msgspec.json.decode((DEMO / "config.json").read_bytes())
    loaded = build_model(shape, CPU, torch.float32)
    return replace(loaded, tokenizer=ChatTokenizer.load(DEMO, loaded.config.vocab_size))


def _random_135m() -> LoadedModel:
    """The shape's weights are random; its tokens are words, and the letters that prompts are made of."""
    loaded = build_model(SHAPES["smollm-135m"], CPU, torch.float32)
    letters = {chr(code): code - 0x21 for code in range(0x21, 0x7F)} | {"Ġ": 94}
    words = {f"t{token}": token for token in range(len(letters), loaded.config.vocab_size)}
    description = {
        "model": {"type": "BPE", "vocab": letters | words, "merges": []},
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "added_tokens": [],
    }
    return replace(loaded, tokenizer=ChatTokenizer(description, TEMPLATE, {}))


def _paced(tokens_per_second: int) -> LoadedModel:
    """The demo model's tokens and texts at a GPU's pace for 256 streams."""
    loaded = _demo()
    return replace(loaded, model=PacedModel(256 / tokens_per_second, loaded.config.vocab_size))


# The paces are half the rooflines at batch 256 of Qwen3-0.6B and Llama-3.1-8B on an H200.
CASES = {
    "135m": Case("135M Llama shape, random weights", 16, _random_135m),
    "demo": Case("demo model's shape, random weights", 64, _demo),
    "pace-8b": Case("waiting as long as a GPU for 11,150 tokens/s (8B)", 192, lambda: _paced(11_150)),
    "pace-0.6b": Case("waiting as long as a GPU for 17,600 tokens/s (0.6B)", 192, lambda: _paced(17_600)),
}


def load_engine(case: str, streams: int, threads: int) -> Engine:
    """The engine of either side: all streams run at once, and as on a GPU nothing is guessed."""
    config = EngineConfig(
        device="cpu", max_running=streams, threads=threads, speculative_tokens=0, kv_cache_bytes=2 << 30
    )
    return Engine(CASES[case].load(), config)


def conversation(stream: int) -> list[Message]:
    """What one of the streams is asked."""
    return [{"role": "user", "content": f"Say {stream:03}."}]
