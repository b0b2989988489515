"""Tiny checkpoints with random weights, in the form of a Hugging Face folder.

Initialised at 0.3: at the usual 0.02 attention hardly matters, and faults in it go unseen.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM

SPECIAL_TOKENS = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|start|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' ~ message.role) }}{% endif %}"
    "<|{{ message.role }}|>{{ message.content | trim }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Windows, soft caps and trained lengths are small enough to matter for prompts of a few dozen tokens.
FAMILIES: dict[str, dict[str, Any]] = {
    "mistral": {"model_type": "mistral", "sliding_window": 13, "head_dim": 24},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen2-windows": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 9,
        "max_window_layers": 1,
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 24, "attention_bias": True},
    "gemma2": {
        "model_type": "gemma2",
        "head_dim": 16,
        "query_pre_attn_scalar": 24,
        "sliding_window": 11,
        "attn_logit_softcapping": 4.0,
        "final_logit_softcapping": 12.0,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "head_dim": 16,
        "query_pre_attn_scalar": 24,
        "sliding_window": 7,
        "sliding_window_pattern": 2,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 50_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1_000.0},
        },
    },
    "phi3": {"model_type": "phi3", "sliding_window": 21},
    "phi3-longrope": {
        "model_type": "phi3",
        "max_position_embeddings": 128,
        "original_max_position_embeddings": 32,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.5,
            "short_factor": [1.0, 1.1, 1.3, 1.7],
            "long_factor": [1.5, 2.0, 3.0, 5.0],
        },
    },
    "gpt2": {"model_type": "gpt2", "tie_word_embeddings": True, "n_inner": 80},
    "gpt2-scaled": {"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True},
    # Rows of 90 numbers are not aligned as the grouped product wants them.
    "mixtral": {
        "model_type": "mixtral",
        "num_local_experts": 5,
        "intermediate_size": 90,
        "sliding_window": 19,
    },
    "qwen3-moe": {
        "model_type": "qwen3_moe",
        "head_dim": 16,
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
        "mlp_only_layers": [0],
    },
    "qwen3-moe-unnormalised": {
        "model_type": "qwen3_moe",
        "head_dim": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "use_sliding_window": True,
        "sliding_window": 9,
    },
}
# Fields of a config.json that most families share, and those of experts.
SHAPE: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_CORPUS = [
    "The ferry leaves the harbour at nine and comes back before the lamps are lit.",
    "A token is a piece of a word; a word is one token or several, as the text will have it.",
    "Der Zug fährt über die Brücke, und die Kinder zählen die Wagen: eins, zwei, drei.",
    "渡轮九点离开港口, 天黑之前回来。孩子们在数车厢。",
    "user assistant system end: 0123456789 <|>!?.,;:()[]{}",
]


def build_checkpoint(folder: Path, seed: int = 0, model_type: str = "llama", **overrides: Any) -> Path:
    """Write a checkpoint of a family to `folder`; `overrides` go to its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder)
    settings: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "bos_token_id": tokenizer.token_to_id("<|start|>"),
        "eos_token_id": tokenizer.token_to_id("<|end|>"),
        "pad_token_id": None,
        "tie_word_embeddings": False,
    }
    if model_type == "gpt2":
        del settings["num_key_value_heads"], settings["intermediate_size"]
    torch.manual_seed(seed)
    from_config: Any = AutoModelForCausalLM.from_config
    model = from_config(AutoConfig.for_model(model_type, **(settings | overrides)))
    # As they are initialised, a forgotten norm weight or bias would not show.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def build_parrot(folder: Path, *, cycle: int = 5, clarity: float = 0.1, **overrides: Any) -> Path:
    """Write a Llama that, for the most part, goes through its vocabulary in circles of `cycle` tokens.

    The layers' random contributions now and then win over the successor's lead, which is
    `clarity` times the width, so that what comes next can be guessed from the text, but not always.
    """
    build_checkpoint(folder, **({"initializer_range": 0.1} | overrides))
    weights = load_file(folder / "model.safetensors")
    embedding = torch.randn_like(weights["model.embed_tokens.weight"])
    tokens = torch.arange(len(embedding))
    first = tokens - tokens % cycle
    successors = first + (tokens - first + 1) % (len(embedding) - first).clamp(max=cycle)
    weights["model.embed_tokens.weight"] = embedding
    weights["lm_head.weight"] = torch.empty_like(embedding)
    weights["lm_head.weight"][successors] = clarity * embedding
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_tokenizer(folder: Path) -> Tokenizer:
    """Train a byte-level BPE tokenizer on a few sentences and write it with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|start|>",
        "eos_token": "<|end|>",
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer


def without_number(folder: Path, checkpoint: Path, embedding: str, token: int) -> Path:
    """A copy of a checkpoint in which one token's row of a tensor is no number."""
    shutil.copytree(checkpoint, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[embedding][token] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
