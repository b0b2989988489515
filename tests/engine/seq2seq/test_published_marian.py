"""Marian as OPUS-MT publishes it: from a text to its translation, as `transformers` has both."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from farebox_engine import LoadError, RequestError, TemplateError
from farebox_engine.seq2seq.loader import load_seq2seq
from tests.engine.seq2seq.checkpoints import build_published, build_seq2seq, load_reference
from tests.engine.seq2seq.conftest import StartSeq2Seq
from tests.engine.seq2seq.generating import target, translate
from tests.engine.tokenization.sentencepiece.trained import SOURCES, load_library

TEXTS = [*SOURCES, "", ">>deu<< The ferry", "Ångström 渡 🙂 \t </s>", "the lamps " * 4]


@pytest.fixture(scope="module", params=[False, True], ids=["shared", "separate"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_published(tmp_path_factory.mktemp("published"), separate=request.param)


@pytest.fixture(scope="module")
def reference(published: Path) -> PreTrainedModel:
    return load_reference(published)


@pytest.mark.parametrize("num_beams", [1, 3])
async def test_texts_are_translated_as_transformers_does(
    num_beams: int, published: Path, reference: Any, start_seq2seq: StartSeq2Seq
) -> None:
    engine, library = start_seq2seq(published), load_library(published)
    for text in TEXTS:
        batch = library(text, return_tensors="pt", split_special_tokens=True)
        source = engine.encode(text)
        assert source == batch["input_ids"][0].tolist()
        wanted = reference.generate(**batch, num_beams=num_beams, max_new_tokens=24)[0, 1:].tolist()
        answer = await target(engine, source, num_beams=num_beams, max_tokens=24)
        assert answer.tokens == wanted
        assert answer.text == library.decode(wanted, skip_special_tokens=True)
        assert answer.text


async def test_it_decodes_as_its_files_say(
    published: Path, reference: Any, start_seq2seq: StartSeq2Seq
) -> None:
    engine, library = start_seq2seq(published), load_library(published)
    answer = await target(engine, engine.encode(SOURCES[0]), num_beams=None, max_tokens=None)
    wanted = reference.generate(**library(SOURCES[0], return_tensors="pt"))[0, 1:].tolist()
    assert answer.tokens == wanted


async def test_ids_are_checked_on_their_own_side(published: Path, start_seq2seq: StartSeq2Seq) -> None:
    engine = start_seq2seq(published)
    description = json.loads((published / "config.json").read_text())
    source, vocab = description["vocab_size"], description["decoder_vocab_size"]
    with pytest.raises(RequestError, match=f"0 to {source - 1}") as failure:
        translate(engine, [source])
    assert failure.value.param == "prompt"
    with pytest.raises(RequestError, match=f"0 to {vocab - 1}") as failure:
        translate(engine, [source - 1], logit_bias={vocab: 1.0})
    assert failure.value.param == "logit_bias"


async def test_it_holds_no_chats(published: Path, start_seq2seq: StartSeq2Seq) -> None:
    engine = start_seq2seq(published)
    assert not engine.has_chat_template
    with pytest.raises(TemplateError, match="completions"):
        engine.render_chat([{"role": "user", "content": "Hi"}])


def test_looking_up_an_embedding_is_no_work(tmp_path: Path) -> None:
    def encoder_parameters(folder: Path) -> int:
        return load_seq2seq(folder, device=torch.device("cpu"), dtype=torch.float32).encoder_parameters

    shared, separate = (build_published(tmp_path / str(each), separate=each) for each in (False, True))
    assert encoder_parameters(shared) == encoder_parameters(separate)


def test_two_vocabularies_are_no_tokenizer_json(tmp_path: Path) -> None:
    separate = build_published(tmp_path / "separate", separate=True)
    build_seq2seq(tmp_path / "other", "marian")
    (tmp_path / "other" / "tokenizer.json").rename(separate / "tokenizer.json")
    load_seq2seq(separate, device=torch.device("cpu"), dtype=torch.float32)
    (separate / "source.spm").unlink()
    with pytest.raises(LoadError, match=r"no source\.spm"):
        load_seq2seq(separate, device=torch.device("cpu"), dtype=torch.float32)
