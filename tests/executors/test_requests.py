"""What jobs ask a cluster for."""

from __future__ import annotations

import pytest

from bench.errors import BenchError
from bench.executors.requests import GIBIBYTE, Request, Requests
from bench.runner import jobs_for

from .conftest import Tiny


def asked(tiny: Tiny, *rules: str, accelerated: bool = False) -> dict[str, Request]:
    jobs = jobs_for(tiny.plan("kd"), set(), results=tiny.base, threads=2)
    requests = Requests(2, accelerated, rules)
    return {job.title.split(" · ")[0]: requests.of(job) for job in jobs}


def test_a_job_asks_for_its_threads_and_a_device_of_its_own(tiny: Tiny) -> None:
    for request in asked(tiny, accelerated=True).values():
        assert (request.cpus, request.gpus, request.memory) == (2, 1, 2.5)
    assert {request.gpus for request in asked(tiny).values()} == {0}


def test_rules_change_requests_by_task_preset_and_kind(tiny: Tiny) -> None:
    found = asked(
        tiny, "*:gpus=0.5", "cifar10/quick:memory=3", "*/teacher:gpus=1", accelerated=True
    )
    assert found["train teacher"] == Request(cpus=2, gpus=1, memory=3)
    assert found["run teacher"] == found["kd"] == Request(cpus=2, gpus=0.5, memory=3)
    assert asked(tiny, "amazon/quick:cpus=7")["kd"].cpus == 2


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("*:gpu=1", "did you mean 'gpus'"),
        ("*:cpus=0", "greater than 0"),
        ("*:memory=lots", "memory = 'lots'"),
        ("*:gpus=1.5", "a fraction of one, or whole"),
        ("*", "asks for nothing"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule: str, complaint: str) -> None:
    with pytest.raises(BenchError, match=complaint):
        Requests(1, True, [rule])


def test_gpus_on_the_processor_and_rules_about_nothing_are_refused(tiny: Tiny) -> None:
    with pytest.raises(BenchError, match="no gpus on device cpu"):
        Requests(1, False, ["*:gpus=1"])
    with pytest.raises(BenchError, match="did you mean 'cifar10/quick/cell'"):
        Requests(1, False, ["cifar1/quick/cell:cpus=2"]).check(tiny.plan("kd").cells)


def test_a_node_takes_as_many_as_its_scarcest_resource_allows() -> None:
    request = Request(cpus=1, gpus=0.25, memory=2)
    assert request.fits({"CPU": 8, "GPU": 1, "memory": 100 * GIBIBYTE}) == 4
    assert request.fits({"CPU": 8, "GPU": 1, "memory": 5 * GIBIBYTE}) == 2
    assert request.fits({"CPU": 8, "memory": 100 * GIBIBYTE}) == 0
