"""Stacks' configurations: a sound one, and what can be wrong with it, each with what must be said about it."""

from __future__ import annotations

from typing import Any

from tests.geometries import LLAMA_8B_LONG

ARN = "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c3d"
NUMBERS_8B: dict[str, Any] = {**LLAMA_8B_LONG, "attentionHeads": 32}
NUMBERS_32B = NUMBERS_8B | {
    "parameters": 32762106880,
    "embeddingParameters": 1555824640,
    "layers": 64,
    "hiddenSize": 5120,
    "intermediateSize": 25600,
    "vocabSize": 151936,
    "attentionHeads": 64,
    "maxModelLen": 40960,
}
SMALL: dict[str, Any] = {
    "name": "org/Small-8B",
    "instanceTypes": ["g5.xlarge"],
    "vllmArgs": "--max-model-len 16384",
    "geometry": NUMBERS_8B,
}
LARGE: dict[str, Any] = SMALL | {
    "name": "org/Large-32B",
    "vllmArgs": "--max-model-len 8192 --reasoning-parser qwen3",
    "geometry": NUMBERS_32B,
}
SOUND: dict[str, Any] = {"models": [SMALL], "allowedEmails": ["me@example.org"], "keysOnly": True}

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"models": []}, "no model is configured"),
    "models as an object": ({"models": {"name": "x"}}, "models is not a list"),
    "models as broken text": ({"models": "[{"}, "models is not a list"),
    "a model as text": ({"models": [SMALL, "org/Other"]}, "models[1] is 'org/Other', and must be an object"),
    "a name twice": ({"models": [SMALL, SMALL]}, "models[1] (org/Small-8B): configured twice"),
    "a slug twice": (
        {"models": [SMALL, SMALL | {"name": "org.Small-8B"}]},
        "would have the names of those of org/Small-8B",
    ),
    "no name": ({"models": [{**SMALL, "name": "a b"}]}, "name 'a b' is not a model name"),
    "no repository": (
        {"models": [{**SMALL, "repository": "org/Small 8B"}]},
        "repository 'org/Small 8B' is no repository of the hub, as in owner/name",
    ),
    "a name that is no repository": (
        {"models": [{**SMALL, "name": "small:8b"}]},
        "repository is not set, and the name 'small:8b' is no repository of the hub",
    ),
    "no revision": ({"models": [{**SMALL, "revision": "v 2"}]}, "revision 'v 2' is no git revision"),
    "no types": ({"models": [{**SMALL, "instanceTypes": []}]}, "instanceTypes must list at least one"),
    "types as text": ({"models": [{**SMALL, "instanceTypes": "g5.xlarge"}]}, "instanceTypes must list at least one"),
    "a type that is none": ({"models": [{**SMALL, "instanceTypes": ["g5"]}]}, "'g5' is not an EC2 instance type"),
    "a type twice": ({"models": [{**SMALL, "instanceTypes": ["g5.xlarge"] * 2}]}, "names g5.xlarge twice"),
    "an unknown type": ({"models": [{**SMALL, "instanceTypes": ["g9.xlarge"]}]}, "known are g5.xlarge, "),
    "an idle timeout of 0": ({"models": [{**SMALL, "idleTimeout": 0}]}, "idleTimeout must be a whole number from 1"),
    "an unknown market": ({"models": [{**SMALL, "market": "auction"}]}, "market 'auction' must be one of"),
    "a misspelt key": ({"models": [{**SMALL, "idelTimeout": 60}]}, "did you mean idleTimeout?"),
    "a foreign key": ({"models": [{**SMALL, "ebsSnapshotId": "snap-1"}]}, "unknown setting 'ebsSnapshotId'"),
    "a reserved argument": (
        {"models": [{**SMALL, "vllmArgs": "--port 1 --max-model-len 8192"}]},
        "must not set --port",
    ),
    "an open quote": ({"models": [{**SMALL, "vllmArgs": "--chat-template 'x"}]}, "cannot be split into words"),
    "an odd argument": ({"models": [{**SMALL, "vllmArgs": "--max-model-len 8x"}]}, "--max-model-len cannot be '8x'"),
    "a poor geometry": ({"models": [{**SMALL, "geometry": {"layers": 3}}]}, "geometry lacks parameters"),
    "nobody": ({"allowedEmails": []}, "allowedEmails is empty"),
    "no address": ({"allowedEmails": ["me@example.org", "you"]}, "allowedEmails[1] is 'you', which is no address"),
    "addresses as text": ({"allowedEmails": "me@example.org"}, "allowedEmails is not a list"),
    "a domain as owner": ({"allowedEmails": ["*@example.org"]}, "the first must be one person"),
    "the published owner": (
        {"allowedEmails": ["You@example.com", "me@example.org"]},
        "allowedEmails[0] is You@example.com, a placeholder: alerts would go to a stranger",
    ),
    "an address twice": (
        {"allowedEmails": ["me@example.org", "Ann@example.org", "*@example.net", "ann@Example.org", "me@example.org"]},
        "allowedEmails[3] is ann@Example.org, which is in the list already",
    ),
    "too many addresses": (
        {"allowedEmails": [f"somebody-{number:05}@example.org" for number in range(200)]},
        "allowedEmails has 5,399 characters, commas included, and 4,096 can be kept",
    ),
    "too many addresses, some twice": (
        {"allowedEmails": [f"somebody-{number % 190:05}@example.org" for number in range(200)]},
        "allowedEmails[190] is somebody-00000@example.org, which is in the list already",
    ),
    "no sign-in": ({"keysOnly": False}, "nobody could sign in"),
    "keysOnly of a kind": ({"keysOnly": "yes"}, "keysOnly is 'yes', and must be true or false"),
    "no client id": ({"googleClientId": "abc"}, "googleClientId is 'abc', which does not look like"),
    "an issuer in clear": (
        {"oidcProviders": [{"name": "x", "issuer": "http://id.example.org", "clientId": "y"}]},
        "oidcProviders[0].issuer is 'http://id.example.org', which is not an https URL",
    ),
    "a nameless issuer": (
        {"oidcProviders": [{"issuer": "https://id.example.org", "clientId": "y", "secret": "z"}]},
        "oidcProviders[0].name is None",
    ),
    "an issuer without an id": (
        {"oidcProviders": [{"name": "x", "issuer": "https://id.example.org"}]},
        "oidcProviders[0].clientId is None",
    ),
    "an issuer as text": (
        {"oidcProviders": ["https://id.example.org"]},
        "must be an object of name, issuer and clientId",
    ),
    "two issuers of a name": (
        {"oidcProviders": [{"name": "x", "issuer": "https://id.example.org", "clientId": "y"}] * 2},
        "oidcProviders[1] has the name of another",
    ),
    "two issuers of nearly a name": (
        {
            "oidcProviders": [
                {"name": name, "issuer": "https://id.example.org", "clientId": "y"} for name in ("Work", "x", "work")
            ]
        },
        "oidcProviders[2] has the name of another sign-in, work",
    ),
    "two issuers that are none": ({"oidcProviders": ["x", "x"]}, "oidcProviders[1] is 'x', and must be an object"),
    "two nameless issuers": (
        {"oidcProviders": [{"issuer": "https://id.example.org", "clientId": "y"}] * 2},
        "oidcProviders[1].name is None",
    ),
    "a second Google": (
        {
            "googleClientId": "12-ab.apps.googleusercontent.com",
            "oidcProviders": [{"name": "Google", "issuer": "https://accounts.google.com", "clientId": "y"}],
        },
        "oidcProviders[0] has the name of another sign-in, Google",
    ),
    "an unknown edge": ({"edge": "nginx"}, "edge is 'nginx', and must be one of cloudfront, public"),
    "a domain without a certificate": (
        {"domain": "llm.example.org"},
        "llm.example.org wants a certificate, in us-east-1",
    ),
    "no domain at a public edge": ({"edge": "public", "certificateArn": ARN}, "edge public wants a domain"),
    "nothing at a public edge": ({"edge": "public"}, "edge public wants a domain"),
    "a certificate without a domain": ({"certificateArn": ARN}, "certificateArn is of no use without a domain"),
    "a zone without a domain": ({"hostedZoneId": "Z0123456789"}, "hostedZoneId is of no use without a domain"),
    "a certificate from elsewhere": (
        {"domain": "llm.example.org", "certificateArn": ARN.replace("us-east-1", "eu-west-1")},
        "the certificate is in eu-west-1, and edge cloudfront takes one from us-east-1 only",
    ),
    "a certificate of another partition": (
        {"domain": "llm.example.org", "certificateArn": ARN.replace("aws", "aws-us-gov", 1)},
        "certificateArn is 'arn:aws-us-gov:acm:",
    ),
    "no certificate's name": ({"domain": "llm.example.org", "certificateArn": "mine"}, "certificateArn is 'mine'"),
    "no domain's name": ({"domain": "llm", "certificateArn": ARN}, "domain is 'llm', which does not look like"),
    "too few zones": ({"zones": 1}, "zones is 1, and must be a whole number of zones: 2 to 6"),
    "too many zones": ({"zones": "7"}, "zones is '7'"),
    "an odd architecture": ({"architecture": "riscv"}, "architecture is 'riscv', and must be one of arm64, amd64"),
    "odd cpu": ({"cpu": 300}, "cpu is 300, and must be a whole number of 1/1024 vCPU: 256, 512, 1024, 2048"),
    "odd memory": (
        {"cpu": 256, "memory": 3072},
        "Fargate has no task with cpu 256 and memory 3072: it allows 512, 1024",
    ),
    "a default memory that is too small": ({"cpu": 2048}, "Fargate has no task with cpu 2048 and memory 1024"),
    "fewer executions than AWS gives anybody": ({"lambdaConcurrency": 5}, "lambdaConcurrency is 5"),
    "a hasty control plane": ({"controlPlaneIdleTimeout": 5}, "controlPlaneIdleTimeout is 5"),
    "an odd retention": (
        {"logRetentionDays": 8},
        "logRetentionDays is 8, and must be a whole number of days: 1, 3, 5, 7",
    ),
    "metrics for the world": ({"metricsFrom": "0.0.0.0/0"}, "metricsFrom is '0.0.0.0/0'"),
    "metrics for a public range": ({"metricsFrom": "172.40.0.0/16"}, "metricsFrom is '172.40.0.0/16'"),
    "metrics for more than a private range": ({"metricsFrom": "172.16.0.0/8"}, "which is no range"),
    "metrics for no range": ({"metricsFrom": "10.300.0.0/16"}, "which is no range"),
    "traces in clear": ({"tracesEndpoint": "http://otlp.example.org/v1/traces"}, "tracesEndpoint is"),
    "traces to another port": (
        {"tracesEndpoint": "https://otlp.example.org:4318"},
        "tracesEndpoint is",
    ),
    "traces with a password": ({"tracesEndpoint": "https://me:secret@otlp.example.org"}, "tracesEndpoint is"),
    "no image": ({"amiId": "ubuntu"}, "amiId is 'ubuntu', which does not look like ami-"),
    "a small disk": ({"rootVolumeGb": 20}, "rootVolumeGb is 20"),
    "addresses to tell as text": ({"notificationEmails": "ann@example.org"}, "notificationEmails is not a list"),
    "a domain to tell": (
        {"notificationEmails": ["ann@example.org", "*@example.org"]},
        "notificationEmails[1] is '*@example.org', which is no address",
    ),
    "somebody to tell twice": (
        {"notificationEmails": ["ann@example.org", "Ann@example.org"]},
        "notificationEmails[1] is Ann@example.org, which is in the list already",
    ),
    "a disk that needs more operations": ({"rootVolumeMibS": 1000}, "rootVolumeMibS is 1000"),
    "no budget": ({"monthlyBudgetUsd": 0}, "monthlyBudgetUsd is 0"),
    "a foreign setting": ({"idleTimeout": 5}, "idleTimeout is not a setting of Diogenes"),
    "too large for its GPU": (
        {"models": [{**LARGE, "instanceTypes": ["g5.xlarge"]}]},
        "models[0] (org/Large-32B) does not fit g5.xlarge: it needs 61.0 (weights) + 2.0 (KV cache of 8192 tokens) + "
        "1.6 (overhead) = 64.6 GiB a GPU; 0.92 of an A10G's 22 GiB is 20.2: 44.3 GiB too few. The cheapest type that "
        "it fits is g6.12xlarge (4.60 $ an hour, with --tensor-parallel-size 4)",
    ),
    "too large for some of its types": (
        {"models": [{**SMALL, "instanceTypes": ["g5.12xlarge", "g5.xlarge"], "vllmArgs": "-tp 4"}]},
        "does not fit g5.xlarge: its arguments ask for 4 GPUs, and the instance has 1 GPU. The cheapest type that it "
        "fits is g6.12xlarge (4.60 $ an hour)",
    ),
    "too large for all but one of its types": (
        {"models": [{**LARGE, "instanceTypes": ["p5.4xlarge", "g5.xlarge"], "vllmArgs": "--max-model-len 8192"}]},
        "does not fit g5.xlarge",
    ),
    "too large for two types": (
        {"models": [{**LARGE, "instanceTypes": ["g5.xlarge", "g6.xlarge"]}]},
        "does not fit g6.xlarge",
    ),
    "GPUs left unused": ({"models": [{**LARGE, "instanceTypes": ["g6.12xlarge"]}]}, "does not fit g6.12xlarge"),
    "too large for anything": (
        {
            "models": [
                {
                    **LARGE,
                    "geometry": NUMBERS_32B | {"parameters": 2 * 10**12},
                    "instanceTypes": ["g5.xlarge", "g5.48xlarge"],
                },
                SMALL,
            ]
        },
        "models[0] (org/Large-32B) does not fit g5.xlarge",
    ),
    "quantised by argument only": (
        {"models": [{**SMALL, "vllmArgs": "--max-model-len 8192 --quantization awq"}]},
        "--quantization awq fails at start: the repository is not quantised",
    ),
    "longer than the model allows": (
        {"models": [{**LARGE, "instanceTypes": ["g5.12xlarge"], "vllmArgs": "-tp 4 --max-model-len 65536"}]},
        "--max-model-len 65536 is more than the 40960 tokens",
    ),
}
