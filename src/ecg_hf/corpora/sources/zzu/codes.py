"""The codes of ZZU pECG and their parsers: findings in the AHA and a Chinese coding, diagnoses, quality of leads."""

import re
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from ecg_hf.corpora.index import parse_table
from ecg_hf.errors import EcgFormatError, EcgIntegrityError
from ecg_hf.signals.record import standard_lead

CODE_COLUMNS = ("Description", "AHA(Category&Code)", "CHN(Category&Code)")
DISEASE_COLUMNS = ("Disease Type", "Disease Category", "ICD-10 Code", "ICD-10 Description")

# The expected content of ECGCode.csv: AHA code, CHN code and description ("interva" is spelled so there).
_TABLE = """
A1 A1 Normal ECG|A2 A2 Otherwise normal ECG|C21 C13 Sinus tachycardia|C22 C14 Sinus bradycardia
C23 C15 Sinus arrhythmia|C25 C17 Sinoatrial block, type II|C26 C18 Sinus pause or arrest
D30 D21 Atrial premature complex(es)|D31 D22 Atrial premature complexes, nonconducted|- D23 Atrial reciprocal beats
- D24 Sinoatrial node to atrial internal migratory rhythm|D36 D27 Junctional premature complex(es)
D37 D28 Junctional escape complex(es)|D39 D30 Accelerated junctional rhythm|- D37 Atrial escape complex(es)
- D40 Accelerated atrial autonomous rhythm|E50 E48 Atrial fibrillation|E51 E49 Atrial flutter
E52 E50 Ectopic atrial tachycardia, unifocal|E54 E52 Junctional tachycardia|E55 E53 Supraventricular tachycardia
F60 F55 Ventricular premature complex(es)|F61 F56 Fusion complex(es)|F62 F57 Ventricular escape complex(es)
G70 G65 Ventricular tachycardia|G72 G67 Ventricular tachycardia, polymorphous|G74 G69 Ventricular fibrillation
H80 H72 Short PR interva|H81 H73 AV conduction ratio N:D|- H74 First-degree AV block|H82 - Prolonged PR interval
H83 H75 Second-degree AV block, Mobitz type I(Wenckebach)|H84 H76 Second-degree AV block, Mobitz type II
H85 H77 2:1 AV block|H86 H78 AV block, varying conduction|H87 H79 AV block, advanced (high-grade)
H88 H80 AV block, complete (third-degree)|H89 H81 AV dissociation|I101 I83 Left anterior fascicular block
I102 I84 Left posterior fascicular block|I104 I85 Left bundle-branch block
I105 I86 Incomplete right bundle-branch block|I106 I87 Right bundle-branch block
- I88 Nonspecific intraventricular block|- I90 Preexcitation syndrome|I107 I82 Intraventricular conduction delay
I108 I89 Ventricular preexcitation|- I97 Osborn wave|J120 J99 Right-axis deviation|J121 J100 Left-axis deviation
J124 J103 Electrical alternans|- J106 Left ventricular high voltage|- J107 Right ventricular high voltage
- J110 Abnormal precordial R-wave progression|J125 J(111+112+113) Low voltage|K140 K114 Left atrial enlargement
K141 K115 Right atrial enlargement|K142 K117 Left ventricular hypertrophy|K143 K118 Right ventricular hypertrophy
L145 L121 ST deviation|L146 L122 ST deviation with T-wave change|L147 L123 T-wave abnormality
L148 L124 Prolonged QT interval|- L125 Prolonged QTc interval|L149 L126 Short QT interval|- L127 Short QTc interval
L150 L128 Prominent U waves|L151 L129 Inverted U waves|L152 L130 TU fusion|L155 L133 Early repolarization
- L134 Abnormal Q wave|M160 M136 Anterior MI|M161 M139 Inferior MI|M162 M140 Posterior MI|M163 - Lateral MI
M165 M135 Anteroseptal MI|M166 M138 Extensive anterior MI|N(180+181) N(143+144) Pacing rhythm|Modifier308 - Occasional
Modifier310 - Frequent|Modifier330 - Acute|Modifier331 - Recent|Modifier332 - Old|Modifier340 - Couplets
Modifier341 - In a bigeminal pattern|Modifier342 - In a trigeminal pattern
Modifier346 - With a rapid ventricular response|Modifier349 - With aberrancy|Modifier350 - Polymorphic
Modifier362 - Depression|Modifier363 - Elevation|Modifier367 - Inversion|Suggests200 - Acute pericarditis
Suggests202 - Brugada abnormality|Suggests205 - Digitalis effect|Suggests207 - Hypercalcemia
Suggests208 - Hyperkalemia|Suggests210 - Hypocalcemia|Suggests211 - Hypokalemia or drug effect
Suggests213 - Ostium primum ASD|Consider220 - Acute ischemia|Consider221 - AV nodal reentry|Consider226 - Ischemia
Consider229 - Pulmonary disease|Consider230 - Dextrocardia
"""
# The expected content of DiseaseCode.csv: type, then category and ICD-10 code of each studied disease.
_DISEASES = """
Myocarditis: Fulminant myocarditis=(F) I40.0; Viral myocarditis=(V) I40.0; Acute myocarditis=I40.9; Myocarditis=I51.4
Cardiomyopathy: Dilated cardiomyopathy=I42.0; Hypertrophic cardiomyopathy=I42.2; Cardiomyopathy=I42.9; \
Noncompaction of the ventricular myocardium=Q24.8
Kawasaki disease: Kawasaki disease=M30.3
Congenital heart disease: Ventricular septal defect=Q21.0; Atrial septal defect=Q21.1; \
Atrial septal defect (Foramen ovale)=(FO) Q21.1; Atrial septal defect (Ostium secundum defect)=(OSD) Q21.1; \
Atrioventricular septal defect=Q21.2; Tetralogy of Fallot=Q21.3; Stenosis of right ventricular outflow tract=Q22.1; \
Patent ductus arteriosus=Q25.0; Stenosis of pulmonary artery=Q25.6; Pulmonary valve stenosis=I37.0
"""
CODES: list[list[str]] = [item.split(" ", 2) for item in re.split(r"[|\n]", _TABLE.strip())]
STATEMENTS = {aha: description for aha, _, description in CODES if aha != "-"}
FINDINGS = tuple(description for _, _, description in CODES)
DISEASES = {
    code: (kind, category)
    for kind, _, rest in (line.partition(": ") for line in _DISEASES.strip().split("\n"))
    for category, _, code in (item.partition("=") for item in rest.split("; "))
}
NO_CODE = "See attribute dictionary file"  # the code of all other diseases in DiseaseCode.csv

