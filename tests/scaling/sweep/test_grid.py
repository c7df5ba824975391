import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ecg_hf.scaling.sweep.evaluations.question import Evaluation
from ecg_hf.scaling.sweep.grid import Grid, read_grid
from ecg_hf.scaling.sweep.model_size import count_flops, measure
from ecg_hf.scaling.sweep.points import Block, Point

SMALL = {
    "arguments": {"corpus_fields": ["num_records=50"], "model_fields": ["dropout=0.0"], "learning_rate": "1e-3"},
    "families": {"resnet": None, "patches": {"backbone": "transformer", "model_fields": ["patch_size=8"]}},
    "objectives": {
        "masked": {"model_fields": ["mask_patch_size=8"]},
        "supervised": {"task": "synthetic", "labels": ["AFIB", "PVC"]},
    },
    "sizes": {"20k": {"batch_size": 7}, "63k": None},
}
SIZES = ["20k", "63k", "200k", "632k", "2m", "6.3m", "20m", "63m", "200m"]
PROBE = {"name": "p", "group": "ood_seen", "task": "synthetic", "labels": ["PVC"]}


def grid_of(folder, **changes):
    path = Path(folder) / "grid.yaml"
    path.write_text(yaml.safe_dump(SMALL | changes))
    return read_grid(path)


def test_a_grid_is_the_union_of_its_blocks(tmp_path):
    assert len(grid_of(tmp_path).points()) == 8
    blocks = [{"fractions": [1, 0.5]}, {"sizes": ["20k"], "families": ["resnet"], "seeds": [0, 1]}]
    points = grid_of(tmp_path, runs=blocks).points()
    assert len(points) == len(set(points)) == 16 + 2
    assert len({point.run_id for point in points}) == len(points)
    assert Point("resnet", "masked", "20k", 1.0, 1) in points and Point("patches", "masked", "20k", 0.5, 0) in points


def test_the_wide_design_has_thirty_runs_of_nine_sizes_and_seven_shares():
    shares = tuple(0.5**level for level in range(7))
    points = list(Block(fractions=shares, design="wide").points(["f"], ["o"], SIZES))
    places = {(point.size, point.fraction) for point in points}
    assert len(points) == len(places) == 30
    assert {(size, 1.0) for size in SIZES} <= places
    assert {(size, share) for size in ("63k", "2m", "63m") for share in shares} <= places
    assert {("20k", shares[-1]), ("200m", shares[-1]), ("200m", shares[3])} <= places


def test_arguments_come_from_the_grid_then_the_family_the_objective_and_the_size(tmp_path):
    grid = grid_of(tmp_path)
    made = grid.arguments_of(Point("patches", "masked", "20k", 0.5, 3), tmp_path / "run")
    assert (made.pair, made.size, made.fraction, made.seed) == ("transformer-masked", "20k", 0.5, 3)
    assert made.model_fields == ["dropout=0.0", "patch_size=8", "mask_patch_size=8"]
    assert (made.batch_size, made.learning_rate, made.resume) == (7, 1e-3, True)
    assert made.corpus_fields == ["num_records=50"] and made.output_dir == str(tmp_path / "run")
    other = grid.arguments_of(Point("resnet", "supervised", "63k", 1.0, 0), tmp_path, max_steps=5, batch_size=9)
    assert (other.pair, other.task, other.batch_size, other.max_steps) == ("resnet-supervised", "synthetic", 9, 5)
    assert grid.paradigm("masked") == "ssl" and grid.paradigm("supervised") == "sl"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"size": {}}, r"grid.yaml does not know \['size'\]; choose from"),
        ({"families": {"vit": None}}, "pair 'vit-masked' is not registered"),
        ({"runs": [{"sizes": ["2m"]}]}, "the grid has no '2m' among its sizes; choose from 20k, 63k"),
        ({"runs": [{"design": "narrow"}]}, "design must be every or wide, got 'narrow'"),
        ({"runs": [{"fractions": [0.5, 1]}]}, "fractions must begin with the largest"),
        ({"arguments": {"max_step": 3}}, r"must map names of PretrainingArguments to values, got \['max_step'\]"),
        ({"evaluations": [{"name": "x"}]}, "an evaluation lacks group"),
        ({"evaluations": [{"name": "x", "group": "ood"}]}, "group of x must be one of id, ood_seen, ood_unseen"),
        ({"evaluations": [{"name": "x", "group": "ood_seen"}]}, "x must name a task if, and only if, it is a probe"),
        ({"evaluations": [PROBE, PROBE]}, r"each evaluation needs a name of its own, got \['p'\] twice"),
        ({"evaluations": [PROBE | {"group": "ood_unseen"}]}, r"p is of the group ood_unseen, .*\['PVC'\] are not"),
        ({"evaluations": [PROBE | {"labels": ["PVC", "LAD"]}]}, r"its labels \['LAD'\] are not"),
        ({"evaluations": [PROBE | {"group": "ood_unseen", "labels": []}]}, r"its labels \['AFIB', 'PVC'\] are not"),
        ({"evaluations": [PROBE | {"labels": []}]}, r"p is of the group ood_seen, .*'NORM', .* are not"),
        ({"learning_rates": {"rates": [1e-3], "sizes": ["2m"]}}, "the grid has no '2m' among its sizes"),
        ({"learning_rates": {"rates": 1e-3, "sizes": ["20k"]}}, "rates of learning_rates must be a list, got 0.001"),
        ({"runs": [{"fractions": 0.5}]}, r"fractions of a block of runs must be a list, got 0.5; write \[0.5\]"),
        ({"runs": [{"seeds": 3}]}, "seeds of a block of runs must be a list, got 3"),
        ({"runs": [{"sizes": "20k"}]}, "sizes of a block of runs must be a list, got '20k'"),
        ({"evaluations": [PROBE | {"probe_sizes": 500}]}, "probe_sizes of an evaluation 'p' must be a list, got 500"),
        ({"evaluations": 3}, "evaluations of grid.yaml must be a list, got 3"),
        ({"families": "resnet"}, "families of grid.yaml must be a list, got 'resnet'"),
        ({"sizes": {"20k": {"model_fields": "dropout=0"}}}, "model_fields of 20k of sizes must be a list, got 'dr"),
        ({"sizes": {"20k": {"families": {"cnn": {}}}}}, "the grid has no 'cnn' among its families"),
        ({"sizes": {"20k": {"families": {"patches": {"model_fields": "a=1"}}}}}, "model_fields of patches of 20k must"),
        ({"sizes": {"20k": {"families": ["patches"]}}}, "families of 20k must map names to values"),
        ({"objectives": {"supervised": {"labels": "AFIB"}}}, "labels of supervised of objectives must be a list"),
        ({"shares": {0.25: {"max_steps": 9}}}, r"shares names \[0.25\], which no run has; choose from \[1.0\]"),
        ({"runs": [{"design": "wide"}]}, r"a law of N needs 4 sizes, got 2 \(20k, 63k\)"),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused(tmp_path, changes, message):
    with pytest.raises((ValueError, KeyError), match=message):
        grid = grid_of(tmp_path, **changes)
        for point in grid.points():
            grid.arguments_of(point, tmp_path)


