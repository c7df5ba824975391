"""Lineage of a model: reads and checks the runs, corpora and results behind its weights.

A model whose lineage has a gap, such as a corpus without a licence, is refused.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ecg_hf.errors import EcgAccessError, EcgCheckpointError, EcgFormatError, EcgIntegrityError
from ecg_hf.output.files import sha256_of

WEIGHTS = "model.safetensors"
ACCESS_CLASSES = ("open", "restricted", "credentialed")
PICKLES = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
CORPUS_FIELDS = ("name", "config", "data_version", "licence", "access", "fingerprint", "patient_level", "splits")
RUN_FIELDS = ("ecg_hf", "kind", "pair", "seed", "steps", "arguments", "versions", "parameters", "corpora")
SPLIT_FIELDS = ("num_records", "num_patients")
RESULT_FIELDS = ("task", "mode", "labels", "scores", "provenance")
CONFIG_FIELDS = ("model_type", "num_leads", "hidden_size")
CONTRACT_FIELDS = ("sampling_rate", "leads", "num_samples", "unit")
SCORE_FIELDS = ("value", "low", "high", "num_records", "num_patients", "num_undefined")
# Fields that identify a run when its run.json is copied into the results of a model that started from its weights.
RUN_IDENTITY = ("pair", "seed", "steps", "started")
# An absolute path, alone or as the value in "name=value".
LOCAL_PATH = re.compile(r"([\w.-]+=)?(file://)?(/|~|\\\\|[A-Za-z]:[\\/])(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True)
class Lineage:
    """The checked facts about the weights in a folder. No text from the files has a path of this machine.

    Args:
        folder: Folder of the weights.
        run: Content of `run.json`.
        model: Content of `config.json`.
        contract: Content of `preprocessor_config.json`, the input contract: how a signal is prepared for the model.
        results: Content of each `results.json`; for a fine-tuned model that of its own file.
        sha256: SHA-256 of the weights.
    """

    folder: Path
    run: dict[str, Any]
    model: dict[str, Any]
    contract: dict[str, Any]
    results: tuple[dict[str, Any], ...]
    sha256: str

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The runs that made the weights, the earliest first; each later run started from the weights before it."""
        return ancestry(self.run)

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Every corpus that the weights have seen, each with its "role", the kind of the run that used it."""
        return [{"role": run["kind"], **corpus} for run in self.runs for corpus in run["corpora"]]

    @property
    def closed_sources(self) -> list[str]:
        """Names of the sources that are not open to everyone."""
        return sorted({corpus["name"] for corpus in self.sources if corpus["access"] != "open"})


def read_lineage(folder: Path, results: Sequence[Path] = ()) -> Lineage:
    """Reads and checks the files of a run folder that describe its weights.

    Args:
        folder: Run folder with config.json, model.safetensors, preprocessor_config.json and run.json, and with
            results.json if the model is fine-tuned.
        results: Paths of results.json of models that were fine-tuned from the weights, if these are pretrained.

    Returns:
        The lineage of the weights.

    Raises:
        ValueError: If `results` are given for a fine-tuned model.
        EcgAccessError: If a file, a licence or a part of the lineage is missing.
        EcgFormatError: If a file does not have the format or the fields that it must have.
        EcgIntegrityError: If files do not belong together.
        EcgCheckpointError: If there are pickles, or weights that are not finite.
    """
    folder = Path(folder)
    run = read_facts(folder / "run.json")
    check_run(run, "run.json")
    if run["kind"] == "finetuning":
        if results:
            raise ValueError(f"a fine-tuned model shows its own results.json only, got {len(results)} more; drop them")
        results = [folder / "results.json"]
    for earlier in ancestry(run)[:-1]:
        check_run(earlier, "run.json, base")
    lineage = Lineage(
        folder=folder,
        run=run,
        model=read_facts(folder / "config.json"),
        contract=read_facts(folder / "preprocessor_config.json"),
        results=tuple(read_facts(path) for path in results),
        sha256=check_weights(folder),
    )
    for path, result in zip(results, lineage.results, strict=True):
        check_result(result, run, path.name)
    check_config(lineage)
    return lineage


def read_facts(path: Path) -> dict[str, Any]:
    """Reads an object from a JSON file, shortens local paths in it to their last part and turns NaN into None.

    Raises:
        EcgAccessError: If there is no such file.
        EcgFormatError: If it is not a JSON object.
    """
    if not path.is_file():
        raise EcgAccessError(
            f"expected a file {path.name} in {path.parent}, found none; a model is published from the folder that "
            "scripts/pretrain.py or scripts/finetune.py wrote"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except ValueError as error:
        raise EcgFormatError(f"expected {path} to be JSON, got {error}; write it again") from error
    if not isinstance(content, dict):
        raise EcgFormatError(f"expected {path} to hold a JSON object, got {type(content).__name__}; write it again")
    cleaned: dict[str, Any] = without_local_paths(content)
    return cleaned


def without_local_paths(content: Any) -> Any:
    """Shortens absolute paths anywhere in a JSON value to their last part, as they reveal names of users and machines.

    Example:
        >>> without_local_paths({"data_dir": "/srv/ada/ptbxl", "fields": ["root=/data/x"]})
        {'data_dir': 'ptbxl', 'fields': ['root=x']}
    """
    if isinstance(content, dict):
        return {key: without_local_paths(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_local_paths(value) for value in content]
    if isinstance(content, str) and (match := LOCAL_PATH.fullmatch(content)):
        return (match[1] or "") + re.split(r"[\\/]", match["rest"].rstrip("\\/"))[-1]
    return content


def ancestry(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Lists a run after all runs that its weights went through before, the earliest first."""
    base = run.get("base")
    return [*(ancestry(base) if base else []), run]


