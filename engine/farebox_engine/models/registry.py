"""The model families the engine can run: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from torch import Tensor, nn

from farebox_engine.checkpoint.config import DecoderConfig
from farebox_engine.checkpoint.families import Families
from farebox_engine.layers.attention import AttentionBackend
from farebox_engine.models.gemma2 import Gemma2ForCausalLM, read_gemma2
from farebox_engine.models.gemma3 import Gemma3ForCausalLM, read_gemma3
from farebox_engine.models.gpt2 import GPT2_NAMING, GPT2LMHeadModel, read_gpt2
from farebox_engine.models.llama import LlamaConfig, LlamaForCausalLM
from farebox_engine.models.mistral import MistralForCausalLM, read_mistral
from farebox_engine.models.mixtral import MixtralForCausalLM, load_mixtral, read_mixtral
from farebox_engine.models.phi3 import PHI3_NAMING, Phi3ForCausalLM, read_phi3
from farebox_engine.models.qwen2 import Qwen2ForCausalLM, read_qwen2
from farebox_engine.models.qwen3 import Qwen3ForCausalLM, read_qwen3
from farebox_engine.models.qwen3_moe import Qwen3MoeForCausalLM, read_qwen3_moe
from farebox_engine.models.weights import LLAMA_NAMING, Naming, load_weights


class CausalLM(Protocol):
    """What the runner asks of a decoder; see `Decoder` for shapes."""

    @property
    def lengths_matter(self) -> bool:
        """Whether `forward` looks at `lengths`, so that keys depend on the length of the prompt."""
        ...

    @property
    def outgrown_at(self) -> int | None:
        """The length past which a sequence's keys must all be computed anew, if there is one."""
        ...

    def __call__(
        self, tokens: Tensor, positions: Tensor, attention: AttentionBackend, lengths: Tensor | None = None
    ) -> Tensor: ...

    def logits(self, hidden: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Family:
    """How to read a family's config.json, build its module and fill it with a checkpoint's tensors.

    `read_config` and `load` raise `ConfigError`. `naming` is what `transformers` calls the modules in
    memory, and so what adapters are named after.
    """

    read_config: Callable[[Mapping[str, object]], DecoderConfig]
    build: Callable[..., nn.Module]
    load: Callable[..., None]
    naming: Naming = LLAMA_NAMING


FAMILIES: Families[Family] = Families(
    "Models",
    {
        "llama": Family(LlamaConfig.from_dict, LlamaForCausalLM, load_weights),
        "mistral": Family(read_mistral, MistralForCausalLM, load_weights),
        "qwen2": Family(read_qwen2, Qwen2ForCausalLM, load_weights),
        "qwen3": Family(read_qwen3, Qwen3ForCausalLM, load_weights),
        "gemma2": Family(read_gemma2, Gemma2ForCausalLM, load_weights),
        "gemma3_text": Family(read_gemma3, Gemma3ForCausalLM, load_weights),
        "phi3": Family(read_phi3, Phi3ForCausalLM, partial(load_weights, naming=PHI3_NAMING), PHI3_NAMING),
        "gpt2": Family(read_gpt2, GPT2LMHeadModel, partial(load_weights, naming=GPT2_NAMING), GPT2_NAMING),
        "mixtral": Family(read_mixtral, MixtralForCausalLM, load_mixtral),
        "qwen3_moe": Family(read_qwen3_moe, Qwen3MoeForCausalLM, load_weights),
    },
)
