import io
import json
from dataclasses import replace

import pytest
import yaml

from ecg_hf.errors import EcgIntegrityError
from ecg_hf.scaling.sweep import training_job
from ecg_hf.scaling.sweep.data_job import DataJob
from ecg_hf.scaling.sweep.grid import read_grid
from ecg_hf.scaling.sweep.sweep import Sweep

PROBE = {
    "name": "noisy",
    "group": "ood_unseen",
    "task": "synthetic",
    "labels": ["NORM"],
    "corpus_fields": ["num_records=150", "sampling_rate=100", "seed=2"],
    "probe_sizes": [60],
}
GRID = {
    "arguments": {"corpus_fields": ["num_records=60", "sampling_rate=100", "seed=1"], "sampling_rate": 100},
    "families": ["transformer"],
    "objectives": ["masked"],
    "sizes": ["20k"],
}


def job_of(folder, *evaluations):
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(GRID | {"evaluations": list(evaluations)}))
    (job,) = Sweep(read_grid(path), folder / "out", stream=io.StringIO()).jobs().values()
    return job


def test_a_probe_that_can_be_made_passes(tmp_path):
    DataJob("data", tmp_path, (job_of(tmp_path, PROBE),)).do()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"labels": ["NORMAL"]}, "odd cannot be evaluated for any run: synthetic has no label 'NORMAL'; choose from"),
        ({"split": "dev"}, "odd cannot be evaluated for any run: synthetic has the splits train, .*, not 'dev'"),
        ({"probe_sizes": [60, 500]}, r"odd cannot be .* asks for 500 training records, got \d+; ask for fewer"),
        ({"probe_sizes": [60, 7]}, r"odd cannot be .* label NORM of a probe has \d records of one class among 7"),
        ({"task": "mimic_age", "labels": []}, "odd cannot be .* a probe asks for labels"),
    ],
)
def test_a_probe_that_no_run_can_have_is_refused_before_any_is_trained(tmp_path, changes, message):
    # the same data as the first probe's, which is possible
    job = job_of(tmp_path, PROBE, PROBE | {"name": "odd"} | changes)
    with pytest.raises(EcgIntegrityError, match=message):
        DataJob("data", tmp_path, (job,)).do()


def test_an_evaluation_that_fails_does_not_keep_the_others_from_being_made(tmp_path, monkeypatch):
    names = ["first", "second", "third", "fourth"]
    job = job_of(tmp_path, *(PROBE | {"name": name} for name in names))
    job.folder.mkdir(parents=True)
    (job.folder / "run.json").write_text(json.dumps({"arguments": vars(job.arguments)}))

    def evaluate(_, evaluation):
        if evaluation.name in ("first", "third"):
            raise FloatingPointError(f"the value of {evaluation.name} is not finite")
        return [{"value": 1.0}]

    monkeypatch.setattr(training_job, "evaluate", evaluate)
    with pytest.raises(EcgIntegrityError, match=r"2 of 4 evaluations .*: first: FloatingPointError: .*; third: Fl"):
        job.do()
    assert [job.rows_of(evaluation) is not None for evaluation in job.evaluations] == [False, True, False, True]
    assert not job.done() and replace(job, evaluations=job.evaluations[1::2]).done()
