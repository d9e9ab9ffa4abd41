"""What arrived: every message of the scenario's queues, taken by a direct connection; and what there is to be seen of those that did not."""

import json
import select
import shutil
import time

from . import message

QUIET = 0.6  # seconds without a new message: nothing more comes
SEEN = ("name", "state", "messages", "messages_ready", "messages_unacknowledged", "consumers")


def depths(client, queues):
    return {queue: client.depth(queue) for queue in queues}


def wait_still(node, vhost, queues, timeout=20.0):
    """Until the queues have not grown for a while; how many messages each has, None for one that is away."""
    with node.client(vhost=vhost) as client:
        end, last, since = time.monotonic() + timeout, None, time.monotonic()
        while time.monotonic() < end:
            now = depths(client, queues)
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > QUIET:
                break
            time.sleep(0.1)
        return last


def drain(node, vhost, queues):
    """([(queue, (stream, n) or None)] in each queue's order, the queues that are away). One is taken from until nothing more comes: what it says
    of its depth is no proof that it is empty. RabbitMQ says 404 of a queue whose process has gone as of one that never was."""
    out, away = [], []
    with node.client(vhost=vhost, timeout=30) as client:
        for queue in queues:
            count = client.depth(queue)
            if count is None:
                away.append(queue)
                continue
            tag = client.consume(queue)
            taken = [client.delivery() for _ in range(count)]
            taken += _until_quiet(client)
            client.call(1, "basic.cancel", consumer_tag=tag)
            taken += client.deliveries
            client.deliveries = []
            out += [(queue, message.read(m.body, m.properties)) for m in taken]
    return out, away


def _until_quiet(client):
    while client.deliveries or client.buffer or select.select([client.socket], [], [], QUIET)[0]:
        yield client.delivery()


def keep_evidence(node, vhost, place, before):
    """What the broker says of its queues, and its log, beside the run's own files: with the run its broker is gone."""
    told = {"before the drain": before}
    try:
        told["after it"] = node.table("list_queues", *SEEN, vhost=vhost)
    except Exception as error:  # a broker that does not answer is evidence, too
        told["after it"] = str(error)
    (place / "queues.json").write_text(json.dumps(told, indent=1) + "\n")
    for log in (node.directory / "log").glob("*.log"):
        shutil.copy(log, place / f"broker-{log.name}")
