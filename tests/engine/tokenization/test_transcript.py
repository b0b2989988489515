"""Text from tokens: whole characters, stop strings, and which tokens have been delivered."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from farebox_engine import LoadError
from farebox_engine.outputs import RawLogprobs
from farebox_engine.tokenization.detokenizer import Detokenizer
from farebox_engine.tokenization.stop_strings import StopMatcher
from farebox_engine.tokenization.tokenizer import ChatTokenizer
from farebox_engine.tokenization.transcript import Transcript
from farebox_engine.tokenization.vocabulary import Vocabulary
from tests.engine.sequences import byte_vocabulary

TEXTS = ["Ünïcödé", "渡轮九点离开港口", "👩🏽‍🚀 up", "naïve café\n\ttabs", "ไทย नमस्ते", "a\u0301e\u0300"]


def byte_tokens(data: bytes) -> list[int]:
    vocabulary = byte_vocabulary()
    of_byte = {vocabulary.bytes_of(token)[0]: token for token in range(256)}
    return [of_byte[byte] for byte in data]


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> ChatTokenizer:
    return ChatTokenizer.load(checkpoint, 400)


@pytest.mark.parametrize("text", TEXTS)
def test_characters_come_whole(text: str) -> None:
    detokenizer = Detokenizer(byte_vocabulary())
    pieces = [detokenizer.feed(token) for token in byte_tokens(text.encode())]
    assert "".join(pieces) == text
    assert [len(piece) for piece in pieces if piece] == [1] * len(text)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=40))
@example(data=b"\xed\xa0")
def test_any_bytes_become_what_python_makes_of_them(data: bytes) -> None:
    detokenizer = Detokenizer(byte_vocabulary())
    text = "".join(detokenizer.feed(token) for token in byte_tokens(data))
    whole = data.decode(errors="replace")
    # All but an unfinished character at the end, which Python may replace byte by byte.
    assert whole.startswith(text)
    rest = whole.removeprefix(text)
    assert bool(rest) == detokenizer.incomplete
    assert set(rest) <= {"\ufffd"}


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_text_agrees_with_the_tokenizers_library(
    tokenizer: ChatTokenizer, checkpoint: Path, data: st.DataObject
) -> None:
    library = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokens = data.draw(st.lists(st.integers(0, 399), max_size=30))
    detokenizer = Detokenizer(tokenizer.vocabulary)
    text = "".join(detokenizer.feed(token) for token in tokens)
    expected = library.decode(tokens, skip_special_tokens=True)
    assert expected.rstrip("\ufffd") == text.rstrip("\ufffd")


def test_byte_fallback_and_spaces_of_sentencepiece() -> None:
    pieces = ["<unk>", "▁Hello", "▁world", "<0xE2>", "<0x82>", "<0xAC>", "▁", "!", "<s>"]
    library = Tokenizer(
        models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], byte_fallback=True)
    )
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    description = {
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace"},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "added_tokens": [{"id": 8, "content": "<s>", "special": True}],
    }
    vocabulary = Vocabulary(library, description)
    tokens = [1, 2, 6, 3, 4, 5, 7]
    first = Detokenizer(vocabulary, starts_text=True)
    assert "".join(map(first.feed, tokens)) == library.decode(tokens) == "Hello world €!"
    # After a text the space belongs to the word.
    later = Detokenizer(vocabulary)
    assert [later.feed(token) for token in [*tokens, 8]] == [" Hello", " world", " ", "", "", "€", "!", ""]


def test_a_decoder_that_is_not_understood_is_refused() -> None:
    with pytest.raises(LoadError, match="WordPiece"):
        Vocabulary(Tokenizer(models.BPE()), {"decoder": {"type": "WordPiece"}})


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(alphabet="abc", max_size=20),
    stops=st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3),
    data=st.data(),
)
def test_stop_strings_are_found_however_the_text_is_cut(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    ends = [(end, text.index(stop)) for stop in stops if (end := text.find(stop) + len(stop)) >= len(stop)]
    expected = text[: min(ends)[1]] if ends else text
    matcher = StopMatcher(stops)
    shown, rest = "", text
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        piece, rest = rest[:cut], rest[cut:]
        safe, stopped = matcher.feed(piece)
        shown += safe
        assert expected.startswith(shown), "something was shown that a stop string swallows"
        if stopped:
            assert shown == expected
            return
    assert shown + matcher.flush() == expected
    assert not ends


def test_no_more_is_held_back_than_could_begin_a_stop_string() -> None:
    matcher = StopMatcher(["<end>", "stop"])
    assert matcher.feed("text <e") == ("text ", False)
    assert matcher.feed("x sto") == ("<ex ", False)
    assert matcher.feed("ne") == ("stone", False)


def test_held_tokens_are_delivered_with_their_text() -> None:
    transcript = Transcript(byte_vocabulary(), [0], ["xyz"])
    tokens = byte_tokens("axyé".encode())
    delivered = []
    for token in tokens:
        assert not transcript.feed(token, None)
        chunk = transcript.take()
        delivered.append((chunk.text, len(chunk.token_ids)))
    assert delivered == [("a", 1), ("", 0), ("", 0), ("", 0), ("xyé", 4)]


def test_the_tokens_of_a_stop_string_count_at_the_end_but_have_no_logprobs() -> None:
    transcript = Transcript(byte_vocabulary(), [0], ["bc"])
    logprobs = RawLogprobs(-1.0, [0], [-1.0])
    stopped = [transcript.feed(token, logprobs) for token in byte_tokens(b"abc")]
    chunk = transcript.finish()
    assert stopped == [False, False, True]
    assert (chunk.text, len(chunk.token_ids), len(chunk.logprobs or ())) == ("a", 3, 1)


def test_a_character_cut_off_by_the_end_is_dropped() -> None:
    transcript = Transcript(byte_vocabulary(), [0], [])
    for token in byte_tokens("ab€".encode()[:-1]):
        transcript.feed(token, None)
    chunk = transcript.finish()
    assert (chunk.text, len(chunk.token_ids)) == ("ab", 4)


SEP, TOOL_CALL = 256, 257


def marked_vocabulary() -> Vocabulary:
    """Bytes, and two special tokens."""
    vocab = {
        character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    added = [
        {"id": SEP, "content": "<|sep|>", "special": True},
        {"id": TOOL_CALL, "content": "<tool_call>", "special": True},
    ]
    return Vocabulary(tokenizer, {"decoder": {"type": "ByteLevel"}, "added_tokens": added})


@pytest.mark.parametrize(
    ("stop", "shown", "stopped"),
    [
        ("<|sep|>", "before", True),
        ("e<|sep|>", "befor", True),
        ("<|sep|>af", "before", True),
        ("sep", "before", True),
        ("<|sep|><|sep|>", "beforeafter", False),
        ("ea", "beforeafter", False),
        ("<|sep|>x", "beforeafter", False),
    ],
)
def test_a_special_token_may_be_a_stop_string_or_part_of_one(stop: str, shown: str, stopped: bool) -> None:
    transcript = Transcript(marked_vocabulary(), [0], [stop])
    ended = False
    delivered = []
    tokens = [*byte_tokens(b"before"), SEP, *byte_tokens(b"after")]
    for token in tokens:
        ended = transcript.feed(token, None)
        delivered.append(transcript.take())
        if ended:
            break
    delivered.append(transcript.finish())
    assert ended == stopped
    assert "".join(delta.text for delta in delivered) == shown
    fed = tokens if not stopped else tokens[: sum(len(delta.token_ids) for delta in delivered)]
    assert [token for delta in delivered for token in delta.token_ids] == fed


def test_marks_are_spelled_for_who_reads_them() -> None:
    tokens = [TOOL_CALL, *byte_tokens(b"{}"), SEP]
    for spelled, text in (((), "{}"), ({TOOL_CALL}, "<tool_call>{}")):
        transcript = Transcript(marked_vocabulary(), [0], [], spelled=spelled)
        for token in tokens:
            transcript.feed(token, None)
        assert transcript.finish().text == text


def test_each_token_tells_how_many_characters_it_adds() -> None:
    transcript = Transcript(marked_vocabulary(), [0], [])
    for token in [*byte_tokens("a€b".encode()), SEP, *byte_tokens(b"c")]:
        transcript.feed(token, RawLogprobs(-1.0, [], []))
    chunk = transcript.finish()
    assert [entry.characters for entry in chunk.logprobs or ()] == [1, 0, 0, 1, 1, 0, 1]
    scores = [RawLogprobs(-1.0, [], [])] * 5
    details = transcript.describe_prompt([SEP, *byte_tokens("€b".encode()), SEP], scores, echo=False)
    assert [entry.characters for entry in details.logprobs or () if entry] == [0, 0, 1, 1, 0]
