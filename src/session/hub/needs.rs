//! What a method needs, read off its id and its bits: a link of its own, what is before it settled, a reply.

use crate::wire::Reader;
use crate::wire::method::{self, Field, MethodId};
use crate::wire::table::Table;

/// Exchange types that every RabbitMQ knows; declaring another one may end the whole connection (503).
const PLAIN_TYPES: [&[u8]; 4] = [b"direct", b"fanout", b"topic", b"headers"];

/// Values of x-queue-master-locator that RabbitMQ has a module for.
const LOCATORS: [&[u8]; 3] = [b"client-local", b"min-masters", b"random"];

/// Whether a method waits for what was published before it (`Some`), and also for what clients that are gone published (`true`).
pub(super) fn observes(id: MethodId) -> Option<bool> {
    match id {
        MethodId::BASIC_GET
        | MethodId::QUEUE_PURGE
        | MethodId::QUEUE_DELETE
        | MethodId::QUEUE_DECLARE
        | MethodId::BASIC_CONSUME => Some(true),
        MethodId::BASIC_ACK
        | MethodId::BASIC_NACK
        | MethodId::BASIC_REJECT
        | MethodId::BASIC_QOS
        | MethodId::BASIC_CANCEL
        | MethodId::BASIC_RECOVER
        | MethodId::BASIC_RECOVER_ASYNC => None,
        _ => Some(false),
    }
}

/// What only a lasting connection can do, and what could end a shared one (SPEC T5, T6).
pub(super) fn needs_own_link(id: MethodId, payload: &[u8]) -> bool {
    match id {
        MethodId::BASIC_QOS
        | MethodId::BASIC_CONSUME
        | MethodId::BASIC_GET
        | MethodId::BASIC_RECOVER
        | MethodId::BASIC_RECOVER_ASYNC
        | MethodId::TX_SELECT
        | MethodId::TX_COMMIT
        | MethodId::TX_ROLLBACK
        | MethodId::ACCESS_REQUEST
        // A stream has none: 540.
        | MethodId::QUEUE_PURGE => true,
        // Quorum queues and streams know neither if-unused nor if-empty: 540.
        MethodId::QUEUE_DELETE => flags_of(payload) & 3 != 0,
        MethodId::QUEUE_DECLARE => {
            let Ok(named) =
                method::split(payload).map_err(drop).and_then(|(_, r)| method::queue_named(r).map_err(drop))
            else {
                return true;
            };
            named.queue.is_empty() || flags_of(payload) & 4 != 0 || may_crash(named.rest)
        }
        MethodId::EXCHANGE_DECLARE => {
            let Ok((_, mut args)) = method::split(payload) else { return true };
            let kind = args.u16().and_then(|_| args.shortstr()).and_then(|_| args.shortstr()).unwrap_or(&[]);
            !PLAIN_TYPES.contains(&kind)
        }
        _ => false,
    }
}

/// Whether a queue's arguments (its bits, then its table) hold a value at which RabbitMQ may end the connection with 541.
fn may_crash(rest: &[u8]) -> bool {
    let mut r = Reader::new(rest);
    let Ok(table) = r.u8().and_then(|_| r.longstr()) else { return true };
    Table::new(table).fields().any(|field| match field.name {
        b"x-max-age" => true,
        b"x-queue-master-locator" => !field.str_bytes().is_some_and(|v| LOCATORS.contains(&v)),
        _ => false,
    })
}

/// The octet of packed bits of a method that has one.
fn flags_of(payload: &[u8]) -> u8 {
    flags_at(payload).and_then(|at| payload.get(at)).copied().unwrap_or(0)
}

/// Where the octet of packed bits is in a method's payload.
fn flags_at(payload: &[u8]) -> Option<usize> {
    let (id, mut r) = method::split(payload).ok()?;
    let spec = method::spec_of(id)?;
    for field in spec.fields {
        match field {
            Field::Octet => return Some(payload.len() - r.rest().len()),
            Field::Short => drop(r.u16().ok()?),
            Field::Long => drop(r.u32().ok()?),
            Field::LongLong => drop(r.u64().ok()?),
            Field::ShortStr => drop(r.shortstr().ok()?),
            Field::LongStr | Field::Table => drop(r.longstr().ok()?),
        }
    }
    None
}

/// The no-wait bit of a method, if it has one.
fn nowait_bit(id: MethodId) -> u8 {
    match id {
        MethodId::EXCHANGE_DECLARE | MethodId::QUEUE_DECLARE => 16,
        MethodId::EXCHANGE_DELETE => 2,
        MethodId::QUEUE_DELETE => 4,
        MethodId::EXCHANGE_BIND
        | MethodId::EXCHANGE_UNBIND
        | MethodId::QUEUE_BIND
        | MethodId::QUEUE_PURGE
        | MethodId::BASIC_CANCEL => 1,
        MethodId::BASIC_CONSUME => 8,
        _ => 0,
    }
}

