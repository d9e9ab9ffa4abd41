"""Content out of order, its header, its size; publishing."""
from wire import HEAD, HEARTBEAT, METHOD, body, frame, head, message, method

from .case import CHANNEL, OPEN, case, declare, ids, publish

# ---------------------------------------------------------------------------------------- content
case("content: header without a publish", CHANNEL, head(1, 1))
case("content: body without a header", CHANNEL, body(1, b"x"))
case("content: body straight after publish", CHANNEL, publish() + body(1, b"x"))
case("content: two headers", CHANNEL, publish() + head(1, 1) + head(1, 1))
case("content: header after a method that takes none", CHANNEL, declare("h.q", passive=True) + head(1, 1))
case("content: header with another class id", CHANNEL, publish() + head(1, 1, klass=50) + body(1, b"x"))
case("content: header with class id 0", CHANNEL, publish() + head(1, 1, klass=0) + body(1, b"x"))
case("content: weight not zero", CHANNEL, publish() + head(1, 1, weight=1) + body(1, b"x"))
case("content: undefined property flags", CHANNEL, publish() + head(1, 0, b"\0\2"))
case("content: property flags continued", CHANNEL, publish() + head(1, 0, b"\0\1\0\0"))
case("content: property flags continued forever", CHANNEL, publish() + head(1, 0, b"\0\1" * 50))
case("content: properties cut off", CHANNEL, publish() + head(1, 0, b"\x80\0\x05ab"))
case("content: properties trail", CHANNEL, publish() + head(1, 0, b"\0\0trailing"))
case("content: all property flags, no properties", CHANNEL, publish() + head(1, 0, b"\xff\xfc"))
case("content: header of eleven bytes", CHANNEL, publish() + frame(HEAD, 1, b"\0\x3c" + b"\0" * 9))
case("content: longer than declared", CHANNEL, publish() + head(1, 3) + body(1, b"four"))
case("content: longer than declared, in the second frame", CHANNEL, publish() + head(1, 5) + body(1, b"four") + body(1, b"four"))
case("content: one frame more than declared", CHANNEL, publish() + head(1, 4) + body(1, b"four") + body(1, b"four"))
case("content: a body for an empty message", CHANNEL, publish() + head(1, 0) + body(1, b"x"))
case("content: an empty body frame for an empty message", CHANNEL, publish() + head(1, 0) + body(1, b""))
case("content: empty body frames in between", CHANNEL,
     publish(key="h.nowhere", mandatory=True) + head(1, 2) + body(1, b"") + body(1, b"x") + body(1, b"") + body(1, b"y"))
case("content: ten thousand empty body frames", CHANNEL, publish() + head(1, 1) + body(1, b"") * 10000 + body(1, b"x"))
case("content: shorter than declared, then silence", CHANNEL, publish() + head(1, 10) + body(1, b"four"))
case("content: shorter than declared, then a method", CHANNEL, publish() + head(1, 10) + body(1, b"four") + declare())
case("content: a method between publish and header", CHANNEL, publish() + declare())
case("content: a publish inside a publish", CHANNEL, publish() + publish() + head(1, 0))
case("content: a heartbeat in the middle is fine", CHANNEL,
     publish() + frame(HEARTBEAT, 0, b"") + head(1, 4) + frame(HEARTBEAT, 0, b"") + body(1, b"four"))
case("content: two channels interleaved", CHANNEL,
     method(2, "channel.open") + publish(1, mandatory=True) + publish(2, mandatory=True) + head(1, 2) + head(2, 2) +
     body(2, b"22") + body(1, b"11"))
case("content: size 2^63", CHANNEL, publish() + head(1, 1 << 63) + body(1, b"x"))
case("content: size 2^64-1", CHANNEL, publish() + head(1, (1 << 64) - 1) + body(1, b"x"))
case("content: size 2^40", CHANNEL, publish() + head(1, 1 << 40) + body(1, b"x"))
case("content: size over the maximum of 128 MiB, announced only", CHANNEL, publish() + head(1, 134217729))
case("content: longer than declared, mandatory", CHANNEL, publish(mandatory=True) + head(1, 3) + body(1, b"four"))
case("content: size over the maximum of 128 MiB, sent", CHANNEL,
     lambda: iter([publish() + head(1, 134217729)] + [body(1, b"x" * 131064)] * 1024 + [body(1, b"x" * 8193)]),
     quiet=20, strict="refused when the header announces it, before the memory is taken")

# ---------------------------------------------------------------------------------------- publishing
case("publish: immediate", CHANNEL, message(1, b"x", routing_key="h.q", immediate=True))
case("publish: immediate and mandatory", CHANNEL, message(1, b"x", routing_key="h.q", immediate=True, mandatory=True))
case("publish: immediate, unroutable", CHANNEL, message(1, b"x", routing_key="h.none", immediate=True))
case("publish: to a missing exchange", CHANNEL, message(1, b"x", exchange="h.none"))
case("publish: to a missing exchange, and to it again", CHANNEL, message(1, b"x", exchange="h.none") * 3)
case("publish: to a missing exchange, after confirm.select", CHANNEL,
     method(1, "confirm.select") + message(1, b"x", exchange="h.none"))
