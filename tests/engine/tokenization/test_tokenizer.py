"""Encoding: as `transformers` does it, except that users cannot write control tokens."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from farebox_engine import LoadError, TemplateError, demo
from farebox_engine.tokenization.control_tokens import finder
from farebox_engine.tokenization.tokenizer import ChatTokenizer
from tests.engine.checkpoints import CHAT_TEMPLATE, SPECIAL_TOKENS

CONTROL_IDS = set(range(len(SPECIAL_TOKENS)))


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> ChatTokenizer:
    return ChatTokenizer.load(checkpoint, 400)


@pytest.fixture(scope="module")
def library(checkpoint: Path) -> Any:
    return PreTrainedTokenizerFast.from_pretrained(checkpoint)


def user(*contents: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content} for content in contents]


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_ordinary_text_is_encoded_as_transformers_does(
    tokenizer: ChatTokenizer, library: Any, text: str
) -> None:
    assert tokenizer.encode(text) == library(text)["input_ids"]


@settings(max_examples=100, deadline=None)
@given(contents=st.lists(st.text(max_size=30), min_size=1, max_size=4), prompt=st.booleans())
def test_ordinary_chats_are_rendered_as_transformers_does(
    tokenizer: ChatTokenizer, library: Any, contents: list[str], prompt: bool
) -> None:
    messages = user(*contents)
    expected = library.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
    assert tokenizer.render_chat(messages, add_generation_prompt=prompt) == expected


@settings(max_examples=200, deadline=None)
@given(
    contents=st.lists(
        st.lists(
            st.sampled_from([*SPECIAL_TOKENS, "<|", "end", "|>", "user", " ", "é", "<"]), max_size=6
        ).map("".join),
        min_size=1,
        max_size=3,
    )
)
def test_control_tokens_in_a_chat_come_from_the_template_alone(
    tokenizer: ChatTokenizer, library: Any, contents: list[str]
) -> None:
    tokens = tokenizer.render_chat(user(*contents))
    assert [token for token in tokens if token in CONTROL_IDS] == [4, *[1, 0] * len(contents), 2]
    rendered = library.apply_chat_template(user(*contents), add_generation_prompt=True, tokenize=False)
    assert library.decode(tokens) == rendered, "the text itself is kept"


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(st.sampled_from([*SPECIAL_TOKENS, "a", " ", "<|", "渡"]), max_size=8))
def test_control_tokens_in_a_text_are_text(tokenizer: ChatTokenizer, library: Any, parts: list[str]) -> None:
    text = "".join(parts)
    tokens = tokenizer.encode(text)
    assert not CONTROL_IDS & set(tokens)
    assert library.decode(tokens) == text


def test_two_fields_cannot_join_into_a_control_token(checkpoint: Path) -> None:
    description = json.loads((checkpoint / "tokenizer.json").read_text())
    template = "{{ messages[0].name }}{{ messages[0].content }}<|end|>"
    tokenizer = ChatTokenizer(description, template, {})
    tokens = tokenizer.render_chat([{"role": "user", "name": "<|us", "content": "er|>"}])
    assert [token for token in tokens if token in CONTROL_IDS] == [0]


def test_a_role_cannot_carry_text(tokenizer: ChatTokenizer) -> None:
    with pytest.raises(TemplateError, match="role"):
        tokenizer.render_chat([{"role": "user|>x<|end", "content": ""}])


def test_content_may_hold_the_stand_ins_themselves(tokenizer: ChatTokenizer, library: Any) -> None:
    text = "\U00100000<|end|>\U00100001"
    assert text in library.decode(tokenizer.render_chat(user(text)))


def test_markers_that_only_the_template_knows_are_control_tokens_too(checkpoint: Path) -> None:
    library = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    library.add_tokens([AddedToken("<tool>"), AddedToken("<td>")])
    description = json.loads(library.to_str())
    tokenizer = ChatTokenizer(description, CHAT_TEMPLATE + "<tool>", {"bos_token": "<|start|>"})
    vocabulary = library.get_vocab()
    tool, cell = vocabulary["<tool>"], vocabulary["<td>"]
    tokens = tokenizer.render_chat(user("<tool> <td>"))
    assert tokens.count(tool) == 1
    assert tokens[-1] == tool
    assert cell in tokens, "an added token of no meaning to the template is ordinary vocabulary"
    assert tool not in tokenizer.encode("<tool>")


def test_a_vocabulary_that_contains_a_control_token_is_no_way_in() -> None:
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((char, -5.0) for char in "</s>abc ▁")]
    library = Tokenizer(models.Unigram(pieces, unk_id=0))
    library.add_special_tokens(["</s>"])
    description = json.loads(library.to_str()) | {"decoder": {"type": "Metaspace", "replacement": "▁"}}
    tokenizer = ChatTokenizer(description, "{{ messages[0].content }}</s>", {})
    assert 1 not in tokenizer.encode("a</s>b</s>")
    assert tokenizer.render_chat(user("a</s></s>b")).count(1) == 1


def test_a_model_without_a_template_says_so(checkpoint: Path) -> None:
    description = json.loads((checkpoint / "tokenizer.json").read_text())
    with pytest.raises(TemplateError, match="no chat template"):
        ChatTokenizer(description, None, {}).render_chat(user("hi"))


@pytest.mark.parametrize(
    "broken",
    [{}, {"model": {"type": "BPE"}}, {"added_tokens": "none"}, {"added_tokens": [{"id": "x", "content": 3}]}],
)
def test_a_broken_tokenizer_is_one_sentence(broken: dict[str, Any]) -> None:
    with pytest.raises(LoadError, match=r"tokenizer\.json"):
        ChatTokenizer(broken, None, {})


def test_a_tokenizer_larger_than_the_model_is_refused(checkpoint: Path) -> None:
    with pytest.raises(LoadError, match="use the tokenizer that the model was trained with"):
        ChatTokenizer.load(checkpoint, 399)


@pytest.mark.parametrize("word", ["ferry", "comes back", "渡轮", "lamps,", "<|end|>"])
@pytest.mark.parametrize("before", ["", "the ", "nine\n", "(", "<|end|>"])
def test_a_word_is_spelled_as_it_is_wherever_it_stands(
    tokenizer: ChatTokenizer, word: str, before: str
) -> None:
    tokens = tuple(tokenizer.encode_plainly(before + word))
    spellings = tokenizer.spellings(word)
    assert any(tokens[-len(spelling) :] == spelling for spelling in spellings)
    assert not CONTROL_IDS & {token for spelling in spellings for token in spelling}
    assert tokenizer.spellings(f"  {word}") == spellings


def test_white_space_is_no_word(tokenizer: ChatTokenizer) -> None:
    assert tokenizer.spellings(" \n") == tokenizer.spellings("") == []


def turns_beside(work: Callable[[], object]) -> int:
    """How often a thread that gives the interpreter away gets it back while another does `work`."""
    turns = 0
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        while not done.done():
            time.sleep(0)
            turns += 1
        done.result()
    return turns


def test_a_long_text_leaves_the_interpreter_to_others() -> None:
    tokenizer = ChatTokenizer.load(demo.path(), 10**6)
    text = "the cat sat on the mat. " * 40_000
    library = Tokenizer.from_file(str(demo.path() / "tokenizer.json"))
    kept = turns_beside(lambda: library.encode(text))
    left = turns_beside(lambda: tokenizer.render_chat(user(text)))
    assert left > 10 * kept


@pytest.mark.parametrize("count", [500, 5_000])
def test_what_control_tokens_begin_with_is_looked_at_once(count: int) -> None:
    pattern = finder([f"<extra_id_{number}>" for number in range(count)] + ["<pad>", "</s>"])
    assert pattern.pattern.count("extra") == 1
    assert pattern.findall("<extra_id_17><extra_id_x><pad></s") == ["<extra_id_17>", "<pad>"]


@settings(max_examples=200, deadline=None)
@given(
    controls=st.sets(st.text("ab<(|", min_size=1, max_size=6), max_size=12),
    text=st.text("ab<(|", max_size=40),
)
def test_every_place_of_a_control_token_is_found_the_longest_first(controls: set[str], text: str) -> None:
    expected = [
        (start, max(found, key=len))
        for start in range(len(text))
        if (found := [token for token in controls if text.startswith(token, start)])
    ]
    assert [(match.start(1), match[1]) for match in finder(controls).finditer(text)] == expected


def test_control_tokens_may_begin_with_each_other_many_times() -> None:
    pattern = finder(["a" * length for length in range(1, 500)])
    assert pattern.findall("a" * 3) == ["aaa", "aa", "a"]
