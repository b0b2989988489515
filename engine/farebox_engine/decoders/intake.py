"""From requests to sequences: what does not fit the model is refused here."""

from __future__ import annotations

import time

from farebox_engine.errors import RequestError
from farebox_engine.lora.adapter import Adapter
from farebox_engine.lora.store import AdapterStore
from farebox_engine.models.loader import LoadedModel
from farebox_engine.params import GenerationRequest
from farebox_engine.scheduling.blocks import prefix_root
from farebox_engine.scheduling.sequence import Sequence
from farebox_engine.tokenization.reasoning import ReasoningCount
from farebox_engine.tokenization.transcript import Transcript


class DecoderIntake:
    """Checks requests against one model and the context that it is given."""

    def __init__(self, loaded: LoadedModel, context_length: int, adapters: AdapterStore) -> None:
        self._loaded = loaded
        self._context_length = context_length
        self._adapters = adapters

    def sequence(self, request: GenerationRequest) -> Sequence:
        """Make a request ready to be scheduled.

        Raises:
            RequestError: it does not fit the model.
        """
        params, prompt = request.params, request.prompt_token_ids
        vocab = self._loaded.config.vocab_size
        if not prompt:
            raise RequestError("The prompt is empty; it needs at least one token.", "prompt")
        if not 0 <= min(prompt) <= max(prompt) < vocab:
            raise RequestError(f"The prompt has a token id outside 0 to {vocab - 1}.", "prompt")
        if any(not 0 <= token < vocab for token in params.logit_bias):
            raise RequestError(f"logit_bias has a token id outside 0 to {vocab - 1}.", "logit_bias")
        if any(not 0 <= token < vocab for word in params.bad_words for token in word):
            raise RequestError(f"bad_words has a token id outside 0 to {vocab - 1}.", "bad_words")
        if (params.num_beams or 1) > 1:
            raise RequestError("This model offers no beam search; leave num_beams out.", "num_beams")
        room = self._context_length - len(prompt)
        wanted = 1 if params.max_tokens is None else params.max_tokens
        if wanted > room:
            raise RequestError(
                f"The context holds {self._context_length} tokens; the prompt has {len(prompt)} and "
                f"max_tokens is {wanted}.",
                "max_tokens" if room >= 1 else "prompt",
            )
        adapter = self._adapters.find(request.adapter)
        ends = set(params.stop_token_ids)
        if not params.ignore_eos:
            ends |= self._loaded.eos_token_ids
        return Sequence(
            request=request,
            transcript=self._transcript(request),
            token_limit=room if params.max_tokens is None else params.max_tokens,
            end_token_ids=frozenset(ends),
            root_key=self._root_key(request, adapter),
            submitted_at=time.perf_counter(),
            adapter=adapter,
        )

    def _transcript(self, request: GenerationRequest) -> Transcript:
        tokenizer = self._loaded.tokenizer
        return Transcript(
            tokenizer.vocabulary,
            request.prompt_token_ids,
            request.params.stop,
            self._reasoning_count(request),
            spelled=tokenizer.marks if request.spells_marks else (),
        )

    def _reasoning_count(self, request: GenerationRequest) -> ReasoningCount | None:
        tokenizer = self._loaded.tokenizer
        if not (request.counts_reasoning and tokenizer.answer_format.reasons):
            return None
        return ReasoningCount(opened=tokenizer.opens_reasoning(request.prompt_token_ids))

    def _root_key(self, request: GenerationRequest, adapter: Adapter | None) -> bytes:
        # Keys may depend on the prompt's length: prefixes of other lengths must not match then.
        lengths_matter = self._loaded.model.lengths_matter
        return prefix_root(
            model=self._loaded.model_hash,
            salt=request.cache_salt,
            adapter="" if adapter is None else adapter.hash,
            length=len(request.prompt_token_ids) if lengths_matter else None,
        )
