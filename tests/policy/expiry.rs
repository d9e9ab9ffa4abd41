//! Tasks that have expired, and expiries that are imposed (SPEC P4).

use umbel::celery::{BodyLimits, Publish, Reading, read};
use umbel::policy::edit::{Means, edit};
use umbel::policy::{Context, ExpiryAction, Fate, Memo, Message};
use umbel::wire::ContentHeader;
use umbel::wire::props::NewHeader;

use super::sent::{NOW, SECOND, Sent, policy, rule};

#[test]
fn a_task_is_expired_strictly_after_its_moment_or_when_its_eta_lies_behind_it() {
    let toml = rule("expiry = { action = \"revoke\" }");
    let fate = |expires, eta| Sent { expires: Some(expires), eta, ..Sent::default() }.through(&toml).verdict;
    assert_eq!(fate(NOW, None), "Forward");
    assert!(fate(NOW - 1, None).contains("Revoke"));
    assert!(fate(NOW + 60 * SECOND, Some(NOW + 61 * SECOND)).contains("Revoke"));
    assert_eq!(fate(NOW + 60 * SECOND, Some(NOW + 60 * SECOND)), "Forward");
}

#[test]
fn without_a_rule_of_expiry_an_expired_task_passes() {
    assert_eq!(
        Sent { expires: Some(NOW - SECOND), ..Sent::default() }.through(&rule("priority = 3")).verdict,
        "Forward"
    );
}

#[test]
fn each_action_for_the_expired_is_its_own() {
    let fate = |action: &str| {
        let toml =
            rule(&format!("expiry = {{ action = \"{action}\" }}")) + "[dead_letter]\nqueue = \"dead\"\n";
        Sent { expires: Some(NOW - SECOND), ..Sent::default() }.through(&toml).verdict
    };
    assert!(fate("dead-letter").contains("\"dead\""));
    assert!(fate("return").contains("Return"));
    assert!(fate("nack").contains("Nack"));
    assert_eq!(fate("pass"), "Forward");
}

#[test]
fn an_expiry_is_imposed_on_who_set_none_counted_from_the_eta_and_a_longer_one_is_cut() {
    let toml = rule("expiry = { default = \"1m\", max = \"1h\" }");
    let expires = |sent: Sent| sent.through(&toml).expires;
    assert_eq!(expires(Sent::default()), Some(NOW + 60 * SECOND));
    assert_eq!(
        expires(Sent { eta: Some(NOW + 3600 * SECOND), ..Sent::default() }),
        Some(NOW + 3660 * SECOND)
    );
    assert_eq!(
        expires(Sent { expires: Some(NOW + 7200 * SECOND), ..Sent::default() }),
        Some(NOW + 3600 * SECOND)
    );
    assert_eq!(expires(Sent { expires: Some(NOW + 5 * SECOND), ..Sent::default() }), None);
}

#[test]
fn the_remaining_time_is_stamped_as_ttl_and_a_shorter_one_stays() {
    let toml = rule("expiry = { stamp_ttl = true }");
    let ttl = |expiration| {
        Sent { expires: Some(NOW + 90 * SECOND), expiration, ..Sent::default() }.through(&toml).ttl_ms
    };
    assert_eq!(ttl(None), Some(90_000));
    assert_eq!(ttl(Some("90001")), Some(90_000));
    assert_eq!(ttl(Some("5")), None);
    assert_eq!(Sent::default().through(&toml).ttl_ms, None);
}

#[test]
fn expiry_is_asked_again_later_and_on_delivery_where_a_rule_wants_that() {
    let config = policy(&rule("expiry = { action = \"revoke\" }"));
    let delivering = policy(&rule("expiry = { action = \"revoke\", on_delivery = true }"));
    assert!(!config.policy.watches_deliveries() && delivering.policy.watches_deliveries());
    let sent = Sent { expires: Some(NOW + SECOND), ..Sent::default() };
    sent.judged(&config, &mut Memo::new(), |verdict, message, _, context| {
        assert_eq!(verdict.fate, Fate::Forward);
        let later = Context { now: NOW + 2 * SECOND, ..*context };
        let expired = config.policy.expired_since(&mut Memo::new(), &later, message).unwrap();
        assert_eq!((expired.action, expired.at), (&ExpiryAction::Revoke, NOW + SECOND));
        assert!(config.policy.expired_since(&mut Memo::new(), context, message).is_none());
        assert!(config.policy.expired_on_delivery(&mut Memo::new(), &later, message).is_none());
        assert!(delivering.policy.expired_on_delivery(&mut Memo::new(), &later, message).is_some());
    });
}

#[test]
fn an_expiry_is_imposed_on_protocol_1_in_its_body() {
    let body = br#"{"task": "shop.checkout", "id": "an-id", "args": [], "kwargs": {}, "retries": 0, "expires": null, "utc": true}"#;
    let mut payload = Vec::new();
    let content_type = Some(&b"application/json"[..]);
    NewHeader { body_size: body.len() as u64, content_type, ..NewHeader::default() }.write(&mut payload);
    let header = ContentHeader::parse(&payload).unwrap();
    let publish = Publish { exchange: b"celery", routing_key: b"celery", header: &header, body: &[body] };
    let limits = BodyLimits::default();
    let Reading::Task(task) = read(&publish, &limits) else { panic!("not a task") };
    let message = Message { exchange: b"celery", routing_key: b"celery", header: &header, task: Some(&task) };
    let context =
        Context { vhost: b"/", user: "guest", client: "127.0.0.1".parse().unwrap(), now: NOW, random: 0 };
    let config = policy(&rule("expiry = { default = \"1m\" }"));
    let verdict = config.policy.judge(&mut Memo::new(), &context, &message);
    let edited = edit(&verdict.edits, &message, &payload, &[body], &Means::default()).unwrap();
    let new = edited.body.unwrap();
    assert!(
        String::from_utf8_lossy(&new).contains("\"expires\": \"2026-11-22T00:01:00.000000+00:00\""),
        "{}",
        String::from_utf8_lossy(&new)
    );
    assert_eq!(ContentHeader::parse(&edited.header.unwrap()).unwrap().body_size, new.len() as u64);
}
