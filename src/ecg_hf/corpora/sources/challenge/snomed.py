"""The SNOMED CT codes in the Challenge's headers, with the names that each source of recordings gives them."""

# One line per code: the Challenge's abbreviation; the sheets that list the code (c CPSC, x CPSC-Extra, g Georgia); the
# name there, with Georgia's own name after ";" if it differs; Ningbo's name; the acronyms of the Chapman table.
# Source: the Challenge's "Label mappings 2021.xlsx", dx_mapping_scored.csv and dx_mapping_unscored.csv. Ningbo uses
# 251146004 for LQRSV, LVQRSCL and LVQRSLL, of which the first is kept; its sheet has no code for ARH: 106068003.
_TABLE = """
368009|HVD|g|heart valve disorder||
5609005|SARR||sinus arrest|SARR|
6374002|BBB|g|bundle branch block|Intraventricular_Block|
10370003|PR|xg|pacing rhythm|PR|
11157007|VBig|xg|ventricular bigeminy||VB
12026006|||paroxysmal tachycardia||
13640000|FB|g|fusion beats|VFW|VFW
17338001|VPB|xg|ventricular premature beats;ventricular ectopic beats||VPB
17366009|SAAWR||sinus atrium to atrial wandering rhythm||SAAWR
27885002|CHB|xg|complete heart block|CAVB|3AVB
28189009||g|mobitz type 2 second degree atrioventricular block||2AVB2
29320008|AVJR|xg|atrioventricular junctional rhythm;ectopic rhythm|AVJR|
39732003|LAD|g|left axis deviation|ALS|ALS
47665007|RAD|xg|right axis deviation|RAD|ARS
49260003|IR|g|idioventricular rhythm||
49578007|SPRI|xg|shortened pr interval|SPRI|
50799005|AVD|g|atrioventricular dissociation;isorhythmic dissociation|AVD|
53741008|CHD|g|coronary heart disease||
54016002|MoI|g|mobitz type i wenckebach atrioventricular block|IIAVBI|2AVB1
54329005|AnMI|xg|anterior myocardial infarction|AnMI|
55827005|LVHV||left ventricular high voltage|LVHV|LVHV
55930002|STC|xg|s t changes|STC|
57054005|AMI|g|acute myocardial infarction|AMI|
59118001|RBBB|cxg|right bundle branch block|RBBB|RBBB
59931005|TInv|xg|t wave inversion|TWO|TWO
60423000|SND|g|sinus node dysfunction||
61277005|AIVR|g|accelerated idioventricular rhythm|AIVR|
61721007|CVCL/CCVCL||clockwise or counterclockwise vectorcardiographic loop|CVCL|
63593006|SVPB|xg|supraventricular premature beats|SPVB|
65778007|SAB|xg|sinoatrial block;non-specific interatrial conduction block|SAB|
67198005|PSVT|g|paroxysmal supraventricular tachycardia||
74390002|WPW|g|wolff parkinson white pattern|WPW|WPW
74615001|BTS|xg|brady tachy syndrome||
75532003|VEsB|xg|ventricular escape beat|VEB|VEB
77867006|SQT|xg|decreased qt interval|SQT|
78069008||g|chronic rheumatic pericarditis||
81898007|VEsR|xg|ventricular escape rhythm|VEsR|
82226007|DIB|xg|diffuse intraventricular block||
84114007|HF|g|heart failure||
89792004|RVH|xg|right ventricular hypertrophy|RVH|RVH
106068003|ARH||atrial rhythm|ARH|
111288001|VFL|xg|ventricular flutter|VFL|
111975006|LQT|xg|prolonged qt interval|PTW|QTIE
164861001|MIs|xg|myocardial ischemia||
164865005|MI|xg|myocardial infarction|MILW|MI MIBW MIFW MILW MISW
164867002|OldMI|xg|old myocardial infarction||
164871004|||lateral infarction||
164873001|LVH|xg|left ventricular hypertrophy|LVH|LVH
164884008|VEB|cg|ventricular ectopics;premature ventricular complexes||
164889003|AF|cxg|atrial fibrillation|AFIB|AFIB
164890007|AFL|xg|atrial flutter|AF|AF
164895002|VTach|xg|ventricular tachycardia||
164896001|VF|xg|ventricular fibrillation|VF|
164903001||g|partial atrioventricular block 2:1||
164909002|LBBB|cxg|left bundle branch block|CLBBB|LBBB LBBBB LFBBB
164912004|PWC||p wave change|PWC|PWC
164917005|QAb|xg|qwave abnormal|QAb|AQW
164921003|RAb|xg|r wave abnormal||
164930006|STIAb|xg|st interval abnormal|STE|STE
164931005|STE|cxg|st elevation|STTU|STTU
164934002|TAb|xg|t wave abnormal|TTW|TWC
164937009|UAb|xg|u wave abnormal|UW|UW
164942001|FQRS||fqrs wave||FQRS
164947007|LPR|g|prolonged pr interval|PRIE|PRIE
164951009|abQRS|g|abnormal QRS||
195042002|IIAVB|xg|2nd degree av block|2AVB2|2AVB
195060002|VPEx|xg|ventricular pre excitation||VPE
195080001|AFAFL|xg|atrial fibrillation and flutter||
195101003|WAP|g|wandering atrial pacemaker||WAVN
195126007|AH|xg|atrial hypertrophy||
204384007|CIAHB|g|congenital incomplete atrioventricular heart block||
233892002|AAR||accelerated atrial escape rhythm|AAR|
233896004|||atrioventricular node reentrant tachycardia||
233897008|AVRT||atrioventricular reentrant tachycardia|RAVC|AVRT
233910005|||lone atrial fibrillation||
233917008|AVB|xg|av block|AVB|AVB
251120003|ILBBB|xg|incomplete left bundle branch block|ILBBB|
251139008|ALR|g|suspect arm ecg leads reversed||
251143007||g|ecg artefacts||
251146004|LQRSV|g|low qrs voltages|LQRSV|LVQRSAL LVQRSCL LVQRSLL
251147008||g|low qrs voltages in the limb leads||
251148003||g|low qrs voltages in the precordial leads||
251164006|JPC|xg|junctional premature complex|JPT|JPT
251166008|AVNRT||atrioventricular node reentrant tachycardia||AVNRT
251168009|SVB|g|supraventricular bigeminy||
251170000|BPAC|xg|blocked premature atrial contraction|BPAC|
251173003|AB|g|atrial bigeminy||ABI
251180001|VTrig|xg|ventricular trigeminy||VET
251182009|VPVC|g|paired ventricular premature complexes||
251187003|AED||atrial escape beat|Atrial_Escape_Beat|
251198002|CR||clockwise rotation||CR
251199005|CCR||countercolockwise rotation||CCR
251200008|ICA|g|indeterminate cardiac axis||
251205003|PPW||prolonged P wave|PPW|
251223006|TPW||tall p wave|TPW|
251242005||g|tall u wave||
251245007|||pr depression||
251259000|HTV|xg|high t-voltage;high t voltage||
251266004|VPP|g|ventricular pacing pattern||
251268003|AP|g|atrial pacing pattern||
253339007|RAAb|g|right atrial abnormality||
253352002|LAA|g|left atrial abnormality||
266249003|VH|xg|ventricular hypertrophy||
266257000|TIA|g|transient ischemic attack||
270492004|IAVB|cxg|1st degree av block|1AVB|1AVB
282825002|PAF|g|paroxysmal atrial fibrillation||
284470004|PAC|cxg|premature atrial contraction|APB|APB
314208002|RAF|g|rapid atrial fibrillation||
365413008|PRWP||poor R wave Progression|PRWP|
370365005|LVS|xg|left ventricular strain||
413444003|AMIs|xg|acute myocardial ischemia||
413844008|CMI|xg|chronic myocardial ischemia||
418818005|BRU|g|brugada;brugada syndrome|Brugada|
423863005||g|electrical alternans||
425419005|IIs|g|inferior ischaemia||
425623009|LIs|g|lateral ischaemia||
425856008|PVT|g|paroxysmal ventricular tachycardia|PVT|
426177001|SB|xg|sinus bradycardia|SB|SB
426183003|IIAVBII||mobitz type II atrioventricular block|IIAVBII|
426434006|AnMIs|g|anterior ischemia||
426627000|Brady|xg|bradycardia|Brady|
426648003|JTach|xg|junctional tachycardia|JTach|
426664006|AJR|g|accelerated junctional rhythm|AJR|
426749004|CAF|xg|chronic atrial fibrillation||
426761007|SVT|xg|supraventricular tachycardia|SVT|SVT
426783006|NSR|cxg|sinus rhythm|SR|SR
426995002|JE|xg|junctional escape|JEB|JEB
427084000|STach|xg|sinus tachycardia|ST|ST
427172004|PVC|xg|premature ventricular contractions|PVC|
427393009|SA|xg|sinus arrhythmia|SA|
428417006|ERe|g|early repolarization|ERV|ERV
428750005|NSSTTA|xg|nonspecific st t abnormality||STTC
429622005|STD|cxg|st depression|STDD|STDD
445118002|LAnFB|g|left anterior fascicular block|LAnFB|
445211001|LPFB|g|left posterior fascicular block|LPFB|
446358003|RAH|xg|right atrial hypertrophy|RAH|RAH
446813000|LAH|xg|left atrial hypertrophy|LAH|
698247007|CD|g|cardiac dysrhythmia||
698252002|NSIVCB|xg|nonspecific intraventricular conduction disorder|IVB|IDC IVB
704997005|ISTD|xg|inferior ST segment depression;inferior st segment depression||
713422000|ATach|xg|atrial tachycardia|AT|AT
713423005||g|multifocal atrial tachycardia||
713426002|IRBBB|xg|incomplete right bundle branch block|IRBBB|
713427006|CRBBB|xg|complete right bundle branch block|CRBBB|
733534002|CLBBB||complete left bundle branch block|CLBBB|
67741000119109|LAE|xg|left atrial enlargement|LAHV|
67751000119106|RAHV||right atrial high voltage|RAHV|RAHV
"""

_ROWS = [line.split("|") for line in _TABLE.strip().splitlines()]


def _sheet(letter: str, own: int) -> dict[str, str]:
    return {code: text.split(";")[own if ";" in text else 0] for code, _, sheets, text, *_ in _ROWS if letter in sheets}


CHALLENGE = {code: short or text for code, short, _, text, *_ in _ROWS}
CPSC = _sheet("c", 0)
CPSC_EXTRA = _sheet("x", 0)
GEORGIA = _sheet("g", 1)
NINGBO = {row[0]: row[4] for row in _ROWS if row[4]}
ACRONYMS = {acronym: row[0] for row in _ROWS for acronym in row[5].split()}

# Words for the codes in the first release of 2020, which held CPSC2018 only, in the order of that corpus' numbers.
FIRST_RELEASE = {
    "Normal": "426783006",
    "AF": "164889003",
    "I-AVB": "270492004",
    "LBBB": "164909002",
    "RBBB": "59118001",
    "PAC": "284470004",
    "PVC": "164884008",
    "STD": "429622005",
    "STE": "164931005",
}
