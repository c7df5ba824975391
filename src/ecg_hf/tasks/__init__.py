"""Downstream tasks: questions that are asked of a corpus, each described by data and not by code.

A task names a corpus, one of its label sets and the outputs that a model must predict; it also states which records
belong to the question, what a missing label means, and which score heads the results. A task's outputs are listed, or
found by a rule, such as all diagnoses that at least ten training records have. From a task and a corpus,
`ecg_hf.data.targets` builds splits with targets, on which `ecg_hf.evaluation` fine-tunes and scores a model.
`python -m ecg_hf.tasks` lists all tasks.

Modules, in the order in which to read them:

- `base`: `Task`, with the meaning of every field, and `Vocabulary`, the rule for outputs that are found in the data.
- `synthetic`: the task on synthetic ECGs, for tests and first steps.
- `ptbxl`: the six standard tasks on PTB-XL, whose outputs are listed.
- `challenge2021`, `chapman`, `sph`, `zzu_pecg`: tasks of study A (arXiv:2605.12241) whose outputs follow from a rule.
- `mimic_iv_ecg`: eleven tasks of study A on diagnoses, later events, age, sex and measurements.
- `echonext`, `code15`: structural heart disease, and the six findings of the CODE study.

Example:
    >>> from ecg_hf.registry import TASKS, load
    >>> [name for name in TASKS if name.startswith("ptbxl")]
    ['ptbxl_all', 'ptbxl_diagnostic', 'ptbxl_form', 'ptbxl_rhythm', 'ptbxl_subdiagnostic', 'ptbxl_superdiagnostic']
    >>> task = load(TASKS, "georgia")
    >>> task.corpus, task.label_set, task.vocabulary.min_count, task.min_duration_s
    ('georgia', 'diagnosis', 10, 10)
"""
