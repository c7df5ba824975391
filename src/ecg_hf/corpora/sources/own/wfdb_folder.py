"""A corpus of a user's own WFDB records with a table of labels."""

from pathlib import Path
from typing import ClassVar

from ecg_hf.corpora.examples import example_samples, write_wfdb
from ecg_hf.corpora.index import Entry
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.sources.own.label_table import Row
from ecg_hf.corpora.sources.own.own_records import BETWEEN, OwnConfig, OwnRecords, check_amplitude
from ecg_hf.errors import EcgFormatError
from ecg_hf.signals.formats.wfdb import decode, parse_header
from ecg_hf.signals.record import Record


class WfdbFolder(OwnRecords):
    """Your own WFDB records, whose headers state units, leads and sampling rates, which may differ between records.

    A folder such as

        labels.csv          record_id,patient_id,age,sex,AFIB,LBBB
                            visit1/r0001,p001,61,female,1,0
        visit1/r0001.hea
        visit1/r0001.dat

    is loaded with either of

        rows = load_corpus("wfdb_folder", data_dir="my_ecgs", split="train")
        rows = datasets.load_dataset("ecg_hf/wfdb_folder", data_dir="my_ecgs", split="train")
        signal = row_to_signal(rows[0])  # mV, leads in standard order

    `record_id`, or `file` if there is such a column, is the path of the header without ".hea". See `OwnRecords` for the
    other columns of the table and for the splits of records without a column `split`.
    """

    BUILDER_CONFIGS: ClassVar[list[OwnConfig]] = [OwnConfig(name="default")]

    description = "Own ECGs, as WFDB records with a table of labels."
    suffix = ".hea"

    def locate(self, root: CorpusRoot, row: Row) -> str:
        """Returns the paths of the header and, if it exists, of the signal files, as `Entry.path` holds them."""
        header_file = (row.get("file") or row["record_id"]).removesuffix(self.suffix) + self.suffix
        if BETWEEN in header_file:
            raise EcgFormatError(f"expected a path without {BETWEEN!r}, got {header_file!r}; rename the file")
        if not root.exists(header_file):
            return header_file
        folder, _, name = header_file.rpartition("/")
        header = parse_header(root.read(header_file), name.removesuffix(self.suffix))
        return BETWEEN.join([header_file, *(f"{folder}/{file}".lstrip("/") for file in header.file_names)])

    def record_files(self, entry: Entry) -> tuple[str, ...]:
        """Lists the paths of a record's header and signal files, relative to the root."""
        return tuple(entry.path.split(BETWEEN))

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record."""
        header_file, *files = self.record_files(entry)
        header = parse_header(root.read(header_file), header_file.rpartition("/")[2].removesuffix(self.suffix))
        return check_amplitude(decode(header, {file.rpartition("/")[2]: root.read(file) for file in files}))

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes tiny synthetic records with a table of labels."""
        cls.write_labels(folder, num_records)
        for number in range(num_records):
            write_wfdb(folder / f"r{number:04d}", example_samples(number), 500)
