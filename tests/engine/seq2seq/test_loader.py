"""Encoder-decoder checkpoints: what is accepted, and one sentence for what is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from farebox_engine import LoadError
from farebox_engine.seq2seq.loader import LoadedSeq2Seq, is_seq2seq, load_seq2seq
from tests.engine.generating import random_prompts
from tests.engine.seq2seq.checkpoints import build_seq2seq
from tests.engine.seq2seq.conftest import StartSeq2Seq
from tests.engine.seq2seq.generating import expected, target


def load(folder: Path) -> LoadedSeq2Seq:
    return load_seq2seq(folder, device=torch.device("cpu"), dtype=torch.float32)


def edit(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


async def test_other_names_of_old_exports_are_understood(
    family: str,
    reference: PreTrainedModel,
    tmp_path: Path,
    start_seq2seq: StartSeq2Seq,
) -> None:
    folder = build_seq2seq(tmp_path, family)

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        if family.startswith("t5"):
            tensors["decoder.embed_tokens.weight"] = tensors.pop("shared.weight")
            tensors["encoder.embed_tokens.weight"] = tensors["decoder.embed_tokens.weight"].clone()
            tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.ones(
                8, 4
            )
        else:
            tensors["model.decoder.embed_tokens.weight"] = tensors.pop("model.shared.weight")
            tensors["lm_head.weight"] = tensors["model.decoder.embed_tokens.weight"].clone()
        if family == "marian":
            tensors["model.encoder.embed_positions.weight"] = torch.ones(96, 32)

    rewrite(folder, rename)
    (folder / "generation_config.json").rename(folder / "gone")
    settings = json.loads((folder / "gone").read_text())
    edit(folder / "config.json", **settings)
    (source,) = random_prompts(1, (30,))
    answer = await target(start_seq2seq(folder), source, max_tokens=12)
    assert answer.tokens == expected(reference, source, 12)


async def test_a_t5_with_an_output_projection_of_its_own(tmp_path: Path, start_seq2seq: StartSeq2Seq) -> None:
    folder = build_seq2seq(tmp_path, "t5-1.1")
    head = torch.randn(400, 32)
    rewrite(folder, lambda tensors: tensors.update({"lm_head.weight": head}))
    edit(folder / "config.json", tie_word_embeddings=False, scale_decoder_outputs=...)
    loaded = load(folder)
    states = torch.randn(3, 32)
    assert torch.allclose(loaded.model.logits(states), states @ head.T, atol=1e-5)
    tied = load(build_seq2seq(tmp_path / "tied", "t5"))
    embedding = load_file(tmp_path / "tied" / "model.safetensors")["shared.weight"]
    assert torch.allclose(tied.model.logits(states), states @ embedding.T * 32**-0.5, atol=1e-5)


def test_generation_config_is_read(tmp_path: Path) -> None:
    folder = build_seq2seq(
        tmp_path,
        "marian",
        num_beams=6,
        bad_words_ids=[[4]],
        max_length=512,
        min_length=5,
        early_stopping="never",
        length_penalty=0.6,
        no_repeat_ngram_size=3,
    )
    defaults = load(folder).defaults
    assert (defaults.num_beams, defaults.banned, defaults.start_token_id) == (6, (4,), 4)
    assert (defaults.max_tokens, defaults.min_tokens) == (511, 4)
    edit(folder / "generation_config.json", min_new_tokens=2)
    assert load(folder).defaults.min_tokens == 2
    assert (defaults.early_stopping, defaults.length_penalty) == ("never", 0.6)
    assert (defaults.no_repeat_ngram_size, defaults.forced_eos_token_id) == (3, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder_no_repeat_ngram_size": 3}, "encoder_no_repeat_ngram_size is set to 3"),
        ({"suppress_tokens": [7]}, "suppress_tokens"),
        ({"bad_words_ids": [[1, 2]]}, "bad_words_ids"),
        ({"forced_eos_token_id": [0, 1]}, "forced_eos_token_id lists several"),
        ({"early_stopping": "always"}, "early_stopping"),
        ({"num_beams": 17}, "num_beams is 17"),
        ({"num_beams": 0}, "num_beams must lie between"),
        ({"decoder_start_token_id": 400}, "outside the vocabulary"),
        ({"eos_token_id": "</s>"}, "eos_token_id"),
        ({"length_penalty": "long"}, "length_penalty"),
    ],
)
def test_generation_settings_that_cannot_be_kept_are_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    folder = build_seq2seq(tmp_path, "marian")
    edit(folder / "generation_config.json", **changes)
    with pytest.raises(LoadError, match=words):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "prophetnet"}, "'prophetnet' are not supported"),
        ({"model_type": "custom", "auto_map": {"AutoModel": "x.py"}}, "never run"),
        ({"d_model": 33}, "multiple of encoder_attention_heads"),
        ({"d_model": ...}, "d_model is missing"),
        ({"encoder_layers": True}, "encoder_layers must be an integer"),
        ({"activation_function": "gelu_fast"}, "activation_function"),
        ({"normalize_before": True}, "normalize_before"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"decoder_vocab_size": 300}, "decoder_vocab_size is 300, but source and target share 400"),
        ({"share_encoder_decoder_embeddings": False}, "lacks the tensor"),
        ({"vocab_size": 399, "decoder_vocab_size": 399}, "shape"),
        ({"quantization_config": {}}, "quantization_config"),
    ],
)
def test_configurations_that_cannot_be_served_are_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    folder = build_seq2seq(tmp_path, "marian")
    edit(folder / "config.json", **changes)
    with pytest.raises(LoadError, match=words):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"feed_forward_proj": "gated-tanh"}, "feed_forward_proj"),
        ({"relative_attention_max_distance": 4}, "relative_attention_max_distance"),
        ({"d_kv": ...}, "d_kv is missing"),
        ({"feed_forward_proj": "gated-gelu"}, "lacks the tensor"),
    ],
)
def test_t5s_that_cannot_be_served_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = build_seq2seq(tmp_path, "t5")
    edit(folder / "config.json", **changes)
    with pytest.raises(LoadError, match=words):
        load(folder)


def test_weights_must_be_whole_known_and_safe(tmp_path: Path) -> None:
    folder = build_seq2seq(tmp_path, "bart")
    rewrite(folder, lambda tensors: tensors.update({"surplus": torch.ones(1)}))
    with pytest.raises(LoadError, match="no place for: surplus"):
        load(folder)
    rewrite(folder, lambda tensors: tensors.pop("surplus") and tensors.pop("model.encoder.layers.0.fc1.bias"))
    with pytest.raises(LoadError, match="lacks the tensor"):
        load(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(LoadError, match="pickle"):
        load(folder)
    with pytest.raises(LoadError, match="no folder"):
        load(tmp_path / "nowhere")


def test_a_tokenizer_is_a_tokenizer_json_or_what_marian_has_instead(tmp_path: Path) -> None:
    folder = build_seq2seq(tmp_path, "marian")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(LoadError, match=r"no tokenizer\.json"):
        load(folder)
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(b"")
    with pytest.raises(LoadError, match="no SentencePiece model"):
        load(folder)
    other = build_seq2seq(tmp_path / "t5", "t5")
    (other / "tokenizer.json").rename(other / "source.spm")
    with pytest.raises(LoadError, match=r"no tokenizer\.json"):
        load(other)


def test_families_are_told_from_decoders(marian: Path) -> None:
    assert is_seq2seq(json.loads((marian / "config.json").read_text()))
    assert not is_seq2seq({"model_type": "llama"})


def test_settings_that_do_not_fit_are_refused(tmp_path: Path, start_seq2seq: StartSeq2Seq) -> None:
    folder = build_seq2seq(tmp_path, "bart", num_beams=4)
    with pytest.raises(LoadError, match="96 positions"):
        start_seq2seq(folder, context_length=97)
    with pytest.raises(LoadError, match="kv_cache_bytes"):
        start_seq2seq(folder, kv_cache_bytes=10_000)
    with pytest.raises(LoadError, match="4 beams"):
        start_seq2seq(folder, max_running=3)
