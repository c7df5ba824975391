"""The S4 backbone against recurrences, generating functions and the study's published counts."""

import copy
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ecg_hf.models.backbones.dynamics import hippo_legs
from ecg_hf.models.backbones.kernel import CHUNK, StateSpace
from ecg_hf.models.backbones.s4 import EcgS4Backbone, EcgS4Config, forward_flops, state_space_flops

TINY = {"hidden_size": 16, "num_layers": 2}


def make_backbone(seed=0, **fields):
    torch.manual_seed(seed)
    return EcgS4Backbone(EcgS4Config(**{**TINY, **fields})).eval()


def make_space(width=5, state_size=8, bidirectional=False, low_rank=True, trainable=False):
    torch.manual_seed(1)
    space = StateSpace(width, state_size, bidirectional=bidirectional, low_rank=low_rank, trainable=trainable).double()
    space.reset()
    return space


def complex_dynamics(space):
    """Lambda, P, B, C and dt over the kept modes, from the stored real numbers."""
    pair = {name: torch.view_as_complex(getattr(space, name).detach()).numpy() for name in "BC"}
    p = torch.view_as_complex(space.P).numpy() if space.P is not None else 0 * pair["B"]
    eigenvalues = (-space.log_decay.exp() + 1j * space.frequency).numpy()
    return eigenvalues, p, pair["B"], pair["C"], space.log_dt.exp().numpy()


def recurrence_kernel(space, num_tokens):
    """Slow and plain: over the modes and their conjugates, one channel and one token at a time."""
    eigenvalues, p, b, c, dt = complex_dynamics(space)
    kernel = np.empty((len(c), len(b), num_tokens))
    for channel in range(len(b)):
        both = [np.concatenate((v[channel], v[channel].conj())) for v in (eigenvalues, p, b)]
        state = np.diag(both[0]) - np.outer(both[1], both[1].conj())
        left = np.linalg.inv(np.eye(len(state)) - dt[channel] / 2 * state)
        x, step = left @ (dt[channel] * both[2]), left @ (np.eye(len(state)) + dt[channel] / 2 * state)
        for token in range(num_tokens):
            for direction in range(len(c)):
                row = np.concatenate((c[direction, channel], c[direction, channel].conj()))
                kernel[direction, channel, token] = (row @ x).real
            x = step @ x
    return kernel


def generating_function_kernel(space, num_tokens):
    """The Cauchy form with Woodbury's correction at the roots of unity, from the formulas of the S4 paper."""
    eigenvalues, p, b, c, dt = complex_dynamics(space)
    both, low = (np.concatenate((v, v.conj()), -1) for v in (eigenvalues, p))
    state = both[:, :, None] * np.eye(both.shape[-1]) - low[:, :, None] * low.conj()[:, None, :]
    half = dt[:, None, None] / 2 * state
    bar = np.linalg.solve(np.eye(state.shape[-1]) - half, np.eye(state.shape[-1]) + half)
    correction = np.eye(state.shape[-1]) - np.linalg.matrix_power(bar, num_tokens)
    corrected = np.einsum("cdm,dmn->cdn", np.concatenate((c, c.conj()), -1), correction)[..., : c.shape[-1]]
    omega = np.exp(-2j * np.pi * (np.arange(num_tokens) + 0.0) / num_tokens)
    z = 2 * (1 - omega) / (1 + omega)

    def cauchy(v):
        poles = (dt[:, None] * eigenvalues)[..., None]
        return dt[:, None] * (v[..., None] / (z - poles) + v.conj()[..., None] / (z - poles.conj())).sum(-2)

    q = p.conj()
    series = cauchy(b * corrected) - cauchy(b * q) * cauchy(p * corrected) / (1 + cauchy(p * q))
    return np.fft.ifft(2 / (1 + omega) * series).real


def test_hippo_of_order_8_has_the_published_eigenvalues():
    eigenvalues, _, _ = hippo_legs(8)
    np.testing.assert_allclose(eigenvalues.real, -0.5, atol=1e-12)
    np.testing.assert_allclose(eigenvalues.imag, [19.8574, 5.3542, 1.9578, 0.4275], atol=5e-5)


