"""The architecture pages, which document backbones, objectives and their pairs from the docstrings of their classes.

The page of a class explains the fields that this class declares, and no others, so that a changed default changes one
page. Fields that several classes inherit are on the page of their folder.
"""

from pathlib import Path

from ecg_hf.hub.page_parts import (
    STUDY_A_SIZE,
    default_of,
    join,
    layer_class,
    link_source,
    own_fields,
    paragraph,
    show_fields,
    show_sizes,
    show_text,
    summary_of,
    table,
)
from ecg_hf.models.backbones.base import Backbone, BackboneConfig
from ecg_hf.models.classification import CLASSIFIERS
from ecg_hf.models.objectives.base import Objective, ObjectiveFields
from ecg_hf.models.objectives.teacher import TeacherObjective
from ecg_hf.models.pairs import PAIRS
from ecg_hf.registry import BACKBONES, OBJECTIVES, load

EXAMPLE = "s4-cpc"  # the pair whose names the table of pairs spells out
PAIRS_LINK = "see the [table of pairs](../pairs.md)"


def architecture_pages(root: Path) -> dict[str, str]:
    """Writes the pages of all backbones and objectives, and the table of their pairs.

    Args:
        root: Root of the checkout, to whose recipes the table of pairs links.

    Returns:
        The Markdown text of each page, by its path in the folder `docs`.

    Example:
        >>> pages = architecture_pages(Path())
        >>> len(pages), [line for line in pages["objectives/cpc.md"].splitlines() if line.startswith("#")]
        (14, ['# Objective `cpc`', '## Fields'])
        >>> next(line for line in pages["backbones/s4.md"].splitlines() if line.startswith("| 20k"))
        '| 20k | 38 | 4 | 20,748 | 19,532 | 0.0169 | 0.0152 |'
    """
    pages = {"backbones/README.md": _shared_by_backbones()}
    pages |= {f"backbones/{name}.md": _backbone_page(name) for name in BACKBONES}
    pages |= {"objectives/README.md": _shared_by_objectives()}
    pages |= {f"objectives/{name}.md": _objective_page(name) for name in OBJECTIVES}
    pages |= {"pairs.md": _pairs(root / "scripts" / "recipes")}
    return {path: "\n".join(lines) + "\n" for path, lines in pages.items()}


def _shared_by_backbones() -> list[str]:
    return [
        "# Backbones",
        "",
        paragraph(
            summary_of(Backbone),
            "The letters stand for B crops, L leads, T samples, N tokens and D channels of a token.",
            f"Each backbone works with each [objective](../objectives/README.md): {PAIRS_LINK}.",
        ),
        "",
        *_index(BACKBONES),
        "",
        "## Shared fields",
        "",
        *show_fields(BackboneConfig),
        "",
        f"Declared in {link_source(BackboneConfig, '../..')}. Written by `make pages`.",
    ]


def _backbone_page(name: str) -> list[str]:
    kind = load(BACKBONES, name)
    config = kind.config_class
    changed = [f"`{entry.name}` is `{default_of(entry)}`" for entry in own_fields(config, documented=False)]
    return [
        f"# Backbone `{name}`",
        "",
        *show_text(kind),
        "",
        paragraph(
            f"The class is `{kind.__name__}`, its config `{config.__name__}`, its model type `{config.model_type}`.",
            f"Written by `make pages` from {link_source(kind, '../..')}.",
        ),
        "",
        "## Layer",
        "",
        *show_text(layer_class(kind)),
        "",
        "## Sizes",
        "",
        *show_sizes(kind),
        "",
        "## Fields",
        "",
        *show_fields(config),
        "",
        "Further fields are [shared by all backbones](README.md#shared-fields)"
        + (f"; here {join(changed)}." if changed else "."),
    ]


def _shared_by_objectives() -> list[str]:
    objectives = {name: load(OBJECTIVES, name) for name in OBJECTIVES}
    lines = [
        "# Objectives",
        "",
        paragraph(
            summary_of(Objective),
            f"Each objective works with each [backbone](../backbones/README.md): {PAIRS_LINK}. Fields that several",
            "objectives have are below. Written by `make pages`.",
        ),
        "",
        *_index(OBJECTIVES),
    ]
    for shared in dict.fromkeys(shared for kind in objectives.values() for shared in _shared_fields(kind)):
        users = [f"[{name}]({name}.md)" for name, kind in objectives.items() if shared in _shared_fields(kind)]
        end = paragraph(f"Used by {join(users)}. Declared in {link_source(shared, '../..')}.")
        lines += ["", f"## {_title(shared)}", "", *show_fields(shared), "", end]
    return lines


