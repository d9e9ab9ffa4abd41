//! Pickled bodies, protocols 0 to 5, read as data and never executed.
//!
//! The stack machine is followed (Python's Lib/pickletools.py describes it), but only the keys of the outermost dict are kept.
//! Whatever would be called, imported or built is one opaque value: `REDUCE`, `GLOBAL`, `BUILD` and their like do nothing here. A
//! `datetime` is told from its parts (`moment`), for a worker takes one under `expires` and `eta`.

mod literal;
mod machine;
mod moment;

use machine::{Item, Machine};

use super::body::Unreadable;
use super::field::Fields;
use crate::wire::num::{u32_clamped, usize_clamped};
use crate::wire::reader::Reader;

/// The keys of a body that is a dict; `None` where it is another value. `items` bounds stack and memo together.
pub(crate) fn fields(bytes: &[u8], items: usize) -> Result<Option<Fields<'_>>, Unreadable> {
    Ok(run(bytes, items)?.map(|(fields, _)| fields))
}

/// Where a pickled dict ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// The `STOP`; the dict is the only thing on the stack there.
    pub(crate) stop: usize,
    /// The eight octets of length of the frame that the `STOP` is in, for protocols 4 and 5.
    pub(crate) frame: Option<usize>,
}

/// Where a body that is a dict ends; `None` where it is another value.
pub(crate) fn end_of_dict(bytes: &[u8], items: usize) -> Result<Option<End>, Unreadable> {
    Ok(run(bytes, items)?.map(|(_, end)| end))
}

/// Appends the opcodes that set an item of the dict on top of the stack: two `BINUNICODE` and a `SETITEM`. The memo is not touched.
pub(crate) fn write_item(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    for text in [key, value] {
        out.push(b'X');
        out.extend_from_slice(&u32_clamped(text.len()).to_le_bytes());
        out.extend_from_slice(text);
    }
    out.push(b's');
}

