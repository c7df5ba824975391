"""The objectives, which turn a backbone and a batch of signals into a loss.

An objective belongs to a pair and is discarded after pretraining, with its predictor, teacher and codebooks. CPC
predicts later tokens of the stem; masked reconstruction predicts hidden samples. JEPA, data2vec, DinoSR and HuBERT++
have a teacher, a slow copy of the backbone that sees the whole signal: from a masked signal, the backbone predicts the
teacher's tokens (JEPA, data2vec) or their codes (DinoSR, HuBERT++). Supervised pretraining is the baseline. The output
of an objective holds a loss and metrics, some of which show a collapse of the tokens. A new objective is one file and
one line in `registry.OBJECTIVES`.

In reading order:

- `base`: the base classes of objectives, their config fields and their output.
- `supervised`, `masked`, `cpc`: the objectives without a teacher.
- `teacher`: the teacher, and the common part of the objectives with one.
- `jepa`, `data2vec`, `dinosr`, `hubertpp`: the objectives with a teacher.
- `masking`, `predictor`, `codebook`: masks over tokens, predictors of targets, codes and their balancing.
- `health`, `distributed`: metrics of collapse, sums over processes.

Example:
    >>> import torch
    >>> from ecg_hf import PAIRS
    >>> from ecg_hf.registry import OBJECTIVES
    >>> for name in OBJECTIVES:
    ...     kind = PAIRS[f"s4-{name}"]
    ...     pair = kind(kind.config_class(**kind.backbone_class.sizes["20k"], num_labels=5))
    ...     loss = pair(torch.randn(2, 12, 600), labels=torch.ones(2, 5)).loss
    ...     print(name, loss.shape == (), [part for part, _ in pair.objective.named_children()])
    cpc True ['predictor']
    data2vec True ['teacher', 'predictor']
    dinosr True ['teacher', 'predictor', 'codebooks']
    hubertpp True ['teacher', 'head', 'codebooks']
    jepa True ['teacher', 'predictor']
    masked True ['decoder']
    supervised True ['head']
"""
