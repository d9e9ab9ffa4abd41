//! Celery's native delayed delivery (5.5 and later): the 28 bits before the routing key (kombu/transport/native_delayed_delivery.py).

/// Characters of a prefix: 28 times a digit and a dot.
pub const PREFIX_LEN: usize = 56;

/// Whether a routing key of this exchange may carry the delay's bits.
#[must_use]
pub fn is_delayed_exchange(exchange: &[u8]) -> bool {
    let Some(level) = exchange.strip_prefix(b"celery_delayed_") else { return false };
    level == b"delivery" || matches!(level, [b'0'..=b'9'] | [b'1', b'0'..=b'9'] | [b'2', b'0'..=b'7'])
}

/// The delay's bits (with the dot after them) and the routing key proper. Kombu up to 5.6 stacks a prefix a retry: all of them go
/// to the first part. A key without a prefix comes back whole.
#[must_use]
pub fn split(routing_key: &[u8]) -> (&[u8], &[u8]) {
    let mut suffix = routing_key;
    while let Some((prefix, rest)) = suffix.split_at_checked(PREFIX_LEN)
        && prefix.chunks_exact(2).all(|bit| matches!(bit, [b'0' | b'1', b'.']))
    {
        suffix = rest;
    }
    let at = routing_key.len() - suffix.len();
    routing_key.split_at_checked(at).unwrap_or((&[], routing_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BITS: &str = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.1.0.1.1.0.0.";

    #[test]
    fn the_prefix_is_kept_and_the_suffix_is_the_routing_key() {
        let key = format!("{BITS}vecq");
        assert_eq!(split(key.as_bytes()), (BITS.as_bytes(), &b"vecq"[..]));
        let stacked = format!("{BITS}{BITS}a.b");
        assert_eq!(split(stacked.as_bytes()), (format!("{BITS}{BITS}").as_bytes(), &b"a.b"[..]));
        assert_eq!(split(BITS.as_bytes()), (BITS.as_bytes(), &b""[..]));
    }

    #[test]
    fn a_key_without_28_bits_is_whole() {
        for key in ["", "vecq", "0.1.vecq", &BITS[..55], &BITS.replace('1', "2")] {
            assert_eq!(split(key.as_bytes()), (&b""[..], key.as_bytes()));
        }
    }

    #[test]
    fn only_the_delayed_exchanges_are() {
        for yes in ["celery_delayed_27", "celery_delayed_0", "celery_delayed_delivery"] {
            assert!(is_delayed_exchange(yes.as_bytes()), "{yes}");
        }
        for no in ["celery_delayed_28", "celery_delayed_", "celery_delayed_007", "celery", ""] {
            assert!(!is_delayed_exchange(no.as_bytes()), "{no}");
        }
    }
}
