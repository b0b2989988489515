"""Tiny tokenizers in the form in which OPUS-MT publishes them, trained by SentencePiece itself."""

import io
import json
import random
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece
from transformers import MarianTokenizer

SOURCES = [
    "The ferry leaves the harbour at nine and comes back before the lamps are lit.",
    "A token is a piece of a word; a word is one token or several, as the text will have it.",
    "The children count the wagons: one, two, three, and the train crosses the bridge.",
    "“Quotes”, a café, ½ and ① are written in many ways; so are ﬁ and the Ångström.",
]
TARGETS = [
    "Die Fähre verlässt den Hafen um neun und kommt zurück, bevor die Lampen brennen.",
    "Der Zug fährt über die Brücke, und die Kinder zählen die Wagen: eins, zwei, drei.",
    "渡轮九点离开港口, 天黑之前回来。孩子们在数车厢。",
    "Ein Wort ist ein Token oder mehrere; à la carte, ñ, ß.",
]
END, UNKNOWN, PAD = "</s>", "<unk>", "<pad>"
LANGUAGES = [">>deu<<", ">>zho<<"]


def train_pieces(path: Path, lines: Iterable[str], **settings: Any) -> sentencepiece.SentencePieceProcessor:
    """Write a model of some hundred pieces to `path`; `settings` are the trainer's."""
    sentencepiece.set_random_generator_seed(0)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(list(lines) * 3),
        model_writer=model,
        **{
            "vocab_size": 150,
            "hard_vocab_limit": False,
            "character_coverage": 0.98,
            "num_threads": 1,
            "minloglevel": 2,
        }
        | settings,
    )
    path.write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def write_marian_tokenizer(folder: Path, *, separate: bool = False, **settings: Any) -> tuple[int, int]:
    """Write one to `folder`, with one vocabulary or two; how many tokens there are on either side."""
    folder.mkdir(parents=True, exist_ok=True)
    source = train_pieces(folder / "source.spm", SOURCES, **settings)
    target = train_pieces(folder / "target.spm", TARGETS, **settings)
    sides = [_pieces(source), _pieces(target)]
    files = ["vocab.json", "target_vocab.json"] if separate else ["vocab.json"]
    vocabularies = sides if separate else [[*sides[0], *sides[1]]]
    for name, pieces in zip(files, vocabularies, strict=True):
        numbers = _numbered(pieces)
        (folder / name).write_text(json.dumps(numbers))
    tokens = {"eos_token": END, "unk_token": UNKNOWN, "pad_token": PAD}
    described = {"source_lang": "en", "target_lang": "de", "separate_vocabs": separate} | tokens
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    sizes = [len(json.loads((folder / name).read_text())) for name in files]
    return sizes[0], sizes[-1]


def load_library(folder: Path) -> Any:
    """What `transformers` makes of a folder: a `MarianTokenizer`."""
    with warnings.catch_warnings():
        # It recommends a package that it would not use here.
        warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
        return MarianTokenizer.from_pretrained(folder)


def _pieces(model: sentencepiece.SentencePieceProcessor) -> list[str]:
    """What of a model stands in vocab.json, which is Marian's own."""
    numbers = range(model.get_piece_size())
    return [model.id_to_piece(n) for n in numbers if not model.is_control(n) and not model.is_unknown(n)]


def _numbered(pieces: list[str]) -> dict[str, int]:
    """The end, the unknown and the padding where OPUS-MT has them; all else anywhere."""
    rest = sorted({*pieces, *LANGUAGES})
    random.Random(0).shuffle(rest)
    return {piece: number for number, piece in enumerate([END, UNKNOWN, *rest, PAD])}
