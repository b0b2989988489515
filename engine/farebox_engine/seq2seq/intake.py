"""From requests to sequences: what does not fit the model is refused here."""

from __future__ import annotations

import time

from farebox_engine.errors import RequestError
from farebox_engine.params import GenerationRequest
from farebox_engine.sampling.penalties import TokenCounts
from farebox_engine.scheduling.sequence import Sequence
from farebox_engine.seq2seq.loader import LoadedSeq2Seq
from farebox_engine.seq2seq.sizing import Sizes
from farebox_engine.tokenization.transcript import Transcript


class Seq2SeqIntake:
    """Checks requests against one encoder-decoder and the sizes that it is given."""

    def __init__(self, loaded: LoadedSeq2Seq, sizes: Sizes) -> None:
        self._loaded = loaded
        self._sizes = sizes

    def sequence(self, request: GenerationRequest) -> Sequence:
        """Make a request ready to be scheduled.

        Raises:
            RequestError: it does not fit the model.
        """
        params, defaults, sizes = request.params, self._loaded.defaults, self._sizes
        self._check(request)
        ends = set(params.stop_token_ids)
        if not params.ignore_eos:
            ends |= set(defaults.eos_token_ids)
        sequence = Sequence(
            request=request,
            transcript=Transcript(self._loaded.tokenizer.vocabulary, (), params.stop),
            token_limit=min(
                params.max_tokens or defaults.max_tokens or sizes.target_length, sizes.target_length
            ),
            end_token_ids=frozenset(ends),
            root_key=b"",
            submitted_at=time.perf_counter(),
        )
        if params.penalised:
            # As in transformers, penalties look at the target, not at the source.
            sequence.counts = TokenCounts([defaults.start_token_id])
        if sizes.blocks(sequence, defaults.beams_for(params)) > sizes.num_blocks:
            raise RequestError(
                "The beams of this request do not fit into the cache; ask for fewer.", "num_beams"
            )
        return sequence

    def _check(self, request: GenerationRequest) -> None:
        params, source = request.params, request.prompt_token_ids
        dimensions, longest = self._loaded.model.dimensions, self._sizes.source_length
        if not source:
            raise RequestError("The prompt is empty; it needs at least one token.", "prompt")
        if request.adapter is not None:
            raise RequestError("This model takes no adapters.", "model")
        ignored = {
            "echo": params.echo,
            "prompt_logprobs": params.prompt_logprobs is not None,
            "min_tokens": params.min_tokens > 0,
            "bad_words": bool(params.bad_words),
            "grammar": request.grammar is not None,
        }
        for name, asked in ignored.items():
            if asked:
                raise RequestError(f"This model has no {name}; leave it out.", name)
        vocab = dimensions.source_vocab_size
        if not 0 <= min(source) <= max(source) < vocab:
            raise RequestError(f"The prompt has a token id outside 0 to {vocab - 1}.", "prompt")
        vocab = dimensions.vocab_size
        if any(not 0 <= token < vocab for token in params.logit_bias):
            raise RequestError(f"logit_bias has a token id outside 0 to {vocab - 1}.", "logit_bias")
        if len(source) > longest:
            raise RequestError(
                f"The prompt has {len(source)} tokens; this model reads at most {longest}.", "prompt"
            )
        if (params.num_beams or 1) > self._sizes.max_hypotheses:
            raise RequestError(
                f"num_beams is {params.num_beams}; this engine has room for {self._sizes.max_hypotheses}.",
                "num_beams",
            )
