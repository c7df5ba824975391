"""The models: backbones, pretraining objectives, their pairs, and classifiers.

A model reads a batch of signals (B, L, T) that its feature extractor, the input contract of the model, has prepared. A
backbone turns signals into tokens (B, N, D): its stem embeds the signal, its layers mix the tokens over time. An
objective turns a backbone and a batch into a loss. A pair is one backbone with one objective, the model of a
pretraining run; after pretraining, its objective is discarded. A classifier is a backbone with a head, for fine-tuning
and predictions. Backbones, pairs and classifiers are `PreTrainedModel` classes, saved, loaded and published like any
model of transformers; `AutoModel`, `AutoModelForPreTraining` and `AutoModelForSequenceClassification` load them. Models
and data do not import each other; they meet in `training`.

In reading order:

- `backbones`: the backbones, their base class and their parts.
- `objectives`: the objectives, their base class and their parts.
- `pairs`: `PAIRS`, every backbone with every objective.
- `heads`, `classification`: heads with their loss, and `CLASSIFIERS`, the backbones with a head.
- `config`: the base class of all configs.
- `export`: a backbone or a classifier as one ONNX file.
- `conversion`: the published checkpoints of study A (arXiv:2605.12241) as models of the library, and back.

Example:
    >>> import ecg_hf
    >>> row = next(iter(ecg_hf.load_corpus("synthetic", split="test", streaming=True, num_records=20)))
    >>> extractor = ecg_hf.EcgFeatureExtractor(sampling_rate=240, num_samples=600)
    >>> features = extractor(ecg_hf.row_to_signal(row), sampling_rate=row["sampling_rate"], return_tensors="pt")
    >>> kind = ecg_hf.CLASSIFIERS["s4-cpc"]
    >>> classifier = kind(kind.config_class(**kind.backbone_class.sizes["20k"], num_labels=5))
    >>> classifier(**features).logits.shape
    torch.Size([1, 5])
"""
