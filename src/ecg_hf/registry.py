"""Tables of all backbones, objectives, corpora and tasks by name, and hooks into transformers and datasets."""

from collections.abc import Callable
from functools import cache, partial, wraps
from importlib import import_module
from types import ModuleType
from typing import Any

import wrapt

PREFIX = "ecg_hf/"  # no account on the Hub can have this name, so no repository there is shadowed

BACKBONES = {
    "cnn": "ecg_hf.models.backbones.cnn:EcgCNNBackbone",
    "resnet": "ecg_hf.models.backbones.resnet:EcgResNetBackbone",
    "s4": "ecg_hf.models.backbones.s4:EcgS4Backbone",
    "transformer": "ecg_hf.models.backbones.transformer:EcgTransformerBackbone",
}

OBJECTIVES = {
    "cpc": "ecg_hf.models.objectives.cpc:CPC",
    "data2vec": "ecg_hf.models.objectives.data2vec:Data2Vec",
    "dinosr": "ecg_hf.models.objectives.dinosr:DinoSR",
    "hubertpp": "ecg_hf.models.objectives.hubertpp:HuBERTpp",
    "jepa": "ecg_hf.models.objectives.jepa:JEPA",
    "masked": "ecg_hf.models.objectives.masked:Masked",
    "supervised": "ecg_hf.models.objectives.supervised:Supervised",
}

CORPORA = {
    "challenge2021": "ecg_hf.corpora.sources.challenge.challenge2021:Challenge2021",
    "chapman": "ecg_hf.corpora.sources.challenge.chapman:Chapman",
    "code15": "ecg_hf.corpora.sources.code.code15:Code15",
    "code_test": "ecg_hf.corpora.sources.code.code_test:CodeTest",
    "cpsc2018": "ecg_hf.corpora.sources.challenge.cpsc2018:CPSC2018",
    "cpsc_extra": "ecg_hf.corpora.sources.challenge.cpsc_extra:CPSCExtra",
    "csv": "ecg_hf.corpora.sources.own.csv:Csv",
    "ecg_arrhythmia": "ecg_hf.corpora.sources.challenge.ecg_arrhythmia:ECGArrhythmia",
    "echonext": "ecg_hf.corpora.sources.echonext:EchoNext",
    "georgia": "ecg_hf.corpora.sources.challenge.georgia:Georgia",
    "hdf5": "ecg_hf.corpora.sources.own.hdf5:Hdf5",
    "heedb": "ecg_hf.corpora.sources.heedb.heedb:HEEDB",
    "ludb": "ecg_hf.corpora.sources.ludb:LUDB",
    "mimic_iv_ecg": "ecg_hf.corpora.sources.mimic.mimic_iv_ecg:MimicIVECG",
    "ningbo": "ecg_hf.corpora.sources.challenge.ningbo:Ningbo",
    "ptb": "ecg_hf.corpora.sources.ptb:PTB",
    "ptbxl": "ecg_hf.corpora.sources.ptbxl:PTBXL",
    "sph": "ecg_hf.corpora.sources.sph:SPH",
    "synthetic": "ecg_hf.corpora.sources.synthetic:Synthetic",
    "wfdb_folder": "ecg_hf.corpora.sources.own.wfdb_folder:WfdbFolder",
    "zzu_pecg": "ecg_hf.corpora.sources.zzu.zzu_pecg:ZZUPECG",
}

