"""The command line: one file for each command of `ecg-hf`.

A command is a module with `main(words, prog)`: it parses its words, prepares the terminal, calls one function of the
library, prints where the results are, and returns the exit status. Nothing heavy is imported before the words are
parsed, so that `--help` is quick. Read `main` first, then `pretrain` as the typical command.

    main             the table of commands, `ecg-hf --help`
    reporting        errors of a command as one line
    demo             a small model, its nulls, and pictures
    corpora, tasks   what there is
    verify, build    a corpus on disk: check it, build it
    pretrain, finetune, convert, publish
    sweep, fit_scaling

The scripts in `scripts/` and `dataset_scripts/` of a checkout are doors to the same functions, for
`accelerate launch scripts/pretrain.py`; `accelerate launch -m ecg_hf pretrain` is the same.

Example:
    >>> from ecg_hf.commands.main import COMMANDS
    >>> list(COMMANDS)
    ['Start', 'Data', 'Models', 'Studies']
"""