@pytest.mark.parametrize("state_size", [2, 8, 16])
def test_hippo_modes_give_back_the_triangular_matrix(state_size):
    # In any basis b* x and p* x are the same numbers: those of the matrix written down in the HiPPO paper.
    eigenvalues, p, b = hippo_legs(state_size)
    order = np.arange(state_size)
    scale = np.sqrt(2 * order + 1.0)
    hippo = np.diag(-(order + 1.0)) - np.tril(np.outer(scale, scale), -1)
    both_p, both_b = np.r_[p, p.conj()], np.r_[b, b.conj()]
    state = np.diag(np.r_[eigenvalues, eigenvalues.conj()]) - np.outer(both_p, both_p.conj())
    for power in range(6):
        x, z = np.linalg.matrix_power(hippo / 9, power) @ scale, np.linalg.matrix_power(state / 9, power) @ both_b
        np.testing.assert_allclose(
            [both_b.conj() @ z, both_p.conj() @ z], [scale @ x, np.sqrt(order + 0.5) @ x], rtol=1e-9
        )


def test_kernel_state_matrix_has_the_eigenvalues_of_hippo():
    space = make_space()
    state, _ = space.discretise()
    half_step = space.log_dt.exp()[:, None] / 2 * torch.arange(1.0, 9.0, dtype=torch.float64)
    expected = (1 - half_step) / (1 + half_step)
    found = torch.linalg.eigvals(state).real.sort(descending=True).values
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_tokens", [1, 2, 7, 300])
def test_kernel_equals_the_slow_recurrence(bidirectional, num_tokens):
    space = make_space(bidirectional=bidirectional)
    found = space.kernel(num_tokens).detach().numpy()
    assert np.abs(found - recurrence_kernel(space, num_tokens)).max() < 1e-12


@pytest.mark.parametrize("low_rank", [True, False])
def test_kernel_equals_the_generating_function(low_rank):
    # An odd length keeps the roots of unity away from -1, where the function divides by zero.
    space = make_space(low_rank=low_rank, bidirectional=True)
    found = space.kernel(301).detach().numpy()
    assert np.abs(found - generating_function_kernel(space, 301)).max() < 1e-12


def test_s4d_kernel_equals_its_closed_form():
    space = make_space(low_rank=False)
    eigenvalues, _, b, c, dt = complex_dynamics(space)
    half = dt[:, None] / 2 * eigenvalues
    ratio, first = (1 + half) / (1 - half), dt[:, None] * b / (1 - half)
    powers = ratio[..., None] ** np.arange(200)
    expected = 2 * np.einsum("cdm,dm,dmn->cdn", c, first, powers).real
    assert np.abs(space.kernel(200).detach().numpy() - expected).max() < 1e-12


def test_kernel_in_float32_is_as_good_as_in_float64():
    space = make_space(width=64, bidirectional=True).float()
    wide = copy.deepcopy(space).double()
    for num_tokens in (300, 1250):
        exact = wide.kernel(num_tokens)
        error = (space.kernel(num_tokens).double() - exact).norm(dim=-1) / exact.norm(dim=-1)
        assert error.max() < 1e-6


def test_kernel_does_not_depend_on_the_length_it_is_asked_for():
    space = make_space()
    torch.testing.assert_close(space.kernel(1200)[..., :300], space.kernel(300), rtol=0, atol=1e-14)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_tokens", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 100])
