"""The score that translations are reported with."""

import pytest

from farebox_engine.bench.chrf import chrf


def test_a_perfect_translation_scores_100_and_a_wrong_one_0() -> None:
    assert chrf(["the cat", "sat"], [["the cat"], ["sat"]]) == pytest.approx(100)
    assert chrf(["xyz"], [["abc"]]) == 0
    assert chrf([""], [["abc"]]) == 0


def test_the_score_is_that_of_the_formula() -> None:
    # "abcd" against "abce": 3/4 of the characters, 2/3 of the pairs, 1/2 of the triples, no quadruple.
    mean = (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4
    assert chrf(["ab cd"], [["abce"]]) == pytest.approx(100 * mean)
    # Half the reference: precision 1, recall 1/2, 1/3; no triple on our side.
    recall = (1 / 2 + 1 / 3) / 2
    assert chrf(["ab"], [["abcd"]]) == pytest.approx(100 * 5 * recall / (4 + recall))


def test_the_best_reference_counts() -> None:
    assert chrf(["good day"], [["hello", "good day"]]) == pytest.approx(100)
