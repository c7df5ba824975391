import copy
import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError

from ecg_hf import PAIRS
from ecg_hf.models.objectives.codebook import sinkhorn
from ecg_hf.models.objectives.hubertpp import Prototypes
from ecg_hf.models.objectives.masking import draw_spans
from ecg_hf.models.objectives.teacher import standardise

SIZES = [6, 9]


def make_pair(**fields):
    pair = PAIRS["s4-hubertpp"]
    small = {"hidden_size": 16, "num_layers": 2, "codebook_sizes": SIZES}
    torch.manual_seed(0)
    return pair(pair.config_class(**{**small, **fields}))


def codes_of(pair):
    return [codebook.codes.clone() for codebook in pair.objective.codebooks]


def same(codes, others):
    return all(torch.equal(one, other) for one, other in zip(codes, others, strict=True))


@pytest.fixture
def signal():
    return torch.randn(4, 12, 80, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def started(signal):
    pair = make_pair().train()
    for _ in range(2):
        pair(signal)
        pair.after_step()
    return pair


def test_the_head_of_the_reference_has_its_size():
    pair = make_pair(hidden_size=512, num_layers=1, codebook_sizes=[128, 256])
    assert sum(value.numel() for value in pair.objective.head.parameters()) == 459_648


@pytest.mark.parametrize(
    ("step", "teacher", "student"), [(0, 0.15, 0.5), (100, 0.11, 0.3), (200, 0.07, 0.1), (500, 0.07, 0.1)]
)
def test_temperatures_fall_along_half_a_cosine(step, teacher, student):
    objective = make_pair().objective
    objective.num_steps.fill_(step)
    config = objective.config
    assert objective._temperature(config.teacher_start_temperature, config.teacher_temperature).item() == pytest.approx(
        teacher, rel=1e-6
    )
    assert objective._temperature(config.student_start_temperature, config.student_temperature).item() == pytest.approx(
        student, rel=1e-6
    )


def test_temperatures_that_need_no_steps_are_final_at_once():
    assert make_pair(temperature_steps=0).objective._temperature(0.5, 0.1).item() == pytest.approx(0.1)


def test_steps_are_counted_once_per_step_whatever_the_micro_batches(signal):
    pair = make_pair().train()
    for _ in range(3):
        pair(signal[:2])
        pair(signal[2:])
        pair.after_step()
    pair.eval()(signal)
    assert pair.objective.num_steps == 3


def test_one_turn_of_the_prototypes_by_hand():
    prototypes = Prototypes(2, 3, 0.99)
    prototypes.codes.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
    tokens = torch.tensor([[0.0, 0, 1], [0, 1, 0]])
    prototypes.collect(torch.tensor([[0.75, 0.25], [0.5, 0.5]]), tokens)
    prototypes.update()
    first = torch.tensor([0.99, 0.01 * 0.5 / math.hypot(0.75, 0.5), 0.01 * 0.75 / math.hypot(0.75, 0.5)])
    second = torch.tensor([0, 0.99 + 0.01 * 0.5 / math.hypot(0.25, 0.5), 0.01 * 0.25 / math.hypot(0.25, 0.5)])
    assert torch.allclose(prototypes.codes, torch.stack([first / first.norm(), second / second.norm()]), atol=1e-7)
    before = prototypes.codes.clone()
    prototypes.update()
    assert torch.allclose(prototypes.codes, before, atol=1e-7)


@pytest.mark.parametrize(("masked_weight", "target_norm"), [(0.75, "time"), (1.0, "token"), (0.0, "time")])
def test_loss_and_metrics_equal_a_loop_over_codebooks_and_tokens(signal, masked_weight, target_norm):
    pair = make_pair(masked_weight=masked_weight, entropy_weight=0.05, target_norm=target_norm).eval()
    objective = pair.objective
    objective.num_steps.fill_(100)
    output = pair(signal)
    with torch.no_grad():
        teacher = objective.teacher(signal)["last_hidden_state"].double()
        mask = draw_spans(pair.config, teacher, training=False)
        logits = objective.head(objective.encode_masked(pair.backbone, signal, mask)).double().flatten(0, 1)
    if target_norm == "time":
        variance = teacher.var(dim=1, keepdim=True, correction=0)
        teacher = (teacher - teacher.mean(dim=1, keepdim=True)) / (variance + 1e-5).sqrt()
    features = (teacher / teacher.norm(dim=2, keepdim=True)).flatten(0, 1)
    expected, hits, first = 0.0, [], 0
    for codebook, size in zip(objective.codebooks, SIZES, strict=True):
        shares = sinkhorn(features @ codebook.codes.double().T / 0.11, 3)
        divergences, entropies = {True: [], False: []}, []
        for token, hidden in enumerate(mask.flatten().tolist()):
            scores = logits[token, first : first + size]
            predicted, sure = (scores / 0.3).softmax(dim=0), scores.softmax(dim=0)
            terms = [q * math.log(q / p) for q, p in zip(shares[token].tolist(), predicted.tolist(), strict=True)]
            divergences[hidden].append(sum(terms))
            entropies.append(-sum(p * math.log(p) for p in sure.tolist()))
            hits += [scores.argmax().item() == shares[token].argmax().item()] if hidden else []
        mean = {hidden: sum(values) / len(values) for hidden, values in divergences.items()}
        expected += masked_weight * mean[True] + (1 - masked_weight) * mean[False]
        expected += 0.05 * sum(entropies) / len(entropies)
        first += size
    assert output.loss.item() == pytest.approx(expected, rel=1e-4)
    assert output.metrics["accuracy"].item() == pytest.approx(sum(hits) / len(hits))


def test_a_student_that_is_as_its_teacher_has_no_loss_but_entropy():
    objective = make_pair(entropy_weight=0.0).objective
    shares = torch.rand(2, 10, 6, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    mask = torch.arange(20).view(2, 10) % 3 == 0
    assert objective._loss(0.5 * shares.log(), shares, mask).item() == pytest.approx(0, abs=1e-6)
    objective.config.entropy_weight = 0.5
    sure, unsure = torch.tensor([[[9.0, 0, 0]]]), torch.tensor([[[0.0, 0, 0]]])
    entropies = [
        objective._loss(scores, (scores / 0.5).softmax(dim=-1), mask[:1, :1]).item() for scores in (sure, unsure)
    ]
    assert entropies[1] == pytest.approx(0.5 * math.log(3)) and entropies[0] < 0.01


def test_codes_are_random_unit_vectors_until_the_first_batch_of_training_gives_them(signal):
    pair = make_pair().eval()
    drawn = codes_of(pair)
    assert pair(signal).loss.isfinite() and same(codes_of(pair), drawn)
    assert all(torch.allclose(codes.norm(dim=1), torch.ones(len(codes))) for codes in drawn)
    assert not pair.objective.started
    pair.train()(signal)
    with torch.no_grad():
        teacher = standardise(pair.objective.teacher(signal)["last_hidden_state"], "time")
        tokens = torch.nn.functional.normalize(teacher, dim=2)
    for codes in codes_of(pair):
        assert (torch.cdist(codes, tokens.flatten(0, 1)).amin(dim=1) < 1e-3).all()
    assert pair.objective.started


@pytest.mark.parametrize("way", ["copied", "loaded", "from_pretrained"])
def test_codes_are_not_chosen_again(started, signal, way, tmp_path):
    if way == "copied":
        other = copy.deepcopy(started)
    elif way == "loaded":
        other = make_pair()
        other.load_state_dict(started.state_dict())
    else:
        started.save_pretrained(tmp_path)
        other = type(started).from_pretrained(tmp_path)
    assert same(codes_of(other), codes_of(started))
    other.train()(signal)
    assert same(codes_of(other), codes_of(started)) and other.objective.num_steps == 2


def test_codes_are_chosen_again_once_a_state_without_them_is_loaded(started, signal):
    fresh = make_pair().state_dict()
    started.load_state_dict(fresh)
    started(signal)
    again = make_pair().train()
    again(signal)
    assert same(codes_of(started), codes_of(again)) and started.objective.started


def test_codes_wait_for_a_first_batch_that_is_finite(signal):
    # A batch norm would never forget it.
    pair = make_pair(stem="linear").train()
    drawn = codes_of(pair)
    pair(signal * float("nan"))
    pair.after_step()
    assert same(codes_of(pair), drawn) and not pair.objective.started
    pair(signal)
    assert pair.objective.started


def test_all_that_codes_need_is_in_the_state_dict():
    keys = {key for key in make_pair().state_dict() if key.startswith("objective.") and ".teacher." not in key}
    books = {f"objective.codebooks.{i}.{name}" for i in range(2) for name in ("codes", "pending_sum", "pending_count")}
    head = {f"objective.head.{i}.{name}" for i in (0, 2) for name in ("weight", "bias")}
    assert keys == books | head | {"objective.mask_token", "objective.num_steps", "objective.started"}


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("codebook_sizes", [], r"codebook_sizes must be one number or more, each at least 2, got \[\]"),
        ("codebook_sizes", [128, 1], "codebook_sizes must be"),
        ("prototype_decay", 1.0, r"prototype_decay must lie in \[0, 1\)"),
        ("sinkhorn_iterations", 0, "sinkhorn_iterations be at least 1"),
        ("student_temperature", 0.0, "temperatures must be above 0"),
        ("masked_weight", 1.5, r"masked_weight must lie in \[0, 1\]"),
        ("entropy_weight", -1.0, "entropy_weight be at least 0"),
    ],
)
def test_config_refuses(field, value, text):
    with pytest.raises(StrictDataclassClassValidationError, match=text):
        PAIRS["s4-hubertpp"].config_class(**{field: value})
