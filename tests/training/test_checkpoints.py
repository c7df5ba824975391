import json

import pytest

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.output.files import partial_folder, read_json, replace_folder, write_json
from ecg_hf.training.checkpoints.folder import checkpoints_of, newest_checkpoint, prune_checkpoints, seal, verify


def write_checkpoint(root, step, text="weights"):
    target = root / f"step-{step:08d}"
    partial = partial_folder(target)
    (partial / "model.safetensors").write_text(f"{text} {step}")
    (partial / "nested").mkdir()
    (partial / "nested" / "optimizer.bin").write_text("moments")
    return seal(partial, target)


def test_a_sealed_folder_verifies_and_leaves_nothing_beside_it(tmp_path):
    target = write_checkpoint(tmp_path, 3)
    verify(target)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]
    assert set(read_json(target / "manifest.json")["files"]) == {"model.safetensors", "nested/optimizer.bin"}


@pytest.mark.parametrize("name", ["model.safetensors", "nested/optimizer.bin"])
def test_one_changed_byte_is_found(tmp_path, name):
    target = write_checkpoint(tmp_path, 3)
    content = bytearray((target / name).read_bytes())
    content[0] ^= 1
    (target / name).write_bytes(content)
    with pytest.raises(EcgCheckpointError, match="its manifest says"):
        verify(target)


def test_a_missing_file_is_found(tmp_path):
    target = write_checkpoint(tmp_path, 3)
    (target / "nested" / "optimizer.bin").unlink()
    with pytest.raises(EcgCheckpointError, match=r"lacks nested/optimizer\.bin"):
        verify(target)


def test_the_newest_checkpoint_is_the_newest_that_is_whole(tmp_path, caplog):
    first, second, third = (write_checkpoint(tmp_path, step) for step in (9, 10, 100))
    (third / "manifest.json").unlink()
    (second / "model.safetensors").write_text("cut")
    assert newest_checkpoint(tmp_path) == first
    assert "step-00000100" in caplog.text and "step-00000010" in caplog.text


def test_what_was_never_renamed_is_not_a_checkpoint(tmp_path):
    partial = partial_folder(tmp_path / "step-00000001")
    (partial / "model.safetensors").write_text("half")
    write_json(partial / "manifest.json", {"files": {}})
    assert newest_checkpoint(tmp_path) is None


def test_leftovers_of_a_killed_write_do_not_reach_the_next_checkpoint(tmp_path):
    (partial_folder(tmp_path / "step-00000001") / "stray").write_text("old")
    target = write_checkpoint(tmp_path, 1)
    assert not (target / "stray").exists()


@pytest.mark.parametrize("kept, left", [(2, ["step-00000002", "step-00000001"]), (1, ["step-00000002"])])
def test_pruning_keeps_what_was_just_written_and_drops_what_was_not_good_enough_to_go_on_from(tmp_path, kept, left):
    for step in (0, 1, 2, 10):
        write_checkpoint(tmp_path, step)
    prune_checkpoints(tmp_path, tmp_path / "step-00000002", kept)
    assert [path.name for path in checkpoints_of(tmp_path)] == left


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"files": 3}'])
def test_a_damaged_manifest_is_passed_over_for_an_older_checkpoint(tmp_path, damage):
    for step in (1, 2):
        write_checkpoint(tmp_path, step)
    (tmp_path / "step-00000002" / "manifest.json").write_text(damage)
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000001"


def test_json_is_replaced_whole_and_refuses_nan(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text()) == {"loss": 1.0}


def test_the_last_file_of_a_published_folder_comes_last(tmp_path, monkeypatch):
    partial = partial_folder(tmp_path / "model")
    for name in ("run.json", "model.safetensors", "zebra"):
        (partial / name).write_text(name)
    moved = []
    replace = type(partial).replace
    monkeypatch.setattr(
        type(partial), "replace", lambda self, target: (moved.append(self.name), replace(self, target))[1]
    )
    replace_folder(partial, tmp_path / "out", last="run.json")
    assert moved[-1] == "run.json" and sorted(moved) == ["model.safetensors", "run.json", "zebra"]
    assert not partial.exists()
