import json
import math
import sys
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from ecg_hf.evaluation import bootstrap as bootstrap_module
from ecg_hf.evaluation.bootstrap import bootstrap, cluster_by_patient, percentile_interval, resample_weights
from ecg_hf.evaluation.metrics import (
    METRICS,
    Score,
    as_evaluate_metric,
    evaluate_predictions,
    paired_difference,
    point_score,
)
from ecg_hf.evaluation.weighted_scores import LABEL_SCORES, label_scores, label_statistics

EXACT = 1e-12


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of a few records with ties, unknown labels, and often a class that is absent."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(2, 60)), int(rng.integers(1, 5)))
    labels = (rng.random(shape) < rng.choice([0.02, 0.2, 0.5, 0.98], size=shape[1])).astype(float)
    labels[rng.random(shape) < rng.choice([0, 0.3, 1.0], p=[0.5, 0.45, 0.05])] = np.nan
    num_levels = int(rng.choice([1, 2, 5, 1000]))
    return labels, rng.integers(0, num_levels + 1, shape) / num_levels if num_levels > 1 else np.full(shape, 0.3)


def slow_scores(label: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """The scores of one label by scikit-learn, on the records whose label is known."""
    label, score = label[~np.isnan(label)], score[~np.isnan(label)]
    both = len(np.unique(label)) == 2
    values = dict.fromkeys(("auroc", "average_precision", "brier", "ece", "mae"), math.nan)
    if both:
        values["auroc"] = oracle.roc_auc_score(label, score)
        values["average_precision"] = oracle.average_precision_score(label, score)
    if len(label):
        values["brier"] = np.mean((label - score) ** 2)
        values["mae"] = oracle.mean_absolute_error(label, score)
        share, mean_score = calibration_curve(label, score, n_bins=15)
        edges = np.linspace(0, 1, 16)
        edges[0] = -1
        counts = np.array([np.sum((score > a) & (score <= b)) for a, b in pairwise(edges)])
        values["ece"] = np.sum(counts[counts > 0] / len(label) * abs(share - mean_score))
    return values


def compare_with_oracle(num_cases: int) -> None:
    num_defined = 0
    for seed in range(num_cases):
        labels, scores = random_case(seed)
        expected = [slow_scores(label, score) for label, score in zip(labels.T, scores.T, strict=True)]
        for name in ("auroc", "average_precision", "brier", "ece", "mae"):
            slow = np.array([row[name] for row in expected])
            np.testing.assert_allclose(
                label_scores(labels, scores, name), slow, rtol=0, atol=EXACT, err_msg=f"{seed} {name}"
            )
            num_defined += np.sum(~np.isnan(slow))
    assert num_defined > 3 * num_cases


def test_label_scores_equal_scikit_learn():
    compare_with_oracle(300)


@pytest.mark.slow
def test_label_scores_equal_scikit_learn_on_ten_thousand_cases():
    compare_with_oracle(10_000)


def test_auroc_is_the_share_of_pairs_in_order():
    labels, scores = random_case(3)
    labels[:, 0] = np.arange(len(labels)) % 2
    positive, negative = scores[labels[:, 0] == 1, 0], scores[labels[:, 0] == 0, 0]
    pairs = (positive[:, None] > negative) + (positive[:, None] == negative) / 2
    assert label_scores(labels, scores)[0] == pytest.approx(pairs.mean(), abs=EXACT)


def test_brier_is_that_of_scikit_learn():
    labels, scores = [[0.0], [1.0], [1.0]], [[0.2], [0.9], [0.4]]
    assert label_scores(labels, scores, "brier")[0] == pytest.approx(
        oracle.brier_score_loss([0, 1, 1], [0.2, 0.9, 0.4]), abs=EXACT
    )


def test_auroc_does_not_move_under_a_monotone_map():
    rng = np.random.default_rng(0)
    labels, logits = (rng.random((200, 3)) < 0.3) * 1.0, rng.integers(-9, 9, (200, 3)) / 2
    np.testing.assert_array_equal(label_scores(labels, logits), label_scores(labels, 1 / (1 + np.exp(-logits))))


def test_a_label_without_both_classes_is_left_out_and_counted():
    labels = np.array([[1, 0, np.nan], [0, 0, 1], [1, 0, 1], [0, 0, 1]], dtype=float)
    scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.4, 0.2], [0.6, 0.2, 0.5], [0.1, 0.3, 0.4]])
    result = evaluate_predictions(labels, scores, None, label_names=["a", "b", "c"], num_resamples=50)
    assert result["overall"]["macro_auroc"]["value"] == 1.0
    assert result["overall"]["macro_auroc"]["num_undefined"] == 2
    in_resamples = result["labels"][0]["auroc"]["num_undefined_in_resamples"]
    assert 0 < in_resamples == result["overall"]["macro_auroc"]["num_undefined_in_resamples"] < 50
    assert [row["auroc"]["value"] for row in result["labels"]] == [1.0, None, None]
    assert [row["num_known"] for row in result["labels"]] == [4, 4, 3]
    assert [row["num_positive"] for row in result["labels"]] == [2, 0, 3]
    assert [row["prevalence"] for row in result["labels"]] == [0.5, 0.0, 1.0]


