import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from ecg_hf import PAIRS
from ecg_hf.evaluation.arguments import FinetuningArguments
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.recipes import parse_arguments, parse_fields
from places import ROOT


def test_flags_give_the_arguments_of_a_run():
    words = "--output_dir out --corpus ptbxl synthetic --data_dir root --corpus_weights 0.7 0.3 --max_steps 5 --compile"
    arguments = parse_arguments(PretrainingArguments, words.split())
    assert (arguments.corpus, arguments.corpus_weights, arguments.data_dir) == (
        ["ptbxl", "synthetic"],
        [0.7, 0.3],
        ["root"],
    )
    assert arguments.max_steps == 5 and arguments.compile and arguments.pair == "s4-cpc"


def test_flags_override_a_recipe(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"output_dir": "a", "max_steps": 5, "corpus": ["synthetic"], "compile": True}))
    arguments = parse_arguments(PretrainingArguments, [str(recipe), "--output_dir", "b", "--seed", "3"])
    assert (arguments.output_dir, arguments.max_steps, arguments.seed, arguments.compile) == ("b", 5, 3, True)


def test_a_recipe_with_a_misspelt_field_is_refused(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("output_dir: a\nmax_step: 5\n")
    with pytest.raises(ValueError, match=r"got \['max_step'\]; choose from .*max_steps"):
        parse_arguments(PretrainingArguments, [str(recipe)])


@pytest.mark.parametrize(
    "kind, values, message",
    [
        (PretrainingArguments, {"schedule": "linear"}, "schedule must be one of"),
        (PretrainingArguments, {"mixed_precision": "bf8"}, "mixed_precision must be one of"),
        (PretrainingArguments, {"checkpoint_steps": 0}, "checkpoint_steps must be at least 1, got 0"),
        (PretrainingArguments, {"max_grad_norm": -1.0}, "max_grad_norm must be at least 0, got -1.0"),
        (PretrainingArguments, {"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
        (PretrainingArguments, {"corpus_weights": [0.5, 0.5]}, "corpus_weights needs one value for each of"),
        (FinetuningArguments, {"mode": "probe"}, "mode must be linear, frozen, finetune or scratch, got 'probe'"),
        (FinetuningArguments, {"fraction": 0}, "fraction must be above 0 and at most 1, got 0"),
        (FinetuningArguments, {"unlabelled": "keep"}, "unlabelled must be drop or zero"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(kind, values, message):
    needed = {"output_dir": "out"} | ({"model": "m", "task": "synthetic"} if kind is FinetuningArguments else {})
    with pytest.raises(ValueError, match=message):
        kind(**needed, **values)


def test_fields_are_read_as_yaml():
    assert parse_fields(["dropout=0.1", "causal=true", "negatives=batch", "n=3"]) == {
        "dropout": 0.1,
        "causal": True,
        "negatives": "batch",
        "n": 3,
    }


def test_a_field_without_a_value_is_refused():
    with pytest.raises(ValueError, match="expected name=value, got 'dropout'"):
        parse_fields(["dropout"])


RECIPES = ROOT / "scripts" / "recipes"
GRID = sorted([*RECIPES.glob("*-*.yaml"), *RECIPES.glob("as-published/*-*.yaml")])
GRID = [path for path in GRID if path.stem != "study-a"]


@pytest.mark.parametrize("path", GRID, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_of_the_grid_names_a_run_that_can_be_built(path):
    arguments = parse_arguments(PretrainingArguments, [str(path), "--output_dir", "out", "--data_dir", "root"])
    assert (arguments.pair, arguments.size, arguments.batch_size) == (path.stem, "paper-a", 64)
    pair = PAIRS[arguments.pair]
    config = pair.config_class(**pair.backbone_class.sizes["paper-a"], **parse_fields(arguments.model_fields))
    with torch.device("meta"):
        assert pair(config).backbone.num_parameters() > 2_900_000


def test_the_recipes_are_the_grid_of_study_a():
    assert len(GRID) == 3 * 5 + 5


def test_a_recipe_says_what_its_base_does_not_and_overrides_what_it_does():
    ours, theirs = (
        parse_arguments(PretrainingArguments, [str(RECIPES / name), "--output_dir", "out"])
        for name in ("s4-jepa.yaml", "as-published/s4-jepa.yaml")
    )
    assert (ours.corpus, theirs.corpus) == (["ptbxl"], ["ptbxl"])
    assert (ours.schedule, theirs.schedule) == ("cosine", "constant")
    assert not ours.model_fields and "teacher=frozen_random" in theirs.model_fields


@pytest.mark.parametrize("path", sorted(RECIPES.glob("accelerate/*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_every_config_that_is_shipped(path):
    loaded = load_config_from_file(str(path))
    assert loaded.num_processes >= 1
    assert str(loaded.distributed_type).upper().split(".")[-1] in path.read_text()
