"""Builds a corpus: Parquet shards at one sampling rate, a manifest of their hashes, and a card.

  ecg-hf build ptbxl ROOT built/ptbxl --config 500hz --target_rate 240 --num_shards 8 --workers 2
  ecg-hf build code15 ROOT3 built/code15 --target_rate 240 --num_shards 64 --workers 64 --cluster slurm
  ecg-hf build ptbxl ROOT built/ptbxl --config 500hz --target_rate 240 --num_shards 8 --shard 3

The same command, killed at any point and run again, builds what is missing; a shard has the same bytes wherever it is
built. With --shard one shard is built here, for a scheduler of your own; at the end run it without --shard once.
"""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_hf.commands.reporting import run_reporting, split_verbose
from ecg_hf.output.console import Progress, prepare_console
from ecg_hf.training.flags import FlagParser
from ecg_hf.training.recipes import parse_fields

if TYPE_CHECKING:
    from ecg_hf.data.shards import Recipe

POLL_S = 0.5


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Builds a corpus and prints what was built."""
    words, verbose = split_verbose(sys.argv[1:] if argv is None else argv)
    parser = FlagParser(__doc__, prog)
    parser.add_argument("name", help="name of the corpus; `ecg-hf corpora` lists them")
    parser.add_argument("root", help="folder, zip archive or address of its files; - for a computed corpus")
    parser.add_argument("out", type=Path, help="folder for the shards")
    parser.add_argument("--config", help="config of the corpus; its default if not given")
    parser.add_argument("--fields", nargs="*", default=[], help="fields of the corpus, each name=value")
    parser.add_argument("--exclude", type=Path, help="report.json of `ecg-hf verify`: leave out unreadable records")
    shards = parser.add_argument_group("Shards")
    shards.add_argument(
        "--target_rate", type=float, help="sampling rate, in Hz; each record keeps its own if not given"
    )
    shards.add_argument("--num_shards", type=int, default=1, help="files of each split")
    shards.add_argument("--seed", type=int, default=0, help="seed of the order of the records")
    shards.add_argument("--shard", type=int, help="build only this shard, here")
    machines = parser.add_argument_group("Machines")
    machines.add_argument("--workers", type=int, default=1, help="jobs that share the shards")
    machines.add_argument("--cluster", default="local", choices=["local", "slurm"], help="where the jobs run")
    machines.add_argument("--slurm", nargs="*", default=[], help="Slurm settings, such as partition=cpu")
    machines.add_argument("--timeout_min", type=int, default=1440, help="time limit of a job, in minutes")
    prepare_console(verbose=verbose)
    return run_reporting(parser.prog, lambda: _run(parser.parse_args(words)), verbose=verbose)


def _run(arguments: Namespace) -> int:
    from ecg_hf.data.built import BuiltCorpus
    from ecg_hf.data.shards import build_shards, shard_files, write_manifest
    from ecg_hf.hub.dataset_cards import dataset_card

    corpus, recipe = open_source(arguments), read_recipe(arguments)
    if arguments.shard is not None:
        for path in build_shards(corpus, recipe, arguments.out, [arguments.shard]):
            print(path)
        return 0
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
    return 0


def open_source(arguments: Namespace) -> Any:
    """Opens the corpus that is built."""
    from ecg_hf.corpora.loading import open_corpus

    place = None if arguments.root == "-" else arguments.root
    return open_corpus(arguments.name, arguments.config, place, **parse_fields(arguments.fields))


def read_recipe(arguments: Namespace) -> "Recipe":
    """Returns what decides the bytes of the shards."""
    from ecg_hf.data.shards import Recipe

    unreadable = json.loads(arguments.exclude.read_text(encoding="utf-8"))["unreadable"] if arguments.exclude else {}
    return Recipe(arguments.target_rate, arguments.num_shards, arguments.seed, tuple(sorted(unreadable)))


def run_job(arguments: Namespace, shards: Sequence[int]) -> None:
    """Builds several shards, one after the other, from an index that is read once."""
    from ecg_hf.data.shards import build_shards

    build_shards(open_source(arguments), read_recipe(arguments), arguments.out, shards)


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
        with Progress(f"building {arguments.name}", len(shards), "shard") as bar:
            while bar.done < len(shards) and not all(job.done() for job in jobs):
                if done := len(shards) - len(remaining()) - bar.done:
                    bar.update(done)
                time.sleep(POLL_S)
    except BaseException:
        for job in jobs:
            job.cancel()
        raise
    for job in jobs:
        job.result()
