"""Writing a trained model as a Hugging Face folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from farebox_engine.models.llama import LlamaForCausalLM
from farebox_engine.models.weights import named_weights
from farebox_engine.training.corpus import END_OF_TEXT
from farebox_engine.training.recipe import Recipe
from farebox_engine.training.vocabulary import CHAT_TEMPLATE, TURN_END

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Small models repeat themselves and stray when sampled freely.
_SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1}


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What a finished run has to tell the model card."""

    name: str
    command: str
    parameters: int
    recipe: Recipe
    passes: float
    loss: float
    perplexities: dict[str, float]
    data: str

    @property
    def tokens(self) -> int:
        """How many were read, each pass counted."""
        return self.recipe.steps * self.recipe.batch * self.recipe.context


def write_model(
    folder: Path, model: LlamaForCausalLM, tokenizer: Tokenizer, summary: TrainingSummary
) -> None:
    """Write config, weights (in the config's dtype), tokenizer, generation defaults and model card."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = DTYPES[model.config.dtype]
    weights = {name: weight.to("cpu", dtype).contiguous() for name, weight in named_weights(model)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    # safetensors writes for the owner only, which would make an installed model unreadable to others.
    (folder / "model.safetensors").chmod(0o644)
    _write_json(folder / "config.json", model.config.to_dict())
    _write_json(folder / "generation_config.json", _generation_config(model))
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(model))
    (folder / "README.md").write_text(model_card(model, summary), encoding="utf-8")


def model_card(model: LlamaForCausalLM, summary: TrainingSummary) -> str:
    """Return the model card as Markdown."""
    config, recipe = model.config, summary.recipe
    perplexities = "".join(
        f"| held-out perplexity, {kind} | {value:.2f} |\n" for kind, value in summary.perplexities.items()
    )
    return f"""---
library_name: farebox
pipeline_tag: text-generation
---

# {summary.name}

A decoder of the Llama family, trained from scratch by `farebox-engine train`.

| | |
| --- | --- |
| parameters | {summary.parameters:,} |
| shape | {config.num_layers} layers of {config.hidden_size}, {config.num_heads} heads, \
{config.num_kv_heads} key-value heads, feed-forward {config.intermediate_size} |
| vocabulary | {config.vocab_size:,} byte-level BPE tokens |
| context | {config.max_position_embeddings:,} tokens |
| stored as | {config.dtype} |
| steps | {recipe.steps:,} |
| tokens read | {summary.tokens:,} ({summary.passes:.1f} passes over the training text) |
| training loss, last 100 steps | {summary.loss:.3f} nats per token |
{perplexities}
Perplexity is per token of this model's own vocabulary, on {recipe.held_out:.1%} of the passages and
conversations, drawn at random before training and never trained on. "chat" counts assistant turns only.

## Command

```
{summary.command}
```

## Data

{summary.data.strip()}
"""


def _generation_config(model: LlamaForCausalLM) -> dict[str, object]:
    return {
        **_SAMPLING,
        "eos_token_id": list(model.config.eos_token_ids),
        "pad_token_id": model.config.pad_token_id,
    }


def _tokenizer_config(model: LlamaForCausalLM) -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": CHAT_TEMPLATE,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "model_max_length": model.config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
