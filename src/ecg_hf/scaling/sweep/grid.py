"""The grid of a sweep, which defines the runs to train and the evaluations of each run, and its YAML reader."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any, TypeVar, get_origin

import yaml

from ecg_hf.models.pairs import PAIRS
from ecg_hf.registry import TASKS, load
from ecg_hf.scaling.sweep.evaluations.question import Evaluation
from ecg_hf.scaling.sweep.points import Block, Point
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.recipes import make_arguments

Made = TypeVar("Made")
Named = dict[str, dict[str, Any]]
# Lists that add up over the parts of a grid (families, objectives, sizes, ...); other arguments replace earlier values.
LISTS = ("model_fields", "corpus_fields")
SUPERVISED = "supervised"


@dataclass(frozen=True)
class Rates:
    """Learning rates to try before the runs of a grid, at a few sizes and on all training patients.

    Args:
        rates: Learning rates to try.
        sizes: Sizes to try them at, keys of the grid's sizes.
        seeds: Seeds of the trials; each rate is tried once per seed.
        arguments: Arguments of the trials that replace those of the grid.
    """

    rates: tuple[float, ...]
    sizes: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """The runs that a sweep trains, and the evaluations that each of them gets.

    Arguments are those of `PretrainingArguments`. A run gets those of all runs, of its family, its objective, its size
    and its fraction of the patients. Later values replace earlier ones, except that the lists `model_fields` and
    `corpus_fields` add up.

    Args:
        families: Arguments by family. The key is a backbone of the library unless `backbone` names one.
        objectives: Arguments by objective. The key is an objective of the library unless `objective` names one.
        sizes: Arguments by size. The key is a size of the library unless `size` names one; `families` holds arguments
            of the size for single families.
        runs: Blocks of runs; a run that is in several blocks is trained once.
        evaluations: Evaluations that each run gets.
        arguments: Arguments of all runs.
        shares: Arguments by fraction of the patients, for the fractions that need any.
        learning_rates: Learning rates to try first; None takes the learning rates of the arguments.

    Raises:
        ValueError: If values contradict each other, or have a wrong type.
        KeyError: If a pair does not exist, or a block asks for a family, objective or size that the grid lacks.

    Example:
        >>> from ecg_hf.scaling.sweep.grid import Grid
        >>> from ecg_hf.scaling.sweep.points import Block
        >>> blocks = (Block(fractions=(1.0, 0.5)),)
        >>> grid = Grid({"resnet": {}}, {"masked": {}}, {"20k": {}}, runs=blocks, evaluations=())
        >>> [point.run_id for point in grid.points()]
        ['resnet-masked-20k-share1-seed0', 'resnet-masked-20k-share0.5-seed0']
    """

    families: Named
    objectives: Named
    sizes: Named
    runs: tuple[Block, ...]
    evaluations: tuple[Evaluation, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    shares: dict[float, dict[str, Any]] = field(default_factory=dict)
    learning_rates: Rates | None = None

    def __post_init__(self) -> None:
        names = [evaluation.name for evaluation in self.evaluations]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"each evaluation needs a name of its own, got {sorted(repeated)} twice")
        for part in (*self.runs, *((self.learning_rates,) if self.learning_rates else ())):
            for kind in ("families", "objectives", "sizes"):
                self._require(kind, getattr(part, kind, ()))
        self._check_lists()
        self._check_shares()
        for family, objective in product(self.families, self.objectives):
            self._check_groups(family, objective)

    def points(self) -> list[Point]:
        """Lists the runs of all blocks, each once."""
        named = list(self.families), list(self.objectives), list(self.sizes)
        return list(dict.fromkeys(point for block in self.runs for point in block.points(*named)))

    def pair(self, family: str, objective: str) -> str:
        """Returns the name of the library's pair that trains a family with an objective.

        Args:
            family: Key of the grid's families.
            objective: Key of the grid's objectives.

        Raises:
            KeyError: If the library has no such pair.
        """
        backbone = self.families[family].get("backbone", family)
        pair = f"{backbone}-{self.objectives[objective].get('objective', objective)}"
        if pair not in PAIRS:
            raise KeyError(f"pair {pair!r} is not registered; choose from {sorted(PAIRS)}")
        return pair

    def paradigm(self, objective: str) -> str:
        """Returns the paradigm of an objective: "sl" if it is supervised, "ssl" if it is self-supervised."""
        return "sl" if self.objectives[objective].get("objective", objective) == SUPERVISED else "ssl"

    def arguments_of(self, point: Point, folder: Path, **changes: Any) -> PretrainingArguments:
        """Builds the arguments of a run.

        Args:
            point: Point of the grid.
            folder: Folder of the run.
            changes: Arguments that replace those of the grid.
        """
        merged: dict[str, Any] = {"size": point.size}
        size = self.sizes[point.size]
        parts = (self.families[point.family], self.objectives[point.objective], size)
        own = size.get("families", {}).get(point.family, {})
        for part in (self.arguments, *parts, own, self.shares.get(point.fraction, {}), changes):
            for name, value in part.items():
                merged[name] = [*merged.get(name, ()), *value] if name in LISTS else value
        merged |= {"pair": self.pair(point.family, point.objective), "output_dir": str(folder), "resume": True}
        merged |= {"fraction": point.fraction, "seed": point.seed}
        given = {name: value for name, value in merged.items() if name not in ("backbone", "objective", "families")}
        return make_arguments(PretrainingArguments, given, point.run_id)

    def _require(self, kind: str, names: tuple[str, ...]) -> None:
        known = getattr(self, kind)
        for name in names:
            if name not in known:
                raise KeyError(f"the grid has no {name!r} among its {kind}; choose from {', '.join(known)}")

    def _check_lists(self) -> None:
        """Checks that arguments which need a list have one: a text would be taken for the list of its letters."""
        kinds = ("families", "objectives", "sizes", "shares")
        parts = {f"{key} of {kind}": given for kind in kinds for key, given in getattr(self, kind).items()}
        parts |= {f"{family} of {size}": own for size, family, own in self._own_of_families()}
        tried = self.learning_rates.arguments if self.learning_rates else {}
        for where, part in (parts | {"arguments": self.arguments, "learning_rates": tried}).items():
            for name in part.keys() & {*LISTS, "labels"}:
                _require_list(part[name], name, where)

    def _own_of_families(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Lists each size's arguments for single families, as size, family and arguments."""
        found = []
        for size, given in self.sizes.items():
            owns = _require_mapping(given.get("families", {}), f"families of {size}")
            self._require("families", tuple(owns))
            found += [(size, family, _require_mapping(own, f"{family} of {size}")) for family, own in owns.items()]
        return found

    def _check_shares(self) -> None:
        """Checks that each fraction with arguments of its own belongs to some run."""
        used = {point.fraction for point in self.points()} | ({1.0} if self.learning_rates else set())
        if odd := sorted(self.shares.keys() - used):
            raise ValueError(f"shares names {odd}, which no run has; choose from {sorted(used)}, or leave them out")

    def _check_groups(self, family: str, objective: str) -> None:
        """Checks that labels of "ood_seen" probes are pretraining labels, and those of "ood_unseen" probes are not."""
        merged = self.arguments | self.families[family] | self.objectives[objective]
        for evaluation in self.evaluations:
            if self.paradigm(objective) != "sl" or evaluation.task is None or evaluation.task != merged.get("task"):
                continue
            every = load(TASKS, evaluation.task).labels
            # labels that a rule finds in the data are not known yet; the same rule gives those of run and probe
            learned = set(merged.get("labels") or every or evaluation.labels or ["all of its labels"])
            asked = set(evaluation.labels or every or learned)
            if odd := evaluation.contradicts(asked, learned):
                raise ValueError(
                    f"{evaluation.name} is of the group {evaluation.group}, but its labels {sorted(odd)} are not: "
                    f"{objective} learns {merged.get('labels') or 'all labels'}; choose other labels or another group"
                )


