"""The backbones, networks that turn signals (B, L, T) into tokens (B, N, D).

A backbone embeds and encodes. `embed` runs the stem, which turns leads and samples into tokens; `encode` runs the
layers, which mix the tokens over time. Between the two, an objective may hide tokens. With `causal=True`, token n
depends only on tokens up to n. Each backbone offers sizes from about 20 thousand to 200 million parameters, in the dict
`sizes` of its class; a new backbone is one file and one line in `registry.BACKBONES`.

In reading order:

- `base`: the base classes of backbones, their configs and outputs, and of all models.
- `stem`: convolutional, linear and patch stems.
- `s4`: state spaces (S4), the backbone of most examples.
- `kernel`, `dynamics`, `chunks`, `spectral`: the state space of an S4 layer, and two ways to run it.
- `transformer`: attention with rotary or sinusoidal positions.
- `cnn`: the convolutional network Net1D of study A (arXiv:2605.12241).
- `resnet`: the residual network of the CODE study, the only backbone that downsamples between its layers.
- `convolution`: the padded convolution of both convolutional backbones.

Example:
    >>> import torch
    >>> from ecg_hf.registry import BACKBONES, load
    >>> signal = torch.randn(2, 12, 600)  # 2 crops of 12 leads, 2.5 s at 240 Hz
    >>> for name in BACKBONES:
    ...     kind = load(BACKBONES, name)
    ...     backbone = kind(kind.config_class(**kind.sizes["20k"]))
    ...     print(name, tuple(backbone(signal).last_hidden_state.shape))
    cnn (2, 300, 24)
    resnet (2, 38, 18)
    s4 (2, 300, 38)
    transformer (2, 19, 16)
"""
