//! Header tables are walked without a panic; a patch changes what it says and nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel::wire::{ContentHeader, HeaderPatch, Property, Table, TableLimits, Value, check_table};

fuzz_target!(|payload: &[u8]| {
    let _ = check_table(payload, &TableLimits::default());
    let mut same = Vec::new();
    HeaderPatch::new().apply(payload, &mut same).expect("the identity cannot fail");
    assert_eq!(same, payload);

    let Ok(header) = ContentHeader::parse(payload) else { return };
    let table = header.headers().unwrap_or(Table::new(&[]));
    if check_table(table.bytes(), &TableLimits::default()).is_err() {
        return;
    }
    assert!(table.entries().zip(table.fields()).all(|(entry, field)| {
        entry.is_ok_and(|entry| entry.name == field.name && same_value(Some(entry.value), field.value()))
    }));

    let mut patch = HeaderPatch::new();
    patch.set_priority(9).set_header_str(b"expires", b"moment").remove_header(b"task");
    let mut out = Vec::new();
    patch.apply(payload, &mut out).expect("a checked table can be patched");
    let patched = ContentHeader::parse(&out).expect("a patched header is a header");
    let after = patched.headers().expect("a header was set");
    check_table(after.bytes(), &TableLimits { entries: usize::MAX, ..TableLimits::default() })
        .expect("still a table");
    assert_eq!((patched.priority(), after.get(b"task")), (Some(9), None));
    assert_eq!(after.get(b"expires"), Some(Value::Str(b"moment")));
    for property in Property::ALL {
        if !matches!(property, Property::Priority | Property::Headers) {
            assert_eq!(patched.raw(property), header.raw(property));
        }
    }
    let others = |table: Table<'_>| -> Vec<Vec<u8>> {
        let kept = table.entries().flatten().filter(|entry| !matches!(entry.name, b"expires" | b"task"));
        kept.map(|entry| table.bytes()[entry.range].to_vec()).collect()
    };
    assert_eq!(others(after), others(table));
});

/// Equal, or not a number on both sides.
fn same_value(one: Option<Value<'_>>, other: Option<Value<'_>>) -> bool {
    let bytes = |value: Option<Value<'_>>| {
        let mut out = Vec::new();
        value.inspect(|value| value.write(&mut out));
        out
    };
    bytes(one) == bytes(other)
}
