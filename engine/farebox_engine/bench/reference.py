"""transformers as contenders: `generate` and its continuous batching; imported where it is installed."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from farebox_engine.loader import LoadedModel
from farebox_engine.models.weights import named_weights

_PAGE = 256


def build_reference(shape: Mapping[str, object], loaded: LoadedModel) -> Any:
    """transformers' model of the same configuration, device and dtype, with the same weights (copied)."""
    settings = {name: value for name, value in shape.items() if name != "model_type"}
    config = AutoConfig.for_model(str(shape["model_type"]), **settings)
    config.eos_token_id = None
    build: Any = AutoModelForCausalLM.from_config
    with loaded.device:
        model = build(config, dtype=loaded.dtype, attn_implementation="sdpa")
    weights = dict(named_weights(cast(nn.Module, loaded.model)))
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise RuntimeError(f"transformers' model has other weights: {missing[:3]} {unexpected[:3]}")
    model.tie_weights()
    model.train(False)
    return model


class GenerateContender:
    """One padded batch in `generate`, with its dynamic cache."""

    def __init__(self, model: Any) -> None:
        self.name = "generate"
        self._model = model

    def answer(self, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        """See `Contender.answer`; the prompts must be equally long."""
        ids = torch.tensor(prompts, device=self._model.device)
        output = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
        )
        tokens: list[list[int]] = output[:, ids.shape[1] :].tolist()
        return tokens

    def close(self) -> None:
        pass


class ContinuousBatchingContender:
    """`generate_batch` with a manager that lives on, so that nothing is set up twice.

    On a CPU its cache is sized to the work: what it infers by itself is as large as the memory,
    and it was made for GPUs.
    """

    def __init__(self, model: Any, *, batch: int, length: int) -> None:
        self.name = "continuous batching"
        # It changes the model's attention implementation, which `generate` must not notice.
        self._model = copy.copy(model)
        self._model.config = copy.deepcopy(model.config)
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
        settings: dict[str, Any] = {"allow_block_sharing": False}
        if model.device.type == "cpu":
            settings |= {"num_blocks": batch * -(-length // _PAGE) + 1, "max_batch_tokens": 512}
        else:
            settings |= {"max_memory_percent": 0.5}
        self._config = ContinuousBatchingConfig(**settings)

    def answer(self, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        """See `Contender.answer`."""
        generation = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=new_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        results = self._model.generate_batch(
            prompts,
            generation_config=generation,
            continuous_batching_config=self._config,
            persistent_manager=True,
        )
        answers = [list(result.generated_tokens) for result in results.values()]
        if len(answers) != len(prompts) or any(len(answer) != new_tokens for answer in answers):
            raise RuntimeError("transformers' continuous batching lost a request or some of its tokens.")
        return answers

    def close(self) -> None:
        self._model.destroy_cached_continuous_batching_manager()
