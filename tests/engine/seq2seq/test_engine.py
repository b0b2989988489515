"""The encoder-decoder engine's door: streams, sampling, accounting, failures, limits, closing."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedModel

from farebox_engine import (
    ClosedError,
    Engine,
    EngineConfig,
    GenerationRequest,
    GrammarSpec,
    LoadError,
    RequestError,
    TemplateError,
)
from farebox_engine.tokenization.answer_format import AnswerFormat
from tests.engine.generating import collect, random_prompts
from tests.engine.seq2seq.checkpoints import build_seq2seq, load_reference
from tests.engine.seq2seq.conftest import StartSeq2Seq
from tests.engine.seq2seq.generating import expected, target, targets, translate

(SOURCE,) = random_prompts(20, (25,))


@pytest.fixture(scope="module")
def marian_reference(marian: Path) -> PreTrainedModel:
    return load_reference(marian)


async def test_text_streams_token_by_token(marian: Path, start_seq2seq: StartSeq2Seq) -> None:
    engine = start_seq2seq(marian)
    answer = await target(engine, SOURCE, max_tokens=40, ignore_eos=True)
    assert len(answer.chunks) > 10
    assert all(chunk.finish_reason is None and chunk.usage is None for chunk in answer.chunks[:-1])
    assert answer.finish_reason == "length"
    assert answer.usage.completion_tokens == len(answer.tokens) == 40
    start = len(answer.text) // 2
    stop = answer.text[start : start + 3]
    stopped = await target(engine, SOURCE, max_tokens=40, ignore_eos=True, stop=(stop,))
    assert (stopped.finish_reason, stopped.text) == ("stop", answer.text[: answer.text.index(stop)])


@pytest.mark.parametrize("num_beams", [1, 2])
async def test_a_text_of_a_sentencepiece_model_begins_without_a_space(
    num_beams: int, tmp_path: Path, start_seq2seq: StartSeq2Seq
) -> None:
    folder = build_seq2seq(tmp_path, "t5-1.1", bad_words_ids=[[token] for token in (1, 2, 3)])
    tokenizer = Tokenizer(
        models.Unigram(
            [("</s>", 0.0), ("<unk>", 0.0), ("<x>", 0.0), ("<y>", 0.0), ("<pad>", 0.0)]
            + [(f"▁{chr(97 + number % 26)}{number}", -1.0 - number) for number in range(395)],
            unk_id=1,
        )
    )
    tokenizer.add_special_tokens(["</s>", "<unk>", "<pad>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
    engine = start_seq2seq(folder)
    source = engine.encode("a0 b1 c2")
    assert source == [5, 6, 7, 0]
    answer = await target(engine, source, max_tokens=10, num_beams=num_beams)
    assert answer.text == tokenizer.decode(answer.tokens, skip_special_tokens=True)
    assert answer.text.count(" ") >= 5
    assert not answer.text.startswith(" ")


async def test_seeded_sampling_repeats_in_any_batch(marian: Path, start_seq2seq: StartSeq2Seq) -> None:
    engine = start_seq2seq(marian)
    settings: dict[str, Any] = {
        "temperature": 1.5,
        "top_p": 0.95,
        "top_k": 50,
        "seed": 11,
        "max_tokens": 24,
        "ignore_eos": True,
    }
    alone = await target(engine, SOURCE, **settings)
    crowd = [translate(engine, source, temperature=2.0) for source in random_prompts(21, (9, 30, 44))]
    crowd.append(translate(engine, SOURCE, num_beams=3))
    together = await target(engine, SOURCE, **settings)
    await asyncio.gather(*map(collect, crowd))
    other = await target(engine, SOURCE, **settings | {"seed": 12})
    assert alone.tokens == together.tokens != other.tokens


async def test_logprobs_agree_with_transformers_and_are_finite(
    tmp_path: Path, start_seq2seq: StartSeq2Seq
) -> None:
    # Banned and forced tokens lower others to values that JSON can still carry.
    folder = build_seq2seq(tmp_path, "bart", forced_bos_token_id=77, bad_words_ids=[[5]])
    engine, reference = start_seq2seq(folder), load_reference(folder)
    answer = await target(engine, SOURCE, max_tokens=8, ignore_eos=True, logprobs=20)
    with torch.no_grad():
        logits = reference(
            input_ids=torch.tensor([SOURCE]), decoder_input_ids=torch.tensor([[4, *answer.tokens[:-1]]])
        ).logits[0]
    logits[:, 5] = -torch.inf
    entries = [entry for chunk in answer.chunks for entry in chunk.logprobs or ()]
    assert [entry.token_id for entry in entries] == answer.tokens
    assert (answer.tokens[0], entries[0].logprob) == (77, 0.0)
    for entry, row in zip(entries[1:], logits.log_softmax(-1)[1:], strict=True):
        assert entry.logprob == pytest.approx(float(row[entry.token_id]), abs=1e-3)
    assert all(math.isfinite(each.logprob) for entry in entries for each in entry.top)


async def test_penalties_look_at_the_target_alone(
    marian: Path, marian_reference: PreTrainedModel, start_seq2seq: StartSeq2Seq
) -> None:
    engine = start_seq2seq(marian)
    # A quarter of the vocabulary in the source must not be held against the target.
    sources = random_prompts(25, (90, 95))
    answers = await targets(engine, sources, max_tokens=20, repetition_penalty=1.8)
    for source, answer in zip(sources, answers, strict=True):
        assert answer.tokens == expected(marian_reference, source, 20, repetition_penalty=1.8)
        assert answer.tokens != expected(marian_reference, source, 20)


async def test_cancelling_frees_blocks_and_still_says_what_was_used(
    marian: Path, start_seq2seq: StartSeq2Seq
) -> None:
    engine = start_seq2seq(marian, max_running=2)
    running = translate(engine, SOURCE, max_tokens=90, ignore_eos=True)
    queued = translate(engine, SOURCE, num_beams=2)
    await anext(running)
    queued.cancel()
    gone = await collect(queued)
    assert (gone.finish_reason, gone.usage.completion_tokens) == ("cancelled", 0)
    assert (gone.usage.device_seconds, gone.usage.time_to_first_token_seconds) == (0.0, None)
    running.cancel()
    rest = await collect(running)
    assert rest.finish_reason == "cancelled"
    assert 0 < rest.usage.completion_tokens < 90
    assert rest.usage.device_seconds > 0


async def test_shares_of_the_device_sum_to_its_busy_time(marian: Path, start_seq2seq: StartSeq2Seq) -> None:
    engine = start_seq2seq(marian, max_running=8)
    sources = random_prompts(22, (4, 40, 9, 77, 30, 12))
    generations = [
        translate(engine, source, num_beams=1 + index % 3, max_tokens=10 + index, ignore_eos=True)
        for index, source in enumerate(sources)
    ]
    await anext(generations[0])
    generations[3].cancel()
    answers = await asyncio.gather(*map(collect, generations))
    nanoseconds = [round(each.usage.device_seconds * 1e9) for each in answers]
    stats = engine.stats()
    assert sum(nanoseconds) == round(stats.busy_seconds * 1e9)
    assert stats.operator_seconds == 0
    assert all(share > 0 for index, share in enumerate(nanoseconds) if index != 3)
    computed = [len(source) for source, share in zip(sources, nanoseconds, strict=True) if share]
    assert stats.prompt_tokens == sum(computed)
    for each in answers:
        usage = each.usage
        assert min(usage.queue_seconds, usage.prefill_seconds, usage.decode_seconds) >= 0


@pytest.mark.parametrize(
    ("source", "params", "param"),
    [
        ([], {}, "prompt"),
        ([400], {}, "prompt"),
        ([-1], {}, "prompt"),
        ([1] * 97, {}, "prompt"),
        ([1], {"logit_bias": {400: 1.0}}, "logit_bias"),
    ],
)
async def test_requests_that_do_not_fit_are_refused_by_name(
    marian: Path, start_seq2seq: StartSeq2Seq, source: list[int], params: dict[str, Any], param: str
) -> None:
    engine = start_seq2seq(marian)
    with pytest.raises(RequestError) as failure:
        translate(engine, source, **params)
    assert failure.value.param == param
    with pytest.raises(RequestError, match="no adapters") as failure:
        engine.generate(GenerationRequest("request", SOURCE, adapter="a"))
    assert failure.value.param == "model"
    assert engine.context_length == 192
    whole = await target(engine, [1] * 96, max_tokens=500, ignore_eos=True)
    assert (whole.finish_reason, whole.usage.completion_tokens) == ("length", 96)


async def test_a_t5_may_be_given_longer_contexts(tmp_path: Path, start_seq2seq: StartSeq2Seq) -> None:
    folder = build_seq2seq(tmp_path, "t5")
    (source,) = random_prompts(24, (150,))
    engine = start_seq2seq(folder, context_length=160)
    assert engine.context_length == 320
    answer = await target(engine, source, max_tokens=110)
    assert answer.tokens == expected(load_reference(folder), source, 110)


def test_tokenizer_and_hash_are_the_checkpoints(marian: Path) -> None:
    engine = Engine.load(marian, EngineConfig(device="cpu", threads=1))
    assert len(engine.model_hash) == 64
    assert 4 not in engine.encode("<|start|> is text")
    assert engine.has_chat_template
    assert engine.render_chat([{"role": "user", "content": "Hi"}])[0] == 4
    engine.close()


def test_a_model_without_a_template_holds_no_chats(tmp_path: Path) -> None:
    folder = build_seq2seq(tmp_path, "marian")
    (folder / "tokenizer_config.json").unlink()
    engine = Engine.load(folder, EngineConfig(device="cpu", threads=1))
    with pytest.raises(TemplateError, match="completions"):
        engine.render_chat([{"role": "user", "content": "Hi"}])


def test_what_the_family_has_not_is_refused(marian: Path) -> None:
    engine = Engine.load(marian, EngineConfig(device="cpu", threads=1))
    with pytest.raises(RequestError, match="no bad_words"):
        engine.spellings("word")
    with pytest.raises(RequestError, match="takes no grammar"):
        engine.compile_grammar(GrammarSpec("regex", "a+"))
    with pytest.raises(LoadError, match="takes no adapters"):
        engine.load_adapter("a", marian)
    assert not engine.takes_adapters
    assert engine.adapters() == []
    assert engine.answer_format == AnswerFormat()
    assert not engine.opens_reasoning(SOURCE)
    engine.close()


async def test_closing_ends_running_and_waiting_generations(marian: Path) -> None:
    engine = Engine.load(marian, EngineConfig(threads=1, device="cpu", max_running=1))
    with pytest.raises(ClosedError, match="start it"):
        translate(engine, SOURCE)
    engine.start(asyncio.get_running_loop())
    running = translate(engine, SOURCE, max_tokens=90, ignore_eos=True)
    waiting = translate(engine, SOURCE)
    await anext(running)
    engine.close()
    for generation in (running, waiting):
        ended = await collect(generation)
        assert (ended.finish_reason, ended.chunks[-1].error) == ("error", "The engine was closed.")
    with pytest.raises(ClosedError):
        translate(engine, SOURCE)
