"""That a command which a text shows can be typed: its program takes it to the end, and its files are there."""

import re
from pathlib import Path

import pytest

from ecg_hf.commands.main import COMMANDS
from places import ROOT
from shown_commands import SPAN, START, commands_of, read_commands, without_fences
from shown_texts import MARKDOWN, find_files, read_texts
from typed_commands import RefusedError, Typed, known_flags, missing_paths, parse, resolve

EXAMPLES = [shown for shown in read_commands() if not shown.mention]
MENTIONS = [shown for shown in read_commands() if shown.mention]
NAMES = [name for topic in COMMANDS.values() for name in topic]
HIDDEN = re.compile(
    r"\bpython3? (?:scripts|dataset_scripts|benchmarks|tests)/|\baccelerate launch |\bsbatch scripts|\becg-hf [a-z]"
)
# Flags of other programs that pages name.
FOREIGN = {"--config_file", "--machine_rank", "--main_process_ip", "--main_process_port", "--num_processes"}


@pytest.mark.parametrize("shown", EXAMPLES, ids=str)
def test_a_shown_command_is_taken_to_the_end_and_its_files_are_there(shown):
    parse(resolve(shown.words))
    assert missing_paths(shown.words) == []


@pytest.mark.parametrize("shown", MENTIONS, ids=str)
def test_a_command_in_a_sentence_exists_and_so_do_its_flags(shown):
    typed = resolve(shown.words)
    if typed.kind not in ("command", "script"):
        parse(typed)
    elif flags := {word for word in typed.words if word.startswith("--")}:
        assert flags <= known_flags(typed)
    assert missing_paths(shown.words) == []


def test_no_command_hides_in_a_sentence_where_it_would_not_be_checked():
    hidden = []
    for text in read_texts():
        seen = "\n".join(" ".join(shown.words) for shown in commands_of(text))
        if len(HIDDEN.findall(text.whole)) > len(HIDDEN.findall(seen)):
            hidden.append(f"{text.file}:{text.lines[0][0]}")
    assert hidden == [], "put the command between backticks or on a line of its own"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_shown_by_its_own_help_and_named_on_a_page(name):
    module = f"src/ecg_hf/commands/{name.replace('-', '_')}.py"
    assert any(shown.file == module and resolve(shown.words).name == name for shown in EXAMPLES)
    assert any(f"`{name}`" in path.read_text(encoding="utf-8") for path in find_files(("README.md", "docs/*.md")))


@pytest.mark.parametrize(
    "path", find_files(("scripts/recipes/*.yaml", "scripts/recipes/as-published/*.yaml")), ids=lambda path: path.stem
)
def test_a_recipe_can_be_typed(path):
    words = (str(path.relative_to(ROOT)), "--output_dir", "OUT", "--data_dir", "ROOT")
    assert parse(Typed("command", "pretrain", words)).data_dir == ["ROOT"]


@pytest.mark.parametrize("path", find_files(("scripts/grids/*.yaml",)), ids=lambda path: path.stem)
def test_a_grid_can_be_typed(path):
    assert parse(Typed("command", "sweep", (str(path.relative_to(ROOT)), "OUT"))).out == Path("OUT")


def test_a_flag_that_a_page_names_is_a_flag_of_a_command():
    known = {flag for name in NAMES for flag in known_flags(Typed("command", name))} | FOREIGN
    known |= {flag for path in find_files(("benchmarks/*.py",)) for flag in known_flags(Typed("script", str(path)))}
    for path in find_files(MARKDOWN):
        for span in SPAN.findall(without_fences(path.read_text(encoding="utf-8"))):
            flags = [] if START.match(span) else re.findall(r"(?<![\w-])--[a-z_]+", span)
            assert set(flags) <= known, f"{path.relative_to(ROOT)} names {set(flags) - known}"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("```\necg-hf finetune --modell OUT --task synthetic --output_dir X\n```", "did you mean --model"),
        ("```\necg-hf finetune --model OUT --task synthetik --output_dir X\n```", "'synthetik' is not registered"),
        ("```\necg-hf pretrain --output_dir OUT --size 3m\n```", "3m"),
        ("```\necg-hf pretrain --output_dir OUT \\\n    --max_step 5\n```", "did you mean --max_steps"),
        ("```\necg-hf pretrian --output_dir OUT\n```", "unknown command pretrian"),
        ("```\naccelerate launch --confg_file x -m ecg_hf pretrain --output_dir OUT\n```", "confg_file"),
        ("```\nsbatch scripts/recipes/slurm/pretrain.sbatch --output_dir OUT --max_step 5\n```", "--max_steps"),
        ("```\npython benchmarks/probe.py --patients 5\n```", "unrecognized arguments: --patients"),
        ("`python scripts/train.py --output_dir OUT`", "scripts/train.py does not exist"),
        ("```\necg-hf pretrain recipes/s4-cpc-ptbxl.yaml --output_dir OUT\n```", "No such file"),
        ("```\nmake demonstration\n```", "no target demonstration"),
        ('```\npip install -e ".[everything]"\n```', "no extras"),
    ],
)
def test_a_command_that_is_wrong_would_be_seen(tmp_path, page, message):
    (tmp_path / "README.md").write_text(page)
    (shown,) = read_commands(tmp_path)
    with pytest.raises(RefusedError, match=message):
        parse(resolve(shown.words))


def test_a_file_that_is_missing_and_a_flag_that_is_wrong_in_a_sentence_would_be_seen(tmp_path):
    (tmp_path / "README.md").write_text("Say `ecg-hf build --exclud docs/x.md`, or `pytest tests/test_cnn.py`.")
    build, tests = read_commands(tmp_path)
    assert build.mention and "--exclud" not in known_flags(resolve(build.words))
    assert missing_paths(build.words) == ["docs/x.md"] and missing_paths(tests.words) == ["tests/test_cnn.py"]
