"""One ECG: its record, units, gaps and quality, and the feature extractor that prepares it for a model.

The road of an ECG begins here. A decoder in `formats` turns the bytes of a file into a `Record`, which keeps the ADC
values of the device together with gains, baselines and standard lead names. A corpus stores each record as a row, and
`row_to_signal` decodes a row to a signal in mV of shape (L, T), where a missing sample is NaN. An
`EcgFeatureExtractor`, the input contract of a model, turns such a signal into the input that the model was trained on.
Ambiguous input, such as an unknown unit or lead name, is refused with an error that states the remedy.

In reading order:

- `units`, `record`: gains in ADC units per mV; the record, its lead names and the laws of the limb leads.
- `formats`: decoders of files (WFDB, HDF5, CSV, MATLAB, .npy).
- `row`: the row that stores a record in a corpus, and its signal.
- `resampling`: sampling rates and gaps.
- `inputs`, `feature_extraction`: checks of a caller's ECG, and the feature extractor.
- `quality`: findings that make a signal doubtful, such as flat, saturated or exchanged leads.
- `fingerprint`: fingerprints that recognise copies of a recording.
- `simulated_heart`, `simulation`: synthetic ECGs.
- `ecg_plot`: an ECG on millimetre paper.

Example:
    >>> import ecg_hf
    >>> row = next(iter(ecg_hf.load_corpus("synthetic", split="test", streaming=True, num_records=20)))
    >>> signal = ecg_hf.row_to_signal(row)  # in mV
    >>> extractor = ecg_hf.EcgFeatureExtractor(sampling_rate=240, normalization="record")
    >>> features = extractor(signal, sampling_rate=row["sampling_rate"], leads=row["leads"])["signal"]
    >>> signal.shape, features.shape  # 10 s at 500 Hz, and a batch of one at 240 Hz
    ((12, 5000), (1, 12, 2400))
"""