def read_grid(path: Path) -> Grid:
    """Reads a grid from a YAML file.

    Args:
        path: Path of the file, whose keys are the arguments of `Grid`. Families, objectives and sizes without
            arguments of their own can be a list of names.

    Raises:
        ValueError: If the file has an unknown field, lacks one, or a value is not allowed.
        KeyError: If a pair does not exist, or a block asks for a family, objective or size that the grid lacks.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from ecg_hf.scaling.sweep.grid import read_grid
        >>> text = "{families: [resnet], objectives: [masked], sizes: [20k], runs: [{seeds: [0, 1]}]}"
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "grid.yaml")
        ...     _ = path.write_text(text)
        ...     grid = read_grid(path)
        >>> [point.run_id for point in grid.points()]
        ['resnet-masked-20k-share1-seed0', 'resnet-masked-20k-share1-seed1']
    """
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw = _require_mapping(raw, path.name)
    for name in ("families", "objectives", "sizes"):
        given = raw.get(name) or {}
        named = given if isinstance(given, dict) else dict.fromkeys(_require_list(given, name, path.name))
        raw[name] = {str(key): _require_mapping(named[key] or {}, f"{key} of {name}") for key in named}
    shares = _require_mapping(raw.get("shares") or {}, "shares")
    raw["shares"] = {float(key): _require_mapping(shares[key] or {}, f"{key} of shares") for key in shares}
    for name, kind, where in (("runs", Block, "a block of runs"), ("evaluations", Evaluation, "an evaluation")):
        listed = _require_list(raw.get(name) or ([{}] if kind is Block else []), name, path.name)
        raw[name] = tuple(_make(kind, item, where) for item in listed)
    if raw.get("learning_rates"):
        raw["learning_rates"] = _make(Rates, raw["learning_rates"], "learning_rates")
    return _make(Grid, raw, path.name)


def _make(kind: type[Made], raw: Any, where: str) -> Made:
    """Builds a dataclass from a mapping: lists become tuples, and texts such as 1e-3 in YAML become numbers."""
    raw, known = _require_mapping(raw, where), {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    if odd := sorted(raw.keys() - known.keys()):
        raise ValueError(f"{where} does not know {odd}; choose from {sorted(known)}")
    needed = [name for name, entry in known.items() if entry.default is entry.default_factory is MISSING]
    if missing := [name for name in needed if name not in raw]:
        raise ValueError(f"{where} lacks {', '.join(missing)}; it needs {', '.join(needed)}")
    listed = {name for name, entry in known.items() if get_origin(entry.type) is tuple} & raw.keys()
    where = f"{where} {raw['name']!r}" if "name" in raw else where
    values = {name: tuple(_require_list(raw[name], name, where)) if name in listed else raw[name] for name in raw}
    for name in values.keys() & {"fractions", "rates"}:
        values[name] = tuple(float(value) for value in values[name])
    return kind(**values)


def _require_list(value: Any, name: str, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} of {where} must be a list, got {value!r}; write [{value}]")
    return list(value)


def _require_mapping(raw: Any, where: str) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise ValueError(f"{where} must map names to values, got {raw!r}")
    return dict(raw)
