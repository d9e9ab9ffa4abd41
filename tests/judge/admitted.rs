//! What passes untouched, what is kept out, and what a dry run only notes (SPEC T4, P6, P8).

use umbel::session::{Decision, Kept, Settle};

use super::court::{LATER_US, Message, court, every_message, message, rule, snapshot};

#[test]
fn every_captured_message_passes_untouched_under_the_default_config() {
    let mut court = court("");
    for message in every_message() {
        assert!(court.passes(&message), "{}", message.name);
    }
    let (tasks, others): (Vec<_>, Vec<_>) = every_message().into_iter().partition(Message::is_task);
    assert_eq!(
        (court.sum("umbel_tasks_total"), court.sum("umbel_non_tasks_total")),
        (tasks.len(), others.len())
    );
}

#[test]
fn what_is_no_task_passes_every_rule_that_speaks_of_tasks() {
    let policy = "policy.default_queue = \"vec\"\n\
                  [[rules]]\nname = \"all\"\nroute = { queue = \"x\", override = true }\npriority = 9\n\
                  expiry = { action = \"nack\", max = \"1s\", stamp_ttl = true }\ncompression = { codec = \"zlib\", min_size = 128 }\n";
    let mut court = court(policy).at(LATER_US);
    for message in every_message().iter().filter(|m| !m.is_task()) {
        assert!(court.passes(message), "{}", message.name);
    }
}

#[test]
fn admission_keeps_out_as_its_action_says() {
    let task = message("c570-py311-v2-json");
    let says = |action: &str| rule(&format!("admission = {{ action = \"{action}\", reason = \"off\" }}"));
    assert_eq!(court(&says("refuse")).settled(&task).settle, Settle::Nack);
    let plain = court(&says("refuse")).without_confirms().settled(&task).settle;
    assert_eq!(plain, Settle::Close(403, "off".to_owned()));
    assert_eq!(court(&says("nack")).without_confirms().settled(&task).settle, Settle::Nack);
    assert_eq!(
        court(&says("return")).settled(&task).settle,
        Settle::Return(312, "NO_ROUTE - off".to_owned())
    );
    let mut court = court(&says("drop"));
    let dropped = court.settled(&task);
    assert_eq!((dropped.settle, dropped.instead.len(), dropped.kept), (Settle::Ack, 0, Kept::Refused));
    assert!(court.counts(
        r#"umbel_tasks_total{name="proj.tasks.add",rule="r",upstream="default",verdict="refuse"} 1"#
    ));
}

#[test]
fn what_is_no_task_can_be_kept_out_where_a_rule_says_so() {
    let says = "match = { traffic = \"other\", exchange = \"celery.pidbox\", user = \"shop\" }\nadmission = { action = \"refuse\" }";
    let mut court = court(&rule(says)).without_confirms();
    assert!(matches!(
        court.settled(&message("c570-py311-nontask-pidbox-broadcast-revoke")).settle,
        Settle::Close(403, _)
    ));
    assert!(court.passes(&message("c570-py311-v2-json")));
}

#[test]
fn a_dry_run_changes_nothing_and_counts_what_it_would_have_done() {
    let mut court = court(&format!("[policy]\ndry_run = true\n{}", rule("priority = 9")));
    let task = message("c570-py311-v2-json");
    assert!(court.passes(&task));
    assert!(court.counts(r#"umbel_rule_matches_total{mode="observe",rule="r"} 1"#));
    assert!(court.counts(
        r#"umbel_tasks_total{name="proj.tasks.add",rule="none",upstream="default",verdict="forward"} 1"#
    ));
}

#[test]
fn a_new_snapshot_judges_from_the_next_message_on() {
    let mut court = court(&rule("priority = 9"));
    let task = message("c570-py311-v2-json");
    assert!(matches!(court.judge(&task), Decision::Edit(_)));
    court.judge.replace(snapshot(""));
    assert!(court.passes(&task));
}
