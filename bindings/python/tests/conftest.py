from __future__ import annotations

import pytest
from robots import Arm, AsyncArm

import chiral


@pytest.fixture
def arm():
    with Arm() as server:
        yield server


@pytest.fixture(params=[Arm, AsyncArm])
def any_arm(request):
    with request.param() as server:
        yield server


@pytest.fixture
def client(arm):
    with chiral.PolicyClient(arm.uri, connect_timeout=20) as client:
        yield client
