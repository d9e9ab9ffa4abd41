//! lapin, widely: each step prints `name: what was seen`. Its own suite (the crate's `tests`) is run beside this.
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Confirmation, ExchangeKind, Result};
use tokio::time::timeout;

fn say(step: &str, seen: impl std::fmt::Debug) {
    println!("{step}: {seen:?}");
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

struct Place {
    host: String,
    vhost: String,
}

impl Place {
    async fn login(&self, user: &str, password: &str, vhost: &str) -> Result<Connection> {
        let uri = format!("amqp://{user}:{password}@{}/{vhost}?heartbeat=5", self.host);
        Connection::connect(&uri, ConnectionProperties::default().with_connection_name("suite".into())).await
    }

    async fn connect(&self) -> Result<Connection> {
        self.login("guest", "guest", &self.vhost).await
    }
}

/// What a channel of a connection of its own hears when it does what the broker refuses.
async fn refused<F: AsyncFnOnce(&Channel) -> Result<()>>(place: &Place, step: &str, act: F) -> Result<()> {
    let connection = place.connect().await?;
    let channel = connection.create_channel().await?;
    match timeout(Duration::from_secs(5), act(&channel)).await {
        Ok(done) => say(step, done.map_err(|e| e.to_string())),
        Err(_) => say(step, "no answer"),
    }
    let _ = connection.close(200, "bye".into()).await;
    Ok(())
}

async fn publish(channel: &Channel, exchange: &str, key: &str, data: &[u8]) -> Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    channel.basic_publish(exchange.into(), key.into(), options, data, BasicProperties::default()).await?.await
}

async fn get(channel: &Channel, queue: &str, no_ack: bool) -> Result<Option<(String, String, bool)>> {
    let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack }).await?;
    Ok(got.map(|m| (text(&m.data), m.exchange.to_string(), m.redelivered)))
}

async fn topology(channel: &Channel) -> Result<()> {
    for (kind, name) in [(ExchangeKind::Direct, "direct"), (ExchangeKind::Fanout, "fanout"), (ExchangeKind::Topic, "topic"), (ExchangeKind::Headers, "headers")] {
        let (exchange, queue) = (format!("s.lapin.{name}"), format!("s.lapin.q.{name}"));
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
        channel.exchange_declare(exchange.as_str().into(), kind, ExchangeDeclareOptions::default(), FieldTable::default()).await?;
        let made = channel.queue_declare(queue.as_str().into(), QueueDeclareOptions { durable: true, ..Default::default() }, FieldTable::default()).await?;
        say(&format!("declared {name}"), (made.name().as_str(), made.message_count(), made.consumer_count()));
        let mut arguments = FieldTable::default();
        if name == "headers" {
            arguments.insert("x-match".into(), AMQPValue::LongString("any".into()));
            arguments.insert("h".into(), AMQPValue::LongInt(1));
        }
        channel.queue_bind(queue.as_str().into(), exchange.as_str().into(), "k".into(), QueueBindOptions::default(), arguments).await?;
        let mut headers = FieldTable::default();
        headers.insert("h".into(), AMQPValue::LongInt(1));
        let properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2).with_message_id("m".into());
        let confirmed = channel.basic_publish(exchange.as_str().into(), "k".into(), BasicPublishOptions::default(), name.as_bytes(), properties).await?.await?;
        say(&format!("published {name}"), confirmed);
        let got = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await?;
        say(&format!("got {name}"), got.map(|m| (text(&m.data), format!("{:?}", m.properties))));
    }
    channel.exchange_declare("s.lapin.e2e".into(), ExchangeKind::Fanout, ExchangeDeclareOptions { auto_delete: true, ..Default::default() }, FieldTable::default()).await?;
    channel.exchange_bind("s.lapin.direct".into(), "s.lapin.e2e".into(), "k".into(), ExchangeBindOptions::default(), FieldTable::default()).await?;
    say("exchange to exchange", publish(channel, "s.lapin.e2e", "k", b"through two").await?);
    say("through two", get(channel, "s.lapin.q.direct", true).await?);
    channel.exchange_unbind("s.lapin.direct".into(), "s.lapin.e2e".into(), "k".into(), ExchangeUnbindOptions::default(), FieldTable::default()).await?;
    Ok(())
}