def test_a_size_may_say_something_to_one_family_alone(tmp_path):
    sizes = {"20k": None, "30k": {"size": "20k", "families": {"patches": {"model_fields": ["hidden_size=20"]}}}}
    grid = grid_of(tmp_path, sizes=sizes)
    patches, resnet = (
        [grid.arguments_of(Point(family, "masked", size, 1.0, 0), tmp_path) for size in sizes]
        for family in ("patches", "resnet")
    )
    assert patches[1].model_fields == [*patches[0].model_fields, "hidden_size=20"]
    assert measure(patches[1]).n_params > 1.2 * measure(patches[0]).n_params
    assert replace(resnet[1], output_dir=resnet[0].output_dir) == resnet[0]


def test_a_model_is_measured_as_it_is_built(tmp_path):
    from ecg_hf.data.targets import choose_labels
    from ecg_hf.registry import TASKS, load
    from ecg_hf.training.pretrain import make_pair

    grid = grid_of(tmp_path)
    for objective in ("masked", "supervised"):
        arguments = grid.arguments_of(Point("patches", objective, "20k", 1.0, 0), tmp_path)
        task = choose_labels(load(TASKS, "synthetic"), arguments.labels) if arguments.task else None
        pair, size = make_pair(arguments, task), measure(arguments)
        counts = {name: parameter.numel() for name, parameter in pair.named_parameters() if parameter.requires_grad}
        assert size.n_params_total == sum(counts.values())
        assert size.n_params == sum(count for name, count in counts.items() if name.startswith("backbone."))
        assert size.n_params - size.n_params_nonembed == sum(
            count for name, count in counts.items() if name.startswith("backbone.stem.")
        )
        assert count_flops(arguments) == pair.backbone.forward_flops(600)


def test_a_share_of_the_trials_alone_may_have_arguments_of_its_own(tmp_path):
    tried = {"rates": [1e-3], "sizes": ["20k"]}
    grid = grid_of(tmp_path, runs=[{"fractions": [0.5]}], shares={1: {"max_steps": 9}}, learning_rates=tried)
    assert grid.shares == {1.0: {"max_steps": 9}}


def test_all_labels_of_a_rule_are_not_unseen_by_what_learned_all_of_them(tmp_path):
    rule = {"task": "sph", "labels": []}
    learned = {"supervised": {"task": "sph"}}
    grid_of(tmp_path, objectives=learned, evaluations=[PROBE | rule])
    with pytest.raises(ValueError, match=r"p is of the group ood_unseen, .*supervised learns all labels"):
        grid_of(tmp_path, objectives=learned, evaluations=[PROBE | rule | {"group": "ood_unseen"}])


def test_a_head_is_counted_if_the_labels_that_a_rule_would_find_are_named(tmp_path):
    grid = grid_of(tmp_path, objectives={"supervised": {"task": "sph"}})
    arguments = grid.arguments_of(Point("patches", "supervised", "20k", 1.0, 0), tmp_path)
    without, named = measure(arguments), measure(replace(arguments, labels=["a", "b", "c"]))
    other = measure(replace(arguments, labels=["a", "b", "c", "d"]))
    per_label = other.n_params_total - named.n_params_total
    assert named.n_params == without.n_params == without.n_params_total
    assert named.n_params_total == without.n_params_total + 3 * per_label and per_label > 1


def test_an_evaluation_is_plain_values(tmp_path):
    grid = grid_of(tmp_path, evaluations=[PROBE | {"probe_sizes": [100, 0]}])
    assert isinstance(grid, Grid) and grid.evaluations == (
        Evaluation("p", "ood_seen", task="synthetic", labels=("PVC",), probe_sizes=(100, 0)),
    )
    json.dumps(replace(grid.evaluations[0]).__dict__)
