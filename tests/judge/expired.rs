//! What becomes of a task that has expired: when it comes, when it is sent again, and on its way to a worker (SPEC P4).

use serde_json::Value;
use umbel::celery;
use umbel::net::judge::Handed;
use umbel::session::{Authored, Decision, Judge, Kept, Settle};
use umbel::wire::method::{MethodId, MethodWriter};
use umbel::wire::{ContentHeader, HeaderPatch, Property};

use super::court::{LATER_US, court, message, rule};

#[test]
fn an_expired_task_is_revoked_with_the_very_bytes_that_a_worker_sends() {
    let real = message("c570-py311-nontask-result-rpc-REVOKED-expired");
    let done: Value = serde_json::from_slice(&real.whole_body()).unwrap();
    let id = done["task_id"].as_str().unwrap();
    let mut patch = HeaderPatch::new();
    patch.set_header_str(b"id", id.as_bytes());
    patch.set_short(Property::ReplyTo, &real.routing_key).unwrap();
    let task = message("c570-py311-v2-json-expires-past").patched(&patch);
    let at = celery::time::parse(done["date_done"].as_str().unwrap().as_bytes()).unwrap().unix_micros;
    let mut court = court(&rule("expiry = { action = \"revoke\" }")).at(at);

    let settled = court.settled(&task);
    assert_eq!(settled.settle, Settle::Ack);
    let [result, event] = &settled.instead[..] else { panic!("{settled:?}") };
    assert_eq!((&result.exchange, &result.routing_key), (&real.exchange, &real.routing_key));
    assert_eq!((&result.header, &result.body), (&real.header, &real.whole_body()));
    assert!(result.target.is_none());
    assert_eq!((&event.exchange[..], &event.routing_key[..]), (&b"celeryev"[..], &b"task.revoked"[..]));
    let json: Value = serde_json::from_slice(&event.body).unwrap();
    assert_eq!((&json["type"], &json["uuid"]), (&"task-revoked".into(), &id.into()));
    let exchange = MethodWriter::new(MethodId::EXCHANGE_DECLARE).short(0).shortstr(b"celeryev");
    let exchange = exchange.shortstr(b"topic").octet(2).longstr(&[]).done();
    assert_eq!(event.target.as_ref().unwrap().methods, [exchange]);
    assert!(court.counts(r#"umbel_tasks_expired_total{action="revoke",rule="r"} 1"#));
    assert_eq!(settled.kept, Kept::Expired);
}

#[test]
fn nobody_gets_a_result_who_asked_for_none() {
    let mut deaf = HeaderPatch::new();
    deaf.remove(Property::ReplyTo);
    let mut ignoring = HeaderPatch::new();
    ignoring.set_header(b"ignore_result", &umbel::wire::Value::Bool(true));
    for patch in [deaf, ignoring] {
        let task = message("c570-py311-v2-json-expires-past").patched(&patch);
        let settled = court(&rule("expiry = { action = \"revoke\" }")).settled(&task);
        let exchanges: Vec<&[u8]> = settled.instead.iter().map(|a| &a.exchange[..]).collect();
        assert_eq!(exchanges, [b"celeryev"]);
    }
}

#[test]
fn each_other_action_on_expiry_settles_as_it_says() {
    let task = message("c570-py311-v2-json-expires-past");
    let settle = |action: &str| court(&rule(&format!("expiry = {{ action = \"{action}\" }}"))).settled(&task);
    assert_eq!(settle("nack").settle, Settle::Nack);
    let Settle::Return(312, text) = settle("return").settle else { panic!("not returned") };
    assert_eq!(text, "NO_ROUTE - expired at 2001-02-03T04:05:06.000000+00:00");
    assert!(court(&rule("expiry = { action = \"pass\" }")).passes(&task));
}

#[test]
fn a_dead_letter_is_the_message_itself_with_the_reasons_in_its_headers() {
    let policy = "[dead_letter]\nqueue = \"umbel.dead\"\n";
    let mut patch = HeaderPatch::new();
    patch.set_expiration_ms(60_000).set_header_str(b"CC", b"elsewhere");
    let task = message("c570-py311-v2-json-expires-past").patched(&patch);
    let mut court = court(&format!("{policy}{}", rule("expiry = { action = \"dead-letter\" }")));
    let settled = court.settled(&task);
    assert_eq!(settled.settle, Settle::Ack);
    let [Authored { exchange, routing_key, header, body, target, .. }] = &settled.instead[..] else {
        panic!("{settled:?}")
    };
    assert_eq!((&exchange[..], &routing_key[..], body), (&b""[..], &b"umbel.dead"[..], &task.whole_body()));
    assert_eq!(target.as_ref().unwrap().name, "queue umbel.dead");
    let header = ContentHeader::parse(header).unwrap();
    let says = |name: &[u8]| {
        let value = header.headers().unwrap().get(name)?;
        Some(String::from_utf8(value.str_bytes()?.to_vec()).unwrap())
    };
    assert_eq!(says(b"x-umbel-reason").as_deref(), Some("expired"));
    assert_eq!(says(b"x-umbel-detail").as_deref(), Some("expired at 2001-02-03T04:05:06.000000+00:00"));
    assert_eq!(says(b"x-umbel-rule").as_deref(), Some("r"));
    assert_eq!(
        (says(b"x-umbel-exchange").as_deref(), says(b"x-umbel-routing-key").as_deref()),
        (Some(""), Some("vec"))
    );
    assert_eq!(says(b"x-umbel-time").as_deref(), Some("2026-11-22T07:00:00.000000+00:00"));
    assert_eq!((says(b"x-umbel-expiration").as_deref(), header.expiration()), (Some("60000"), None));
    assert_eq!(says(b"CC"), None, "a broker would send it there too");
    assert!(court.counts(r#"umbel_messages_dead_lettered_total{reason="expired"} 1"#));
}

#[test]
fn sent_again_a_task_is_asked_for_its_expiry_and_nothing_else() {
    let policy = rule("priority = 9\nexpiry = { action = \"revoke\" }");
    let fresh = message("c570-py311-v2-json-expires-float");
    let mut early = court(&policy);
    assert!(matches!(early.view(&fresh, |judge, now, view| judge.again(now, view)), Decision::Pass));
    let mut late = court(&policy).at(LATER_US);
    let decision = late.view(&fresh, |judge, now, view| judge.again(now, view));
    assert!(matches!(decision, Decision::Settle(settled) if settled.settle == Settle::Ack));
}

#[test]
fn a_delivery_is_withheld_only_where_a_rule_watches_them() {
    let task = message("c570-py311-v2-json-expires-past");
    let withheld =
        |says: &str| court(&rule(says)).view(&task, |judge, now, view| judge.expired_on_delivery(now, view));
    assert!(withheld("expiry = { action = \"revoke\" }").is_none());
    let revoked = withheld("expiry = { action = \"revoke\", on_delivery = true }").unwrap();
    assert_eq!((revoked.handed, revoked.instead.len()), (Handed::Ack, 2));
    let rejected = withheld("expiry = { action = \"nack\", on_delivery = true }").unwrap();
    assert_eq!((rejected.handed, rejected.instead.len()), (Handed::Reject, 0));
}

#[test]
fn an_expiry_that_nobody_can_judge_passes_and_is_counted_for_the_rule_that_asked() {
    let mut court = court(&rule("expiry = { action = \"nack\" }")).at(LATER_US);
    let mut patch = HeaderPatch::new();
    patch.set_header_str(b"expires", b"tomorrow");
    let text = message("c570-py311-v2-json").patched(&patch);
    let mut patch = HeaderPatch::new();
    patch.set_header(b"expires", &umbel::wire::Value::F64(1.5));
    let number = message("c570-py311-v2-json").patched(&patch);
    assert!(court.passes(&text) && court.passes(&number));
    assert!(court.passes(&message("c570-py311-v2-json")), "none stated");
    assert!(court.counts(r#"umbel_tasks_expiry_unjudged_total{rule="r"} 2"#));
    assert_eq!(court.sum("umbel_tasks_expired_total"), 0);
}

#[test]
fn a_datetime_in_a_pickled_body_expires_its_task_as_a_worker_would_have_it() {
    // Python 3.11, protocol 2: {'task': 'proj.tasks.add', 'id': …, 'args': [], 'kwargs': {}, 'retries': 0, 'expires': datetime, aware}.
    let mut pickled = message("c570-py311-v1-pickle");
    let text = |text: &str| {
        let mut out = vec![b'X', u8::try_from(text.len()).unwrap(), 0, 0, 0];
        out.extend_from_slice(text.as_bytes());
        out
    };
    let moment: &[u8] = b"cdatetime\ndatetime\nc_codecs\nencode\nX\x0c\0\0\0\x07\xc3\xaa\x0b\x1a\x0c\x1e-\x01\xc3\xa2@X\x06\0\0\0latin1\x86R\
        cdatetime\ntimezone\ncdatetime\ntimedelta\nK\0K\0K\0\x87R\x85R\x86R";
    let task =
        [text("task"), text("proj.tasks.add"), text("id"), text("1"), text("retries"), b"K\0".to_vec()]
            .concat();
    let body = [&b"\x80\x02}("[..], &task, &text("expires"), moment, b"u."].concat();
    let mut size = HeaderPatch::new();
    size.set_body_size(body.len() as u64);
    pickled = pickled.patched(&size);
    pickled.body = vec![body];
    // 2026-11-26T12:30:45.123456Z
    let at = 1_795_696_245_123_456;
    let policy = rule("expiry = { action = \"nack\" }");
    assert!(court(&policy).at(at).passes(&pickled));
    assert_eq!(court(&policy).at(at + 1).settled(&pickled).settle, Settle::Nack);
}
