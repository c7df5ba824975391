import math

import pytest
import scipy.stats
import torch

from ecg_hf.models.objectives.health import MAX_TOKENS, cosine, feature_health, feature_std, perplexity


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def health(features):
    return {name: value.item() for name, value in feature_health(features).items()}


def test_effective_rank_equals_that_of_the_eigenvalues():
    features = draw(3, 40, 6) @ torch.diag(torch.tensor([3.0, 2, 1, 0.5, 0.1, 0.01])) + 7
    eigenvalues = torch.linalg.eigvalsh(torch.cov(features.flatten(0, 1).double().T, correction=0))
    expected = (eigenvalues.sum() ** 2 / eigenvalues.square().sum()).item()
    assert health(features)["effective_rank"] == pytest.approx(expected, rel=1e-4)


def test_feature_std_equals_its_definition():
    features = draw(2, 30, 5) + 1
    unit = [token / math.sqrt(sum(value**2 for value in token)) for token in features.double().flatten(0, 1)]
    deviations = [torch.stack(unit)[:, channel].std(correction=0).item() for channel in range(5)]
    assert health(features)["feature_std"] == pytest.approx(sum(deviations) / 5 * math.sqrt(5), rel=1e-5)
    assert feature_std(features).item() == health(features)["feature_std"]


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_features_along_so_many_axes_have_that_rank(rank):
    axes = torch.eye(8)[:rank]
    measured = health(torch.stack([axes, -axes]))
    assert measured["effective_rank"] == pytest.approx(rank, rel=1e-5)
    # A channel is 0 but for one axis of `rank`, where it is +1 and -1.
    assert measured["feature_std"] == pytest.approx(rank / 8 * math.sqrt(8 / rank), rel=1e-5)


def test_features_that_point_everywhere_have_a_std_of_one():
    measured = health(draw(8, 400, 64))
    assert measured["feature_std"] == pytest.approx(1, abs=0.01)
    assert measured["effective_rank"] > 60


def test_collapsed_features_show():
    measured = health(torch.full((2, 16, 8), 0.5))
    assert measured == {"feature_std": 0, "effective_rank": 0}
    along_one_line = draw(2, 16, 1) * draw(1, 1, 8, seed=1)
    assert health(along_one_line)["effective_rank"] == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e6, 1e15])
def test_health_does_not_depend_on_the_scale(scale):
    features = draw(2, 50, 6) + 1
    assert health(scale * features) == pytest.approx(health(features), rel=1e-4)


@pytest.mark.parametrize("num_tokens", [25, 64, 13])
def test_a_sample_of_many_tokens_looks_at_every_position(num_tokens):
    # What only differs from position to position has not collapsed.
    features = draw(1, num_tokens, 6).expand(-(-8 * MAX_TOKENS // num_tokens), -1, -1)
    whole = health(features[:1])
    assert health(features) == pytest.approx(whole, rel=0.02)


def test_health_is_measured_in_float32_and_without_gradients():
    features = draw(2, 50, 6)
    exact = health(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert health(features) == exact
    measured = feature_health(features.bfloat16().requires_grad_())
    assert all(value.dtype == torch.float32 and not value.requires_grad for value in measured.values())


def test_cosine_equals_a_loop_over_tokens():
    student, teacher = draw(2, 3, 4), draw(2, 3, 4, seed=1)
    cosines = [
        (one @ other / (one.norm() * other.norm())).item()
        for one, other in zip(student.flatten(0, 1), teacher.flatten(0, 1), strict=True)
    ]
    assert cosine(student, teacher).item() == pytest.approx(sum(cosines) / 6, rel=1e-5)
    assert cosine(student, 3 * student).item() == pytest.approx(1)


def test_perplexity_is_the_exponential_of_the_entropy():
    usage = torch.rand(3, 7, generator=torch.Generator().manual_seed(0))
    expected = [math.exp(scipy.stats.entropy(row)) for row in usage.numpy()]
    assert perplexity(usage).tolist() == pytest.approx(expected, rel=1e-5)
    assert perplexity(torch.full((5,), 9)).item() == pytest.approx(5)
    assert perplexity(torch.tensor([0.0, 4.0, 0.0])).item() == 1
