"""Conversion of study A's published checkpoints to models of this library, and back.

Study A (arXiv:2605.12241) published code and checkpoints of three backbones under five objectives. On the road of an
ECG this folder stands beside the models: it gives a backbone or a pair the weights of one of these checkpoints. A
checkpoint is described by a layout, which holds for every tensor its name, its shape and the library's tensor that it
becomes. Nothing is skipped silently: an unknown or missing tensor is an error, and tensors without a counterpart are
reported with the reason.

Modules, in the order in which to read them:

    convert      the four functions to call: describe, convert a backbone, convert a pair, and the inverse
    file         reads a checkpoint's file without running code that is in it
    layout       the layout of a checkpoint, and the check of all tensors against it
    trunks       layouts of the three backbones
    objectives   layouts of the five objectives
    s4           state spaces, whose C holds for one number of tokens in study A's code
    values       computes all values along a layout, in both directions
    teacher      diagnoses whether a checkpoint's teacher ever followed its student

Example:
    >>> import ecg_hf
    >>> from ecg_hf.models.conversion.convert import convert_study_a_pair, describe_study_a, to_study_a
    >>> kind = ecg_hf.PAIRS["s4-cpc"]
    >>> pair = kind(kind.config_class(**kind.backbone_class.sizes["20k"]))
    >>> checkpoint = to_study_a(pair, num_tokens=300)
    >>> describe_study_a(checkpoint).pair
    's4-cpc'
    >>> convert_study_a_pair(checkpoint).num_parameters() == pair.num_parameters()
    True
"""