_CODE = re.compile(r"(?:[A-Z]|Modifier|Suggests|Consider)(?:[0-9]+|\([0-9+]+\))")
_PLUS = re.compile(r"\s*\+\s*(?![^(]*\))")  # not within the parentheses of a composite code
_QUALITY = re.compile(r"'([^']+)':(Null|-?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)")


@lru_cache(maxsize=1 << 12)
def parse_labels(aha: str, chn: str, icd10: str) -> tuple[tuple[str, str, float], ...]:
    """Parses the findings in both codings and the diagnoses of a record into labels.

    A finding without an AHA code is written as its description among the codes. The Chinese codes list the same
    findings in the same order, but `ECGCode.csv` does not list all of them, so they are kept as written.

    Args:
        aha: List of findings in the AHA coding.
        chn: List of findings in the Chinese coding.
        icd10: List of diagnoses as ICD-10 codes.

    Returns:
        Label set, name and value of each label; every value is 1.

    Raises:
        EcgFormatError: If there is an AHA code that `ECGCode.csv` does not list.
    """
    pairs = []
    for item in split_list(aha):
        names = [_name(part) for part in _PLUS.split(item)]
        pairs += [("statement", names[0])] if item.replace(" ", "") in STATEMENTS else []
        pairs += [("finding", names[0]), ("finding_with_modifiers", " + ".join(names))]
    pairs += [("chn_code", re.sub(r"\s*\+\s*", "+", item)) for item in split_list(chn)]
    codes = [re.sub(r"\)\s*", ") ", item) for item in split_list(icd10)]
    pairs += [("icd10", code) for code in codes]
    studied = [DISEASES[code] for code in codes if code in DISEASES]
    pairs += [("disease", category) for _, category in studied] + [("disease_type", kind) for kind, _ in studied]
    return tuple((label_set, name, 1.0) for label_set, name in dict.fromkeys(pairs))


