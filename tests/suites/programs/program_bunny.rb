# Bunny, widely: each step prints `name: what was seen`.
require "bunny"
host, port, vhost = ARGV[0], ARGV[1].to_i, ARGV[2]
$stdout.sync = true
P = "s.bunny."
def say(step, seen) = puts("#{step}: #{seen.inspect}")
OPTIONS = { host: host, port: port, vhost: vhost, user: "guest", pass: "guest", automatically_recover: false,
            continuation_timeout: 5000, log_level: Logger::FATAL, heartbeat: 5 }

def refused(step)
  c = Bunny.new(OPTIONS).tap(&:start)
  ch = c.create_channel
  yield ch
  sleep 0.3
  ch.queue(P + "q", passive: true) if ch.open?
  say step, "accepted"
rescue => e
  say step, "#{e.class} #{e.message}"[0, 250]
ensure
  begin
    c.close if c&.open?
  rescue StandardError
    nil
  end
end

c = Bunny.new(OPTIONS).tap(&:start)
say "server", [c.server_properties["product"], c.server_capabilities.keys.sort]
ch = c.create_channel
q = ch.queue(P + "q", durable: true, arguments: { "x-max-priority" => 3 })
q.purge
kinds = { direct: "k", fanout: "", topic: "t.#", headers: "" }
kinds.each do |kind, key|
  x = Bunny::Exchange.new(ch, kind, P + kind.to_s)
  q.bind(x, routing_key: key, arguments: kind == :headers ? { "x-match" => "all", "h" => 1 } : {})
  x.publish("by #{kind}", routing_key: key.sub("#", "x"), headers: { "h" => 1, "deep" => { "list" => [1, "two", nil, true] } },
            persistent: true, priority: 1, correlation_id: "c", reply_to: "r", message_id: "m", timestamp: 1, type: "t",
            app_id: "a", content_type: "text/plain", content_encoding: "utf-8", expiration: "60000")
end
sleep 0.3
kinds.size.times do
  di, props, body = q.pop(manual_ack: true)
  say "popped", [body, di.exchange, di.routing_key, di.redelivered?, props.to_h.sort_by { |k, _| k.to_s }]
  ch.ack(di.delivery_tag)
end
e2e = ch.fanout(P + "e2e")
Bunny::Exchange.new(ch, :direct, P + "direct").bind(e2e, routing_key: "k")
e2e.publish("bound", routing_key: "k")
sleep 0.2
say "exchange to exchange", q.pop[2]
[0, 1, 131_063, 131_064, 131_065, 1 << 20].each do |n|
  ch.default_exchange.publish("x" * n, routing_key: q.name)
  got = nil
  50.times { got = q.pop[2]; break if got; sleep 0.05 }
  say "body of #{n}", got&.bytesize
end
sure = c.create_channel
sure.confirm_select
500.times { |i| sure.default_exchange.publish(i.to_s, routing_key: q.name) }
say "confirmed", sure.wait_for_confirms
say "nacked", sure.nacked_set.to_a
returned = Queue.new
x = sure.default_exchange
x.on_return { |info, _props, body| returned << [info.reply_code, info.reply_text, body] }
x.publish("lost", routing_key: P + "nowhere", mandatory: true)
sure.wait_for_confirms
say "returned", returned.pop
reader = c.create_channel
reader.prefetch(20)
seen = []
done = Queue.new
consumer = reader.queue(q.name, passive: true).subscribe(manual_ack: true) do |di, _props, body|
  seen << body.to_i
  reader.ack(di.delivery_tag)
  done << 1 if seen.size == 500
end
done.pop
say "in order", seen == (0...500).to_a
say "cancelled", consumer.cancel.class.name
3.times { |i| ch.default_exchange.publish("n#{i}", routing_key: q.name) }
sleep 0.2
tags = 3.times.map { reader.basic_get(q.name, manual_ack: true)[0].delivery_tag }
reader.nack(tags[1], true, true)
sleep 0.2
say "nacked multiple", 2.times.map { d = reader.basic_get(q.name, manual_ack: false); [d[2], d[0].redelivered] }
reader.reject(tags[2], true)
sleep 0.2
d = reader.basic_get(q.name, manual_ack: true)
reader.recover
sleep 0.2
again = reader.basic_get(q.name, manual_ack: false)
say "recovered", [d[2], again[2], again[0].redelivered]
told = Queue.new
doomed = reader.queue(P + "doomed", auto_delete: true)
doomed.subscribe(on_cancellation: ->(*) { told << true }) { |*| }
ch.queue_delete(P + "doomed")
say "cancel notification", told.pop
named = ch.queue("", exclusive: true)
say "server-named", named.name.start_with?("amq.gen-")
refused("405") { |o| o.queue(named.name, exclusive: true) }
tx = c.create_channel
tx.tx_select
tx.default_exchange.publish("rolled back", routing_key: q.name)
tx.tx_rollback
tx.default_exchange.publish("committed", routing_key: q.name)
tx.tx_commit
say "tx", [q.pop[2], q.pop[2]]
answers = Queue.new
rpc = c.create_channel
rpc.basic_consume("amq.rabbitmq.reply-to", "", true) { |_d, _p, body| answers << body }
rpc.default_exchange.publish("question", routing_key: q.name, reply_to: "amq.rabbitmq.reply-to")
sleep 0.3
_d, props, body = q.pop
ch.default_exchange.publish("answer to #{body}", routing_key: props.reply_to)
say "direct reply-to", answers.pop
say "status", [q.message_count, q.consumer_count]
refused("404 exchange") { |o| Bunny::Exchange.new(o, :direct, P + "none", no_declare: true).publish("x") }
refused("404 queue") { |o| o.queue(P + "none", passive: true) }
refused("406 inequivalent") { |o| o.queue(P + "q", durable: false) }
refused("406 tag") { |o| o.ack(99) }
refused("403") { |o| o.queue("amq.mine") }
refused("503") { |o| Bunny::Exchange.new(o, :nonsense, P + "odd") }
refused("404 bind") { |o| o.queue(P + "q", passive: true).bind(P + "none") }
[["guest", "wrong", vhost], ["guest", "guest", "s.none"]].each do |user, pass, place|
  Bunny.new(OPTIONS.merge(user: user, pass: pass, vhost: place)).start
  say "login #{pass} #{place}", "accepted"
rescue StandardError => e
  say "login #{pass} #{place}", "#{e.class} #{e.message}".gsub(/127.0.0.1:\d+/, "ADDRESS")[0, 250]
end
many = (1..50).map { c.create_channel }
say "fifty channels", many.map(&:open?).uniq
many.each(&:close)
sleep 12
say "idle at heartbeat 5", c.open?
say "deleted", q.delete.class.name
c.close
say "closed", c.closed?
