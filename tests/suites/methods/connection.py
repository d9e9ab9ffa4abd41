"""Connections and channels: opened, closed, refused, and what is agreed on."""
import wire
from wire import CLIENT, HEADER, method

from .scenario import scenario


@scenario("connection.start connection.start-ok connection.tune connection.tune-ok connection.open connection.open-ok "
          "connection.close connection.close-ok", login=False)
def a_connection_opens_and_closes(t):
    t.raw(HEADER)
    t.note(str(t.until("connection.start")))
    t.raw(method(0, "connection.start-ok", client_properties=CLIENT, mechanism="PLAIN", response="\0guest\0guest", locale="en_US"))
    t.until("connection.tune")
    t.send(0, "connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0)
    t.call(0, "connection.open", virtual_host=t.vhost)
    t.call(0, "connection.close", reply_code=200, reply_text="bye")
    # The socket is the client's to close: an end of file behind the close-ok is a fault to some clients (lapin, Go's).
    t.quiet(0.5)
    t.send(0, "connection.close", reply_code=200, reply_text="bye again")
    t.quiet(0.5)


@scenario("connection.start-ok", login=False)
def an_old_client_opens_with_its_header_and_amqplain(t):
    t.raw(b"AMQP\1\1\0\x09")
    t.until("connection.start")
    t.raw(method(0, "connection.start-ok", client_properties={"product": "old"}, mechanism="AMQPLAIN",
                 response=wire.table({"LOGIN": "guest", "PASSWORD": "guest"})[4:], locale="en_US"))
    t.until("connection.tune")
    t.send(0, "connection.tune-ok", channel_max=65535 & 2047, frame_max=4096, heartbeat=0)
    t.call(0, "connection.open", virtual_host=t.vhost)
    t.call(7, "channel.open")


@scenario("connection.secure-ok")
def secure_ok_is_out_of_order(t):
    t.send(0, "connection.secure-ok", response="x")
    t.refused()


@scenario("connection.close", login=False)
def a_wrong_password_is_told(t):
    t.raw(HEADER)
    t.until("connection.start")
    t.raw(method(0, "connection.start-ok", client_properties=CLIENT, mechanism="PLAIN", response="\0guest\0wrong", locale="en_US"))
    t.until("connection.close")
    t.send(0, "connection.close-ok")
    t.quiet(0.5)


@scenario("connection.update-secret connection.update-secret-ok")
def a_secret_is_updated(t):
    t.call(0, "connection.update-secret", new_secret="guest", reason="rotation")
    t.queue(exclusive=True)


@scenario("connection.close connection.close-ok")
def the_broker_closes_a_connection(t):
    t.send(1, "basic.qos", prefetch_size=1)
    t.refused()


@scenario("channel.open channel.open-ok channel.close channel.close-ok")
def channels_open_close_and_open_again(t):
    for n in (2, 3, 2047):
        t.call(n, "channel.open")
    for n in (2, 1, 3):
        t.call(n, "channel.close", reply_code=200, reply_text="bye")
    t.call(2, "channel.open")
    t.call(2, "queue.declare", queue="m.q", exclusive=True)


@scenario("channel.close channel.close-ok")
def the_broker_closes_a_channel_and_its_number_lives_again(t):
    t.call(2, "channel.open")
    t.send(1, "queue.declare", queue="m.none", passive=True)
    t.refused()
    t.call(2, "queue.declare", queue="m.two", exclusive=True)
    t.call(1, "channel.open")
    t.call(1, "queue.declare", queue="m.two", passive=True)


@scenario("channel.flow channel.flow-ok")
def flow_on_is_answered(t):
    t.call(1, "channel.flow", active=True)


@scenario("channel.flow")
def flow_off_is_not_implemented(t):
    t.send(1, "channel.flow", active=False)
    t.refused()


@scenario("access.request access.request-ok")
def access_is_granted_as_ever(t):
    t.call(1, "access.request", realm="/data", read=True, write=True)
