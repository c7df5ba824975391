import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError

from ecg_hf import PAIRS
from ecg_hf.models.objectives.dinosr import IDLE_SHARE, SPLIT_SHARE, Centroids, split_idle
from ecg_hf.models.objectives.masking import draw_spans
from ecg_hf.models.objectives.teacher import standardise

WIDTH, NUM_CODES, NUM_LAYERS = 16, 8, 2


TARGET_NORM = "time"  # the default


def make_pair(**fields):
    pair = PAIRS["s4-dinosr"]
    small = {"hidden_size": WIDTH, "num_layers": 3, "predictor_state_size": 4, "codebook_size": NUM_CODES}
    torch.manual_seed(0)
    return pair(pair.config_class(**{**small, **fields}))


@pytest.fixture
def signal():
    return torch.randn(4, 12, 80, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tokens():
    return torch.randn(60, 5, generator=torch.Generator().manual_seed(0))


def make_centroids(idle_codes="keep", decay=0.9):
    centroids = Centroids(NUM_CODES, 5, decay, idle_codes)
    torch.manual_seed(1)
    centroids.reset()
    return centroids


def test_codes_start_standardised_with_one_member_each():
    centroids = make_centroids()
    assert torch.allclose(centroids.codes.mean(dim=1), torch.zeros(NUM_CODES), atol=1e-6)
    assert torch.allclose(centroids.codes.std(dim=1, correction=0), torch.ones(NUM_CODES), atol=1e-3)
    assert torch.equal(centroids.counts, torch.ones(NUM_CODES))


def test_a_token_has_the_code_that_a_loop_finds_nearest(tokens):
    centroids = make_centroids()
    centroids.codes.mul_(torch.linspace(0.2, 2, NUM_CODES)[:, None])
    for token, code in zip(tokens, centroids.nearest(tokens).tolist(), strict=True):
        distances = [(token - row).square().sum().item() for row in centroids.codes]
        assert distances[code] == min(distances)


def test_one_update_by_hand():
    centroids = make_centroids()
    old = centroids.codes.clone()
    members = torch.tensor([[1.0, 2, 3, 4, 5], [5, 4, 3, 2, 1], [0, 0, 0, 0, 7]])
    centroids.collect(torch.tensor([[1.0, 0], [1, 0], [0, 1]]) @ torch.eye(NUM_CODES)[:2], members)
    centroids.update()
    first = (0.9 * old[0] + 0.1 * torch.full((5,), 6.0)) / (0.9 + 0.1 * 2)
    second = (0.9 * old[1] + 0.1 * torch.tensor([0.0, 0, 0, 0, 7])) / (0.9 + 0.1 * 1)
    assert torch.allclose(centroids.codes[:2], torch.stack([first, second]), atol=1e-6)
    assert torch.equal(centroids.codes[2:], old[2:])
    assert torch.allclose(centroids.counts, torch.tensor([1.1, 1.0] + [0.9] * (NUM_CODES - 2)))


def test_an_idle_code_stays_where_it_is_for_thousands_of_steps():
    centroids = make_centroids()
    old = centroids.codes.clone()
    for _ in range(2000):
        centroids.collect(torch.eye(NUM_CODES)[:1], old[:1])
        centroids.update()
    assert torch.equal(centroids.codes[1:], old[1:]) and centroids.codes.isfinite().all()
    assert centroids.counts[1] < 1e-40
    found = torch.arange(5.0)[None]
    centroids.collect(torch.eye(NUM_CODES)[1:2], found)
    centroids.update()
    assert torch.allclose(centroids.codes[1:2], found)


class Reference:
    """Study A's codebook: a sum and a count, which both decay, and a floor of the count."""

    def __init__(self, codes):
        self.sums, self.counts = codes.double().clone(), torch.ones(len(codes), dtype=torch.float64)

    def codes(self):
        return self.sums / self.counts.clamp(min=1e-8)[:, None]

    def update(self, tokens, codes):
        for code in range(len(self.sums)):
            members = tokens[codes == code].double()
            self.sums[code] = 0.9 * self.sums[code] + 0.1 * members.sum(dim=0)
            self.counts[code] = 0.9 * self.counts[code] + 0.1 * len(members)


@pytest.mark.parametrize("num_steps", [3, 250])
def test_codes_that_shrink_do_so_as_those_of_the_reference(num_steps):
    centroids = make_centroids("shrink")
    reference = Reference(centroids.codes)
    generator = torch.Generator().manual_seed(2)
    for _ in range(num_steps):
        tokens = torch.randn(20, 5, generator=generator) + torch.tensor([10.0, 0, 0, 0, 0])
        codes = centroids.nearest(tokens)
        reference.update(tokens, codes)
        centroids.collect(torch.eye(NUM_CODES)[codes], tokens)
        centroids.update()
        assert torch.allclose(centroids.compared().double(), reference.codes(), atol=1e-4)
    assert (reference.codes().norm(dim=1) < 1e-2).any() == (num_steps > 200)
    named = centroids.nearest(tokens)
    distances = (tokens.double()[:, None] - reference.codes()).square().sum(dim=2)
    assert torch.equal(distances.gather(1, named[:, None])[:, 0], distances.amin(dim=1))


def test_an_idle_code_moves_next_to_the_busiest_and_shares_its_members():
    codes = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    counts = torch.tensor([0.0, 8.0, 30.0, 20.0, 0.01, 8.0])
    new, shared = split_idle(codes, counts)
    assert torch.allclose(new[0], codes[2] + SPLIT_SHARE * (codes[0] - codes[2]))
    assert torch.allclose(new[4], codes[3] + SPLIT_SHARE * (codes[4] - codes[3]))
    assert torch.equal(new[[1, 2, 3, 5]], codes[[1, 2, 3, 5]])
    assert torch.equal(shared, torch.tensor([15.0, 8.0, 15.0, 10.0, 10.0, 8.0]))


def test_codes_that_are_all_in_use_are_not_split():
    codes = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    counts = torch.tensor([IDLE_SHARE * 2, 1.0, 3.0, 2.0, 1.0, 4.0])
    new, shared = split_idle(codes, counts)
    assert torch.equal(new, codes) and torch.equal(shared, counts)


@pytest.mark.parametrize(("idle_codes", "most"), [("keep", 2), ("split", NUM_CODES)])
def test_splitting_puts_all_codes_to_use_where_tokens_are_far_from_them(idle_codes, most):
    centroids = make_centroids(idle_codes)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        tokens = torch.randn(200, 5, generator=generator) + torch.tensor([20.0, 0, 0, 0, 0])
        codes = centroids.nearest(tokens)
        centroids.collect(torch.eye(NUM_CODES)[codes], tokens)
        centroids.update()
    used = len(codes.unique())
    assert used <= most and (used == NUM_CODES) == (idle_codes == "split")


@pytest.mark.parametrize("target_norm", ["token", "time"])
def test_loss_and_metrics_equal_a_loop_over_layers_crops_and_masked_tokens(signal, target_norm):
    pair = make_pair(target_norm=target_norm).eval()
    objective = pair.objective
    output = pair(signal)
    with torch.no_grad():
        states = objective.teacher.backbone(signal, output_hidden_states=True).hidden_states
        mask = draw_spans(pair.config, states[-1], training=False)
        logits = objective.predictor(objective.encode_masked(pair.backbone, signal, mask))
    losses, hits = [], []
    for layer in range(NUM_LAYERS):
        tokens, dim = states[layer - NUM_LAYERS], {"token": 2, "time": 1}[target_norm]
        mean, variance = tokens.mean(dim=dim, keepdim=True), tokens.var(dim=dim, keepdim=True, correction=0)
        targets = (tokens - mean) / (variance + 1e-5).sqrt()
        for crop, n in mask.nonzero().tolist():
            scores = logits[crop, n, layer * NUM_CODES : (layer + 1) * NUM_CODES].double()
            distances = [(targets[crop, n] - code).norm().item() for code in objective.codebooks[layer].codes]
            code = distances.index(min(distances))
            losses.append(scores.exp().sum().log().item() - scores[code].item())
            hits.append(scores.argmax().item() == code)
    assert len(losses) == NUM_LAYERS * mask.sum() > 50
    assert output.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert output.metrics["accuracy"].item() == pytest.approx(sum(hits) / len(hits))
    assert output.metrics["mask_fraction"].item() == pytest.approx(mask.float().mean().item())


def test_chance_is_the_logarithm_of_the_number_of_codes(signal):
    pair = make_pair(codebook_size=256).eval()
    torch.nn.init.zeros_(pair.objective.predictor.output_linear.weight)
    torch.nn.init.zeros_(pair.objective.predictor.output_linear.bias)
    assert pair(signal).loss.item() == pytest.approx(math.log(256), rel=1e-5)


def test_two_micro_batches_move_the_codes_as_one_batch(signal):
    # Batch norm would see another batch.
    whole, halves = (make_pair(stem="linear").train() for _ in range(2))
    whole(signal)
    for half in signal.chunk(2):
        halves(half)
    for pair in (whole, halves):
        pair.after_step()
    for one, other in zip(whole.objective.codebooks, halves.objective.codebooks, strict=True):
        assert torch.allclose(one.codes, other.codes, atol=1e-6)
        assert torch.allclose(one.counts, other.counts)


def test_one_layer_is_the_output_and_more_than_there_are_is_all(signal):
    assert [key for key in make_pair(num_codebook_layers=1).state_dict() if key.endswith(".codes")] == [
        "objective.codebooks.0.codes"
    ]
    assert len(make_pair(num_codebook_layers=9).objective.codebooks) == 3
    pair = make_pair(num_codebook_layers=1).eval()
    with torch.no_grad():
        last = pair.objective.teacher(signal)["last_hidden_state"]
    expected = pair.objective.codebooks[0].nearest(standardise(last, TARGET_NORM).flatten(0, 1))
    assert torch.equal(pair.objective._name(pair.objective.teacher(signal)).flatten(), expected)


def test_all_that_codes_need_is_in_the_state_dict():
    keys = {key for key in make_pair().state_dict() if "codebooks" in key}
    names = ("codes", "counts", "pending_sum", "pending_count")
    assert keys == {f"objective.codebooks.{layer}.{name}" for layer in range(NUM_LAYERS) for name in names}


def test_the_predictor_of_the_reference_has_its_size():
    pair = make_pair(hidden_size=512, num_layers=1, predictor_state_size=64, codebook_size=256)
    trainable = sum(value.numel() for value in pair.objective.predictor.parameters() if value.requires_grad)
    assert trainable == 855_040 - 512 * 513 + 256 * 513


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("target_norm", "batch", "target_norm must be 'time' or 'token', got 'batch'"),
        ("idle_codes", "drop", "idle_codes must be one of"),
        ("codebook_decay", 1.0, r"codebook_decay in \[0, 1\), got 2, 256 and 1.0"),
        ("codebook_size", 1, "codebook_size at least 2"),
        ("num_codebook_layers", 0, "num_codebook_layers must be at least 1"),
    ],
)
def test_config_refuses(field, value, text):
    with pytest.raises(StrictDataclassClassValidationError, match=text):
        PAIRS["s4-dinosr"].config_class(**{field: value})
