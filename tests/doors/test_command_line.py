"""What a person at a terminal meets: help, errors, exit statuses, and a package that is imported in no time."""

import re
import subprocess
import sys
import tomllib
from dataclasses import MISSING, field, fields, make_dataclass
from importlib import import_module
from typing import Any, get_type_hints

import pytest
from transformers import HfArgumentParser

from ecg_hf.commands import main as dispatcher
from ecg_hf.commands.main import COMMANDS, main
from ecg_hf.evaluation.arguments import FinetuningArguments
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.flags import FlagParser
from ecg_hf.training.recipes import parse_arguments
from places import ROOT

NAMES = [name for topic in COMMANDS.values() for name in topic]
HEAVY = ["torch", "transformers", "datasets", "accelerate", "pandas", "scipy", "sklearn", "matplotlib", "pyarrow"]


def type_words(capsys, *words: str) -> tuple[int, str, str]:
    """Types words behind ecg-hf in this process; returns the exit status and what was printed."""
    try:
        status = main(list(words))
    except SystemExit as ended:
        status = ended.code
    printed = capsys.readouterr()
    return int(status or 0), printed.out, printed.err


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_every_command(capsys, words):
    status, out, err = type_words(capsys, *words)
    assert (status, err) == (0, "") and all(re.search(rf"^  {name} +\S", out, re.M) for name in NAMES)


def test_the_version_is_that_of_the_project(capsys):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert type_words(capsys, "--version") == (0, f"ecg-hf {version}\n", "")


def test_the_installed_command_is_the_dispatcher():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, function = scripts["ecg-hf"].partition(":")
    assert getattr(import_module(module), function) is dispatcher.main


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command_shows_examples_and_explains_every_flag(capsys, name):
    status, out, err = type_words(capsys, name, "--help")
    assert (status, err) == (0, "") and re.search(rf"^ *ecg-hf {name}\b", out, re.M)
    assert out.startswith(f"usage: ecg-hf {name}")
    for flag in re.findall(r"^  (--\w+.*)$", out, re.M):
        assert "  " in flag or len(flag) > 28, f"{flag} has no text"
    assert all(len(line) <= 120 for line in out.splitlines())


def parser_of(name: str, monkeypatch) -> FlagParser:
    """The parser of a command."""
    found = []
    monkeypatch.setattr(FlagParser, "print_help", lambda parser, *_: found.append(parser))
    with pytest.raises(SystemExit):
        main([name, "--help"])
    return found[0]


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_the_default_of_every_flag_that_has_one(name, monkeypatch):
    parser = parser_of(name, monkeypatch)
    entries = re.split(r"^ {0,2}(?=\S)", parser.format_help(), flags=re.M)
    texts = {entry.split()[0]: " ".join(entry.split()) for entry in entries if entry.startswith("-")}
    for action in parser._actions:
        if action.option_strings and action.default not in (None, "==SUPPRESS==", []) and action.default is not False:
            words = action.default if isinstance(action.default, list) else [action.default]
            written = " ".join(f"{word:g}" if isinstance(word, float) else str(word) for word in words)
            assert texts[action.option_strings[0]].endswith(f"[{written}]")


def test_help_and_the_package_need_nothing_heavy():
    code = f"""
import contextlib, io, sys
from importlib import import_module
import ecg_hf
for name in {NAMES}:
    module = import_module("ecg_hf.commands." + name.replace("-", "_"))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        module.main(["--help"], "ecg-hf " + name)
print([name for name in {HEAVY} if name in sys.modules])
"""
    assert run_python(code) == "[]\n"


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["demo", "--outputdir", "x"], "--output_dir"),
        (["corpora", "--hlep"], "--help"),
        (["verify", "ptbxl", "x", "--wokers", "2"], "--workers"),
        (["build", "ptbxl", "x", "y", "--num_shard", "2"], "--num_shards"),
        (["publish-corpus", "x", "y", "--to-foldr", "z"], "--to_folder"),
        (["mimic-measurements", "--data_dri", "x"], "--data_dir"),
        (["pretrain", "--output_dir", "x", "--max_step", "5"], "--max_steps"),
        (["pretrain", "--outptu_dir", "x"], "--output_dir"),
        (["finetune", "--modell", "x"], "--model"),
        (["convert", "x", "y", "--causl=true"], "--causal"),
        (["publish", "--folder", "x", "--repo", "y"], "--repo_id"),
        (["sweep", "x", "y", "--thread", "2"], "--threads"),
        (["fit-scaling", "x", "y", "--fomr", "kaplan"], "--form"),
    ],
)
def test_a_mistyped_flag_ends_with_status_2_and_names_the_right_one(capsys, words, flag):
    status, out, err = type_words(capsys, *words)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].endswith(f"did you mean {flag}?") and err.count("error:") == 1