def check_run(run: dict[str, Any], name: str) -> None:
    """Checks that a run.json names every corpus with its licence; `name` is the file's name in messages."""
    _require(run, RUN_FIELDS, name)
    if run["kind"] not in ("pretraining", "finetuning"):
        raise EcgFormatError(f"{name}: kind must be 'pretraining' or 'finetuning', got {run['kind']!r}; write it again")
    if run["kind"] == "finetuning" and not run.get("base") and run["arguments"].get("mode") != "scratch":
        raise EcgAccessError(
            f"{name}: the weights started from {run['arguments'].get('model')!r}, whose run.json is not recorded, so "
            "their sources are unknown; fine-tune from a folder or repository that has a run.json"
        )
    if not run["corpora"]:
        raise EcgAccessError(f"{name} names no corpus, so the weights have no known source; train again to record it")
    for corpus in run["corpora"]:
        _require(corpus, CORPUS_FIELDS, f"{name}, corpus {corpus.get('name')!r}")
        # A corpus that the library computes has neither, but the empty fields must be there.
        _require_keys(corpus, ("homepage", "citation"), f"{name}, corpus {corpus['name']!r}")
        if corpus["access"] not in ACCESS_CLASSES:
            raise EcgAccessError(
                f"{name}, corpus {corpus['name']!r}: access must be one of {ACCESS_CLASSES}, got {corpus['access']!r}; "
                "set it in the corpus' class"
            )
        for split, size in corpus["splits"].items():
            _require_keys(size, SPLIT_FIELDS, f"{name}, corpus {corpus['name']!r}, split {split!r}")


def check_result(result: dict[str, Any], run: dict[str, Any], name: str) -> None:
    """Checks that results belong to the weights of `run` and name their own corpus."""
    _require(result, RESULT_FIELDS, name)
    check_scores(result, name)
    check_run({**run, "corpora": result["provenance"].get("corpora")}, f"{name}, provenance")
    recorded = result["provenance"].get("pretraining")
    expected = run if run["kind"] == "pretraining" else run.get("base")
    if any((recorded or {}).get(key) != (expected or {}).get(key) for key in RUN_IDENTITY):
        raise EcgIntegrityError(
            f"{name} does not come from the run in this folder: {', '.join(RUN_IDENTITY)} of its pretraining differ; "
            "pass results of models that started from these weights"
        )


