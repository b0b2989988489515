"""Folders that cannot be served, of every kind: one sentence, nothing half loaded, nobody disturbed."""

import asyncio
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from farebox_engine import Engine, EngineConfig, LoadError
from farebox_engine.encoders import EncoderEngine
from farebox_engine.grammar.compiler import GrammarSpec
from tests.engine.checkpoint.bad_folders import Spoil, changed, config_of, load, refusal, spoiled, weights_of
from tests.engine.conftest import StartEngine
from tests.engine.generating import answers, begin, collect, random_prompts

CONFIG = EngineConfig(device="cpu", threads=1)


def without(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def without_config(folder: Path) -> None:
    config_of(folder).unlink()


def cut(folder: Path) -> None:
    path = weights_of(folder)
    path.write_bytes(path.read_bytes()[:-100])


def misshaped(folder: Path) -> None:
    tensors = load_file(weights_of(folder))
    name = min(tensors)
    save_file(tensors | {name: torch.zeros(3, 3)}, weights_of(folder), metadata={"format": "pt"})


def pickled(folder: Path) -> None:
    weights_of(folder).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def in_integers(folder: Path) -> None:
    tensors = load_file(weights_of(folder))
    name = next(each for each in sorted(tensors) if each.endswith("weight") and tensors[each].dim() == 2)
    tensors[name] = tensors[name].to(torch.int8)
    save_file(tensors, weights_of(folder), metadata={"format": "pt"})


def with_too_many_tokens(folder: Path) -> None:
    path = folder / "tokenizer.json"
    description = json.loads(path.read_text())
    description["model"]["vocab"]["far"] = 100_000
    path.write_text(json.dumps(description))


def without_sense(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"added_tokens": [{"what": 3}]}))


def linked(find: Callable[[Path], Path]) -> Spoil:
    """Moves a file out of its folder, to where a link leads."""

    def link(folder: Path) -> None:
        path = find(folder)
        outside = path.rename(folder.parent / path.name)
        path.symlink_to(outside)

    return link


def piped(folder: Path) -> None:
    config_of(folder).unlink()
    os.mkfifo(folder / ("adapter_config.json" if "lora" in str(list(folder.iterdir())) else "config.json"))


def indexed(name: str) -> Spoil:
    def index(folder: Path) -> None:
        weights_of(folder).unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))

    return index


OUTSIDE = "no safetensors file in its folder"
EVERY = ("decoder", "encoder", "seq2seq", "adapter")
MODELS = ("decoder", "encoder", "seq2seq")
SPOILED: dict[str, tuple[tuple[str, ...], Spoil, str]] = {
    "no config": (EVERY, without_config, "config.json"),
    "truncated": (EVERY, cut, "copy or download it again"),
    "misshaped": (EVERY, misshaped, "has shape [3, 3], but"),
    "pickle": (EVERY, pickled, "pickle"),
    "config outside": (EVERY, linked(config_of), "a link that leads out of its folder"),
    "weights outside": (EVERY, linked(weights_of), "a link that leads out of its folder"),
    "a pipe": (MODELS, piped, "no plain file"),
    "integers": (EVERY, in_integers, "is quantized (I8)"),
    "unknown": (MODELS, changed(model_type="mamba"), "'mamba' are not supported"),
    "code": (MODELS, changed(model_type="own", auto_map={"AutoModel": "a.B"}), "is never run"),
    "index up": (MODELS, indexed("../../etc/x.safetensors"), OUTSIDE),
    "index from the root": (MODELS, indexed("/etc/x.safetensors"), OUTSIDE),
    "index to a hidden pickle": (MODELS, indexed("x.bin"), OUTSIDE),
    "named up": (MODELS, changed(transformers_weights="../x.safetensors"), OUTSIDE),
    "named without being there": (MODELS, changed(transformers_weights="x.safetensors"), "no such file"),
    "no tokenizer": (MODELS, without("tokenizer.json"), "no tokenizer.json"),
    "another tokenizer": (MODELS, with_too_many_tokens, "tokens, but the model knows only 400"),
    "no tokenizer at all": (MODELS, without_sense, "export the tokenizer again"),
    "tokenizer outside": (MODELS, linked(lambda folder: folder / "tokenizer.json"), "a link that leads out"),
}


