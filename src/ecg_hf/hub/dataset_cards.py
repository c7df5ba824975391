"""Dataset cards: writes the Markdown card of a built corpus from its manifest, and checks that it may be shared."""

from importlib.resources import files

from huggingface_hub import DatasetCard, DatasetCardData
from jinja2 import Environment, StrictUndefined

from ecg_hf.data.built import BuiltCorpus
from ecg_hf.errors import EcgAccessError
from ecg_hf.hub.model_cards import HUB_LICENCES, inline, recorded

# The Hub's names of licences that have another name elsewhere.
LICENCES = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl"}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(corpus: BuiltCorpus, repo_id: str) -> DatasetCard:
    """Writes the card of a built corpus.

    Args:
        corpus: Built corpus that the card describes.
        repo_id: Name of the repository on the Hub, such as "ecg-hf/ptbxl".

    Returns:
        The card, with its YAML header.
    """
    environment = Environment(undefined=StrictUndefined, finalize=inline, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(known=recorded, megabytes=lambda size: f"{size / 1e6:,.1f} MB")
    template = environment.from_string(files("ecg_hf.hub").joinpath("dataset_card.md").read_text(encoding="utf-8"))
    text = template.render(repo_id=repo_id, title=repo_id.split("/")[-1], **corpus.manifest)
    return DatasetCard(f"---\n{card_metadata(corpus).to_yaml()}\n---\n\n{text}\n")


def card_metadata(corpus: BuiltCorpus) -> DatasetCardData:
    """Fills the YAML header, which shows the corpus to the Hub's search and its splits to `load_dataset`."""
    licence = hub_licence(corpus.facts["licence"])
    number = sum(split["num_records"] for split in corpus.manifest["splits"].values())
    paths = [{"split": split, "path": f"data/{split}-*.parquet"} for split in corpus.manifest["splits"]]
    return DatasetCardData(
        license=licence or "other",
        license_name=None if licence else corpus.facts["licence"],
        license_link=None if licence else corpus.facts["licence_url"],
        pretty_name=corpus.facts["name"],
        tags=["ecg", "electrocardiogram", "medical", "time-series", "ecg_hf"],
        size_categories=[next((name for size, name in SIZES if number < size), "n>1M")],
        configs=[{"config_name": "default", "data_files": paths}],
    )


def hub_licence(licence: str) -> str | None:
    """Returns the Hub's name of a licence; None if the Hub has no name for it.

    Example:
        >>> hub_licence("CC-BY-4.0"), hub_licence("ODC-By-1.0"), hub_licence("my terms")
        ('cc-by-4.0', 'odc-by', None)
    """
    name = LICENCES.get(licence.lower(), licence.lower())
    return name if name in HUB_LICENCES else None


def require_shareable(corpus: BuiltCorpus) -> None:
    """Checks that the source and the licence of a built corpus allow it to be published.

    Raises:
        EcgAccessError: If the source is not open to everyone, or its licence is not known to allow changed copies.
    """
    facts, licence = corpus.facts, hub_licence(corpus.facts["licence"])
    if facts["access"] != "open":
        raise EcgAccessError(
            f"{facts['name']} has {facts['access']} access, expected an open source, so its records must not be "
            f"published; whoever wants them applies at {facts['homepage'] or 'their owner'}"
        )
    if licence is None or "-nd-" in f"{licence}-":
        raise EcgAccessError(
            f"{facts['name']} has the licence {facts['licence']}, expected one that allows changed copies to be "
            "shared; publish the command that builds it instead"
        )
