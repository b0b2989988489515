"""Adapters against bases with the adapter merged in by hand and computed by `transformers`."""

import asyncio
import gc
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from farebox_engine import Engine, LoadError, RequestError, load_model
from farebox_engine.layers.attention import CausalAttention
from farebox_engine.lora.adapter import Adapter
from farebox_engine.lora.batch import Group, adapted
from farebox_engine.lora.store import AdapterStore
from tests.engine.checkpoints import FAMILIES, build_checkpoint
from tests.engine.conftest import StartEngine
from tests.engine.generating import answer, begin, collect, greedy, load_reference, random_prompts
from tests.engine.lora.adapters import build_adapter, merged

LENGTHS = (3, 17, 40)
# What two adapters of each family are made of; their ranks and ways of scaling differ.
TARGETS = {
    "llama": (["q_proj", "v_proj"], ["k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    "gemma2": (["q_proj", "up_proj"], ["v_proj", "down_proj"]),
    "phi3": (["qkv_proj", "o_proj"], ["gate_up_proj", "down_proj"]),
    "gpt2": (["c_attn"], ["c_proj", "c_fc"]),
    "qwen3-moe": (["q_proj", "k_proj"], ["v_proj", "o_proj"]),
}


@dataclass(frozen=True)
class Case:
    """A base with two adapters, and the references: without, with the first, with the second."""

    base: Path
    adapters: dict[str, Path]
    references: dict[str | None, PreTrainedModel]

    def load_all(self, engine: Engine) -> None:
        for name, folder in self.adapters.items():
            engine.load_adapter(name, folder)


@pytest.fixture(scope="module", params=TARGETS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("llama"), "llama")


def make_case(folder: Path, family: str) -> Case:
    base = build_checkpoint(folder / "base", seed=5, **FAMILIES.get(family, {}))
    first, second = TARGETS[family]
    settings: dict[str, Any] = {"fan_in_fan_out": family == "gpt2"}
    adapters = {
        "a": build_adapter(folder / "a", base, first, rank=4, seed=1, **settings),
        "b": build_adapter(
            folder / "b",
            base,
            second,
            rank=9,
            seed=2,
            use_rslora=True,
            layers_to_transform=[0, 2],
            **settings,
        ),
    }
    references = {None: load_reference(base)} | {
        name: merged(base, adapter) for name, adapter in adapters.items()
    }
    return Case(base, adapters, references)


def test_logits_of_a_mixed_batch_agree_with_merged_weights(case: Case) -> None:
    loaded = load_model(case.base, device=torch.device("cpu"), dtype=torch.float32)
    store = AdapterStore(loaded)
    for adapter_name, folder in case.adapters.items():
        store.load(adapter_name, folder)
    prompts = random_prompts(8, (24, 24, 24, 24))
    chosen = ("b", None, "a", "b")
    rows = {each: [row for row in range(96) if chosen[row // 24] == each] for each in case.adapters}
    groups = []
    for adapter_name, its_rows in rows.items():
        adapter = store.find(adapter_name)
        assert adapter is not None
        groups.append(Group(adapter.matrices, torch.tensor(its_rows)))
    tokens, positions = torch.tensor(prompts).flatten(), torch.arange(24).repeat(4)
    with torch.inference_mode(), adapted(groups):
        hidden = loaded.model(tokens, positions, CausalAttention(24), torch.full((96,), 24))
        logits = loaded.model.logits(hidden).view(4, 24, -1)
    for prompt, name, found in zip(prompts, chosen, logits, strict=True):
        with torch.inference_mode():
            expected = case.references[name](torch.tensor([prompt])).logits[0]
        error = (found - expected).abs().max() / expected.abs().max()
        assert error <= 1e-4, f"adapter {name}: relative error {error:.2e}"


async def test_tokens_alone_and_in_a_mixed_batch(case: Case, start_engine: StartEngine) -> None:
    """Small steps, so that prompts in parts and decoding of several adapters meet in one batch."""
    engine = start_engine(case.base, step_tokens=19)
    case.load_all(engine)
    requests = [(prompt, name) for prompt in random_prompts(9, LENGTHS) for name in (None, "a", "b")]
    expected = [greedy(case.references[name], prompt) for prompt, name in requests]
    assert len({tuple(tokens) for tokens in expected}) == len(requests)
    for (prompt, name), tokens in zip(requests, expected, strict=True):
        assert (await answer(engine, prompt, adapter=name)).tokens == tokens
    crowd = [begin(engine, prompt, salt=b"crowd", adapter=name) for prompt, name in requests]
    found = await asyncio.gather(*map(collect, crowd))
    assert [each.tokens for each in found] == expected


async def test_load_replace_and_unload_while_others_run(llama: Case, start_engine: StartEngine) -> None:
    engine = start_engine(llama.base)
    prompt = random_prompts(10, (30,))[0]
    plain = begin(engine, prompt, max_tokens=60)
    await anext(plain)
    engine.load_adapter("x", llama.adapters["a"])
    former = begin(engine, prompt, max_tokens=60, adapter="x")
    started = (await anext(former)).token_ids
    engine.load_adapter("x", llama.adapters["b"])
    assert (await answer(engine, prompt, adapter="x")).tokens == greedy(llama.references["b"], prompt)
    latter = begin(engine, prompt, max_tokens=60, adapter="x")
    engine.unload_adapter("x")
    assert engine.adapters() == []
    with pytest.raises(RequestError, match="no adapter 'x'") as refusal:
        begin(engine, prompt, adapter="x")
    assert refusal.value.param == "model"
    rest = (await collect(former)).tokens
    assert [*started, *rest] == greedy(llama.references["a"], prompt, 60)
    assert (await collect(latter)).tokens == greedy(llama.references["b"], prompt, 60)
    assert (await collect(plain)).tokens[-20:] == greedy(llama.references[None], prompt, 60)[-20:]
    assert (await answer(engine, prompt)).tokens == greedy(llama.references[None], prompt)


async def test_an_unloaded_adapter_is_freed_with_its_last_sequence(
    llama: Case, start_engine: StartEngine
) -> None:
    engine = start_engine(llama.base)
    engine.load_adapter("to be freed", llama.adapters["a"])
    running = begin(engine, random_prompts(11, (9,))[0], max_tokens=200, adapter="to be freed")
    await anext(running)
    engine.unload_adapter("to be freed")
    assert adapters_in_memory("to be freed") == 1
    await collect(running)
    # The thread's last step may still be on its way out.
    await answer(engine, [1, 2, 3], max_tokens=1)
    assert adapters_in_memory("to be freed") == 0


def adapters_in_memory(name: str) -> int:
    gc.collect()
    # Not `isinstance`: some of torch's objects complain of being asked for their class.
    return sum(type(each) is Adapter and each.name == name for each in gc.get_objects())


async def test_prefixes_are_not_shared_between_adapters(llama: Case, start_engine: StartEngine) -> None:
    engine = start_engine(llama.base)
    llama.load_all(engine)
    prompt = random_prompts(12, (50,))[0]
    for name in (None, "a", "b"):
        assert (await answer(engine, prompt, adapter=name)).usage.cached_tokens == 0
        assert (await answer(engine, prompt, adapter=name)).usage.cached_tokens == 48
    engine.load_adapter("same", llama.adapters["a"])
    assert (await answer(engine, prompt, adapter="same")).usage.cached_tokens == 48
    engine.load_adapter("a", llama.adapters["b"])
    found = await answer(engine, prompt, adapter="a")
    assert found.tokens == greedy(llama.references["b"], prompt)


async def test_what_is_loaded_is_described(llama: Case, start_engine: StartEngine) -> None:
    engine = start_engine(llama.base)
    info = engine.load_adapter("a", llama.adapters["a"])
    engine.load_adapter("b", llama.adapters["b"])
    assert engine.adapters()[0] == info
    assert [(each.name, each.rank) for each in engine.adapters()] == [("a", 4), ("b", 9)]
    tensors = load_file(llama.adapters["a"] / "adapter_model.safetensors")
    assert info.parameters == sum(tensor.numel() for tensor in tensors.values())
    engine.unload_adapter("a")
    with pytest.raises(LoadError, match="no adapter 'a'"):
        engine.unload_adapter("a")


REFUSED_SETTINGS: dict[str, dict[str, Any]] = {
    "use_dora": {"use_dora": True},
    "bias": {"bias": "lora_only"},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "rank_pattern": {"rank_pattern": {"q_proj": 8}},
    "alpha_pattern": {"alpha_pattern": {"q_proj": 8}},
    "fan_in_fan_out": {"fan_in_fan_out": True},
    "loftq_config": {"loftq_config": {"loftq_bits": 4}},
    "init_lora_weights": {"init_lora_weights": "pissa"},
    "peft_type": {"peft_type": "LOHA"},
    "task_type": {"task_type": "SEQ_CLS"},
    "target_modules is a regular": {"target_modules": ".*q_proj"},
    "layers.1.self_attn.q_proj, which its adapter_config": {"layers_to_transform": [0]},
    "lacks the adapter of model.layers.0.mlp.down_proj": {
        "target_modules": ["q_proj", "v_proj", "down_proj"]
    },
    "lora_alpha": {"lora_alpha": 0},
    "shape": {"r": 5},
    "brand_new": {"brand_new": True},
}


@pytest.mark.parametrize("named", REFUSED_SETTINGS)
async def test_other_adapters_are_refused(
    llama: Case, start_engine: StartEngine, tmp_path: Path, named: str
) -> None:
    folder = shutil.copytree(llama.adapters["a"], tmp_path / "bad")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | REFUSED_SETTINGS[named]))
    await assert_refused(start_engine(llama.base), folder, named)


async def test_broken_folders_are_refused(llama: Case, start_engine: StartEngine, tmp_path: Path) -> None:
    engine = start_engine(llama.base)
    await assert_refused(engine, tmp_path / "nowhere", "no folder")
    good = llama.adapters["a"]
    tensors = load_file(good / "adapter_model.safetensors")
    first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    spoiled = {
        "only one of the two": {name: tensor for name, tensor in tensors.items() if name != first},
        "lora_embedding_A": tensors
        | {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 4)},
        "lora_magnitude_vector": tensors
        | {first.replace("lora_A.weight", "lora_magnitude_vector"): torch.ones(4)},
        "quantized": tensors | {first: tensors[first].to(torch.int8)},
        "lm_head": tensors
        | {f"base_model.model.lm_head.lora_{half}.weight": torch.ones(4, 4) for half in "AB"},
    }
    for named, content in spoiled.items():
        folder = shutil.copytree(good, tmp_path / named)
        save_file(content, folder / "adapter_model.safetensors")
        await assert_refused(engine, folder, named)
    for missing in ("adapter_config.json", "adapter_model.safetensors"):
        folder = shutil.copytree(good, tmp_path / missing)
        (folder / missing).unlink()
        await assert_refused(engine, folder, missing)
    cut = shutil.copytree(good, tmp_path / "cut")
    data = (cut / "adapter_model.safetensors").read_bytes()
    (cut / "adapter_model.safetensors").write_bytes(data[: len(data) // 2])
    await assert_refused(engine, cut, "not a whole safetensors file")


async def assert_refused(engine: Engine, folder: Path, named: str) -> None:
    """One sentence that names the reason, and nothing loaded."""
    with pytest.raises(LoadError) as refusal:
        engine.load_adapter("bad", folder)
    message = str(refusal.value)
    assert named in message
    assert message.endswith(".")
    assert "\n" not in message
    assert engine.adapters() == []
