"""chrF, a score of translations by their characters (Popović 2015, "chrF: character n-gram F-score")."""

from collections import Counter
from collections.abc import Sequence

ORDER = 6
BETA = 2.0

# Of each order: n-grams of the translation, of the reference, and of both.
Counts = list[tuple[int, int, int]]


def chrf(translations: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The corpus' chrF2, 0 to 100; of a text's several references the best one counts.

    Spaces are left out, as in the paper; n-grams of 1 to 6 characters, recall weighs twice.
    """
    total: Counts = [(0, 0, 0)] * ORDER
    for translation, candidates in zip(translations, references, strict=True):
        best = max((_counts(translation, reference) for reference in candidates), key=_score)
        total = [
            (sum_a + a, sum_b + b, sum_c + c)
            for (sum_a, sum_b, sum_c), (a, b, c) in zip(total, best, strict=True)
        ]
    return _score(total)


def _counts(translation: str, reference: str) -> Counts:
    counts = []
    for order in range(1, ORDER + 1):
        ours, theirs = _ngrams(translation, order), _ngrams(reference, order)
        counts.append((ours.total(), theirs.total(), (ours & theirs).total()))
    return counts


def _ngrams(text: str, order: int) -> Counter[str]:
    characters = "".join(text.split())
    return Counter(characters[start : start + order] for start in range(len(characters) - order + 1))


def _score(counts: Counts) -> float:
    # An order for which one side is too short has neither precision nor recall.
    usable = [(ours, theirs, both) for ours, theirs, both in counts if ours and theirs]
    if not usable:
        return 0.0
    precision = sum(both / ours for ours, _, both in usable) / len(usable)
    recall = sum(both / theirs for _, theirs, both in usable) / len(usable)
    if not precision + recall:
        return 0.0
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
