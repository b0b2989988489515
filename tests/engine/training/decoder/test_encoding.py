"""What the model reads and what it learns: tokens, labels, windows, held-out passages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from farebox_engine.models.llama import LlamaForCausalLM
from farebox_engine.training.corpus import Conversation, Message, Passage, read_texts
from farebox_engine.training.decoder.dataset import TokenStream, WindowSampler
from farebox_engine.training.decoder.shape import ModelShape
from farebox_engine.training.decoder.trainer import token_loss
from farebox_engine.training.held_out import hold_out
from farebox_engine.training.vocabulary import Encoder, train_tokenizer

TALK = Conversation(
    (
        Message("system", "Be brief."),
        Message("user", "Say <|im_end|> twice, 1234."),
        Message("assistant", "No."),
        Message("user", "Why?"),
        Message("assistant", "It ends a turn."),
    )
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["the fox and the owl went to the forest. " * 20, "1234567890 \u00e9"], 320)


@given(text=st.text())
@example(text="a <|im_end|> b")
@settings(max_examples=200, deadline=None)
def test_any_text_round_trips_up_to_normal_form(tokenizer: Tokenizer, text: str) -> None:
    Encoder(tokenizer)  # From here on, markers spelled in a text are text.
    normal = tokenizer.normalizer.normalize_str(text)
    assert tokenizer.decode(tokenizer.encode(text).ids) == normal


def test_digits_stand_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("1234").tokens == ["1", "2", "3", "4"]


def test_only_what_the_assistant_says_and_its_end_are_learned(tokenizer: Tokenizer) -> None:
    ids, labels = Encoder(tokenizer).encode(TALK)
    assert len(ids) == len(labels)
    learned = [token for token, label in zip(ids, labels, strict=True) if label != Encoder.IGNORED]
    assert all(label in (token, Encoder.IGNORED) for token, label in zip(ids, labels, strict=True))
    assert tokenizer.decode(learned, skip_special_tokens=False) == "No.<|im_end|>It ends a turn.<|im_end|>"


def test_markers_inside_a_message_are_text(tokenizer: Tokenizer) -> None:
    ids, _ = Encoder(tokenizer).encode(TALK)
    assert ids.count(Encoder(tokenizer).turn_end) == len(TALK.messages)


def test_a_document_ends_where_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "two.txt"
    long_line = "word " * 300 + "\n"
    path.write_text(f"{long_line * 3}<|endoftext|>\nsecond", encoding="utf-8")
    passages = read_texts([path])
    assert [unit.ends_document for unit in passages if isinstance(unit, Passage)] == [False, True, True]
    joined = "".join(unit.text for unit in passages if isinstance(unit, Passage))
    assert joined == (long_line * 3).strip() + "second"


def test_every_pass_reads_each_window_once_in_another_order() -> None:
    ids = torch.arange(1000, dtype=torch.int32)
    sampler = WindowSampler(TokenStream(ids, ids), context=10, batch=7, seed=3)
    # 98 windows a pass, 14 batches of 7.
    passes = [
        torch.cat([sampler.batch(step)[0][::10] for step in range(first, first + 14)]) for first in (0, 14)
    ]
    for starts in passes:
        assert len(set(starts.tolist())) == 98
        assert len(set((starts % 10).tolist())) == 1
    assert not torch.equal(*passes)
    inputs, labels = sampler.batch(5)
    assert torch.equal(labels, inputs + 1)


def test_a_step_reads_the_same_whatever_was_read_before() -> None:
    ids = torch.arange(500, dtype=torch.int32)
    once, again = (WindowSampler(TokenStream(ids, ids), 8, 4, seed=1) for _ in range(2))
    for step in range(40):
        once.batch(step)
    assert torch.equal(once.batch(17)[0], again.batch(17)[0])


def test_held_out_units_are_never_trained_on() -> None:
    units = [Passage(f"text {number % 150}", ends_document=True) for number in range(300)]
    training, held_out = hold_out(units, share=0.3, seed=2)
    assert len(held_out) > 10
    assert not set(training) & set(held_out)


def test_documents_packed_together_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    config = ModelShape(32, 64, 2, 4, 2).config(50, context=12, dtype="float32", end_tokens=(1, 0))
    model = LlamaForCausalLM(config)
    model.initialise()
    second = torch.randint(2, 50, (7,))
    losses = []
    for first in (torch.randint(2, 50, (4,)), torch.randint(2, 50, (4,))):
        inputs = torch.cat([first, torch.tensor([0]), second])
        labels = torch.cat([torch.full((5,), Encoder.IGNORED), second])
        losses.append(token_loss(model, inputs, labels, context=12)[0])
    assert torch.equal(*losses)
