//! The walk over a whole table, every depth, that every publish's headers go through: syntax, depth and count (S1, S2).

use super::num::{u32_clamped, usize_of};
use super::outline::Outline;
use super::table::TableError;

/// No limit on depth can be set higher than this: the walk's stack is this large.
pub const TABLE_DEPTH_MAX: usize = 64;

/// How much of a table is looked at before it is refused (S1, S2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableLimits {
    /// Tables and arrays inside one another, the outermost table not counted; at most [`TABLE_DEPTH_MAX`].
    pub depth: usize,
    /// Entries and array items at every depth together.
    pub entries: usize,
}

impl Default for TableLimits {
    fn default() -> Self {
        Self { depth: 32, entries: 8192 }
    }
}

/// In [`SHAPES`]: four octets of length, then that many bytes.
pub(super) const LONG: u8 = 0xFD;
/// In [`SHAPES`]: four octets of length, then entries or items.
pub(super) const NESTED: u8 = 0xFE;
/// In [`SHAPES`]: no such tag.
pub(super) const UNKNOWN: u8 = 0xFF;

/// What follows each tag: so many octets, or one of the three above.
pub(super) const SHAPES: [u8; 256] = {
    let mut shapes = [UNKNOWN; 256];
    let known = [
        (b'S', LONG),
        (b'x', LONG),
        (b'F', NESTED),
        (b'A', NESTED),
        (b'V', 0),
        (b't', 1),
        (b'b', 1),
        (b'B', 1),
        (b's', 2),
        (b'u', 2),
        (b'I', 4),
        (b'i', 4),
        (b'f', 4),
        (b'D', 5),
        (b'l', 8),
        (b'L', 8),
        (b'd', 8),
        (b'T', 8),
    ];
    let mut at = 0;
    while at < known.len() {
        #[expect(clippy::as_conversions, reason = "a u8 widens; `From` is not const")]
        #[expect(
            clippy::indexing_slicing,
            reason = "evaluated when this is compiled; both indices are in bounds"
        )]
        {
            shapes[known[at].0 as usize] = known[at].1;
        }
        at += 1;
    }
    shapes
};

/// Walks a whole table, every depth, and counts its entries and items. Runs on every publish: no allocation, no recursion.
pub fn check_table(bytes: &[u8], limits: &TableLimits) -> Result<usize, TableError> {
    walk(bytes, limits, |_, _, _| {}).map(|(entries, _)| entries)
}

/// The same, and `outline` knows then where its entries are.
pub fn check_and_outline(
    bytes: &[u8],
    limits: &TableLimits,
    outline: &mut Outline,
) -> Result<usize, TableError> {
    outline.clear();
    let (entries, top) = walk(bytes, limits, |number, start, len| outline.note(number, start, len))?;
    outline.set_count(top);
    Ok(entries)
}

/// The outermost entries, where nearly all of every table is: how many entries there are, and how many of them are outermost.
///
/// Places, not what is left of the table, are carried from entry to entry, and a value's tag is read together with its length: half of
/// what a publish costs is this loop.
#[inline]
fn walk(
    bytes: &[u8],
    limits: &TableLimits,
    mut top: impl FnMut(usize, usize, u8),
) -> Result<(usize, usize), TableError> {
    let (mut entries, mut outermost, mut at) = (0, 0, 0);
    while let Some(&len) = bytes.get(at) {
        entries += 1;
        if entries > limits.entries {
            return Err(TableError::TooManyEntries);
        }
        top(outermost, at, len);
        outermost += 1;
        let tag_at = at + 1 + usize::from(len);
        at = match bytes.get(tag_at..tag_at + 5) {
            // Most are strings, and most of the others null. A string that is too long is noticed where the next entry is not.
            Some(&[b'S', a, b, c, d]) => tag_at + 5 + usize_of(u32::from_be_bytes([a, b, c, d])),
            Some(&[b'V', ..]) => tag_at + 1,
            Some(&[b'I', ..]) => tag_at + 5,
            Some(&[b't', ..]) => tag_at + 2,
            Some(&[b'F', 0, 0, 0, 0]) if limits.depth > 0 => tag_at + 5,
            _ => {
                let after;
                (entries, after) = step(bytes.get(tag_at..).unwrap_or(&[]), entries, limits)?;
                bytes.len() - after
            }
        };
    }
    if at == bytes.len() { Ok((entries, outermost)) } else { Err(TableError::Short) }
}

