"""Publishing, to a folder and to a Hub of our own, and what comes back from there in a fresh process."""

import hashlib
import json
import os
import re
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ecg_hf import PAIRS
from ecg_hf.errors import EcgAccessError, EcgCheckpointError, EcgIntegrityError
from ecg_hf.hub.publishing import publish
from ecg_hf.models.classification import CLASSIFIERS
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor
from hub_server import HubServer, Repo
from places import ROOT
from run_folders import CORPUS, RUN, make_results, write, write_finetuned, write_run

# huggingface_hub 2.4 sends LFS files through an argument that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
LEARNED = {"config.json", "model.safetensors", "preprocessor_config.json", "run.json", "README.md"}
CLOSED = [{**CORPUS, "name": "echonext", "access": "restricted"}]
TINY: dict[str, Any] = {"hidden_size": 16, "num_layers": 2, "state_size": 4}
DTYPES = ("float32", "bfloat16")
LOAD = """
import sys
import torch
from transformers import AutoModel
import ecg_hf
signal = torch.load("signal.pt", weights_only=True)
outputs = {}
for dtype in sys.argv[2:]:
    for load in range(3):
        junk = [torch.full((1 << size,), float("nan")) for size in range(4, 20)]  # what uninitialised memory would show
        del junk
        model, info = AutoModel.from_pretrained(sys.argv[1], dtype=getattr(torch, dtype), output_loading_info=True)
        assert not model.training and not info["missing_keys"] and not info["mismatched_keys"], info
        with torch.no_grad():
            outputs[f"{dtype}-{load}"] = model(signal.to(model.dtype)).last_hidden_state
"""
KEEP = """
outputs["{0} crops"], outputs["{0}"] = crops, {0}
torch.save(outputs, "outputs.pt")
"""


@dataclass
class Loaded:
    """What a fresh process made of a pair and a classifier that came from the Hub, and what they are here."""

    folder: Path
    pair: Any
    classifier: Any
    signal: torch.Tensor
    outputs: dict[str, torch.Tensor]
    printed: str