def test_the_convention_of_one_half_is_that_of_the_reference():
    labels, scores = np.array([[1.0, 0], [0, 0]]), np.array([[0.9, 0.1], [0.2, 0.4]])
    assert point_score(labels, scores) == 1.0
    assert point_score(labels, scores, undefined=0.5) == 0.75


def test_the_convention_of_one_half_pulls_the_interval_below_the_value():
    rng = np.random.default_rng(1)
    labels = np.zeros((300, 60))
    labels[rng.integers(0, 300, (2, 60)), np.arange(60)] = 1
    scores = labels * 0.4 + rng.random(labels.shape) * 0.6
    names = [str(column) for column in range(60)]
    kept, halved = (
        evaluate_predictions(labels, scores, None, label_names=names, num_resamples=200, undefined=undefined)["overall"]
        for undefined in (None, 0.5)
    )
    assert halved["macro_auroc"]["high"] < halved["macro_auroc"]["value"]
    assert kept["macro_auroc"]["low"] <= kept["macro_auroc"]["value"] <= kept["macro_auroc"]["high"]
    # a label of two positives misses both in (1 - 2/n)^n = 13.5 % of resamples
    assert kept["macro_auroc"]["num_undefined_in_resamples"] / (200 * 60) == pytest.approx(math.exp(-2), abs=0.03)


def test_mae_averages_labels_and_pooled_mae_averages_entries():
    labels, predicted = np.array([[1.0, 5.0], [2.0, np.nan]]), np.array([[2.0, 5.0], [4.0, 0.0]])
    assert point_score(labels, predicted, "mae") == pytest.approx((1.5 + 0) / 2, abs=EXACT)
    assert point_score(labels, predicted, "pooled_mae") == pytest.approx((1 + 2 + 0) / 3, abs=EXACT)
    result = evaluate_predictions(labels, predicted, None, label_names=["age", "weight"], metrics=("mae", "pooled_mae"))
    assert result["overall"]["pooled_mae"]["value"] == pytest.approx(1, abs=EXACT)
    assert set(result["labels"][0]) == {"name", "num_known", "mae"}