case("publish: to an internal exchange", CHANNEL, message(1, b"x", exchange="h.internal"))
case("publish: mandatory, unroutable", CHANNEL, message(1, b"abc", routing_key="h.none", mandatory=True))
case("publish: mandatory, unroutable, empty", CHANNEL, message(1, b"", routing_key="h.none", mandatory=True))
case("publish: mandatory, unroutable, confirmed", CHANNEL,
     method(1, "confirm.select") + message(1, b"abc", routing_key="h.none", mandatory=True), 0.3)
case("publish: unroutable, confirmed", CHANNEL,
     method(1, "confirm.select") + message(1, b"abc", routing_key="h.none"), 0.3)
case("publish: with another's user_id", CHANNEL, message(1, b"x", user_id="someone"))
case("publish: with one's own user_id", CHANNEL, message(1, b"x", user_id="guest"))
case("publish: expiration that is no number", CHANNEL, message(1, b"x", expiration="soon"))
case("publish: expiration negative", CHANNEL, message(1, b"x", expiration="-1"))
case("publish: expiration 2^32 and more", CHANNEL, message(1, b"x", expiration="99999999999"))
case("publish: priority 255", CHANNEL, message(1, b"x", priority=255))
case("publish: delivery mode 77", CHANNEL, message(1, b"x", delivery_mode=77))
case("publish: CC that is no list", CHANNEL, message(1, b"x", headers={"CC": "h.q"}))
case("publish: CC of a number", CHANNEL, message(1, b"x", headers={"CC": [5]}))
case("publish: BCC that is no list", CHANNEL, message(1, b"x", headers={"BCC": 5}))
case("publish: to an exchange name of strange bytes", CHANNEL,
     frame(METHOD, 1, ids(60, 40, b"\0\0\2\xff\xfe\0\0")) + head(1, 0))
case("publish: reply-to direct without a consumer", CHANNEL, message(1, b"x", reply_to="amq.rabbitmq.reply-to"))
case("publish: to a forged direct reply queue", CHANNEL,
     message(1, b"x", routing_key="amq.rabbitmq.reply-to.forged", mandatory=True))
case("publish: content type of strange bytes", CHANNEL, message(1, b"x", content_type=b"\xff\xfe"))

# ---------------------------------------------------------------------------------------- content, more
case("content: a header on another channel", CHANNEL, method(2, "channel.open") + publish() + head(2, 1))
case("content: a body on another channel", CHANNEL, method(2, "channel.open") + publish() + head(1, 1) + body(2, b"x"))
case("content: a method of another channel in between", CHANNEL,
     method(2, "channel.open") + publish(mandatory=True) + method(2, "tx.select") + head(1, 1) + method(2, "tx.commit") + body(1, b"x"))
case("content: header of class 10", CHANNEL, publish() + head(1, 1, klass=10) + body(1, b"x"))
case("content: weight of 65535", CHANNEL, publish() + head(1, 1, weight=65535) + body(1, b"x"))
case("content: header of twelve bytes, without flags", CHANNEL, publish() + frame(HEAD, 1, b"\0\x3c\0\0" + b"\0" * 8))
case("content: header of thirteen bytes", CHANNEL, publish() + frame(HEAD, 1, b"\0\x3c\0\0" + b"\0" * 9))
case("content: flags of every property but their last octet", CHANNEL,
     publish() + head(1, 0, b"\xff\xfc" + b"\0" * 4 + b"\0" * 2 + b"\0\0\0\0" + b"\0" * 5 + b"\0" * 8 + b"\0" * 3))
case("content: a property's string runs into the next", CHANNEL, publish() + head(1, 0, b"\xc0\0\x03ab\0\0"))
case("content: headers' flag and no table", CHANNEL, publish() + head(1, 0, b"\x20\0"))
case("content: headers' flag and three octets", CHANNEL, publish() + head(1, 0, b"\x20\0\0\0\0"))
case("content: timestamp cut off", CHANNEL, publish() + head(1, 0, b"\0\x40\0\0\0\0"))
case("content: the reserved bit alone and a body", CHANNEL, publish() + head(1, 1, b"\0\2") + body(1, b"x"))
case("content: every property at its largest", CHANNEL, message(
    1, b"x", mandatory=True, content_type="c" * 255, content_encoding="e" * 255, headers={"k" * 255: "v"}, delivery_mode=255, priority=255,
    correlation_id="i" * 255, reply_to="r" * 255, expiration="1", message_id="m" * 255, timestamp=(1 << 64) - 1, type="t" * 255,
    app_id="a" * 255, cluster_id="c" * 255))
