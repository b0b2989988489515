"""Scores, labels with offsets and rankings, against `transformers`' own pipelines."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedTokenizerFast

from tests.engine.encoders.checkpoints import build_encoder
from tests.engine.encoders.conftest import StartEncoder

TEXTS = [
    "Ada Lovelace met Charles Babbage in London.",
    "Der Zug fährt über die Brücke 🚂 zählen!",
    "the ferry",
    "nine " * 40,
]


def pipeline(task: str, path: Path, model_class: str, **options: Any) -> Any:
    model = getattr(transformers, model_class).from_pretrained(path, dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    build: Any = transformers.pipeline
    return build(task, model=model, tokenizer=tokenizer, device="cpu", **options)


@pytest.mark.parametrize("problem", [None, "multi_label_classification", "regression"])
async def test_scores_agree_with_the_pipeline(
    start_encoder: StartEncoder, tmp_path: Path, problem: str | None
) -> None:
    path = build_encoder(
        tmp_path,
        "DistilBert",
        "ForSequenceClassification",
        id2label={0: "sport", 1: "trade", 2: "weather"},
        problem_type=problem,
    )
    engine = start_encoder(path)
    reference = pipeline("text-classification", path, "DistilBertForSequenceClassification", top_k=None)
    found = await engine.classify(TEXTS)
    for scores, expected in zip(found.labels, reference(TEXTS), strict=True):
        assert [entry.label for entry in scores] == [entry["label"] for entry in expected]
        assert [entry.score for entry in scores] == pytest.approx(
            [entry["score"] for entry in expected], abs=1e-5, rel=1e-4
        )


@pytest.mark.parametrize("merged", [True, False])
async def test_token_labels_and_offsets_agree_with_the_pipeline(
    start_encoder: StartEncoder, labeller: Path, merged: bool
) -> None:
    engine = start_encoder(labeller)
    reference = pipeline(
        "token-classification",
        labeller,
        "RobertaForTokenClassification",
        aggregation_strategy="simple" if merged else "none",
    )
    found = await engine.label_tokens(TEXTS, merged=merged)
    labels = set()
    for text, entities in zip(TEXTS, found.entities, strict=True):
        expected = reference(text)
        name = "entity_group" if merged else "entity"
        assert [(each.label, each.start, each.end) for each in entities] == [
            (each[name], each["start"], each["end"]) for each in expected
        ]
        assert [each.score for each in entities] == pytest.approx(
            [float(each["score"]) for each in expected], abs=1e-5
        )
        assert all(each.text == text[each.start : each.end] for each in entities)
        labels |= {each.label for each in entities}
    assert len(labels) > 1, "or nothing could be told apart"


@pytest.mark.parametrize(
    ("settings", "activation"),
    [
        ({}, torch.sigmoid),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, torch.Tensor.clone),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}}, torch.tanh),
    ],
)
async def test_rankings_agree_with_transformers(
    start_encoder: StartEncoder, tmp_path: Path, settings: dict[str, Any], activation: Any
) -> None:
    path = build_encoder(tmp_path, "Bert", "ForSequenceClassification", num_labels=1, **settings)
    engine = start_encoder(path)
    query = "who met in London?"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    model = transformers.BertForSequenceClassification.from_pretrained(path, dtype=torch.float32)
    scores = []
    for document in TEXTS:
        pair: Any = tokenizer(query, document, return_tensors="pt")
        assert pair["token_type_ids"].max() == 1
        with torch.inference_mode():
            scores.append(float(activation(model(**pair).logits[0, 0])))
    found = await engine.rerank(query, TEXTS)
    best_first = sorted(range(len(TEXTS)), key=lambda index: -scores[index])
    assert [document.index for document in found.documents] == best_first
    assert [document.score for document in found.documents] == pytest.approx(
        [scores[index] for index in best_first], abs=1e-5
    )
