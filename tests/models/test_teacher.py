import copy
import pickle

import pytest
import torch

from ecg_hf import PAIRS
from ecg_hf.models.objectives.teacher import TeacherObjective, standardise
from ecg_hf.registry import BACKBONES

TAUGHT = [name for name, pair in PAIRS.items() if issubclass(pair.objective_class, TeacherObjective)]
BY_BACKBONE = [f"{backbone}-jepa" for backbone in BACKBONES]


def make_pair(name="s4-jepa", size="20k", **fields):
    torch.manual_seed(0)
    pair = PAIRS[name]
    return pair(pair.config_class(**{**pair.backbone_class.sizes[size], **fields}))


def draw(num_samples=300, seed=0):
    return torch.randn(2, 12, num_samples, generator=torch.Generator().manual_seed(seed))


def disturb(backbone):
    """Moves every parameter."""
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += torch.rand_like(parameter)


def floating(module):
    """What an average moves: everything but counts and what batch norms gather."""
    state = module.state_dict().items()
    return {key: value.clone() for key, value in state if value.is_floating_point() and "running" not in key}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.mark.parametrize("name", TAUGHT)
def test_a_fresh_teacher_is_a_copy_of_its_student_and_shares_nothing_with_it(name):
    pair = make_pair(name)
    student, teacher = pair.backbone.state_dict(), pair.objective.teacher.backbone.state_dict()
    assert_same(student, teacher)
    assert not {value.data_ptr() for value in student.values()} & {value.data_ptr() for value in teacher.values()}


@pytest.mark.parametrize("name", BY_BACKBONE)
def test_updates_equal_the_average_by_hand(name):
    pair = make_pair(name, ema_start_decay=0.6, ema_decay=0.9, ema_ramp_steps=3)
    expected = {key: value.double() for key, value in floating(pair.objective.teacher.backbone).items()}
    for decay in (0.6, 0.7, 0.8, 0.9, 0.9):
        disturb(pair.backbone)
        pair.after_step()
        student = floating(pair.backbone)
        expected = {key: decay * value + (1 - decay) * student[key].double() for key, value in expected.items()}
    for key, value in floating(pair.objective.teacher.backbone).items():
        torch.testing.assert_close(value.double(), expected[key], rtol=1e-6, atol=1e-7, msg=key)
    assert pair.objective.teacher.num_updates == 5


def test_a_decay_without_a_ramp_holds_from_the_first_update():
    teacher = make_pair(ema_decay=0.9996, ema_ramp_steps=0).objective.teacher
    for _ in range(3):
        assert teacher.share().item() == pytest.approx(4e-4, rel=1e-7)
        teacher.num_updates += 1


def test_a_long_ramp_ends_at_its_decay_and_stays_there():
    teacher = make_pair(ema_start_decay=0.99, ema_decay=0.9996, ema_ramp_steps=10_000).objective.teacher
    for updates, decay in [(0, 0.99), (2500, 0.9924), (10_000, 0.9996), (10**7, 0.9996)]:
        teacher.num_updates.fill_(updates)
        assert teacher.share().item() == pytest.approx(1 - decay, rel=1e-6)


@pytest.mark.parametrize("name", BY_BACKBONE)
def test_a_decay_of_zero_makes_the_teacher_the_student(name):
    pair = make_pair(name, ema_start_decay=0, ema_decay=0)
    disturb(pair.backbone)
    pair.after_step()
    assert_same(floating(pair.objective.teacher.backbone), floating(pair.backbone))


def test_a_thousand_updates_towards_equal_weights_change_no_bit():
    pair = make_pair(ema_ramp_steps=0)
    before = floating(pair.objective.teacher.backbone)
    for _ in range(1000):
        pair.after_step()
    assert_same(floating(pair.objective.teacher.backbone), before)


def test_a_thousand_small_updates_sum_to_the_closed_form():
    pair = make_pair(ema_decay=0.9996, ema_ramp_steps=0)
    start = floating(pair.objective.teacher.backbone)
    disturb(pair.backbone)
    for _ in range(1000):
        pair.after_step()
    student = floating(pair.backbone)
    for key, value in floating(pair.objective.teacher.backbone).items():
        expected = student[key] + 0.9996**1000 * (start[key].double() - student[key])
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5, msg=key)


