//! As much of AMQP 0-9-1 as a benchmark speaks: frames read in place, methods written by hand.

pub const HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
pub const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 0xce];

/// A frame at the start of `bytes`: kind, channel, payload, and its length on the wire. `None`: not all of it is there.
pub fn frame(bytes: &[u8]) -> Option<(u8, u16, &[u8], usize)> {
    let head = bytes.get(..7)?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let payload = bytes.get(7..7 + size)?;
    let end = *bytes.get(7 + size)?;
    assert_eq!(end, 0xce, "frame end");
    Some((head[0], u16::from_be_bytes([head[1], head[2]]), payload, size + 8))
}

/// Class and method of a method frame's payload.
pub fn method_id(payload: &[u8]) -> (u16, u16) {
    match payload {
        [a, b, c, d, ..] => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        _ => (0, 0),
    }
}

/// A method frame being written to `out`.
pub struct Method<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Method<'a> {
    pub fn new(out: &'a mut Vec<u8>, channel: u16, class: u16, method: u16) -> Self {
        let start = out.len();
        out.push(1);
        out.extend_from_slice(&channel.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&class.to_be_bytes());
        out.extend_from_slice(&method.to_be_bytes());
        Self { out, start }
    }

    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.out.extend_from_slice(bytes);
        self
    }

    pub fn short_string(self, text: &[u8]) -> Self {
        self.out.push(text.len() as u8);
        self.bytes(text)
    }

    pub fn long_string(self, text: &[u8]) -> Self {
        self.out.extend_from_slice(&(text.len() as u32).to_be_bytes());
        self.bytes(text)
    }

    pub fn u16(self, n: u16) -> Self {
        self.bytes(&n.to_be_bytes())
    }

    pub fn u32(self, n: u32) -> Self {
        self.bytes(&n.to_be_bytes())
    }

    pub fn u64(self, n: u64) -> Self {
        self.bytes(&n.to_be_bytes())
    }

    pub fn end(self) {
        let size = (self.out.len() - self.start - 7) as u32;
        self.out[self.start + 3..self.start + 7].copy_from_slice(&size.to_be_bytes());
        self.out.push(0xce);
    }
}

/// A field table: (name, value); text as `S`, true as `t`, a table as `F`.
pub enum Value<'a> {
    Text(&'a str),
    True,
    Table(&'a [(&'a str, Value<'a>)]),
}

pub fn table(entries: &[(&str, Value<'_>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in entries {
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        match value {
            Value::Text(text) => {
                out.push(b'S');
                out.extend_from_slice(&(text.len() as u32).to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            Value::True => out.extend_from_slice(b"t\x01"),
            Value::Table(inner) => {
                let inner = table(inner);
                out.push(b'F');
                out.extend_from_slice(&(inner.len() as u32).to_be_bytes());
                out.extend_from_slice(&inner);
            }
        }
    }
    out
}
