"""The smallest config of a pair, classifier or backbone."""


def make_config(kind, **fields):
    """The smallest config there is."""
    return kind.config_class(**{**kind.backbone_class.sizes["20k"], **fields})
