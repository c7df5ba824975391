"""What can be wrong with data, one class per kind; every message says what was expected, what came and what to do."""


class EcgError(Exception):
    """An error in data or files, as opposed to one in an argument."""


class EcgFormatError(EcgError):
    """Bytes that do not follow the format they claim, or a form of it that is not supported."""


class EcgIntegrityError(EcgError):
    """Bytes that are well formed but not those that were promised: a checksum, a count, a split that leaks."""


class EcgUnitsError(EcgError):
    """A signal whose physical unit is unknown or is not a voltage."""


class EcgLeadError(EcgError):
    """Leads that are unknown, repeated, or missing where they are needed."""


class EcgAccessError(EcgError):
    """Data that is not where it was said to be, or that its licence does not let us touch."""


class EcgCheckpointError(EcgError):
    """A checkpoint that is incomplete, changed, or belongs to another run."""


class EcgCollapseError(EcgError):
    """A pretraining run whose representations no longer differ from token to token."""


class EcgProcessError(EcgError):
    """A process of a run with several that is gone or does not answer."""
