"""The evaluations of a trained model in a sweep, each of which adds rows to the run table.

A model is evaluated in two ways. In distribution, it gets crops of ECGs from patients of its own corpora that it has
not seen, and the loss is that of its objective. Out of distribution, its backbone is frozen and its features are
computed for the records of a task on another population; a logistic regression on these features, the probe, predicts
the labels of the task. Scaling laws need losses, so both report a loss with the standard error that its patients allow.

Modules, in the order in which to read them:

- `question`: `Evaluation`, the definition of an evaluation in a grid.
- `in_distribution`: the loss of a run on unseen patients of its own corpora.
- `probes`: probes of the frozen backbone on a task.
- `scores`: `Answers`, which computes nll, ne (normalised entropy) and auroc with standard errors.

Example:
    >>> import numpy as np
    >>> from ecg_hf.evaluation.probes.logistic import log_losses
    >>> from ecg_hf.scaling.sweep.evaluations.scores import Answers
    >>> targets = np.array([[1], [1], [0], [0], [0], [1]], np.float32)
    >>> logits = np.array([[2.0], [1.0], [-1.0], [-2.0], [0.5], [0.2]])
    >>> patients = ["a", "a", "b", "c", "d", "e"]
    >>> answers = Answers(("AFIB",), targets, log_losses(targets, logits), logits, np.array([0.4]), patients)
    >>> for row in answers.rows("other-hospital", per_label=False):
    ...     print(f"{row['metric']}: {row['value']:.3f}, standard error {row['value_se']:.3f}")
    nll: 0.409, standard error 0.143
    ne: 0.607, standard error 0.212
    auroc: 0.889, standard error 0.155
"""