/// Passes over one value, tag first, and everything in it: how many entries there are now, and how many octets come after it.
fn step(value: &[u8], mut entries: usize, limits: &TableLimits) -> Result<(usize, usize), TableError> {
    let (&tag, after) = value.split_first().ok_or(TableError::Short)?;
    let (inner, after) = delimit(tag, after)?;
    match inner {
        None => {}
        // A pair of time limits that are not set.
        Some(b"VV") if tag == b'A' && limits.depth > 0 && entries + 2 <= limits.entries => entries += 2,
        Some(inner) => entries = walk_inside(inner, tag == b'A', entries, limits)?,
    }
    Ok((entries, after.len()))
}

/// What a value with this tag holds, where it holds entries or items, and what comes after it.
#[inline]
fn delimit(tag: u8, after: &[u8]) -> Result<(Option<&[u8]>, &[u8]), TableError> {
    match SHAPES.get(usize::from(tag)).copied().unwrap_or(UNKNOWN) {
        UNKNOWN => Err(TableError::UnknownTag(tag)),
        shape @ (LONG | NESTED) => {
            let (len, after) = after.split_first_chunk::<4>().ok_or(TableError::Short)?;
            let (inner, after) =
                after.split_at_checked(usize_of(u32::from_be_bytes(*len))).ok_or(TableError::Short)?;
            Ok(((shape == NESTED).then_some(inner), after))
        }
        fixed => {
            let (value, after) = after.split_at_checked(usize::from(fixed)).ok_or(TableError::Short)?;
            if matches!(tag, b'd' | b'f') && !is_finite(value) {
                return Err(TableError::NotFinite);
            }
            Ok((None, after))
        }
    }
}

/// A table or an array inside the outermost table, with everything in it; `entries` have been counted before.
fn walk_inside(
    bytes: &[u8],
    is_array: bool,
    mut entries: usize,
    limits: &TableLimits,
) -> Result<usize, TableError> {
    if limits.depth == 0 {
        return Err(TableError::TooDeep);
    }
    // Where each container that is still open ends, and (a bit each, the newest lowest) whether it is an array.
    let mut ends = [0_u32; TABLE_DEPTH_MAX];
    let mut arrays = u64::from(is_array);
    let mut depth = 1;
    let mut end = bytes.len();
    let mut rest = bytes;
    loop {
        while rest.is_empty() {
            depth -= 1;
            if depth == 0 {
                return Ok(entries);
            }
            let inner_end = end;
            end = usize_of(ends.get(depth).copied().unwrap_or(0));
            arrays >>= 1;
            rest = bytes.get(inner_end..end).ok_or(TableError::Short)?;
        }
        entries += 1;
        if entries > limits.entries {
            return Err(TableError::TooManyEntries);
        }
        if arrays & 1 == 0 {
            let (&len, after) = rest.split_first().ok_or(TableError::Short)?;
            rest = after.get(usize::from(len)..).ok_or(TableError::Short)?;
        }
        let (&tag, after) = rest.split_first().ok_or(TableError::Short)?;
        rest = match delimit(tag, after)? {
            (None, after) => after,
            (Some(inner), after) => {
                if depth >= limits.depth {
                    return Err(TableError::TooDeep);
                }
                *ends.get_mut(depth).ok_or(TableError::TooDeep)? = u32_clamped(end);
                depth += 1;
                arrays = (arrays << 1) | u64::from(tag == b'A');
                end -= after.len();
                inner
            }
        };
    }
}

