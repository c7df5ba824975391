"""Publishing: a run folder becomes a Hub repository, or a folder that could be one, if its lineage allows it."""

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi

from ecg_hf.data.built import BuiltCorpus
from ecg_hf.data.shards import MANIFEST
from ecg_hf.errors import EcgAccessError, EcgIntegrityError
from ecg_hf.hub.dataset_cards import dataset_card, require_shareable
from ecg_hf.hub.lineage import WEIGHTS, Lineage, read_lineage
from ecg_hf.hub.model_cards import render_card
from ecg_hf.output.files import sha256_of


def publish(
    folder: Path,
    repo_id: str,
    *,
    licence: str | None = None,
    licence_link: str | None = None,
    private: bool | None = None,
    results: Sequence[Path] = (),
    to_folder: Path | None = None,
    token: str | None = None,
) -> str:
    """Publishes config, weights, input contract, run record, results and card, and nothing else, in one commit.

    What the repository held before is replaced. Nothing is sent before everything is checked.

    Args:
        folder: As a run wrote it; see `read_lineage`.
        repo_id: "organisation/name" on the Hub.
        licence: Of the weights, see `model_card`; if None, field "licence" of run.json.
        licence_link: Where the text of a licence is that the Hub does not know.
        private: Whether only its owners may see it. If None, it is private when a source is not open to everyone.
        results: Files results.json of models fine-tuned from these weights, to be shown on the card.
        to_folder: A new or empty folder to write to instead of the Hub.
        token: Of the Hub; if None, the one that is logged in.

    Returns:
        The address of the commit, or the path of the folder.

    Raises:
        ValueError: If `repo_id` or `to_folder` cannot be used.
        EcgAccessError: If licence or lineage are missing, or a public repository would show weights of closed sources.
        EcgError: For what else `read_lineage` refuses.
    """
    require_repo_id(repo_id)
    lineage = read_lineage(folder, results)
    licence = licence or lineage.run.get("licence")
    if not licence:
        raise EcgAccessError("the weights need a licence of their own, got none; pass licence, such as 'apache-2.0'")
    private = decide_visibility(lineage, private)
    card = render_card(lineage, repo_id, licence=licence, licence_link=licence_link or lineage.run.get("licence_link"))
    with tempfile.TemporaryDirectory() as staging:
        assemble(lineage, Path(staging))
        card.save(Path(staging) / "README.md")
        if to_folder is None:
            return push(Path(staging), repo_id, private, token)
        return write_folder(Path(staging), Path(to_folder))


def publish_corpus(folder: Path, repo_id: str, *, to_folder: Path | None = None, token: str | None = None) -> str:
    """Publishes a built corpus: its shards, manifest and card, in one commit.

    Args:
        folder: Where it was built.
        repo_id: "organisation/name" on the Hub.
        to_folder: A new or empty folder to write to instead of the Hub.
        token: Of the Hub; if None, the one that is logged in.

    Returns:
        The address of the commit, or the path of the folder.

    Raises:
        ValueError: If `repo_id` or `to_folder` cannot be used.
        EcgAccessError: If the source is not open or its licence does not allow it.
        EcgError: If the folder holds no whole built corpus.
    """
    require_repo_id(repo_id)
    corpus = BuiltCorpus(folder)
    require_shareable(corpus)
    corpus.check()
    card = dataset_card(corpus, repo_id)
    with tempfile.TemporaryDirectory() as temporary:
        staging = Path(temporary)
        for name in [MANIFEST, *(file["path"] for file in corpus.files())]:
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).symlink_to((folder / name).resolve())
        card.save(staging / "README.md")
        if to_folder is None:
            return push(staging, repo_id, False, token, "dataset")
        return write_folder(staging, to_folder)


def require_repo_id(repo_id: str) -> None:
    """Refuses what is no name on the Hub.

    Raises:
        ValueError: If it is none.
    """
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", repo_id, re.ASCII):
        raise ValueError(f"repo_id must be 'organisation/name', got {repo_id!r}; add the organisation or user")


def decide_visibility(lineage: Lineage, private: bool | None) -> bool:
    """Makes weights private if a source is not open to everyone.

    Raises:
        EcgAccessError: If they were asked to be public all the same.
    """
    if lineage.closed_sources and private is False:
        raise EcgAccessError(
            f"the weights have seen {lineage.closed_sources}, which are not open to everyone, so they cannot be "
            "public; leave out private=False"
        )
    return bool(lineage.closed_sources) if private is None else private


def assemble(lineage: Lineage, staging: Path) -> None:
    """Copies the files to be published, without paths of this machine, into an empty folder."""
    shutil.copyfile(lineage.folder / WEIGHTS, staging / WEIGHTS)
    if sha256_of(staging / WEIGHTS) != lineage.sha256:
        raise EcgIntegrityError(f"{lineage.folder / WEIGHTS} changed while it was published; wait for the run to end")
    contents = {"config.json": lineage.model, "preprocessor_config.json": lineage.contract, "run.json": lineage.run}
    if lineage.run["kind"] == "finetuning":
        contents["results.json"] = lineage.results[0]
    for name, content in contents.items():
        (staging / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def push(staging: Path, repo_id: str, private: bool, token: str | None = None, kind: str = "model") -> str:
    """Makes a folder the content of a repository, in one commit, and gives the commit's address.

    Raises:
        EcgAccessError: If the repository exists and is public although it should be private.
    """
    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True, repo_type=kind)
    if private and not api.repo_info(repo_id, repo_type=kind).private:
        raise EcgAccessError(f"{repo_id} exists and is public, expected a private repository; make it private first")
    commit = api.upload_folder(
        repo_id=repo_id,
        folder_path=staging,
        commit_message="Publish with ecg_hf",
        delete_patterns="*",
        repo_type=kind,
    )
    return commit.commit_url


def write_folder(staging: Path, folder: Path) -> str:
    """Copies a folder to a new place and gives its path.

    Raises:
        ValueError: If something is there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"to_folder must be new or empty, got {folder}, which is not; choose another")
    shutil.copytree(staging, folder, dirs_exist_ok=True)
    return str(folder)