def test_an_update_leaves_frozen_dynamics_alone():
    pair = make_pair()
    teacher = pair.objective.teacher.backbone
    constants = {key: buffer for key, buffer in teacher.named_buffers() if "state_space" in key}
    versions = {key: buffer._version for key, buffer in constants.items()}
    disturb(pair.backbone)
    pair.after_step()
    assert constants and {key: buffer._version for key, buffer in constants.items()} == versions


def test_trainable_dynamics_are_averaged_too():
    pair = make_pair(trainable_dynamics=True, ema_start_decay=0, ema_decay=0)
    disturb(pair.backbone)
    pair.after_step()
    assert_same(floating(pair.objective.teacher.backbone), floating(pair.backbone))


@pytest.mark.parametrize("name", BY_BACKBONE)
def test_a_frozen_random_teacher_is_another_network_that_never_moves(name):
    pair = make_pair(name, teacher="frozen_random").train()
    student, before = floating(pair.backbone), floating(pair.objective.teacher.backbone)
    drawn = [key for key, value in pair.backbone.named_parameters() if value.ndim > 1]
    assert drawn and not [key for key in drawn if torch.equal(student[key], before[key])]
    optimizer = torch.optim.SGD(pair.parameters(), lr=0.1, weight_decay=0.1)
    for seed in range(2):
        pair(draw(seed=seed)).loss.backward()
        optimizer.step()
        pair.after_step()
    assert_same(
        floating(pair.objective.teacher),
        floating(pair.objective.teacher) | {f"backbone.{key}": value for key, value in before.items()},
    )


@pytest.mark.parametrize("name", TAUGHT)
def test_training_reaches_the_student_and_never_the_teacher(name):
    pair = make_pair(name).train()
    before = floating(pair.objective.teacher.backbone)
    pair.requires_grad_(True).train()
    pair(draw()).loss.backward()
    teacher = list(pair.objective.teacher.parameters())
    assert teacher and not any(parameter.requires_grad or parameter.grad is not None for parameter in teacher)
    assert all(parameter.grad is not None for parameter in pair.parameters() if parameter.requires_grad)
    assert_same(floating(pair.objective.teacher.backbone), before)
    pair.after_step()
    assert pair.objective.teacher.num_updates == 1


@pytest.mark.parametrize("frozen", [False, True])
def test_a_checkpoint_of_a_pair_keeps_a_teacher_that_has_gone_its_own_way(frozen, tmp_path):
    pair = make_pair(teacher="frozen_random" if frozen else "ema")
    disturb(pair.backbone)
    pair.after_step()
    pair.save_pretrained(tmp_path)
    torch.manual_seed(1)
    loaded = type(pair).from_pretrained(tmp_path)
    assert_same(loaded.state_dict(), pair.state_dict())
    assert not torch.equal(loaded.objective.teacher.backbone.stem.convs[0].weight, pair.backbone.stem.convs[0].weight)
    assert loaded.objective.teacher.num_updates == (0 if frozen else 1)


@pytest.mark.parametrize("name", BY_BACKBONE)
def test_a_teacher_starts_as_the_encoder_that_was_loaded(name, tmp_path):
    pair = make_pair(name)
    disturb(pair.backbone)
    pair.backbone.save_pretrained(tmp_path)
    torch.manual_seed(1)
    loaded = type(pair).from_pretrained(tmp_path)
    assert_same(loaded.backbone.state_dict(), pair.backbone.state_dict())
    assert_same(loaded.objective.teacher.backbone.state_dict(), pair.backbone.state_dict())
    assert loaded.objective.teacher.num_updates == 0
    assert not torch.equal(loaded.objective.mask_token, pair.objective.mask_token)
    for parameter in loaded.objective.parameters():
        assert parameter.isfinite().all() and parameter.abs().max() < 10
    assert 0.5 < loaded.objective.mask_token.std() < 2


def test_a_frozen_random_teacher_of_a_loaded_encoder_is_still_another_network(tmp_path):
    pair = make_pair(teacher="frozen_random")
    pair.backbone.save_pretrained(tmp_path)
    loaded = type(pair).from_pretrained(tmp_path)
    teacher, student = loaded.objective.teacher.backbone, loaded.backbone
    for key, value in student.named_parameters():
        assert value.ndim == 1 or not torch.equal(value, teacher.get_parameter(key)), key
    assert teacher(draw()).last_hidden_state.isfinite().all()