TASKS = {
    "chapman": "ecg_hf.tasks.chapman:ALL",
    "chapman_rhythm": "ecg_hf.tasks.chapman:RHYTHM",
    "code15": "ecg_hf.tasks.code15:CODE15",
    "cpsc2018": "ecg_hf.tasks.challenge2021:CPSC2018",
    "cpsc_extra": "ecg_hf.tasks.challenge2021:CPSC_EXTRA",
    "echonext": "ecg_hf.tasks.echonext:ECHONEXT",
    "georgia": "ecg_hf.tasks.challenge2021:GEORGIA",
    "mimic_age": "ecg_hf.tasks.mimic_iv_ecg:AGE",
    "mimic_biometrics": "ecg_hf.tasks.mimic_iv_ecg:BIOMETRICS",
    "mimic_cardiac": "ecg_hf.tasks.mimic_iv_ecg:CARDIAC",
    "mimic_deterioration": "ecg_hf.tasks.mimic_iv_ecg:DETERIORATION",
    "mimic_ecg_features": "ecg_hf.tasks.mimic_iv_ecg:ECG_FEATURES",
    "mimic_icu": "ecg_hf.tasks.mimic_iv_ecg:ICU",
    "mimic_lab_values": "ecg_hf.tasks.mimic_iv_ecg:LAB_VALUES",
    "mimic_mortality": "ecg_hf.tasks.mimic_iv_ecg:MORTALITY",
    "mimic_non_cardiac": "ecg_hf.tasks.mimic_iv_ecg:NON_CARDIAC",
    "mimic_sex": "ecg_hf.tasks.mimic_iv_ecg:SEX",
    "mimic_vital_signs": "ecg_hf.tasks.mimic_iv_ecg:VITAL_SIGNS",
    "ningbo": "ecg_hf.tasks.challenge2021:NINGBO",
    "ptbxl_all": "ecg_hf.tasks.ptbxl:ALL",
    "ptbxl_diagnostic": "ecg_hf.tasks.ptbxl:DIAGNOSTIC",
    "ptbxl_form": "ecg_hf.tasks.ptbxl:FORM",
    "ptbxl_rhythm": "ecg_hf.tasks.ptbxl:RHYTHM",
    "ptbxl_subdiagnostic": "ecg_hf.tasks.ptbxl:SUBDIAGNOSTIC",
    "ptbxl_superdiagnostic": "ecg_hf.tasks.ptbxl:SUPERDIAGNOSTIC",
    "sph": "ecg_hf.tasks.sph:SPH",
    "synthetic": "ecg_hf.tasks.synthetic:SYNTHETIC",
    "zzu_pecg": "ecg_hf.tasks.zzu_pecg:ZZU_PECG",
}


def load(table: dict[str, str], name: str) -> Any:
    """Imports and returns the object that `table` lists under `name`.

    Args:
        table: `BACKBONES`, `OBJECTIVES`, `CORPORA` or `TASKS`.
        name: Name of an entry of `table`.

    Returns:
        The registered class, or the `Task` of an entry of `TASKS`.

    Raises:
        KeyError: If `name` is not in `table`; the message lists the names that are.
    """
    if name not in table:
        raise KeyError(f"{name!r} is not registered; choose one of {sorted(table)}")
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)


def register_models() -> None:
    """Registers the library's models and feature extractors with the Auto classes of transformers, on first use.

    Calling this function imports nothing: the classes are imported and registered by the first call of an Auto class,
    whether transformers is imported before this package or after it.
    """
    auto = "transformers.models.auto"
    for module, method in (
        (f"{auto}.configuration_auto", "AutoConfig.from_pretrained"),
        (f"{auto}.configuration_auto", "AutoConfig.for_model"),
        (f"{auto}.feature_extraction_auto", "AutoFeatureExtractor.from_pretrained"),
    ):
        wrapt.when_imported(module)(partial(_import_first, method))


def _import_first(method: str, module: ModuleType) -> None:
    def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        for name in ("models.classification", "signals.feature_extraction"):  # the first one imports the pairs as well
            import_module(f"ecg_hf.{name}")
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(module, method, call)


def register_corpora() -> None:
    """Makes `datasets.load_dataset("ecg_hf/<name>", data_dir=...)` find the corpora once datasets is imported."""
    for module in ("datasets.load", "datasets.inspect"):
        wrapt.when_imported(module)(_find_corpora_first)


def _find_corpora_first(module: ModuleType) -> None:
    module.dataset_module_factory = _finding_corpora(module.dataset_module_factory)  # type: ignore[attr-defined]


@cache  # the modules of datasets share one function, and so one wrapper
def _finding_corpora(original: Callable[..., Any]) -> Callable[..., Any]:
    if hasattr(original, "ecg_hf_original"):
        return original

    @wraps(original)
    def _find(path: str, *args: Any, **kwargs: Any) -> Any:
        name = str(path).removeprefix(PREFIX)
        if name == str(path) or name not in CORPORA:
            return original(path, *args, **kwargs)
        if kwargs.get("data_files") is not None:
            raise ValueError(
                f"{path} finds its own files; pass the place of the corpus as data_dir instead of data_files"
            )
        source = CORPORA[name].partition(":")[0]
        return import_module("datasets.load").DatasetModule(source, "", {"dataset_name": name})

    _find.ecg_hf_original = original  # type: ignore[attr-defined]
    return _find
