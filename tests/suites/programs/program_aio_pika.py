"""aio-pika, widely: each step prints `name: what was seen`."""
import asyncio
import sys

import aio_pika
import aiormq.exceptions
from aio_pika import ExchangeType, Message

host, port, vhost = sys.argv[1], int(sys.argv[2]), sys.argv[3]
prefix = "s.aio."
callback_name = ["?"]


def say(step, seen):
    print("%s: %s" % (step, seen), flush=True)


async def refused(step, act):
    connection = await aio_pika.connect(host=host, port=port, virtualhost=vhost)
    try:
        channel = await connection.channel()
        await asyncio.wait_for(act(channel), 5)
        say(step, "accepted")
    except Exception as e:
        say(step, "%s %s" % (type(e).__name__, str(e).replace(callback_name[0], "CALLBACK")[:250]))
    finally:
        try:
            await asyncio.wait_for(connection.close(), 3)
        except Exception:
            pass


async def main():
    connection = await aio_pika.connect_robust(host=host, port=port, virtualhost=vhost, heartbeat=5)
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    for kind in (ExchangeType.DIRECT, ExchangeType.FANOUT, ExchangeType.TOPIC, ExchangeType.HEADERS):
        x = await channel.declare_exchange(prefix + kind.value, kind)
        queue = await channel.declare_queue(prefix + "q." + kind.value, durable=True)
        await queue.bind(x, "k", arguments={"x-match": "any", "h": "v"} if kind == ExchangeType.HEADERS else None)
        result = await x.publish(Message(kind.value.encode(), headers={"h": "v"}), "k")
        say("published to " + kind.value, type(result).__name__)
        got = await queue.get(timeout=5)
        say("got from " + kind.value, (got.body, got.headers, got.routing_key, got.exchange, got.redelivered))
        await got.ack()
    one = await channel.declare_exchange(prefix + "e2e", ExchangeType.FANOUT, auto_delete=True)
    two = await channel.get_exchange(prefix + "direct")
    await two.bind(one, "k")
    await one.publish(Message(b"through two"), "k")
    direct = await channel.get_queue(prefix + "q.direct")
    got = await direct.get(timeout=5)
    say("exchange to exchange", (got.body, got.exchange))
    await got.reject(requeue=True)
    got = await direct.get(timeout=5)
    say("rejected comes back", (got.body, got.redelivered))
    await got.nack(requeue=False)
    say("empty", await direct.get(fail=False))

    # a thousand confirmed publishes at once, consumed in order with qos
    await asyncio.gather(*[channel.default_exchange.publish(Message(b"%d" % i, delivery_mode=2), direct.name) for i in range(1000)])
    reader = await connection.channel()
    await reader.set_qos(prefetch_count=50)
    queue = await reader.get_queue(direct.name)
    seen = []
    async with queue.iterator() as messages:
        async for message in messages:
            async with message.process():
                seen.append(int(message.body))
            if len(seen) == 1000:
                break
    say("in order", seen == list(range(1000)))

    try:
        await channel.default_exchange.publish(Message(b"lost"), prefix + "nowhere", mandatory=True)
        say("unroutable", "accepted")
    except aiormq.exceptions.DeliveryError as e:
        say("unroutable", (e.message.delivery.reply_code, e.message.delivery.reply_text, e.message.body))

    # rpc over a server-named exclusive queue
    callback = await reader.declare_queue(exclusive=True)
    callback_name[0] = callback.name
    say("server-named", callback.name[:4])
    answer = asyncio.get_running_loop().create_future()

    async def on_answer(message):
        answer.set_result((message.body, message.correlation_id))

    await callback.consume(on_answer, no_ack=True)

    async def serve(message):
        async with message.process():
            await channel.default_exchange.publish(
                Message(b"answer to " + message.body, correlation_id=message.correlation_id), message.reply_to)

    tag = await queue.consume(serve)
    await channel.default_exchange.publish(Message(b"question", correlation_id="c1", reply_to=callback.name), direct.name)
    say("rpc", await asyncio.wait_for(answer, 5))
    await queue.cancel(tag)

    transacting = await connection.channel(publisher_confirms=False)
    async with transacting.transaction():
        await transacting.default_exchange.publish(Message(b"committed"), direct.name)
    tx = transacting.transaction()
    await tx.select()
    await transacting.default_exchange.publish(Message(b"rolled back"), direct.name)
    await tx.rollback()
    await asyncio.sleep(0.2)
    got = await direct.get(timeout=5, no_ack=True)
    say("tx", (got.body, await direct.get(fail=False)))
    big = bytes(range(256)) * 4096
    await channel.default_exchange.publish(Message(big, content_type="x", priority=1, expiration=60, message_id="m", type="t", app_id="a"), direct.name)
    got = await direct.get(timeout=5, no_ack=True)
    say("a mebibyte", (got.body == big, got.content_type, got.priority, got.expiration, got.message_id, got.type, got.app_id))

    await refused("404 queue", lambda c: c.declare_queue(prefix + "none", passive=True))
    await refused("404 exchange", lambda c: c.get_exchange(prefix + "none"))
    await refused("406", lambda c: c.declare_queue(direct.name, durable=False))
    await refused("405", lambda c: c.declare_queue(callback.name, exclusive=True))
    await refused("403", lambda c: c.declare_queue("amq.mine"))
    await refused("503", lambda c: c.declare_exchange(prefix + "odd", "nonsense"))
    for user, place in (("wrong", vhost), ("guest", "s.none")):
        try:
            await aio_pika.connect(host=host, port=port, login=user, password="guest", virtualhost=place)
            say("login %s %s" % (user, place), "accepted")
        except Exception as e:
            say("login %s %s" % (user, place), "%s %s" % (type(e).__name__, str(e)[:200]))
    secret = await connection.transport.connection.update_secret("guest")
    say("update-secret", type(secret).__name__)
    # longer than two heartbeats of five seconds: this one, which has consumed, and one that has only published
    only_published = await aio_pika.connect(host=host, port=port, virtualhost=vhost, heartbeat=5)
    sender = await only_published.channel()
    await sender.default_exchange.publish(Message(b"before"), prefix + "nowhere", mandatory=False)
    await asyncio.sleep(16)
    say("idle at heartbeat 5", (not connection.is_closed, not only_published.is_closed))
    await sender.default_exchange.publish(Message(b"after"), direct.name)
    got = await direct.get(timeout=5, no_ack=True)
    say("used again", got.body)
    await only_published.close()
    for kind in ("direct", "fanout", "topic", "headers"):
        say("deleted " + kind, (await channel.queue_delete(prefix + "q." + kind)).message_count)
        await channel.exchange_delete(prefix + kind)
    await connection.close()
    say("closed", connection.is_closed)

asyncio.run(main())
