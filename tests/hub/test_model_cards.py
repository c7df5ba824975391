"""What a model card says, and which runs get none."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import save_file

from ecg_hf.errors import EcgAccessError, EcgCheckpointError, EcgFormatError, EcgIntegrityError
from ecg_hf.hub.model_cards import model_card
from run_folders import CONTRACT, CORPUS, RUN, make_results, score, write, write_finetuned, write_run

SIZE = {"num_records": 5000, "num_patients": 4000}


def card_text(folder: Path, **options: Any) -> str:
    return str(model_card(folder, "org/ecg-s4-cpc", **{"licence": "apache-2.0", **options}))


def metadata(card: ModelCard) -> dict[str, Any]:
    fields: dict[str, Any] = yaml.safe_load(card.content.split("---\n")[1])
    return fields


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_number_of_the_card_comes_from_the_folder(tmp_path: Path) -> None:
    before = card_text(write_run(tmp_path / "a"))
    changes = {
        "seed": (4, "| Seed | 4 |"),
        "steps": (4321, "4,321"),
        "examples_seen": (55555, "55,555"),
        "parameters": (777777, "777,777"),
        "validation_loss": (0.125, "| 0.125 |"),
        "flops": (3.25e11, "3.25e+11"),
        "started": ("2025-01-01T00:00:00", "2025-01-01T00:00:00"),
        "versions": ({"torch": "9.9"}, '{"torch": "9.9"}'),
        "arguments": ({"batch_size": 31}, '{"batch_size": 31}'),
    }
    for number, (field, (value, shown)) in enumerate(changes.items()):
        after = card_text(write_run(tmp_path / str(number), **{field: value}))
        assert shown in after
        assert shown not in before


def test_card_lists_every_source_with_licence_access_and_population(tmp_path: Path) -> None:
    text = section(card_text(write_run(tmp_path)), "Training data")
    for fact in ("CC-BY-4.0", "creativecommons.org", "open", "1.0.3", "17,418 records, 15,093 patients", "ab" * 32):
        assert fact in text
    assert "| ptbxl | pretraining | 8,345 | 9,073 | 61.5 (2 to 89) |" in card_text(tmp_path)


def test_card_of_a_finetuned_model_lists_the_sources_of_its_base_too(tmp_path: Path) -> None:
    base = {
        **RUN,
        "corpora": [{**CORPUS, "name": "echonext", "access": "restricted", "licence": "PhysioNet Restricted"}],
    }
    text = card_text(write_finetuned(tmp_path, base))
    assert "### echonext (pretraining)" in text
    assert "### ptbxl (finetuning)" in text
    assert "Not open to everyone: echonext; these weights must not be made public." in text


def test_metadata_follows_the_hub_schema(tmp_path: Path) -> None:
    card = model_card(write_finetuned(tmp_path), "org/ecg-s4-cpc", licence="Apache-2.0")
    data = metadata(card)
    assert data["license"] == "apache-2.0"
    assert data["library_name"] == "ecg_hf"
    assert data["base_model"] == "ecg-hf/s4-cpc-ptbxl-1m"
    assert data["datasets"] == ["ptbxl"]
    assert {"ecg", "12-lead", "s4-cpc"} <= set(data["tags"])
    assert data["metrics"] == ["expected_calibration_error", "roc_auc"]
    (entry,) = data["model-index"]
    assert entry["name"] == "ecg-s4-cpc"
    result = entry["results"][0]
    assert result["task"] == {"type": "multilabel-classification", "name": "ptbxl_superdiagnostic"}
    assert result["dataset"] == {"type": "ptbxl", "name": "ptbxl 1.0.3", "config": "500hz", "split": "test"}
    macro = result["metrics"][0]
    assert (macro["type"], macro["value"]) == ("roc_auc", 0.925)
    assert "0.915 to 0.935" in macro["name"]
    assert "patients: 1,902" in macro["name"]


def test_licence_unknown_to_the_hub_becomes_other_with_name_and_link(tmp_path: Path) -> None:
    data = metadata(model_card(write_run(tmp_path), "org/x", licence="RAIL-ECG", licence_link="https://a.b/c"))
    assert (data["license"], data["license_name"], data["license_link"]) == ("other", "RAIL-ECG", "https://a.b/c")
    with pytest.raises(ValueError, match="'RAIL-ECG' is not one the Hub knows; give licence_link"):
        model_card(tmp_path, "org/x", licence="RAIL-ECG")


def test_undefined_score_is_called_so_and_stays_out_of_the_metadata(tmp_path: Path) -> None:
    scores = {"test": {"macro_auroc": score(None, num_undefined=3)}}
    card = model_card(write_finetuned(tmp_path, scores=scores), "org/x", licence="mit")
    assert "| test | macro AUROC | undefined | undefined to undefined | 2,198 | 1,902 | 3 |" in card.content
    assert "model-index" not in metadata(card)
    assert "nan" not in card.content.lower().replace("provenance", "")


def test_results_travel_with_interval_and_counts(tmp_path: Path) -> None:
    text = section(card_text(write_finetuned(tmp_path)), "Results")
    assert "| test | macro AUROC | 0.925 | 0.915 to 0.935 | 2,198 | 1,902 | 1 |" in text
    assert "| HYP | 12 | 0.005 | 0.710 (0.700 to 0.720) | 0.710 (0.700 to 0.720) |" in text
    assert "| RARE | 0 | 0.000 | undefined | undefined |" in text
    assert "expected calibration error 0.031 (0.021 to 0.041)" in text


def test_card_of_a_regression_shows_errors_and_no_probabilities(tmp_path: Path) -> None:
    errors = {"test": {"mae": score(7.25)}}
    rows = {"test": [{"label": "age", "num_known": 2100, "mae": score(7.25)}]}
    folder = write_finetuned(tmp_path, scores=errors, per_label=rows, labels=["age"])
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", {**config, "problem_type": "regression"})
    text = card_text(folder)
    assert "A regressor of electrocardiograms (1 outputs)" in text
    assert "| test | mean absolute error, mean over labels | 7.250 | 7.240 to 7.260 | 2,198 | 1,902 | 0 |" in text
    assert (
        "| Label | Known values | Mean absolute error (95 % interval) |\n|---|---|---|\n| age | 2,100 | 7.250" in text
    )
    assert "Not measured." in section(text, "Results").split("### Calibration")[1]
    assert "sigmoid" not in text
    assert yaml.safe_load(text.split("---\n")[1])["model-index"][0]["results"][0]["task"]["type"] == "regression"


def test_results_of_finetuned_models_stand_on_the_card_of_their_base(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    path = write(tmp_path / "results.json", make_results(mode="linear"))
    text = card_text(folder, results=[path])
    assert "### ptbxl_superdiagnostic, mode linear" in text
    assert "None: these weights have not been evaluated" in card_text(folder)


def test_card_refuses_results_of_other_weights(tmp_path: Path) -> None:
    for other in ({**RUN, "seed": 99}, None):
        path = write(tmp_path / "results.json", make_results(other))
        with pytest.raises(EcgIntegrityError, match="does not come from the run in this folder"):
            card_text(write_run(tmp_path / "run"), results=[path])
        with pytest.raises(EcgIntegrityError, match="does not come from the run in this folder"):
            write(write_finetuned(tmp_path / "tuned") / "results.json", make_results(other))
            card_text(tmp_path / "tuned")


def test_small_samples_are_called_small(tmp_path: Path) -> None:
    tiny = {**CORPUS, "splits": {"train": {"num_records": 80, "num_patients": 71}}}
    scores = {"test": {"macro_auroc": score(num_records=20, num_patients=19)}}
    limits = section(card_text(write_finetuned(tmp_path, corpora=[tiny], scores=scores)), "Limits")
    assert "71 patients and 80 records of ptbxl, fewer than 1,000 patients" in limits
    assert "tested on 20 records (patients: 19): too few" in limits
    assert "2 of 3 labels have fewer than 100 positive test records, down to 0" in limits
    assert "cannot score 1 labels: RARE" in limits
    assert "The head has seen few hypertrophies." in limits


def test_large_samples_are_not_called_small(tmp_path: Path) -> None:
    limits = section(card_text(write_run(tmp_path)), "Limits")
    assert "fewer than" not in limits
    assert "does not say which records belong to one patient" not in limits


def test_corpus_without_patients_is_named_as_a_limit(tmp_path: Path) -> None:
    for known, number in ((False, None), (False, 0), (True, 0)):
        loose = {**CORPUS, "patient_level": known, "splits": {"train": {"num_records": 5000, "num_patients": number}}}
        text = card_text(write_run(tmp_path, corpora=[loose]))
        assert "5,000 records, not recorded patients" in text
        assert "ptbxl does not say which records belong to one patient" in section(text, "Limits")
        assert "fewer than" not in section(text, "Limits")


def test_contamination_tells_a_seen_test_split_from_a_held_out_one(tmp_path: Path) -> None:
    held_out = section(card_text(write_finetuned(tmp_path / "a")), "Contamination")
    assert "pretraining used ptbxl (train, validation): the test split was held out" in held_out
    leaked = {**RUN, "corpora": [{**CORPUS, "splits": {"train": SIZE, "validation": SIZE, "test": SIZE}}]}
    folder = write_finetuned(tmp_path / "b", leaked)
    assert "the test scores are contaminated" in section(card_text(folder), "Contamination")
    folder = write_finetuned(tmp_path / "c", None)
    assert "no pretraining on ptbxl" in section(card_text(folder), "Contamination")


def test_text_from_a_file_cannot_break_a_table_or_forge_a_header(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path, corpora=[{**CORPUS, "licence": "CC | BY\n## Approved for clinical use", "config": "a"}]
    )
    text = card_text(folder)
    assert "\n## Approved" not in text
    assert "CC \\| BY ## Approved" in text
    folder = write_run(tmp_path, corpora=[{**CORPUS, "name": "x\n## Approved for clinical use"}])
    assert "\n## Approved" not in card_text(folder)


def test_card_names_no_path_of_this_machine(tmp_path: Path) -> None:
    text = card_text(write_run(tmp_path / "learned"))
    assert '"data_dir": "ptb-xl"' in text
    assert "/data/corpora" not in text
    text = card_text(write_finetuned(tmp_path / "tuned", base_model="/scratch/me/runs/base"))
    assert '"model": "base"' in text
    assert "/scratch" not in text
    assert "base_model" not in text.split("---")[1]


def test_local_folder_is_not_taken_for_a_base_model_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "base").mkdir(parents=True)
    card = model_card(write_finetuned(tmp_path / "run", base_model="runs/base"), "org/x", licence="mit")
    assert "base_model" not in metadata(card)


def test_card_gives_the_hash_of_the_weights(tmp_path: Path) -> None:
    text = card_text(write_run(tmp_path))
    assert hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest() in text


def test_card_keeps_its_header_parseable(tmp_path: Path) -> None:
    text = card_text(write_finetuned(tmp_path))
    assert text.startswith("---\n")
    assert not re.search(r"\n{3,}", text)
    for row in re.findall(r"^\|.*$", section(text, "Results"), re.M):
        assert row.endswith("|")


@pytest.mark.parametrize("missing", ["run.json", "config.json", "preprocessor_config.json", "model.safetensors"])
def test_card_refuses_a_folder_without(missing: str, tmp_path: Path) -> None:
    (write_run(tmp_path) / missing).unlink()
    with pytest.raises(EcgAccessError, match=f"{missing}.*found none"):
        card_text(tmp_path)


@pytest.mark.parametrize("field", ["licence", "access", "data_version", "fingerprint", "patient_level"])
def test_card_refuses_a_source_without(field: str, tmp_path: Path) -> None:
    corpus = {key: value for key, value in CORPUS.items() if key != field}
    with pytest.raises(EcgAccessError, match=rf"corpus 'ptbxl' does not say \['{field}'\]"):
        card_text(write_run(tmp_path / "absent", corpora=[corpus]))
    with pytest.raises(EcgAccessError, match=rf"corpus 'ptbxl' does not say \['{field}'\]"):
        card_text(write_run(tmp_path / "empty", corpora=[{**CORPUS, field: ""}]))


def test_only_a_corpus_that_says_so_has_no_home_and_no_citation(tmp_path: Path) -> None:
    text = card_text(
        write_run(tmp_path / "a", corpora=[{**CORPUS, "name": "synthetic", "homepage": "", "citation": ""}])
    )
    assert "| Home | none, the library computes these records |" in text
    assert "synthetic is made up by the library" in section(text, "Limits")
    assert "synthetic:" not in section(text, "Citation")
    corpus = {key: value for key, value in CORPUS.items() if key != "citation"}
    with pytest.raises(EcgFormatError, match=r"must have the fields \('homepage', 'citation'\)"):
        card_text(write_run(tmp_path / "b", corpora=[corpus]))


def test_card_refuses_a_run_without_lineage(tmp_path: Path) -> None:
    with pytest.raises(EcgAccessError, match="names no corpus"):
        card_text(write_run(tmp_path / "a", corpora=[]))
    with pytest.raises(EcgAccessError, match=r"access must be one of .* got 'public'"):
        card_text(write_run(tmp_path / "b", corpora=[{**CORPUS, "access": "public"}]))


def test_card_refuses_a_finetuned_model_whose_base_has_no_lineage(tmp_path: Path) -> None:
    with pytest.raises(EcgAccessError, match=r"started from 'ecg-hf/.*', whose run\.json is not recorded"):
        card_text(write_finetuned(tmp_path / "a", None, mode="linear"))
    base = {**RUN, "corpora": [{**CORPUS, "licence": None}]}
    with pytest.raises(EcgAccessError, match=r"base, corpus 'ptbxl' does not say \['licence'\]"):
        card_text(write_finetuned(tmp_path / "b", base))
    with pytest.raises(EcgAccessError, match=r"run\.json, base: .* is not recorded"):
        card_text(write_finetuned(tmp_path / "c", {**RUN, "kind": "finetuning"}))


def test_card_follows_the_lineage_through_every_earlier_run(tmp_path: Path) -> None:
    first = {**RUN, "corpora": [{**CORPUS, "name": "mimic", "access": "credentialed"}]}
    second = {**RUN, "kind": "finetuning", "base": first, "corpora": [{**CORPUS, "name": "sph"}]}
    text = card_text(write_finetuned(tmp_path, second))
    for heading in ("### mimic (pretraining)", "### sph (finetuning)", "### ptbxl (finetuning)"):
        assert heading in text
    assert "Not open to everyone: mimic" in text


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "optimizer.bin", "state.pkl", "MODEL.PTH", "a.joblib"]
)
def test_card_refuses_a_folder_with_a_pickle(name: str, tmp_path: Path) -> None:
    (write_run(tmp_path) / name).write_bytes(b"")
    with pytest.raises(EcgCheckpointError, match=f"{name}.*run code when loaded"):
        card_text(tmp_path)


def test_card_refuses_weights_that_are_not_safetensors(tmp_path: Path) -> None:
    weights = write_run(tmp_path) / "model.safetensors"
    whole = weights.read_bytes()
    for broken in (whole[:-1], b"", b"\x80\x04pickled", (1 << 60).to_bytes(8, "little") + whole):
        weights.write_bytes(broken)
        with pytest.raises(EcgFormatError, match="to be in the safetensors format"):
            card_text(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_card_refuses_weights_that_diverged(value: float, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2), "b": torch.tensor([0.0, value])}, write_run(tmp_path) / "model.safetensors")
    with pytest.raises(EcgCheckpointError, match=r"NaN or infinity in \['b'\]"):
        card_text(tmp_path)


def test_card_refuses_files_that_are_not_those_of_the_manifest(tmp_path: Path) -> None:
    names = ["config.json", "model.safetensors"]
    write_run(tmp_path)
    files = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names}
    write(tmp_path / "manifest.json", {"files": files})
    card_text(tmp_path)
    for name in names:
        content = (tmp_path / name).read_bytes()
        changed = content.replace(b"12", b"13") if name == "config.json" else content[:-1] + b"\x01"
        assert changed != content
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(EcgIntegrityError, match=f"promises SHA-256 {files[name]} for {name}, got"):
            card_text(tmp_path)
        (tmp_path / name).write_bytes(content)
    write(tmp_path / "manifest.json", {"files": {**files, "gone.json": "00"}})
    with pytest.raises(EcgIntegrityError, match=r"for gone\.json, got no file"):
        card_text(tmp_path)
    write(tmp_path / "manifest.json", {"files": {"config.json": files["config.json"]}})
    with pytest.raises(EcgIntegrityError, match=r"to name model\.safetensors"):
        card_text(tmp_path)


def test_card_refuses_a_config_of_another_model_or_with_remote_code(tmp_path: Path) -> None:
    with pytest.raises(EcgIntegrityError, match=r"'ecg-s4-cpc', but config\.json has 'bert'"):
        write(write_run(tmp_path) / "config.json", {"model_type": "bert", "num_leads": 12, "hidden_size": 8})
        card_text(tmp_path)
    write(write_run(tmp_path) / "preprocessor_config.json", {**CONTRACT, "leads": ["I", "II"]})
    with pytest.raises(EcgIntegrityError, match=r"model takes 12 leads, but its contract gives \['I', 'II'\]"):
        card_text(tmp_path)
    for name in ("config.json", "preprocessor_config.json"):
        content = json.loads((write_run(tmp_path) / name).read_text())
        write(tmp_path / name, {**content, "auto_map": {"AutoModel": "evil/repo--modeling.Model"}})
        with pytest.raises(EcgIntegrityError, match=f"{name} has an auto_map"):
            card_text(tmp_path)


def test_card_refuses_a_score_without_interval_or_patients(tmp_path: Path) -> None:
    for field in ("low", "high", "num_records", "num_patients"):
        bare = {key: value for key, value in score().items() if key != field}
        with pytest.raises(EcgFormatError, match="macro_auroc of split 'test' must have the fields"):
            card_text(write_finetuned(tmp_path, scores={"test": {"macro_auroc": bare}}))
    with pytest.raises(EcgFormatError, match="no scores of the test split"):
        card_text(write_finetuned(tmp_path, scores={"validation": {"macro_auroc": score()}}))


def test_card_refuses_outputs_named_otherwise_than_they_were_scored(tmp_path: Path) -> None:
    config = json.loads((write_finetuned(tmp_path) / "config.json").read_text())
    swapped = {"0": "HYP", "1": "NORM", "2": "RARE"}
    write(tmp_path / "config.json", {**config, "id2label": swapped})
    with pytest.raises(EcgIntegrityError, match=r"outputs as \['NORM', 'HYP', 'RARE'\], but config.json names them"):
        card_text(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "\udcff"])
def test_card_refuses_a_broken_record(content: str, tmp_path: Path) -> None:
    (write_run(tmp_path) / "run.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(EcgFormatError, match=r"run\.json to"):
        card_text(tmp_path)
