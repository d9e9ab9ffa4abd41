"""On the open connection: its own methods, frames, channel numbers and states."""
import struct

from wire import BODY, HEAD, HEADER, HEARTBEAT, METHOD, body, frame, head, message, method, payload

from .case import CHANNEL, OPEN, PROBE, case, declare, ids, opened, publish, start_ok, tune_ok

# ---------------------------------------------------------------------------------------- the open connection
case("connection: open a second time", OPEN, opened())
case("connection: tune-ok a second time", OPEN, tune_ok())
case("connection: start-ok a second time", OPEN, start_ok())
case("connection: secure-ok out of order", OPEN, method(0, "connection.secure-ok", response="x"))
case("connection: close with code 200", OPEN, method(0, "connection.close", reply_code=200, reply_text="bye"))
case("connection: close with code 0", OPEN, method(0, "connection.close"))
case("connection: close with code 65535 and ids", OPEN,
     method(0, "connection.close", reply_code=65535, reply_text="x" * 255, class_id=65535, method_id=65535))
case("connection: close cut off", OPEN, frame(METHOD, 0, ids(10, 50, b"\0")))
case("connection: close, then more methods", OPEN,
     method(0, "connection.close", reply_code=200) + method(1, "channel.open") + b"garbage after close")
case("connection: close while channels are open and content pends", CHANNEL,
     publish() + head(1, 100) + body(1, b"half") + method(0, "connection.close", reply_code=200))
case("connection: close-ok unasked", OPEN, method(0, "connection.close-ok"))
case("connection: blocked from a client", OPEN, method(0, "connection.blocked", reason="x"))
case("connection: unblocked from a client", OPEN, method(0, "connection.unblocked"))
case("connection: update-secret", OPEN, method(0, "connection.update-secret", new_secret="guest", reason="r"))
case("connection: update-secret with a wrong secret", OPEN,
     method(0, "connection.update-secret", new_secret="wrong", reason="r"))
case("connection: update-secret on channel 1", CHANNEL,
     method(1, "connection.update-secret", new_secret="guest", reason="r"))
case("connection: a connection method on channel 1", CHANNEL, method(1, "connection.close", reply_code=200))
case("connection: unknown method id in its class", OPEN, frame(METHOD, 0, ids(10, 99)))
case("connection: open-ok from a client", OPEN, method(0, "connection.open-ok"))
case("connection: heartbeat unasked", OPEN, frame(HEARTBEAT, 0, b""))
case("connection: heartbeat on channel 1", CHANNEL, frame(HEARTBEAT, 1, b""))
case("connection: heartbeat on an unopened channel", OPEN, frame(HEARTBEAT, 5, b""))
case("connection: heartbeat with a payload", OPEN, frame(HEARTBEAT, 0, b"payload"))
case("connection: protocol header in the middle", OPEN, HEADER)
case("connection: HTTP in the middle", OPEN, b"GET / HTTP/1.1\r\n\r\n")
case("connection: end of file", OPEN, "half-close", probe=False)
case("connection: end of file inside a frame", CHANNEL, publish()[:9], "half-close", probe=False)
case("connection: end of file inside a message", CHANNEL, publish() + head(1, 100) + body(1, b"half"), "half-close",
     probe=False)

# ---------------------------------------------------------------------------------------- frames
for kind in (0, 4, 5, 6, 7, 9, 255):
    case("frames: unknown type %d" % kind, OPEN, frame(kind, 0, b"x"))
case("frames: unknown type on an open channel", CHANNEL, frame(42, 1, b"x"))
case("frames: frame end wrong", OPEN, method(1, "channel.open")[:-1] + b"\xcd")
case("frames: frame end wrong in a body", CHANNEL, publish() + head(1, 1) + frame(BODY, 1, b"x", end=b"\0"))
case("frames: size too small for what follows", CHANNEL, frame(METHOD, 1, payload("tx.select") + b"abcdef", size=4))
case("frames: one byte over frame_max", CHANNEL, publish() + head(1, 131065) + frame(BODY, 1, b"x" * 131065))
case("frames: nine bytes over frame_max", CHANNEL, publish() + head(1, 131073) + frame(BODY, 1, b"x" * 131073))
case("frames: eight bytes over frame_max", CHANNEL, publish() + head(1, 131072) + frame(BODY, 1, b"x" * 131072))
case("frames: exactly frame_max", CHANNEL, publish() + head(1, 131064) + frame(BODY, 1, b"x" * 131064))
case("frames: 2 GiB announced", CHANNEL, struct.pack(">BHI", BODY, 1, 0x80000000))
case("frames: 4 GiB announced", OPEN, struct.pack(">BHI", METHOD, 0, 0xffffffff))
case("frames: empty method frame", CHANNEL, frame(METHOD, 1, b""))
case("frames: empty method frame on channel 0", OPEN, frame(METHOD, 0, b""))
case("frames: method frame of three bytes", CHANNEL, frame(METHOD, 1, b"\0\x3c\0"))
case("frames: empty header frame", CHANNEL, publish() + frame(HEAD, 1, b""))
case("frames: ten thousand empty heartbeats", OPEN, frame(HEARTBEAT, 0, b"") * 10000)
case("frames: one byte at a time", CHANNEL,
     *[x for b in range(len(message(1, b"x"))) for x in (message(1, b"x")[b:b + 1], 0.002)])

