"""Intervals and tests against known answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from svae.evaluation.rows import Row, Scored, summarize
from svae.evaluation.rows import ratio as ratio_of
from svae.evaluation.statistics import (
    Ratio,
    compare_paired,
    group_numbers,
    interval,
    resampling_counts,
    spread,
)
from svae.judges.wer import WordErrors


def ratio(values, below=None):
    array = np.asarray(values, dtype=np.float64)
    return Ratio(
        array, np.ones_like(array) if below is None else np.asarray(below, dtype=np.float64)
    )


def test_every_sample_has_as_many_utterances_as_the_list_and_is_the_same_again():
    counts = resampling_counts(50, seed=3)
    assert counts.shape == (2000, 50) and (counts.sum(axis=1) == 50).all()
    assert np.array_equal(counts, resampling_counts(50, seed=3))
    assert not np.array_equal(counts, resampling_counts(50, seed=4))
    assert counts.mean() == 1 and counts.var() == pytest.approx(1 - 1 / 50, rel=0.02)


def test_speakers_come_and_go_whole():
    groups = ["a", "b", "a", "c", "b", "a"]
    counts = resampling_counts(3, seed=0)[:, group_numbers(groups)]
    assert (counts[:, 0] == counts[:, 2]).all() and (counts[:, 0] == counts[:, 5]).all()
    assert (counts[:, 1] == counts[:, 4]).all()
    assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_adding_speakers_up_first_is_the_same_bootstrap():
    """Whole numbers, as of word errors, give the same interval to the last bit; sums of others may round apart."""
    generator = np.random.default_rng(0)
    groups = [f"s{n}" for n in generator.integers(0, 7, size=60)]
    errors = ratio(generator.integers(0, 5, size=60), generator.integers(1, 20, size=60))
    utterances = resampling_counts(7)[:, group_numbers(groups)]
    assert interval(errors.added_up(groups), resampling_counts(7)) == interval(errors, utterances)
    assert errors.added_up(groups).value == errors.value and errors.added_up(None) is errors


def test_the_interval_of_a_share_is_the_analytic_one():
    """200 of 1000 utterances are wrong: mean 0.2, standard error sqrt(0.2 * 0.8 / 1000)."""
    values = ratio([1.0] * 200 + [0.0] * 800)
    low, high = interval(values, resampling_counts(1000, seed=0))
    error = 1.96 * (0.2 * 0.8 / 1000) ** 0.5
    assert values.value == 0.2
    assert low == pytest.approx(0.2 - error, abs=0.15 * error) and high == pytest.approx(
        0.2 + error, abs=0.15 * error
    )


def test_a_corpus_rate_weighs_utterances_by_their_words():
    errors = ratio([1, 0, 3], [2, 8, 10])
    assert errors.value == 4 / 20
    one_of_each = np.ones((3, 3))
    assert interval(errors, one_of_each) == (0.2, 0.2)
    twice_the_last = np.array([[0.0, 1.0, 2.0]])
    assert interval(errors, twice_the_last) == pytest.approx((6 / 28, 6 / 28))


def test_intervals_cover_the_truth_as_often_as_they_say():
    """300 lists of 80 utterances with a known mean: 95 % of the intervals hold it, give or take 3.5 points."""
    generator = np.random.default_rng(0)
    counts = resampling_counts(80, resamples=600, seed=1)
    held = 0
    for _ in range(300):
        low, high = interval(ratio(generator.binomial(8, 0.25, size=80) / 8), counts)
        held += low <= 0.25 <= high
    assert 0.915 <= held / 300 <= 0.985


def test_with_few_different_speakers_only_the_clustered_interval_covers():
    """Eight utterances of each of 30 speakers are all alike: by utterances the interval is about sqrt(8) too narrow."""
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(30), 8)
    by_speaker = resampling_counts(30, resamples=500, seed=1)
    by_utterance = resampling_counts(240, resamples=500, seed=1)
    held = {"speaker": 0, "utterance": 0}
    for _ in range(200):
        values = ratio(generator.normal(size=30)[speakers])
        added_up = values.added_up(list(speakers))
        for name, units, counts in (
            ("speaker", added_up, by_speaker),
            ("utterance", values, by_utterance),
        ):
            low, high = interval(units, counts)
            held[name] += low <= 0 <= high
    assert held["speaker"] / 200 > 0.88 and held["utterance"] / 200 < 0.65


def test_a_mean_leaves_out_what_is_undefined():
    found = Ratio(np.array([1.0, 0.0, 0.0, 3.0]), np.array([1.0, 0.0, 1.0, 1.0]))
    assert found.value == pytest.approx(4 / 3)
    alone = Ratio(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    assert interval(alone, resampling_counts(2)) is None
    low, high = interval(found, resampling_counts(4))
    assert 0 <= low < high <= 3


def test_the_spread_over_seeds():
    assert spread([1.0, 2.0, 3.0]) == {"mean": 2.0, "sd": 1.0, "min": 1.0, "max": 3.0}
    assert spread([2.0])["sd"] is None


def test_the_exact_p_value_counts_all_exchanges():
    a, b = [0.1, 0.4, 0.3, 0.2, 0.5], [0.2, 0.3, 0.5, 0.6, 0.9]
    differences = np.subtract(b, a)
    signs = np.array(list(itertools.product((-1, 1), repeat=5)))
    expected = np.mean(
        np.abs((signs * differences).mean(axis=1)) >= abs(differences.mean()) - 1e-12
    )
    found = compare_paired(ratio(a), ratio(b))
    assert found.exact and found.p == pytest.approx(expected)
    assert found.difference == pytest.approx(differences.mean())


def test_six_utterances_all_better_give_two_in_sixty_four():
    assert compare_paired(ratio([1.0] * 6), ratio([0.0] * 6)).p == 2 / 64


def test_equal_systems_have_no_difference_and_p_one():
    found = compare_paired(ratio([0.1, 0.0, 0.5]), ratio([0.1, 0.0, 0.5]))
    assert (found.difference, found.interval, found.p) == (0.0, (0.0, 0.0), 1.0)


def test_the_drawn_p_value_is_near_the_exact_one():
    """30 utterances differ by +1 or -1 (20 to 10): a sign test, p = P(|X - 15| >= 5), X binomial."""
    from math import comb

    found = compare_paired(ratio([0.0] * 30), ratio([1.0] * 20 + [-1.0] * 10))
    exact = sum(comb(30, k) for k in range(31) if abs(k - 15) >= 5) / 2**30
    assert not found.exact and found.p == pytest.approx(exact, abs=0.01)


def test_exchanging_the_systems_turns_the_sign_and_keeps_p():
    generator = np.random.default_rng(5)
    a, b, words = (
        generator.integers(0, 4, 40),
        generator.integers(0, 5, 40),
        generator.integers(5, 20, 40),
    )
    one, other = (
        compare_paired(ratio(a, words), ratio(b, words)),
        compare_paired(ratio(b, words), ratio(a, words)),
    )
    assert one.difference == -other.difference and one.p == pytest.approx(other.p)
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))


def test_one_speaker_alone_proves_nothing():
    a, b = ratio([0.0] * 20), ratio([1.0] * 20)
    assert compare_paired(a, b).p < 0.001
    alone = compare_paired(a, b, groups=["s"] * 20)
    assert alone.p == 1.0 and alone.interval is None
    assert (
        interval(b.added_up(["s"] * 20), resampling_counts(1)) is None
        and interval(b, resampling_counts(20)) is not None
    )


def test_p_values_of_equal_systems_are_uniform():
    generator = np.random.default_rng(2)
    found = [
        compare_paired(ratio(generator.normal(size=8)), ratio(generator.normal(size=8))).p
        for _ in range(150)
    ]
    assert 0.01 <= np.mean(np.array(found) <= 0.05) <= 0.1
    assert np.mean(found) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("utterances", [12, 60])  # every exchange is counted; some are drawn
@pytest.mark.parametrize("clustered", [False, True])
def test_how_often_a_system_was_recorded_changes_no_mean_and_no_test(utterances, clustered):
    """Each recording of a system repeated three times says nothing new, whatever its numbers round to."""
    generator = np.random.default_rng(1)

    def recorded(worse):
        wrong = generator.binomial(9, 0.2 + worse, size=utterances)
        voice = generator.normal(0.7 - worse, 0.1, size=utterances)
        words = generator.integers(9, 30, size=utterances)
        return [
            Scored("x", 1.0, "", WordErrors(int(e), 0, 0, int(w)), {"sim_o": float(v)})
            for e, w, v in zip(wrong, words, voice, strict=True)
        ]

    rows = [
        Row(f"u{i}", f"s{i % 7}", "", None, None, {"a": a, "a again": a, "a still": a, "b": b})
        for i, (a, b) in enumerate(zip(recorded(0.0), recorded(0.05), strict=True))
    ]
    groups = [row.speaker for row in rows] if clustered else None
    once, thrice = (summarize(rows, names) for names in (["a"], ["a", "a again", "a still"]))
    for column in ("wer", "wer_corpus", "sim_o"):
        assert thrice[column] == once[column]
        assert thrice["intervals"][column] == once["intervals"][column]
        a, again, b = (ratio_of(rows, names, column) for names in (["a"], ["a", "a again", "a still"], ["b"]))  # fmt: skip
        assert compare_paired(again, b, groups=groups) == compare_paired(a, b, groups=groups)
        assert compare_paired(b, again, groups=groups) == compare_paired(b, a, groups=groups)


def test_an_utterance_counts_with_the_mean_over_the_recordings_that_have_the_score():
    def scored(errors, words, sim):
        return Scored("x", 1.0, "", WordErrors(errors, 0, 0, words), {"sim_o": sim})

    rows = [
        Row("u0", None, "", None, None, {"a": scored(1, 2, 0.5), "b": scored(3, 4, None)}),
        Row("u1", None, "", None, None, {"a": scored(0, 6, 0.1), "b": scored(0, 8, 0.3)}),
    ]
    found = {name: ratio_of(rows, ["a", "b"], name) for name in ("wer_corpus", "sim_o")}
    assert found["wer_corpus"].value == 4 / 20  # as of all recordings together
    assert found["sim_o"].value == pytest.approx((0.5 + 0.2) / 2)
