//! What is changed in a message that goes on: priority, compression, headers (SPEC P3, P5, P7).

use umbel::celery::BodyLimits;
use umbel::celery::compression::{Codec, decompress};
use umbel::session::{Decision, Settle};
use umbel::wire::{ContentHeader, HeaderPatch};

use super::court::{LATER_US, court, every_message, message, rule, snapshot};

#[test]
fn a_priority_is_all_that_changes_where_a_rule_speaks_of_nothing_else() {
    let mut court = court(&rule("priority = 7"));
    let message = message("c570-py311-v2-json");
    let edited = court.edited(&message);
    let mut patch = HeaderPatch::new();
    patch.set_priority(7);
    assert_eq!(edited.header, Some(message.clone().patched(&patch).header));
    assert!(edited.place.is_none() && edited.body.is_none() && edited.target.is_none());
    assert!(court.counts(r#"umbel_tasks_reprioritised_total{rule="r"} 1"#));
}

#[test]
fn compressed_bodies_are_smaller_and_decompress_to_the_original_in_both_protocols() {
    for codec in Codec::ALL {
        let says = format!("compression = {{ codec = \"{}\", min_size = 128 }}", codec.name());
        let mut court = court(&rule(&says));
        let mut compressed = 0;
        for message in every_message().iter().filter(|m| m.is_task()) {
            let Decision::Edit(edited) = court.judge(message) else { continue };
            let edited = std::rc::Rc::unwrap_or_clone(edited);
            let header = edited.header.unwrap();
            let header = ContentHeader::parse(&header).unwrap();
            let named = header.headers().unwrap().get(b"compression");
            let Some(body) = edited.body else {
                assert!(named.is_none(), "{}: a repair takes the header away", message.name);
                continue;
            };
            compressed += 1;
            assert!(body.len() < message.whole_body().len(), "{}", message.name);
            assert_eq!(header.body_size, body.len() as u64);
            assert_eq!(named.unwrap().str_bytes(), Some(codec.content_type().as_bytes()));
            let plain = decompress(codec, &[&body], &BodyLimits::default()).unwrap();
            assert_eq!(plain, message.whole_body(), "{}", message.name);
        }
        assert!(compressed >= 5, "{codec:?}: {compressed}");
    }
}

#[test]
fn protocol_1_is_read_and_edited_in_every_serializer() {
    for name in [
        "c570-py311-v1-json",
        "c570-py311-v1-json-gzip",
        "c570-py311-v1-msgpack",
        "c570-py311-v1-pickle",
        "c570-py311-v1-yaml",
    ] {
        let policy = rule("match = { task = \"proj.*\", protocol = 1 }\npriority = 3");
        let mut live = court(&policy);
        assert!(live.edited(&message(name)).header.is_some(), "{name}");
        let mut late = court(&rule("expiry = { action = \"nack\" }")).at(LATER_US);
        if name != "c570-py311-v1-json" {
            assert_eq!(late.settled(&message(name)).settle, Settle::Nack, "{name}");
        }
    }
}

#[test]
fn a_header_that_no_longer_fits_its_frame_goes_as_it_came() {
    let mut patch = HeaderPatch::new();
    patch.set_header_str(b"padding", &[b'x'; 7650]);
    let task = message("c570-py311-v2-json").patched(&patch);
    let fits = 8192 - 8 - task.header.len();
    let headers =
        |bytes: usize| format!("route = {{ keep = true, headers = {{ h = \"{}\" }} }}", "x".repeat(bytes));
    let mut court = court(&rule(&headers(fits)));
    assert!(court.passes(&task));
    assert!(court.counts(r#"umbel_policy_mistakes_total{mistake="patch_does_not_fit"} 1"#));
    court.judge.replace(snapshot(&rule(&headers(10))));
    assert_eq!(court.edited(&task).header.unwrap().len(), task.header.len() + 17);
}