def _objective_page(name: str) -> list[str]:
    kind = load(OBJECTIVES, name)
    has_fields = kind.fields is not ObjectiveFields
    end = paragraph(
        f"The class is `{kind.__name__}`" + ("." if has_fields else "; it has no config fields of its own."),
        f"Written by `make pages` from {link_source(kind, '../..')}.",
    )
    lines = [f"# Objective `{name}`", "", *show_text(kind), "", end]
    if has_fields:
        lines += ["", "## Fields", "", *show_fields(kind.fields)]
    titles = [_title(shared).lower() for shared in _shared_fields(kind)]
    links = [f"[{title}](README.md#{title})" for title in titles]
    return [*lines, "", paragraph(f"It also has the fields of the {join(links)}.")] if links else lines


def _index(entries: dict[str, str]) -> list[str]:
    """Lists the pages of a folder, with the first sentence of each module."""
    pages = {name: summary_of(load(entries, name), of_module=True) for name in entries}
    return [paragraph(f"- [{name}]({name}.md): {text}", indent="  ") for name, text in pages.items()]


def _shared_fields(objective: type[Objective]) -> list[type]:
    """Lists the classes from which the config fields of an objective inherit fields."""
    return [kind for kind in objective.fields.__mro__[1:] if kind not in (ObjectiveFields, object)]


def _title(shared: type) -> str:
    return shared.__name__.removesuffix("Fields")


def _pairs(recipes: Path) -> list[str]:
    pair = PAIRS[EXAMPLE]
    rows = [_pair_cells(backbone, objective, recipes) for backbone in BACKBONES for objective in OBJECTIVES]
    return [
        "# Pairs of a backbone and an objective",
        "",
        paragraph(
            f"Each of the {len(BACKBONES)} [backbones](backbones/README.md) can be pretrained with each of the",
            f"{len(OBJECTIVES)} [objectives](objectives/README.md). These pages describe architectures, not trained",
            "models: there are no weights and no results here. Research only, not a medical device. Whether a pair",
            "learns anything is measured in [benchmarks/RESULTS.md](../benchmarks/RESULTS.md).",
        ),
        "",
        "```",
        f"ecg-hf pretrain --pair {EXAMPLE} --size 2m --output_dir OUT",
        "```",
        "",
        paragraph(
            f'In Python, `ecg_hf.PAIRS["{EXAMPLE}"]` is the class of a pair. Its config,',
            f"`{pair.config_class.__name__}`, has the fields of the backbone and those of the objective side by side.",
            f"`AutoModelForPreTraining` returns `{pair.__name__}`, `AutoModel` the backbone alone,",
            f"`{pair.backbone_class.__name__}`, and `AutoModelForSequenceClassification` the backbone with a head,",
            f"`{CLASSIFIERS[EXAMPLE].__name__}`. The",
            "names of the other pairs follow the same pattern.",
        ),
        "",
        paragraph(
            'The column "needed" lists what the objective asks for, and the fields of the backbone that it sets. The',
            "last column links recipes for the grid of study A (arXiv:2605.12241). `grid` has its input, size, batch",
            "and epochs, with an optimisation that suits every pair. `as published` also has its optimisation and what",
            "its published code does, up to the differences that the comments of",
            "[its base](../scripts/recipes/as-published/study-a.yaml) name.",
        ),
        "",
        *table(("pair", "model type", "class", "sizes", "needed", "study A"), rows),
        "",
        f"Written by `make pages` from {link_source(pair, '..')}.",
    ]


def _pair_cells(backbone: str, objective: str, recipes: Path) -> tuple[str, ...]:
    name = f"{backbone}-{objective}"
    pair = PAIRS[name]
    kind, sizes = pair.objective_class, [size for size in pair.backbone_class.sizes if size != STUDY_A_SIZE]
    needed = ["labels"] if kind.uses_labels else []
    needed += ["a second backbone as teacher"] if issubclass(kind, TeacherObjective) else []
    needed += [f"`{field}={value}`" for field, value in kind.backbone_defaults.items()]
    paths = {"grid": f"{name}.yaml", "as published": f"as-published/{name}.yaml"}
    return (
        f"[{backbone}](backbones/{backbone}.md)-[{objective}](objectives/{objective}.md)",
        f"`{pair.config_class.model_type}`",
        f"`{pair.__name__}`",
        f"{sizes[0]} to {sizes[-1]}" + (f", {STUDY_A_SIZE}" if STUDY_A_SIZE in pair.backbone_class.sizes else ""),
        ", ".join(needed),
        ", ".join(f"[{text}](../scripts/recipes/{path})" for text, path in paths.items() if (recipes / path).exists()),
    )