fn run(bytes: &[u8], items: usize) -> Result<Option<(Fields<'_>, End)>, Unreadable> {
    let mut machine = Machine::new(items);
    let mut reader = Reader::new(bytes);
    let mut frame = None;
    loop {
        let at = bytes.len() - reader.rest().len();
        let op = reader.u8()?;
        if op == b'.' {
            let is_root = matches!(machine.pop()?, Item::Root) && machine.is_empty();
            let frame = frame.filter(|&(_, end)| end > at).map(|(len_at, _)| len_at);
            return Ok(machine.root.filter(|_| is_root).map(|root| (root, End { stop: at, frame })));
        }
        if op == 0x95 {
            // What is too long or too short for a frame stands between frames; the STOP may, too.
            let len = Reader::new(reader.rest()).array().map(u64::from_le_bytes)?;
            frame = Some((at + 1, (at + 9).saturating_add(usize_clamped(len))));
        }
        machine.step(op, &mut reader)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ITEMS: usize = 1 << 16;
    /// Python 3.11: pickle.dumps({'task': 'proj.add', 'id': 'é', 'args': (1, Exception('x')), 'kwargs': {'task': 'no'},
    /// 'retries': 3, 'timelimit': (30, 2.5), 'utc': False, 'group': None}, protocol=4)
    const PROTOCOL_4: &[u8] = b"\x80\x04\x95\x85\0\0\0\0\0\0\0}\x94(\x8c\x04task\x94\x8c\x08proj.add\x94\x8c\x02id\x94\
        \x8c\x02\xc3\xa9\x94\x8c\x04args\x94K\x01\x8c\x08builtins\x94\x8c\tException\x94\x93\x94\x8c\x01x\x94\x85\x94R\x94\
        \x86\x94\x8c\x06kwargs\x94}\x94h\x01\x8c\x02no\x94s\x8c\x07retries\x94K\x03\x8c\ttimelimit\x94K\x1eG@\x04\0\0\0\0\0\0\
        \x86\x94\x8c\x03utc\x94\x89\x8c\x05group\x94Nu.";

    fn check(bytes: &[u8]) -> Fields<'_> {
        let fields = fields(bytes, ITEMS).unwrap().unwrap();
        assert_eq!(fields.task.as_ref().unwrap().as_str(), Some("proj.add"));
        assert_eq!(fields.retries, Some(3));
        fields
    }

    #[test]
    fn only_the_outermost_dict_is_read_and_nothing_is_called() {
        let fields = check(PROTOCOL_4);
        assert_eq!(fields.id.unwrap().as_str(), Some("é"));
        let limit = fields.time_limit.unwrap();
        assert_eq!((limit.hard, limit.soft), (Some(30.0), Some(2.5)));
        assert_eq!((fields.utc, fields.group), (Some(false), None));
    }

    #[test]
    fn every_protocol_is_read() {
        check(b"(dp0\nVtask\np1\nVproj.add\np2\nsVid\np3\nV\\u00e9\xe9\np4\nsVretries\np5\nI3\ns.");
        check(b"(dp1\nS'task'\np2\nS'proj.add'\np3\nsS'retries'\np4\nL3L\ns.");
        check(b"}q\0(X\x04\0\0\0taskq\x01X\x08\0\0\0proj.addq\x02X\x07\0\0\0retriesq\x03K\x03u.");
        check(b"\x80\x02}q\x01(U\x04taskq\x02U\x08proj.addq\x03U\x07retriesq\x04\x8a\x01\x03u.");
        check(b"\x80\x03}q\0(X\x04\0\0\0taskq\x01X\x08\0\0\0proj.addq\x02X\x07\0\0\0retriesq\x03M\x03\0u.");
        check(b"\x80\x05\x95\0\0\0\0\0\0\0\0}\x94(\x8c\x04task\x94\x8c\x08proj.add\x94\x8c\x07retries\x94J\x03\0\0\0u.");
        check(b"(S'task'\nS'proj.add'\nS'retries'\nI3\nd.");
    }

    #[test]
    fn bytes_are_no_text() {
        let fields = fields(b"\x80\x03}(C\x04taskC\x01xu.", ITEMS).unwrap().unwrap();
        assert_eq!(fields, Fields::default());
    }

    #[test]
    fn what_is_no_dict_is_none() {
        assert_eq!(fields(b"\x80\x04]\x94.", ITEMS), Ok(None));
        assert_eq!(fields(b"cos\nsystem\n(S'true'\ntR.", ITEMS), Ok(None));
    }

    #[test]
    fn a_body_cut_at_every_byte_is_unreadable() {
        for cut in 0..PROTOCOL_4.len() {
            assert_eq!(fields(&PROTOCOL_4[..cut], ITEMS), Err(Unreadable::Syntax), "cut at {cut}");
        }
    }

    #[test]
    fn stack_and_memo_are_bounded_together() {
        assert_eq!(fields(&[b'('; 100_000], ITEMS), Err(Unreadable::TooComplex));
        let mut memo = b"]".to_vec();
        memo.extend_from_slice(&[0x94; 100_000]);
        assert_eq!(fields(&memo, ITEMS), Err(Unreadable::TooComplex));
        assert_eq!(fields(b"X\xff\xff\xff\xff", ITEMS), Err(Unreadable::Syntax));
        assert_eq!(fields(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", ITEMS), Err(Unreadable::Syntax));
    }

    #[test]
    fn an_empty_stack_and_a_bare_mark_are_refused() {
        for bytes in
            [&b"."[..], b"(.", b"R.", b"s.", b"u.", b"(u.", b"q\0.", b"h\0.", b"(K\x01d.", b"\x86.", b"\xff"]
        {
            assert_eq!(fields(bytes, ITEMS), Err(Unreadable::Syntax), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..500, with in any::<u8>()) {
            let _ = fields(&bytes, ITEMS);
            let mut damaged = PROTOCOL_4.to_vec();
            let at = at % damaged.len();
            damaged[at] = with;
            let _ = fields(&damaged, ITEMS);
        }
    }
}