def clustered_case(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    patient_ids = np.sort(rng.integers(0, 25, 60)).astype(str)
    labels = (rng.random((60, 4)) < [0.5, 0.3, 0.96, 0.04]).astype(float)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    return labels, rng.integers(0, 12, labels.shape) / 11, patient_ids


def test_a_replicate_equals_scikit_learn_on_the_resampled_rows():
    labels, scores, patient_ids = clustered_case()
    clusters = cluster_by_patient(patient_ids, len(labels))
    names = ("auroc", "average_precision", "brier", "ece", "mae")
    statistics = label_statistics(labels, scores, names)
    _, replicates = bootstrap(lambda weights: np.concatenate(list(statistics(weights).values())), clusters, 40, seed=5)
    weights = np.concatenate(list(resample_weights(clusters, 40, seed=5)), axis=1).astype(int)
    assert np.isnan(replicates[:8]).any(axis=1).tolist() == [False, False, True, True] * 2
    for draw in range(40):
        rows = np.repeat(np.arange(len(labels)), weights[:, draw])
        slow = [slow_scores(labels[rows, column], scores[rows, column]) for column in range(4)]
        expected = [row[name] for name in names for row in slow]
        np.testing.assert_allclose(replicates[:, draw], expected, rtol=0, atol=EXACT)


def test_the_interval_of_the_macro_auroc_is_that_of_a_slow_loop():
    labels, scores, patient_ids = clustered_case(2)
    result = evaluate_predictions(labels, scores, patient_ids, label_names=list("abcd"), num_resamples=60, seed=3)
    weights = np.concatenate(list(resample_weights(cluster_by_patient(patient_ids, 60), 60, seed=3)), axis=1).astype(
        int
    )
    macro = []
    for draw in weights.T:
        rows = np.repeat(np.arange(60), draw)
        values = [slow_scores(labels[rows, column], scores[rows, column])["auroc"] for column in range(4)]
        macro.append(np.nanmean(values))
    score = result["overall"]["macro_auroc"]
    np.testing.assert_allclose([score["low"], score["high"]], np.percentile(macro, [2.5, 97.5]), rtol=0, atol=EXACT)


def test_a_resample_holds_all_records_of_a_patient_or_none():
    patient_ids = ["p", "q", "p", "r", "q", "p", "s"]
    weights = np.concatenate(list(resample_weights(cluster_by_patient(patient_ids, 7), 200)), axis=1)
    for patient in "pqrs":
        rows = weights[[index for index, name in enumerate(patient_ids) if name == patient]]
        assert (rows == rows[0]).all()
    assert (weights[[0, 1, 3, 6]].sum(axis=0) == 4).all()
    assert set(np.unique(weights)) == {0, 1, 2, 3, 4}


def test_resamples_do_not_depend_on_the_chunks(monkeypatch):
    clusters = cluster_by_patient(None, 50)
    whole = np.concatenate(list(resample_weights(clusters, 33, seed=1)), axis=1)
    monkeypatch.setattr(bootstrap_module, "_CHUNK_VALUES", 50 * 4)
    chunks = list(resample_weights(clusters, 33, seed=1))
    assert [chunk.shape[1] for chunk in chunks] == [4] * 8 + [1]
    np.testing.assert_array_equal(np.concatenate(chunks, axis=1), whole)


def test_the_seed_decides_the_interval():
    labels, scores, patient_ids = clustered_case()
    first, again, other = (
        evaluate_predictions(labels, scores, patient_ids, label_names=list("abcd"), num_resamples=30, seed=seed)
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first["overall"]["macro_auroc"]["low"] != other["overall"]["macro_auroc"]["low"]


def test_memory_does_not_grow_with_the_resamples():
    rng = np.random.default_rng(0)
    labels, scores = (rng.random((4000, 3)) < 0.3) * 1.0, rng.random((4000, 3))
    tracemalloc.start()
    evaluate_predictions(labels, scores, None, label_names=list("abc"), num_resamples=300)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16e6, f"peak {peak / 1e6:.1f} MB; the weights of all resamples alone are {4000 * 300 * 8 / 1e6} MB"


def test_without_patient_ids_every_record_is_a_patient_and_the_result_says_so():
    labels, scores, _ = clustered_case()
    names = list("abcd")
    unknown = evaluate_predictions(labels, scores, None, label_names=names, num_resamples=30)
    absent = evaluate_predictions(labels, scores, [None] * 60, label_names=names, num_resamples=30)
    single = evaluate_predictions(labels, scores, range(60), label_names=names, num_resamples=30)
    assert unknown == absent
    assert (unknown["patient_level"], unknown["num_patients"]) == (False, None)
    assert (single["patient_level"], single["num_patients"]) == (True, 60)
    assert not unknown["overall"]["macro_auroc"]["patient_level"]
    assert unknown["overall"]["macro_auroc"]["low"] == single["overall"]["macro_auroc"]["low"]


def test_a_score_counts_the_records_and_patients_whose_label_is_known():
    labels = np.array([[0.0, np.nan], [1.0, np.nan], [1.0, 0.0], [np.nan, np.nan]])
    result = evaluate_predictions(labels, np.full((4, 2), 0.5), list("ppqr"), label_names=["a", "b"], num_resamples=9)
    assert (result["num_records"], result["num_patients"]) == (4, 3)
    counts = [(row["brier"]["num_records"], row["brier"]["num_patients"]) for row in result["labels"]]
    assert counts == [(3, 2), (1, 1)]
    assert (result["overall"]["ece"]["num_records"], result["overall"]["ece"]["num_patients"]) == (3, 2)


def test_a_score_reads_as_value_and_interval_and_survives_json():
    score = Score(0.92501, 0.9142, 0.9349, 2198, 1904)
    assert str(score) == "0.925 (0.914-0.935)"
    assert json.loads(json.dumps(score.as_dict()))["num_patients"] == 1904
    nothing = Score(math.nan, math.nan, math.nan, 10, None)
    assert str(nothing) == "undefined"
    assert json.loads(json.dumps(nothing.as_dict(), allow_nan=False))["value"] is None


def test_a_result_is_json_even_when_no_label_is_defined():
    result = evaluate_predictions(np.zeros((5, 2)), np.full((5, 2), 0.1), None, label_names=["a", "b"], num_resamples=9)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["overall"]["macro_auroc"]["low"] is None


def test_the_interval_of_an_ece_holds_its_value_when_all_resamples_lie_above():
    rng = np.random.default_rng(0)
    scores = rng.random((500, 10)) * 0.2
    labels = (rng.random(scores.shape) < scores) * 1.0
    names = [str(column) for column in range(10)]
    ece = evaluate_predictions(labels, scores, None, label_names=names, num_resamples=200)["overall"]["ece"]
    statistics = label_statistics(labels, scores, ("ece",))
    _, replicates = bootstrap(lambda weights: statistics(weights)["ece"], cluster_by_patient(None, 500), 200)
    assert replicates.mean(axis=0).min() > ece["value"]
    assert 0 <= ece["low"] < ece["value"] < ece["high"]


def test_paired_difference_is_zero_against_itself_and_turns_its_sign():
    labels, scores, patient_ids = clustered_case()
    assert str(paired_difference(labels, scores, scores, patient_ids, num_resamples=20)) == "0.000 (0.000-0.000)"
    other = scores[::-1].copy()
    there = paired_difference(labels, scores, other, patient_ids, num_resamples=99)
    back = paired_difference(labels, other, scores, patient_ids, num_resamples=99)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low), abs=EXACT)


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_paired_difference_is_the_difference_of_the_values(metric):
    labels, scores, patient_ids = clustered_case()
    other = np.sqrt(scores)[::-1]
    difference = paired_difference(labels, scores, other, patient_ids, metric=metric, num_resamples=20)
    expected = point_score(labels, scores, metric) - point_score(labels, other, metric)
    assert difference.value == pytest.approx(expected, abs=EXACT)
    assert difference.patient_level


