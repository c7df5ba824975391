"""Everything the library knows by name: one line per backbone, objective, corpus, task and file format."""

from importlib import import_module
from typing import Any

BACKBONES = {
    "cnn": "ecg_hf.backbones.cnn:EcgCNNBackbone",
    "resnet": "ecg_hf.backbones.resnet:EcgResNetBackbone",
    "s4": "ecg_hf.backbones.s4:EcgS4Backbone",
    "transformer": "ecg_hf.backbones.transformer:EcgTransformerBackbone",
}

OBJECTIVES = {
    "cpc": "ecg_hf.objectives.cpc:CPC",
    "data2vec": "ecg_hf.objectives.data2vec:Data2Vec",
    "dinosr": "ecg_hf.objectives.dinosr:DinoSR",
    "hubertpp": "ecg_hf.objectives.hubertpp:HuBERTpp",
    "jepa": "ecg_hf.objectives.jepa:JEPA",
    "masked": "ecg_hf.objectives.masked:Masked",
    "supervised": "ecg_hf.objectives.supervised:Supervised",
}

CORPORA = {
    "ptbxl": "ecg_hf.corpora.ptbxl:PTBXL",
    "synthetic": "ecg_hf.corpora.synthetic:Synthetic",
}

TASKS = {
    "ptbxl_all": "ecg_hf.tasks.ptbxl:ALL",
    "ptbxl_diagnostic": "ecg_hf.tasks.ptbxl:DIAGNOSTIC",
    "ptbxl_form": "ecg_hf.tasks.ptbxl:FORM",
    "ptbxl_rhythm": "ecg_hf.tasks.ptbxl:RHYTHM",
    "ptbxl_subdiagnostic": "ecg_hf.tasks.ptbxl:SUBDIAGNOSTIC",
    "ptbxl_superdiagnostic": "ecg_hf.tasks.ptbxl:SUPERDIAGNOSTIC",
    "synthetic": "ecg_hf.tasks.synthetic:SYNTHETIC",
}

FORMATS = {
    "wfdb": "ecg_hf.formats.wfdb:decode",
    "rare_wfdb": "ecg_hf.formats.rare_wfdb:decode",
}


def load(table: dict[str, str], name: str) -> Any:
    """Imports and returns what `table` lists under `name`.

    Raises:
        KeyError: If `name` is not in `table`; the message lists what is.
    """
    if name not in table:
        raise KeyError(f"{name!r} is not registered; choose one of {sorted(table)}")
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)