def test_both_forms_equal_the_sum_over_lags(bidirectional, num_tokens):
    space = make_space(bidirectional=bidirectional)
    signal = torch.randn(5, 3, num_tokens, dtype=torch.float64)
    kernel = space.kernel(num_tokens).detach()
    expected = space.D.detach()[:, None, None] * signal
    for target in range(num_tokens):
        for source in range(num_tokens):
            lag = target - source
            if lag >= 0:
                expected[:, :, target] += kernel[0, :, lag, None] * signal[:, :, source]
            elif bidirectional:
                expected[:, :, target] += kernel[1, :, -lag - 1, None] * signal[:, :, source]
    torch.testing.assert_close(space.chunked(signal), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(space.spectral(signal), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_both_forms_have_the_same_gradients(bidirectional):
    space = make_space(bidirectional=bidirectional, trainable=True)
    signal = torch.randn(5, 2, 75, dtype=torch.float64, requires_grad=True)
    inputs, weights = (signal, *space.parameters()), torch.randn(5, 2, 75, dtype=torch.float64)
    chunked = torch.autograd.grad((space.chunked(signal) * weights).sum(), inputs)
    spectral = torch.autograd.grad((space.spectral(signal) * weights).sum(), inputs)
    assert len(chunked) == 8
    for one, other in zip(chunked, spectral, strict=True):
        assert one.norm() > 0
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_chunked_form_is_as_good_in_float32_as_in_float64():
    space = make_space(width=64, bidirectional=True).float()
    signal = torch.randn(64, 2, 1250)
    exact = copy.deepcopy(space).double().chunked(signal.double())
    for form in (space.chunked, space.spectral):
        assert (form(signal).double() - exact).norm() / exact.norm() < 1e-6


def test_impulse_shows_the_forward_kernel_from_lag_0_and_the_backward_one_from_lag_minus_1():
    space = make_space(bidirectional=True)
    impulse = torch.zeros(5, 1, 40, dtype=torch.float64)
    impulse[:, :, 20] = 1
    response, kernel = space(impulse)[:, 0].detach(), space.kernel(40).detach()
    torch.testing.assert_close(response[:, 20], kernel[0, :, 0] + space.D.detach())
    torch.testing.assert_close(response[:, 21:], kernel[0, :, 1:20])
    torch.testing.assert_close(response[:, :20], kernel[1, :, :20].flip(-1))


@pytest.mark.parametrize(
    ("fields", "stem", "trunk"),
    [({"causal": True}, 808_960, 2_123_776), ({}, 808_960, 2_140_160), ({"stem": "linear"}, 6_656, 2_140_160)],
)
def test_study_size_has_the_published_parameter_counts(fields, stem, trunk):
    with torch.device("meta"):
        backbone = EcgS4Backbone(EcgS4Config(**fields))
    counts = {
        part: sum(backbone.get_parameter(name).numel() for name in names)
        for part, names in backbone.parameter_groups().items()
    }
    assert counts == {"stem": stem, "trunk": trunk}
    assert sum(p.numel() for p in backbone.parameters() if p.requires_grad) == stem + trunk
    if fields == {"stem": "linear"}:
        assert stem + trunk + sum(p.numel() for p in nn.Linear(512, 71).parameters()) == 2_183_239


def test_flops_at_600_samples_are_the_published_1_741_giga():
    assert forward_flops(EcgS4Config(), 600) == 1_741_209_600


@pytest.mark.parametrize("stem", ["conv", "linear"])
@pytest.mark.parametrize("causal", [True, False])
def test_flops_equal_what_torch_counts_for_one_more_crop(stem, causal):
    backbone = make_backbone(stem=stem, causal=causal)
    with torch.no_grad():
        backbone(torch.randn(1, 12, 150))  # what does not depend on the signal is built once
    totals = []
    for batch in (1, 2):
        # Of products that add in place torch knows none.
        in_place = {torch.ops.aten.baddbmm_: lambda _, a, b, **__: 2 * math.prod(a) * b[-1]}
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=in_place) as counter:
            backbone(torch.randn(batch, 12, 150))
        totals.append(counter.get_total_flops())
    config = backbone.config
    assert totals[1] - totals[0] == forward_flops(config, 150) + state_space_flops(config, 150)


@pytest.mark.parametrize("num_samples", [2, 3, 63, 64, 65, 601])
def test_any_number_of_samples_gives_half_as_many_tokens_rounded_up(num_samples):
    backbone = make_backbone()
    output = backbone(torch.randn(2, 12, num_samples))
    assert output.last_hidden_state.shape == (2, math.ceil(num_samples / 2), 16)
    assert backbone.num_tokens(num_samples) == math.ceil(num_samples / 2)
    assert output.last_hidden_state.isfinite().all()


def test_linear_stem_keeps_the_sampling_rate():
    backbone = make_backbone(stem="linear")
    assert backbone.embed(torch.randn(1, 12, 250)).shape == (1, 250, 16)
    assert backbone.num_tokens(250) == 250


def test_causal_outputs_do_not_see_later_tokens_and_bidirectional_ones_do():
    tokens = torch.randn(2, 100, 16)
    changed = tokens.clone()
    changed[:, 60:] += 1
    for causal in (True, False):
        backbone = make_backbone(causal=causal)
        moved = (
            (backbone.encode(tokens).last_hidden_state - backbone.encode(changed).last_hidden_state).abs().amax((0, 2))
        )
        assert moved[60:].min() > 1e-3
        assert (moved[:60].max() <= 2e-6) == causal


def test_output_holds_the_states_between_layers_and_the_mean_over_tokens():
    backbone = make_backbone()
    output = backbone(torch.randn(2, 12, 64), output_hidden_states=True, output_layer_outputs=True)
    assert len(output.hidden_states) == 3
    assert len(output.layer_outputs) == 2
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state.mean(1))
    for index, layer in enumerate(backbone.layers):
        expected = layer.norm(output.hidden_states[index] + output.layer_outputs[index])
        torch.testing.assert_close(output.hidden_states[index + 1], expected)
    assert output.hidden_states[-1] is output.last_hidden_state
    assert backbone(torch.randn(2, 12, 64)).hidden_states is None