def test_pairing_sees_a_difference_that_two_intervals_hide():
    rng = np.random.default_rng(0)
    labels = (rng.random((1000, 1)) < 0.4) * 1.0
    logits = 2 * labels + rng.normal(size=labels.shape) * 1.5
    worse = logits + rng.normal(size=labels.shape) * 0.7
    scores, other = (1 / (1 + np.exp(-each)) for each in (logits, worse))
    high, low = (
        evaluate_predictions(labels, each, None, label_names=["a"], num_resamples=300)["overall"]["macro_auroc"]
        for each in (scores, other)
    )
    assert low["high"] > high["low"]
    assert paired_difference(labels, scores, other, None, num_resamples=300).low > 0


def test_permuted_labels_score_one_half_within_the_interval():
    rng = np.random.default_rng(4)
    labels = (rng.random((600, 6)) < 0.2) * 1.0
    scores = np.clip(labels * 0.4 + rng.random(labels.shape) * 0.6, 0, 1)
    permuted = rng.permutation(labels)
    score = evaluate_predictions(permuted, scores, None, label_names=list("abcdef"))["overall"]["macro_auroc"]
    assert point_score(labels, scores) > 0.8
    assert score["low"] < 0.5 < score["high"]


def covering_share(num_sets: int, num_resamples: int, clustered: bool, seed: int = 0) -> float:
    """How often the interval of the AUROC holds the true one, when records of a patient resemble each other."""
    rng = np.random.default_rng(seed)
    truth = norm.cdf(1 / math.sqrt(2 * (1 + 0.25)))
    num_covered = 0
    for number in range(num_sets):
        patient = np.repeat(np.arange(150), rng.integers(1, 6, 150))
        label = (rng.random(150) < 0.4).astype(float)
        patient_score = label + rng.normal(size=150)
        scores = patient_score[patient] + rng.normal(size=len(patient)) * 0.5
        clusters = cluster_by_patient(patient if clustered else None, len(patient))
        statistics = label_statistics(label[patient][:, None], scores[:, None], ("auroc",))
        _, replicates = bootstrap(lambda w, s=statistics: s(w)["auroc"], clusters, num_resamples, seed=number)
        low, high = percentile_interval(replicates[0])
        num_covered += low <= truth <= high
    return num_covered / num_sets


