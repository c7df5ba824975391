"""Whether every objective teaches every backbone something: pretrained against untrained, by linear probes.

OMP_NUM_THREADS=1 python benchmarks/objectives.py --data synthetic
OMP_NUM_THREADS=1 python benchmarks/objectives.py --data real --root DATA

Each run pretrains a fixed number of steps without labels, the same for all objectives of a backbone; then one logistic
regression per label reads the mean token. Training and test patients differ, and no test patient's ECG is pretrained
on. Rows already in the output folder are not run again.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from objectives_data import Records, load_records
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from ecg_hf import PAIRS
from ecg_hf.data.crops import crop_draws, crop_starts, tile
from ecg_hf.evaluation.bootstrap import bootstrap, cluster_by_patient, percentile_interval
from ecg_hf.evaluation.weighted_scores import label_statistics
from ecg_hf.signals.simple_features import simple_features
from ecg_hf.training.batch_norms import regather
from ecg_hf.training.optimization import LEARNING_RATE_SCALES, learning_rate_factor, parameter_groups

NUM_RESAMPLES = 1000
# Crops of 5 s at 100 Hz are 32 tokens for a residual network and 16 patches for a transformer: spans of ten tokens, or
# a prediction fourteen ahead, would leave nothing. These settings are said in time and hold for every backbone.
SECONDS, RATE = 5.0, 100
NUM_SAMPLES = int(SECONDS * RATE)
# A small network's first hundreds of steps teach it little. These take a minute or so each.
STEPS = {"s4": 800, "cnn": 800, "resnet": 1500, "transformer": 4000}


def objective_fields(objective: str, stride: int) -> dict[str, object]:
    """Spans and blocks of 0.4 to 0.6 s and predictions 0.16 s ahead, but a token at least; teachers as they come."""
    spans = {"mask_span": max(1, round(0.4 * RATE / stride)), "mask_fraction": 0.3}
    return {
        "cpc": {"prediction_offset": max(1, round(0.16 * RATE / stride))},
        "masked": {"mask_patch_size": 16, "mask_max_patches": 4},
        "jepa": {"target_scale": [0.4 / SECONDS, 0.6 / SECONDS]},
        "data2vec": spans,
        "dinosr": spans | {"codebook_size": 64},
        "hubertpp": spans | {"codebook_sizes": [32, 64]},
    }[objective]


def make(name: str, size: str, seed: int) -> torch.nn.Module:
    kind = PAIRS[name]
    fields = kind.backbone_class.sizes[size]
    torch.manual_seed(seed)
    with torch.device("meta"):
        stride = kind.backbone_class(kind.config_class(**fields)).stride
    return kind(kind.config_class(**fields, **objective_fields(name.partition("-")[2], stride)))


def pretrain(pair: torch.nn.Module, signals: list[np.ndarray], arguments: argparse.Namespace, seed: int) -> dict:
    """Takes the steps and gives the mean of the last tenth of their metrics."""
    rng, history = np.random.default_rng(seed), []
    lengths, size = np.array([signal.shape[1] for signal in signals]), arguments.batch_size
    steps = round(arguments.share * STEPS[pair.config.model_type.split("-")[1]])
    groups = parameter_groups(pair, arguments.learning_rate, 1e-2, LEARNING_RATE_SCALES["uniform"])
    optimizer = torch.optim.AdamW(groups)
    pair.train()
    for step in range(steps):
        chosen = rng.integers(len(signals), size=size)
        starts = crop_starts(crop_draws(seed, step * size, (step + 1) * size), lengths[chosen], NUM_SAMPLES)
        batch = np.stack([signals[i][:, start : start + NUM_SAMPLES] for i, start in zip(chosen, starts, strict=True)])
        factor = learning_rate_factor(step, max_steps=steps, warmup_steps=20, schedule="cosine")
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        output = pair(torch.from_numpy(batch))
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(pair.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        pair.after_step()
        history.append({"loss": output.loss.item(), **{key: float(value) for key, value in output.metrics.items()}})
    last = history[-max(1, len(history) // 10) :]
    return {key: float(np.mean([row[key] for row in last])) for key in last[0]} | {"first_loss": history[0]["loss"]}


@torch.no_grad()
def encode(backbone: torch.nn.Module, signals: list[np.ndarray]) -> np.ndarray:
    """Pools tokens; batch norms first gather statistics of whole crops, whether trained or not."""
    crops = np.stack([tile(signal, NUM_SAMPLES)[0] for signal in signals[:640]])
    regather(backbone, torch.from_numpy(crops).split(64))
    tiles = [tile(signal, NUM_SAMPLES) for signal in signals]
    pooled = torch.cat([backbone(batch).pooler_output for batch in torch.from_numpy(np.concatenate(tiles)).split(64)])
    parts = pooled.split([len(part) for part in tiles])
    return np.stack([part.mean(dim=0).numpy() for part in parts])


def probe(features: np.ndarray, records: Records) -> np.ndarray:
    """Computes probabilities of the test records: one logistic regression per label on standardised features."""
    scaled = StandardScaler().fit(features[records.train]).transform(features)
    scores = np.zeros((len(records.test), records.labels.shape[1]))
    for label in range(scores.shape[1]):
        readout = LogisticRegression(C=0.1, max_iter=1000).fit(
            scaled[records.train], records.labels[records.train, label]
        )
        scores[:, label] = readout.predict_proba(scaled[records.test])[:, 1]
    return scores


def run(name: str, seed: int, arguments: argparse.Namespace) -> None:
    """Pretrains and probes one pair with one seed, and writes its scores."""
    torch.set_num_threads(1)
    records = load_records(arguments.data, arguments.root, arguments.num_records)
    pair, started = make(name, arguments.size, seed), time.perf_counter()
    untrained = probe(encode(pair.backbone, records.labelled), records)
    metrics = pretrain(pair, records.unlabelled, arguments, seed)
    trained = probe(encode(pair.backbone, records.labelled), records)
    path = arguments.output / f"{name}-{seed}.json"
    row = {"metrics": metrics, "seconds": time.perf_counter() - started}
    np.savez(path.with_suffix(".npz"), trained=trained, untrained=untrained)
    path.write_text(json.dumps(row), encoding="utf-8")


def interval(scores: list[np.ndarray], others: list[np.ndarray] | None, records: Records) -> str:
    """The macro AUROC (or its difference to that of other scores), averaged over seeds, with its 95 % interval."""
    labels = records.labels[records.test]
    ours = [label_statistics(labels, each, ["auroc"]) for each in scores]
    theirs = [label_statistics(labels, each, ["auroc"]) for each in others or []]

    def statistic(weights: np.ndarray) -> np.ndarray:
        mean = np.mean([each(weights)["auroc"] for each in ours], axis=0)
        other = np.mean([each(weights)["auroc"] for each in theirs], axis=0) if theirs else 0.0
        return np.nanmean(mean - other, axis=0, keepdims=True)

    clusters = cluster_by_patient([records.patients[index] for index in records.test], len(records.test))
    value, replicates = bootstrap(statistic, clusters, NUM_RESAMPLES)
    low, high = percentile_interval(replicates[0])
    return f"{float(value[0]):.3f} [{low:.3f}, {high:.3f}]"


def table(arguments: argparse.Namespace, names: list[str]) -> str:
    records = load_records(arguments.data, arguments.root, arguments.num_records)
    simple = probe(np.stack([simple_features(signal, RATE) for signal in records.labelled]), records)
    patients = len({records.patients[index] for index in records.test})
    steps = ", ".join(f"{round(arguments.share * number)} ({name})" for name, number in STEPS.items())
    lines = [
        f"{len(records.unlabelled)} records pretrained on, {len(records.train)} to fit probes, {len(records.test)} "
        f"records of {patients} patients to test; {steps} steps of {arguments.batch_size} crops of "
        f"{SECONDS:g} s at {RATE} Hz, size {arguments.size}, {arguments.seeds} seeds.",
        f"Simple features: {interval([simple], None, records)}.",
        "",
        "| pair | pretrained | untrained | difference | feature std | effective rank | seconds a run |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        paths = [arguments.output / f"{name}-{seed}" for seed in range(arguments.seeds)]
        scores = [np.load(path.with_suffix(".npz")) for path in paths]
        rows = [json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) for path in paths]
        trained, untrained = ([each[key] for each in scores] for key in ("trained", "untrained"))
        health = [np.mean([row["metrics"][key] for row in rows]) for key in ("feature_std", "effective_rank")]
        lines.append(
            f"| {name} | {interval(trained, None, records)} | {interval(untrained, None, records)} | "
            f"{interval(trained, untrained, records)} | {health[0]:.2f} | {health[1]:.1f} | "
            f"{np.mean([row['seconds'] for row in rows]):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=["synthetic", "real"], default="synthetic")
    parser.add_argument("--root", type=Path, help="folder with the real corpora")
    parser.add_argument("--pairs", nargs="*", default=[name for name in PAIRS if not name.endswith("supervised")])
    parser.add_argument("--size", default="20k")
    parser.add_argument("--share", type=float, default=1.0, help="of each backbone's number of steps")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--num_records", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("build/objectives"))
    arguments = parser.parse_args()
    arguments.output = arguments.output / arguments.data
    arguments.output.mkdir(parents=True, exist_ok=True)
    load_records(arguments.data, arguments.root, arguments.num_records)
    missing = [
        (name, seed)
        for seed in range(arguments.seeds)
        for name in arguments.pairs
        if not (arguments.output / f"{name}-{seed}.json").exists()
    ]
    with ProcessPoolExecutor(arguments.processes) as pool:
        futures = [pool.submit(run, name, seed, arguments) for name, seed in missing]
        for future in tqdm(as_completed(futures), total=len(futures)):
            future.result()
    print(table(arguments, arguments.pairs))


if __name__ == "__main__":
    main()