case("content: every string property no UTF-8", CHANNEL, message(1, b"x", mandatory=True, **{p: b"\xff\xfe" for p in (
    "content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "type", "app_id", "cluster_id")}))
case("content: a hundred messages begun on a hundred channels", OPEN, b"".join(
    method(n, "channel.open") + publish(n) + head(n, 1 << 20) + body(n, b"x" * 1000) for n in range(1, 101)))
case("content: cut short by a fault of its own channel", CHANNEL, message(1, b"x", exchange="h.none") + publish() + head(1, 5) + body(1, b"12"))

# ---------------------------------------------------------------------------------------- publishing, more
case("publish: to the default exchange by its name", CHANNEL, message(1, b"x", exchange="amq.default", routing_key="h.nowhere"))
case("publish: a routing key of 255 bytes", CHANNEL, message(1, b"x", routing_key="k" * 255, mandatory=True))
case("publish: a routing key that is no UTF-8", CHANNEL, publish(key=b"\xff\xfe", mandatory=True) + head(1, 1) + body(1, b"x"))
case("publish: a routing key with NULs and line breaks", CHANNEL, message(1, b"x", routing_key="a\0b\r\nc", mandatory=True))
case("publish: an empty routing key", CHANNEL, message(1, b"x", routing_key="", mandatory=True))
case("publish: to an exchange of 255 bytes", CHANNEL, message(1, b"x", exchange="x" * 255))
case("publish: to an exchange with line breaks", CHANNEL, message(1, b"x", exchange="x\r\ny"))
case("publish: immediate, to a missing exchange", CHANNEL, message(1, b"x", exchange="h.none", immediate=True))
case("publish: immediate, without its content", CHANNEL, publish(immediate=True), probe=True)
case("publish: immediate, after confirm.select", CHANNEL, method(1, "confirm.select") + message(1, b"x", immediate=True))
case("publish: immediate, after tx.select", CHANNEL, method(1, "tx.select") + message(1, b"x", immediate=True) + method(1, "tx.commit"))
case("publish: to an internal exchange, after confirm.select", CHANNEL, method(1, "confirm.select") + message(1, b"x", exchange="h.internal"))
case("publish: with another's user_id, after confirm.select", CHANNEL, method(1, "confirm.select") + message(1, b"x", user_id="someone"))
case("publish: with an empty user_id", CHANNEL, message(1, b"x", user_id=""))
case("publish: with another's user_id to a missing exchange", CHANNEL, message(1, b"x", exchange="h.none", user_id="someone"))
case("publish: with another's user_id, mandatory and unroutable", CHANNEL, message(1, b"x", user_id="someone", mandatory=True))
case("publish: an empty expiration", CHANNEL, message(1, b"x", expiration=""))
case("publish: expiration 0", CHANNEL, message(1, b"x", expiration="0"))
case("publish: expiration with spaces", CHANNEL, message(1, b"x", expiration=" 1000 "))
case("publish: expiration of half a millisecond", CHANNEL, message(1, b"x", expiration="0.5"))
case("publish: expiration 4294967295", CHANNEL, message(1, b"x", expiration="4294967295"))
case("publish: expiration 4294967296", CHANNEL, message(1, b"x", expiration="4294967296"))
case("publish: expiration +5", CHANNEL, message(1, b"x", expiration="+5"))
case("publish: expiration in other digits", CHANNEL, message(1, b"x", expiration="٥"))
case("publish: expiration that is no number, after confirm.select", CHANNEL, method(1, "confirm.select") + message(1, b"x", expiration="soon"))
case("publish: CC of nothing", CHANNEL, message(1, b"x", headers={"CC": []}, mandatory=True))
case("publish: CC to many that are missing", CHANNEL, message(1, b"x", headers={"CC": ["h.none%d" % i for i in range(100)]}, mandatory=True))
case("publish: BCC of a number", CHANNEL, message(1, b"x", headers={"BCC": [5]}))
case("publish: reply-to direct without a consumer, mandatory", CHANNEL, message(1, b"x", reply_to="amq.rabbitmq.reply-to", mandatory=True))
case("publish: reply-to direct without a consumer, after confirm.select", CHANNEL,
     method(1, "confirm.select") + message(1, b"x", reply_to="amq.rabbitmq.reply-to"))
case("publish: reply-to of another channel's consumer", CHANNEL, method(2, "channel.open") +
     method(2, "basic.consume", queue="amq.rabbitmq.reply-to", no_ack=True, consumer_tag="a"), 0.3,
     message(1, b"x", reply_to="amq.rabbitmq.reply-to"))
case("publish: to the pseudo-queue itself", CHANNEL, message(1, b"x", routing_key="amq.rabbitmq.reply-to", mandatory=True))
case("publish: refused between two that are confirmed", CHANNEL, method(1, "confirm.select") + message(1, b"x") +
     message(1, b"x", exchange="h.none") + message(1, b"x"), 0.5)