@pytest.fixture(scope="module")
def loaded(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Publishes a pair and a classifier, then loads both in a process whose Hub is ours from the first import on."""
    folder = tmp_path_factory.mktemp("loaded")
    pair, classifier = write_pair(folder / "pair"), write_classifier(folder / "classifier")
    cards = []
    for name in ("pair", "classifier"):
        publish(folder / name, f"org/{name}", licence="apache-2.0")
        cards.append(hub.repos["model", f"org/{name}"].commits[-1][2]["README.md"].decode())
    signal = torch.randn(2, 12, 600, generator=torch.Generator().manual_seed(1))
    torch.save(signal, folder / "signal.pt")
    code = "\n".join(
        [LOAD, snippet(cards[0]), KEEP.format("embedding"), snippet(cards[1]), KEEP.format("probabilities")]
    )
    paths = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT / "src")])
    environment = {**os.environ, **hub.environment(folder / "home"), "PYTHONPATH": paths}
    command = [sys.executable, "-W", "error::UserWarning", "-c", code, "org/pair", *DTYPES]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    outputs = torch.load(folder / "outputs.pt", weights_only=True)
    return Loaded(folder, pair, classifier, signal, outputs, done.stdout)


def write_pair(folder: Path) -> Any:
    """A run folder whose weights are a tiny S4-CPC pair; gives the pair."""
    write_run(folder)
    torch.manual_seed(0)
    pair: Any = PAIRS["s4-cpc"](PAIRS["s4-cpc"].config_class(**TINY))
    pair.eval().save_pretrained(folder)
    EcgFeatureExtractor(num_samples=600).save_pretrained(folder)
    return pair


def write_classifier(folder: Path) -> Any:
    """A run folder whose weights are a tiny classifier; gives the classifier."""
    labels = make_results()["labels"]
    write_finetuned(folder)
    torch.manual_seed(0)
    fields: dict[str, Any] = {"id2label": dict(enumerate(labels)), "problem_type": "multi_label_classification"}
    config = PAIRS["s4-cpc"].config_class(**TINY, **fields)
    model: Any = CLASSIFIERS["s4-cpc"](config)
    model.eval().save_pretrained(folder)
    EcgFeatureExtractor(num_samples=600).save_pretrained(folder)
    return model


def snippet(card: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return str(code)


@pytest.mark.parametrize("dtype", DTYPES)
def test_published_model_loads_bit_equal_in_a_fresh_process(dtype: str, loaded: Loaded) -> None:
    local = type(loaded.pair.backbone).from_pretrained(loaded.folder / "pair", dtype=getattr(torch, dtype))
    with torch.no_grad():
        expected = local(loaded.signal.to(local.dtype)).last_hidden_state
        if dtype == "float32":
            assert torch.equal(expected, loaded.pair.backbone(loaded.signal).last_hidden_state)
    assert expected.isfinite().all()
    assert expected.std() > 0.01
    for load in range(3):
        output = loaded.outputs[f"{dtype}-{load}"]
        assert torch.equal(output, expected), (load, (output - expected).abs().max())


def test_code_on_the_card_of_an_encoder_gives_its_embedding(loaded: Loaded) -> None:
    crops = loaded.outputs["embedding crops"]
    assert crops.shape == (4, 12, 600)
    with torch.no_grad():
        assert torch.equal(loaded.outputs["embedding"], loaded.pair.backbone(crops).pooler_output.mean(dim=0))


def test_code_on_the_card_of_a_classifier_names_its_outputs(loaded: Loaded) -> None:
    with torch.no_grad():
        expected = loaded.classifier(loaded.outputs["probabilities crops"]).logits.sigmoid().mean(dim=0)
    assert torch.equal(loaded.outputs["probabilities"], expected)
    assert loaded.printed == f"{dict(zip(make_results()['labels'], expected.tolist(), strict=True))}\n"


def test_script_publishes_and_says_where(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, repo_id = write_run(tmp_path / "run"), "org/by-script"
    results = write(tmp_path / "results.json", make_results())
    flags = {"folder": folder, "repo_id": repo_id, "licence": "mit", "private": "true", "results": results}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["publish.py", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / "publish.py"), run_name="__main__")
    assert ended.value.code == 0
    repo = hub.repos["model", repo_id]
    (_, (sha, _, files)) = repo.commits
    assert capsys.readouterr().out == f"published {folder} as {hub.url}/{repo_id}/commit/{sha}\n"
    assert repo.private
    assert b"macro AUROC" in files["README.md"]
    monkeypatch.setattr(sys, "argv", ["publish.py", *words, "--to_folder", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / "publish.py"), run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"published {folder} as {tmp_path / 'out'}\n"
    assert {path.name for path in (tmp_path / "out").iterdir()} == LEARNED


def test_folder_and_hub_get_the_same_files(hub: HubServer, tmp_path: Path) -> None:
    folder = write_finetuned(tmp_path / "run")
    for extra in ("metrics.jsonl", "predictions.parquet", "notes.txt", "loss.png"):
        (folder / extra).write_bytes(b"private")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "optimizer.bin").write_bytes(b"pickled")
    assert publish(folder, "org/a", licence="mit", to_folder=tmp_path / "out") == str(tmp_path / "out")
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(written) == LEARNED | {"results.json"}
    publish(folder, "org/a", licence="mit")
    sent = hub.repos["model", "org/a"].commits[-1][2]
    assert {path: data for path, data in sent.items() if path != ".gitattributes"} == written


def test_weights_are_published_byte_for_byte(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    publish(folder, "org/a", licence="mit", to_folder=tmp_path / "out")
    for name in ("model.safetensors",):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    for name in ("config.json", "preprocessor_config.json"):
        assert json.loads((tmp_path / "out" / name).read_text()) == json.loads((folder / name).read_text())
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest in (tmp_path / "out" / "README.md").read_text()


def test_no_published_file_names_a_path_of_this_machine(tmp_path: Path) -> None:
    base = {
        **RUN,
        "arguments": {"output_dir": str(tmp_path), "nested": [{"a": "C:\\data\\ptbxl"}, "root=/data/corpora/x"]},
    }
    folder = write_finetuned(tmp_path / "run", base, base_model="~/runs/base")
    publish(folder, "org/a", licence="mit", to_folder=tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        for secret in (str(tmp_path), "/data/corpora", "C:\\\\data", "~/runs"):
            assert secret.encode() not in content, path.name


def test_publishing_again_replaces_the_repository_in_one_commit(hub: HubServer, tmp_path: Path) -> None:
    stale = {".gitattributes": b"", "pytorch_model.bin": b"pickled", "results.json": b"{}", "README.md": b"old"}
    repo = hub.repos["model", "org/again"] = Repo(private=False)
    repo.commit("an older model", stale)
    publish(write_run(tmp_path / "run"), "org/again", licence="mit")
    assert len(repo.commits) == 2
    assert set(repo.commits[-1][2]) == LEARNED | {".gitattributes"}


@pytest.mark.parametrize("private", [None, True, False])
def test_weights_of_open_corpora_are_as_visible_as_asked(private: bool | None, hub: HubServer, tmp_path: Path) -> None:
    publish(write_run(tmp_path / "run"), f"org/open-{private}", licence="mit", private=private)
    assert hub.repos["model", f"org/open-{private}"].private is bool(private)


@pytest.mark.parametrize("access", ["restricted", "credentialed"])
@pytest.mark.parametrize("private", [None, True])
def test_weights_of_closed_corpora_are_private(
    access: str, private: bool | None, hub: HubServer, tmp_path: Path
) -> None:
    repo_id = f"org/{access}-{private}"
    corpora = [CORPUS, {**CORPUS, "name": "mimic", "access": access}]
    publish(write_run(tmp_path / "run", corpora=corpora), repo_id, licence="mit", private=private)
    assert hub.repos["model", repo_id].private


def test_weights_of_closed_corpora_are_never_public(hub: HubServer, tmp_path: Path) -> None:
    learned = write_run(tmp_path / "learned", corpora=CLOSED)
    tuned = write_finetuned(tmp_path / "tuned", {**RUN, "corpora": CLOSED})
    for folder in (learned, tuned):
        with pytest.raises(EcgAccessError, match=r"seen \['echonext'\].* cannot be public; leave out private=False"):
            publish(folder, "org/closed", licence="mit", private=False)
    assert ("model", "org/closed") not in hub.repos


@pytest.mark.parametrize(("corpora", "private"), [(CLOSED, None), ([CORPUS], True)])
def test_private_weights_are_not_sent_to_a_repository_that_is_public_already(
    corpora: list[dict[str, Any]], private: bool | None, hub: HubServer, tmp_path: Path
) -> None:
    repo = hub.repos["model", "org/public"] = Repo(private=False)
    repo.commit("initial commit", {".gitattributes": b""})
    with pytest.raises(EcgAccessError, match="org/public exists and is public, expected a private repository"):
        publish(write_run(tmp_path / "run", corpora=corpora), "org/public", licence="mit", private=private)
    assert len(repo.commits) == 1


def test_weights_without_a_licence_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EcgAccessError, match="need a licence of their own, got none; pass licence"):
        publish(write_run(tmp_path / "a"), "org/a", to_folder=tmp_path / "out")
    publish(write_run(tmp_path / "b", licence="cc-by-4.0"), "org/a", to_folder=tmp_path / "out")
    assert "license: cc-by-4.0" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_is_written_or_sent_for_a_folder_that_is_refused(hub: HubServer, tmp_path: Path) -> None:
    def check(error: type[Exception], match: str) -> None:
        for place in (None, tmp_path / "out"):
            with pytest.raises(error, match=match):
                publish(folder, "org/refused", licence="mit", to_folder=place)
        assert ("model", "org/refused") not in hub.repos
        assert not (tmp_path / "out").exists()

    folder = write_run(tmp_path / "pickles")
    for name in ("pytorch_model.bin", "training_args.bin", "scheduler.pt"):
        (folder / name).write_bytes(b"")
        check(EcgCheckpointError, f"found .*{name}.* beside them, which run code when loaded; remove them")
        (folder / name).unlink()
    write(folder / "manifest.json", {"files": {"model.safetensors": "00"}})
    check(EcgIntegrityError, "promises SHA-256 00 for model.safetensors")
    folder = write_run(tmp_path / "no-licence", corpora=[{**CORPUS, "licence": ""}])
    check(EcgAccessError, "does not say \\['licence'\\]; a model is published only with its lineage")
    folder = write_run(tmp_path / "no-lineage")
    (folder / "run.json").unlink()
    check(EcgAccessError, r"expected a file run\.json")


def test_a_place_that_is_taken_or_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"to_folder must be new or empty, got .*out, which is not"):
        publish(folder, "org/a", licence="mit", to_folder=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]
    for name in ("ecg-s4-cpc", "org/a/b", "../a", "org/", "org/a b", "-/x\n"):
        with pytest.raises(ValueError, match="repo_id must be 'organisation/name', got"):
            publish(folder, name, licence="mit", to_folder=tmp_path / "new")
