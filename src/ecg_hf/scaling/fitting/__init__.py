"""Fits of scaling laws to runs, their uncertainty, and the choice between forms.

The runs of one cell, evaluated on one test set of ECGs, become points, each with N, D and a loss. A fit finds the
parameters of a law by robust least squares on the logarithm of the loss, from many starting points. The bootstrap
refits the law to resampled runs, a profile refits it with one parameter held, and `compare` ranks several forms.
`Fit.flags` warns if a fit is unstable, at a bound, or not determined by its points.

Modules, in the order in which to read them:

- `points`: `Points`, and `gather`, which takes them from a run table or from columns.
- `fit`: `fit`, from points to a law.
- `result`: `Fit`, the fitted law, which predicts, prints, and is saved as JSON.
- `intervals`: `bootstrap`, and intervals of parameters and of derived quantities.
- `profiles`: `profile`, the profile likelihood of one parameter.
- `choice`: `compare`, which ranks forms, and `holdout`, which predicts the largest runs.
- `cell_fit`: the fit that the report of a study makes for each cell, and its sensitivity.
- `descent`: the search for many parameter vectors at once.
- `orthogonal`: the fit of a loss-to-loss law with noise in both losses.

Example:
    >>> import numpy as np
    >>> from ecg_hf.scaling import bootstrap, fit
    >>> d = np.geomspace(5e3, 3e5, 8)
    >>> noise = 1 + 0.01 * np.random.default_rng(0).normal(size=8)
    >>> found = fit({"D": d, "loss": 2 * d**-0.2 * noise}, form="pow", x=("D",))
    >>> print(found.formula, found.flags)
    L = A D^-alpha ()
    >>> print(bootstrap(found, num_replicates=50).estimate("alpha"))
    alpha: 0.198 (95 % 0.196 to 0.202)
"""
