"""Answers that must obey a grammar, from a model that would say anything."""

import json
import re
from pathlib import Path

import pytest
import torch

from farebox_engine import (
    Engine,
    EngineError,
    GenerationRequest,
    GrammarSpec,
    RequestError,
    SamplingParams,
    load_model,
)
from farebox_engine.grammar.compiler import LIMITS, MAX_NESTING, MAX_SOURCE_BYTES, Grammar, GrammarCompiler
from tests.engine.conftest import StartEngine
from tests.engine.generating import Answer, answer, begin, collect, random_prompts
from tests.engine.grammar.stuck_grammars import AMBIGUOUS, DEAD_END, HUGE_REGEX, RECURSIVE

(PROMPT,) = random_prompts(41, (17,))
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "kind": {"enum": ["tram", "ferry", "café"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["name", "count", "kind", "tags"],
    "additionalProperties": False,
}


async def obey(engine: Engine, spec: GrammarSpec, seed: int = 0, max_tokens: int = 200) -> Answer:
    return await obey_compiled(engine, engine.compile_grammar(spec), seed, max_tokens)


async def obey_compiled(engine: Engine, grammar: Grammar, seed: int, max_tokens: int) -> Answer:
    params = SamplingParams(max_tokens=max_tokens, seed=seed, temperature=1.5)
    return await collect(engine.generate(GenerationRequest("request", PROMPT, params, grammar=grammar)))


@pytest.mark.parametrize("seed", range(6))
async def test_an_answer_obeys_its_schema(start_engine: StartEngine, seed: int) -> None:
    found = await obey(start_engine(), GrammarSpec("json_schema", json.dumps(SCHEMA)), seed)
    assert found.finish_reason == "stop"
    document = json.loads(found.text)
    assert list(document) == ["name", "count", "kind", "tags"]
    assert len(document["name"]) <= 12
    assert 0 <= document["count"] <= 99
    assert document["kind"] in {"tram", "ferry", "café"}
    assert all(isinstance(tag, bool) for tag in document["tags"])


@pytest.mark.parametrize("seed", range(4))
async def test_other_kinds_of_grammar(start_engine: StartEngine, seed: int) -> None:
    engine = start_engine()
    choices = ['say "no"', "naïve\n", "yes", "yesterday"]
    assert (await obey(engine, GrammarSpec("choice", json.dumps(choices)), seed)).text in choices
    text = (await obey(engine, GrammarSpec("regex", r"[a-f]{3}-[0-9]{2}(x|y)?"), seed)).text
    assert re.fullmatch(r"[a-f]{3}-[0-9]{2}(x|y)?", text)
    text = (await obey(engine, GrammarSpec("lark", 'start: "<" WORD ">"\nWORD: /[a-z]{2,5}/'), seed)).text
    assert re.fullmatch(r"<[a-z]{2,5}>", text)
    found = await obey(engine, GrammarSpec("json_object"), seed)
    assert found.text.startswith("{")
    assert found.finish_reason == "length" or isinstance(json.loads(found.text), dict)


async def test_json_is_not_padded_with_white_space(start_engine: StartEngine) -> None:
    engine = start_engine()
    newline = engine.encode("\n")
    params = SamplingParams(max_tokens=120, seed=3, logit_bias={newline[0]: 100, engine.encode(" ")[0]: 100})
    spec = GrammarSpec(
        "json_schema", '{"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 2}'
    )
    request = GenerationRequest("request", PROMPT, params, grammar=engine.compile_grammar(spec))
    found = await collect(engine.generate(request))
    assert found.finish_reason in {"stop", "length"}
    assert re.search(r"\n\s*\n| {33}", found.text) is None


async def test_a_grammar_binds_its_own_row_only(start_engine: StartEngine) -> None:
    engine = start_engine()
    alone = await answer(engine, PROMPT, max_tokens=30)
    spec = GrammarSpec("regex", "(ab|cd)+")
    params = SamplingParams(max_tokens=30, seed=1)
    bound = engine.generate(GenerationRequest("bound", PROMPT, params, grammar=engine.compile_grammar(spec)))
    free = engine.generate(
        GenerationRequest("free", PROMPT, SamplingParams(max_tokens=30, temperature=0, ignore_eos=True))
    )
    assert (await collect(free)).tokens == alone.tokens
    assert re.fullmatch("(ab|cd)+(a|c)?", (await collect(bound)).text)


async def test_one_compiled_grammar_serves_many_answers(start_engine: StartEngine) -> None:
    engine = start_engine()
    grammar = engine.compile_grammar(GrammarSpec("choice", '["left", "right"]'))
    generations = [
        engine.generate(GenerationRequest(str(seed), PROMPT, SamplingParams(seed=seed), grammar=grammar))
        for seed in range(12)
    ]
    texts = {(await collect(generation)).text for generation in generations}
    assert texts <= {"left", "right"}


@pytest.mark.parametrize(
    ("kind", "source", "reason"),
    [
        ("json_schema", '{"type": "array", "uniqueItems": true}', "uniqueItems"),
        ("json_schema", '{"type": "string", "format": "nonsense"}', "nonsense"),
        ("json_schema", '{"$ref": "https://example.org/schema"}', "not present"),
        ("json_schema", '{"type": 5}', "type must be"),
        ("json_schema", "[1]", "must be a JSON object"),
        ("json_schema", '{"a": ', "not valid JSON"),
        ("json_schema", '{"minimum": ' + "9" * 4_000 + "}", "number out of range"),
        ("json_schema", '{"const": 1e999}', "number out of range"),
        ("json_schema", '{"const": NaN}', "cannot be read"),
        ("json_schema", '{"const": "\\ud800"}', "cannot be read"),
        ("json_schema", '{"items":' * 100 + "{}" + "}" * 100, f"at most {MAX_NESTING} levels"),
        ("json_schema", '{"items":' * 5000 + "{}" + "}" * 5000, f"at most {MAX_NESTING} levels"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", "a(", "regex"),
        ("lark", "start: missing", "unknown name"),
        ("lark", "x" * (MAX_SOURCE_BYTES + 1), f"at most {MAX_SOURCE_BYTES}"),
        ("choice", "[]", "list of texts"),
        ("choice", '["a", 1]', "list of texts"),
    ],
)
async def test_what_cannot_be_enforced_is_refused(
    start_engine: StartEngine, kind: str, source: str, reason: str
) -> None:
    engine = start_engine()
    with pytest.raises(RequestError, match=reason) as refused:
        engine.compile_grammar(GrammarSpec(kind, source))  # type: ignore[arg-type]
    assert refused.value.param == "response_format"


@pytest.mark.parametrize("regex", ["foo**", "(a{1000}){1000}", "(.*a){50}.*b", "(x+x+)+y"])
async def test_a_hostile_pattern_ends_in_bounded_time(start_engine: StartEngine, regex: str) -> None:
    """Refused, run out of its bounds, or obeyed: the engine goes on in any case."""
    engine = start_engine()
    try:
        found = await obey(engine, GrammarSpec("regex", regex), max_tokens=20)
    except EngineError:
        found = None
    assert found is None or found.finish_reason in {"length", "stop", "grammar_stuck"}
    assert (await answer(engine, PROMPT, max_tokens=3)).finish_reason == "length"


async def test_one_requests_answers_use_up_no_limit_of_anothers(
    start_engine: StartEngine, checkpoint: Path
) -> None:
    loaded = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    compiler = GrammarCompiler(
        loaded.tokenizer.vocabulary,
        loaded.tokenizer.encode_plainly,
        loaded.config.vocab_size,
        loaded.eos_token_ids,
        limits=LIMITS | {"max_lexer_states": 300},
    )
    engine = start_engine()
    spec = GrammarSpec("regex", r"([a-c]{0,40}x?y?[d-z]{3,30})+")
    for seed in range(24):
        answered = await obey_compiled(engine, compiler.compile(spec), seed, max_tokens=12)
        assert answered.finish_reason != "grammar_stuck"
    compiler.close()


@pytest.mark.parametrize(
    ("spec", "min_tokens", "text", "told"),
    [
        (GrammarSpec("lark", AMBIGUOUS), 0, "so: ?[a-z]*", "too ambiguous"),
        # The mask of a stuck grammar allows the end token only, which these forbid.
        (GrammarSpec("lark", AMBIGUOUS), 60, "so: ?[a-z]*", "too ambiguous"),
        (GrammarSpec("lark", RECURSIVE), 60, "so: a+", "too deeply recursive"),
        (GrammarSpec("lark", DEAD_END), 0, "so: ", "dead end"),
        (GrammarSpec("regex", HUGE_REGEX), 0, "a+", "too large"),
    ],
    ids=["ambiguous", "may not end", "recursive", "dead end", "regex"],
)
async def test_a_grammar_that_gets_stuck_ends_its_own_answer_only(
    start_engine: StartEngine, spec: GrammarSpec, min_tokens: int, text: str, told: str
) -> None:
    engine = start_engine()
    alone = await answer(engine, PROMPT, max_tokens=30)
    free = begin(engine, PROMPT, max_tokens=30)
    params = SamplingParams(max_tokens=60, min_tokens=min_tokens, temperature=1.5, seed=1)
    request = GenerationRequest("stuck", PROMPT, params, grammar=engine.compile_grammar(spec))
    stuck = await collect(engine.generate(request))
    assert stuck.finish_reason == "grammar_stuck"
    assert told in (stuck.chunks[-1].error or "")
    assert re.fullmatch(text, stuck.text)
    assert len(stuck.tokens) == stuck.usage.completion_tokens
    assert (await collect(free)).tokens == alone.tokens
    assert (engine.stats().failed_steps, engine.stats().restarts) == (0, 0)
