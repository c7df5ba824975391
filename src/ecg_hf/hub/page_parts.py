"""The parts of an architecture page: paragraphs, texts of docstrings, and the tables of fields and of sizes."""

import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field
from functools import cache
from sys import modules
from typing import Any, NamedTuple

import torch

from ecg_hf.hub.docstrings import read_docstring
from ecg_hf.models.backbones.base import Backbone

NUM_SAMPLES = 600  # 2.5 s at 240 Hz, study A's crop
STUDY_A_SIZE = "paper-a"  # the only size that is not named after its number of parameters


def paragraph(*sentences: str, indent: str = "") -> str:
    """Wraps sentences, or pieces of them, to one paragraph.

    Lines break neither in code nor before a word that would begin a list or a heading.

    Args:
        sentences: Pieces of the paragraph, to be joined by spaces.
        indent: Indentation of all lines but the first.
    """
    text = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), " ".join(sentences))
    text = re.sub(r" (?=(?:[-+*#>]|\d+[.)])(?: |$))", "\0", text)
    lines = textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\0", " ")


def join(words: Sequence[str]) -> str:
    """Joins words as in a sentence: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Formats the rows of a Markdown table."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in (header, *rows)]
    return [lines[0], "|" + "---|" * len(header), *lines[1:]]


def link_source(kind: type, root: str) -> str:
    """Links the source file of a class.

    Args:
        kind: Class of the package.
        root: Path from the folder of the page to the root of the checkout.
    """
    path = f"src/{kind.__module__.replace('.', '/')}.py"
    return f"[{path.rpartition('/')[2]}]({root}/{path})"


def summary_of(kind: type, *, of_module: bool = False) -> str:
    """Returns the first paragraph of the docstring of a class, or of its module, on one line."""
    text = inspect.cleandoc((modules[kind.__module__] if of_module else kind).__doc__ or "")
    return " ".join(text.partition("\n\n")[0].split())


def show_text(kind: type) -> list[str]:
    """Writes the prose of a class, its source and its example."""
    text = read_docstring(kind)
    lines = [text.prose]
    lines += ["", paragraph(f"Source: {text.source}")] if text.source else []
    lines += ["", "```python", text.example, "```"] if text.example else []
    return lines


def own_fields(kind: type, *, documented: bool) -> list[Field[Any]]:
    """Lists the fields that a dataclass declares itself.

    Args:
        kind: Dataclass.
        documented: Whether to list the fields that the docstring of the dataclass explains, in its order, or those that
            only replace the default of an inherited field.
    """
    fields: dict[str, Field[Any]] = kind.__dataclass_fields__  # type: ignore[attr-defined]
    own, meanings = inspect.get_annotations(kind), read_docstring(kind).arguments
    names = [name for name in meanings if name in own] if documented else [name for name in own if name not in meanings]
    return [fields[name] for name in names]


def default_of(entry: Field[Any]) -> Any:
    """Returns the default of a field; None if it has none."""
    if entry.default_factory is not MISSING:
        return entry.default_factory()
    return None if entry.default is MISSING else entry.default


def show_fields(kind: type) -> list[str]:
    """Writes the docstring of a dataclass, with a table of the fields that it declares and explains."""
    meanings = read_docstring(kind).arguments
    rows = [(f"`{x.name}`", f"`{default_of(x)}`", meanings[x.name]) for x in own_fields(kind, documented=True)]
    return [*show_text(kind), "", *table(("field", "default", "meaning"), rows)]


@cache
def layer_class(backbone: type[Backbone]) -> type:
    """Returns the class of the first layer of a backbone."""
    with torch.device("meta"):
        return type(backbone(backbone.config_class()).layers[0])


class _Cost(NamedTuple):
    parameters: str
    gflops: str
    stride: int
    layers: int
    usable: int


@cache
def _cost(backbone: type[Backbone], size: str, causal: bool) -> _Cost:
    with torch.device("meta"):
        model = backbone(backbone.config_class(**{**backbone.sizes[size], "causal": causal}))
    gflops = f"{model.forward_flops(NUM_SAMPLES) / 1e9:#.3g}".rstrip(".")
    return _Cost(f"{model.num_parameters():,}", gflops, model.stride, len(model.layers), model.num_layer_outputs)


def show_sizes(backbone: type[Backbone]) -> list[str]:
    """Writes a table of the sizes of a backbone, without the columns in which all sizes are equal."""
    kind: Any = backbone  # mypy takes no class that defines __hash__ for hashable
    costs = [_cost(kind, size, causal=False) for size in kind.sizes]
    causal = [_cost(kind, size, causal=True) for size in kind.sizes]
    notes = [
        "Parameters of the backbone, and multiplications and additions of one forward pass over",
        f"{NUM_SAMPLES} samples; those of an objective are not counted.",
    ]
    columns, equal = _fields_of_sizes(backbone)
    for title, key in (("parameters", 0), ("GFLOPs", 1)):
        columns[title] = [str(cost[key]) for cost in costs]
        if any(one[key] != other[key] for one, other in zip(costs, causal, strict=True)):
            columns[f"{title}, causal"] = [str(cost[key]) for cost in causal]
    if len({cost.stride for cost in costs}) > 1:
        columns["samples per token"] = [str(cost.stride) for cost in costs]
    else:
        notes += [f"A token stands for {costs[0].stride} samples."]
    if any(cost.usable < cost.layers for cost in costs):
        columns["usable layers"] = [f"{cost.usable} of {cost.layers}" for cost in costs]
        notes += [
            "Only layers with the width and stride of the output are usable for objectives that need inner layers."
        ]
    notes += [equal] if equal else []
    return [paragraph(*notes), "", *table(("size", *columns), zip(backbone.sizes, *columns.values(), strict=True))]


def _fields_of_sizes(backbone: type[Backbone]) -> tuple[dict[str, list[str]], str]:
    """Returns the columns of the fields in which sizes differ, and a sentence about the fields in which they do not."""
    sizes, exception = backbone.sizes, backbone.sizes.get(STUDY_A_SIZE, {})
    names = list(dict.fromkeys(name for chosen in sizes.values() for name in chosen))
    values = {name: {str(sizes[size].get(name)) for size in sizes if size != STUDY_A_SIZE} for name in names}
    equal = [name for name in names if len(values[name]) == 1 and values[name] != {"None"}]
    columns = {
        f"`{name}`": [str(chosen.get(name, "")) for chosen in sizes.values()] for name in names if name not in equal
    }
    if not equal:
        return columns, ""
    text = f"All sizes have {join([f'`{name}={values[name].pop()}`' for name in equal])}"
    other = [f"`{name}={exception[name]}`" for name in equal if name in exception]
    return columns, text + (f"; `{STUDY_A_SIZE}` has {join(other)} instead." if other else ".")
