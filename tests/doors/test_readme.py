import os
import re
import subprocess
import sys

import ecg_hf
from ecg_hf.registry import CORPORA, TASKS
from places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs_as_printed_and_prints_what_it_says(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    command, environment = [sys.executable, "-c", example], dict(os.environ)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == re.search(r"\.shape\)  # (.*)", example).group(1)


def test_the_readme_names_only_what_is_there():
    folders = [ROOT / "src" / "ecg_hf", ROOT / "dataset_scripts"]
    for name in re.findall(r"`(\w+\.py|\w+/)`", README):
        assert any((folder / name).exists() for folder in folders), name
    for script in re.findall(r"^(?:python|accelerate launch) (\S+\.py)", README, re.MULTILINE):
        assert (ROOT / script).exists(), script
    assert all(f"`{name}`" in README for name in CORPORA)
    for name in re.findall(r"ecg_hf/(\w+)\"", README):
        assert name in CORPORA
    for name in re.findall(r"--task (\w+)", README):
        assert name in TASKS
    for name in re.findall(r"ecg_hf\.(\w+)\(", README):
        assert hasattr(ecg_hf, name), name


def test_every_public_name_exists_and_is_documented():
    for name in ecg_hf.__all__:
        if name not in ("__version__", "LEADS", "PAIRS", "CLASSIFIERS"):
            assert getattr(ecg_hf, name).__doc__, name