/// A method's payload without its no-wait bit, and whether it had one: on a lease every method is answered, so that its end is known.
pub(super) fn without_nowait(id: MethodId, payload: &[u8]) -> (Vec<u8>, bool) {
    let mut payload = payload.to_vec();
    let bit = nowait_bit(id);
    let mut had = false;
    if bit != 0 {
        if let Some(flags) = flags_at(&payload).and_then(|at| payload.get_mut(at)) {
            had = *flags & bit != 0;
            *flags &= !bit;
        }
    }
    (payload, had)
}

/// Whether a method of a client has a reply at all.
pub(super) fn has_reply(id: MethodId) -> bool {
    !matches!(
        id,
        MethodId::BASIC_ACK
            | MethodId::BASIC_NACK
            | MethodId::BASIC_REJECT
            | MethodId::BASIC_RECOVER_ASYNC
            | MethodId::BASIC_PUBLISH
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::method::MethodWriter;

    #[test]
    fn the_no_wait_bit_is_found_wherever_the_names_end() {
        let declare = MethodWriter::new(MethodId::QUEUE_DECLARE)
            .short(0)
            .shortstr(b"q")
            .octet(2 | 16)
            .longstr(b"")
            .done();
        let (plain, had) = without_nowait(MethodId::QUEUE_DECLARE, &declare);
        assert!(had);
        assert_eq!(flags_of(&plain), 2);
        let bind = MethodWriter::new(MethodId::QUEUE_BIND)
            .short(0)
            .shortstr(b"q")
            .shortstr(b"e")
            .shortstr(b"k")
            .octet(1)
            .longstr(b"")
            .done();
        assert!(without_nowait(MethodId::QUEUE_BIND, &bind).1);
    }

    #[test]
    fn what_streams_and_quorum_queues_do_not_know_needs_a_link_of_ones_own() {
        let named = |id| MethodWriter::new(id).short(0).shortstr(b"q");
        let delete = |bits| named(MethodId::QUEUE_DELETE).octet(bits).done();
        assert!(needs_own_link(MethodId::QUEUE_PURGE, &named(MethodId::QUEUE_PURGE).octet(0).done()));
        let found: Vec<u8> =
            (0..8).filter(|bits| needs_own_link(MethodId::QUEUE_DELETE, &delete(*bits))).collect();
        assert_eq!(found, [1, 2, 3, 5, 6, 7], "if-unused and if-empty, not no-wait alone");
    }

    #[test]
    fn exclusive_and_nameless_queues_and_unknown_exchange_types_need_a_link_of_ones_own() {
        let declare = |name: &[u8], bits| {
            MethodWriter::new(MethodId::QUEUE_DECLARE).short(0).shortstr(name).octet(bits).longstr(b"").done()
        };
        assert!(needs_own_link(MethodId::QUEUE_DECLARE, &declare(b"", 0)));
        assert!(needs_own_link(MethodId::QUEUE_DECLARE, &declare(b"q", 4)));
        assert!(!needs_own_link(MethodId::QUEUE_DECLARE, &declare(b"q", 2)));
        let located = |name: &[u8], value: &[u8]| {
            let mut table = Vec::new();
            for part in [name, value] {
                if part == value {
                    table.extend_from_slice(b"S\0\0\0");
                }
                table.push(u8::try_from(part.len()).unwrap());
                table.extend_from_slice(part);
            }
            MethodWriter::new(MethodId::QUEUE_DECLARE).short(0).shortstr(b"q").octet(2).longstr(&table).done()
        };
        assert!(!needs_own_link(
            MethodId::QUEUE_DECLARE,
            &located(b"x-queue-master-locator", b"min-masters")
        ));
        assert!(needs_own_link(MethodId::QUEUE_DECLARE, &located(b"x-queue-master-locator", b"nonsense")));
        assert!(needs_own_link(MethodId::QUEUE_DECLARE, &located(b"x-max-age", b"nonsense")));
        let exchange = |kind: &[u8]| {
            MethodWriter::new(MethodId::EXCHANGE_DECLARE)
                .short(0)
                .shortstr(b"e")
                .shortstr(kind)
                .octet(0)
                .longstr(b"")
                .done()
        };
        assert!(needs_own_link(MethodId::EXCHANGE_DECLARE, &exchange(b"x-delayed-message")));
        assert!(!needs_own_link(MethodId::EXCHANGE_DECLARE, &exchange(b"topic")));
    }
}
