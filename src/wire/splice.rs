//! A patch applied to a content header by splicing, so that every other byte stays as it came (T1).

use super::compose::{write_name, write_table};
use super::num::u32_clamped;
use super::patch::HeaderPatch;
use super::property::Property;
use super::props::{CLASS_BASIC, ContentHeader, PropsError};
use super::table::{Table, TableError};

/// Why a patch could not be applied; nothing of its output may be used then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchError {
    /// The payload is no content header.
    Props(PropsError),
    /// Its header table, which the patch changes, is none.
    Table(TableError),
}

impl std::fmt::Display for PatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Props(error) => error.fmt(f),
            Self::Table(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PatchError {}

impl From<PropsError> for PatchError {
    fn from(error: PropsError) -> Self {
        Self::Props(error)
    }
}

impl From<TableError> for PatchError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

impl HeaderPatch {
    /// Appends the patched payload of a header frame to `out`. After an error `out` is as long as before.
    pub fn apply(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), PatchError> {
        if self.is_empty() {
            out.extend_from_slice(payload);
            return Ok(());
        }
        let start = out.len();
        let applied = self.append(&ContentHeader::parse(payload)?, out);
        if applied.is_err() {
            out.truncate(start);
        }
        applied
    }

    fn append(&self, header: &ContentHeader<'_>, out: &mut Vec<u8>) -> Result<(), PatchError> {
        out.extend_from_slice(&CLASS_BASIC.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.body_size.unwrap_or(header.body_size).to_be_bytes());
        let flags_at = out.len();
        out.extend_from_slice(&[0, 0]);
        let mut flags = 0_u16;
        for property in Property::ALL {
            let before = out.len();
            self.append_property(header, property, out)?;
            if out.len() > before {
                flags |= property.flag();
            }
        }
        if let Some(slot) = out.get_mut(flags_at..).and_then(|rest| rest.first_chunk_mut()) {
            *slot = flags.to_be_bytes();
        }
        Ok(())
    }

    fn append_property(
        &self,
        header: &ContentHeader<'_>,
        property: Property,
        out: &mut Vec<u8>,
    ) -> Result<(), PatchError> {
        let edited = self.properties.iter().find(|(p, _)| *p == property);
        if property == Property::Headers && !self.headers.is_empty() {
            let old = if edited.is_some() { None } else { header.headers() };
            return self.append_headers(old, out);
        }
        let bytes = match edited {
            Some((_, bytes)) => bytes.as_deref(),
            None => header.raw(property),
        };
        out.extend_from_slice(bytes.unwrap_or_default());
        Ok(())
    }

    fn append_headers(&self, old: Option<Table<'_>>, out: &mut Vec<u8>) -> Result<(), PatchError> {
        if old.is_none() && self.headers.iter().all(|(_, value)| value.is_none()) {
            return Ok(());
        }
        let old = old.unwrap_or(Table::new(&[]));
        let start = out.len();
        write_table(out, &[]);
        let mut replaced = vec![false; self.headers.len()];
        // Entries that stay are copied in runs: from the end of the last edited one to the start of the next.
        let mut copied = 0;
        for entry in old.entries() {
            let entry = entry?;
            let edit = self.headers.iter().zip(replaced.iter_mut()).find(|((name, _), _)| name == entry.name);
            if let Some(((name, value), seen)) = edit {
                out.extend_from_slice(old.bytes().get(copied..entry.range.start).unwrap_or_default());
                copied = entry.range.end;
                *seen = true;
                if let Some(value) = value {
                    write_name(out, name);
                    out.extend_from_slice(value);
                }
            }
        }
        out.extend_from_slice(old.bytes().get(copied..).unwrap_or_default());
        for ((name, value), _) in self.headers.iter().zip(replaced).filter(|(_, seen)| !seen) {
            if let Some(value) = value {
                write_name(out, name);
                out.extend_from_slice(value);
            }
        }
        let len = u32_clamped(out.len() - start - 4);
        if let Some(slot) = out.get_mut(start..).and_then(|rest| rest.first_chunk_mut()) {
            *slot = len.to_be_bytes();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::compose::{NewHeader, TableWriter};
    use super::super::value::Value;
    use super::*;
    use proptest::prelude::*;

    fn payload(headers: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        NewHeader {
            body_size: 9,
            content_type: Some(b"application/json"),
            headers: Some(Table::new(headers)),
            delivery_mode: Some(2),
            correlation_id: Some(b"\xffid"),
            ..NewHeader::default()
        }
        .write(&mut out);
        out
    }

    fn patched(patch: &HeaderPatch, payload: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        patch.apply(payload, &mut out).unwrap();
        out.split_off(6)
    }

    #[test]
    fn duplicates_are_all_replaced_where_they_stand_and_the_rest_keeps_its_order() {
        let old = TableWriter::new()
            .str("z", b"1")
            .with("k", Value::LongLong(1))
            .str("z", b"2")
            .str("k", b"\xff")
            .with("a", Value::U32(7))
            .into_bytes();
        let mut patch = HeaderPatch::new();
        patch.set_header(b"k", &Value::Bool(true)).set_header_str(b"new", b"n");
        let want = TableWriter::new()
            .str("z", b"1")
            .with("k", Value::Bool(true))
            .str("z", b"2")
            .with("k", Value::Bool(true))
            .with("a", Value::U32(7))
            .str("new", b"n")
            .into_bytes();
        assert_eq!(patched(&patch, &payload(&old)), payload(&want));
    }

    #[test]
    fn a_property_that_was_absent_is_inserted_in_its_place_and_removed_again() {
        let before = payload(b"");
        let mut patch = HeaderPatch::new();
        patch.set_priority(5).set_expiration_ms(1500).set_body_size(10);
        let after = patched(&patch, &before);
        let header = ContentHeader::parse(&after).unwrap();
        assert_eq!((header.priority(), header.expiration()), (Some(5), Some(&b"1500"[..])));
        assert_eq!((header.body_size, header.correlation_id()), (10, Some(&b"\xffid"[..])));
        let mut back = HeaderPatch::new();
        back.remove(Property::Priority).remove(Property::Expiration).set_body_size(9);
        assert_eq!(patched(&back, &after), before);
    }

    #[test]
    fn a_header_is_set_where_there_was_no_table_and_removing_one_makes_none() {
        let mut before = Vec::new();
        NewHeader { body_size: 1, ..NewHeader::default() }.write(&mut before);
        let mut patch = HeaderPatch::new();
        patch.remove_header(b"compression");
        assert_eq!(patched(&patch, &before), before);
        patch.set_header_str(b"k", b"v");
        let after = patched(&patch, &before);
        let table = ContentHeader::parse(&after).unwrap().headers().unwrap();
        assert_eq!(table.get(b"k"), Some(Value::Str(b"v")));
    }

    #[test]
    fn a_broken_table_is_an_error_only_where_it_is_changed() {
        let before = payload(&[1, b'a', b'Z']);
        let mut patch = HeaderPatch::new();
        patch.set_priority(1);
        assert_eq!(
            ContentHeader::parse(&patched(&patch, &before)).unwrap().headers().unwrap().bytes(),
            [1, b'a', b'Z']
        );
        patch.remove_header(b"a");
        let mut out = vec![7];
        assert_eq!(patch.apply(&before, &mut out), Err(PatchError::Table(TableError::UnknownTag(b'Z'))));
        assert_eq!(out, [7]);
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(|b| tagged(&Value::Str(&b))),
            any::<i64>().prop_map(|n| tagged(&Value::LongLong(n))),
            any::<u32>().prop_map(|n| tagged(&Value::U32(n))),
            Just(tagged(&Value::Void)),
        ]
    }

    fn tagged(value: &Value<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        value.write(&mut out);
        out
    }

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    fn pairs() -> impl Strategy<Value = Pairs> {
        // Few names, so that duplicates and hits are frequent.
        proptest::collection::vec((proptest::collection::vec(0xf8..=0xff_u8, 0..2), value()), 0..8)
    }

    fn table(pairs: &Pairs) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in pairs {
            write_name(&mut out, name);
            out.extend_from_slice(value);
        }
        out
    }

    proptest! {
        #[test]
        fn a_patch_without_edits_is_the_identity_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(patched(&HeaderPatch::new(), &bytes), bytes);
        }

        #[test]
        fn a_patch_changes_what_it_says_and_nothing_else(
            old in pairs(),
            edits in proptest::collection::vec((proptest::collection::vec(0xf8..=0xff_u8, 0..2), proptest::option::of(value())), 1..4),
            priority in proptest::option::of(any::<u8>()),
        ) {
            let mut patch = HeaderPatch::new();
            let mut wanted = old.clone();
            for (name, value) in &edits {
                patch.edit_header(name, value.clone());
            }
            for (name, value) in &patch.headers {
                match value {
                    None => wanted.retain(|(n, _)| n != name),
                    Some(value) if wanted.iter().any(|(n, _)| n == name) => {
                        wanted.iter_mut().filter(|(n, _)| n == name).for_each(|(_, v)| v.clone_from(value));
                    }
                    Some(value) => wanted.push((name.clone(), value.clone())),
                }
            }
            let before = payload(&table(&old));
            let mut after = payload(&table(&wanted));
            if let Some(priority) = priority {
                patch.set_priority(priority);
                let mut only = HeaderPatch::new();
                only.set_priority(priority);
                after = patched(&only, &after);
            }
            prop_assert_eq!(patched(&patch, &before), after);
        }

        #[test]
        fn nothing_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut framed = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            framed.extend_from_slice(&bytes);
            let mut patch = HeaderPatch::new();
            patch.set_priority(1).set_header_str(b"a", b"b").remove(Property::ContentType);
            let _ = patch.apply(&bytes, &mut Vec::new());
            let _ = patch.apply(&framed, &mut Vec::new());
        }
    }
}
