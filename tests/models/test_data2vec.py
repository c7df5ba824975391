import pytest
import torch

from ecg_hf import PAIRS
from ecg_hf.models.objectives import data2vec
from ecg_hf.models.objectives.data2vec import average_layers
from ecg_hf.models.objectives.masking import draw_spans


def make_pair(name="s4-data2vec", **fields):
    torch.manual_seed(0)
    pair = PAIRS[name]
    return pair(pair.config_class(**{**pair.backbone_class.sizes["20k"], **fields}))


def draw(num_samples=300, batch=2, seed=0):
    return torch.randn(batch, 12, num_samples, generator=torch.Generator().manual_seed(seed))


def standardised(tokens, over):
    """Tokens (N, D), each over its channels or each channel over time."""
    dim = {"token": 1, "time": 0}[over]
    centred = tokens - tokens.mean(dim=dim, keepdim=True)
    return centred / (tokens.var(dim=dim, correction=0, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("target_norm", ["time", "token"])
@pytest.mark.parametrize(
    "name, num_layers, feature_reduction",
    [
        ("s4-data2vec", 1, "mean"),
        ("s4-data2vec", 2, "sqrt"),
        ("s4-data2vec", 3, "mean"),
        ("transformer-data2vec", 2, "mean"),
        ("resnet-data2vec", 2, "sqrt"),
    ],
)
def test_the_loss_equals_a_loop_over_masked_tokens_and_layers(name, num_layers, feature_reduction, target_norm):
    fields = {"feature_reduction": feature_reduction, "target_norm": target_norm, "mask_span": 3}
    pair = make_pair(name, average_top_k_layers=num_layers, **fields).eval()
    signal = draw(300 if name.startswith("s4") else 1000)
    objective, width = pair.objective, pair.config.hidden_size
    with torch.no_grad():
        teacher = objective.teacher.backbone
        layers = teacher.encode(teacher.embed(signal), output_layer_outputs=True).layer_outputs
        mask = draw_spans(pair.config, layers[0], training=False)
        predictions = objective.predictor(objective.encode_masked(pair.backbone, signal, mask)).double()
    losses = []
    for crop, token in mask.nonzero().tolist():
        chosen = [standardised(layer[crop].double(), target_norm)[token] for layer in layers[-num_layers:]]
        target = sum(chosen) / len(chosen)
        error = (predictions[crop, token] - target).abs()
        summed = torch.where(error < 1, error.square() / 2, error - 0.5).sum().item()
        losses.append(summed / (width if feature_reduction == "mean" else width**0.5))
    output = pair(signal)
    assert output.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert output.metrics["mask_fraction"].item() == pytest.approx(len(losses) / mask.numel())


def test_layers_are_captured_before_dropout_residual_and_norm(monkeypatch):
    pair = make_pair().eval()
    seen = []
    monkeypatch.setattr(
        data2vec, "average_layers", lambda layers, over: seen.extend(layers) or average_layers(layers, over)
    )
    pair(draw())
    teacher = pair.objective.teacher.backbone
    states = teacher(draw(), output_hidden_states=True).hidden_states
    assert len(seen) == 2
    for layer, tokens, output in zip(teacher.layers[2:], states[2:4], seen, strict=True):
        assert torch.equal(output, layer.mix(tokens))


def test_a_backbone_with_fewer_layers_of_the_output_s_shape_gives_all_it_has():
    pair = make_pair(average_top_k_layers=9)
    assert pair.objective.num_averaged == pair.backbone.num_layer_outputs == 4
    assert pair(draw()).loss.isfinite()


@pytest.mark.parametrize("value", [True, False])
def test_a_batch_with_nothing_masked_has_no_loss_and_moves_nothing(value, monkeypatch):
    pair = make_pair().train()
    monkeypatch.setattr(
        data2vec, "draw_spans", lambda _, tokens, training: torch.full(tokens.shape[:2], value, dtype=torch.bool)
    )
    output = pair(draw())
    output.loss.backward()
    gradients = [parameter.grad for parameter in pair.parameters() if parameter.requires_grad]
    assert output.metrics["mask_fraction"] == float(value)
    assert (output.loss > 0) == value
    assert any(gradient.any() for gradient in gradients) == value
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_study_s_setting_masks_six_percent():
    config = make_pair(mask_fraction=1 - (1 - 0.0065) ** 10).config
    torch.manual_seed(0)
    mask = draw_spans(config, torch.zeros(10_000, 300, 1), training=True)
    assert config.mask_span == 10 and mask.float().mean().item() == pytest.approx(0.062, abs=0.002)


def test_the_study_s_scale_is_the_mean_times_the_root_of_the_width():
    mean, root = (make_pair(feature_reduction=reduction).eval() for reduction in ("mean", "sqrt"))
    assert root(draw()).loss.item() == pytest.approx(38**0.5 * mean(draw()).loss.item(), rel=1e-6)


def test_masks_repeat_in_evaluation_and_change_in_training():
    pair = make_pair(dropout=0.0, predictor_dropout=0.0)
    state = torch.get_rng_state()
    assert torch.equal(pair.eval()(draw()).loss, pair(draw()).loss)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    losses = [pair.train()(draw()).loss for _ in range(2)]
    torch.manual_seed(1)
    assert losses[0] != losses[1] and pair(draw()).loss == losses[0]


@pytest.mark.parametrize("predictor", ["s4", "linear"])
def test_gradients_reach_student_predictor_and_mask_token(predictor):
    pair = make_pair(predictor=predictor).train()
    pair(draw()).loss.backward()
    assert [key for key, value in pair.named_parameters() if value.requires_grad and not value.grad.any()] == []


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"average_top_k_layers": 0}, "average_top_k_layers must be at least 1, got 0"),
        ({"feature_reduction": "sum"}, "feature_reduction must be 'mean' or 'sqrt', got 'sum'"),
        ({"mask_fraction": 1.0}, r"mask_fraction must lie in \(0, 1\), got 1.0"),
    ],
)
def test_data2vec_config_refuses_what_is_out_of_range(fields, message):
    with pytest.raises(Exception, match=message):
        make_pair(**fields)
