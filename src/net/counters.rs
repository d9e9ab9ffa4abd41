//! The Hub's plain numbers into the metrics that others read, ten times a second and whenever they are asked for: no atomic on the
//! way of a publish.

use std::rc::Rc;

use super::thread::Thread;
use crate::metrics::{
    LeaseState, Limit, LinkState, Login, Metrics, Mistake, NackOrigin, Refusal, Returned, Scope,
    SessionState, SpoolExit,
};
use crate::session::{Counters, LinkLook};

/// Adds what has happened since `before`.
pub fn publish(metrics: &Metrics, before: &mut Counters, now: &Counters) {
    let d = |f: fn(&Counters) -> u64| f(now).saturating_sub(f(before));
    let ledger = &metrics.delivery.ledger;
    ledger.forwarded.inc_by(d(|c| c.forwarded));
    ledger.spooled.inc_by(d(|c| c.spooled));
    ledger.expired.inc_by(d(|c| c.expired));
    for (why, count) in [
        (Refusal::WindowFull, d(|c| c.refused_window)),
        (Refusal::SpoolFull, d(|c| c.refused_spool)),
        (Refusal::Policy, d(|c| c.refused_policy)),
        (Refusal::UpstreamNack, d(|c| c.refused_nack)),
        (Refusal::UpstreamError, d(|c| c.refused_error)),
        (Refusal::RetriesExhausted, d(|c| c.refused_retries)),
    ] {
        ledger.refused.of(why).inc_by(count);
    }
    ledger.accepted.inc_by(d(|c| c.accepted));
    let exits = &metrics.delivery.spool.exits;
    exits
        .of(SpoolExit::Forwarded)
        .inc_by(d(|c| c.records_done.saturating_sub(c.replayed_expired + c.replayed_refused)));
    let aged = d(|c| c.spool_aged);
    if aged > 0 {
        tracing::warn!(messages = aged, "messages waited longer than spool.max_age, and are gone");
    }
    exits.of(SpoolExit::Moved).inc_by(d(|c| c.records_moved));
    exits.of(SpoolExit::Expired).inc_by(d(|c| c.replayed_expired));
    exits.of(SpoolExit::Refused).inc_by(d(|c| c.replayed_refused));
    let refused = d(|c| c.put_aside);
    metrics.delivery.spool.put_aside.inc_by(refused);
    if refused > 0 {
        tracing::warn!(
            messages = refused,
            "an upstream has refused what was accepted before (/status has its words): it stays in the spool, and is tried again in turn"
        );
    }
    metrics.delivery.nacked.of(NackOrigin::Upstream).inc_by(d(|c| c.nacked));
    metrics.tasks.declared.inc_by(d(|c| c.targets_declared));
    metrics.delivery.returned.of(Returned::NoRoute).inc_by(d(|c| c.returned + c.returned_watched));
    mistakes(metrics, d(|c| c.targets_missing), d(|c| c.routes_turned_back));
    metrics.flows.client_in.frames.inc_by(d(|c| c.frames_in));
    let clients = &metrics.clients;
    clients.logins.of(Login::Accepted).inc_by(d(|c| c.logins_accepted + c.logins_remembered));
    clients.logins.of(Login::WrongPassword).inc_by(d(|c| c.logins_refused));
    clients.logins.of(Login::UpstreamDown).inc_by(d(|c| c.logins_unreachable));
    clients.credentials_cache.of(crate::metrics::CacheAnswer::Hit).inc_by(d(|c| c.logins_remembered));
    clients.credentials_cache.of(crate::metrics::CacheAnswer::Miss).inc_by(d(|c| c.logins_accepted));
    clients.errors.of(Scope::Channel).inc_by(d(|c| c.channel_errors));
    clients.errors.of(Scope::Connection).inc_by(d(|c| c.connection_errors));
    for (limit, count) in [
        (Limit::FrameSize, d(|c| c.limit_frame)),
        (Limit::MessageSize, d(|c| c.limit_message)),
        (Limit::Assembly, d(|c| c.limit_assembly)),
        (Limit::Channels, d(|c| c.limit_channels)),
        (Limit::Connections, d(|c| c.limit_sessions)),
        (Limit::ConnectionsPerHost, d(|c| c.limit_sessions_per_ip)),
        (Limit::IdleTime, d(|c| c.limit_idle)),
        (Limit::Memory, d(|c| c.limit_memory)),
        (Limit::HandshakeTime, d(|c| c.limit_handshake)),
        (Limit::TableDepth, d(|c| c.limit_table)),
        (Limit::Window, d(|c| c.limit_window)),
        (Limit::OutBacklog, d(|c| c.limit_backlog)),
    ] {
        clients.limits.of(limit).inc_by(count);
    }
    clients
        .reads_paused_seconds
        .inc_by(std::time::Duration::from_millis(d(|c| c.reads_paused_ms)).as_secs_f64());
    let confirms = d(|c| c.confirm_count);
    if let Some(each) = d(|c| c.confirm_wait_ms).checked_div(confirms) {
        metrics.delivery.confirm_seconds.observe(std::time::Duration::from_millis(each), confirms);
    }
    *before = now.clone();
}

