"""Model cards: writes the Markdown card of the weights in a run folder, with all numbers taken from its files."""

import inspect
import json
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined, Undefined

from ecg_hf.hub.lineage import Lineage, read_lineage
from ecg_hf.registry import BACKBONES, OBJECTIVES, load

HUB_LICENCES = {
    "afl-3.0", "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0", "lgpl-3.0", "mit", "mpl-2.0", "odbl", "odc-by", "pddl",
    "unlicense",
}  # fmt: skip
# Name of each metric on the Hub, and its name for readers.
METRICS = {
    "macro_auroc": ("roc_auc", "macro AUROC"),
    "macro_average_precision": ("average_precision", "macro average precision"),
    "brier": ("brier_score", "Brier score"),
    "ece": ("expected_calibration_error", "expected calibration error"),
    "mae": ("mae", "mean absolute error, mean over labels"),
    "pooled_mae": ("mae", "mean absolute error"),
}
LABEL_SCORES = {"auroc": "AUROC", "average_precision": "Average precision", "mae": "Mean absolute error"}
CALIBRATION = ("brier", "ece")
# An external validation needs at least 100 events: Collins, Ogundimu and Altman 2016.
ENOUGH_EVENTS = 100
# The library's own threshold between a demonstration of the software and weights worth studying.
ENOUGH_PATIENTS = 1000


def model_card(
    folder: Path, repo_id: str, *, licence: str, licence_link: str | None = None, results: Sequence[Path] = ()
) -> ModelCard:
    """Writes the card of the weights in a run folder.

    Args:
        folder: Folder that a run wrote; see `read_lineage`.
        repo_id: Name of the repository on the Hub, such as "ecg-hf/s4-cpc-ptbxl-1m".
        licence: Licence of the weights: the Hub's name for it, or another name together with `licence_link`.
        licence_link: Address of the text of the licence.
        results: Paths of results.json of models that were fine-tuned from these weights.

    Returns:
        The card, with its YAML header.

    Raises:
        ValueError: If a licence that the Hub does not know comes without a link.
        EcgError: If the lineage is incomplete or inconsistent; see `read_lineage`.
    """
    lineage = read_lineage(folder, results)
    return render_card(lineage, repo_id, licence=licence, licence_link=licence_link)


def render_card(lineage: Lineage, repo_id: str, *, licence: str, licence_link: str | None = None) -> ModelCard:
    """Writes the card of weights whose lineage has been read; the arguments are those of `model_card`."""
    metadata = card_metadata(lineage, repo_id, licence, licence_link)
    # `inline` keeps the texts of the files from breaking the card's tables and sections.
    environment = Environment(undefined=StrictUndefined, finalize=inline, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        json=json.dumps, known=recorded, decimal=_decimal, interval=_interval, score=_score, metric_name=_metric_name
    )
    cited = lineage.sources + [corpus for result in lineage.results for corpus in result["provenance"]["corpora"]]
    template = environment.from_string(files("ecg_hf.hub").joinpath("model_card.md").read_text(encoding="utf-8"))
    backbone, _, objective = lineage.run["pair"].partition("-")
    kinds = [load(BACKBONES, backbone)] + ([load(OBJECTIVES, objective)] if objective else [])
    text = template.render(
        repo_id=repo_id,
        title=repo_id.split("/")[-1],
        auto_class="AutoModel" if lineage.run["kind"] == "pretraining" else "AutoModelForSequenceClassification",
        run=lineage.run,
        model=lineage.model,
        earlier=lineage.runs[:-1],
        backbone=backbone,
        objective=objective,
        contract=lineage.contract,
        sources=lineage.sources,
        closed_sources=lineage.closed_sources,
        label_scores=LABEL_SCORES,
        citations={corpus["name"]: corpus["citation"] for corpus in cited if corpus["citation"]},
        results=lineage.results,
        calibration=_calibration(lineage),
        limits=_limits(lineage),
        contamination=_contamination(lineage),
        method_sources=[_source(kind) for kind in kinds],
        sha256=lineage.sha256,
    )
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{text}\n")


def card_metadata(lineage: Lineage, repo_id: str, licence: str, licence_link: str | None = None) -> ModelCardData:
    """Fills the YAML header that the Hub's search and pages use; the arguments are those of `model_card`."""
    known = licence.lower() in HUB_LICENCES
    if not known and licence_link is None:
        raise ValueError(f"licence {licence!r} is not one the Hub knows; give licence_link, the address of its text")
    num_leads = lineage.model.get("num_leads")
    evaluations = [entry for result in lineage.results for entry in _evaluations(result)]
    return ModelCardData(
        library_name="ecg_hf",
        license=licence.lower() if known else "other",
        license_name=None if known else licence,
        license_link=licence_link,
        pipeline_tag="feature-extraction" if lineage.run["kind"] == "pretraining" else None,
        tags=["ecg", "electrocardiogram", "medical", "time-series", f"{num_leads}-lead", lineage.run["pair"]],
        datasets=sorted({corpus["name"] for corpus in lineage.sources}),
        metrics=sorted({entry.metric_type for entry in evaluations}) or None,
        base_model=_base_model(lineage),
        model_name=repo_id.split("/")[-1],
        eval_results=evaluations or None,
    )


def _evaluations(result: dict[str, Any]) -> list[EvalResult]:
    corpus = result["provenance"]["corpora"][0]
    classifies = "macro_auroc" in result["scores"]["test"]
    return [
        EvalResult(
            task_type="multilabel-classification" if classifies else "regression",
            task_name=result["task"],
            dataset_type=corpus["name"],
            dataset_name=f"{corpus['name']} {corpus['data_version']}",
            dataset_config=corpus["config"],
            dataset_split="test",
            metric_type=METRICS.get(metric, (metric, metric))[0],
            # The Hub shows the metric's name beside the value, so the name carries the interval and the numbers.
            metric_name=f"{_metric_name(metric)} ({result['mode']}; 95 % interval {_interval(score)}; "
            f"{recorded(score['num_records'])} records, patients: {recorded(score['num_patients'])})",
            metric_value=score["value"],
        )
        for metric, score in result["scores"]["test"].items()
        if score["value"] is not None
    ]


