"""How a checkpoint's author would have it sampled: the settings of ``generation_config.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.checkpoint.json_file import read_optional_json
from farebox_engine.errors import RequestError
from farebox_engine.params import SamplingParams

_FILE = "generation_config.json"
_BELOW_ALL = -1.0  # the ranges are those of SamplingParams, which looks at them afterwards


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What to take where a request names no value of its own.

    Meanings and ranges are those of `SamplingParams`, and so are the values where the file is silent.
    `max_new_tokens` is a wish for the length of an answer, never a leave to exceed the context.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        try:
            SamplingParams(
                max_tokens=self.max_new_tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                min_p=self.min_p,
                repetition_penalty=self.repetition_penalty,
            )
        except RequestError as error:
            raise ConfigError(f"{_FILE}: {error}") from None

    @classmethod
    def read(cls, folder: Path) -> GenerationDefaults:
        """Read the file in a checkpoint's folder, which need not have one.

        ``do_sample: false`` means greedy, whatever temperature stands beside it. Absent, it decides
        nothing: most files are written by tools and hold token ids alone. Fields that this engine does
        not act on (beams, length penalties, ...) are left alone, as a request cannot ask for them either.

        Raises:
            ConfigError: a field has the wrong type or range; one sentence that names it.
            LoadError: the file is no JSON object.
        """
        fields = Fields(read_optional_json(folder / _FILE), _FILE)
        temperature = fields.number("temperature", default=1.0, above=_BELOW_ALL)
        sampled = fields.boolean("do_sample", default=True)
        return cls(
            temperature=temperature if sampled else 0.0,
            top_p=fields.number("top_p", default=1.0, above=_BELOW_ALL),
            top_k=fields.integer("top_k", default=0, minimum=0),
            min_p=fields.number("min_p", default=0.0, above=_BELOW_ALL),
            repetition_penalty=fields.number("repetition_penalty", default=1.0, above=_BELOW_ALL),
            max_new_tokens=fields.optional_integer("max_new_tokens", minimum=1),
        )