@pytest.mark.parametrize(("case", "kind"), [(case, kind) for case in SPOILED for kind in SPOILED[case][0]])
def test_a_spoiled_folder_is_refused_in_a_sentence(
    case: str, kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    _, spoil, words = SPOILED[case]
    assert words in spoiled(kind, spoil, folders, tmp_path)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({"load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "compressed-tensors"),
        ({"bits": 4}, "unnamed"),
    ],
)
def test_what_others_quantized_is_refused_by_name(
    kind: str, settings: dict[str, Any], method: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    message = spoiled(kind, changed(quantization_config=settings), folders, tmp_path)
    assert f"is quantized ({method}): config.json has a quantization_config" in message


@pytest.mark.parametrize("kind", MODELS)
def test_what_was_quantized_without_saying_so_is_refused_by_its_files(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    def with_scales(folder: Path) -> None:
        tensors = load_file(weights_of(folder)) | {"layer.qweight": torch.zeros(2)}
        save_file(tensors, weights_of(folder), metadata={"format": "pt"})

    assert "quantized by GPTQ or AWQ, as layer.qweight shows" in spoiled(kind, with_scales, folders, tmp_path)
    (tmp_path / "copy" / "quantize_config.json").write_text("{}")
    assert "is quantized (gptq): it has a quantize_config.json" in refusal(kind, tmp_path / "copy", folders)


def test_the_links_of_hugging_faces_cache_are_its_own(folders: dict[str, Path], tmp_path: Path) -> None:
    model = tmp_path / "models--somebody--something"
    snapshot = model / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (model / "blobs").mkdir()
    for number, path in enumerate(sorted(folders["decoder"].iterdir())):
        shutil.copy(path, model / "blobs" / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    assert load("decoder", snapshot, folders)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(folders["decoder"] / "config.json")
    assert "a link that leads out" in refusal("decoder", snapshot, folders)


def test_a_link_within_its_folder_is_followed(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["encoder"], tmp_path / "copy"))
    weights_of(folder).rename(folder / "weights")
    (folder / "model.safetensors").symlink_to("weights")
    assert load("encoder", folder, folders)


def test_an_adapters_base_path_is_never_followed(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["adapter"], tmp_path / "copy"))
    changed(base_model_name_or_path="../../../etc")(folder)
    assert load("adapter", folder, folders)


async def test_running_models_never_notice(
    folders: dict[str, Path], start_engine: StartEngine, tmp_path: Path
) -> None:
    engine = start_engine(folders["decoder"])
    (prompt,) = random_prompts(60, (12,))
    (alone,) = await answers(engine, [prompt], max_tokens=200)
    running = begin(engine, prompt, max_tokens=200)
    first = await anext(running)
    bad = Path(shutil.copytree(folders["encoder"], tmp_path / "bad"))
    misshaped(bad)
    adapter = Path(shutil.copytree(folders["adapter"], tmp_path / "adapter"))
    misshaped(adapter)
    attempts: list[Callable[[], object]] = [
        lambda: Engine.load(bad, CONFIG),
        lambda: EncoderEngine.load(bad, CONFIG),
        lambda: load("seq2seq", bad, folders),
        lambda: engine.load_adapter("bad", adapter),
    ]
    refusals = await asyncio.gather(
        *[asyncio.to_thread(attempt) for attempt in attempts], return_exceptions=True
    )
    assert {type(each) for each in refusals} == {LoadError}
    assert engine.adapters() == []
    rest = await collect(running)
    assert [*first.token_ids, *rest.tokens] == alone.tokens
    assert engine.stats().failed_steps == 0


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (GrammarSpec("lark", "start: " + '"a" ' * 250_000), "bytes; at most"),
        (GrammarSpec("regex", "a" * (1 << 20)), "bytes; at most"),
        (GrammarSpec("json_schema", '{"items":' * 10_000 + "{}" + "}" * 10_000), "at most"),
        (GrammarSpec("json_schema", '{"items":' * 5_000 + "{}" + "}" * 5_000), "nested"),
    ],
    ids=["a grammar of 1 MB", "an expression of 1 MB", "a schema 10,000 deep", "a schema 5,000 deep"],
)
def test_grammars_out_of_all_proportion_are_refused(
    spec: GrammarSpec, words: str, folders: dict[str, Path]
) -> None:
    engine = Engine.load(folders["decoder"], CONFIG)
    with pytest.raises(Exception, match=words) as failure:
        engine.compile_grammar(spec)
    assert type(failure.value).__name__ == "RequestError"
    engine.close()
