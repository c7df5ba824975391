"""The pretraining of a pair, from its arguments to a folder that loads as a model.

`pretrain` opens the corpora of a run, builds a pair (a backbone with an objective) and trains it on random crops. The
loop runs one optimizer step after the other, entirely on the device; it logs each step, validates at intervals, and
writes checkpoints from which a killed run resumes with the same crops in the same order. The folder of a run holds the
weights and the config, the feature extractor (the input contract of the model), metrics.jsonl, loss.png and run.json,
which describes the code, the corpora and the arguments of the run.

In reading order:

- `arguments`, `flags`, `recipes`: the arguments of a run, and how command lines and YAML files set them.
- `pretrain`: the entry point, and the data and the pair of a run.
- `trainer`: the loop over the steps, with its log, validations and checkpoints.
- `step`, `optimization`: one optimizer step, its parameter groups and its learning rate.
- `state`, `checkpoints`: the progress of a run, and the folders that it resumes from.
- `validation`, `collapse`, `batch_norms`: validation loss, signs of collapse, statistics of the trained backbone.
- `processes`: the Accelerator of a run, lost processes, and signals to stop.
- `run_log`, `run_folder`: the files of a finished run.
- `dry_run`: a forecast of size, memory and time, from a few steps.

Example:
    >>> from ecg_hf import PretrainingArguments
    >>> from ecg_hf.training.pretrain import open_run
    >>> arguments = PretrainingArguments(output_dir="OUT", size="20k", corpus_fields=["num_records=20"], batch_size=2)
    >>> trainer = open_run(arguments).trainer  # writes nothing to OUT yet; `pretrain(arguments)` runs all steps
    >>> for step, (batches, _) in enumerate(trainer.batches(range(2))):
    ...     metrics, _ = trainer.step.run(step, batches).read()
    >>> sorted(metrics)
    ['accuracy', 'effective_rank', 'feature_std', 'grad_norm', 'loss']
"""