def test_layer_is_the_state_space_then_gelu_then_a_gated_linear_map():
    layer = make_backbone().layers[0]
    tokens = torch.randn(3, 50, 16)
    mixed = layer.state_space.spectral(tokens.permute(2, 0, 1)).permute(1, 2, 0)
    mixed = 0.5 * mixed * (1 + torch.erf(mixed / math.sqrt(2)))
    both = mixed @ layer.output_linear.weight.T + layer.output_linear.bias
    torch.testing.assert_close(layer.mix(tokens), both[..., :16] * torch.sigmoid(both[..., 16:]), rtol=1e-4, atol=1e-5)


def test_dropout_drops_whole_channels_of_a_crop_inside_the_mixer_and_after_it():
    layer = make_backbone(hidden_size=64, dropout=0.5).layers[0].double().train()
    layer.norm = nn.Identity()
    with torch.no_grad():  # values pass, gates are open
        layer.output_linear.weight.copy_(torch.cat((torch.eye(64), torch.zeros(64, 64))))
        layer.output_linear.bias.copy_(torch.cat((torch.zeros(64), torch.full((64,), 50.0))))
    tokens = torch.randn(16, 20, 64, dtype=torch.float64)
    output, mixed = layer(tokens)
    kept = layer.eval().mix(tokens)
    for after, before in ((mixed, kept), (output - tokens, mixed)):
        candidates = (before.abs() > 1e-9).all(1)
        dropped = candidates & (after.abs() < 1e-12).all(1)
        assert 0.4 < dropped.sum() / candidates.sum() < 0.6
        ratio = (after / before).transpose(1, 2)[candidates & ~dropped]
        torch.testing.assert_close(ratio, torch.full_like(ratio, 2.0), rtol=1e-4, atol=0)


def test_evaluation_is_deterministic_and_training_is_not():
    backbone, signal = make_backbone(), torch.randn(2, 12, 100)
    assert torch.equal(backbone(signal).last_hidden_state, backbone(signal).last_hidden_state)
    backbone.train()
    assert not torch.equal(backbone(signal).last_hidden_state, backbone(signal).last_hidden_state)


