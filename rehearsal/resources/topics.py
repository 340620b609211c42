"""Topics of SNS, and who gets what is published there."""

from __future__ import annotations

from rehearsal.resources.given import Api, Given, Made


def topic(given: Given, api: Api) -> Made:
    arn = api.call("sns", "CreateTopic", name=given.need("name"), tags=given.take("tags"))["TopicArn"]
    return Made(arn, {"arn": arn})


def subscription(given: Given, api: Api) -> Made:
    asked = {name: given.need(name) for name in ("protocol", "endpoint")}
    arn = api.call("sns", "Subscribe", topicArn=given.need("topic"), returnSubscriptionArn=True, **asked)
    return Made(arn["SubscriptionArn"], {"arn": arn["SubscriptionArn"]})
