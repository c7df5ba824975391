"""Conversion of a checkpoint file of study A's code to a model folder, with its input contract and a report."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.models.conversion.convert import (
    NUM_TOKENS,
    StudyAContent,
    convert_study_a,
    convert_study_a_pair,
    describe_study_a,
    load_study_a,
)
from ecg_hf.models.conversion.layout import summarise
from ecg_hf.models.pairs import PAIRS
from ecg_hf.output.files import partial_folder, replace_folder, sha256_of, write_json
from ecg_hf.signals.feature_extraction import PTBXL_MEAN, PTBXL_STD, EcgFeatureExtractor
from ecg_hf.signals.record import LEADS

SAMPLING_RATE = 240  # Hz
STRIDE = 2  # samples per token of the study's stem
# Leads of study A's published vectors, position by position; study A applies them to leads in the order of LEADS.
STUDY_A_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "III", "aVR", "aVL", "aVF")
NORMALIZATIONS = {
    "none": "mV as they are, as study A pretrains cpc and fine-tunes and probes everything",
    "ptbxl": "statistics of PTB-XL, each for its own lead. Study A's own vectors are in another lead order (I, II, V1 "
    "to V6, III, aVR, aVL, aVF) than its leads, so the weights saw other scales; --normalization study_a gives those",
    "study_a": "study A's own vectors, in another lead order (I, II, V1 to V6, III, aVR, aVL, aVF) than its leads, as "
    "the weights saw them; --normalization ptbxl gives each lead its own",
}


def convert_checkpoint(
    checkpoint: Path,
    folder: Path,
    *,
    pair: str = "auto",
    normalization: str = "auto",
    teacher: str | None = None,
    causal: bool | None = None,
) -> list[str]:
    """Converts a checkpoint file to a model folder that the Auto classes load.

    Args:
        checkpoint: File of tensors, .ckpt or .safetensors.
        folder: New folder, which becomes the model.
        pair: "auto", "none" for the backbone alone, or the pair that the checkpoint must hold.
        normalization: Normalisation of the input: "auto", or a key of `NORMALIZATIONS`.
        teacher: "ema" or "frozen_random", where the diagnosis of the teacher is unclear.
        causal: Whether a transformer is causal, where its objective's head does not tell.

    Returns:
        The lines of the report: what was converted, left out and made anew, and what the input must be.

    Raises:
        ValueError: If the folder exists, or an argument does not fit the checkpoint.
        EcgCheckpointError: If the file is not a checkpoint of study A's code.
    """
    if folder.exists():
        raise ValueError(f"expected a new folder, got {folder}, which exists: name another one")
    if normalization not in ("auto", *NORMALIZATIONS):
        raise ValueError(f"normalization must be auto, {', '.join(NORMALIZATIONS)}, got {normalization!r}")
    try:
        tensors = load_study_a(checkpoint)
        content = describe_study_a(tensors, backbone_only=pair == "none")
        normalization = _choose_normalization(content, normalization)
        model = _convert(tensors, content, pair, teacher, causal)
    except EcgCheckpointError as error:
        raise EcgCheckpointError(f"{checkpoint}: {error}") from error
    if model.config.num_leads != len(LEADS):
        raise ValueError(
            f"expected a model of {len(LEADS)} leads, got one of {model.config.num_leads}: convert it in code"
        )
    partial = partial_folder(folder)
    model.save_pretrained(partial)
    make_extractor(normalization, STRIDE * (content.num_tokens or NUM_TOKENS)).save_pretrained(partial)
    lines = report(content, model, normalization)
    source = {"name": checkpoint.name, "sha256": sha256_of(checkpoint)}
    write_json(partial / "conversion.json", {"source": source, "content": asdict(content), "report": lines})
    replace_folder(partial, folder, last="conversion.json")
    return lines


def make_extractor(normalization: str, num_samples: int) -> EcgFeatureExtractor:
    """Builds the input contract: 12 leads in the usual order at 240 Hz, at least `num_samples` samples, in mV."""
    contract: dict[str, Any] = {"missing_leads": "derive", "missing_samples": "interpolate"}
    if normalization != "none":
        mean, std = (dict(zip(LEADS, values, strict=True)) for values in (PTBXL_MEAN, PTBXL_STD))
        order = STUDY_A_LEADS if normalization == "study_a" else LEADS
        contract |= {"mean": [mean[lead] for lead in order], "std": [std[lead] for lead in order]}
        contract["normalization"] = "corpus"
    return EcgFeatureExtractor(sampling_rate=SAMPLING_RATE, num_samples=num_samples, **contract)


def report(content: StudyAContent, model: PreTrainedModel, normalization: str) -> list[str]:
    """Describes what was converted and what was not, the teacher, and the input."""
    num_parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    lines = [f"converted: {type(model).__name__}, {num_parameters:,} trainable parameters"]
    if type(model) in PAIRS.values():
        for reason in sorted(set(content.left_out.values())):
            names = [name for name, cause in content.left_out.items() if cause == reason]
            lines.append(f"left out, {reason}: {summarise(names)}")
        if content.made_anew:
            lines.append(f"made anew, not in the checkpoint: {', '.join(content.made_anew)}")
        if content.teacher is not None:
            lines.append(f"teacher from now on: {model.config.teacher}")
    else:
        lines.append("left out: everything but the backbone")
    lines.append(f"diagnosis of the teacher: {content.teacher or 'there is none in the checkpoint'}")
    return [*lines, f"normalisation: {normalization}, {NORMALIZATIONS[normalization]}"]


def _choose_normalization(content: StudyAContent, asked: str) -> str:
    """Returns the normalisation that the weights were trained with, unless one was asked for."""
    if asked != "auto":
        return asked
    if content.pair is None:
        raise ValueError("without its objective, nothing says how a model's input was normalised: say --normalization")
    return "none" if content.pair.endswith("-cpc") else "study_a"


def _convert(
    tensors: dict[str, Any], content: StudyAContent, pair: str, teacher: str | None, causal: bool | None
) -> PreTrainedModel:
    if content.pair is None and pair in ("auto", "none"):
        return convert_study_a(tensors, causal=causal)
    if pair not in ("auto", content.pair):
        raise ValueError(f"expected a checkpoint of {pair}, got {content.pair}: say --pair auto or none")
    return convert_study_a_pair(tensors, teacher=teacher)
