"""Converts a pretraining checkpoint of study A's code to a model folder that the Auto classes load.

python scripts/convert.py jepa_e10.ckpt OUT
python scripts/convert.py finetuned.safetensors OUT --pair none --normalization none
"""

import argparse
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ecg_hf import PAIRS, EcgFeatureExtractor
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
from ecg_hf.output.files import partial_folder, replace_folder, sha256_of, write_json
from ecg_hf.signals.feature_extraction import PTBXL_MEAN, PTBXL_STD
from ecg_hf.signals.record import LEADS

SAMPLING_RATE = 240  # Hz
STRIDE = 2  # samples per token of the study's stem
# What study A's published vectors stand for, position by position; it applies them to leads in the order of LEADS.
STUDY_A_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "III", "aVR", "aVL", "aVF")
NORMALIZATIONS = {
    "none": "mV as they are, as study A pretrains cpc and fine-tunes and probes everything",
    "ptbxl": "statistics of PTB-XL, each for its own lead. Study A's own vectors are in another lead order (I, II, V1 "
    "to V6, III, aVR, aVL, aVF) than its leads, so the weights saw other scales; --normalization study_a gives those",
    "study_a": "study A's own vectors, in another lead order (I, II, V1 to V6, III, aVR, aVL, aVF) than its leads, as "
    "the weights saw them; --normalization ptbxl gives each lead its own",
}


def make_extractor(normalization: str, num_samples: int) -> EcgFeatureExtractor:
    """Builds the input contract: 12 leads in the usual order at 240 Hz, at least `num_samples` samples, in mV."""
    contract: dict[str, Any] = {"missing_leads": "derive", "missing_samples": "interpolate"}
    if normalization != "none":
        mean, std = (dict(zip(LEADS, values, strict=True)) for values in (PTBXL_MEAN, PTBXL_STD))
        order = STUDY_A_LEADS if normalization == "study_a" else LEADS
        contract |= {"mean": [mean[lead] for lead in order], "std": [std[lead] for lead in order]}
        contract["normalization"] = "corpus"
    return EcgFeatureExtractor(sampling_rate=SAMPLING_RATE, num_samples=num_samples, **contract)


def choose_normalization(content: StudyAContent, asked: str) -> str:
    """Says what the weights were trained on, where it was not asked for."""
    if asked != "auto":
        return asked
    if content.pair is None:
        raise SystemExit("without its objective, nothing says how a model's input was normalised: say --normalization")
    return "none" if content.pair.endswith("-cpc") else "study_a"


def convert(tensors: dict[str, Any], content: StudyAContent, arguments: argparse.Namespace) -> PreTrainedModel:
    """Converts the pair that was asked for, or the backbone alone."""
    if content.pair is None and arguments.pair in ("auto", "none"):
        causal = None if arguments.causal is None else arguments.causal == "true"
        return convert_study_a(tensors, causal=causal)
    if arguments.pair not in ("auto", content.pair):
        raise SystemExit(f"expected a checkpoint of {arguments.pair}, got {content.pair}: say --pair auto or none")
    return convert_study_a_pair(tensors, teacher=arguments.teacher)


def report(content: StudyAContent, model: PreTrainedModel, normalization: str) -> list[str]:
    """Says what was converted, what was not, what is known of the teacher, and what the input must be."""
    num_parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    lines = [f"converted: {type(model).__name__}, {num_parameters:,} trainable parameters"]
    if type(model) in PAIRS.values():
        for reason in sorted(set(content.left_out.values())):
            names = [name for name, why in content.left_out.items() if why == reason]
            lines.append(f"left out, {reason}: {summarise(names)}")
        if content.made_anew:
            lines.append(f"made anew, not in the checkpoint: {', '.join(content.made_anew)}")
        if content.teacher is not None:
            lines.append(f"teacher from now on: {model.config.teacher}")
    else:
        lines.append("left out: everything but the backbone")
    lines.append(f"diagnosis of the teacher: {content.teacher or 'there is none in the checkpoint'}")
    return [*lines, f"normalisation: {normalization}, {NORMALIZATIONS[normalization]}"]


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a .ckpt of tensors alone, or a .safetensors file")
    parser.add_argument("folder", type=Path, help="a new folder, which becomes the model")
    parser.add_argument("--pair", default="auto", help="auto, none (the backbone alone), or what it must be: s4-jepa")
    parser.add_argument("--normalization", default="auto", choices=["auto", *NORMALIZATIONS])
    parser.add_argument("--teacher", choices=["ema", "frozen_random"], help="where the diagnosis is unclear")
    parser.add_argument("--causal", choices=["true", "false"], help="of a transformer without its SSL head")
    return parser.parse_args()


def main() -> None:
    """Converts, writes the folder, and says what became of everything."""
    logging.basicConfig(level=logging.ERROR)
    arguments = parse()
    folder = arguments.folder
    if folder.exists():
        raise SystemExit(f"expected a new folder, got {folder}, which exists: name another one")
    try:
        tensors = load_study_a(arguments.checkpoint)
        content = describe_study_a(tensors, backbone_only=arguments.pair == "none")
        normalization = choose_normalization(content, arguments.normalization)
        model = convert(tensors, content, arguments)
        if model.config.num_leads != len(LEADS):
            raise SystemExit(
                f"expected a model of {len(LEADS)} leads, got one of {model.config.num_leads}: convert it in code"
            )
    except EcgCheckpointError as error:
        raise SystemExit(f"{arguments.checkpoint}: {error}") from error
    partial = partial_folder(folder)
    model.save_pretrained(partial)
    make_extractor(normalization, STRIDE * (content.num_tokens or NUM_TOKENS)).save_pretrained(partial)
    lines = report(content, model, normalization)
    source = {"name": arguments.checkpoint.name, "sha256": sha256_of(arguments.checkpoint)}
    write_json(partial / "conversion.json", {"source": source, "content": asdict(content), "report": lines})
    replace_folder(partial, folder, last="conversion.json")
    print("\n".join(lines))
    print(f"model folder: {folder}")


if __name__ == "__main__":
    main()
