"""The benchmark: what it counts, and that it runs."""

import json
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from farebox_engine.bench import __main__ as bench
from farebox_engine.bench.decoding import shapes
from farebox_engine.bench.decoding.contender_process import ContenderSpec, Setting
from farebox_engine.bench.decoding.floor import Floor, Machine
from farebox_engine.bench.decoding.measure import seconds_per_step
from farebox_engine.bench.decoding.rows import measure_alone
from farebox_engine.bench.decoding.shapes import build_model, describe
from farebox_engine.bench.decoding.workload import Answer, Workload
from farebox_engine.bench.gpu import checks as gpu_checks
from farebox_engine.bench.gpu.prefill import measure_prefill
from farebox_engine.bench.limited_process import LimitedProcess
from farebox_engine.kernels import plain
from farebox_engine.kernels.varlen import PackedAttention, causal

TINY = shapes.SHAPES["smollm-135m"] | {"num_hidden_layers": 2, "vocab_size": 500, "hidden_size": 192}
TINY |= {"num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 64}


def test_a_step_is_timed_while_all_answers_grow() -> None:
    early = Answer([0] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    late = Answer([0] * 6, [3.0, 4.0, 5.0, 6.0, 6.5, 7.0])
    assert seconds_per_step([early, late]) == pytest.approx(2 * 3.0 / 6)
    with pytest.raises(ValueError, match="more new tokens"):
        seconds_per_step([early, Answer([0], [6.0])])


def test_the_floor_counts_weights_once_and_keys_per_sequence() -> None:
    config, parameters = describe(TINY)
    machine = Machine("test", bytes_per_second=1e9, operations_per_second=1e12)
    load = Workload(batch=4, context=100, new_tokens=20)
    floor = Floor.of(config, parameters, torch.float32, machine, load)
    kv_bytes = 4 * 110 * 2 * 2 * 1 * 64 * 4
    assert floor.bytes == 4 * parameters + kv_bytes
    assert floor.seconds == pytest.approx(floor.bytes / 1e9)


def test_a_run_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    size = ["--batches", "1", "--context", "8", "--new-tokens", "300", "--rounds", "1", "--threads", "1"]
    assert bench.main([*size, "--shapes", "tiny", "--systems", "engine-int8", "--json", str(path)]) == 0
    assert "| tiny | 1 | 8 | engine-int8 |" in capsys.readouterr().out
    (row,) = json.loads(path.read_text())["rows"]
    assert row["readings"][0]["step"][0] > 0
    assert row["floor"]["seconds"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="would run for minutes")
def test_the_gpu_list_says_that_there_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["gpu"]) == 2
    assert "no GPU" in capsys.readouterr().err


class Wrong:
    """Attention that is nowhere right."""

    store_kv = staticmethod(plain.store_kv)

    @staticmethod
    def paged_decode(query: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.zeros_like(query)


def test_a_wrong_kernel_is_noticed() -> None:
    said: list[str] = []
    with pytest.raises(gpu_checks.WrongResultError, match="36 of 39"):
        gpu_checks.check_paged_kernels(said.append, torch.device("cpu"), Wrong())
    assert said[0].startswith("WRONG: paged_decode")


def test_right_kernels_pass() -> None:
    said: list[str] = []
    gpu_checks.check_paged_kernels(said.append, torch.device("cpu"), plain)
    gpu_checks.check_narrow_kernels(said.append, torch.device("cpu"), plain)
    assert said[0] == "39 kernel cases of decoding are right"
    assert said[-1] == "12 cases of narrow products and of prompts are right"
    assert any("no fp8 here" in line for line in said)


def no_numbers(query: torch.Tensor, *_: object, scale: float | None) -> torch.Tensor:
    return torch.full_like(query, torch.nan)


@pytest.mark.parametrize(("packed", "wrong"), [(causal(plain.varlen_attn), False), (no_numbers, True)])
def test_the_prefill_row_times_both_ways_and_tells_how_far_apart_they_are(
    packed: PackedAttention, wrong: bool
) -> None:
    loaded = build_model(TINY, torch.device("cpu"), torch.float32)
    row = measure_prefill("tiny", loaded, packed, [(0, 20), (16, 9), (32, 1)], seconds=0.0)
    assert (row.spans, row.tokens, row.keys) == (3, 30, 20 + 25 + 33)
    assert min(row.packed, row.per_sequence) > 0
    with pytest.raises(gpu_checks.WrongResultError, match="packed") if wrong else nullcontext():
        gpu_checks.check_prefill(row, torch.float32)
    assert "30 tokens over 78 keys" in row.as_line()


def test_accuracy_is_told_beside_fp32(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["accuracy", "--pieces", "1"]) == 0
    names, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if "---" not in line
    ]
    assert names[:2] == ["computed as", "perplexity"]
    assert [row[0] for row in rows] == [
        "fp32",
        "bf16",
        "int8 of a CPU",
        "int8 weights of a GPU, emulated",
        "fp8 of a GPU, emulated",
    ]
    perplexities = [float(row[1]) for row in rows]
    assert 1 < perplexities[0] < 2
    assert perplexities == pytest.approx([perplexities[0]] * 5, rel=0.03)
    assert len(set(perplexities)) > 1
    assert all(float(row[3].split()[0]) > 90 for row in rows[1:])


def test_accuracy_of_too_short_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "short.txt"
    path.write_text("once")
    assert bench.main(["accuracy", "--text", str(path)]) == 2
    assert "at least 257 are needed" in capsys.readouterr().err


def test_work_that_hangs_is_stopped_and_what_it_returns_is_kept() -> None:
    slow, quick = LimitedProcess("slow", print), LimitedProcess("quick", isinstance, object)
    assert slow.finish(time.perf_counter(), print) == "it took too long and was stopped"
    assert quick.finish(time.perf_counter() + 60, print) is None
    assert quick.result is True


def test_a_system_that_is_late_counts_as_failed() -> None:
    setting = Setting(torch.device("cpu"), torch.float32, rounds=1, threads=1)
    spec = ContenderSpec("engine", "tiny", (Workload(1, 8, 4),), setting)
    with pytest.raises(RuntimeError, match="engine took too long"):
        next(measure_alone(spec, 512, time.perf_counter()))


@pytest.mark.slow
def test_a_row_that_fails_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gpu.json"
    size = ["--shapes", "tiny", "--batches", "1", "2", "--context", "8", "--new-tokens", "6"]
    assert bench.main(["gpu", "--device", "cpu", "--parts", "speed", *size, "--json", str(path)]) == 1
    said = capsys.readouterr().out
    assert "FAILED tiny engine-fp8" in said
    assert "| tiny | 2 | 8 | engine-int8 |" in said
    document = json.loads(path.read_text())
    assert len(document["failures"]) == 1
    names = [[reading["name"] for reading in row["readings"]] for row in document["rows"]]
    assert all({"engine", "engine-int8"} <= set(row) for row in names)
