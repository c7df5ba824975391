import json
from collections import Counter
from itertools import pairwise

import pytest
from accelerate.state import AcceleratorState

from ecg_hf import PretrainingArguments, pretrain
from ecg_hf.errors import EcgCheckpointError
from ecg_hf.training.pretrain import open_run

SHARES = (0.1, 0.3, 0.5, 1.0)


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def arguments_for(folder, **changes):
    settings = {
        "pair": "transformer-masked",
        "size": "20k",
        "corpus_fields": ["num_records=120", "sampling_rate=100", "seed=1"],
        "sampling_rate": 100.0,
        "max_steps": 2,
        "batch_size": 4,
        "warmup_steps": 1,
    }
    return PretrainingArguments(output_dir=str(folder), **(settings | changes))


def trained_on(folder, **changes):
    (split,) = open_run(arguments_for(folder, **changes)).trainer.train.splits
    return split


def test_shares_are_nested_for_all_seeds_and_hold_whole_patients(tmp_path):
    every = trained_on(tmp_path)
    owned = Counter(every.patient_ids)
    kept = [trained_on(tmp_path, fraction=share, seed=number) for number, share in enumerate(SHARES)]
    for smaller, larger in pairwise(kept):
        assert set(smaller.record_ids) < set(larger.record_ids)
    for share, split in zip(SHARES, kept, strict=True):
        patients = Counter(split.patient_ids)
        assert len(patients) == round(share * len(owned))
        assert all(owned[patient] == count for patient, count in patients.items())


def test_another_seed_of_the_share_chooses_other_patients_and_the_seed_of_the_run_the_same(tmp_path):
    half = trained_on(tmp_path, fraction=0.5).record_ids
    assert trained_on(tmp_path, fraction=0.5, seed=9).record_ids == half
    assert set(trained_on(tmp_path, fraction=0.5, fraction_seed=9).record_ids) != set(half)


def test_a_share_decides_the_run_and_is_counted_in_it(tmp_path):
    run = json.loads((pretrain(arguments_for(tmp_path, fraction=0.3)) / "run.json").read_text())
    counts = run["corpora"][0]["splits"]
    used = trained_on(tmp_path, fraction=0.3)
    assert counts["train"]["num_records"] == len(used)
    assert counts["train"]["num_patients"] == len(set(used.patient_ids))
    assert counts["validation"]["num_records"] == len(open_run(arguments_for(tmp_path)).validation[0])
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(EcgCheckpointError, match=r"a run with fraction=0.3, got 0.5"):
        pretrain(arguments_for(tmp_path, fraction=0.5, resume=True))


def test_a_supervised_run_can_learn_some_of_the_labels_of_its_task(tmp_path):
    chosen = ["PVC", "AFIB"]
    supervised = {"pair": "transformer-supervised", "task": "synthetic", "fraction": 0.3}
    trainer = open_run(arguments_for(tmp_path, **supervised, labels=chosen)).trainer
    assert list(trainer.config.id2label.values()) == chosen
    every = open_run(arguments_for(tmp_path, **supervised)).trainer
    names = list(every.config.id2label.values())
    columns = every.train.targets[0][:, [names.index(label) for label in chosen]]
    assert (trainer.train.targets[0] == columns).all() and columns.sum() > 0


def test_labels_that_do_not_exist_and_shares_of_nobody_are_refused(tmp_path):
    with pytest.raises(ValueError, match="synthetic has no label 'AF'; choose from AFIB, BRADY"):
        open_run(arguments_for(tmp_path, pair="transformer-supervised", task="synthetic", labels=["AF"]))
    with pytest.raises(ValueError, match=r"labels belong to a task, got \['AFIB'\] without one"):
        arguments_for(tmp_path, labels=["AFIB"])
    with pytest.raises(ValueError, match="fraction must be above 0 and at most 1, got 0"):
        arguments_for(tmp_path, fraction=0)
