"""The whole program, run here under the configurations that people have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from control_plane.deployment import SECRETS
from rehearsal.program import HOME, PROJECT, StackConfig, run
from tests.infra.component import ACCOUNT, REGION, Answer, Recorder, Registrations

OFFLINE = {"HF_HUB_OFFLINE": "1"}
TOKEN = "hf_" + "x" * 34
CERTIFICATE = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/12345678-1234-1234-1234-123456789012"

CODER = "Qwen/Qwen3-Coder-30B-A3B-Instruct"
GENERAL = "Qwen/Qwen3-14B-AWQ"

GITHUB_SECRET = "gh-" + "x" * 37

WEBHOOK = "https://hooks.example.org/services/" + "x" * 24

TRACES_HEADERS = "x-key=" + "y" * 37

DIGEST = "sha256:" + "ab" * 32

_DOMAIN = {"domain": "llm.example.org", "certificateArn": CERTIFICATE}

CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "as published": {},
    "with a domain": _DOMAIN,
    "with a domain and its zone": {**_DOMAIN, "hostedZoneId": "Z0123456789ABC"},
    "without a CDN": {**_DOMAIN, "edge": "public", "hostedZoneId": "Z0123456789ABC"},
    "on Spot": {"market": "spot"},
    "on Spot, else On-Demand": {"market": "spot-then-on-demand"},
    "one model": {"models": [CODER]},
    "with a token": {"hfToken": TOKEN},
    "with sign-in": {
        "keysOnly": False,
        "googleClientId": "1234-abc.apps.googleusercontent.com",
        "githubClientId": "Iv1.0123456789abcdef",
        "githubClientSecret": GITHUB_SECRET,
        "oidcProviders": [{"name": "work", "issuer": "https://login.example.org", "clientId": "diogenes"}],
    },
    "with notices": {"notificationEmails": ["ann@example.org", "me@example.com"], "notificationWebhook": WEBHOOK},
    "for Intel": {"architecture": "amd64"},
    "a pinned image": {"amiId": "ami-0fedcba9876543210"},
    "a baked image": {"bakeImage": True},
    "watched": {
        "metricsFrom": "10.40.0.0/16",
        "tracesEndpoint": "https://otlp.example.org/v1/traces",
        "tracesHeaders": TRACES_HEADERS,
    },
    "a container": {"engine": "container", "engineImage": "vllm/vllm-openai:v0.32.0"},
}
"""Changes to the published stack file; ``market`` is that of all models, ``models`` are names of those to keep."""


_BALANCING = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}"
_OUTPUTS: Mapping[str, Answer] = {
    "docker-build:index:Image": lambda given: {"digest": DIGEST, "ref": f"{given['tags'][0]}@{DIGEST}"},
    "lb/listener:Listener": lambda given: {"arn": f"{_BALANCING}:listener/app/desk/50dc6c495c0c9188/{given['id']}"},
    "lb/targetGroup:TargetGroup": lambda given: {"arn": f"{_BALANCING}:targetgroup/{given['name']}/73e2d6bc24d8a067"},
    "ecs/cluster:Cluster": lambda given: {"arn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{given['name']}"},
    "ecs/service:Service": lambda given: {"id": f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/desk/{given['name']}"},
    "ecr/repository:Repository": lambda given: {
        "arn": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{given['name']}",
        "registryId": ACCOUNT,
        "repositoryUrl": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{given['name']}",
    },
    "cloudwatch/logGroup:LogGroup": lambda given: {"arn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{given['name']}"},
}
"""Beside those that a Recorder knows by itself: ARNs as AWS forms them, for the policies that are checked."""


@dataclass(frozen=True)
class Ran:
    """One run of the program."""

    exports: Mapping[str, Any]
    registrations: Registrations
    recorder: Recorder


def stack_config(stack: str = "desk", secrets: frozenset[str] = frozenset(), **changes: Any) -> StackConfig:
    """The published stack file with changes, as a stack's configuration. None takes a value away."""
    published = StackConfig.of_file(HOME / "Pulumi.prod.yaml", stack=stack).values
    models: list[Mapping[str, Any]] = list(published[f"{PROJECT}:models"])
    kept = changes.pop("models", None)
    market = changes.pop("market", None)
    if kept is not None:
        models = [model if isinstance(model, Mapping) else _named(models, model) for model in kept]
    if market is not None:
        models = [{**model, "market": market} for model in models]
    given = {"allowedEmails": ["me@example.com", "*@example.org"], "keysOnly": True, "models": models, **changes}
    values = {**published, "aws:region": REGION, **{f"{PROJECT}:{name}": value for name, value in given.items()}}
    return StackConfig(stack, {name: value for name, value in values.items() if value is not None}, secrets)


def ran(**changes: Any) -> Ran:
    """The program under the published configuration with these changes; a secret among them is one."""
    secrets = frozenset(f"{PROJECT}:{name}" for name in SECRETS if name in changes)
    return run_stack(stack_config(secrets=secrets, **changes))


def run_stack(config: StackConfig, **calls: Any) -> Ran:
    """The program with a monitor that makes nothing. Raises what the program raised."""
    recorder = recording(**calls)
    exports = run(config, recorder, environment=OFFLINE)
    return Ran(exports, recorder.registrations, recorder)


def recording(**calls: Any) -> Recorder:
    """A monitor that answers what the program reads; ``calls`` answer AWS functions by the end of their name."""
    return Recorder(
        outputs=_OUTPUTS,
        calls={f":{name}": _always(answer) for name, answer in calls.items()},
    )


def _always(answer: Mapping[str, Any]) -> Answer:
    return lambda _: answer


@cache
def configured(name: str) -> Ran:
    """The program under one of the configurations, run once."""
    return ran(**CONFIGURATIONS[name])


def text(inputs: Mapping[str, Any]) -> str:
    """A registration's inputs to be compared or searched; a file is told by its path."""
    return json.dumps(inputs, sort_keys=True, default=vars)


def _named(models: list[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next(model for model in models if model["name"] == name)
