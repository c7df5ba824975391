"""The two forms of a state space, their own gradients, and what is kept between calls."""

import copy

import pytest
import torch

from ecg_hf.models.backbones.chunks import mix_chunks
from ecg_hf.models.backbones.kernel import CHUNK, StateSpace, channels_first
from ecg_hf.models.backbones.spectral import circle_size, convolve

DOUBLE = {"dtype": torch.float64}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def make_space(width=5, state_size=8, **fields):
    space = StateSpace(width, state_size, **{"bidirectional": True, **fields})
    space.reset()
    return space


@pytest.mark.parametrize("num_tokens", [1, 2, 7, 25, 61])
def test_a_convolution_is_the_sum_over_lags(num_tokens):
    signal, weights = torch.randn(3, 2, num_tokens, **DOUBLE), torch.randn(3, 2 * num_tokens - 1, **DOUBLE)
    expected = torch.zeros_like(signal)
    for n in range(num_tokens):
        for m in range(num_tokens):
            expected[..., n] += weights[:, None, n - m + num_tokens - 1] * signal[..., m]
    torch.testing.assert_close(convolve(signal, weights), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_tokens", [1, 6, 13])
def test_the_gradient_of_a_convolution_is_that_of_its_numbers(num_tokens):
    signal, weights = torch.randn(2, 3, num_tokens, **DOUBLE), torch.randn(2, 2 * num_tokens - 1, **DOUBLE)
    assert torch.autograd.gradcheck(convolve, (signal.requires_grad_(), weights.requires_grad_()))


@pytest.mark.parametrize("num_tokens", [*range(1, 200), 299, 300, 1249, 1250, 2500, 4799])
def test_a_circle_is_long_enough_and_little_longer_and_transforms_fast(num_tokens):
    size = circle_size(num_tokens)
    powers = {2**a * 3**b * 5**c for a in range(14) for b in range(9) for c in range(6)}
    assert size == min(power for power in powers if power >= 2 * num_tokens - 1)


def slow_chunks(signal, weights, leave, enter, transitions):
    """Chunk by chunk, with the states of each direction in turn."""
    chunk, size = weights.shape[1], transitions.shape[-1]
    num_tokens = signal.shape[-1]
    padded = torch.cat((signal, signal.new_zeros(*signal.shape[:2], -num_tokens % chunk)), -1)
    chunks = list(padded.split(chunk, -1))
    mixed = [part @ weights for part in chunks]
    for direction in range(len(transitions)):
        own = slice(direction * size, (direction + 1) * size)
        state = torch.zeros(*signal.shape[:2], size, dtype=signal.dtype)
        order = range(len(chunks))
        for number in reversed(order) if direction else order:
            mixed[number] = mixed[number] + state @ leave[:, own]
            state = state @ transitions[direction] + chunks[number] @ enter[..., own]
    return torch.cat(mixed, -1)[..., :num_tokens]


def draw_operands(num_directions, num_tokens):
    shapes = [(2, 3, num_tokens), (2, 4, 4), (2, 3 * num_directions, 4), (2, 4, 3 * num_directions)]
    drawn = [torch.randn(*shape, **DOUBLE) for shape in (*shapes, (num_directions, 2, 3, 3))]
    return [tensor.requires_grad_() for tensor in drawn]


@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize("num_tokens", [1, 3, 4, 8, 11])
def test_chunks_equal_a_loop_over_them(num_directions, num_tokens):
    operands = draw_operands(num_directions, num_tokens)
    given, expected = mix_chunks(*operands), slow_chunks(*operands)
    torch.testing.assert_close(given, expected, rtol=1e-12, atol=1e-12)
    noise = torch.randn_like(given)
    ours = torch.autograd.grad((given * noise).sum(), operands)
    loops = torch.autograd.grad((expected * noise).sum(), operands, allow_unused=True)
    for one, other in zip(ours, loops, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("num_directions", [1, 2])
def test_the_gradient_of_chunks_is_that_of_its_numbers(num_directions):
    assert torch.autograd.gradcheck(mix_chunks, draw_operands(num_directions, 11))


@pytest.mark.parametrize(
    ("state_size", "bidirectional", "form"),
    [(8, True, "chunked"), (32, False, "chunked"), (34, False, "spectral"), (64, True, "spectral")],
)
def test_a_large_state_runs_in_the_frequency_domain(state_size, bidirectional, form, monkeypatch):
    space, signal = make_space(state_size=state_size, bidirectional=bidirectional), torch.randn(5, 2, 40)
    called = []
    for name in ("chunked", "spectral"):
        original = getattr(StateSpace, name)
        monkeypatch.setattr(
            StateSpace, name, lambda self, x, name=name, original=original: called.append(name) or original(self, x)
        )
    mixed = space(signal)
    assert called == [form]
    torch.testing.assert_close(mixed, space.chunked(signal), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 7, 5), (1, 7, 5), (2, 1, 5)])
