"""Consumes a topic as a Python pipeline does: confluent-kafka, then torch's clip and fused SGD with momentum, on one thread.

Reads commands from stdin and answers on stdout, one JSON object a line:

    {"command": "describe"}                  versions
    {"command": "consume", "brokers": "host:port", "topic": "...", "messages": 1000, "bytes": 4096}
                                             messages a second, and the first few weights that they came to

Each message's tensors are the last `bytes` of its value, in float32: safetensors puts nothing behind them, and finding them so
takes no time. The clock starts at the first message, when more of them have been fetched already.
"""

import importlib.metadata
import platform
import time
import uuid

from answers import serve

LR, MOMENTUM, DECAY, MAX_NORM = 1e-3, 0.9, 1e-4, 1.0
CHECKED_WEIGHTS = 16
POLL_SECONDS = 10
FETCHES = {'fetch.message.max.bytes': 8 << 20, 'queued.max.messages.kbytes': 262144}


def describe():
    import confluent_kafka
    import torch

    torch.set_num_threads(1)
    versions = {name: importlib.metadata.version(name) for name in (torch.__name__, 'confluent-kafka')}
    return {'versions': {'python': platform.python_version(), **versions, 'librdkafka': confluent_kafka.libversion()[0]}}


def consume(brokers, topic, messages, bytes):
    import torch
    from confluent_kafka import Consumer

    weights = torch.zeros(bytes // 4)
    weights.grad = torch.zeros(bytes // 4)
    optimizer = torch.optim.SGD([weights], lr=LR, momentum=MOMENTUM, weight_decay=DECAY, fused=True)
    group = {'group.id': f'bench-{uuid.uuid4()}', 'auto.offset.reset': 'earliest', 'enable.auto.commit': False}
    consumer = Consumer({'bootstrap.servers': brokers, **group, **FETCHES})
    consumer.subscribe([topic])
    start, stepped = None, 0
    try:
        while stepped < messages:
            message = consumer.poll(POLL_SECONDS)
            if message is None:
                raise TimeoutError(f'expected {messages} messages, got {stepped}')
            if message.error():
                continue
            if start is None:
                start = time.perf_counter()
            value = message.value()
            weights.grad = torch.frombuffer(bytearray(value[len(value) - bytes :]), dtype=torch.float32)
            torch.nn.utils.clip_grad_norm_([weights], MAX_NORM)
            optimizer.step()
            stepped += 1
        seconds = time.perf_counter() - start
    finally:
        consumer.close()
    return {'rate': stepped / seconds, 'weights': weights[:CHECKED_WEIGHTS].tolist()}


if __name__ == '__main__':
    serve({'describe': describe, 'consume': consume})
