import os
import signal
from unittest import mock

import pytest

from example_inputs import make_model
from hub_server import HubServer


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """A model that takes seconds to make."""
    return make_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def typed_hub():
    """A Hub that commands of other processes publish to."""
    with HubServer() as server:
        yield server


@pytest.fixture(autouse=True)
def unchanged_process():
    """Takes back what a command that is run in this process changes in it."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with mock.patch.dict(os.environ):
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
