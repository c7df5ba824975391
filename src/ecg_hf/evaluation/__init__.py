"""Evaluation: fine-tuning and probing of pretrained models, and scores with intervals.

On the road of an ECG, a pretrained model comes here to be asked a question: a task on a corpus. A head is fitted to the
frozen features of its backbone (a probe), or the whole model is fine-tuned. Every record of the validation and test
split is then scored by the mean over its tiles, and every metric has an interval from resampled patients, since the
records of one patient resemble each other.

Modules, in the order in which to read them:

    arguments         the arguments of a run
    finetune          the run itself, from a pretrained model to results.json
    inputs            task, feature extractor and corpus of a run
    examples          crops to train on and tiles to score
    probes            frozen features of all tiles, cached, and the heads that are fitted to them
    trainer           the iterative modes, with transformers' Trainer; `resumption` finds the checkpoint to resume from
    untrained         the untrained twin of a model, which a pretrained model has to beat
    results           results.json, predictions.parquet and plots
    metrics           the metrics and their intervals: `evaluate_predictions`
    bootstrap         resampled patients, under which `weighted_scores` computes the scores of each label
    plots             ROC curves and calibration

Example:
    >>> import numpy as np
    >>> from ecg_hf.evaluation.metrics import evaluate_predictions
    >>> generator = np.random.default_rng(0)
    >>> labels, patients = generator.integers(0, 2, size=(400, 1)), np.arange(400) // 2
    >>> probabilities = 0.3 * labels + 0.7 * generator.random((400, 1))
    >>> score = evaluate_predictions(labels, probabilities, patients, label_names=["AF"])["overall"]["macro_auroc"]
    >>> print(f"{score['value']:.3f} ({score['low']:.3f}-{score['high']:.3f}), {score['num_patients']} patients")
    0.862 (0.830-0.894), 200 patients
"""
