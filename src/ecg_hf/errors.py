"""Exceptions for faulty data, files and runs; a message states what was expected, what was found and the remedy."""


class EcgError(Exception):
    """Base class of the library's exceptions; a faulty argument raises ValueError, TypeError or KeyError instead."""


class EcgFormatError(EcgError):
    """Data that violates the format it claims to follow, or uses a part of the format that is not supported."""


class EcgIntegrityError(EcgError):
    """Well-formed data that breaks a promise, such as a checksum, a number of samples or disjoint splits."""


class EcgUnitsError(EcgError):
    """A signal whose unit is unknown or not a voltage, or whose gain or amplitude no electrocardiograph produces."""


class EcgLeadError(EcgError):
    """Leads that are unknown, repeated, in the wrong order, or missing where they are needed."""


class EcgAccessError(EcgError):
    """Data that cannot be found or read in the expected place, or whose licence forbids its use."""


class EcgCheckpointError(EcgError):
    """A checkpoint that is incomplete, was changed, or belongs to another run."""


class EcgCollapseError(EcgError):
    """A pretraining run that has collapsed: its representations no longer differ from token to token."""


class EcgProcessError(EcgError):
    """A process of a run that has exited, does not answer, or disagrees with the other processes of the run."""
