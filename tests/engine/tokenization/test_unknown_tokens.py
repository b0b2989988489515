"""Added tokens past a model's last row, as Gemma 3 1B has one: never written, and refused in a prompt."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from farebox_engine import EngineConfig, GenerationRequest, RequestError, SamplingParams
from farebox_engine.encoders import EncoderEngine
from tests.engine.checkpoints import CHAT_TEMPLATE, build_checkpoint
from tests.engine.conftest import StartEngine
from tests.engine.encoders.checkpoints import build_encoder
from tests.engine.generating import answer, greedy, load_reference

FAR = "<image_soft_token>"


def add_token(folder: Path, *, special: bool, count: int = 1) -> int:
    """Add tokens after the vocabulary; returns the first one's id, which the model has no row for."""
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
    names = [FAR, *(f"<extra_{number}>" for number in range(count - 1))]
    # Up to the model's rows, so that only what is asked for lies past them.
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    tokenizer.add_tokens([f"<fill_{number}>" for number in range(rows - tokenizer.get_vocab_size())])
    add([AddedToken(name, special=special, normalized=False) for name in names])
    tokenizer.save(str(path))
    return int(tokenizer.get_vocab()[FAR])


def settings(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("count", [1, 5])
async def test_the_model_is_served_as_without_them(
    special: bool, count: int, tmp_path: Path, start_engine: StartEngine
) -> None:
    folder = build_checkpoint(tmp_path)
    far = add_token(folder, special=special, count=count)
    engine = start_engine(folder)
    prompt = engine.encode("the ferry")
    assert prompt == PreTrainedTokenizerFast.from_pretrained(folder).encode("the ferry")
    found = await answer(engine, prompt, max_tokens=12)
    assert found.tokens == greedy(load_reference(folder), prompt, 12)
    with pytest.raises(RequestError, match="outside 0 to"):
        engine.generate(_request([*prompt, far]))
    spelt = engine.encode(f"the {FAR}")
    assert max(spelt) < far, "a text that spells it is text"
    assert all(token < far for word in engine.spellings(FAR) for token in word)


async def test_a_template_that_writes_one_is_refused_at_the_prompt(
    tmp_path: Path, start_engine: StartEngine
) -> None:
    folder = build_checkpoint(tmp_path)
    far = add_token(folder, special=True)
    settings(folder, chat_template=CHAT_TEMPLATE + FAR)
    engine = start_engine(folder)
    prompt = engine.render_chat([{"role": "user", "content": "hi"}])
    assert far in prompt
    with pytest.raises(RequestError, match="outside 0 to"):
        engine.generate(_request(prompt))


async def test_an_encoder_names_the_input_that_holds_one(tmp_path: Path) -> None:
    folder = build_encoder(tmp_path, "Bert", num_hidden_layers=1)
    add_token(folder, special=False)
    engine = EncoderEngine.load(folder, EngineConfig(device="cpu", threads=1))
    engine.start(asyncio.get_running_loop())
    try:
        assert (await engine.embed(["a ferry"])).vectors.shape[0] == 1
        with pytest.raises(RequestError, match="Input 1 has a token that this model does not know"):
            await engine.embed(["a ferry", f"a {FAR}"])
    finally:
        engine.close()


def _request(prompt: list[int]) -> GenerationRequest:
    return GenerationRequest("far", prompt, SamplingParams(max_tokens=4))
