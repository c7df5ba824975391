"""Builds a corpus: Parquet shards at one sampling rate, a manifest of their hashes, and a card.

  ecg-hf build ptbxl ROOT built/ptbxl --config 500hz --target_rate 240 --num_shards 8 --workers 2
  ecg-hf verify code15 ROOT3 --report REPORT3
  ecg-hf build code15 ROOT3 built/code15 --exclude REPORT3/report.json --num_shards 64 --workers 64 --cluster slurm
  ecg-hf build ptbxl ROOT built/ptbxl --config 500hz --target_rate 240 --num_shards 8 --shard 3

The same command, killed at any point and run again, builds what is missing; a shard has the same bytes wherever it is
built. With --shard one shard is built here, for a scheduler of your own; at the end run it without --shard once.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_hf.commands.reporting import run_reporting, split_verbose
from ecg_hf.errors import EcgProcessError
from ecg_hf.output.console import Progress, prepare_console
from ecg_hf.training.flags import FlagParser
from ecg_hf.training.jobs.job import Job
from ecg_hf.training.recipes import parse_fields

if TYPE_CHECKING:
    from ecg_hf.data.shards import Recipe


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
    if not all(path.is_file() for paths in files for path in paths):
        run_jobs(arguments, files)
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


@dataclass(frozen=True)
class BuildJob(Job):
    """The shards that one process builds, one after the other, from an index that it reads once.

    Args:
        arguments: Arguments of the command.
        shards: Numbers of the shards.
        files: Files of these shards.
    """

    arguments: Namespace
    shards: tuple[int, ...]
    files: tuple[Path, ...]

    def do(self) -> None:
        """Builds the shards whose files are missing."""
        from ecg_hf.data.shards import build_shards

        build_shards(open_source(self.arguments), read_recipe(self.arguments), self.arguments.out, self.shards)

    def done(self) -> bool:
        """Returns whether all files are there."""
        return all(path.is_file() for path in self.files)


def run_jobs(arguments: Namespace, files: Sequence[Sequence[Path]]) -> None:
    """Shares the missing shards over jobs and waits for them.

    Args:
        arguments: Arguments of the command.
        files: Files of each shard.

    Raises:
        EcgProcessError: If a job failed.
    """
    from ecg_hf.training.jobs.local import run_processes
    from ecg_hf.training.jobs.slurm import submit

    place = arguments.out / ".jobs"
    shards = [shard for shard, paths in enumerate(files) if not all(path.is_file() for path in paths)]
    workers = min(arguments.workers, len(shards))
    jobs = []
    for worker in range(workers):
        own = tuple(shards[worker::workers])
        paths = tuple(path for shard in own for path in files[shard])
        jobs.append(BuildJob(f"build-{worker}", place, arguments, own, paths))
    with Progress(f"building {arguments.name}", len(shards), "shard") as bar:

        def watch(running: Collection[str]) -> None:
            done = sum(all(path.is_file() for path in files[shard]) for shard in shards)
            bar.update(done - bar.done)

        if arguments.cluster == "slurm":
            settings = {f"slurm_{name}": value for name, value in parse_fields(arguments.slurm).items()}
            settings |= {"timeout_min": arguments.timeout_min}
            failed = submit(jobs, workers, watch, place, "slurm", settings, f"build-{arguments.name}")
        else:
            failed = run_processes(jobs, workers, watch)
    if failed:
        name, reason = next(iter(failed.items()))
        raise EcgProcessError(f"{len(failed)} of {len(jobs)} jobs failed, {name} with: {reason}; see {place / 'logs'}")
