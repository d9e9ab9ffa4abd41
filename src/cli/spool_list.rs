//! What `umbel spool ls` prints: a line a queue for people, or JSON.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::net::spool::QueueReport;

/// The queues of a spool.
pub fn list(path: &Path, queues: &[QueueReport], as_json: bool, now_us: u64) -> String {
    let messages: u64 = queues.iter().map(|q| q.records).sum();
    let bytes: u64 = queues.iter().map(|q| q.bytes).sum();
    if as_json {
        let queue = |q: &QueueReport| {
            json!({
                "upstream": q.key.upstream, "vhost": q.key.vhost, "user": q.key.user, "queue": q.queue.0,
                "messages": q.records, "bytes": q.bytes, "oldest_us": q.oldest_us,
                "refused": q.refused.values().sum::<u64>(), "refusals": refusals(q),
                "oldest_seconds": q.oldest_us.map(|at| now_us.saturating_sub(at) / 1_000_000),
            })
        };
        let queues: Vec<_> = queues.iter().map(queue).collect();
        let all = json!({ "path": path.display().to_string(), "messages": messages, "bytes": bytes, "queues": queues });
        return format!("{all}\n");
    }
    if queues.is_empty() {
        return format!("{}: nothing waits\n", path.display());
    }
    let heads = ["UPSTREAM", "VHOST", "USER", "MESSAGES", "BYTES", "OLDEST", "REFUSED", "WHY"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(queues.iter().map(|q| {
        let oldest = q.oldest_us.map_or_else(String::new, |at| age(now_us.saturating_sub(at) / 1_000_000));
        [
            q.key.upstream.clone(),
            q.key.vhost.clone(),
            q.key.user.clone(),
            q.records.to_string(),
            size(q.bytes),
            oldest,
            q.refused.values().sum::<u64>().to_string(),
            why(q),
        ]
    }));
    format!("{}{messages} messages, {} in {}\n", table(&rows), size(bytes), path.display())
}

fn refusals(q: &QueueReport) -> Map<String, Value> {
    q.refused.iter().map(|(why, count)| (why.to_string(), json!(count))).collect()
}

/// What brokers have said of most of those they refused, and whether there is more.
fn why(q: &QueueReport) -> String {
    let most = q.refused.iter().max_by_key(|(_, count)| **count).map(|(why, _)| &**why).unwrap_or_default();
    let more = q.refused.len().saturating_sub(1);
    if more == 0 { most.to_owned() } else { format!("{most} (and {more} more)") }
}

/// Columns as wide as their widest cell; numbers to the right, words to the left.
fn table(rows: &[[String; 8]]) -> String {
    let mut widths = [0; 8];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(widths).enumerate().map(|(n, (cell, width))| {
            if n < 3 || n == 7 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Seconds as the two largest of their units.
fn age(seconds: u64) -> String {
    let parts =
        [("d", seconds / 86_400), ("h", seconds / 3600 % 24), ("m", seconds / 60 % 60), ("s", seconds % 60)];
    let from = parts.iter().position(|(_, n)| *n > 0).unwrap_or(parts.len() - 1);
    parts.iter().skip(from).take(2).map(|(unit, n)| format!("{n}{unit}")).collect()
}

fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let tenths = (bytes >> (shift - 10)).saturating_mul(10) >> 10;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::spool::{QueueId, QueueKey};

    #[test]
    fn ages_and_sizes_read_well() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m1s"), (3600, "1h0m"), (90_061, "1d1h")] {
            assert_eq!(age(seconds), text);
        }
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn queues_stand_in_a_table_with_their_sum_below() {
        let key = QueueKey {
            upstream: "default".into(),
            vhost: "/".into(),
            user: "shop".into(),
            identity: [0; 32],
            ahead: false,
        };
        let refused =
            [("404 NOT_FOUND", 2), ("403 ACCESS_REFUSED", 1)].map(|(why, n)| (why.into(), n)).into();
        let (queue, oldest_us) = (QueueId(1), Some(1_000_000));
        let queue = QueueReport { queue, key, records: 12, bytes: 4096, oldest_us, refused };
        let text = list(Path::new("dir"), &[queue], false, 62_000_000);
        assert_eq!(
            text,
            "UPSTREAM  VHOST  USER  MESSAGES    BYTES  OLDEST  REFUSED  WHY\n\
             default   /      shop        12  4.0 KiB    1m1s        3  404 NOT_FOUND (and 1 more)\n\
             12 messages, 4.0 KiB in dir\n"
        );
        assert_eq!(list(Path::new("dir"), &[], false, 0), "dir: nothing waits\n");
    }
}
