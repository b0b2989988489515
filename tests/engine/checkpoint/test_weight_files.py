"""Which files of a folder are read: those that `transformers` reads, whatever lies beside them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from farebox_engine import LoadError, load_model
from farebox_engine.checkpoint.files import hash_files, weight_files
from tests.engine.checkpoint.bad_folders import CPU, changed, config_of

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
STRAYS = (
    "a.safetensors",
    "adapter_model.safetensors",
    "consolidated.00-of-01.safetensors",
    "consolidated.safetensors",
    "model-00001-of-00002.safetensors",
    "model.fp16.safetensors",
    "model_step500.safetensors",
    "optimizer.safetensors",
    "pytorch_model.safetensors",
    "value_head.safetensors",
    "checkpoint-7/model.safetensors",
    "original/model.safetensors",
)


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def random_like(file: Path) -> dict[str, torch.Tensor]:
    """Another model's weights, under the same names."""
    return {name: torch.randn_like(tensor) for name, tensor in load_file(file).items()}


def save(tensors: dict[str, torch.Tensor], file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    save_file(tensors, file, metadata={"format": "pt"})


def in_shards(folder: Path) -> None:
    """Two files and an index in place of one file."""
    tensors = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    names = sorted(tensors)
    shards = {
        f"model-0000{number}-of-00002.safetensors": {name: tensors[name] for name in names[number - 1 :: 2]}
        for number in (1, 2)
    }
    for file, content in shards.items():
        save(content, folder / file)
    write_index(folder, {name: file for file, content in shards.items() for name in content})


def write_index(folder: Path, weight_map: dict[str, str]) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def last_norm(folder: Path) -> torch.Tensor:
    """A tensor as it is served, which has to be the one that `transformers` takes."""
    model: Any = load_model(folder, device=torch.device("cpu"), dtype=torch.float32).model
    served: torch.Tensor = model.norm.weight
    assert torch.equal(served, AutoModelForCausalLM.from_pretrained(folder).model.norm.weight)
    return served


@pytest.mark.parametrize("stray", STRAYS)
def test_a_stray_file_is_neither_read_nor_hashed(folder: Path, stray: str) -> None:
    before, hashed = last_norm(folder), hash_files(weight_files(folder))
    save(random_like(folder / SINGLE), folder / stray)
    assert torch.equal(last_norm(folder), before)
    assert hash_files(weight_files(folder)) == hashed


@pytest.mark.parametrize("stray", ["consolidated.safetensors", "model-00003-of-00003.safetensors"])
def test_a_file_that_the_index_does_not_name_is_not_read(folder: Path, stray: str) -> None:
    before, other = last_norm(folder), random_like(folder / SINGLE)
    in_shards(folder)
    save(other, folder / stray)
    assert torch.equal(last_norm(folder), before)
    assert [path.name for path in weight_files(folder)] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_one_file_wins_over_an_index_that_was_left_behind(folder: Path) -> None:
    before, other = last_norm(folder), random_like(folder / SINGLE)
    save(other, folder / "model-00001-of-00001.safetensors")
    write_index(folder, dict.fromkeys(other, "model-00001-of-00001.safetensors"))
    assert torch.equal(last_norm(folder), before)
    write_index(folder, dict.fromkeys(other, "gone.safetensors"))
    assert torch.equal(last_norm(folder), before), "nor does it matter what it names"


def test_an_index_that_promises_what_its_files_lack_is_refused(folder: Path) -> None:
    in_shards(folder)
    file = folder / "model-00001-of-00002.safetensors"
    tensors = load_file(file)
    lost = max(tensors)
    del tensors[lost]
    save(tensors, file)
    with pytest.raises(LoadError, match=f"lacks the tensor {lost}"):
        last_norm(folder)


def test_the_file_that_the_config_names_wins(folder: Path) -> None:
    other = random_like(folder / SINGLE)
    save(other, folder / "tuned.safetensors")
    changed(transformers_weights="tuned.safetensors")(folder)
    assert torch.equal(last_norm(folder), other["model.norm.weight"])
    write_index(folder, dict.fromkeys(other, "tuned.safetensors"))
    (folder / INDEX).rename(folder / "tuned.safetensors.index.json")
    changed(transformers_weights="tuned.safetensors.index.json")(folder)
    assert torch.equal(last_norm(folder), other["model.norm.weight"])
    assert config_of(folder).name == "config.json"


def test_a_tensor_in_two_shards_is_refused(folder: Path) -> None:
    in_shards(folder)
    first, second = sorted(folder.glob("model-*.safetensors"))
    tensors = load_file(first)
    save(load_file(second) | {min(tensors): torch.randn_like(tensors[min(tensors)])}, second)
    with pytest.raises(LoadError, match=f"holds a tensor twice, {min(tensors)}"):
        load_model(folder, device=CPU, dtype=torch.float32)
