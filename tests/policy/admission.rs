//! Who is let in, and dry runs (SPEC P6, P8).

use umbel::policy::{Aspect, By, Context, Fate, Memo, Message, Refusal, Verdict};
use umbel::wire::ContentHeader;
use umbel::wire::props::NewHeader;

use super::sent::{NOW, SECOND, Sent, policy, rule};

#[test]
fn admission_refuses_by_any_match_and_an_earlier_rule_may_let_in() {
    let toml = "[[rules]]\nname = \"ops\"\nmatch = { user = \"ops\" }\nadmission = { action = \"allow\" }\n\
                [[rules]]\nname = \"off\"\nmatch = { task = \"shop.*\" }\nadmission = { action = \"refuse\", reason = \"closed\" }\n";
    assert!(Sent::default().through(toml).verdict.contains("closed"));
    assert_eq!(Sent { user: "ops", ..Sent::default() }.through(toml).verdict, "Forward");
}

#[test]
fn only_what_exceeds_the_rate_is_kept_out() {
    let config = policy(&rule("admission = { action = \"drop\", rate = 1, burst = 3 }"));
    let mut memo = Memo::new();
    let kept =
        (0..10).filter(|_| Sent::default().judged(&config, &mut memo, |v, _, _, _| v.fate != Fate::Forward));
    assert_eq!(kept.count(), 7);
}

#[test]
fn what_is_no_task_passes_unless_a_rule_of_admission_says_traffic() {
    let payload = {
        let mut out = Vec::new();
        NewHeader { body_size: 0, ..NewHeader::default() }.write(&mut out);
        out
    };
    let header = ContentHeader::parse(&payload).unwrap();
    let message = Message { exchange: b"celery.pidbox", routing_key: b"", header: &header, task: None };
    let context =
        Context { vhost: b"/", user: "shop", client: "127.0.0.1".parse().unwrap(), now: NOW, random: 0 };
    let tasks = policy(&rule("priority = 9\nadmission = { action = \"refuse\" }\nroute = \"q\""));
    assert_eq!(tasks.policy.judge(&mut Memo::new(), &context, &message), Verdict::default());
    let toml = rule(
        "match = { traffic = \"other\", exchange = \"celery.pidbox\" }\nadmission = { action = \"refuse\", reason = \"no\" }",
    );
    let others = policy(&toml);
    let verdict = others.policy.judge(&mut Memo::new(), &context, &message);
    assert_eq!(verdict.fate, Fate::Refused { how: Refusal::Refuse, reason: "no" });
}

#[test]
fn a_rule_in_dry_run_is_noted_and_the_next_one_decides() {
    let toml =
        "[[rules]]\nname = \"new\"\ndry_run = true\npriority = 9\n[[rules]]\nname = \"old\"\npriority = 4\n";
    let config = policy(toml);
    Sent::default().judged(&config, &mut Memo::new(), |verdict, _, _, _| {
        assert_eq!(verdict.edits.priority, Some(4));
        assert_eq!(verdict.observed, [(Aspect::Priority, By::Rule(0))]);
    });
}

#[test]
fn a_policy_in_dry_run_changes_nothing_and_says_who_would_have() {
    let toml = "[policy]\ndry_run = true\n".to_owned()
        + &rule("priority = 9\nroute = \"q\"\nexpiry = { action = \"revoke\" }");
    let config = policy(&toml);
    Sent { expires: Some(NOW - SECOND), ..Sent::default() }.judged(
        &config,
        &mut Memo::new(),
        |verdict, message, _, context| {
            assert_eq!(verdict.fate, Fate::Forward);
            assert!(verdict.edits.is_empty());
            assert!(verdict.observed.contains(&(Aspect::Expiry, By::Rule(0))));
            let live = config.policy.judge_enforced(&mut Memo::new(), context, message);
            assert!(matches!(live.fate, Fate::Expired { .. }));
        },
    );
}
