"""Cards and publishing: what the world sees of a model or a corpus.

At the end of the road of an ECG, a run has left a folder with weights and the files that describe them. This folder of
the library reads those files as the model's lineage, writes a card in which every number comes from them, and uploads
both to the Hugging Face Hub. Publishing is refused where a fact is missing, such as the licence of a corpus, or where a
source does not allow it. Built corpora are published in the same way, with cards of their own.

Modules, in the order in which to read them:

    publishing           the two functions to call: `publish` a model, `publish_corpus` a built corpus
    lineage              reads and checks the runs, corpora and results behind weights
    model_cards          writes the card of a model from its lineage
    dataset_cards        writes the card of a built corpus from its manifest, and checks that it may be shared
    architecture_pages   writes the pages of backbones, objectives and pairs, which have no weights yet and so no cards
    page_parts           the paragraphs and tables of these pages
    docstrings           reads the docstrings from which these pages are made

The texts of the cards are the templates `model_card.md` and `dataset_card.md`.

Example:
    >>> from pathlib import Path
    >>> from ecg_hf.hub.architecture_pages import architecture_pages
    >>> page = architecture_pages(Path())["objectives/jepa.md"]
    >>> next(line for line in page.splitlines() if line.startswith("| `num_target_blocks`"))
    '| `num_target_blocks` | `4` | Number of blocks to predict in each crop; they may overlap. |'
"""