def _base_model(lineage: Lineage) -> str | None:
    base = lineage.results[0].get("base_model") if lineage.run["kind"] == "finetuning" else None
    is_hub_id = bool(base and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", base) and not Path(base).exists())
    return base if is_hub_id else None


def _calibration(lineage: Lineage) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (f"{result['task']} ({result['mode']})", metric, result["scores"]["test"][metric])
        for result in lineage.results
        for metric in CALIBRATION
        if metric in result["scores"]["test"]
    ]


def _limits(lineage: Lineage) -> list[str]:
    limits = []
    for corpus in lineage.sources:
        if not corpus["homepage"]:
            limits.append(f"{corpus['name']} is made up by the library: its scores say nothing of real ECGs.")
        train = corpus["splits"].get("train", {})
        patients = train.get("num_patients") or None
        if not corpus.get("patient_level") or patients is None:
            limits.append(
                f"{corpus['name']} does not say which records belong to one patient: its splits may share patients, "
                "and its intervals are too narrow."
            )
        if (patients or train.get("num_records") or 0) < ENOUGH_PATIENTS:
            limits.append(
                f"The {corpus['role']} data have {recorded(patients)} patients and "
                f"{recorded(train.get('num_records'))} records of {corpus['name']}, fewer than "
                f"{ENOUGH_PATIENTS:,} patients: these weights show that the software works, not what the method can do."
            )
    return limits + [limit for result in lineage.results for limit in _result_limits(result)]


def _result_limits(result: dict[str, Any]) -> list[str]:
    name, limits = f"{result['task']} ({result['mode']})", []
    tested = next(iter(result["scores"]["test"].values()))
    if (tested["num_patients"] or tested["num_records"]) < ENOUGH_EVENTS:
        limits.append(
            f"{name} was tested on {recorded(tested['num_records'])} records (patients: "
            f"{recorded(tested['num_patients'])}): too few to rank models or to trust any value by itself."
        )
    rows = result.get("per_label", {}).get("test", [])
    rare = [row for row in rows if row.get("num_positive", ENOUGH_EVENTS) < ENOUGH_EVENTS]
    if rare:
        limits.append(
            f"{name}: {len(rare)} of {len(rows)} labels have fewer than {ENOUGH_EVENTS} positive test records, down to "
            f"{min(row['num_positive'] for row in rare)}; their scores are uncertain whatever the interval says."
        )
    if undefined := [row["label"] for row in rows if "auroc" in row and _score(row["auroc"]) == "undefined"]:
        limits.append(f"{name}: the test split cannot score {len(undefined)} labels: {', '.join(undefined)}.")
    return limits + [f"{name}: {note}" for note in result.get("notes", [])]


def _contamination(lineage: Lineage) -> list[str]:
    # Splits that the weights have learned from; a fine-tuning run only scores its own test split.
    runs = [lineage.run] if lineage.run["kind"] == "pretraining" else lineage.runs[:-1]
    before = {
        (corpus["name"], split)
        for run in runs
        for corpus in run["corpora"]
        for split in corpus["splits"]
        if run["kind"] == "pretraining" or split != "test"
    }
    sentences = []
    for result in lineage.results:
        for corpus in result["provenance"]["corpora"]:
            splits = sorted(split for name, split in before if name == corpus["name"])
            verdict = (
                "the test scores are contaminated"
                if "test" in splits
                else "the test split was held out, but it comes from the same source"
            )
            seen = f"pretraining used {corpus['name']} ({', '.join(splits)}): {verdict}"
            sentences.append(f"{result['task']}: {seen if splits else 'no pretraining on ' + corpus['name']}.")
    names = ", ".join(sorted({corpus["name"] for corpus in lineage.sources}))
    # Two modes of one task produce the same sentence.
    return [*dict.fromkeys(sentences), f"The weights have seen {names}: no score on these corpora is external."]


def _source(kind: type) -> str:
    _, _, source = (inspect.getdoc(kind) or "").partition("Source:\n")
    text = " ".join(source.split("\n\n")[0].split())
    return f"{kind.__name__}: {text}" if text else f"{kind.__name__}: see the documentation of {kind.__module__}"


def inline(value: Any) -> str:
    r"""Puts a value on one line without a bare "|", so that it can neither break a table nor begin a section.

    Example:
        >>> print(inline("a|b\n# c"))
        a\|b # c
    """
    return " ".join(re.sub(r"(?<!\\)\|", r"\|", str(value)).split())


def recorded(value: Any) -> str:
    """Formats a number for readers; a missing value becomes "not recorded".

    Example:
        >>> recorded(21837), recorded(0.123456), recorded(None)
        ('21,837', '0.1235', 'not recorded')
    """
    if value is None or isinstance(value, Undefined):
        return "not recorded"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _decimal(value: float | None) -> str:
    return "undefined" if value is None or math.isnan(value) else f"{value:.3f}"


def _interval(score: dict[str, Any]) -> str:
    return f"{_decimal(score['low'])} to {_decimal(score['high'])}"


def _score(score: Any) -> str:
    return f"{score['value']:.3f} ({_interval(score)})" if score and score["value"] is not None else "undefined"


def _metric_name(metric: str) -> str:
    return METRICS.get(metric, (metric, metric))[1]
