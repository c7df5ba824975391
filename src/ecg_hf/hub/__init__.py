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
    architecture_pages   writes the page of an untrained pair from the docstrings of its classes

The texts of the cards are the templates `model_card.md` and `dataset_card.md`.

Example:
    >>> from ecg_hf.hub.architecture_pages import describe_pair
    >>> page = describe_pair("s4-cpc")
    >>> next(line for line in page.splitlines() if line.startswith("| 20k"))  # size, fields, parameters, GFLOPs, stride
    '| 20k | hidden_size=38, num_layers=4 | 19,532 | 0.0152 | 2 |'
"""
