import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_score

from ecg_hf.errors import EcgIntegrityError
from ecg_hf.evaluation.bootstrap import bootstrap, cluster_by_patient
from ecg_hf.evaluation.probes.logistic import NUM_FOLDS, PENALTIES, fit_logistic, fit_path, log_losses
from ecg_hf.evaluation.weighted_scores import label_statistics
from ecg_hf.scaling.sweep.evaluations.probes import choose_records, project, standardise
from ecg_hf.scaling.sweep.evaluations.scores import (
    Answers,
    auroc_influences,
    binary_entropy,
    clustered_error,
    mean_influences,
)


def made(num_records=240, num_features=5, num_labels=3, seed=0):
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, num_records // 3, num_records)
    of_patient = rng.normal(size=(num_records, num_features))[patients]
    features = 0.7 * of_patient + rng.normal(size=(num_records, num_features))
    logits = features @ rng.normal(size=(num_features, num_labels)) + [-1.0, 0.3, 1.0][:num_labels]
    targets = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return features, targets, patients, logits + rng.normal(size=logits.shape)


def answers_of(targets, logits, patients, prior=None):
    names = tuple("abc"[: targets.shape[1]])
    prior = np.nanmean(targets, axis=0) if prior is None else prior
    return Answers(names, targets, log_losses(targets, logits), logits, prior, list(patients))


def test_scores_are_those_of_sklearn_per_label_and_on_average():
    _, targets, patients, logits = made()
    logits = np.round(logits)  # ties
    prior = np.array([0.2, 0.5, 0.7])
    rows = answers_of(targets, logits, patients, prior).rows("probe", per_label=True)
    found = {(row["eval_id"], row["metric"]): row["value"] for row in rows}
    nll = [log_loss(target, 1 / (1 + np.exp(-logit))) for target, logit in zip(targets.T, logits.T, strict=True)]
    auroc = [roc_auc_score(target, logit) for target, logit in zip(targets.T, logits.T, strict=True)]
    entropy = -(prior * np.log(prior) + (1 - prior) * np.log(1 - prior))
    for index, name in enumerate("abc"):
        assert found[f"probe/{name}", "nll"] == pytest.approx(nll[index], abs=1e-7)
        assert found[f"probe/{name}", "ne"] == pytest.approx(nll[index] / entropy[index], abs=1e-7)
        assert found[f"probe/{name}", "auroc"] == pytest.approx(auroc[index], abs=1e-12)
    assert found["probe", "nll"] == pytest.approx(np.mean(nll), abs=1e-7)
    assert found["probe", "ne"] == pytest.approx(np.mean(nll / entropy), abs=1e-7)
    assert found["probe", "auroc"] == pytest.approx(np.mean(auroc), abs=1e-12)
    counts = {row["eval_id"]: (row["n_eval"], row["n_pos"]) for row in rows}
    assert counts["probe"] == (len(targets), None) and counts["probe/a"] == (len(targets), targets[:, 0].sum())


def test_a_model_that_knows_the_prevalence_alone_has_a_normalised_entropy_of_one():
    targets = np.zeros((1000, 2), np.float32)
    targets[:100, 0] = targets[:400, 1] = 1
    prior = targets.mean(axis=0, dtype=np.float64)
    logits = np.tile(np.log(prior / (1 - prior)), (1000, 1))
    (ne,) = [row for row in answers_of(targets, logits, range(1000)).rows("id", False) if row["metric"] == "ne"]
    assert ne["value"] == pytest.approx(1, abs=1e-7)
    assert binary_entropy(np.array([0.5]))[0] == pytest.approx(np.log(2))


def test_standard_errors_are_those_of_the_patient_bootstrap():
    _, targets, patients, logits = made(num_records=600)
    clusters = cluster_by_patient(list(patients), len(targets))
    losses = log_losses(targets, logits)
    statistics = label_statistics(targets.astype(float), logits, ("auroc",))
    _, drawn = bootstrap(lambda weights: statistics(weights)["auroc"], clusters, 600)
    _, means = bootstrap(lambda weights: (losses.T @ weights) / weights.sum(axis=0), clusters, 600)
    values, influences = auroc_influences(targets, logits)
    assert clustered_error(influences.mean(axis=1), clusters) == pytest.approx(drawn.mean(axis=0).std(), rel=0.1)
    for column in range(3):
        assert clustered_error(influences[:, column], clusters) == pytest.approx(drawn[column].std(), rel=0.12)
        error = clustered_error(mean_influences(losses)[1][:, column], clusters)
        assert error == pytest.approx(means[column].std(), rel=0.12)
    assert abs(influences.mean(axis=0)).max() < 1e-12 and (values > 0.5).all()


def test_records_of_one_patient_are_not_counted_as_independent():
    rng = np.random.default_rng(0)
    value = np.repeat(rng.normal(size=50), 4)[:, None]
    _, influences = mean_influences(value)
    alone = clustered_error(influences[:, 0], cluster_by_patient(None, 200))
    together = clustered_error(influences[:, 0], cluster_by_patient(list(np.repeat(np.arange(50), 4)), 200))
    assert together == pytest.approx(value[::4].std(ddof=1) / np.sqrt(50), rel=1e-9)
    assert together > 1.9 * alone