/// Routes that could not be kept: the tasks went where they were going, or were left out (P9).
fn mistakes(metrics: &Metrics, missing: u64, turned_back: u64) {
    metrics.tasks.mistakes.of(Mistake::MissingTarget).inc_by(missing);
    metrics.tasks.mistakes.of(Mistake::UnknownUpstream).inc_by(turned_back);
    if missing > 0 {
        tracing::warn!(
            tasks = missing,
            "a route's target is not there and could not be made; its tasks go where they were going"
        );
    }
    if turned_back > 0 {
        tracing::warn!(
            tasks = turned_back,
            "a route's upstream, or its target there, is not to be had; its tasks go where they were going"
        );
    }
}

/// What waits on disk.
pub fn spool(metrics: &Metrics, shelf: &super::shelf::Shelf) {
    let look = shelf.look();
    let set = |gauge: &crate::metrics::IntGauge, n: u64| gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
    set(&metrics.delivery.spool.messages, look.records);
    set(&metrics.delivery.spool.bytes, look.bytes);
    metrics
        .delivery
        .spool
        .oldest_age_seconds
        .set(std::time::Duration::from_secs(look.oldest_seconds).as_secs_f64());
}

/// What there is now.
pub fn gauges(thread: &Rc<Thread>) {
    let hub = thread.hub.borrow();
    let totals = hub.totals();
    let sessions = &thread.metrics.clients.sessions;
    let set = |state, n: usize| sessions.of(state).set(number(n));
    set(SessionState::Handshake, totals.handshaking);
    set(SessionState::Pooled, totals.pooled);
    set(SessionState::Pinned, totals.pinned);
    set(SessionState::Closing, totals.closing);
    let (backlog, paused) = hub.held_back();
    thread.metrics.clients.backlog_bytes.set(number(backlog));
    thread.metrics.clients.reads_paused.set(number(paused));
    thread.metrics.clients.channels.set(number(totals.channels));
    thread.metrics.delivery.spool.aside.set(i64::try_from(hub.spool_aside()).unwrap_or(i64::MAX));
    thread.metrics.delivery.unconfirmed_messages.set(i64::try_from(hub.unsettled()).unwrap_or(i64::MAX));
}

/// Each upstream's state, its links, and what it has cost so far.
pub fn upstreams(thread: &Rc<Thread>) {
    let hub = thread.hub.borrow();
    let links = hub.look_links(thread.now());
    thread.metrics.delivery.unconfirmed_bytes.set(number(links.iter().map(|l| l.held).sum()));
    for index in 0.. {
        let Some(id) = hub.upstream_at(index) else { break };
        let (Some(look), Some(name)) = (hub.look_upstream(id), hub.upstream_name(id)) else { continue };
        let metrics = thread.metrics.upstreams.upstream(name);
        let mine = || links.iter().filter(|l| l.upstream == id);
        metrics.up.set(i64::from(mine().any(|l| l.state == "up")));
        metrics.blocked.set(i64::from(mine().any(|l| l.blocked)));
        for (word, gauge) in metrics.links.all() {
            gauge.set(number(mine().filter(|l| state_word(l) == word).count()));
        }
        let leased: usize = mine().map(|l| l.leased).sum();
        let channels: usize = mine().map(|l| l.channels).sum();
        metrics.leases.of(LeaseState::Lent).set(number(leased));
        metrics.leases.of(LeaseState::Free).set(number(channels.saturating_sub(leased)));
        for (counter, total) in [
            (&metrics.resends, look.resent),
            (&metrics.opened, look.opened),
            (&metrics.retries, look.retries),
            (&metrics.confirms, look.confirmed),
        ] {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}

fn number(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn state_word(link: &LinkLook) -> LinkState {
    match link.state {
        "dialing" => LinkState::Dialing,
        "login" => LinkState::Login,
        "up" if link.blocked => LinkState::Blocked,
        "up" => LinkState::Open,
        _ => LinkState::Draining,
    }
}
