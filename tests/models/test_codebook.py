import contextlib
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

from ecg_hf import PAIRS
from ecg_hf.models.objectives import dinosr, hubertpp
from ecg_hf.models.objectives.codebook import Codebook, code_usage, one_hot, sinkhorn, spread_out
from ecg_hf.models.objectives.distributed import gather_tokens

PAIRS_WITH_CODES = ("s4-dinosr", "s4-hubertpp")
BACKBONE = {"hidden_size": 16, "num_layers": 2, "stem": "linear", "dropout": 0.0}
OBJECTIVES = {
    "s4-dinosr": {"codebook_size": 8, "predictor_state_size": 4, "predictor_dropout": 0.0},
    "s4-hubertpp": {"codebook_sizes": [6, 9]},
}
NUM_CROPS, NUM_SAMPLES, NUM_STEPS = 8, 40, 3


def make_pair(name, **fields):
    pair = PAIRS[name]
    torch.manual_seed(0)
    return pair(pair.config_class(**{**BACKBONE, **OBJECTIVES[name], **fields})).train()


def signals(seed, num_crops=NUM_CROPS):
    return torch.randn(num_crops, 12, NUM_SAMPLES, generator=torch.Generator().manual_seed(seed))


def take_step(pair, optimizer, seed):
    torch.manual_seed(seed)
    loss = pair(signals(seed)).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    pair.after_step()
    return loss.detach()


def train(pair, steps):
    optimizer = torch.optim.SGD([value for value in pair.parameters() if value.requires_grad], lr=0.1)
    return torch.stack([take_step(pair, optimizer, seed) for seed in steps])


def codes_of(pair):
    return [codebook.codes.clone() for codebook in pair.objective.codebooks]


@pytest.fixture
def tokens():
    return torch.randn(50, 6, generator=torch.Generator().manual_seed(0))


def test_what_is_collected_is_the_sum_over_members_of_all_batches_and_is_taken_once(tokens):
    codebook = Codebook(4, 6)
    shares = torch.rand(50, 4, generator=torch.Generator().manual_seed(1))
    for part in (slice(0, 20), slice(20, 50)):
        codebook.collect(shares[part], tokens[part])
    total, count = codebook.take()
    for code in range(4):
        expected = sum(shares[n, code].item() * tokens[n].double() for n in range(50))
        assert torch.allclose(total[code].double(), expected, atol=1e-5)
        assert count[code].item() == pytest.approx(shares[:, code].sum().item(), rel=1e-5)
    assert all(not values.any() for values in codebook.take())


def test_code_usage_knows_uniform_and_single_use():
    codes = [torch.tensor([[0, 1], [2, 3]]), torch.tensor([[5, 5], [5, 5]])]
    usage = code_usage(codes, [8, 10])
    assert usage["codebook_perplexity"].item() == pytest.approx((4 + 1) / 2, rel=1e-5)
    assert usage["codebook_usage"].item() == pytest.approx((4 / 8 + 1 / 10) / 2)
    assert torch.equal(one_hot(codes[0], 8), torch.nn.functional.one_hot(codes[0], 8).float())


def test_sinkhorn_is_a_loop_that_scales_columns_then_rows(tokens):
    similarities = (tokens @ tokens[:7].T).numpy().astype(np.float64)
    expected = np.exp(similarities - similarities.max(axis=1, keepdims=True))
    for _ in range(3):
        for code in range(7):
            expected[:, code] /= expected[:, code].sum()
        for token in range(50):
            expected[token] /= expected[token].sum()
    shares = sinkhorn(torch.from_numpy(similarities), 3)
    np.testing.assert_allclose(shares.numpy(), expected, rtol=1e-12)


def test_sinkhorn_gives_rows_of_one_and_in_the_end_equal_columns(tokens):
    similarities = tokens @ tokens[:7].T
    few, many = sinkhorn(similarities, 3), sinkhorn(similarities, 300)
    for shares in (few, many):
        assert torch.allclose(shares.sum(dim=1), torch.ones(50), atol=1e-6)
    assert (few.sum(dim=0) - 50 / 7).abs().max() > 0.01
    assert torch.allclose(many.sum(dim=0), torch.full((7,), 50 / 7), rtol=1e-4)


def test_sinkhorn_does_not_see_a_constant_on_a_row_nor_overflow(tokens):
    similarities = (tokens @ tokens[:7].T).double()
    moved = similarities + torch.linspace(-1e3, 1e3, 50)[:, None]
    assert torch.allclose(sinkhorn(moved, 3), sinkhorn(similarities, 3), rtol=1e-9)
    assert sinkhorn(similarities.float() * 1e3, 3).isfinite().all()


def test_first_codes_are_spread_over_clusters(tokens):
    centres = 100 * torch.eye(6)
    points = centres.repeat(20, 1) + 0.01 * torch.randn(120, 6, generator=torch.Generator().manual_seed(1))
    chosen = spread_out(points, 6, torch.Generator().manual_seed(2))
    assert sorted(torch.cdist(chosen, centres).argmin(dim=1).tolist()) == list(range(6))
    assert all((points == row).all(dim=1).any() for row in chosen)


def test_a_first_code_is_chosen_with_the_probability_of_its_squared_distance():
    points = torch.tensor([[0.0], [1.0], [3.0]])
    generator = torch.Generator().manual_seed(0)
    drawn = [tuple(spread_out(points, 2, generator).flatten().tolist()) for _ in range(3000)]
    after_zero = [second for first, second in drawn if first == 0.0]
    assert len(after_zero) / 3000 == pytest.approx(1 / 3, abs=0.03)
    assert after_zero.count(3.0) / len(after_zero) == pytest.approx(9 / 10, abs=0.03)