def test_the_interval_covers_the_truth_only_if_patients_stay_together():
    together, apart = covering_share(150, 200, clustered=True), covering_share(150, 200, clustered=False)
    assert 0.89 <= together <= 0.99, f"patients together {together}, apart {apart}"
    assert apart < 0.85, f"patients together {together}, apart {apart}"


@pytest.mark.slow
def test_the_interval_covers_the_truth_in_95_percent_of_studies():
    together = covering_share(2000, 1000, clustered=True)
    assert 0.93 <= together <= 0.97, f"patients together {together}"


@pytest.mark.parametrize(
    ("labels", "scores", "name", "message"),
    [
        ([[1.0], [0.0]], [[0.1]], "auroc", r"one shape .* got \(2, 1\) and \(1, 1\)"),
        ([1.0, 0.0], [0.1, 0.2], "auroc", r"one shape .* got \(2,\) and \(2,\)"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "auroc", r"got \(0, 3\)"),
        ([[1.0], [0.0]], [[0.1], [np.nan]], "auroc", "finite scores, got 1"),
        ([[1.0], [0.0]], [[0.1], [np.inf]], "mae", "finite scores, got 1"),
        ([[1.0], [np.inf]], [[0.1], [0.2]], "mae", "finite labels, .* got inf"),
        ([[1.0], [0.5]], [[0.1], [0.2]], "auroc", "labels 0 or 1, .* got 0.5"),
        ([[1.0], [0.0]], [[-3.0], [2.0]], "brier", "probabilities from 0 to 1, got -3 to 2; .* sigmoid"),
        ([[1.0], [0.0]], [[0.1], [1.2]], "ece", "probabilities from 0 to 1"),
    ],
)
def test_odd_arrays_are_refused(labels, scores, name, message):
    with pytest.raises(ValueError, match=message):
        label_scores(labels, scores, name)


def test_unknown_names_are_refused():
    with pytest.raises(KeyError, match="'f1' is not a metric; choose one of"):
        point_score([[1.0]], [[0.5]], "f1")
    with pytest.raises(KeyError, match="'f1' is not a score of a label"):
        label_scores([[1.0]], [[0.5]], "f1")
    assert set(METRICS.values()) == set(LABEL_SCORES)


@pytest.mark.parametrize(
    ("patient_ids", "message"),
    [
        (["p", "q"], "a patient id for each of 3 records, got 2"),
        (["p", None, "q"], "for every record or for none, got 1 missing of 3"),
        ([1.0, float("nan"), 2.0], "for every record or for none, got 1 missing of 3"),
        (["p", "p", "p"], "at least 2 patients, got 1"),
    ],
)
def test_odd_patient_ids_are_refused(patient_ids, message):
    with pytest.raises(ValueError, match=message):
        cluster_by_patient(patient_ids, 3)


def test_a_wrong_number_of_names_or_resamples_is_refused():
    labels, scores = [[1.0], [0.0]], [[0.4], [0.2]]
    with pytest.raises(ValueError, match="a name for each of 1 labels, got 2"):
        evaluate_predictions(labels, scores, None, label_names=["a", "b"])
    with pytest.raises(ValueError, match="num_resamples must be at least 1, got 0"):
        evaluate_predictions(labels, scores, None, label_names=["a"], num_resamples=0)


def test_the_evaluate_metric_gives_the_same_numbers_from_batches():
    pytest.importorskip("evaluate")
    labels, scores, patient_ids = clustered_case()
    metric = as_evaluate_metric()
    metric.add_batch(predictions=scores[:30], references=labels[:30])
    metric.add_batch(predictions=scores[30:], references=labels[30:])
    flat = metric.compute(patient_ids=patient_ids, num_resamples=40, seed=2)
    result = evaluate_predictions(labels, scores, patient_ids, label_names=list("abcd"), num_resamples=40, seed=2)
    for name, score in result["overall"].items():
        assert [flat[name], flat[f"{name}_low"], flat[f"{name}_high"]] == [score["value"], score["low"], score["high"]]
    assert (flat["num_records"], flat["num_patients"], flat["patient_level"]) == (60, result["num_patients"], True)


def test_the_evaluate_metric_names_the_extra_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "evaluate", None)
    with pytest.raises(ImportError, match=r"pip install 'ecg_hf\[eval\]'"):
        as_evaluate_metric()
