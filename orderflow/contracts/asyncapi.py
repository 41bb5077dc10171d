"""The AsyncAPI 3 description of the topics: messages, keys, headers, writers and readers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from orderflow.contracts.components import Components
from orderflow.contracts.messages import EXTENSIONS, Message, all_messages
from orderflow.contracts.schemas import Read, Written, WrittenWithNulls, generator
from orderflow.messaging import cloudevent, topics
from orderflow.version import version

Json = dict[str, Any]

_BINDING: Final = "0.5.0"
_INBOX_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Channel:
    """reader: the stage whose KafkaSource reads the topic. writers: our stages that write to it."""

    name: str
    topic: str
    text: str
    reader: str
    writers: tuple[str, ...]
    max_bytes: int = topics.MAX_BYTES


_CHANNELS: Final = (
    _Channel(
        "inbox",
        topics.INBOX,
        "What shops, payment providers, warehouses and operators report about orders. An event has at most "
        f"{cloudevent.MAX_EXTENSIONS} extension attributes, and {cloudevent.MAX_ATTRIBUTES_SIZE} bytes of attributes.",
        "validate",
        ("intake", "query", "shelve"),
        _INBOX_BYTES,
    ),
    _Channel(
        "events", topics.EVENTS, "Verdicts on placed orders, and well-formed updates.", "track", ("validate",)
    ),
    _Channel("status", topics.STATUS, "The state of an order after each change.", "notify", ("track",)),
    _Channel(
        "parked",
        topics.PARKED,
        "Events that could not be handled, unchanged, and operators' actions on them.",
        "shelve",
        ("validate", "track", "notify", "shelve", "park", "query"),
    ),
)


def describe() -> Json:
    by_topic = {
        topic: list(messages) for topic, messages in groupby(all_messages(), key=lambda each: each.topic)
    }
    components = Components()
    for kind, suffix in ((Read, ""), (Written, "Written"), (WrittenWithNulls, "Written")):
        models = [
            model
            for message in all_messages()
            if generator(message, "written") is kind
            for model in message.models
        ]
        components.define(dict.fromkeys(models), kind, "validation", suffix)
    messages = {
        f"{channel.name}.{message.kind}": _message(message, components)
        for channel in _CHANNELS
        for message in by_topic[channel.topic]
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Orderflow: topics",
            "version": version(),
            "description": "CloudEvents 1.0 in Kafka's binary mode. All topics have the same number of partitions and"
            " the order id as key, so that the events of one order stay in sequence from topic to topic.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": cloudevent.JSON,
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "Producers are idempotent, with acks=all and the partitioner murmur2.",
                "variables": {"bootstrap": {"default": "127.0.0.1:9092"}},
            }
        },
        "channels": {channel.name: _channel(channel, by_topic[channel.topic]) for channel in _CHANNELS},
        "operations": {
            name: operation for channel in _CHANNELS for name, operation in _operations(channel).items()
        },
        "components": {
            "messages": messages,
            "schemas": components.sorted(),
            "messageTraits": {"cloudEvent": _TRAIT},
            "operationTraits": {"atLeastOnce": _AT_LEAST_ONCE, "confirmed": _CONFIRMED},
        },
    }


_TRAIT: Final[Json] = {
    "contentType": cloudevent.JSON,
    "headers": {
        "type": "object",
        "properties": {
            "content-type": {"type": "string", "description": "The content type of the data."},
            "ce_specversion": {"type": "string", "const": "1.0"},
            "ce_id": {"type": "string", "pattern": f"^{cloudevent.ID.pattern}$"},
            "ce_time": {"type": "string", "format": "date-time"},
            "ce_subject": {
                "type": "string",
                "pattern": f"^{cloudevent.SUBJECT.pattern}$",
                "description": "The order id.",
            },
        },
        "required": ["ce_specversion", "ce_type", "ce_source", "ce_id"],
    },
    "bindings": {
        "kafka": {
            "key": {"type": "string", "description": "The order id, as in ce_subject."},
            "bindingVersion": _BINDING,
        }
    },
}
_AT_LEAST_ONCE: Final[Json] = {
    "description": "Every event is delivered at least once, events of one key in sequence. Events with the same source"
    " and id are one event, which takes effect once."
}
_CONFIRMED: Final[Json] = {
    "description": "An idempotent producer; an event counts as written once all in-sync replicas have it."
}


def _channel(channel: _Channel, messages: list[Message]) -> Json:
    return {
        "address": channel.topic,
        "description": channel.text,
        "messages": {
            each.kind: {"$ref": f"#/components/messages/{channel.name}.{each.kind}"} for each in messages
        },
        "bindings": {
            "kafka": {
                "topic": channel.topic,
                "topicConfiguration": {"max.message.bytes": channel.max_bytes},
                "bindingVersion": _BINDING,
            }
        },
    }


def _operations(channel: _Channel) -> Json:
    ref = {"$ref": f"#/channels/{channel.name}"}
    group = {"type": "string", "const": topics.consumer_group(channel.reader)}
    return {
        f"{channel.reader}.reads": {
            "action": "receive",
            "channel": ref,
            "summary": f"{channel.reader} handles what its KafkaSource delivers",
            "traits": [{"$ref": "#/components/operationTraits/atLeastOnce"}],
            "bindings": {"kafka": {"groupId": group, "bindingVersion": _BINDING}},
        }
    } | {
        f"{writer}.writes.{channel.name}": {
            "action": "send",
            "channel": ref,
            "traits": [{"$ref": "#/components/operationTraits/confirmed"}],
        }
        for writer in channel.writers
    }


def _message(message: Message, components: Components) -> Json:
    kind = generator(message, "written")
    payloads = [components.ref(model, kind) for model in message.models]
    source = {"const": message.source} if message.source else {"pattern": f"^{cloudevent.ID.pattern}$"}
    return {
        "name": message.event_type,
        "title": f"{message.kind} in {message.topic}",
        "summary": message.summary,
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "headers": {
            "type": "object",
            "properties": {
                "ce_type": {"type": "string", "const": message.event_type},
                "ce_source": {"type": "string"} | source,
            }
            | {
                f"ce_{name}": {"type": "string", "description": EXTENSIONS[name]}
                for name in (*message.required, *message.optional)
            },
        },
        "payload": payloads[0] if len(payloads) == 1 else {"anyOf": payloads},
    }