def check_scores(result: dict[str, Any], name: str) -> None:
    """Checks that the test split is scored, and each score has an interval and its numbers of records and patients."""
    if not result["scores"].get("test"):
        raise EcgFormatError(f"{name} has no scores of the test split, only of {sorted(result['scores'])}; evaluate it")
    for split, scores in result["scores"].items():
        for metric, score in scores.items():
            _require_keys(score, SCORE_FIELDS, f"{name}, {metric} of split {split!r}")
    for split, rows in result.get("per_label", {}).items():
        for row in rows:
            _require_keys(row, ("label",), f"{name}, labels of split {split!r}")


def check_config(lineage: Lineage) -> None:
    """Checks that config and input contract belong to the run and name no code outside the library."""
    for name, content in (("config.json", lineage.model), ("preprocessor_config.json", lineage.contract)):
        if "auto_map" in content:
            raise EcgIntegrityError(f"{name} has an auto_map, which makes loading run foreign code; remove it")
    _require_keys(lineage.model, CONFIG_FIELDS, "config.json")
    _require_keys(lineage.contract, CONTRACT_FIELDS, "preprocessor_config.json")
    if len(lineage.contract["leads"]) != lineage.model["num_leads"]:
        raise EcgIntegrityError(
            f"the model takes {lineage.model['num_leads']} leads, but its contract gives {lineage.contract['leads']}; "
            "publish the folder as the run wrote it"
        )
    model_type, expected = lineage.model["model_type"], f"ecg-{lineage.run['pair']}"
    if model_type != expected:
        raise EcgIntegrityError(
            f"run.json records a model of type {expected!r}, but config.json has {model_type!r}; "
            "publish the folder as the run wrote it"
        )
    if lineage.run["kind"] == "finetuning":
        labels, named = lineage.results[0]["labels"], lineage.model.get("id2label") or {}
        if named != {str(index): label for index, label in enumerate(labels)}:
            raise EcgIntegrityError(
                f"results.json scores the outputs as {labels}, but config.json names them {named}; "
                "publish the folder as the run wrote it"
            )


def check_weights(folder: Path) -> str:
    """Checks that weights are whole safetensors, finite and those in the manifest, and returns their SHA-256."""
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICKLES)
    if pickles:
        raise EcgCheckpointError(
            f"expected weights as {WEIGHTS} alone, found {pickles} beside them, which run code when loaded; remove them"
        )
    path = folder / WEIGHTS
    if not path.is_file():
        raise EcgAccessError(f"expected weights in {path}, found none; save the model with save_pretrained")
    try:
        with safe_open(path, framework="pt") as tensors:
            broken = [name for name in tensors.keys() if not torch.isfinite(tensors.get_tensor(name)).all()]
    except SafetensorError as error:
        raise EcgFormatError(
            f"expected {path} to be in the safetensors format, got {error}; save the model again"
        ) from error
    if broken:
        raise EcgCheckpointError(f"weights must be finite, got NaN or infinity in {broken[:3]}; train again")
    check_manifest(folder)
    return sha256_of(path)


def check_manifest(folder: Path) -> None:
    """Compares every file named in `manifest.json`, if there is one, with its SHA-256 there."""
    path = folder / "manifest.json"
    if not path.exists():
        return
    promised = read_facts(path).get("files", {})
    if WEIGHTS not in promised:
        raise EcgIntegrityError(f"expected {path} to name {WEIGHTS}, got {sorted(promised)}; write it again")
    for name, expected in promised.items():
        found = sha256_of(folder / name) if (folder / name).is_file() else "no file"
        if found != expected:
            raise EcgIntegrityError(
                f"manifest.json promises SHA-256 {expected} for {name}, got {found}; "
                "publish the folder as the run wrote it"
            )


def _require_keys(content: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(content, dict) or set(keys) - set(content):
        raise EcgFormatError(f"{where} must have the fields {keys}, got {content}; write the file again")


def _require(content: dict[str, Any], fields: Sequence[str], where: str) -> None:
    missing = [field for field in fields if content.get(field) in (None, "")]
    if missing:
        raise EcgAccessError(f"{where} does not say {missing}; a model is published only with its lineage and licences")