def test_fresh_weights_follow_the_published_distributions():
    backbone = make_backbone(hidden_size=512, num_layers=1, state_size=8)
    space, linear = backbone.layers[0].state_space, backbone.layers[0].output_linear
    assert math.log(0.001) <= space.log_dt.min() < -6.8 and -2.4 < space.log_dt.max() <= math.log(0.1)
    assert abs(space.log_dt.mean() - math.log(0.01)) < 0.2
    assert abs(space.C.std() - math.sqrt(0.5)) < 0.02 and abs(space.D.std() - 1) < 0.1
    for weights in (linear.weight, linear.bias):
        assert weights.abs().max() <= 1 / math.sqrt(512) and abs(weights.std() - 1 / math.sqrt(3 * 512)) < 2e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "fields", [{}, {"trainable_dynamics": True, "causal": True}, {"low_rank": False, "stem": "linear"}]
)
def test_saved_backbone_loads_bit_equal_on_a_dirty_heap(tmp_path, dtype, fields):
    backbone, signal = make_backbone(**fields).to(dtype), torch.randn(2, 12, 100)
    with torch.no_grad():
        for buffer in backbone.buffers():  # nothing may come from the constructor
            buffer.mul_(1.25 if buffer.is_floating_point() else 3)
    expected = backbone(signal)
    backbone.save_pretrained(tmp_path)
    for _ in range(3):
        junk = [torch.full((size,), float("nan")) for size in (8, 16, 64, 128, 768, 4096)]
        del junk
        loaded = EcgS4Backbone.from_pretrained(tmp_path, dtype=dtype)
        assert torch.equal(loaded(signal).last_hidden_state, expected.last_hidden_state)
        assert loaded.config.to_dict()["low_rank"] == backbone.config.low_rank


def test_loading_in_bfloat16_keeps_the_state_space_in_float32(tmp_path):
    backbone = make_backbone()
    backbone.save_pretrained(tmp_path)
    loaded = EcgS4Backbone.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.layers[0].output_linear.weight.dtype == torch.bfloat16
    assert torch.equal(loaded.layers[0].state_space.kernel(64), backbone.layers[0].state_space.kernel(64))


def test_loading_an_incomplete_checkpoint_keeps_what_it_holds(tmp_path):
    backbone = make_backbone()
    for buffer in backbone.layers[0].state_space.buffers():
        buffer.mul_(1.25)
    kept = {name: tensor for name, tensor in backbone.state_dict().items() if not name.endswith(("C", "log_decay"))}
    backbone.config.save_pretrained(tmp_path)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = EcgS4Backbone.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in kept.items())
    torch.testing.assert_close(loaded["layers.0.state_space.log_decay"], torch.full((16, 4), math.log(0.5)))
    assert 0.6 < loaded["layers.0.state_space.C"].std() < 0.8


