"""Everything between the rows of a corpus and the batches that a model reads: splits, shards, crops, targets.

A corpus stores one row per record. `open_split` opens a split of a corpus for a feature extractor, the input contract
of a model, which fixes sampling rate, leads, crop length and normalisation. Both kinds of split have the same
interface: a `PreparedSplit` computes the features of a raw corpus once and reads them back from a memory-mapped file;
a `BuiltSplit` cuts crops straight out of the Parquet shards of a built corpus. Training reads random crops, evaluation
disjoint tiles. The order of the records and the place of each crop are pure functions of the seed and a position, so
any number of workers reads the same crops and one integer resumes a run.

In reading order:

- `split`: the base class of all splits, with their rows, labels, targets and crops.
- `opening`, `prepared`, `built`: `open_split`, and the splits of raw and of built corpora.
- `shards`, `shard_file`, `shard_check`: how the shards of a built corpus are planned, written and verified.
- `columns`: columns of bytes in memory-mapped tables.
- `random_streams`, `record_order`, `crops`: random words, the order of the records, the positions of crops.
- `batches`: batches of random crops for training, and of tiles for validation.
- `targets`: splits with the targets of a task, and fractions of their patients.

Example:
    >>> import tempfile
    >>> from ecg_hf import EcgFeatureExtractor
    >>> from ecg_hf.corpora.loading import open_corpus
    >>> from ecg_hf.data.batches import EcgLoader, MixedCrops, StepBatches
    >>> from ecg_hf.data.opening import open_split
    >>> extractor = EcgFeatureExtractor(sampling_rate=240, num_samples=600)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     split = open_split(open_corpus("synthetic", cache_dir=folder, num_records=20), "train", extractor)
    >>> crops = MixedCrops([split], num_samples=600, seed=0)
    >>> loader = EcgLoader(crops, StepBatches(range(2), batch_size=4, rank=0, world_size=1, accumulation=1))
    >>> [tuple(batch["signal"].shape) for batch in loader]
    [(4, 12, 600), (4, 12, 600)]
"""
