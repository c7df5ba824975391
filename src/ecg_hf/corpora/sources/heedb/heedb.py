"""The corpus HEEDB: 11.6 million 12-lead ECGs of 2.2 million patients in Boston and Atlanta, with 12SL codes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from ecg_hf.corpora.base import CorpusConfig, EcgCorpus
from ecg_hf.corpora.folds import split_of_fold
from ecg_hf.corpora.index import Entry
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.sources.heedb.example import write_old_release, write_release
from ecg_hf.corpora.sources.heedb.tables import (
    CURRENT,
    OLD,
    SETS,
    Labels,
    Source,
    read_columns,
    read_labels,
    read_persons,
    split_path,
)
from ecg_hf.corpora.wfdb_files import read_files
from ecg_hf.errors import EcgAccessError, EcgIntegrityError, EcgLeadError
from ecg_hf.signals.formats.wfdb import decode
from ecg_hf.signals.record import LEADS, Record

NUM_FOLDS = 20
RATES = (250, 500)  # Hz
BROKEN = {"MUSE_20200225_081000_06000"}  # records that cannot be read in any release

# Numbers of records and patients of each hospital in release 5
PUBLISHED = {"mgh": (10_608_417, 1_818_247), "emory": (998_844, 349_548)}

logger = logging.getLogger(__name__)


@dataclass
class HeedbConfig(CorpusConfig):
    """The options of HEEDB: which part of the corpus is read.

    Args:
        partitions: Names of the partitions to read, site and year such as "S0001-1987", or year such as "2010" at
            Emory; all if None.
        labels: Whether the 12SL codes are read, which pretraining does not need.
    """

    partitions: list[str] | None = None
    labels: bool = True


class HEEDB(EcgCorpus):
    """The Harvard-Emory ECG Database of the Brain Data Science Platform: 12-lead ECGs of 10 s at 250 or 500 Hz.

    The configs "mgh" and "emory" read one hospital each (folders I0001 and I0006), "all" reads both. The corpus may be
    in the layout of releases 3 to 5 or in that of release 2, which study A reads and which has no Emory; the tables
    that are present show which.

    Patients are assigned to twenty folds: 18 for training, one for validation, one for testing. A patient's fold is a
    hash of the id and nothing else, so it is the same in every release, partition and config: a model trained on some
    partitions has not seen the test patients of any other. (Study A assigns the folds of each partition separately, so
    its patients may be in different folds in different partitions.) With so many patients, the folds are
    balanced without stratification.

    The label sets hold code numbers of the 12SL dictionary: "12sl", the codes of version 24 of 12SL; since release 5
    also "12sl_acquisition", the codes of the recorder's version, and "12sl_overread", those codes as revised by a
    physician. The numbers are known once the tables are read. ICD codes belong to a patient, not to an ECG, and are
    left out; so are dates and other facts about patients.
    """

    BUILDER_CONFIG_CLASS = HeedbConfig
    BUILDER_CONFIGS: ClassVar[list[CorpusConfig]] = [HeedbConfig(name=name) for name in ("all", "mgh", "emory")]
    DEFAULT_CONFIG_NAME = "all"

    licence = "LicenseRef-BDSP-Credentialed"
    licence_url = "https://bdsp.io/content/heedb/5.0/"
    access = "credentialed"
    homepage = "https://bdsp.io/content/heedb/5.0/"
    citation = (
        "Koscova, Moura Junior, Reyna, Hong, Gupta, Ghanta, Sameni, Aguirre, Li, Zafar, Clifford, Westover: "
        "Harvard-Emory ECG Database (version 5.0). Brain Data Science Platform (2026), doi:10.60508/rv6h-7d10; "
        "The Harvard-Emory ECG Database. medRxiv (2024), doi:10.1101/2024.09.27.24314503"
    )
    description = "12-lead ECGs of 10 s at 250 or 500 Hz from the 1980s on, of two hospitals."
    data_version = "5.0.0"
    patient_level = True
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys(SETS, ())
    marker = CURRENT[0].metadata
    num_records: ClassVar[int | None] = sum(records for records, _ in PUBLISHED.values())
    num_patients: ClassVar[int | None] = sum(patients for _, patients in PUBLISHED.values())

    @property
    def published(self) -> tuple[int | None, int | None]:
        """Numbers of records and patients of the config's hospitals in release 5; None for single partitions."""
        if self.config.partitions is not None:
            return None, None
        return PUBLISHED.get(self.config.name, (self.num_records, self.num_patients))

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the records of the tables, hospital by hospital.

        Records without a patient, duplicates and records known as broken are left out, counted and logged.

        Raises:
            EcgAccessError: If a hospital of the config is missing, or the root holds two releases.
            EcgFormatError: If a table cannot be read or one of its fields is invalid.
            ValueError: If one of the config's partitions does not exist.
        """
        wanted = self.config.partitions
        entries: list[Entry] = []
        known: set[str] = set()
        for source in self._sources(root):
            found, partitions = self._read_source(root, source)
            entries += found
            known |= partitions
        if wanted is not None and (unknown := sorted(set(wanted) - known)):
            raise ValueError(f"expected partitions of {sorted(known)}, got {unknown}; correct partitions=")
        labels = {label for entry in entries for label in entry.labels}
        self.label_sets = {  # type: ignore[misc]  # the codes in these tables
            kind: tuple(sorted((code for other, code, _ in labels if other == kind), key=int)) for kind in SETS
        }
        return entries

    def record_files(self, entry: Entry) -> tuple[str, ...]:
        """Returns the paths of the header and the signal file of a record; `entry.path` is their folder."""
        emory = entry.path.startswith(CURRENT[1].records)
        path = f"{entry.path}/{entry.record_id}"
        return f"{path}.hea", path + (CURRENT[1] if emory else CURRENT[0]).suffix

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record, which must have the twelve leads, in any order, at 250 or 500 Hz.

        Raises:
            EcgLeadError: If the record has other leads.
            EcgIntegrityError: If the record has another sampling rate, or the header belongs to another file.
        """
        paths = self.record_files(entry)
        header, files = read_files(root, paths, entry.record_id)
        if set(header.leads) != set(LEADS):
            raise EcgLeadError(f"{paths[0]}: expected the twelve leads, got {header.leads}; download it again")
        if header.sampling_rate not in RATES:
            raise EcgIntegrityError(f"{paths[0]}: expected {RATES} Hz, got {header.sampling_rate}; download it again")
        return decode(header, files)

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the layout of release 5, a quarter of it from Emory.

        Its tables list two more records, which a reader must leave out: one without a patient and one known as broken.
        """
        write_release(folder, num_records, min(BROKEN))

    @classmethod
    def write_old_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the layout of release 2, with a duplicate as one more record."""
        write_old_release(folder, num_records)

    def _open(self) -> CorpusRoot:
        place = self.config.data_dir
        if place is None or not (top := Path(place).expanduser()).is_dir():
            return super()._open()
        # without a search: there are too many folders and files
        for folder in (top, top / "ECG"):
            root = FolderRoot(folder)
            if any(root.exists(source.metadata) for source in (*CURRENT, OLD)):
                return root
        markers = [source.metadata for source in (*CURRENT, OLD)]
        raise EcgAccessError(
            f"{top} holds none of {markers}; set data_dir to the folder of I0001 and I0006, or of release 2"
        )

    def _sources(self, root: CorpusRoot) -> list[Source]:
        name = self.config.name
        current = [source for source in CURRENT if root.exists(source.metadata)]
        if root.exists(OLD.metadata):
            if current:
                raise EcgAccessError(f"{root} holds two releases; set data_dir to one of them")
            current = [OLD]
        hospitals = ["mgh"] if current == [OLD] and name == "all" else ["mgh", "emory"] if name == "all" else [name]
        if lost := sorted(set(hospitals) - {source.hospital for source in current}):
            raise EcgAccessError(
                f"{root} lacks the part of {lost}; download it, or choose the config of a hospital that is there"
            )
        return [source for source in current if source.hospital in hospitals]

    def _read_source(self, root: CorpusRoot, source: Source) -> tuple[list[Entry], set[str]]:
        persons, partitions = read_persons(root, source, self.config.partitions)
        left_out = set(BROKEN)
        if source.duplicates:
            left_out |= {split_path(row[0])[1] for row in read_columns(root, source.duplicates, ("file_name",))}
        kept = [person for person in persons if person.name not in left_out]
        if len(kept) < len(persons):
            count = len(persons) - len(kept)
            logger.warning("%s: left out %d records that are duplicates or known as broken", source.metadata, count)
        labels: dict[str, Labels] = {person.name: () for person in kept}
        if self.config.labels:
            read_labels(root, source, labels)
        entries = [
            Entry(
                record_id=person.name,
                split=split_of(person.patient),
                patient_id=person.patient,
                path=person.folder,
                age=person.age,
                age_over_89=person.age_over_89,
                sex=person.sex,
                labels=labels[person.name],
            )
            for person in kept
        ]
        return entries, partitions

    def _survey(self, entries: Sequence[Entry]) -> None:
        root, digest = self._place(), sha256()
        if not root.stamps_are_cheap:
            return
        for entry in entries:  # one by one, as a list of the twenty million files would be large
            for path in self.record_files(entry):
                stamp = root.stamp(path)
                digest.update(f"{path} {stamp}\n".encode())
                if stamp is None:
                    self._missing.setdefault(entry.record_id, path)
        self._stamps = digest.hexdigest()


@lru_cache(maxsize=1 << 12)  # the ECGs of a patient are next to each other
def split_of(patient: str) -> str:
    """Returns the split of a patient, which depends on a hash of the id alone."""
    return split_of_fold(int.from_bytes(sha256(f"heedb {patient}".encode()).digest()[:8], "big") % NUM_FOLDS, NUM_FOLDS)
