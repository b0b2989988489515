"""transformers as contenders: `generate` and its continuous batching; imported where it is installed."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from farebox_engine.bench.decoding.workload import Answer
from farebox_engine.models.loader import LoadedModel
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


class _Clock(StoppingCriteria):
    """Notes the time of each token; `generate` itself waits for the device after each."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class GenerateContender:
    """One padded batch in `generate`, with its dynamic cache."""

    def __init__(self, model: Any) -> None:
        self.name = "generate"
        self._model = model

    def answer(self, prompts: list[list[int]], new_tokens: int) -> list[Answer]:
        """See `Contender.answer`; the prompts must be equally long."""
        ids = torch.tensor(prompts, device=self._model.device)
        clock = _Clock()
        output = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([clock]),
        )
        return [Answer(tokens, clock.times) for tokens in output[:, ids.shape[1] :].tolist()]

    def close(self) -> None:
        pass


class ContinuousBatchingContender:
    """`generate_batch`; on a GPU with a manager that lives on, so that no graph is captured twice.

    On a CPU a manager at rest would poll, so that each round sets up its own: that is part of the
    time to the first token, not of a step. There its cache is sized to the work; what it infers by
    itself is as large as the memory.
    """

    def __init__(self, model: Any, *, batch: int, length: int) -> None:
        self.name = "continuous batching"
        # It changes the model's attention implementation, which `generate` must not notice.
        self._model = copy.copy(model)
        self._model.config = copy.deepcopy(model.config)
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
        settings: dict[str, Any] = {"allow_block_sharing": False}
        if model.device.type == "cpu":
            settings |= {"num_blocks": 4 * batch * -(-length // _PAGE), "max_batch_tokens": 512}
        else:
            settings |= {"max_memory_percent": 0.8}
        self._config = ContinuousBatchingConfig(**settings)

    def answer(self, prompts: list[list[int]], new_tokens: int) -> list[Answer]:
        """See `Contender.answer`.

        Raises:
            RuntimeError: it lost a request, or tokens of one.
        """
        generation = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=new_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        results = self._model.generate_batch(
            prompts,
            generation_config=generation,
            continuous_batching_config=self._config,
            persistent_manager=self._model.device.type == "cuda",
            record_timestamps=True,
        )
        answers = [Answer(list(found.generated_tokens), list(found.timestamps)) for found in results.values()]
        if len(answers) != len(prompts) or any(len(answer.tokens) != new_tokens for answer in answers):
            raise RuntimeError("transformers' continuous batching lost a request or some of its tokens.")
        return answers

    def close(self) -> None:
        self._model.destroy_cached_continuous_batching_manager()
