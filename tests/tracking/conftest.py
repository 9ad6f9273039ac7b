"""One store for the tests of what is kept in it: making its tables takes seconds."""

import pytest

from p2d.tracking.store import open_tracker, store_uri
from tests.evaluate.helpers import dataset_of, patterns


@pytest.fixture(scope="package")
def kept(tmp_path_factory):
    """An output folder with a store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="package")
def keeper(kept):
    """The root of the runs in it."""
    return open_tracker(kept, enabled=True)


@pytest.fixture
def store(kept, keeper, monkeypatch):
    """A client of it, which MLflow's own functions ask too."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri(kept))
    return MlflowClient()


@pytest.fixture(scope="package")
def snapshots(kept):
    """A dataset of eight patterns of two species, [2, 24, 40]."""
    return dataset_of(patterns(8, 24, 40), kept / "data" / "stripes_24x40")
