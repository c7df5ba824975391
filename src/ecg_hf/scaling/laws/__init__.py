"""The forms of scaling law, which predict a loss from model size, amount of data and similar inputs.

A law states how the loss of ECG models falls with N parameters and D training records, for example
L = E + A N^-alpha + B D^-beta. Each form knows its formula, its gradient, the bounds of its parameters, and good
starting points for a fit. The laws do not depend on runs and tables; `ecg_hf.scaling.fitting` fits them to data.

Modules, in the order in which to read them:

- `base`: `Law`, the interface of a form, and `Frame`, the origin and the unit of its working coordinates.
- `power_laws`: sums of power laws: the forms "pow", "pow+E", "chinchilla", "tied" and "labels".
- `kaplan`: the form for early-stopped training, "kaplan".
- `saturating`: the form that levels off at the loss at chance, "saturating".
- `repeated`: the form for several epochs over the same records, "repeated".
- `broken`: the form with a break between two exponents, "broken".
- `shifted`: the form for one loss as a function of another, "loss-to-loss".
- `names`: `LAWS`, all forms by name, and `get`.

Example:
    >>> from ecg_hf.scaling.laws.names import get
    >>> law = get("chinchilla")
    >>> print(law.formula)
    L = E + A N^-alpha + B D^-beta
    >>> params = {"A": 3.0, "B": 4.0, "E": 0.05, "alpha": 0.25, "beta": 0.30}
    >>> law.predict(params, [2e4, 2e6], 5000).round(2)  # N of two models, D of both
    array([0.61, 0.44])
"""