@pytest.mark.parametrize("dropout", [False, True])
def test_a_teacher_stays_frozen_and_in_its_mode(dropout, tmp_path):
    make_pair(teacher_dropout=dropout).save_pretrained(tmp_path)
    for pair in (make_pair(teacher_dropout=dropout), type(make_pair()).from_pretrained(tmp_path)):
        teacher = pair.objective.teacher
        for mode in (True, False, True):
            pair.train(mode)
            assert not any(parameter.requires_grad for parameter in teacher.parameters())
            norms = {module for module in teacher.modules() if isinstance(module, torch.nn.BatchNorm1d)}
            assert norms and {module.training for module in norms} == {mode}
            assert {module.training for module in set(teacher.modules()) - norms} == {mode and dropout}
            assert pair.backbone.training == mode


@pytest.mark.parametrize("name", ["s4-jepa", "resnet-data2vec"])
def test_a_teacher_gathers_statistics_of_whole_signals_and_goes_by_the_batch_in_training(name):
    pair = make_pair(name).train()
    teacher, signal = pair.objective.teacher, 5 * draw(600)
    pair(signal)
    before = {key: value for key, value in make_pair(name).backbone.state_dict().items() if "running_var" in key}
    gathered = {key: value for key, value in teacher.backbone.state_dict().items() if "running_var" in key}
    assert gathered.keys() == before.keys()
    assert all(not torch.equal(value, before[key]) for key, value in gathered.items())
    pair.after_step()
    assert all(torch.equal(teacher.backbone.state_dict()[key], value) for key, value in gathered.items())
    pair.eval()
    together, alone = teacher(signal)["last_hidden_state"][:1], teacher(signal[:1])["last_hidden_state"]
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