def test_channels_first_permutes(shape):
    tokens = torch.randn(shape)
    for given in (tokens, tokens.transpose(1, 2).contiguous().transpose(1, 2)):
        assert torch.equal(channels_first(given), tokens.permute(2, 0, 1))
        assert channels_first(given).is_contiguous()


def count_builds(monkeypatch):
    built = []
    original = StateSpace._chunk_weights
    monkeypatch.setattr(StateSpace, "_chunk_weights", lambda self: built.append(self) or original(self))
    return built


@pytest.mark.parametrize("trainable", [False, True])
def test_without_gradients_weights_are_built_once_and_bit_for_bit_those_of_training(trainable, monkeypatch):
    space, signal = make_space(trainable=trainable), torch.randn(5, 2, 3 * CHUNK)
    learning = space(signal)
    built = count_builds(monkeypatch)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(space(signal), learning)
    space.requires_grad_(False)
    assert torch.equal(space(signal), learning)
    assert len(built) == 1
    space.requires_grad_(True)
    space(signal)
    assert len(built) == 2


def by_step(parameter):
    with torch.no_grad():
        parameter.add_(0.1)


def by_data(parameter):
    parameter.data.add_(0.1)  # which leaves no mark on the parameter


def by_replacement(parameter):
    parameter.data = parameter.data + 0.1


@pytest.mark.parametrize("change", [by_step, by_data, by_replacement])
@pytest.mark.parametrize("name", ["C", "D", "log_dt", "log_decay", "frequency", "B", "P"])
def test_kept_weights_follow_every_change(name, change):
    space, signal = make_space(), torch.randn(5, 2, 3 * CHUNK)
    with torch.no_grad():
        before = space(signal)
        change(getattr(space, name))
        after = space(signal)
        fresh = copy.deepcopy(space)
        assert fresh._cache == {}
        assert torch.equal(after, fresh(signal)) and not torch.equal(after, before)


def test_weights_kept_in_inference_mode_serve_training():
    space, signal = make_space(), torch.randn(5, 2, 3 * CHUNK)
    with torch.inference_mode():
        expected = space(signal)
    space.C.requires_grad_(False)
    space.D.requires_grad_(False)
    signal.requires_grad_()
    mixed = space(signal)
    assert torch.equal(mixed, expected)
    mixed.sum().backward()
    assert signal.grad.abs().sum() > 0


def test_what_is_kept_for_a_signal_of_another_type_is_not_mixed_up():
    space, signal = make_space(), torch.randn(5, 2, 3 * CHUNK)
    with torch.no_grad():
        single = space(signal)
        double = space.double()(signal.double())
        assert double.dtype == torch.float64
        torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["chunked", "spectral"])
def test_a_gradient_taken_under_autocast_is_that_of_full_precision(form):
    space, gradients = make_space(), []
    signal = torch.randn(5, 2, 3 * CHUNK)
    for enabled in (False, True):
        given = signal.clone().requires_grad_()
        mixed = getattr(space, form)(given)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            gradients.append(torch.autograd.grad(mixed.square().sum(), given)[0])
    assert torch.equal(*gradients)
