"""DynamoDB: tables, and rows that stand in them from the start."""

from __future__ import annotations

import json

from rehearsal.resources.given import Api, Given, Made


def table(given: Given, api: Api) -> Made:
    name, ttl, recovery = given.need("name"), given.take("ttl"), given.take("pointInTimeRecovery")
    keys = {given.need("hashKey"): "HASH"}
    if range_key := given.take("rangeKey"):
        keys[range_key] = "RANGE"
    attributes = [
        {"attributeName": attribute["name"], "attributeType": attribute["type"]}
        for attribute in given.need("attributes")
    ]
    made = api.call(
        "dynamodb",
        "CreateTable",
        tableName=name,
        keySchema=[{"attributeName": key, "keyType": kind} for key, kind in keys.items()],
        attributeDefinitions=attributes,
        **given.rest(),
    )["TableDescription"]
    if ttl:
        api.call("dynamodb", "UpdateTimeToLive", tableName=name, timeToLiveSpecification=ttl)
    if recovery:
        wanted = {"pointInTimeRecoveryEnabled": recovery["enabled"]}
        api.call("dynamodb", "UpdateContinuousBackups", tableName=name, pointInTimeRecoverySpecification=wanted)
    return Made(name, {"arn": made["TableArn"]})


def item(given: Given, api: Api) -> Made:
    """Like AWS's provider: a row that is there already is an error, and stays as it is."""
    name, hash_key, row = given.need("tableName"), given.need("hashKey"), json.loads(given.need("item"))
    api.call(
        "dynamodb",
        "PutItem",
        tableName=name,
        item=row,
        conditionExpression="attribute_not_exists(#key)",
        expressionAttributeNames={"#key": hash_key},
    )
    return Made(f"{name}|{hash_key}||{row[hash_key]['S']}||")
