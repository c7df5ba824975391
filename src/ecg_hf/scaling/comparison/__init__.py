"""Comparisons of the fitted laws of two cells, and the compute that a study or a model needs.

A study asks how many times more parameters, or ECG records, one cell needs than another for the same loss, where the
cells are, for example, residual networks and Transformers, or supervised and self-supervised training. "Efficiency" has
several readings, which differ on the same data, so each quantity here has a name and a definition of its own.

Modules, in the order in which to read them:

- `multipliers`: `iso_loss`, the ratio of inputs at equal loss as a curve, and the ratio of exponents.
- `joint`: `joint_multiplier`, one factor for two cells, and the test whether one factor is enough.
- `crossing`: `crossover`, the input beyond which another cell has the lower loss.
- `ladder`: a multiplier read off the trained runs without a law.
- `bottleneck`: whether parameters or records limit the loss.
- `loss_to_loss`, `paired`: one loss as a function of another, for the same or for paired runs.
- `transfer`: five definitions of transfer efficiency.
- `flops`, `frontier`: the cost of a forward pass, and the best N and D for a budget of compute.
- `design`: `plan`, the runs of a cell to train.

Example:
    >>> import numpy as np
    >>> from ecg_hf.scaling import crossover, fit, iso_loss
    >>> n = np.geomspace(2e4, 2e7, 8)
    >>> resnet = fit({"N": n, "loss": 0.05 + 3 * n**-0.25}, form="pow+E")
    >>> transformer = fit({"N": n, "loss": 0.04 + 4 * n**-0.25}, form="pow+E")
    >>> iso_loss(resnet, transformer).ratio[[0, -1]].round(2)  # Transformer over residual network
    array([2.71, 1.52])
    >>> print(crossover(resnet, transformer))
    crossover on N: 1e+08, outside the data, an extrapolation; beyond it b has the lower loss
"""
