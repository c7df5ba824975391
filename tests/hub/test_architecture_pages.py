from dataclasses import fields

import pytest

from ecg_hf import PAIRS
from ecg_hf.hub.architecture_pages import describe_pair
from ecg_hf.models.config import EcgConfig
from places import ROOT

FOLDER = ROOT / "model_cards"


@pytest.mark.parametrize("name", PAIRS)
def test_the_card_of_a_pair_is_what_its_classes_say_today(name):
    path = FOLDER / f"{name}.md"
    assert path.exists() and path.read_text(encoding="utf-8") == describe_pair(name), "run scripts/describe.py"


def test_there_is_no_card_without_a_pair():
    assert {path.stem for path in FOLDER.glob("*.md")} == set(PAIRS)


@pytest.mark.parametrize("name", PAIRS)
def test_a_card_explains_every_field_and_names_its_sources(name):
    card, config = describe_pair(name), PAIRS[name].config_class
    own = {entry.name for entry in fields(config)} - {entry.name for entry in fields(EcgConfig)}
    assert own == {line.split(" | ")[0].removeprefix("| ") for line in card.partition("| field |")[2].splitlines()[2:]}
    assert card.count("Source: ") >= 2
