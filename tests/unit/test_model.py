"""What an operator may configure, and what a configuration is refused for."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.model import (
    DEFAULT_IDLE_TIMEOUT_S,
    MAX_SLUG_CHARS,
    MAX_VLLM_ARGS_CHARS,
    InvalidModel,
    Market,
    Model,
    check_override,
    parse_catalog,
    slug,
)
from tests.geometries import LLAMA_8B

SMALL: dict[str, Any] = {"name": "org/Small-8B", "instanceTypes": ["g6.xlarge", "g5.xlarge"]}
GEOMETRY: dict[str, Any] = dict(LLAMA_8B)


def problems_of(config: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidModel) as refused:
        Model.parse(config)
    return refused.value.problems


def test_a_name_and_its_instance_types_are_enough() -> None:
    model = Model.parse(SMALL)
    assert (model.repository, model.revision, model.vllm_args) == ("org/Small-8B", None, ())
    assert (model.idle_timeout_s, model.market, model.max_instances) == (DEFAULT_IDLE_TIMEOUT_S, Market.ON_DEMAND, 1)
    assert model.instance_types == ("g6.xlarge", "g5.xlarge")


def test_everything_that_is_configured_arrives() -> None:
    model = Model.parse(
        SMALL
        | {
            "repository": "org/Small-8B-AWQ",
            "revision": "abc123",
            "vllmArgs": "--max-model-len 8192 --override-generation-config '{\"top_p\": 0.9}'",
            "idleTimeout": 60,
            "market": "spot",
            "maxInstances": 2,
        }
    )
    assert (model.repository, model.revision) == ("org/Small-8B-AWQ", "abc123")
    assert model.vllm_args == ("--max-model-len", "8192", "--override-generation-config", '{"top_p": 0.9}')
    assert (model.idle_timeout_s, model.market, model.max_instances) == (60, Market.SPOT, 2)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": None}, "not a model name"),
        ({"name": "-dash"}, "not a model name"),
        ({"name": "a b"}, "not a model name"),
        ({"name": "x" * 129}, "not a model name"),
        ({"repository": 5}, "repository must be text"),
        ({"repository": None}, "repository must be text"),
        ({"revision": ["main"]}, "revision must be text"),
        ({"instanceTypes": []}, "at least one EC2 instance type"),
        ({"instanceTypes": "g6.xlarge"}, "at least one EC2 instance type"),
        ({"instanceTypes": ["g6"]}, "'g6' is not an EC2 instance type"),
        ({"instanceTypes": [7]}, "7 is not an EC2 instance type"),
        ({"market": "auction"}, "must be one of on-demand, spot, spot-then-on-demand"),
        ({"weights": "torrent"}, "must be one of hub, s3"),
        ({"idleTimeout": 0}, "idleTimeout must be a whole number from 1 to 86400"),
        ({"idleTimeout": 86401}, "idleTimeout must be a whole number"),
        ({"idleTimeout": 2.5}, "idleTimeout must be a whole number"),
        ({"maxInstances": True}, "maxInstances must be a whole number from 1 to 8"),
        ({"maxInstances": 9}, "maxInstances must be a whole number"),
        ({"maxLifetime": 3599}, "maxLifetime must be a whole number from 3600 to 604800"),
        ({"maxLifetime": 604801}, "maxLifetime must be a whole number"),
        ({"maxLifetime": "1d"}, "maxLifetime must be a whole number"),
        ({"vllmArgs": ["--x"]}, "vllmArgs must be text"),
        ({"vllmArgs": "x" * (MAX_VLLM_ARGS_CHARS + 1)}, "vllmArgs must be text of at most"),
        ({"vllmArgs": "--chat-template 'open"}, "cannot be split"),
        ({"vllmArgs": "--port 1"}, "vllmArgs must not set --port"),
        ({"vllmArgs": "--served-model-name=other"}, "vllmArgs must not set --served-model-name"),
        ({"idelTimeout": 5}, "unknown setting 'idelTimeout'"),
        ({"instanceTypes": ["g6.xlarge", "g5.xlarge", "g6.xlarge"]}, "instanceTypes names g6.xlarge twice"),
        ({"geometry": 80}, "geometry must be an object of numbers"),
        ({"geometry": GEOMETRY | {"layers": "many"}}, "geometry's layers is 'many'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_reason(change: dict[str, Any], problem: str) -> None:
    (told,) = problems_of(SMALL | change)
    assert problem in told


@pytest.mark.parametrize(
    "repository",
    [
        *("a b", "a/b/c", "../x", "a/..", "a..b", "a--b", "-a/b", "a/-b", "a/b-", ".a", "a/b.", "a/", "/a", "x.git"),
        *("a\\b", "a:b", "a@b", "ä/b", "a/b\n", "https://hub.example.org/a", "~/a", "a" * 97, "a/" + "b" * 97),
    ],
)
def test_a_repository_is_one_that_the_hub_could_have(repository: str) -> None:
    (told,) = problems_of(SMALL | {"repository": repository})
    assert told == f"org/Small-8B: repository {repository!r} is no repository of the hub, as in owner/name"


@pytest.mark.parametrize("repository", ["gpt2", "Qwen/Qwen2.5-7B", "o_1/_m.v2-x_", "a/b", "a" * 96 + "/" + "b" * 96])
def test_the_hubs_own_characters_and_a_name_without_an_owner_are_fine(repository: str) -> None:
    assert Model.parse(SMALL | {"repository": repository}).repository == repository


@pytest.mark.parametrize("name", ["small:8b", "a/b/c", "a..b", "x" * 97])
def test_a_name_that_is_no_repository_wants_one(name: str) -> None:
    (told,) = problems_of(SMALL | {"name": name})
    assert f"repository is not set, and the name {name!r} is no repository of the hub" in told
    assert Model.parse(SMALL | {"name": name, "repository": "org/Small-8B"}).name == name


@pytest.mark.parametrize(
    "revision",
    [
        *("a b", "..", "a..b", "/a", "a/", "a//b", "a/.b", "-a", "--x", ".a", "a.", "a.lock", "a.lock/b", "a~1"),
        *("a^", "a:b", "a?", "a*", "a[0]", "a\\b", "a@{1}", "a\n", "ä", "x" * 256),
    ],
)
def test_a_revision_is_one_that_git_could_have(revision: str) -> None:
    (told,) = problems_of(SMALL | {"revision": revision})
    assert told == f"org/Small-8B: revision {revision!r} is no git revision"


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/3", "gptq-4bit-32g-actorder_True", "6f2c" * 10, "v1+q4"])
def test_branches_tags_and_commits_are_revisions(revision: str) -> None:
    assert Model.parse(SMALL | {"revision": revision}).revision == revision


def test_all_problems_of_a_model_are_told_at_once_and_name_it() -> None:
    told = problems_of(SMALL | {"market": "auction", "idleTimeout": 0, "vllmArgs": "--host x --port 1"})
    assert len(told) == 4
    assert all(problem.startswith("org/Small-8B: ") for problem in told)


def test_all_problems_of_a_catalogue_are_told_at_once() -> None:
    other = SMALL | {"name": "other"}
    with pytest.raises(InvalidModel) as refused:
        parse_catalog([SMALL, SMALL, other | {"market": "auction"}, {"name": "bare"}])
    assert [problem.split(":")[0] for problem in refused.value.problems] == ["other", "bare", "org/Small-8B"]


def test_a_catalogue_keeps_its_order() -> None:
    models = parse_catalog([SMALL | {"name": name} for name in ("b", "c", "a")])
    assert [model.name for model in models] == ["b", "c", "a"]


def test_a_model_may_bring_its_own_geometry() -> None:
    assert Model.parse(SMALL | {"geometry": GEOMETRY}).config["geometry"] == GEOMETRY


def test_a_fault_names_the_key_that_is_wrong() -> None:
    with pytest.raises(InvalidModel) as refused:
        Model.parse(SMALL | {"instanceTypes": ["g6.xlarge", 7, "g6.xlarge"], "market": "auction", "speed": 1})
    told = [(fault.key, fault.surplus) for fault in refused.value.faults]
    assert told == [("speed", True), ("instanceTypes[1]", False), ("instanceTypes[2]", True), ("market", False)]


def test_a_ladder_tries_spot_before_on_demand() -> None:
    assert list(Market.SPOT_THEN_ON_DEMAND.ladder) == ["spot", "on-demand"]
    assert list(Market.SPOT.ladder) == ["spot"]
    assert list(Market.ON_DEMAND.ladder) == ["on-demand"]


def test_an_override_wins_and_the_configuration_stays_known() -> None:
    model = Model.parse(SMALL | {"idleTimeout": 300}, {"idleTimeout": 900})
    assert (model.idle_timeout_s, model.config["idleTimeout"], model.override) == (900, 300, {"idleTimeout": 900})


def test_a_new_override_replaces_the_old_one_whole() -> None:
    model = Model.parse(SMALL, {"idleTimeout": 900})
    changed = check_override(model, {"maxInstances": 2})
    assert (changed.idle_timeout_s, changed.max_instances) == (DEFAULT_IDLE_TIMEOUT_S, 2)


@pytest.mark.parametrize("key", ["name", "repository", "revision", "instanceTypes", "market", "nonsense"])
def test_hardware_and_identity_are_not_overridden(key: str) -> None:
    with pytest.raises(InvalidModel, match=f"{key} cannot be changed here"):
        check_override(Model.parse(SMALL), {key: "x"})


def test_an_override_is_checked_like_a_configuration() -> None:
    with pytest.raises(InvalidModel, match="maxInstances"):
        check_override(Model.parse(SMALL), {"maxInstances": 99})


@pytest.mark.parametrize(
    ("name", "slugged"), [("Qwen/Qwen2.5-7B", "qwen-qwen2-5-7b"), ("a__b", "a-b"), ("x:latest.", "x-latest")]
)
def test_a_slug_is_fit_for_the_name_of_an_aws_resource(name: str, slugged: str) -> None:
    assert slug(name) == slugged


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}", fullmatch=True))
def test_every_valid_name_has_a_slug(name: str) -> None:
    Model.parse(SMALL | {"name": name, "repository": "org/Small-8B"})
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(name))
    assert len(slug(name)) <= MAX_SLUG_CHARS


def test_a_long_name_is_cut_and_still_told_from_its_neighbour() -> None:
    name = "casperhansen/deepseek-r1-distill-llama-70b-awq"
    assert slug(name) == slug(name)
    assert slug(name).startswith("casperhansen-deepseek-r1-")
    assert slug(name) != slug(name + "-2")
    assert slug("x" * MAX_SLUG_CHARS) == "x" * MAX_SLUG_CHARS


def test_weights_come_from_the_hub_unless_they_shall_be_mirrored_and_no_override_moves_them() -> None:
    assert Model.parse(SMALL).weights == "hub"
    assert Model.parse(SMALL | {"weights": "s3"}).weights == "s3"
    with pytest.raises(InvalidModel, match="weights cannot be changed here"):
        check_override(Model.parse(SMALL), {"weights": "s3"})


def test_a_node_lives_for_a_day_unless_its_model_says_otherwise() -> None:
    assert Model.parse(SMALL).max_lifetime_s == 86400
    assert Model.parse({**SMALL, "maxLifetime": 7200}).max_lifetime_s == 7200
    with pytest.raises(InvalidModel, match="maxLifetime cannot be changed here"):
        check_override(Model.parse(SMALL), {"maxLifetime": 7200})
