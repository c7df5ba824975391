"""The synthetic corpus: ECGs of simulated patients, computed rather than read, in any number and free to share."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.signal import resample_poly

from ecg_hf.corpora.base import CorpusConfig, EcgCorpus
from ecg_hf.corpora.index import Entry
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.signals.record import LEADS, Record
from ecg_hf.signals.simulated_heart import draw_heart
from ecg_hf.signals.simulation import SAMPLING_RATE, Episode, simulate

GAIN = 1000.0  # ADC units per mV
SAMPLING_RATES = (100, 250, 500)
FINDINGS = ("AFIB", "BRADY", "CLBBB", "CRBBB", "LAD", "NORM", "PAC", "PVC", "STD", "STE", "TACHY")

_VISITS = (1, 2, 1, 3, 1, 1, 4, 2, 1)  # number of ECGs of nine patients in a row; the pattern repeats
_FIRSTS = np.cumsum([0, *_VISITS])
_TERRITORIES = {"anterior": (0.3, 0.0, -1.0), "inferior": (-0.1, 1.0, 0.0), "lateral": (1.0, -0.5, 0.0)}
_SUBENDOCARDIAL = (-1.0, -0.6, 0.2)


@dataclass
class SyntheticConfig(CorpusConfig):
    """The options of the synthetic corpus: how many ECGs of which patients, and how they are recorded.

    Args:
        num_records: Number of records; a smaller corpus consists of the first records of a larger one.
        seed: Seed of the patients and their ECGs, from 0 to 2**32 - 1.
        sampling_rate: Sampling rate in Hz, 100, 250 or 500; the ECGs are the same at each.
        duration_s: Length of a record in seconds, 8 to 600.
        noise: Factor on muscle noise, mains hum and baseline wander, as if from another recorder; hearts and findings
            stay the same.
    """

    num_records: int = 2000
    seed: int = 0
    sampling_rate: int = 500
    duration_s: float = 10.0
    noise: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_records < 1:
            raise ValueError(f"num_records must be at least 1, got {self.num_records}; ask for as many as you need")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to 2**32 - 1, got {self.seed}; choose another")
        if self.sampling_rate not in SAMPLING_RATES:
            raise ValueError(
                f"sampling_rate must be one of {SAMPLING_RATES} Hz, got {self.sampling_rate}; resample later"
            )
        if not 8 <= self.duration_s <= 600:
            raise ValueError(f"duration_s must be from 8 to 600 s, got {self.duration_s}; crop or join records instead")
        if not 0 <= self.noise <= 100:
            raise ValueError(f"noise must be a factor from 0 to 100, got {self.noise}; 1 leaves the noise unchanged")


@dataclass(frozen=True)
class Patient:
    """A synthetic patient: the properties that are the same in all of the patient's records.

    Args:
        age: Age in years at the first ECG.
        sex: Sex, "female" or "male".
        fibrillating: Whether the atria fibrillate.
        conduction: Blocked bundle, "left" or "right", or "normal" if none is.
        axis: Axis of the QRS complex in the frontal plane, in degrees.
        voltage: Factor on every amplitude.
    """

    age: int
    sex: str
    fibrillating: bool
    conduction: str
    axis: float
    voltage: float


class Synthetic(EcgCorpus):
    """Synthetic 12-lead ECGs from `ecg_hf.signals.simulation`, for tests, demonstrations and teaching.

    The corpus has no files: the signal of a record is computed when the record is read. Record i depends on the options
    and on i, but not on the number of records. A patient has one to four records, a year apart. Of 20 patients in a
    row, 14 are for training, 3 for validation and 3 for testing. The only label set, "finding", holds the simulated
    findings, such as "AFIB" or "PVC", or "NORM" if there is none; the report describes the ECG in words.

    Example:
        >>> import ecg_hf
        >>> rows = list(ecg_hf.load_corpus("synthetic", split="test", streaming=True, num_records=20))
        >>> [(row["patient_id"], [label["name"] for label in row["labels"]]) for row in rows]
        [('0-00000006', ['NORM']), ('0-00000006', ['NORM']), ('0-00000006', ['BRADY']), ('0-00000006', ['TACHY'])]
        >>> ecg_hf.row_to_signal(rows[0]).shape  # 12 leads, 10 s at 500 Hz, in mV
        (12, 5000)
    """

    BUILDER_CONFIG_CLASS = SyntheticConfig

    licence = "CC0-1.0"
    licence_url = "https://creativecommons.org/publicdomain/zero/1.0/"
    access = "open"
    homepage = ""
    citation = ""
    description = (
        "Simulated 12-lead ECGs of simulated patients, for tests, demonstrations and teaching; not for medicine."
    )
    data_version = "1.0.0"
    patient_level = True
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = {"finding": FINDINGS}
    needs_data_dir = False

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the records, each with its patient, age, findings and report; no signal is computed."""
        device = f"simulator, {self.config.duration_s:g} s at {self.config.sampling_rate} Hz"
        device += "" if self.config.noise == 1 else f", {self.config.noise:g} times the noise"
        return [_entry(self.config.seed, number, device) for number in range(self.config.num_records)]

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Simulates the signal of one record."""
        number, visit = _whose(int(entry.record_id.rpartition("-")[2]))
        rng = _generator(self.config.seed, number)
        patient = draw_patient(rng)
        heart = draw_heart(
            rng,
            conduction=patient.conduction,
            fibrillating=patient.fibrillating,
            axis=patient.axis,
            voltage=patient.voltage,
        )
        rng = _generator(self.config.seed, number, visit)
        episode, _ = draw_episode(rng, patient)
        factor = self.config.noise
        levels = {name: factor * getattr(episode, name) for name in ("muscle", "hum", "wander")}
        signal = simulate(heart, replace(episode, **levels), rng, self.config.duration_s)
        rate = self.config.sampling_rate
        if rate != SAMPLING_RATE:
            signal = resample_poly(signal, 1, SAMPLING_RATE // rate, axis=1, padtype="line")
        samples = np.clip(np.rint(signal * GAIN), -32767, 32767).astype(np.int16)
        gain, baseline = np.full(12, GAIN), np.zeros(12, np.int32)
        return Record(entry.record_id, samples, gain, baseline, LEADS, float(rate))

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes nothing: this corpus has no files."""


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draws a patient: age, sex, and the lasting properties of the heart."""
    age = int(np.clip(rng.normal(58, 17), 18, 85))
    sex = ("female", "male")[rng.integers(2)]
    fibrillating = bool(rng.random() < 0.02 + 0.17 * (age - 18) / 67)
    conduction = str(rng.choice(["normal", "left", "right"], p=[0.85, 0.065, 0.085]))
    left_axis = rng.random() < 0.12
    axis = rng.uniform(-75, -34) if left_axis else np.clip(rng.normal(38, 30), -26, 95)
    voltage = {"female": 0.92, "male": 1.05}[sex] * np.clip(rng.lognormal(0, 0.28), 0.5, 1.8)
    return Patient(age, sex, fibrillating, conduction, float(axis), float(voltage))


def draw_episode(rng: np.random.Generator, patient: Patient) -> tuple[Episode, str]:
    """Draws the episode that one ECG of a patient records, and the name of its ST shift, "" if it has none."""
    num_ventricular = int(rng.integers(1, 4)) if rng.random() < 0.12 else 0
    num_atrial = int(rng.integers(1, 4)) if rng.random() < 0.12 else 0
    rate = _draw_rate(rng, patient)
    if patient.fibrillating or num_ventricular or rate > 110:
        num_atrial = 0  # atrial premature beats could not be told from such a rhythm
    shift, st, direction = _draw_shift(rng, patient)
    episode = Episode(
        rate=rate,
        irregularity=rng.uniform(0.16, 0.28) if patient.fibrillating else min(0.1, rng.lognormal(np.log(0.03), 0.6)),
        num_ventricular=num_ventricular,
        num_atrial=num_atrial,
        st=st,
        st_direction=direction,
        muscle=rng.lognormal(np.log(0.012), 0.8),
        hum=rng.lognormal(np.log(0.008), 0.8) if rng.random() < 0.3 else 0.0,
        hum_rate=float(rng.choice([50, 60])),
        wander=rng.lognormal(np.log(0.05), 0.7),
    )
    return episode, shift


def _draw_rate(rng: np.random.Generator, patient: Patient) -> float:
    mean, least = (88, 50) if patient.fibrillating else (75, 38)
    return float(np.clip(rng.lognormal(np.log(mean), 0.25), least, 160))


def _draw_shift(rng: np.random.Generator, patient: Patient) -> tuple[str, float, tuple[float, float, float]]:
    """Draws name, size and direction of an ST shift; a left bundle branch block shifts ST itself and gets no other."""
    kind, size, territory = rng.random(), rng.random(), str(rng.choice(list(_TERRITORIES)))
    if patient.conduction == "left" or kind > 0.19:
        return "", float(0.04 * rng.normal()), _TERRITORIES[territory]
    if kind < 0.09:
        return f"{territory} ST elevation", 0.14 + 0.3 * size, _TERRITORIES[territory]
    return "ST depression", 0.1 + 0.2 * size, _SUBENDOCARDIAL


def _generator(seed: int, patient: int, visit: int = -1) -> np.random.Generator:
    """Builds the random generator of a patient or, if `visit` (from 0) is given, of one ECG of the patient."""
    return np.random.default_rng([seed, patient, visit + 1])


def _whose(record: int) -> tuple[int, int]:
    """Returns the numbers of the patient and the visit of a record, each from 0."""
    block, place = divmod(record, sum(_VISITS))
    patient = int(np.searchsorted(_FIRSTS, place, side="right")) - 1
    return block * len(_VISITS) + patient, place - int(_FIRSTS[patient])


def _entry(seed: int, record: int, device: str) -> Entry:
    number, visit = _whose(record)
    patient = draw_patient(_generator(seed, number))
    episode, shift = draw_episode(_generator(seed, number, visit), patient)
    found = _findings(patient, episode, shift)
    fold = 3 * number % 20  # of 20 patients in a row, 14, 3 and 3
    return Entry(
        record_id=f"{seed}-{record:08d}",
        split="train" if fold < 14 else "validation" if fold < 17 else "test",
        patient_id=f"{seed}-{number:08d}",
        age=float(patient.age + visit),
        sex=patient.sex,
        device=device,
        report=_report(patient, episode, shift),
        labels=tuple(("finding", name, 1.0) for name in found),
    )


def _findings(patient: Patient, episode: Episode, shift: str) -> tuple[str, ...]:
    present = {
        "AFIB": patient.fibrillating,
        "BRADY": episode.rate < 60,
        "CLBBB": patient.conduction == "left",
        "CRBBB": patient.conduction == "right",
        "LAD": patient.axis < -30,
        "PAC": episode.num_atrial > 0,
        "PVC": episode.num_ventricular > 0,
        "STD": shift == "ST depression",
        "STE": shift.endswith("elevation"),
        "TACHY": episode.rate > 100,
    }
    return tuple(name for name, is_present in present.items() if is_present) or ("NORM",)


def _report(patient: Patient, episode: Episode, shift: str) -> str:
    rhythm = "atrial fibrillation" if patient.fibrillating else "sinus rhythm"
    block = "" if patient.conduction == "normal" else f"{patient.conduction} bundle branch block"
    ectopic = "ventricular" * (episode.num_ventricular > 0) + "atrial" * (episode.num_atrial > 0)
    first = f"{rhythm}, {episode.rate:.0f}/min, axis {patient.axis:.0f} degrees"
    return ", ".join(part for part in (first, block, ectopic and f"{ectopic} premature beats", shift) if part)
