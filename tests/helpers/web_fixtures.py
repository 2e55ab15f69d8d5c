"""Fixtures of the tests that fetch weights: a server, a Hub, and how refusals read."""

import contextlib
import re

import huggingface_hub
import pytest
from huggingface_hub import constants
from misbehaving_server import Hub, Server

from keras_convnext.errors import WeightsError


@pytest.fixture
def refused():
    """Expects a `WeightsError` that reads as one or a few sentences."""

    @contextlib.contextmanager
    def expect(match: str):
        with pytest.raises(WeightsError, match=match) as caught:
            yield caught
        text = str(caught.value)
        assert text.endswith((".", "?")) and "\n" not in text
        assert not re.search(r"Errno|\wError\b|Traceback|<class|: \.|\.\.$", text)

    return expect


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hugging Face Hub on this machine, an empty cache, and no time lost between two tries."""
    hub = Hub()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url())
    template = hub.url("/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.waits = []
    monkeypatch.setattr("time.sleep", hub.waits.append)
    yield hub
    huggingface_hub.close_session()
    hub.close()
