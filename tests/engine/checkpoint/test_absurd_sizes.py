"""Configurations that ask for more than their tensors have, or any memory: refused at no cost."""

import json
import resource
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from farebox_engine import Engine, EngineConfig, LoadError
from tests.engine.checkpoint.bad_folders import changed, load, refusal, spoiled

CONFIG = EngineConfig(device="cpu", threads=1)
MOST = 2**31 - 1

ABSURD: dict[str, tuple[dict[str, int], ...]] = {
    "decoder": (
        {"num_hidden_layers": 2**31},
        {"num_hidden_layers": MOST},
        {"num_hidden_layers": 4096},
        {"hidden_size": MOST, "num_attention_heads": 1, "head_dim": 2},
        {"intermediate_size": MOST},
        {"vocab_size": MOST},
        {"num_attention_heads": MOST, "num_key_value_heads": MOST},
        {"num_key_value_heads": 1},
    ),
    "encoder": (
        {"num_hidden_layers": MOST},
        {"num_hidden_layers": 4096},
        {"hidden_size": MOST, "num_attention_heads": 1},
        {"intermediate_size": MOST},
        {"vocab_size": MOST},
        {"max_position_embeddings": MOST},
        {"type_vocab_size": MOST},
    ),
    "classifier": ({"n_layers": MOST}, {"id2label": None, "num_labels": MOST}),  # type: ignore[dict-item]
    "seq2seq": (
        {"encoder_layers": MOST},
        {"decoder_layers": 4096},
        {"d_model": MOST, "encoder_attention_heads": 1, "decoder_attention_heads": 1},
        {"decoder_ffn_dim": MOST},
        {"vocab_size": MOST, "decoder_vocab_size": MOST},
    ),
    "t5": (
        {"num_layers": MOST},
        {"num_decoder_layers": 4096},
        {"num_heads": MOST},
        {"relative_attention_num_buckets": MOST - 1, "relative_attention_max_distance": MOST},
        {"d_kv": MOST},
    ),
    "adapter": ({"r": MOST}, {"r": 4096}),
}


@pytest.mark.parametrize(
    ("kind", "changes"), [(kind, changes) for kind in ABSURD for changes in ABSURD[kind]], ids=str
)
def test_absurd_sizes_cost_neither_time_nor_memory(
    kind: str, changes: dict[str, int], folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders[kind], tmp_path / "copy"))
    load(kind, folder, folders)
    changed(**changes)(folder)
    memory, started = _most_memory(), time.process_time()
    refusal(kind, folder, folders)
    assert time.process_time() - started < 5
    assert _most_memory() - memory < 100 << 10, "KiB"


def _most_memory() -> int:
    """The most that this process has held so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("experts", [MOST, 4096])
def test_absurd_numbers_of_experts_are_refused(
    experts: int, folders: dict[str, Path], tmp_path: Path
) -> None:
    change = changed(
        model_type="mixtral",
        architectures=["MixtralForCausalLM"],
        num_local_experts=experts,
        num_experts_per_tok=2,
    )
    assert f"asks for {experts} experts" in spoiled("decoder", change, folders, tmp_path)


def test_a_context_that_no_memory_holds_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    endless = Path(shutil.copytree(folders["decoder"], tmp_path / "decoder"))
    changed(max_position_embeddings=MOST)(endless)
    with pytest.raises(LoadError, match=f"One context of {MOST} tokens needs"):
        Engine.load(endless, CONFIG)
    Engine.load(endless, EngineConfig(device="cpu", threads=1, context_length=64)).close()
    longest = Path(shutil.copytree(folders["t5"], tmp_path / "t5"))
    changed(n_positions=MOST)(longest)
    with pytest.raises(LoadError, match="choose a shorter context_length"):
        Engine.load(longest, CONFIG)


def test_an_absurd_dense_layer_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    def with_a_dense_layer(folder: Path) -> None:
        names = ("Transformer", "Pooling", "Dense")
        kinds = [f"sentence_transformers.models.{name}" for name in names]
        entries = [
            {"idx": place, "name": str(place), "path": f"{place}_part" if place else "", "type": kind}
            for place, kind in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(entries))
        for place in (1, 2):
            (folder / f"{place}_part").mkdir()
        sizes = {"in_features": 48, "out_features": MOST}
        (folder / "2_part" / "config.json").write_text(json.dumps(sizes))
        tensors = {"linear.weight": torch.zeros(4, 48), "linear.bias": torch.zeros(4)}
        save_file(tensors, folder / "2_part" / "model.safetensors")

    assert "linear.weight has shape [4, 48]" in spoiled("encoder", with_a_dense_layer, folders, tmp_path)
    part = tmp_path / "copy" / "2_part"
    part.rename(tmp_path / "elsewhere")
    part.symlink_to(tmp_path / "elsewhere")
    assert "a link that leads out" in refusal("encoder", tmp_path / "copy", folders)
