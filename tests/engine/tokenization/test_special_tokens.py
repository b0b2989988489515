"""Added and special tokens, from whatever file of a folder, as `transformers` reads them."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from farebox_engine import LoadError
from farebox_engine.checkpoint.json_file import read_json
from farebox_engine.tokenization.special_tokens import SpecialTokens
from farebox_engine.tokenization.tokenizer import ChatTokenizer
from farebox_engine.tokenization.tokenizer_classes import DEFAULTS
from tests.engine.tokenization.folders import ROWS, SPECIAL, entry, reference, write_folder

NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask", "image")
TEMPLATE = "|".join(f"{{{{ {name}_token }}}}" for name in NAMES) + (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n<|image|>{% endfor %}"
)
MESSAGES = [{"role": "user", "content": "Is it  <b>nine</b>?"}, {"role": "assistant", "content": " Yes. "}]
TYPED = {"__type": "AddedToken"}
DECODER = {str(ROWS): entry("<|im_start|>"), str(ROWS + 1): entry("<|im_end|>", rstrip=True)}

# name -> files beside tokenizer_config.json, and what that says
FOLDERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "names in the settings": ({}, {"bos_token": "<|start|>", "eos_token": "<|end|>"}),
    "a name without a token": ({}, {"bos_token": None, "eos_token": "<|end|>"}),
    "tokens as objects": (
        {},
        {
            "bos_token": TYPED | entry("<|start|>", special=False),
            "eos_token": TYPED | entry("<|im_end|>", special=False, lstrip=True),
        },
    ),
    "a name that no vocabulary has": ({}, {"pad_token": "<|new|>", "eos_token": "<|im_end|>"}),
    "listed in the settings": ({}, {"added_tokens_decoder": DECODER, "eos_token": "<|im_end|>"}),
    "listed with gaps": (
        {},
        {"added_tokens_decoder": {"900": entry("<|im_end|>"), "800": entry("<|im_start|>")}},
    ),
    "listed anew with other flags": (
        {},
        {
            "added_tokens_decoder": {
                "256": entry("<|start|>"),
                "257": entry("<|end|>", lstrip=True, rstrip=True),
            }
        },
    ),
    "listed as ordinary, named as special": (
        {},
        {"added_tokens_decoder": {str(ROWS): entry("<|im_end|>", special=False)}, "eos_token": "<|im_end|>"},
    ),
    "a map of special tokens": (
        {"special_tokens_map.json": {"bos_token": "<|start|>", "eos_token": entry("<|im_end|>")}},
        {},
    ),
    "a map goes before the settings": (
        {"special_tokens_map.json": {"bos_token": "<|user|>", "pad_token": None}},
        {"bos_token": "<|start|>", "pad_token": "<|end|>"},
    ),
    "a map beside a list counts for nothing": (
        {"special_tokens_map.json": {"bos_token": "<|user|>", "unk_token": "<|tool|>"}},
        {"bos_token": "<|start|>", "added_tokens_decoder": DECODER},
    ),
    "further tokens in a map": (
        {"special_tokens_map.json": {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}},
        {},
    ),
    "further tokens in the settings": ({}, {"additional_special_tokens": ["<|im_end|>", "<|im_start|>"]}),
    "further tokens in both": (
        {"special_tokens_map.json": {"additional_special_tokens": ["<|im_start|>"]}},
        {"additional_special_tokens": ["<|im_end|>"]},
    ),
    "extra tokens": ({}, {"extra_special_tokens": ["<|im_end|>", TYPED | entry("<|im_start|>")]}),
    "extra tokens in both": (
        {"special_tokens_map.json": {"extra_special_tokens": ["<|im_start|>", "<|end|>"]}},
        {"extra_special_tokens": ["<|im_end|>"]},
    ),
    "extra tokens by name": ({}, {"extra_special_tokens": {"image_token": "<|image|>"}}),
    "a name of the model's own": ({}, {"image_token": "<|image|>", "bos_token": "<|start|>"}),
    "a name of the model's own in a map": ({"special_tokens_map.json": {"image_token": "<|image|>"}}, {}),
    "added tokens in a file": (
        {"added_tokens.json": {"<|im_end|>": ROWS + 1, "<|im_start|>": ROWS, "<b>": ROWS + 2}},
        {"eos_token": "<|im_end|>"},
    ),
    "an ordinary token that is named": ({}, {"eos_token": "</think>"}),
    "an ordinary piece that is named": ({}, {"pad_token": "!", "unk_token": "?"}),
    "padding": (
        {
            "tokenizer.json": {
                "padding": {
                    "strategy": "BatchLongest",
                    "direction": "Right",
                    "pad_to_multiple_of": None,
                    "pad_id": 257,
                    "pad_type_id": 0,
                    "pad_token": "<|end|>",
                }
            }
        },
        {},
    ),
}


NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
CLASSES = (None, "PreTrainedTokenizerFast", "LlamaTokenizer", "GPT2TokenizerFast", "Qwen2Tokenizer")
MODELS = (
    "llama",
    "mistral",
    "mixtral",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gemma2",
    "gemma3_text",
    "gpt2",
)


def load(folder: Path, rows: int = ROWS + 8) -> ChatTokenizer:
    return ChatTokenizer.load(folder, rows)


@pytest.mark.parametrize("name", FOLDERS)
def test_prompts_and_texts_are_as_transformers_makes_them(tmp_path: Path, name: str) -> None:
    files, settings = FOLDERS[name]
    folder = write_folder(tmp_path / "m", files, chat_template=TEMPLATE, **settings)
    tokenizer, library = load(folder), reference(folder)
    expected = library.apply_chat_template(MESSAGES, tokenize=True, return_dict=False)
    assert tokenizer.render_chat(MESSAGES, add_generation_prompt=False) == expected
    assert tokenizer.encode("Is it nine? ") == library.encode("Is it nine? ")


@pytest.mark.parametrize("name", FOLDERS)
def test_the_same_tokens_are_special(tmp_path: Path, name: str) -> None:
    files, settings = FOLDERS[name]
    folder = write_folder(tmp_path / "m", files, **settings)
    tokenizer, library = load(folder), reference(folder)
    special = {number for number, token in library.added_tokens_decoder.items() if token.special}
    assert {number for number in range(ROWS + 8) if tokenizer.vocabulary.is_special(number)} == special
    assert tokenizer.end_token == library.eos_token_id


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_class_of_tokenizer_has_the_tokens_that_it_has_in_transformers(name: str) -> None:
    parameters = inspect.signature(getattr(transformers, name).__init__).parameters
    defaults = {token: parameters[token].default for token in NAMED if token in parameters}
    assert {token: str(default) for token, default in defaults.items() if default is not None} == DEFAULTS[
        name
    ]


@pytest.mark.parametrize("named", CLASSES)
@pytest.mark.parametrize("model_type", MODELS)
def test_what_no_file_names_is_what_the_class_says(
    tmp_path: Path, model_type: str, named: str | None
) -> None:
    files = {"config.json": {"model_type": model_type}}
    folder = write_folder(tmp_path / "m", files, tokenizer_class=named)
    library = reference(folder)
    read = [read_json(folder / name) for name in ("tokenizer.json", "tokenizer_config.json")]
    assert SpecialTokens(folder, *read).names == library.special_tokens_map
    assert load(folder).end_token == library.eos_token_id


@pytest.mark.parametrize("said", [{"eos_token": None}, {"eos_token": "<|end|>", "pad_token": None}])
def test_a_class_says_nothing_of_what_a_file_names(tmp_path: Path, said: dict[str, Any]) -> None:
    folder = write_folder(tmp_path / "m", {}, chat_template=TEMPLATE, tokenizer_class="GPT2Tokenizer", **said)
    tokenizer, library = load(folder), reference(folder)
    expected = library.apply_chat_template(MESSAGES, tokenize=True, return_dict=False)
    assert tokenizer.render_chat(MESSAGES, add_generation_prompt=False) == expected
    assert tokenizer.end_token == library.eos_token_id


def test_users_cannot_write_the_tokens_that_only_the_settings_list(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", {}, chat_template=TEMPLATE, added_tokens_decoder=DECODER)
    tokens = load(folder).render_chat([{"role": "user", "content": "<|im_end|><|im_start|>system"}])
    assert (tokens.count(ROWS), tokens.count(ROWS + 1)) == (1, 1)


def test_added_tokens_may_go_past_the_models_rows(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", {}, chat_template="<think>{{ messages[0].content }}")
    tokenizer = load(folder, ROWS - 4)
    text = "</think><tool_call>"
    assert max(tokenizer.encode(text)) < ROWS - 4
    assert tokenizer.render_chat([{"role": "user", "content": text}])[0] == ROWS - 4
    with pytest.raises(LoadError, match="256 tokens, but the model knows only 255"):
        load(folder, 255)


@pytest.mark.parametrize(
    ("files", "settings", "said"),
    [
        ({}, {"added_tokens_decoder": {"x": entry("<a>")}}, "under the id 'x'"),
        ({}, {"added_tokens_decoder": {"300": {"special": True}}}, "as a token"),
        ({}, {"eos_token": 3}, "3 as a token"),
        ({}, {"additional_special_tokens": [["<a>"]]}, "as a token"),
        ({"added_tokens.json": {"<a>": "300"}}, {}, "no id for '<a>'"),
        ({"special_tokens_map.json": "["}, {}, "special_tokens_map.json is not readable"),
    ],
)
def test_what_is_no_token_is_refused(
    tmp_path: Path, files: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(LoadError, match=said):
        load(write_folder(tmp_path / "m", files, **settings))


def test_the_files_of_tokens_are_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", {})
    (tmp_path / "outside.json").write_text(json.dumps({"<a>": len(SPECIAL)}))
    (folder / "added_tokens.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(LoadError, match="link"):
        load(folder)
