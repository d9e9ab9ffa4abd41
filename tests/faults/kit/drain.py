"""What arrived: every message of the scenario's queues, taken by a direct connection."""

import time

from . import message

QUIET = 0.6  # seconds without a new message: nothing more comes


def depths(client, queues):
    return {queue: client.depth(queue) for queue in queues}


def wait_still(node, vhost, queues, timeout=20.0):
    """Until the queues have not grown for a while."""
    with node.client(vhost=vhost) as client:
        end, last, since = time.monotonic() + timeout, None, time.monotonic()
        while time.monotonic() < end:
            now = depths(client, queues)
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > QUIET:
                return
            time.sleep(0.1)


def drain(node, vhost, queues):
    """[(queue, (stream, n) or None)] in each queue's order."""
    out = []
    with node.client(vhost=vhost, timeout=30) as client:
        for queue in queues:
            count = client.depth(queue)
            if not count:
                continue
            tag = client.consume(queue)
            for _ in range(count):
                taken = client.delivery()
                out.append((queue, message.read(taken.body, taken.properties)))
            client.call(1, "basic.cancel", consumer_tag=tag)
            out += [(queue, message.read(late.body, late.properties)) for late in client.deliveries]
            client.deliveries = []
    return out