def test_first_codes_can_be_chosen_where_all_tokens_are_the_same():
    assert torch.equal(spread_out(torch.ones(5, 3), 4, torch.Generator().manual_seed(0)), torch.ones(4, 3))


def test_one_process_gathers_its_own_tokens(tokens):
    assert gather_tokens(tokens) is tokens


@pytest.mark.parametrize("name", PAIRS_WITH_CODES)
def test_a_resumed_run_repeats_the_whole_run_bit_for_bit(name, tmp_path):
    whole, half = make_pair(name), make_pair(name)
    losses = train(whole, range(6))
    train(half, range(3))
    half.save_pretrained(tmp_path)
    resumed = PAIRS[name].from_pretrained(tmp_path).train()
    assert torch.equal(train(resumed, range(3, 6)), losses[3:])
    others = resumed.state_dict()
    assert all(torch.equal(value, others[key]) for key, value in whole.state_dict().items())


@pytest.mark.parametrize("name", PAIRS_WITH_CODES)
def test_only_a_step_moves_codes_and_evaluation_leaves_no_trace(name):
    pair = make_pair(name)
    train(pair, range(2))
    before = copy.deepcopy(pair.state_dict())
    pair.eval()
    assert torch.equal(pair(signals(5)).loss, pair(signals(5)).loss)
    assert all(torch.equal(value, before[key]) for key, value in pair.state_dict().items())
    codes = codes_of(pair.train())
    pair(signals(6)).loss.backward()
    assert all(torch.equal(now, old) for now, old in zip(codes_of(pair), codes, strict=True))
    pair.after_step()
    assert all((now != old).any() for now, old in zip(codes_of(pair), codes, strict=True))


@pytest.mark.parametrize("name", PAIRS_WITH_CODES)
def test_no_gradient_reaches_teacher_or_codes(name):
    pair = make_pair(name)
    pair(signals(0)).loss.backward()
    assert all(value.grad is None for value in pair.objective.teacher.parameters())
    assert not list(pair.objective.codebooks.parameters())
    assert all(value.grad.abs().sum() > 0 for key, value in pair.backbone.named_parameters())


@pytest.mark.parametrize("name", PAIRS_WITH_CODES)
def test_a_batch_that_is_not_finite_leaves_finite_codes(name):
    pair = make_pair(name)
    train(pair, range(2))
    codes = codes_of(pair)
    bad = signals(2)
    bad[0, 0, 0] = float("nan")
    pair(bad)
    pair.after_step()
    assert all(now.isfinite().all() for now in codes_of(pair))
    pair(signals(3))
    pair.after_step()
    assert any((now != old).any() for now, old in zip(codes_of(pair), codes, strict=True))


def _mask_by_content(config, tokens, *, training):
    """Hides tokens by what the teacher makes of them: not equally many in every process, but the same in any split."""
    return tokens[..., 0] > 0.3


def _train_share(name, rank, num_processes):
    """Trains on one process' share of every micro-batch of two; gives the losses and all that the pair holds."""
    dinosr.draw_spans = hubertpp.draw_spans = _mask_by_content
    pair = make_pair(name)
    # A teacher that moves fast, so that codes follow it.
    pair.config.ema_start_decay = pair.config.ema_decay = 0.5
    wrapped = DistributedDataParallel(pair) if num_processes > 1 else pair
    optimizer = torch.optim.SGD([value for value in pair.parameters() if value.requires_grad], lr=0.1)
    losses = []
    for step in range(NUM_STEPS):
        loss = torch.zeros(())
        for last, batch in enumerate(signals(step).chunk(2)):
            with contextlib.nullcontext() if last or num_processes == 1 else wrapped.no_sync():
                part = wrapped(batch.chunk(num_processes)[rank]).loss / 2
                part.backward()
            loss += part.detach()
        losses.append(loss)
        optimizer.step()
        optimizer.zero_grad()
        pair.after_step()
    return {"losses": torch.stack(losses), "state": pair.state_dict()}


def _run_process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    results = {name: _train_share(name, rank, dist.get_world_size()) for name in PAIRS_WITH_CODES}
    torch.save({"world_size": dist.get_world_size(), **results}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(_run_process, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", PAIRS_WITH_CODES)
def test_two_processes_do_what_one_does_with_the_same_global_batches(name, two_processes, monkeypatch):
    monkeypatch.setattr(dinosr, "draw_spans", dinosr.draw_spans)
    monkeypatch.setattr(hubertpp, "draw_spans", hubertpp.draw_spans)
    alone = _train_share(name, 0, 1)
    assert [result["world_size"] for result in two_processes] == [2, 2]
    both = [result[name] for result in two_processes]
    losses = (both[0]["losses"] + both[1]["losses"]) / 2
    assert torch.allclose(losses, alone["losses"], rtol=1e-5)
    assert not torch.equal(both[0]["losses"], both[1]["losses"])
    fresh = make_pair(name).state_dict()
    for key, value in alone["state"].items():
        for result in both:
            assert torch.allclose(result["state"][key].double(), value.double(), atol=1e-5), key
        if key.endswith(".codes"):
            assert (value - fresh[key]).abs().max() > 1e-2
