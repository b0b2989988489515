"""Grammars that an answer must obey, compiled once per request.

The parser is llguidance; here are its bounds, and its door to our vocabulary.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from farebox_engine.errors import RequestError
from farebox_engine.grammar.guard import GrammarGuard, TooSlowError
from farebox_engine.grammar.matcher import Matcher
from farebox_engine.grammar.trial import Words
from farebox_engine.tokenization.answer_format import CLOSE_REASONING, WHITE_SPACE
from farebox_engine.tokenization.vocabulary import Vocabulary

GrammarKind = Literal["json_object", "json_schema", "regex", "lark", "choice"]

MAX_SOURCE_BYTES = 65_536
MAX_NESTING = 64

# What they leave unbounded in compiling, `GrammarGuard` bounds. A step of a JSON schema of fifty fields or of
# a language of formulas takes 0.3 ms; with these limits, the worst step of an ambiguous grammar takes 90 ms
# (630 to 800 with 50,000 items). Only a regular expression with huge counted repetitions takes 2 s, once.
LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 5_000,
    "max_lexer_states": 50_000,
    "max_grammar_size": 100_000,
    "verbose_errors": False,
}


# Between tokens of JSON: nothing, a space, or a new line with its indentation. Without a bound, a model
# that has lost its way writes white space to the end of its tokens, which somebody pays for.
JSON_WHITE_SPACE = r"( |\n[ ]{0,32})?"


@dataclass(frozen=True, slots=True)
class GrammarSpec:
    """What a caller asks for. `source` is the schema or the list of choices as JSON text, or the regular
    expression or Lark grammar itself; `param` names the request's field in errors. With `after_reasoning`
    it binds what follows the mark that closes the reasoning, which the prompt has opened."""

    kind: GrammarKind
    source: str = ""
    param: str = "response_format"
    after_reasoning: bool = False


class Grammar:
    """A compiled grammar; each answer starts its own matcher. `param` names the request's field."""

    def __init__(self, matcher: LLMatcher, param: str) -> None:
        self._matcher = matcher
        self.param = param

    def start(self) -> Matcher:
        """A matcher at the beginning."""
        return Matcher(self._matcher.deep_copy())


class GrammarCompiler:
    """Compiles grammars for one model's vocabulary. Safe for use from several threads."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        encode: Callable[[str], list[int]],
        vocab_size: int,
        end_tokens: Collection[int],
        limits: Mapping[str, Any] = LIMITS,
    ) -> None:
        """`encode` gives a text's tokens and nothing around them; `end_tokens` end an answer.

        `limits` are llguidance's.
        """
        self._vocabulary = vocabulary
        self._encode = encode
        self._vocab_size = vocab_size
        self._end_tokens = sorted(end_tokens)
        self._limits = limits
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._guard: GrammarGuard | None = None

    def compile(self, spec: GrammarSpec) -> Grammar:
        """Takes a few milliseconds, `guard.TRIAL_SECONDS` at the most; not for the event loop.

        Raises:
            RequestError: the grammar is too large, malformed, takes too long, or asks for what cannot
                be enforced; says which and names `spec.param`.
        """
        if not self._end_tokens:
            raise RequestError(
                "This model has no token that ends an answer; it takes no grammar.", spec.param
            )
        size = len(spec.source.encode())
        if size > MAX_SOURCE_BYTES:
            raise RequestError(
                f"The grammar has {size} bytes; at most {MAX_SOURCE_BYTES} are accepted.", spec.param
            )
        tokenizer, guard = self._loaded()
        source = _source(spec)
        if spec.kind not in _QUICK:
            try:
                guard.check(source)
            except TooSlowError:
                raise RequestError(
                    "The grammar takes too long to compile. Use fewer patterns that must hold at once (`&`, "
                    "`~`, `allOf`, `not`), and shorten counted repetitions such as `.{20}`.",
                    spec.param,
                ) from None
        matcher = LLMatcher(tokenizer, source, log_level=0, limits=LLParserLimits(**self._limits))
        if matcher.is_error():
            raise RequestError(f"The grammar cannot be enforced: {_reason(matcher)}", spec.param)
        # Not kept for the next request: a matcher's copies share the states of its lexer, and their limit.
        return Grammar(matcher, spec.param)

    def close(self) -> None:
        """End the process in which grammars are tried."""
        with self._lock:
            if self._guard is not None:
                self._guard.close()

    def _loaded(self) -> tuple[LLTokenizer, GrammarGuard]:
        with self._lock:
            if self._tokenizer is None or self._guard is None:
                tokens = [self._vocabulary.bytes_of(token) for token in range(self._vocab_size)]
                special = [token for token in range(self._vocab_size) if self._vocabulary.is_special(token)]
                self._guard = GrammarGuard(tokens, special, self._end_tokens, self._limits)
                words = Words(tokens, special, self._end_tokens[0], self._encode)
                self._tokenizer = LLTokenizer(
                    TokenizerWrapper(words), n_vocab=self._vocab_size, eos_token=self._end_tokens
                )
            return self._tokenizer, self._guard


def _source(spec: GrammarSpec) -> str:
    source = _answer_source(spec)
    if not spec.after_reasoning:
        return source
    answer = (
        {"lark_grammar": source} if spec.kind in {"lark", "choice"} else json.loads(source)["grammars"][0]
    )
    return json.dumps({"grammars": [{"lark_grammar": _REASONED}, answer | {"name": "answer"}]})


def _answer_source(spec: GrammarSpec) -> str:
    match spec.kind:
        case "json_object":
            return LLMatcher.grammar_from_json_schema(
                {"type": "object"}, {"whitespace_pattern": JSON_WHITE_SPACE}
            )
        case "json_schema":
            _check_nesting(spec)
            return _schema_source(spec)
        case "regex":
            return LLMatcher.grammar_from_regex(spec.source)
        case "choice":
            return LLMatcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, _choices(spec))))
        case "lark":
            return LLMatcher.grammar_from_lark(spec.source)


def _schema_source(spec: GrammarSpec) -> str:
    try:
        return LLMatcher.grammar_from_json_schema(spec.source, {"whitespace_pattern": JSON_WHITE_SPACE})
    except ValueError as error:
        # Their JSON is narrower than Python's: no number beyond a double, no lone surrogate.
        raise RequestError(f"The schema cannot be read: {error}.", spec.param) from None


def _check_nesting(spec: GrammarSpec) -> None:
    depth = deepest = 0
    for character in _STRINGS.sub("", spec.source):
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    if deepest > MAX_NESTING:
        raise RequestError(
            f"The schema is nested {deepest} deep; at most {MAX_NESTING} levels are accepted.", spec.param
        )
    try:
        schema = json.loads(spec.source)
    except ValueError as error:
        raise RequestError(f"The schema is not valid JSON: {error}.", spec.param) from None
    if not isinstance(schema, dict):
        raise RequestError("The schema must be a JSON object.", spec.param)


def _choices(spec: GrammarSpec) -> list[str]:
    choices = json.loads(spec.source)
    if not (isinstance(choices, list) and choices and all(isinstance(c, str) and c for c in choices)):
        raise RequestError("The choices must be a list of texts, none empty.", spec.param)
    return choices


def _reason(matcher: LLMatcher) -> str:
    reason = " ".join(matcher.get_error().split())[:300]
    return reason if reason.endswith(".") else f"{reason}."


_REASONED = rf"""start: thought SPACE? @answer
thought[lazy]: /(?s:.*)/ "{CLOSE_REASONING}"
SPACE: /{WHITE_SPACE}{{1,8}}/"""
# Without a regular expression of the caller's.
_QUICK = {"json_object", "choice"}
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
