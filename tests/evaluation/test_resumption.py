import json
import os
import shutil

import pytest
import torch
from safetensors.torch import save_file

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.evaluation.resumption import newest_whole_checkpoint, require_whole


def write(folder, step, best=None):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"head.weight": torch.zeros(100)}, path / "model.safetensors", {"format": "pt"})
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"state": torch.zeros(100)}, path / name)
    state = {"global_step": step, "best_model_checkpoint": None if best is None else str(folder / f"checkpoint-{best}")}
    (path / "trainer_state.json").write_text(json.dumps(state))
    return path


FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


def test_the_newest_checkpoint_is_the_one_of_the_last_step_not_of_the_last_name(tmp_path):
    for step in (90, 100, 9):
        write(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    assert newest_whole_checkpoint(tmp_path).name == "checkpoint-100"


def test_there_is_none_where_none_was_written(tmp_path):
    assert newest_whole_checkpoint(tmp_path / "trainer") is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [None, 0.0, 0.5, 0.99])
def test_a_checkpoint_with_a_file_missing_or_cut_off_is_passed_over(tmp_path, caplog, name, share):
    write(tmp_path, 10)
    path = write(tmp_path, 20, best=10) / name
    if share is None:
        path.unlink()
    else:
        os.truncate(path, int(share * path.stat().st_size))
    assert newest_whole_checkpoint(tmp_path).name == "checkpoint-10"
    assert "checkpoint-20 was not written to its end" in caplog.text


def test_a_checkpoint_whose_best_weights_are_gone_is_passed_over(tmp_path):
    write(tmp_path, 10)
    path = write(tmp_path, 20, best=5)
    with pytest.raises(EcgCheckpointError, match="checkpoint-5 has no"):
        require_whole(path)
    write(tmp_path, 5)
    assert newest_whole_checkpoint(tmp_path) == path
    os.truncate(tmp_path / "checkpoint-5/model.safetensors", 300)
    assert newest_whole_checkpoint(tmp_path).name == "checkpoint-10"


def test_a_checkpoint_under_the_name_of_another_is_passed_over(tmp_path):
    shutil.move(write(tmp_path, 20), tmp_path / "checkpoint-30")
    assert newest_whole_checkpoint(tmp_path) is None
