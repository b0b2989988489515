"""The tokens of an answer that are reasoning, counted as they come."""

import json
import re
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox_engine import Engine, GenerationRequest, GrammarSpec, SamplingParams
from farebox_engine.tokenization.answer_format import AnswerFormat
from farebox_engine.tokenization.answer_parser import AnswerParser, Content, Reasoning
from farebox_engine.tokenization.reasoning import ReasoningCount
from tests.engine.checkpoints import build_checkpoint
from tests.engine.conftest import StartEngine
from tests.engine.generating import Answer, collect

# Blocks of reasoning at an answer's very start, the last of them perhaps cut short.
BLOCKS = re.compile(r"(?:\s*<think>(?s:.*?)(?:</think>|\Z))*")
PIECES = [
    "<think>",
    "</think>",
    "<th",
    "ink>",
    "</th",
    "</",
    "think>",
    "\n",
    " ",
    "<",
    "x",
    "ö",
    "",
    "</think>\n\n",
]
THINKER = AnswerFormat("hermes", reasons=True)
CALL = '<tool_call>{"name": "a"}</tool_call>'


def count(tokens: list[str], *, opened: bool = False) -> int:
    counted = ReasoningCount(opened=opened)
    for token in tokens:
        counted.feed(token)
    return counted.tokens


@given(tokens=st.lists(st.sampled_from(PIECES), max_size=14), opened=st.booleans())
def test_all_tokens_up_to_the_one_that_closes_the_reasoning(tokens: list[str], opened: bool) -> None:
    before = "<think>" if opened else ""
    text = before + "".join(tokens)
    blocks = BLOCKS.match(text)
    assert blocks is not None
    read = [len(before), *accumulate(map(len, tokens), initial=len(before))][1:]
    whole = blocks[0].endswith("</think>") or not blocks[0]
    closed = next(place for place, length in enumerate(read) if length >= blocks.end()) if blocks[0] else 0
    assert count(tokens, opened=opened) == (closed if whole else len(tokens))
    parser = AnswerParser(THINKER, tools={}, opened=opened)
    parts = [*parser.feed("".join(tokens)), *parser.finish()]
    said = "".join(part.text for part in parts if isinstance(part, Content))
    assert said == text[blocks.end() :].lstrip(), "the parser tells them apart at the same place"


@pytest.mark.parametrize(
    ("tokens", "opened", "counted"),
    [
        (["Hm", ".", "</think>", "\n\n", "Nine"], True, 3),
        (["Hm", ".</th", "ink>\n\nNi", "ne"], True, 3),
        (["\n", "<think>", "Hm", "</think>", "Nine"], False, 4),
        (["<think>", "Hm"], False, 2),
        (["<think>", "</think>", "\n", "<think>", "Hm", "</think>", "Nine"], False, 6),
        (["Nine", "<think>", "Hm", "</think>"], False, 0),
        (["<thi"], False, 0),
        ([], True, 0),
    ],
)
def test_examples(tokens: list[str], opened: bool, counted: int) -> None:
    assert count(tokens, opened=opened) == counted


def test_what_comes_after_a_call_is_no_reasoning() -> None:
    answer = f"<think>Hm</think>{CALL}<think>x</think>"
    parser = AnswerParser(THINKER, tools={"a": {}})
    parts = [*parser.feed(answer), *parser.finish()]
    assert [part.text for part in parts if isinstance(part, Reasoning)] == ["Hm"]
    assert count(list(answer)) == len("<think>Hm</think>")


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_checkpoint(tmp_path_factory.mktemp("thinker"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    template = settings["chat_template"] + "{# <think>…</think> #}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
    return folder


async def say(engine: Engine, prompt: str, text: str, *, counts: bool = True, max_tokens: int = 60) -> Answer:
    """An answer that is made to be `text`, in whatever tokens the model chooses."""
    params = SamplingParams(max_tokens=max_tokens, seed=7, temperature=1.5)
    grammar = engine.compile_grammar(GrammarSpec("choice", json.dumps([text])))
    tokens = engine.encode(prompt)
    request = GenerationRequest("said", tokens, params, grammar=grammar, counts_reasoning=counts)
    return await collect(engine.generate(request))


async def test_an_engine_counts_for_whom_it_is_asked_to(
    start_engine: StartEngine, thinker: Path, checkpoint: Path
) -> None:
    engine = start_engine(thinker)
    found = await say(engine, "Why?<think>", "Hm, nine.</think>\n\nNine.")
    reasoning = [len(chunk.token_ids) for chunk in found.chunks]
    texts = list(accumulate(chunk.text for chunk in found.chunks))
    last = next(place for place, text in enumerate(texts) if "</think>" in text)
    assert found.text == "Hm, nine.</think>\n\nNine."
    assert sum(reasoning[:last]) < found.usage.reasoning_tokens <= sum(reasoning[: last + 1])
    assert found.usage.reasoning_tokens < found.usage.completion_tokens
    cut = await say(engine, "Why?<think>", "Hm, nine.</think>\n\nNine.", max_tokens=3)
    assert (cut.usage.reasoning_tokens, cut.usage.completion_tokens) == (3, 3)
    marked = await say(engine, "Why?", "<think>Hm.</think>Nine.")
    assert 0 < marked.usage.reasoning_tokens < marked.usage.completion_tokens
    assert (await say(engine, "Why?", "Nine.")).usage.reasoning_tokens == 0
    assert (await say(engine, "Why?<think>", "Hm.</think>", counts=False)).usage.reasoning_tokens == 0
    plain = start_engine(checkpoint)
    assert (await say(plain, "Why?<think>", "Hm.</think>")).usage.reasoning_tokens == 0


async def test_a_stop_string_and_guessed_tokens_change_no_count(
    start_engine: StartEngine, thinker: Path
) -> None:
    """Held back or guessed, each token counts once; the model never closes its reasoning by itself."""
    engine = start_engine(thinker, speculative_tokens=4)
    prompt = engine.encode("So nine, so nine, so nine, so nine<think>")
    (word, *_) = engine.encode(" so")
    params = SamplingParams(
        max_tokens=24, temperature=0.0, ignore_eos=True, logit_bias={word: 100.0}, stop=(" so x",)
    )
    found = await collect(engine.generate(GenerationRequest("r", prompt, params, counts_reasoning=True)))
    assert found.usage.accepted_draft_tokens > 0
    assert found.usage.reasoning_tokens == found.usage.completion_tokens == 24
