"""Publishing: uploads a run folder or a built corpus to the Hub, or writes the same files to a folder.

Everything is checked before anything is sent: the lineage of weights, the access and the licence of a corpus.
"""

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
    """Publishes a model with its card in one commit.

    The repository then holds the weights, the config, the feature extractor's settings, run.json, the results and the
    card; its former content is replaced. Other files of the folder are not published.

    Args:
        folder: Folder that a run wrote; see `read_lineage`.
        repo_id: Name of the repository on the Hub, "organisation/name".
        licence: Licence of the weights, see `model_card`; if None, the field "licence" of run.json.
        licence_link: Address of the text of a licence that the Hub does not know.
        private: Whether only members of the organisation see the repository; if None, it is private exactly when a
            source is not open to everyone.
        results: Paths of results.json of models that were fine-tuned from these weights, to be shown on the card.
        to_folder: New or empty folder to write to instead of the Hub.
        token: Access token of the Hub; if None, that of the user who is logged in.

    Returns:
        The address of the commit, or the path of the folder.

    Raises:
        ValueError: If `repo_id` or `to_folder` cannot be used.
        EcgAccessError: If licence or lineage are missing, or a public repository would show weights of closed sources.
        EcgError: If `read_lineage` refuses the folder for another reason.

    Example:
        >>> publish(Path("my-run"), "my-lab/s4-cpc", licence="apache-2.0")  # doctest: +SKIP
        'https://huggingface.co/my-lab/s4-cpc/commit/...'
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
    """Publishes the shards, the manifest and the card of a built corpus, publicly and in one commit.

    Args:
        folder: Folder of the built corpus.
        repo_id: Name of the repository on the Hub, "organisation/name".
        to_folder: New or empty folder to write to instead of the Hub.
        token: Access token of the Hub; if None, that of the user who is logged in.

    Returns:
        The address of the commit, or the path of the folder.

    Raises:
        ValueError: If `repo_id` or `to_folder` cannot be used.
        EcgAccessError: If the source is not open or its licence does not allow changed copies.
        EcgError: If the folder holds no complete built corpus.

    Example:
        >>> publish_corpus(Path("my-corpus"), "my-lab/ptbxl")  # doctest: +SKIP
        'https://huggingface.co/datasets/my-lab/ptbxl/commit/...'
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
    """Checks that a text has the form of a repository's name on the Hub.

    Raises:
        ValueError: If it does not have the form "organisation/name".
    """
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", repo_id, re.ASCII):
        raise ValueError(f"repo_id must be 'organisation/name', got {repo_id!r}; add the organisation or user")


def decide_visibility(lineage: Lineage, private: bool | None) -> bool:
    """Returns whether a repository must be private: as asked, or if a source is not open to everyone.

    Raises:
        EcgAccessError: If a public repository was asked for and a source is not open to everyone.
    """
    if lineage.closed_sources and private is False:
        raise EcgAccessError(
            f"the weights have seen {lineage.closed_sources}, which are not open to everyone, so they cannot be "
            "public; leave out private=False"
        )
    return bool(lineage.closed_sources) if private is None else private


def assemble(lineage: Lineage, staging: Path) -> None:
    """Writes the files to be published, without paths of this machine, into an empty folder."""
    shutil.copyfile(lineage.folder / WEIGHTS, staging / WEIGHTS)
    if sha256_of(staging / WEIGHTS) != lineage.sha256:
        raise EcgIntegrityError(f"{lineage.folder / WEIGHTS} changed while it was published; wait for the run to end")
    contents = {"config.json": lineage.model, "preprocessor_config.json": lineage.contract, "run.json": lineage.run}
    if lineage.run["kind"] == "finetuning":
        contents["results.json"] = lineage.results[0]
    for name, content in contents.items():
        (staging / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def push(staging: Path, repo_id: str, private: bool, token: str | None = None, kind: str = "model") -> str:
    """Replaces the content of a repository by a folder, in one commit.

    Args:
        staging: Folder with the new content.
        repo_id: Name of the repository; it is created if it does not exist.
        private: Whether the repository must be private.
        token: Access token of the Hub; if None, that of the user who is logged in.
        kind: Type of the repository, "model" or "dataset".

    Returns:
        The address of the commit.

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
    """Copies a folder to a new place and returns the path of the copy.

    Raises:
        ValueError: If `folder` is a file or is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"to_folder must be new or empty, got {folder}, which is not; choose another")
    shutil.copytree(staging, folder, dirs_exist_ok=True)
    return str(folder)
