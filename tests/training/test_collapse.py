import pytest
import torch
from accelerate.state import AcceleratorState

from ecg_hf import PretrainingArguments, pretrain
from ecg_hf.errors import EcgCollapseError
from ecg_hf.models.objectives.health import feature_health, perplexity
from ecg_hf.training.collapse import LIMITS, signs_of_collapse, watch_for_collapse
from ecg_hf.training.run_log import RunLog
from ecg_hf.training.trainer import Pretrainer


@pytest.fixture(autouse=True)
def fresh_accelerator():
    # Accelerate keeps one state per process, and a process has one run; a test process has many.
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def arguments_for(folder, **changes):
    return PretrainingArguments(
        **{
            "output_dir": str(folder),
            "size": "20k",
            "corpus_fields": ["num_records=40", "sampling_rate=100"],
            "sampling_rate": 100,
            "max_steps": 12,
            "batch_size": 4,
            "warmup_steps": 0,
            "validation_steps": 0,
            "checkpoint_steps": 6,
            "collapse_patience": 8,
            **changes,
        }
    )


def test_healthy_features_show_no_sign_and_collapsed_ones_do():
    generator = torch.Generator().manual_seed(0)
    healthy = torch.randn(4, 50, 32, generator=generator)
    same = torch.ones(4, 50, 32) + 0.01 * healthy
    line = healthy[..., :1] * torch.randn(32, generator=generator)
    assert signs_of_collapse({key: float(value) for key, value in feature_health(healthy).items()}) == {}
    assert list(signs_of_collapse({key: float(value) for key, value in feature_health(same).items()})) == [
        "feature_std"
    ]
    assert "effective_rank" in signs_of_collapse({key: float(value) for key, value in feature_health(line).items()})
    assert signs_of_collapse({"codebook_perplexity": float(perplexity(torch.tensor([99.0, 1, 0, 0])))})
    assert signs_of_collapse({"loss": 0.0, "accuracy": 0.0, "feature_std": None}) == {}


def test_steps_in_a_row_are_counted_and_a_healthy_one_starts_anew(caplog):
    arguments, bad, good = arguments_for("unused"), {"feature_std": 0.0}, {"feature_std": 1.0}
    count = 0
    for metrics in (bad, bad, good, *[bad] * 12):
        count = watch_for_collapse(metrics, count, arguments)
    assert count == 12
    assert [record.getMessage() for record in caplog.records if "collapsed for 8 steps" in record.getMessage()] == [
        "representations have collapsed for 8 steps in a row: feature_std 0 (limit 0.05); lower the learning rate, "
        "slow the teacher (ema_start_decay, ema_decay), or choose another objective"
    ]


@pytest.fixture
def collapsing(monkeypatch):
    """Plants a collapse: whatever comes in, every token that the backbone gives is nearly the same."""
    from ecg_hf.models.backbones.s4 import EcgS4Backbone

    def finish(self, tokens):
        return 1 + 1e-3 * tokens

    monkeypatch.setattr(EcgS4Backbone, "finish", finish)


def test_a_planted_collapse_stops_the_run_within_its_patience(collapsing, tmp_path):
    with pytest.raises(EcgCollapseError, match=r"collapsed for 8 steps in a row: feature_std .* \(limit 0.05\)"):
        pretrain(arguments_for(tmp_path, on_collapse="stop"))
    assert len(RunLog(tmp_path).rows()) == 8


def test_the_count_survives_a_kill(collapsing, tmp_path, monkeypatch):
    checkpoint = Pretrainer._checkpoint

    def die(self):
        checkpoint(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Pretrainer, "_checkpoint", die)
        pretrain(arguments_for(tmp_path))
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(EcgCollapseError):
        pretrain(arguments_for(tmp_path, on_collapse="stop", resume=True))
    assert [row["step"] for row in RunLog(tmp_path).rows()] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_collapse_can_be_ignored(collapsing, tmp_path, caplog):
    pretrain(arguments_for(tmp_path, on_collapse="ignore"))
    assert not [record for record in caplog.records if "collapsed" in record.getMessage()]


def test_a_healthy_run_is_left_alone(tmp_path):
    pretrain(arguments_for(tmp_path, on_collapse="stop", collapse_patience=1))
    rows = RunLog(tmp_path).rows()
    assert len(rows) == 12 and all(
        row[name] > LIMITS[name] for row in rows for name in ("feature_std", "effective_rank")
    )
