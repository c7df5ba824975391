"""Architecture pages: the Markdown page of an untrained pair, derived from its classes and their docstrings."""

import inspect
import re
from dataclasses import fields
from functools import cache

import torch

from ecg_hf.models.backbones.base import Backbone, BackboneConfig
from ecg_hf.models.config import EcgConfig
from ecg_hf.models.pairs import PAIRS

NUM_SAMPLES = 600  # 2.5 s at 240 Hz, study A's crop


def describe_pair(name: str) -> str:
    """Writes the page of a pair, in Markdown: architecture, objective, sources, sizes and config fields.

    Args:
        name: Name of the pair, a key of `ecg_hf.PAIRS`.

    Returns:
        The text of the page.

    Example:
        >>> page = describe_pair("s4-cpc")
        >>> page.splitlines()[0], [line for line in page.splitlines() if line.startswith("## ")]
        ('# s4-cpc', ['## Backbone', '## Objective', '## Sizes', '## Fields of the config'])
    """
    pair = PAIRS[name]
    backbone, objective = pair.backbone_class.__bases__[0], pair.objective_class
    config = pair.config_class
    defaults = "".join(
        f" With this objective `{key}` is `{value}`." for key, value in objective.backbone_defaults.items()
    )
    return "\n".join(
        [
            f"# {name}",
            "",
            f"Written by `scripts/describe.py` from the classes `{pair.__name__}` and `{config.__name__}`. It "
            "describes an architecture, not a trained model: there are no results in it. Research only, not a medical "
            "device.",
            "",
            f"- model type `{config.model_type}`; `AutoModel` gives `{pair.backbone_class.__name__}`, "
            f"`AutoModelForPreTraining` gives `{pair.__name__}`",
            f"- `python scripts/pretrain.py --pair {name} --size 2m`",
            "",
            "## Backbone",
            "",
            _prose(backbone) + defaults,
            "",
            "Layer: " + _prose(_layer(backbone)),
            "",
            "## Objective",
            "",
            _prose(objective),
            "",
            "## Sizes",
            "",
            *_sizes(backbone, bool(config().causal)),
            "",
            "## Fields of the config",
            "",
            *_fields(config),
            "",
        ]
    )


@cache
def _layer(backbone: type[Backbone]) -> type:
    with torch.device("meta"):
        return type(backbone(backbone.config_class()).layers[0])


def _prose(kind: type) -> str:
    """Returns the docstring of a class without its Args, Raises and Returns, with the source in a line of its own."""
    text = inspect.getdoc(kind) or ""
    body = re.split(r"\n(?:Args|Raises|Returns|Source):\n", text)[0].strip()
    source = re.search(r"\nSource:\n((?: {4}.*\n?|\n)+)", text + "\n")
    if source is None:
        return body
    return body + "\n\nSource: " + " ".join(source[1].split())


def _sizes(backbone: type[Backbone], causal: bool) -> list[str]:
    lines = [
        "Parameters of the backbone, and multiplications and additions of one forward pass over "
        f"{NUM_SAMPLES} samples; the objective's own are not counted.",
        "",
        "| size | fields | parameters | GFLOPs | samples per token |",
        "|---|---|---|---|---|",
    ]
    for size, chosen in backbone.sizes.items():
        parameters, flops, stride = _cost(backbone, size, causal)  # type: ignore[arg-type]
        settings = ", ".join(f"{key}={value}" for key, value in chosen.items())
        lines.append(f"| {size} | {settings} | {parameters:,} | {flops / 1e9:.3g} | {stride} |")
    return lines


@cache
def _cost(backbone: type[Backbone], size: str, causal: bool) -> tuple[int, int, int]:
    config = backbone.config_class(**{**backbone.sizes[size], "causal": causal})
    with torch.device("meta"):
        model = backbone(config)
    return sum(p.numel() for p in model.parameters()), model.forward_flops(NUM_SAMPLES), model.stride


def _fields(config: type[BackboneConfig]) -> list[str]:
    meanings: dict[str, str] = {}
    for kind in reversed(config.__mro__):
        meanings |= _meanings(kind)
    own = {entry.name for entry in fields(config)} - {entry.name for entry in fields(EcgConfig)}
    example = config()
    rows = [f"| {key} | `{getattr(example, key)}` | {meanings[key]} |" for key in meanings if key in own]
    return ["| field | default | meaning |", "|---|---|---|", *rows]


def _meanings(kind: type) -> dict[str, str]:
    """Reads the texts of the arguments from the docstring of a class, by argument name."""
    section = re.search(r"\nArgs:\n((?: {4}.*\n?|\n)+)", inspect.cleandoc(kind.__doc__ or "") + "\n")
    if section is None:
        return {}
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section[1], flags=re.MULTILINE)
    return {key: " ".join(text.split()) for key, text in entries}
