"""Files that shown commands and Python examples read, made in small where these look for them."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ecg_hf import PAIRS, PretrainingArguments, pretrain
from ecg_hf.models.conversion.convert import to_study_a
from ecg_hf.registry import CORPORA, TASKS, load
from hospital import write_hospital
from mixture import build
from scaling_runs import rows

NUM_RECORDS = 60
# Corpora that Python examples call by the name of a folder. Records of one's own are 200, as docs/corpora.md says.
PLACES = {"ROOT": "ptbxl", "MY_ECGS": "csv"}


def make_model(folder: Path) -> Path:
    """Pretrains the smallest model for two steps."""
    made = [f"num_records={NUM_RECORDS}"]
    small = {"size": "20k", "batch_size": 4, "max_steps": 2, "validation_steps": 0}
    return pretrain(PretrainingArguments(str(folder), corpus_fields=made, **small))


class Desk:
    """A folder in which commands are typed, with the inputs that were made there.

    Args:
        folder: The folder.
        model: A small model, for commands that need one.
    """

    def __init__(self, folder: Path, model: Path):
        self.folder, self.model = folder, model
        self.made: dict[str, str] = {}

    def supply(self, name: str, arguments: Any) -> None:
        """Makes what a command, with its arguments as it parsed them, reads and what is not there yet."""
        if name == "pretrain":
            self._supply_corpora(arguments)
        elif name == "finetune":
            self._copy_model(arguments.model)
            if arguments.data_dir:
                self.write_corpus(load(TASKS, arguments.task).corpus, arguments.data_dir)
        elif name in ("build", "verify") and arguments.root != "-":
            self.write_corpus(arguments.name, arguments.root)
        elif name == "publish":
            self._copy_model(arguments.folder)
        elif name == "publish-corpus":
            self._build(str(arguments.folder))
        elif name == "convert":
            write_checkpoint(self.folder / arguments.checkpoint)
        elif name == "mimic-measurements":
            for place in (arguments.data_dir, arguments.mimic_iv, arguments.mimic_iv_ed):
                write_hospital(self.folder / place)
        elif name == "fit-scaling":
            self._write_runs(str(arguments.runs))

    def supply_example(self, code: str) -> None:
        """Makes what a Python example reads, by the names in it."""
        for place in re.findall(r'"(ROOT|MY_ECGS)"', code):
            self.write_corpus(PLACES[place], place)
        if '"OUT"' in code:
            self._copy_model("OUT")
        for place in re.findall(r'"([\w/]*runs\.jsonl)"', code):
            self._write_runs(place)

    def write_corpus(self, name: str, place: str) -> None:
        """Writes an example of the official layout of a corpus, unless it is there."""
        if (self.folder / place).exists() and self.made.get(place, name) == name:
            return
        shutil.rmtree(self.folder / place, ignore_errors=True)
        load(CORPORA, name).write_example(self.folder / place, num_records=200 if name == "csv" else NUM_RECORDS)
        self.made[place] = name

    def _supply_corpora(self, arguments: PretrainingArguments) -> None:
        places = iter(arguments.data_dir)
        for corpus in arguments.corpus:
            if corpus not in CORPORA:
                self._build(corpus)
            elif load(CORPORA, corpus).needs_data_dir:
                self.write_corpus(corpus, next(places))

    def _build(self, place: str) -> None:
        """Builds the example of the corpus that a folder is named after."""
        folder = self.folder / place
        if not (folder / "manifest.json").exists():
            build(folder, folder.name, self.folder / f"{folder.name}-source", rate=240)

    def _copy_model(self, place: str) -> None:
        if not (self.folder / place).exists():
            shutil.copytree(self.model, self.folder / place)

    def _write_runs(self, place: str) -> None:
        """Writes the run table of a made-up scaling study of two cells."""
        path = self.folder / place
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = [*rows(family="resnet", paradigm="sl"), *rows(family="transformer", paradigm="sl", seed=1)]
            path.write_text("".join(f"{json.dumps(row | {'eval_id': 'id-test'})}\n" for row in made), encoding="utf-8")


def write_checkpoint(path: Path) -> None:
    """Writes a checkpoint of study A's code: a small s4-jepa whose teacher never followed."""
    torch.manual_seed(0)
    pair = PAIRS["s4-jepa"]
    small = {**pair.backbone_class.sizes["20k"], "predictor_state_size": 16, "teacher": "frozen_random"}
    tensors = to_study_a(pair(pair.config_class(**small)), 300)
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save({"state_dict": tensors}, path)
