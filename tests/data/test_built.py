"""Reading a built corpus: crops cut from the stored samples are what the input contract makes of the whole record."""

import shutil

import numpy as np
import pytest

from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.batches import EcgLoader, MixedCrops, StepBatches
from ecg_hf.data.built import BuiltCorpus, BuiltSplit
from ecg_hf.data.prepared import PreparedSplit
from ecg_hf.data.shards import Recipe, build_shards, write_manifest
from ecg_hf.data.split import require_disjoint
from ecg_hf.errors import EcgFormatError, EcgIntegrityError, EcgLeadError
from ecg_hf.signals.feature_extraction import PTBXL_MEAN, PTBXL_STD, EcgFeatureExtractor
from ecg_hf.signals.record import Record

FIELDS = {"num_records": 50, "sampling_rate": 100, "seed": 6}
CONTRACTS = {
    "plain": {},
    "corpus": {"normalization": "corpus", "mean": PTBXL_MEAN, "std": PTBXL_STD},
    "record": {"normalization": "record"},
    "few leads": {"leads": ["V1", "II"]},
}
GAPS = {"missing_leads": "derive", "missing_samples": "interpolate"}


def build(corpus, folder, recipe=None):
    recipe = recipe or Recipe(target_rate=100, num_shards=2)
    for shard in range(recipe.num_shards):
        build_shards(corpus, recipe, folder, [shard])
    write_manifest(corpus, recipe, folder)
    return BuiltCorpus(folder)


@pytest.fixture(scope="module")
def source():
    return open_corpus("synthetic", **FIELDS)


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    return build(source, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def gappy(source, tmp_path_factory):
    """The same corpus, every third record with a gap, every fifth with eight leads, every seventh of another gain."""

    def read(entry):
        record = type(source).read(source, entry)
        number = source.entries()[entry.split].index(entry)
        signal, leads, gain = record.signal.copy(), record.leads, 1000.0
        if number % 3 == 0:
            signal[2, 100:180] = np.nan
        if number % 5 == 0:
            leads = (*leads[:2], *leads[6:])
            signal = signal[[record.leads.index(lead) for lead in leads]]
        if number % 7 == 0:
            gain = 1000 / 3  # not a number of 32 bits
        if number % 7 == 1:
            gain = 500.0
        return Record.from_millivolts(record.record_id, signal, leads, record.sampling_rate, gain)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "read", read)
        return build(source, tmp_path_factory.mktemp("gappy"))


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("name", ["built", "gappy"])
def test_crops_are_parts_of_what_the_contract_makes_of_whole_records(request, name, contract):
    fields = CONTRACTS[contract] | (GAPS if name == "gappy" else {})
    split = BuiltSplit(request.getfixturevalue(name), "train", EcgFeatureExtractor(sampling_rate=100, **fields))
    rng = np.random.default_rng(0)
    indices, starts = rng.integers(len(split), size=80), rng.integers(0, 700, size=80)
    crops = split.crops(indices, starts, 300)
    assert crops.dtype == np.float32
    for crop, index, start in zip(crops, indices, starts, strict=True):
        np.testing.assert_array_equal(crop, split.signal(index)[:, start : start + 300])


def test_a_built_corpus_says_what_its_source_says(source, built):
    extractor = EcgFeatureExtractor(sampling_rate=100)
    direct, through = PreparedSplit(source, "train", extractor), BuiltSplit(built, "train", extractor)
    places = {record: index for index, record in enumerate(through.record_ids)}
    assert set(places) == set(direct.record_ids)
    for index, record in enumerate(direct.record_ids):
        assert np.abs(direct.signal(index) - through.signal(places[record])).max() == 0
        assert direct.patient_ids[index] == through.patient_ids[places[record]]
    assert through.counts() == direct.counts()
    assert built.facts == source.facts and built.manifest["fingerprint"] == source.fingerprint


def test_another_order_of_the_same_records_has_another_fingerprint(source, built, tmp_path):
    assert build(source, tmp_path / "same", Recipe(100, num_shards=2)).fingerprint == built.fingerprint
    assert build(source, tmp_path / "other", Recipe(100, num_shards=2, seed=1)).fingerprint != built.fingerprint


def test_a_record_without_leads_that_the_contract_needs_is_refused_before_a_run_begins(gappy):
    with pytest.raises(EcgLeadError, match="expected the leads") as error:
        BuiltSplit(gappy, "train", EcgFeatureExtractor(sampling_rate=100, missing_samples="interpolate"))
    assert "of synthetic" in error.value.__notes__[0]


def test_a_patient_in_two_splits_is_noticed_when_a_run_opens_them(built):
    extractor = EcgFeatureExtractor(sampling_rate=100)
    train, test = (BuiltSplit(built, name, extractor) for name in ("train", "test"))
    require_disjoint(train, test)
    owners = [train.patient_ids[0], *test.patient_ids[1:]]
    test.table = test.table.remove_columns("patient_id").add_column("patient_id", owners)
    with pytest.raises(EcgIntegrityError, match=r"1 patients of synthetic are in train and in test, such as"):
        require_disjoint(train, test)


def test_another_rate_than_the_contracts_is_refused(built):
    with pytest.raises(EcgFormatError, match=r"was built at 100 Hz, expected 240 Hz; .* --target_rate 240"):
        BuiltSplit(built, "train", EcgFeatureExtractor(sampling_rate=240))


def test_a_split_that_was_not_built_is_refused(built):
    with pytest.raises(EcgIntegrityError, match="synthetic was built without split 'rest'; it has"):
        built.as_dataset("rest")


def test_a_manifest_of_another_version_is_refused(built, tmp_path):
    shutil.copytree(built.folder, tmp_path / "built")
    path = tmp_path / "built/manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 0'))
    with pytest.raises(EcgFormatError, match="has version 0, expected 1; build the corpus again"):
        BuiltCorpus(tmp_path / "built")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_mixture_of_built_and_prepared_corpora_goes_on_from_any_step(source, built, gappy, num_workers):
    extractor = EcgFeatureExtractor(sampling_rate=100, **GAPS)
    splits = [BuiltSplit(built, "train", extractor), BuiltSplit(gappy, "train", extractor)]
    crops = MixedCrops([*splits, PreparedSplit(source, "train", extractor)], 250, 9, weights=[2, 1, 1])
    whole = [batch["signal"] for batch in EcgLoader(crops, StepBatches(range(6), 16, 0, 1, 1))]
    rest = [batch["signal"] for batch in EcgLoader(crops, StepBatches(range(4, 6), 16, 0, 1, 1), num_workers)]
    assert all((one == other).all() for one, other in zip(whole[4:], rest, strict=True))
    halves = [
        next(iter(EcgLoader(crops, StepBatches(range(4, 5), 16, rank, 2, 1), num_workers)))["signal"] for rank in (0, 1)
    ]
    assert (np.concatenate(halves) == whole[4].numpy()).all()