def test_a_teacher_in_evaluation_mode_gives_the_same_at_every_call():
    teacher = make_pair(dropout=0.5).train().objective.teacher
    assert torch.equal(teacher(draw())["last_hidden_state"], teacher(draw())["last_hidden_state"])
    dropped = make_pair(dropout=0.5, teacher_dropout=True).train().objective.teacher
    assert not torch.equal(dropped(draw())["last_hidden_state"], dropped(draw())["last_hidden_state"])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copied_pair_has_a_teacher_of_its_own(duplicate):
    pair = make_pair().eval()
    disturb(pair.backbone)
    pair.after_step()
    before = floating(pair.objective.teacher)
    copied = duplicate(pair)
    assert torch.equal(copied(draw()).loss, pair(draw()).loss)
    disturb(copied.backbone)
    copied.after_step()
    assert_same(floating(pair.objective.teacher), before)
    assert copied.objective.teacher.num_updates == 2 and pair.objective.teacher.num_updates == 1
    assert not any(parameter.requires_grad for parameter in copied.train().objective.teacher.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_teacher_of_sixteen_bits_refuses_to_follow_rather_than_stand_still(dtype):
    # Rounding would swallow the step: 1 + 4e-4 is 1 in bfloat16.
    assert torch.ones((), dtype=dtype).lerp(torch.full((), 1.5, dtype=dtype), 4e-4) == 1
    pair = make_pair().to(dtype)
    with pytest.raises(TypeError, match=f"needs weights of 32 bits to follow its student, got {dtype}"):
        pair.after_step()
    make_pair(teacher="frozen_random").to(dtype).after_step()


@pytest.mark.parametrize("name", TAUGHT)
def test_a_pair_of_sixteen_bits_still_gives_a_loss(name):
    pair = make_pair(name).to(torch.bfloat16)
    output = pair(draw())
    assert output.loss.isfinite() and all(value.isfinite() for value in output.metrics.values())


def test_under_autocast_the_teacher_follows_in_float32():
    pair = make_pair(ema_ramp_steps=0).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pair(draw()).loss.backward()
    disturb(pair.backbone)
    before = floating(pair.objective.teacher.backbone)
    pair.after_step()
    moved = floating(pair.objective.teacher.backbone)
    learned = dict(pair.objective.teacher.backbone.named_parameters())
    assert not [key for key in learned if torch.equal(moved[key], before[key])]


@pytest.mark.parametrize("name", BY_BACKBONE)
def test_what_is_hidden_does_not_reach_the_student(name, monkeypatch):
    pair = make_pair(name).eval()
    backbone, signal = pair.backbone, draw(333)
    num_tokens, reduction = backbone.num_tokens(333), backbone.stride // backbone.embed_stride
    mask = torch.rand(2, num_tokens, generator=torch.Generator().manual_seed(0)) < 0.5
    embedded = backbone.embed(signal)
    hidden = torch.stack([mask[:, token // reduction] for token in range(embedded.shape[1])], dim=1)[..., None]
    noise = 100 * torch.randn_like(embedded)
    outputs = []
    for changed in (embedded, embedded + noise * hidden, embedded + noise * ~hidden):
        monkeypatch.setattr(backbone, "embed", lambda _, changed=changed: changed)
        outputs.append(pair.objective.encode_masked(backbone, signal, mask))
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])
    monkeypatch.setattr(backbone, "embed", lambda _: torch.where(hidden, pair.objective.mask_token, embedded))
    assert torch.equal(outputs[0], backbone.encode(backbone.embed(signal)).last_hidden_state)


def test_measures_equal_their_definitions():
    objective = make_pair().objective
    student, teacher = torch.randn(2, 30, 38) + 1, torch.randn(2, 30, 38) + 1
    mask = torch.rand(2, 30) < 0.3
    metrics = objective.measure(student, teacher, mask)
    assert metrics["mask_fraction"].item() == pytest.approx(int(mask.sum()) / 60)
    dots = (student * teacher).sum(2) / (student.square().sum(2) * teacher.square().sum(2)).sqrt()
    assert metrics["teacher_student_cosine"].item() == pytest.approx(dots.mean().item(), rel=1e-5)
    assert metrics["teacher_feature_std"] == objective.measure(teacher, student, mask)["feature_std"]
    assert {"feature_std", "effective_rank"} < metrics.keys()


def test_the_cosine_tells_a_teacher_that_follows_from_one_that_does_not():
    # Nothing else shows that a copy matched no tensor.
    cosines = {}
    for teacher in ("ema", "frozen_random"):
        pair = make_pair(teacher=teacher, size="63k").eval()
        whole = torch.zeros(2, 150, dtype=torch.bool)
        student = pair.objective.encode_masked(pair.backbone, draw(), whole)
        taught = pair.objective.teacher(draw())["last_hidden_state"]
        cosines[teacher] = pair.objective.measure(student, taught, whole)["teacher_student_cosine"].item()
    assert cosines["ema"] == pytest.approx(1, abs=1e-5) and abs(cosines["frozen_random"]) < 0.5


@pytest.mark.parametrize("over, dim", [("token", 2), ("time", 1)])
def test_standardised_tokens_have_no_mean_and_a_variance_of_one(over, dim):
    tokens = 3 * torch.randn(2, 50, 64) + 2
    expected = (tokens - tokens.mean(dim, keepdim=True)) / tokens.var(dim, keepdim=True, correction=0).sqrt()
    torch.testing.assert_close(standardise(tokens, over), expected, rtol=1e-4, atol=1e-5)
    assert standardise(tokens.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"teacher": "copy"}, "teacher must be 'ema' or 'frozen_random', got 'copy'"),
        ({"ema_decay": 1.1}, "0 <= ema_start_decay <= ema_decay <= 1"),
        ({"ema_start_decay": 0.9999}, "ema_start_decay <= ema_decay <= 1 and ema_ramp_steps >= 0, got 0.9999, 0.9996"),
        ({"ema_ramp_steps": -1}, "and -1$"),
        ({"predictor": "mlp"}, r"predictor must be one of \['linear', 's4'\], got 'mlp'"),
        ({"predictor_state_size": 3}, "predictor_state_size must be even and at least 2, got 3"),
        ({"predictor_dropout": 1.0}, r"predictor_dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_a_teacher_s_or_predictor_s_config_out_of_range_is_refused(fields, message):
    with pytest.raises(Exception, match=message):
        make_pair(**fields)


def test_the_study_s_predictor_has_its_parameters():
    pair = PAIRS["s4-jepa"]
    with torch.device("meta"):
        predictor = pair(pair.config_class(**pair.backbone_class.sizes["paper-a"])).objective.predictor
    assert sum(parameter.numel() for parameter in predictor.parameters()) == 855_040