async fn consuming(connection: &Connection, publisher: &Channel) -> Result<()> {
    let reader = connection.create_channel().await?;
    reader.basic_qos(50, BasicQosOptions::default()).await?;
    let mut confirms = Vec::new();
    for n in 0..1000 {
        confirms.push(publisher.basic_publish("".into(), "s.lapin.q.direct".into(), BasicPublishOptions::default(), format!("{n}").as_bytes(), BasicProperties::default()).await?);
    }
    let mut acked = 0;
    for confirm in confirms {
        acked += usize::from(confirm.await?.is_ack());
    }
    say("confirmed", acked);
    let mut consumer = reader.basic_consume("s.lapin.q.direct".into(), "tag".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    let (mut seen, mut redelivered) = (Vec::new(), 0);
    while seen.len() < 1000 {
        let Ok(Some(delivery)) = timeout(Duration::from_secs(8), consumer.next()).await else { break };
        let delivery = delivery?;
        // Every hundredth goes back once: the broker puts it where it was, or behind what is under way, so only the set is compared.
        let n: usize = text(&delivery.data).parse().unwrap_or(usize::MAX);
        if n.is_multiple_of(100) && !delivery.redelivered {
            delivery.nack(BasicNackOptions { requeue: true, multiple: false }).await?;
            continue;
        }
        redelivered += usize::from(delivery.redelivered);
        seen.push(n);
        delivery.ack(BasicAckOptions::default()).await?;
    }
    let steady: Vec<_> = seen.iter().filter(|n| !n.is_multiple_of(100)).collect();
    say("in order but for what was requeued", steady.is_sorted());
    seen.sort_unstable();
    seen.dedup();
    say("each once", (seen.len(), redelivered));
    reader.basic_cancel("tag".into(), BasicCancelOptions::default()).await?;
    say("purged", reader.queue_purge("s.lapin.q.direct".into(), QueuePurgeOptions::default()).await?);

    publish(publisher, "", "s.lapin.q.direct", b"unacknowledged").await?;
    say("taken", get(&reader, "s.lapin.q.direct", false).await?);
    reader.basic_recover(BasicRecoverOptions { requeue: true }).await?;
    let again = reader.basic_get("s.lapin.q.direct".into(), BasicGetOptions { no_ack: false }).await?;
    say("recovered", again.as_ref().map(|m| (text(&m.data), m.redelivered)));
    if let Some(again) = again {
        again.reject(BasicRejectOptions { requeue: false }).await?;
    }
    say("empty", get(&reader, "s.lapin.q.direct", false).await?);

    let cancelled = reader.queue_declare("s.lapin.gone".into(), QueueDeclareOptions::default(), FieldTable::default()).await?;
    let mut consumer = reader.basic_consume(cancelled.name().clone(), "told".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    publisher.queue_delete("s.lapin.gone".into(), QueueDeleteOptions::default()).await?;
    say("consumer cancel", timeout(Duration::from_secs(5), consumer.next()).await.map(|m| m.is_none()).ok());
    Ok(())
}

async fn transaction(connection: &Connection) -> Result<()> {
    let channel = connection.create_channel().await?;
    channel.tx_select().await?;
    for (data, keep) in [("rolled back", false), ("committed", true)] {
        channel.basic_publish("".into(), "s.lapin.q.topic".into(), BasicPublishOptions::default(), data.as_bytes(), BasicProperties::default()).await?;
        if keep { channel.tx_commit().await? } else { channel.tx_rollback().await? }
    }
    say("tx", get(&channel, "s.lapin.q.topic", true).await?);
    say("tx empty", get(&channel, "s.lapin.q.topic", true).await?);
    Ok(())
}

async fn rpc(place: &Place) -> Result<()> {
    let connection = place.connect().await?;
    let channel = connection.create_channel().await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut answers = channel.basic_consume("amq.rabbitmq.reply-to".into(), "r".into(), options, FieldTable::default()).await?;
    let asking = BasicProperties::default().with_reply_to("amq.rabbitmq.reply-to".into()).with_correlation_id("c".into());
    channel.basic_publish("".into(), "s.lapin.q.fanout".into(), BasicPublishOptions::default(), b"question", asking).await?;
    let server = place.connect().await?;
    let other = server.create_channel().await?;
    for _ in 0..50 {
        if let Some(asked) = other.basic_get("s.lapin.q.fanout".into(), BasicGetOptions { no_ack: true }).await? {
            let to = asked.properties.reply_to().clone().unwrap_or_default();
            other.basic_publish("".into(), to, BasicPublishOptions::default(), b"answer", BasicProperties::default()).await?;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = timeout(Duration::from_secs(5), answers.next()).await.ok().flatten().transpose()?;
    say("direct reply-to", answer.map(|a| text(&a.data)));
    connection.close(200, "bye".into()).await?;
    server.close(200, "bye".into()).await
}

async fn all(place: Place) -> Result<()> {
    let connection = place.connect().await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    topology(&channel).await?;
    consuming(&connection, &channel).await?;
    transaction(&connection).await?;
    rpc(&place).await?;

    let lost = publish(&channel, "", "s.lapin.nowhere", b"lost").await?;
    say("unroutable", (lost.is_ack(), lost.take_message().map(|m| (m.reply_code, m.reply_text.to_string(), text(&m.delivery.data)))));
    let named = channel.queue_declare("".into(), QueueDeclareOptions { exclusive: true, ..Default::default() }, FieldTable::default()).await?;
    say("server-named", named.name().as_str().starts_with("amq.gen-"));
    let mine = named.name().clone();
    let big: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[0]).collect();
    publish(&channel, "", mine.as_str(), &big).await?;
    let got = channel.basic_get(mine.clone(), BasicGetOptions { no_ack: true }).await?;
    say("a mebibyte", got.is_some_and(|m| m.data == big));

    refused(&place, "404 queue", async |c| c.queue_declare("s.lapin.none".into(), QueueDeclareOptions { passive: true, ..Default::default() }, FieldTable::default()).await.map(|_| ())).await?;
    refused(&place, "404 exchange", async |c| c.exchange_declare("s.lapin.none".into(), ExchangeKind::Direct, ExchangeDeclareOptions { passive: true, ..Default::default() }, FieldTable::default()).await).await?;
    refused(&place, "405", async |c| c.queue_declare(mine.clone(), QueueDeclareOptions { exclusive: true, ..Default::default() }, FieldTable::default()).await.map(|_| ())).await?;
    refused(&place, "406", async |c| c.queue_declare("s.lapin.q.direct".into(), QueueDeclareOptions::default(), FieldTable::default()).await.map(|_| ())).await?;
    refused(&place, "403", async |c| c.queue_declare("amq.mine".into(), QueueDeclareOptions::default(), FieldTable::default()).await.map(|_| ())).await?;
    refused(&place, "503", async |c| c.exchange_declare("s.lapin.odd".into(), ExchangeKind::Custom("nonsense".into()), ExchangeDeclareOptions::default(), FieldTable::default()).await).await?;
    refused(&place, "540", async |c| {
        c.basic_publish("".into(), "x".into(), BasicPublishOptions { immediate: true, mandatory: false }, b"x", BasicProperties::default()).await?;
        c.queue_declare("".into(), QueueDeclareOptions { exclusive: true, ..Default::default() }, FieldTable::default()).await.map(|_| ())
    }).await?;
    for (user, vhost) in [("wrong", place.vhost.as_str()), ("guest", "s.none")] {
        let answer = place.login(user, "guest", vhost).await.map(|_| ()).map_err(|e| e.to_string());
        say(&format!("login {user} {vhost}"), answer);
    }
    say("update-secret", connection.update_secret("guest".into(), "rotation".into()).await.map_err(|e| e.to_string()));
    tokio::time::sleep(Duration::from_secs(12)).await;
    say("idle at heartbeat 5", connection.status().connected());
    for name in ["direct", "fanout", "topic", "headers"] {
        say(&format!("deleted {name}"), channel.queue_delete(format!("s.lapin.q.{name}").into(), QueueDeleteOptions::default()).await?);
        channel.exchange_delete(format!("s.lapin.{name}").into(), ExchangeDeleteOptions::default()).await?;
    }
    connection.close(200, "bye".into()).await
}

#[tokio::main]
async fn main() {
    let [host, port, vhost] = std::env::args().skip(1).collect::<Vec<_>>().try_into().expect("HOST PORT VHOST");
    let ended = all(Place { host: format!("{host}:{port}"), vhost }).await;
    say("closed", ended.map_err(|e| e.to_string()));
}
