"""Probes: heads fitted to the frozen features of a backbone.

A backbone that does not learn gives the same tokens in every epoch. So it runs once over the disjoint tiles of all
records, its features are kept in a file, and every probe of the same model and corpus starts from there.

Modules, in the order in which to read them:

    frozen_features   the features of all tiles of a split, computed once
    feature_store     the files in which they are kept
    tiles             examples of cached features, and a head alone as a module
    linear            the linear probe, solved to its optimum: `solve_head`
    logistic          logistic regression under an L2 penalty, also for the probes of a sweep

Example:
    >>> import numpy as np
    >>> from ecg_hf.evaluation.probes.logistic import fit_logistic
    >>> generator = np.random.default_rng(0)
    >>> features = generator.normal(size=(200, 3))
    >>> targets = (features[:, :1] + generator.normal(size=(200, 1)) > 0).astype(np.float32)
    >>> fit = fit_logistic(features, targets, np.arange(200), seed=0)
    >>> fit.weights.shape, bool(fit.weights[0, 0] > 1)
    ((3, 1), True)
"""
