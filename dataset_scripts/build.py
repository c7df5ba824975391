"""Builds a corpus: Parquet shards at one sampling rate, a manifest of their hashes, and a card.

python dataset_scripts/build.py ptbxl ROOT OUT --config 500hz --target_rate 240 --num_shards 8 --workers 2
python dataset_scripts/build.py code15 ROOT OUT --target_rate 240 --num_shards 512 --workers 64 --cluster slurm
python dataset_scripts/build.py ptbxl ROOT OUT --config 500hz --target_rate 240 --num_shards 8 --shard 3

The same command, killed anywhere and run again, builds what is missing; a shard has the same bytes wherever it is
built. With --shard one shard is built here, for a scheduler of your own; at last, run it without --shard once.
"""

import argparse
import json
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.built import BuiltCorpus
from ecg_hf.data.shards import Recipe, build_shards, shard_files, write_manifest
from ecg_hf.hub.dataset_cards import dataset_card
from ecg_hf.training.recipes import parse_fields

POLL_S = 0.5


def run_job(arguments: Namespace, shards: Sequence[int]) -> None:
    """Builds several shards, one after the other, of an index that is read once."""
    build_shards(open_source(arguments), read_recipe(arguments), arguments.out, shards)


def open_source(arguments: Namespace) -> Any:
    """Opens the corpus."""
    place = None if arguments.root == "-" else arguments.root
    return open_corpus(arguments.name, arguments.config, place, **parse_fields(arguments.fields))


def read_recipe(arguments: Namespace) -> Recipe:
    """Gives what decides the bytes."""
    unreadable = json.loads(arguments.exclude.read_text(encoding="utf-8"))["unreadable"] if arguments.exclude else {}
    return Recipe(arguments.target_rate, arguments.num_shards, arguments.seed, tuple(sorted(unreadable)))


def run_jobs(arguments: Namespace, shards: Sequence[int], remaining: Callable[[], Sequence[int]]) -> None:
    """Shares shards out to jobs of submitit, which knows Slurm and this machine alike, and waits for them."""
    import submitit

    executor = submitit.AutoExecutor(arguments.out / ".jobs", cluster=arguments.cluster)
    settings = {f"slurm_{name}": value for name, value in parse_fields(arguments.slurm).items()}
    executor.update_parameters(name=f"build-{arguments.name}", timeout_min=arguments.timeout_min, **settings)
    workers = min(arguments.workers, len(shards))
    with executor.batch():
        jobs = [executor.submit(run_job, arguments, shards[worker::workers]) for worker in range(workers)]
    try:
        with tqdm(total=len(shards), desc=f"building {arguments.name}", unit="shard") as bar:
            while bar.n < len(shards) and not all(job.done() for job in jobs):
                if done := len(shards) - len(remaining()) - bar.n:
                    bar.update(done)
                time.sleep(POLL_S)
    except BaseException:
        for job in jobs:
            job.cancel()
        raise
    for job in jobs:
        job.result()


def parse() -> Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the corpus, a key of ecg_hf.registry.CORPORA")
    parser.add_argument("root", help="folder, zip archive or address of its files; - for a computed corpus")
    parser.add_argument("out", type=Path, help="folder for the shards")
    parser.add_argument("--config", help="of the corpus; its default if not given")
    parser.add_argument("--fields", nargs="*", default=[], help="fields of the corpus, each name=value")
    parser.add_argument("--target_rate", type=float, help="Hz; each record keeps its own if not given")
    parser.add_argument("--num_shards", type=int, default=1, help="files of each split")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the records")
    parser.add_argument("--exclude", type=Path, help="report of verify.py: leave out what it cannot read")
    parser.add_argument("--shard", type=int, help="build this shard only, here")
    parser.add_argument("--workers", type=int, default=1, help="jobs that share the shards out")
    parser.add_argument("--cluster", default="local", choices=["local", "slurm"])
    parser.add_argument("--slurm", nargs="*", default=[], help="Slurm settings, such as partition=cpu")
    parser.add_argument("--timeout_min", type=int, default=1440, help="minutes that a job may take")
    return parser.parse_args()


def main() -> None:
    """Builds, and says what was built."""
    arguments = parse()
    corpus, recipe = open_source(arguments), read_recipe(arguments)
    if arguments.shard is not None:
        for path in build_shards(corpus, recipe, arguments.out, [arguments.shard]):
            print(path)
        return
    files = shard_files(corpus, recipe, arguments.out)

    def remaining() -> list[int]:
        return [shard for shard, paths in enumerate(files) if not all(path.is_file() for path in paths)]

    if shards := remaining():
        run_jobs(arguments, shards, remaining)
    manifest = write_manifest(corpus, recipe, arguments.out)
    dataset_card(BuiltCorpus(arguments.out), f"./{arguments.out.name}").save(arguments.out / "README.md")
    for split, content in manifest["splits"].items():
        print(f"{split}: {content['num_records']} records in {len(content['files'])} shards")
    print(f"built {arguments.name}: {arguments.out}")


if __name__ == "__main__":
    main()
