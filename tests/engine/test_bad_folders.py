"""Folders that cannot be served, of every kind: one sentence, nothing half loaded, nobody disturbed."""

import asyncio
import json
import os
import pickle
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from farebox_engine import Engine, EngineConfig, LoadError, load_model
from farebox_engine.encoders import EncoderEngine, load_encoder
from farebox_engine.grammar import GrammarSpec
from farebox_engine.lora.reading import adaptable_places, read_adapter
from farebox_engine.seq2seq.engine import Seq2SeqEngine
from farebox_engine.seq2seq.loader import load_seq2seq
from tests.engine.adapters import build_adapter
from tests.engine.checkpoints import build_checkpoint
from tests.engine.conftest import StartEngine
from tests.engine.encoders.checkpoints import build_encoder
from tests.engine.generating import answers, begin, collect, random_prompts
from tests.engine.seq2seq.checkpoints import build_seq2seq

CPU = torch.device("cpu")
CONFIG = EngineConfig(device="cpu", threads=1)
MOST = 2**31 - 1
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sound folder of each kind."""
    root = tmp_path_factory.mktemp("sound")
    decoder = build_checkpoint(root / "decoder")
    return {
        "decoder": decoder,
        "encoder": build_encoder(root / "encoder", "Bert", num_hidden_layers=1),
        "classifier": build_encoder(root / "classifier", "DistilBert", "ForSequenceClassification"),
        "seq2seq": build_seq2seq(root / "seq2seq", "marian"),
        "t5": build_seq2seq(root / "t5", "t5"),
        "adapter": build_adapter(root / "adapter", decoder, ["q_proj"]),
    }


def load(kind: str, folder: Path, folders: dict[str, Path]) -> object:
    match kind:
        case "decoder":
            return load_model(folder, device=CPU, dtype=torch.float32)
        case "encoder" | "classifier":
            return load_encoder(folder, device=CPU, dtype=torch.float32)
        case "seq2seq" | "t5":
            return load_seq2seq(folder, device=CPU, dtype=torch.float32)
    base = load_model(folders["decoder"], device=torch.device("meta"), dtype=torch.float32)
    return read_adapter("name", folder, base, adaptable_places(base))


def refusal(kind: str, folder: Path, folders: dict[str, Path]) -> str:
    """The one sentence with which a folder is refused."""
    with pytest.raises(LoadError) as failure:
        load(kind, folder, folders)
    message = str(failure.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def spoiled(kind: str, spoil: Spoil, folders: dict[str, Path], place: Path) -> str:
    """What is said of a sound folder's copy that was spoiled."""
    folder = Path(shutil.copytree(folders[kind], place / "copy"))
    load(kind, folder, folders)
    spoil(folder)
    return refusal(kind, folder, folders)


def config_of(folder: Path) -> Path:
    return next(each for name in ("config.json", "adapter_config.json") if (each := folder / name).exists())


def weights_of(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


def changed(**changes: Any) -> Spoil:
    def change(folder: Path) -> None:
        path = config_of(folder)
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


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
    entry = {"content": "<far>", "id": 100_000, "special": True, "normalized": False}
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    description["model"]["vocab"]["<far>"] = 100_000
    description["added_tokens"].append(entry | plain)
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
    return lambda folder: (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": name}})
    )


ASTRAY = "no safetensors file in its folder"
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
    "integers": (EVERY, in_integers, "is quantised (I8)"),
    "unknown": (MODELS, changed(model_type="mamba"), "'mamba' are not supported"),
    "code": (MODELS, changed(model_type="own", auto_map={"AutoModel": "a.B"}), "is never run"),
    "index up": (MODELS, indexed("../../etc/x.safetensors"), ASTRAY),
    "index from the root": (MODELS, indexed("/etc/x.safetensors"), ASTRAY),
    "index to a hidden pickle": (MODELS, indexed("x.bin"), ASTRAY),
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
def test_what_others_quantised_is_refused_by_name(
    kind: str, settings: dict[str, Any], method: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    message = spoiled(kind, changed(quantization_config=settings), folders, tmp_path)
    assert f"is quantised ({method}): config.json has a quantization_config" in message


@pytest.mark.parametrize("kind", MODELS)
def test_what_was_quantised_without_saying_so_is_refused_by_its_files(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    def with_scales(folder: Path) -> None:
        tensors = load_file(weights_of(folder)) | {"layer.qweight": torch.zeros(2)}
        save_file(tensors, weights_of(folder), metadata={"format": "pt"})

    assert "quantised by GPTQ or AWQ, as layer.qweight shows" in spoiled(kind, with_scales, folders, tmp_path)
    (tmp_path / "copy" / "quantize_config.json").write_text("{}")
    assert "is quantised (gptq): it has a quantize_config.json" in refusal(kind, tmp_path / "copy", folders)


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
        Seq2SeqEngine.load(longest, CONFIG)


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
        lambda: Seq2SeqEngine.load(bad, CONFIG),
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
