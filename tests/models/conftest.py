from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.models.cases import FACTORS, MODELS, SEQUENCE_MODELS


@pytest.fixture(params=MODELS)
def make(request: pytest.FixtureRequest, device: str) -> Callable[..., Any]:
    """A function that makes an unfitted model on the device, once per model."""
    return partial(MODELS[request.param], device=device)


@pytest.fixture(params=FACTORS)
def make_als(request: pytest.FixtureRequest, device: str) -> Callable[..., Any]:
    """The same for models with factors of their own."""
    return partial(MODELS[request.param], device=device)


@pytest.fixture(params=SEQUENCE_MODELS)
def make_sequence(request: pytest.FixtureRequest, device: str) -> Callable[..., Any]:
    """The same for models of what comes next."""
    return partial(SEQUENCE_MODELS[request.param], device=device)