# ---------------------------------------------------------------------------------------- channels
case("channels: a channel method on channel 0", OPEN, method(0, "channel.open"))
case("channels: basic.publish on channel 0", OPEN, publish(0))
case("channels: header on channel 0", OPEN, head(0, 1))
case("channels: body on channel 0", OPEN, body(0, b"x"))
case("channels: queue.declare on channel 0", OPEN, declare(channel=0))
case("channels: publish on an unopened one", OPEN, message(5, b"x"))
case("channels: declare on an unopened one", OPEN, declare(channel=5))
case("channels: header on an unopened one", OPEN, head(5, 1))
case("channels: body on an unopened one", OPEN, body(5, b"x"))
case("channels: close an unopened one", OPEN, method(5, "channel.close", reply_code=200))
case("channels: close-ok on an unopened one", OPEN, method(5, "channel.close-ok"))
case("channels: unknown method on an unopened one", OPEN, frame(METHOD, 5, ids(99, 99)))
case("channels: open twice", CHANNEL, method(1, "channel.open"))
case("channels: number 2047, the last", OPEN, method(2047, "channel.open"))
case("channels: number 2048, over the maximum", OPEN, method(2048, "channel.open"))
case("channels: number 65535", OPEN, method(65535, "channel.open"))
case("channels: open with its reserved string set", OPEN, method(3, "channel.open", reserved_1="out of band"))
case("channels: open cut off", OPEN, frame(METHOD, 3, ids(20, 10)))
case("channels: open with trailing bytes", OPEN, frame(METHOD, 3, ids(20, 10, b"\0trail")))
case("channels: open-ok from a client", CHANNEL, method(1, "channel.open-ok"))
case("channels: close-ok unasked", CHANNEL, method(1, "channel.close-ok") + declare("h.q", passive=True))
case("channels: close twice", CHANNEL, method(1, "channel.close", reply_code=200) * 2)
case("channels: close with odd code", CHANNEL,
     method(1, "channel.close", reply_code=65535, reply_text="odd", class_id=60, method_id=40))
case("channels: close, open again, use", CHANNEL,
     method(1, "channel.close", reply_code=200) + method(1, "channel.open") + declare("h.q", passive=True))
case("channels: close while content pends", CHANNEL,
     publish() + head(1, 10) + body(1, b"half") + method(1, "channel.close", reply_code=200))
case("channels: flow off", CHANNEL, method(1, "channel.flow", active=False))
case("channels: flow on", CHANNEL, method(1, "channel.flow", active=True))
case("channels: flow-ok unasked", CHANNEL, method(1, "channel.flow-ok", active=True))
case("channels: all 2,047 of them", OPEN, b"".join(method(n, "channel.open") for n in range(1, 2048) if n != PROBE))
case("channels: methods on a closing one are ignored until close-ok", CHANNEL,
     declare("h.missing", passive=True) + declare("h.q", passive=True) + message(1, b"x", exchange="h.none"))
case("channels: open on a closing one", CHANNEL, declare("h.missing", passive=True) + method(1, "channel.open"))
case("channels: close on a closing one", CHANNEL,
     declare("h.missing", passive=True) + method(1, "channel.close", reply_code=200))
case("channels: body on a closing one, out of order", CHANNEL, declare("h.missing", passive=True) + body(1, b"x"))
case("channels: unknown method on a closing one", CHANNEL, declare("h.missing", passive=True) + frame(METHOD, 1, ids(60, 99)))

# ---------------------------------------------------------------------------------------- the open connection, more
case("connection: close twice at once", OPEN, method(0, "connection.close", reply_code=200) * 2)
case("connection: close with a text that is no UTF-8", OPEN, method(0, "connection.close", reply_code=200, reply_text=b"\xff\xfe"))
case("connection: close, then close-ok", OPEN, method(0, "connection.close", reply_code=200) + method(0, "connection.close-ok"))
case("connection: close, then a publish to what is missing", CHANNEL,
     method(0, "connection.close", reply_code=200) + message(1, b"x", exchange="h.none"))
case("connection: close between header and body", CHANNEL, publish() + head(1, 5) + method(0, "connection.close", reply_code=200) + body(1, b"12345"))
case("connection: update-secret of 100,000 bytes", OPEN, method(0, "connection.update-secret", new_secret="s" * 100000, reason="r"))
case("connection: update-secret of nothing", OPEN, method(0, "connection.update-secret"))
case("connection: update-secret between header and body", CHANNEL,
     publish() + head(1, 1) + method(0, "connection.update-secret", new_secret="guest", reason="r") + body(1, b"x"))