def test_unknown_labels_count_for_nothing_and_a_label_of_one_class_has_no_auroc():
    _, targets, patients, logits = made()
    known = targets.copy()
    known[::3, 0] = np.nan
    half = answers_of(known, logits, patients, np.full(3, 0.5)).rows("x", True)
    part = answers_of(targets[np.arange(240) % 3 > 0], logits[np.arange(240) % 3 > 0], range(160)).rows("x", True)
    values = {(row["eval_id"], row["metric"]): row for row in half}
    others = {(row["eval_id"], row["metric"]): row["value"] for row in part}
    for metric in ("nll", "auroc"):
        assert values["x/a", metric]["value"] == pytest.approx(others["x/a", metric])
    assert values["x/a", "nll"]["n_eval"] == 160 and values["x", "nll"]["n_eval"] == 240
    known[:, 1] = 0
    rows = answers_of(known, logits, patients, np.full(3, 0.5)).rows("x", True)
    assert "x/b" not in {row["eval_id"] for row in rows if row["metric"] == "auroc"}
    assert {row["metric"] for row in rows if row["eval_id"] == "x/b"} == {"nll", "ne"}


def test_a_path_of_fits_is_that_of_sklearn():
    features, targets, *_ = made(num_records=120)
    targets[::5, 2] = np.nan
    path = fit_path(features, targets)
    for number in (0, 4, 8):
        for column in range(3):
            known = ~np.isnan(targets[:, column])
            strength = 1 / (PENALTIES[number] * known.sum())
            oracle = LogisticRegression(C=strength, tol=1e-9, max_iter=5000).fit(
                features[known], targets[known, column]
            )
            assert path[number, :-1, column] == pytest.approx(oracle.coef_[0], abs=2e-4)
            assert path[number, -1, column] == pytest.approx(oracle.intercept_[0], abs=2e-4)


def test_the_penalty_is_the_one_that_predicts_left_out_patients_best():
    features, targets, patients, _ = made(num_records=150, num_features=30)
    fit = fit_logistic(features, targets, patients, seed=4)
    _, codes = np.unique(patients, return_inverse=True)
    fold = np.random.default_rng(4).permutation(codes.max() + 1)[codes] % NUM_FOLDS
    for column in range(3):
        losses = [
            np.average(
                -cross_val_score(
                    LogisticRegression(C=1 / (penalty * 120), max_iter=2000),
                    features,
                    targets[:, column],
                    cv=PredefinedSplit(fold),
                    scoring="neg_log_loss",
                ),
                weights=np.bincount(fold),
            )
            for penalty in PENALTIES
        ]
        assert abs(np.argmin(losses) - np.flatnonzero(PENALTIES == fit.penalties[column])[0]) <= 1
    assert len(set(fold[codes == codes[0]])) == 1


def test_a_label_that_is_too_rare_to_learn_is_refused():
    features, targets, patients, _ = made()
    targets[:, 1] = np.arange(240) < 3
    with pytest.raises(EcgIntegrityError, match="label 1 of a probe has 3 records of one class among 240"):
        fit_logistic(features, targets, patients, seed=0)


def test_chosen_records_are_nested_and_come_patient_by_patient():
    patients = [f"p{number}" for number in np.random.default_rng(0).integers(0, 40, 200)]
    few, more = (set(choose_records(patients, size, seed=3)) for size in (50, 120))
    assert few < more and (len(few), len(more)) == (50, 120)
    cut = [owner for owner in {patients[row] for row in few} if {r for r in range(200) if patients[r] == owner} - few]
    assert len(cut) <= 1
    assert len(choose_records(patients, 0, seed=3)) == 200
    assert set(choose_records(patients, 50, seed=4)) != few
    with pytest.raises(EcgIntegrityError, match="asks for 201 training records, got 200"):
        choose_records(patients, 201, seed=0)


def test_features_are_scaled_and_projected_by_the_records_that_the_probe_learns_from():
    features, *_ = made(num_features=6)
    features[:, 2] = 5.0
    learned, held = standardise(features[:100], features[100:])
    assert learned[:, 2].any() == held[:, 2].any() == np.False_
    assert np.delete(learned, 2, axis=1).std(axis=0) == pytest.approx(1)
    assert held[:, 0] == pytest.approx((features[100:, 0] - features[:100, 0].mean()) / features[:100, 0].std())
    narrow, narrow_held = project(learned, held, 3)
    oracle = PCA(3, svd_solver="full").fit(learned)
    assert abs(narrow) == pytest.approx(abs(oracle.transform(learned)), abs=1e-9)
    assert abs(narrow_held) == pytest.approx(abs(oracle.transform(held)), abs=1e-9)
    assert project(learned, held, 0)[0] is learned and project(learned, held, 128)[0] is learned
