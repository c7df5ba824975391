"""A corpus of a user's own records as comma-separated files, one per record, with a table of labels."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ecg_hf.corpora.examples import example_samples
from ecg_hf.corpora.index import Entry
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.sources.own.own_records import MeasuredConfig, OwnRecords, check_amplitude, check_measured
from ecg_hf.errors import EcgFormatError
from ecg_hf.signals.formats.csv import decode
from ecg_hf.signals.record import LEADS, Record

HEADER = "header"


@dataclass
class CsvConfig(MeasuredConfig):
    """Configuration of a corpus of comma-separated files.

    Args:
        leads: Names of the columns, in order, or "header" if the first line of every file states them.
    """


class Csv(OwnRecords):
    """Your own records as text files, each with one row per sample, one column per lead and nothing else.

    A folder such as

        labels.csv          record_id,patient_id,age,sex,labels
                            r0001,p001,61,female,AFIB;LBBB
        r0001.csv           0.005,-0.120,... (one number per lead, in mV)
        ecg_hf.yaml         unit: mV
                            sampling_rate: 500
                            leads: [I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6]

    is loaded with

        rows = load_corpus("csv", data_dir="my_ecgs", split="train")
        signal = row_to_signal(rows[0])  # mV, leads in standard order

    or, without `ecg_hf.yaml`, with

        rows = load_corpus("csv", data_dir="my_ecgs", split="train", unit="mV", sampling_rate=500, leads=LEADS)

    Unit, sampling rate and leads are required, in `ecg_hf.yaml` or as arguments, which take precedence: a file of
    numbers states none of them, and a wrong guess would go unnoticed. "nan" marks a missing sample.
    """

    BUILDER_CONFIG_CLASS = CsvConfig
    BUILDER_CONFIGS: ClassVar[list[CsvConfig]] = [CsvConfig(name="default")]

    description = "Own ECGs, as comma-separated files with a table of labels."
    suffix = ".csv"
    required = ("unit", "sampling_rate", "leads")

    def check_known(self, known: Any) -> None:
        """Checks unit, sampling rate and leads."""
        check_measured(replace(known, leads=LEADS) if known.leads == HEADER else known)

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record."""
        known = self.known
        leads = None if known.leads == HEADER else known.leads
        try:
            record = decode(root.read(entry.path), entry.record_id, float(known.sampling_rate), known.unit, leads)
        except EcgFormatError as error:
            raise EcgFormatError(
                f"{error}; a file whose first line holds names needs leads: {HEADER}, others a list of names"
            ) from None
        return check_amplitude(record)

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes tiny synthetic records in microvolts, with a line of names, a table of labels and `ecg_hf.yaml`."""
        cls.write_labels(folder, num_records, f"unit: uV\nsampling_rate: 500\nleads: {HEADER}\n")
        for number in range(num_records):
            with (folder / f"r{number:04d}.csv").open("w", encoding="ascii", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([LEADS, *example_samples(number).T.tolist()])