def test_autocast_does_not_reach_the_state_space():
    space = make_space(bidirectional=True).float()
    signal = torch.randn(5, 2, 100)
    expected = space(signal)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(space(signal), expected)
    assert space(signal.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close_to_single(dtype):
    backbone, signal = make_backbone(num_layers=4, hidden_size=64), torch.randn(4, 12, 600)
    exact = backbone(signal).last_hidden_state
    with torch.autocast("cpu", dtype=dtype):
        mixed = backbone(signal).last_hidden_state
    pure = copy.deepcopy(backbone).to(dtype)(signal).last_hidden_state
    assert pure.dtype == dtype
    for found, bound in ((mixed, 0.02), (pure, 0.02)):
        assert (found.float() - exact).norm() / exact.norm() < bound


@pytest.mark.parametrize("trainable", [False, True])
def test_every_tensor_is_a_parameter_or_a_persistent_buffer(trainable):
    backbone = make_backbone(trainable_dynamics=trainable)
    named = dict(backbone.named_parameters()) | dict(backbone.named_buffers())
    assert set(backbone.state_dict()) == set(named)
    for module in backbone.modules():
        assert not module._non_persistent_buffers_set
        assert not [name for name, value in vars(module).items() if isinstance(value, torch.Tensor)]


def test_state_dict_holds_the_dynamics_as_buffers_or_as_parameters():
    names = {"log_dt", "log_decay", "frequency", "B", "P"}
    for trainable in (False, True):
        space = make_space(trainable=trainable)
        assert set(dict(space.named_parameters())) == ({"C", "D"} | names if trainable else {"C", "D"})
        assert set(space.state_dict()) == {"C", "D"} | names
    assert "P" not in make_space(low_rank=False).state_dict()


def test_trainable_dynamics_get_the_gradient_of_the_kernel():
    space = make_space(width=2, state_size=4, trainable=True)
    parameters = tuple(parameter.detach().requires_grad_() for parameter in space.parameters())
    names = [name for name, _ in space.named_parameters()]

    def response(*values):
        return torch.func.functional_call(
            space, dict(zip(names, values, strict=True)), torch.ones(2, 1, 40, dtype=torch.float64)
        )

    assert torch.autograd.gradcheck(response, parameters)


@pytest.mark.parametrize("fields", [{}, {"trainable_dynamics": True}, {"causal": True, "stem": "linear"}])
def test_every_parameter_gets_a_gradient(fields):
    backbone = make_backbone(**fields).train()
    (backbone(torch.randn(4, 12, 100)).last_hidden_state ** 3).sum().backward()
    assert not [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_gradient_checkpointing_changes_no_gradient():
    signal, gradients = torch.randn(2, 12, 100), []
    for checkpointing in (False, True):
        backbone = make_backbone().train()
        if checkpointing:
            older = backbone.gradient_checkpointing_enable
            getattr(backbone, "activation_checkpointing_enable", older)({"use_reentrant": False})
        torch.manual_seed(3)
        (backbone(signal).last_hidden_state ** 3).sum().backward()
        gradients.append({name: p.grad for name, p in backbone.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=0, atol=0, msg=name)


def test_operators_are_kept_until_the_dynamics_change():
    space, signal = make_space(), torch.randn(5, 1, 50, dtype=torch.float64)
    before = space(signal)
    (kept,) = space._cache.values()
    space.log_dt.copy_(space.log_dt.clone())  # what data-parallel training does before each step
    assert torch.equal(space(signal), before)
    assert next(iter(space._cache.values())) is kept
    space.log_dt.add_(1)
    after = space(signal)
    assert not torch.allclose(after, before)
    fresh = make_space()
    fresh.load_state_dict(space.state_dict())
    assert torch.equal(fresh(signal), after)


def test_copy_does_not_keep_operators_of_the_original():
    backbone, signal = make_backbone(), torch.randn(1, 12, 100)
    expected = backbone(signal).last_hidden_state
    twin = copy.deepcopy(backbone)
    assert all(layer.state_space._cache == {} for layer in twin.layers)
    assert torch.equal(twin(signal).last_hidden_state, expected)
    for layer in twin.layers:
        layer.state_space.log_dt.sub_(1)
    assert not torch.allclose(twin(signal).last_hidden_state, expected)
    assert torch.equal(backbone(signal).last_hidden_state, expected)
    narrow = copy.deepcopy(backbone).to(torch.bfloat16).to(torch.float32)
    assert not torch.equal(narrow(signal).last_hidden_state, expected)


def test_backbone_can_train_after_it_ran_in_inference_mode():
    backbone, signal = make_backbone(), torch.randn(1, 12, 100)
    with torch.inference_mode():
        backbone(signal)
    backbone(signal).last_hidden_state.pow(3).sum().backward()
    assert backbone.layers[0].state_space.C.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("signal", "error", "text"),
    [
        (torch.zeros(1, 8, 100), ValueError, r"\(B, 12, T\), got \(1, 8, 100\)"),
        (torch.zeros(12, 100), ValueError, r"got \(12, 100\)"),
        (torch.zeros(1, 100, 12), ValueError, "order the axes"),
        (torch.zeros(1, 12, 100, dtype=torch.int16), TypeError, r"torch\.int16; convert ADC units"),
    ],
)
def test_backbone_refuses_a_signal_of_another_kind(signal, error, text):
    with pytest.raises(error, match=text):
        make_backbone()(signal)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"state_size": 7}, "even and at least 2, got 7"),
        ({"state_size": 0}, "even and at least 2, got 0"),
        ({"stem": "patch"}, r"one of \['conv', 'linear'\], got 'patch'"),
        ({"dropout": 1}, r"\[0, 1\), got 1"),
        ({"dt_min": 0.2}, "dt_min <= dt_max, got 0.2 and 0.1"),
        ({"hiden_size": 4}, "has no field 'hiden_size'"),
    ],
)
def test_config_refuses_what_it_cannot_mean(fields, text):
    with pytest.raises(Exception, match=text):
        EcgS4Config(**fields)