def split_list(text: str) -> list[str]:
    """Splits a list such as "'C21';'Osborn wave'" into its items, without "Null", which stands for nothing."""
    items = (" ".join(item.strip().strip("'").split()) for item in text.split(";"))
    return [item for item in items if item and item != "Null"]


def parse_quality(text: str) -> list[tuple[str, float]]:
    """Parses the quality index of each lead, such as "'I':0.288;'V2':Null"; leads without a value are left out.

    Raises:
        EcgFormatError: If the text has another form, or names a lead twice.
        EcgLeadError: If the text names an unknown lead.
    """
    items = [_QUALITY.fullmatch(item) for item in "".join(text.split()).split(";") if item not in ("", "Null")]
    found = [(standard_lead(match[1]), match[2]) for match in items if match]
    if len(found) < len(items) or len(dict(found)) < len(found):
        raise EcgFormatError(
            f"expected each lead's index once, such as 'I':0.288, got {text[:80]!r}; download it again"
        )
    return [(lead, float(np.float32(value))) for lead, value in found if value != "Null"]  # float32, as in a row


def check_codes(data: bytes) -> None:
    """Checks that the content of `ECGCode.csv` agrees with `CODES`.

    Raises:
        EcgFormatError: If the content is not a table with the columns of that file.
        EcgIntegrityError: If the two disagree about a code.
    """
    fields = ([row[key].strip() for key in CODE_COLUMNS] for row in parse_table(data, "ECGCode.csv", CODE_COLUMNS))
    found = {(aha.replace(" ", ""), chn.replace(" ", ""), description) for description, aha, chn in fields}
    _compare(
        "ECGCode.csv", found, {(aha.replace("-", "N/A"), chn.replace("-", "N/A"), name) for aha, chn, name in CODES}
    )


def check_diseases(data: bytes) -> None:
    """Checks that the content of `DiseaseCode.csv` agrees with `DISEASES`.

    Raises:
        EcgFormatError: If the content is not a table with the columns of that file.
        EcgIntegrityError: If the two disagree about a disease.
    """
    rows = parse_table(data, "DiseaseCode.csv", DISEASE_COLUMNS)
    # some fields have a superfluous line break or blank
    fields = ([re.sub(r" (?=\))", "", " ".join(row[key].split())) for key in DISEASE_COLUMNS] for row in rows)
    found = {(code, kind, category) for kind, category, code, _ in fields if code != NO_CODE}
    _compare("DiseaseCode.csv", found, {(code, *about) for code, about in DISEASES.items()})


def example_codes() -> Iterator[dict[str, str]]:
    """Yields the rows of `ECGCode.csv`, with the blanks that the official file has in composite codes."""
    for aha, chn, description in CODES:
        codes = ("N/A" if code == "-" else code.replace("+", " + ") for code in (aha, chn))
        yield dict(zip(CODE_COLUMNS, (description, *codes), strict=True))


def example_diseases() -> Iterator[dict[str, str]]:
    """Yields the rows of `DiseaseCode.csv`, with the official line breaks and row of all other diseases."""
    for code, (kind, category) in DISEASES.items():
        kind = kind.replace("Congenital ", "Congenital \n")
        yield dict(zip(DISEASE_COLUMNS, (kind, category, code, "as in ICD-10; 2019"), strict=True))
    yield dict(zip(DISEASE_COLUMNS, ("Other diseases(OD)", NO_CODE, NO_CODE, "N/A"), strict=True))


def _name(part: str) -> str:
    code = part.replace(" ", "")
    if code not in STATEMENTS and _CODE.fullmatch(code):
        raise EcgFormatError(f"expected AHA codes that ECGCode.csv lists, got {part[:80]!r}; download it again")
    return STATEMENTS.get(code, part)


def _compare(name: str, found: set[tuple[str, str, str]], expected: set[tuple[str, str, str]]) -> None:
    if found != expected:
        raise EcgIntegrityError(
            f"{name} says {sorted(found - expected)[:3]}, expected {sorted(expected - found)[:3]}; download it again"
        )
