"""Nothing leaves this machine: set before any of these libraries is imported."""

import os
import tempfile
import warnings

import pytest

FOLDER = tempfile.mkdtemp(prefix="unstuck-tests-")  # trackio reads its own once, when it is imported

os.environ.update(
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="offline",
    WANDB_SILENT="true",
    MLFLOW_ALLOW_FILE_STORE="true",
    MLFLOW_DISABLE_TELEMETRY="true",
    TRACKIO_DIR=FOLDER,
)


@pytest.fixture
def no_noise():
    """The libraries warn of things that are not ours; findings stay errors."""
    from unstuck.integrations.trainers import FindingWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", FindingWarning)
        yield
