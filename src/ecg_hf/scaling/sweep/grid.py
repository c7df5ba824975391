"""A grid of runs: families x objectives x sizes x shares of the patients x seeds, and what each run is evaluated on."""

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
LISTS = ("model_fields", "corpus_fields")  # what sizes, families and objectives say of these adds up
SUPERVISED = "supervised"


@dataclass(frozen=True)
class Rates:
    """Learning rates that are tried first, at a few sizes and all data.

    Args:
        rates: The rates.
        sizes: At which sizes.
        seeds: Of the runs.
        arguments: What these runs do otherwise than those of the grid.
    """

    rates: tuple[float, ...]
    sizes: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """What a sweep trains and evaluates.

    Args:
        arguments: Of all runs, by name of PretrainingArguments.
        families: Arguments by family; `backbone` says which one of the library it is, if its name does not.
        objectives: Arguments by objective; `objective` says which one of the library it is, if its name does not.
        sizes: Arguments by size; `size` says which one of the library it is, if its name does not, and `families` has
            what it says to single families.
        shares: Arguments by share of the patients, for those that have any of their own.
        runs: Blocks of runs, whose union the grid is; each names values of `Block`.
        evaluations: What each run is evaluated on.
        learning_rates: What is tried to find the learning rates; None takes those of the arguments.
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
        """Lists the runs, each once."""
        named = list(self.families), list(self.objectives), list(self.sizes)
        return list(dict.fromkeys(point for block in self.runs for point in block.points(*named)))

    def pair(self, family: str, objective: str) -> str:
        """Names the pair of the library that a family and an objective are."""
        backbone = self.families[family].get("backbone", family)
        pair = f"{backbone}-{self.objectives[objective].get('objective', objective)}"
        if pair not in PAIRS:
            raise KeyError(f"pair {pair!r} is not registered; choose from {sorted(PAIRS)}")
        return pair

    def paradigm(self, objective: str) -> str:
        """Says whether an objective is supervised, "sl", or self-supervised, "ssl"."""
        return "sl" if self.objectives[objective].get("objective", objective) == SUPERVISED else "ssl"

    def arguments_of(self, point: Point, folder: Path, **changes: Any) -> PretrainingArguments:
        """Gives the arguments of a run.

        Args:
            point: The run.
            folder: Where it goes.
            changes: What goes before all that the grid says.
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
        """Checks that what adds up, or is compared, is a list: text would be taken for the list of its letters."""
        kinds = ("families", "objectives", "sizes", "shares")
        parts = {f"{key} of {kind}": given for kind in kinds for key, given in getattr(self, kind).items()}
        parts |= {f"{family} of {size}": own for size, family, own in self._own_of_families()}
        tried = self.learning_rates.arguments if self.learning_rates else {}
        for where, part in (parts | {"arguments": self.arguments, "learning_rates": tried}).items():
            for name in part.keys() & {*LISTS, "labels"}:
                _require_list(part[name], name, where)

    def _own_of_families(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Lists size, family and what the one says to the other alone."""
        found = []
        for size, given in self.sizes.items():
            owns = _require_mapping(given.get("families", {}), f"families of {size}")
            self._require("families", tuple(owns))
            found += [(size, family, _require_mapping(own, f"{family} of {size}")) for family, own in owns.items()]
        return found

    def _check_shares(self) -> None:
        """Checks that a share with arguments of its own is one of some run."""
        used = {point.fraction for point in self.points()} | ({1.0} if self.learning_rates else set())
        if odd := sorted(self.shares.keys() - used):
            raise ValueError(f"shares names {odd}, which no run has; choose from {sorted(used)}, or leave them out")

    def _check_groups(self, family: str, objective: str) -> None:
        """Checks that what a probe calls seen was, and what it calls unseen was not, among the pretraining labels."""
        said = self.arguments | self.families[family] | self.objectives[objective]
        for evaluation in self.evaluations:
            if self.paradigm(objective) != "sl" or evaluation.task is None or evaluation.task != said.get("task"):
                continue
            every = load(TASKS, evaluation.task).labels
            # labels that a rule finds in the data are not known yet, but those of both sides are of the same rule
            learned = set(said.get("labels") or every or evaluation.labels or ["all of its labels"])
            asked = set(evaluation.labels or every or learned)
            if odd := evaluation.contradicts(asked, learned):
                raise ValueError(
                    f"{evaluation.name} is of the group {evaluation.group}, but of its labels {sorted(odd)} are not: "
                    f"{objective} learns {said.get('labels') or 'all labels'}"
                )


def read_grid(path: Path) -> Grid:
    """Reads a grid from YAML.

    Raises:
        ValueError: If it says something that no grid has.
        KeyError: If a pair, or something that a block names, does not exist.
    """
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw = _require_mapping(raw, path.name)
    for name in ("families", "objectives", "sizes"):
        given = raw.get(name) or {}
        named = given if isinstance(given, dict) else dict.fromkeys(_require_list(given, name, path.name))
        raw[name] = {str(key): _require_mapping(named[key] or {}, f"{key} of {name}") for key in named}
    shares = _require_mapping(raw.get("shares") or {}, "shares")
    raw["shares"] = {float(share): _require_mapping(shares[share] or {}, f"{share} of shares") for share in shares}
    for name, kind, where in (("runs", Block, "a block of runs"), ("evaluations", Evaluation, "an evaluation")):
        listed = _require_list(raw.get(name) or ([{}] if kind is Block else []), name, path.name)
        raw[name] = tuple(_make(kind, one, where) for one in listed)
    if raw.get("learning_rates"):
        raw["learning_rates"] = _make(Rates, raw["learning_rates"], "learning_rates")
    return _make(Grid, raw, path.name)


def _make(kind: type[Made], raw: Any, where: str) -> Made:
    """Makes a dataclass of a mapping: lists become tuples, numbers that YAML takes for text numbers."""
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