case("connection: the whole login again", OPEN, HEADER + start_ok() + tune_ok() + opened())
case("connection: a tune that it sends itself", OPEN, method(0, "connection.tune", channel_max=1, frame_max=4096, heartbeat=1))
case("connection: end of file behind what it published", CHANNEL, message(1, b"x", routing_key="h.nowhere") * 50, "half-close", probe=False)
case("connection: end of file behind what is refused", CHANNEL, message(1, b"x", exchange="h.none"), "half-close", probe=False)
case("connection: end of file inside a frame's head", CHANNEL, publish()[:3], "half-close", probe=False)
case("connection: end of file before the frame end", CHANNEL, publish()[:-1], "half-close", probe=False)

# ---------------------------------------------------------------------------------------- frames, more
case("frames: frame end wrong in a header", CHANNEL, publish() + head(1, 1)[:-1] + b"\xcf")
case("frames: frame end wrong in a heartbeat", OPEN, frame(HEARTBEAT, 0, b"", end=b"\0"))
case("frames: frame end wrong in an empty body", CHANNEL, publish() + head(1, 1) + frame(BODY, 1, b"", end=b"\x01"))
case("frames: frame end wrong in an unknown type", OPEN, frame(7, 0, b"x", end=b"\0"))
case("frames: no frame end at all", CHANNEL, method(1, "tx.select")[:-1] + method(1, "tx.commit"))
case("frames: size too big by one", CHANNEL, frame(METHOD, 1, payload("tx.select"), size=5) + method(1, "tx.commit"))
case("frames: frame ends between frames", OPEN, b"\xce" * 8)
case("frames: a NUL between frames", CHANNEL, method(1, "tx.select") + b"\0" + method(1, "tx.commit"))
case("frames: heartbeat of the largest size", OPEN, frame(HEARTBEAT, 0, b"h" * 131064))
case("frames: heartbeat over frame_max announced", OPEN, struct.pack(">BHI", HEARTBEAT, 0, 1 << 24))
case("frames: header over frame_max announced", CHANNEL, publish() + struct.pack(">BHI", HEAD, 1, 1 << 20))
case("frames: method over frame_max announced", CHANNEL, struct.pack(">BHI", METHOD, 1, 1 << 20))
case("frames: unknown type over frame_max announced", OPEN, struct.pack(">BHI", 200, 1, 1 << 31))
case("frames: a header as large as frame_max", CHANNEL, message(1, b"x", headers={"h": "y" * (131064 - 14 - 4 - 2 - 5)}))
case("frames: half a frame, then silence", CHANNEL, method(1, "tx.select")[:9], probe=False)
case("frames: a frame's head, then silence", CHANNEL, struct.pack(">BHI", BODY, 1, 131064), probe=False)
case("frames: unknown type on an unopened channel", OPEN, frame(9, 77, b""))
case("frames: empty method frame on an unopened channel", OPEN, frame(METHOD, 77, b""))
case("frames: empty body on an unopened channel", OPEN, frame(BODY, 77, b""))
case("frames: a thousand bodies of an octet", CHANNEL, publish() + head(1, 1000) + body(1, b"x") * 1000)

# ---------------------------------------------------------------------------------------- channels, more
case("channels: open with a name that is no UTF-8", OPEN, method(3, "channel.open", reserved_1=b"\xff\xfe"))
case("channels: a thousand times open and close", OPEN, (method(3, "channel.open") + method(3, "channel.close", reply_code=200)) * 1000, quiet=8)
case("channels: a hundred close each other's number", OPEN,
     b"".join(method(n, "channel.open") + method(n, "channel.close", reply_code=200) for n in range(1, 101)))
case("channels: use after its close", CHANNEL, method(1, "channel.close", reply_code=200) + declare("h.q", passive=True))
case("channels: use after its close-ok", CHANNEL, method(1, "channel.close", reply_code=200), 0.5, declare("h.q", passive=True))
case("channels: publish after its close-ok", CHANNEL, method(1, "channel.close", reply_code=200), 0.5, message(1, b"x"))
case("channels: close-ok after its close-ok", CHANNEL, method(1, "channel.close", reply_code=200), 0.5, method(1, "channel.close-ok"))
case("channels: close with a text that is no UTF-8", CHANNEL, method(1, "channel.close", reply_code=200, reply_text=b"\xff"))
case("channels: header on a closing one, in order", CHANNEL, declare("h.missing", passive=True) + publish() + head(1, 1) + body(1, b"x"))
case("channels: a message begun on a closing one", CHANNEL, declare("h.missing", passive=True) + publish() + head(1, 9))
case("channels: a heartbeat on a closing one", CHANNEL, declare("h.missing", passive=True) + frame(HEARTBEAT, 1, b""))
case("channels: flow while content pends", CHANNEL, publish() + head(1, 10) + method(1, "channel.flow", active=True))
case("channels: flow on, off and on", CHANNEL, method(1, "channel.flow", active=True) * 3 + method(1, "channel.flow", active=False))
case("channels: one closed by a fault while another's content pends", CHANNEL,
     method(2, "channel.open") + publish(2, mandatory=True) + head(2, 2) + declare("h.missing", passive=True) + body(2, b"22"))
case("channels: the same fault on ten of them", OPEN,
     b"".join(method(n, "channel.open") + declare("h.missing", channel=n, passive=True) for n in range(1, 11)))