def test_a_flag_like_no_other_points_to_the_help(capsys):
    status, _, err = type_words(capsys, "pretrain", "--output_dir", "x", "--zzzz")
    assert status == 2 and err.endswith("unrecognized argument --zzzz; --help lists the flags\n")


@pytest.mark.parametrize(
    ("typed", "meant"), [("pretrian", "pretrain"), ("fit_scalin", "fit-scaling"), ("corpus", "corpora")]
)
def test_a_mistyped_command_ends_with_status_2_and_names_the_right_one(capsys, typed, meant):
    status, out, err = type_words(capsys, typed)
    assert (status, out, err) == (2, "", f"ecg-hf: unknown command {typed}; did you mean {meant}?\n")


def test_a_command_like_no_other_points_to_the_help(capsys):
    assert type_words(capsys, "xyzzy") == (2, "", "ecg-hf: unknown command xyzzy; ecg-hf --help lists the commands\n")


@pytest.mark.parametrize(
    "words",
    [
        ["finetune", "--model", "x", "--task", "synthetic", "--output_dir", "y", "--mode", "probe"],
        ["pretrain", "nothing.yaml"],
        ["pretrain", "--output_dir", "x", "--pair", "s4-gpt", "--corpus_fields", "num_records=20"],
        ["fit-scaling", "nothing.jsonl", "y"],
        ["build", "ptbxl", "nothing", "y"],
    ],
)
def test_an_expected_error_is_one_line_with_status_1(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    status, _, err = type_words(capsys, *words)
    assert status == 1 and err.startswith(f"ecg-hf {words[0]}: ") and err.count("\n") == 1


PRETRAINING = [
    "--output_dir OUT",
    "--output_dir=OUT --max_steps=5 --learning_rate 3e-3 --seed 7",
    "--output-dir OUT --max-steps 5 --corpus-fields num_records=40 sampling_rate=100",
    "--output_dir OUT --corpus ptbxl synthetic --corpus_weights 1 3 --data_dir a",
    "--output_dir OUT --compile --dry_run --resume",
    "--output_dir OUT --compile true --dry_run no --resume 1 --gradient_checkpointing yes",
    "--output_dir OUT --trackers tensorboard wandb --model_fields dropout=0.1",
    "--output_dir OUT --task synthetic --labels NORM AFIB --fraction 0.5 --fraction_seed 3",
    "--output_dir OUT --warmup_steps 0 --max_grad_norm 0 --weight_decay 1e-4 --mixed_precision bf16",
    "--output_dir OUT --seed 1 --seed 2",
]
FINETUNING = [
    "--model m --task synthetic --output_dir OUT",
    "--model m --task ptbxl_all --output_dir OUT --mode finetune --data_dir d --epochs 3 --unlabelled zero",
    "--model m --task synthetic --output_dir OUT --untrained --solver adamw --frozen_features float16",
    "--model m --task synthetic --output_dir OUT --untrained false --vocabulary all --feature-cache f",
    "--model m --task synthetic --output_dir OUT --fraction 0.1 --corpus_fields num_records=40 seed=1 --resume true",
]


def without_titles(kind: type) -> type:
    """The same dataclass without the titles in its fields, which the parser of transformers does not know."""
    made, hints = [], get_type_hints(kind)
    for entry in fields(kind):
        given = {"default": entry.default} if entry.default_factory is MISSING else {}
        given |= {} if entry.default_factory is MISSING else {"default_factory": entry.default_factory}
        made.append((entry.name, hints[entry.name], field(**given)))
    return make_dataclass(kind.__name__, made)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        *((PretrainingArguments, words) for words in PRETRAINING),
        *((FinetuningArguments, words) for words in FINETUNING),
    ],
)
def test_words_mean_what_they_mean_to_the_parser_of_transformers(kind: Any, words: str):
    (expected,) = HfArgumentParser(without_titles(kind)).parse_args_into_dataclasses(words.split())
    assert vars(parse_arguments(kind, words.split())) == vars(expected)
