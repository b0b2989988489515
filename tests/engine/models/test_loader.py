"""Checkpoint folders: what is read, and what is refused in one sentence."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from farebox_engine import Engine, EngineConfig, LoadError, demo, load_model
from farebox_engine.models.loader import LoadedModel
from farebox_engine.models.sampling_defaults import GenerationDefaults
from tests.engine.checkpoints import CHAT_TEMPLATE

WEIGHTS = "model.safetensors"


def load(folder: Path) -> LoadedModel:
    return load_model(folder, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def edit_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changes))


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


def test_shards_and_a_single_file_hold_the_same_model(
    checkpoint: Path, folder: Path, reference: PreTrainedModel
) -> None:
    (folder / WEIGHTS).unlink()
    reference.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    sharded, single = load(folder).model, load(checkpoint).model
    assert isinstance(sharded, torch.nn.Module)
    assert isinstance(single, torch.nn.Module)
    for name, tensor in single.state_dict().items():
        assert torch.equal(sharded.state_dict()[name], tensor)


def test_the_hash_covers_every_byte_of_the_weights(checkpoint: Path, folder: Path) -> None:
    assert load(folder).model_hash == load(checkpoint).model_hash
    edit_weights(folder, lambda tensors: tensors["model.norm.weight"][5:6].add_(1))
    assert load(folder).model_hash != load(checkpoint).model_hash
    assert len(load(folder).model_hash) == len(hashlib.sha256().hexdigest())


def test_generation_config_decides_the_end_tokens(folder: Path) -> None:
    edit_json(folder / "config.json", eos_token_id=3)
    (folder / "generation_config.json").unlink()
    assert load(folder).eos_token_ids == {3}
    edit_json(folder / "generation_config.json", eos_token_id=[7, 9])
    assert load(folder).eos_token_ids == {7, 9}


def test_the_tokenizer_names_the_end_where_nothing_else_does(folder: Path) -> None:
    edit_json(folder / "config.json", eos_token_id=None)
    edit_json(folder / "generation_config.json", eos_token_id=None)
    assert load(folder).eos_token_ids == {0}
    edit_json(folder / "tokenizer_config.json", eos_token="<|new|>")
    assert load(folder).eos_token_ids == frozenset(), "the model has no row for it"


def test_generation_config_tells_the_sampling_defaults(folder: Path) -> None:
    file = folder / "generation_config.json"
    file.unlink()
    assert load(folder).defaults == GenerationDefaults() == GenerationDefaults(1.0, 1.0, 0, 0.0, 1.0, None)
    edit_json(file, eos_token_id=0, do_sample=None, top_k=None, num_beams=4)
    assert load(folder).defaults == GenerationDefaults(), "silent on all of them"
    edit_json(
        file,
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
        top_k=20,
        min_p=0.05,
        repetition_penalty=1.05,
        max_new_tokens=99,
    )
    assert load(folder).defaults == GenerationDefaults(0.6, 0.95, 20, 0.05, 1.05, 99)
    edit_json(file, do_sample=False)
    assert load(folder).defaults == GenerationDefaults(0.0, 0.95, 20, 0.05, 1.05, 99), "greedy"


def test_the_demo_model_asks_for_what_its_card_says() -> None:
    assert load(demo.path()).defaults == GenerationDefaults(
        temperature=0.7, top_p=0.9, repetition_penalty=1.1
    )


def test_a_template_file_wins_over_the_tokenizer_config(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("fixed")
    tokenizer = load(folder).tokenizer
    assert tokenizer.render_chat([{"role": "user", "content": "x"}]) == tokenizer.encode("fixed")


def test_named_templates_take_the_default_one(folder: Path) -> None:
    named = [{"name": "tools", "template": "wrong"}, {"name": "default", "template": CHAT_TEMPLATE}]
    edit_json(folder / "tokenizer_config.json", chat_template=named)
    messages = [{"role": "user", "content": "x"}]
    assert load(folder).tokenizer.render_chat(messages)[1] == 1


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def truncated(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def misshaped(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(65)}))


def without_a_tensor(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))


def with_a_foreign_tensor(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update({"model.layers.9.q_norm.weight": torch.zeros(4)}))


def with_an_index(weight_map: object) -> Callable[[Path], None]:
    def index(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        edit_json(folder / "model.safetensors.index.json", weight_map=weight_map)

    return index


def changed(name: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / name, **changes)


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (removed("config.json"), "has no config.json"),
    "no tokenizer": (removed("tokenizer.json"), "has no tokenizer.json"),
    "no weights": (removed(WEIGHTS), "has no model.safetensors"),
    "weights by another name": (
        lambda folder: (folder / WEIGHTS).rename(folder / "model.fp16.safetensors"),
        "model.fp16.safetensors is not read in their place",
    ),
    "pickle": (pickled, "convert them to safetensors"),
    "truncated": (truncated, "copy or download it again"),
    "no safetensors at all": (written(WEIGHTS, b"GGUF"), "copy or download it again"),
    "hostile header": (written(WEIGHTS, b"\xff" * 8 + b"{}"), "copy or download it again"),
    "misshaped": (misshaped, "model.norm.weight has shape \\[65\\]"),
    "missing tensor": (without_a_tensor, "layers.1.mlp.up_proj.weight"),
    "foreign tensor": (with_a_foreign_tensor, "q_norm"),
    "config no JSON": (written("config.json", b"{"), "not readable as JSON"),
    "config deep": (written("config.json", b"[" * 100_000), "not readable as JSON"),
    "config a list": (written("config.json", b"[]"), "no JSON object"),
    "unknown family": (changed("config.json", model_type="mamba"), "'mamba' are not supported"),
    "code": (
        changed("config.json", model_type="own", auto_map={"AutoModel": "evil.Model"}),
        "Code that comes with a checkpoint is never run",
    ),
    "nonsense config": (changed("config.json", num_attention_heads=0), "num_attention_heads"),
    "quantized": (changed("config.json", quantization_config={"quant_method": "awq"}), "quantized"),
    "index outside": (with_an_index({"a": "../../secret.safetensors"}), "no safetensors file in its folder"),
    "index to a pickle": (with_an_index({"a": "weights.bin"}), "no safetensors file in its folder"),
    "index to nowhere": (with_an_index({"a": "b.safetensors"}), "lacks b.safetensors"),
    "index empty": (with_an_index({}), "no weight_map"),
    "end token": (changed("generation_config.json", eos_token_id=10**6), "eos_token_id"),
    "temperature": (changed("generation_config.json", temperature="hot"), "temperature must be a number"),
    "temperature true": (changed("generation_config.json", temperature=True), "temperature must be a number"),
    "temperature below 0": (changed("generation_config.json", temperature=-0.5), "temperature is -0.5"),
    "temperature infinite": (
        written("generation_config.json", b'{"temperature": 1e999}'),
        "temperature must be a finite number",
    ),
    "top_p": (changed("generation_config.json", top_p=1.5), "top_p is 1.5"),
    "top_k": (changed("generation_config.json", top_k=2.5), "top_k must be an integer"),
    "min_p": (changed("generation_config.json", min_p=2), "min_p is 2"),
    "repetition": (changed("generation_config.json", repetition_penalty=0), "repetition_penalty is 0"),
    "max_new_tokens": (changed("generation_config.json", max_new_tokens=0), "max_new_tokens must lie"),
    "do_sample": (changed("generation_config.json", do_sample="no"), "do_sample must be true or false"),
    "template": (changed("tokenizer_config.json", chat_template="{% if %}"), "does not compile"),
    "template no text": (changed("tokenizer_config.json", chat_template=3), "no text"),
    "template file": (written("chat_template.jinja", b"\xff\xfe"), "not readable as text"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_checkpoint_is_one_sentence(folder: Path, case: str) -> None:
    spoil, message = BROKEN[case]
    spoil(folder)
    with pytest.raises(LoadError, match=message) as failure:
        load(folder)
    assert str(failure.value).endswith((".", "it."))
    assert "\n" not in str(failure.value)


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(LoadError, match="There is no folder"):
        load(Path("/nowhere/model"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context_length": 1000}, "choose at most that"),
        ({"kv_cache_bytes": 1000}, "raise it or lower context_length"),
        ({"device": "toaster"}, "use cpu, cuda"),
        ({"device": "cuda:99"}, "GPUs were found"),
        ({"dtype": "int3"}, "use one of"),
        ({"step_tokens": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be(checkpoint: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LoadError, match=message):
        Engine.load(checkpoint, EngineConfig(**settings))
