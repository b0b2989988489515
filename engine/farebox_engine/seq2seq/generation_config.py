"""How a checkpoint wants to be decoded: its generation_config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.checkpoint.json_file import read_json
from farebox_engine.params import MAX_BEAMS, SamplingParams

# Settings that would change the tokens and are not computed, with the values that change nothing.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "begin_suppress_tokens": (None, []),
    "constraints": (None, []),
    "diversity_penalty": (None, 0, 0.0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1, 1.0),
    "exponential_decay_length_penalty": (None,),
    "force_words_ids": (None, []),
    "forced_decoder_ids": (None, []),
    "guidance_scale": (None, 1, 1.0),
    "num_beam_groups": (None, 1),
    "renormalize_logits": (None, False),
    "sequence_bias": (None, []),
    "suppress_tokens": (None, []),
}


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """What generation_config.json fixes, and what it proposes where a request is silent.

    `min_tokens` and `max_tokens` count generated tokens. `banned` are tokens never to be
    generated. `early_stopping` is as in transformers: True ends a beam search once as many
    hypotheses as beams are finished, False when the best running one scores no better than
    the worst of these at its present length, "never" when it cannot do so at any length.
    """

    start_token_id: int
    eos_token_ids: tuple[int, ...] = ()
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None
    banned: tuple[int, ...] = ()
    max_tokens: int | None = None
    min_tokens: int = 0
    no_repeat_ngram_size: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    @classmethod
    def load(cls, folder: Path, description: Mapping[str, object], vocab_size: int) -> GenerationConfig:
        """Read generation_config.json or, in old exports that have none, the same fields of config.json.

        Raises:
            LoadError: the file is broken.
            ConfigError: a field is out of bounds, or asks for what the engine does not compute.
        """
        path = folder / "generation_config.json"
        values = read_json(path) if path.exists() else description
        # Token ids of the model stand in config.json in any case.
        ids = ("decoder_start_token_id", "eos_token_id", "bos_token_id")
        fallback = {name: description[name] for name in ids if name in description}
        given = {name: value for name, value in values.items() if value is not None}
        return _read(Fields(fallback | given, path.name if path.exists() else "config.json"), vocab_size)

    def beams_for(self, params: SamplingParams) -> int:
        """How many beams a request gets: what it asks for, or the checkpoint's number if it can be had.

        A request that samples, or that asks for what a beam search does not offer, gets one.
        """
        if params.num_beams is not None:
            return params.num_beams
        return 1 if params.excludes_beams else self.num_beams


def _read(fields: Fields, vocab_size: int) -> GenerationConfig:
    for name, neutral in _UNSUPPORTED.items():
        if fields.values.get(name) not in neutral:
            raise ConfigError(f"{name} is set to {fields.values[name]!r}, which is not supported.")
    start = fields.optional_integer("decoder_start_token_id", minimum=0)
    if start is None:
        start = fields.integer("bos_token_id", minimum=0)
    max_length = fields.optional_integer("max_length", minimum=2)
    max_tokens = fields.optional_integer("max_new_tokens", minimum=1)
    min_tokens = fields.optional_integer("min_new_tokens", minimum=0)
    num_beams = fields.integer("num_beams", default=1, minimum=1)
    if num_beams > MAX_BEAMS:
        raise ConfigError(f"num_beams is {num_beams}; at most {MAX_BEAMS} are supported.")
    defaults = GenerationConfig(
        start_token_id=start,
        eos_token_ids=fields.token_ids("eos_token_id"),
        forced_bos_token_id=_one_token(fields, "forced_bos_token_id"),
        forced_eos_token_id=_one_token(fields, "forced_eos_token_id"),
        banned=_banned(fields),
        # The lengths count the start token, and the numbers of new tokens go before them.
        max_tokens=max_tokens or (None if max_length is None else max_length - 1),
        min_tokens=max(0, fields.integer("min_length", default=0, minimum=0) - 1)
        if min_tokens is None
        else min_tokens,
        no_repeat_ngram_size=fields.integer("no_repeat_ngram_size", default=0, minimum=0),
        num_beams=num_beams,
        length_penalty=fields.number("length_penalty", default=1.0, above=-100.0),
        early_stopping=_early_stopping(fields),
    )
    _check_vocabulary(defaults, vocab_size)
    return defaults


def _one_token(fields: Fields, name: str) -> int | None:
    ids = fields.token_ids(name)
    if len(ids) > 1:
        raise ConfigError(f"{name} lists several tokens, which is not supported.")
    return ids[0] if ids else None


def _banned(fields: Fields) -> tuple[int, ...]:
    words = fields.values.get("bad_words_ids")
    if words is None:
        return ()
    single = isinstance(words, list) and all(
        isinstance(word, list) and len(word) == 1 and isinstance(word[0], int) and word[0] >= 0
        for word in words
    )
    if not single:
        raise ConfigError(
            "bad_words_ids must be a list of lists of one token id each; others are not supported."
        )
    return tuple(word[0] for word in cast(list[list[int]], words))


def _early_stopping(fields: Fields) -> bool | Literal["never"]:
    if fields.values.get("early_stopping") == "never":
        return "never"
    return fields.boolean("early_stopping", default=False)


def _check_vocabulary(defaults: GenerationConfig, vocab_size: int) -> None:
    named = [
        defaults.start_token_id,
        *defaults.eos_token_ids,
        *defaults.banned,
        *(
            token
            for token in (defaults.forced_bos_token_id, defaults.forced_eos_token_id)
            if token is not None
        ),
    ]
    if max(named) >= vocab_size:
        raise ConfigError(f"a token id ({max(named)}) lies outside the vocabulary of {vocab_size} tokens.")