/// Whether a float on the wire is a number: RabbitMQ cannot decode NaN and the infinities, and closes the whole connection (541).
fn is_finite(value: &[u8]) -> bool {
    match value {
        [a, b, ..] if value.len() == 8 => u16::from_be_bytes([*a, *b]) & 0x7ff0 != 0x7ff0,
        [a, b, ..] => u16::from_be_bytes([*a, *b]) & 0x7f80 != 0x7f80,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::every_type;
    use super::super::table::{Table, write_entry};
    use super::super::value::Value;
    use super::*;
    use proptest::prelude::*;

    fn nested(levels: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..levels {
            let mut outer = Vec::new();
            write_entry(&mut outer, b"", &Value::Table(Table::new(&bytes)));
            bytes = outer;
        }
        bytes
    }

    #[test]
    fn a_table_nested_two_thousand_deep_is_refused_without_recursion() {
        assert_eq!(check_table(&nested(2000), &TableLimits::default()), Err(TableError::TooDeep));
        assert_eq!(check_table(&nested(32), &TableLimits::default()), Ok(32));
        assert_eq!(check_table(&nested(33), &TableLimits::default()), Err(TableError::TooDeep));
        let deepest = TableLimits { depth: usize::MAX, entries: 8192 };
        assert_eq!(check_table(&nested(64), &deepest), Ok(64));
        assert_eq!(check_table(&nested(65), &deepest), Err(TableError::TooDeep));
    }

    #[test]
    fn a_float_that_is_no_number_is_refused_as_the_broker_would_by_ending_the_connection() {
        for (value, fine) in [
            (Value::F64(1.5), true),
            (Value::F64(f64::NAN), false),
            (Value::F64(f64::INFINITY), false),
            (Value::F32(f32::NEG_INFINITY), false),
            (Value::F32(f32::MAX), true),
        ] {
            let mut bytes = Vec::new();
            write_entry(&mut bytes, b"k", &value);
            assert_eq!(check_table(&bytes, &TableLimits::default()).is_ok(), fine, "{value:?}");
        }
    }

    #[test]
    fn more_entries_than_the_limit_are_refused() {
        let limits = TableLimits { depth: 1, entries: 3 };
        let mut bytes = Vec::new();
        for _ in 0..3 {
            write_entry(&mut bytes, b"k", &Value::Void);
        }
        assert_eq!(check_table(&bytes, &limits), Ok(3));
        write_entry(&mut bytes, b"k", &Value::Void);
        assert_eq!(check_table(&bytes, &limits), Err(TableError::TooManyEntries));
    }

    #[test]
    fn an_inner_table_longer_than_its_parent_is_refused() {
        let bytes = [1, b'a', b'F', 0, 0, 0, 6, 1, b'b', b'S', 0, 0, 0, 1];
        assert_eq!(check_table(&bytes, &TableLimits::default()), Err(TableError::Short));
        let inside = [1, b'a', b'F', 0, 0, 0, 4, 1, b'b', b'I', 0, 0, 0, 1];
        assert_eq!(check_table(&inside, &TableLimits::default()), Err(TableError::Short));
    }

    proptest! {
        #[test]
        fn nothing_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let checked = check_table(&bytes, &TableLimits::default());
            let walked = Table::new(&bytes).entries().all(|entry| entry.is_ok());
            // The lazy walk looks at the outermost entries only, so it may accept more.
            prop_assert!(walked || checked.is_err());
        }

        #[test]
        fn the_outermost_entries_are_walked_as_those_inside_another_table_are(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            cut in any::<prop::sample::Index>(),
            (depth, entries) in (0_usize..4, 0_usize..30),
        ) {
            let mut bytes = every_type();
            for name in [&b"empty"[..], b"yes", b"limits", b"count", b"none"] {
                let value = match name {
                    b"empty" => Value::Table(Table::new(&[])),
                    b"yes" => Value::Bool(true),
                    b"limits" => Value::Array(super::super::table::Array::new(b"VV")),
                    b"count" => Value::I32(7),
                    _ => Value::Void,
                };
                write_entry(&mut bytes, name, &value);
            }
            for (place, octet) in damage {
                let place = place.index(bytes.len());
                bytes[place] = octet;
            }
            bytes.truncate(bytes.len().min(cut.index(bytes.len() * 2)));
            let mut around = Vec::new();
            write_entry(&mut around, b"", &Value::Table(Table::new(&bytes)));
            let limits = TableLimits { depth, entries };
            let inside = TableLimits { depth: depth + 1, entries: entries + 1 };
            prop_assert_eq!(check_table(&bytes, &limits).map(|n| n + 1), check_table(&around, &inside));
        }

        #[test]
        fn damage_anywhere_never_panics(at in 0_usize..200, with in any::<u8>()) {
            let mut bytes = every_type();
            let at = at % bytes.len();
            bytes[at] = with;
            let _ = check_table(&bytes, &TableLimits::default());
        }
    }
}
