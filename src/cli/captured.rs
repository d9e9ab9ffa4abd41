//! One publish for `umbel explain`: from flags, from a captured vector (`frames_hex`), or from a few lines of JSON.

use serde_json::{Map, Value as Json};

use crate::celery::time;
use crate::wire::frame::{Frame, FrameKind, parse_frame};
use crate::wire::method;
use crate::wire::num::u64_of;
use crate::wire::props::NewHeader;
use crate::wire::table::{Table, TableWriter, Value};

/// No captured frame is longer.
const FRAME_MAX: u32 = 1 << 28;

/// A publish as it is on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Exchange.
    pub exchange: Vec<u8>,
    /// Routing key.
    pub routing_key: Vec<u8>,
    /// The mandatory bit.
    pub mandatory: bool,
    /// The content header frame's payload.
    pub header: Vec<u8>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// What the flags say of a task.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// Exchange.
    pub exchange: String,
    /// Routing key.
    pub routing_key: String,
    /// Task name.
    pub task: String,
    /// Task id.
    pub id: String,
    /// 1 or 2.
    pub protocol: u8,
    /// Priority.
    pub priority: Option<u8>,
    /// Retries.
    pub retries: i32,
    /// Microseconds since the epoch.
    pub eta: Option<i64>,
    /// Microseconds since the epoch.
    pub expires: Option<i64>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Content type.
    pub content_type: String,
    /// Pad the body to this size.
    pub size: usize,
}

impl Described {
    /// The publish that Celery would make of it, as near as the flags say.
    #[must_use]
    pub fn publish(&self) -> Captured {
        let moment = |at: Option<i64>| at.map(time::format);
        let (eta, expires) = (moment(self.eta), moment(self.expires));
        let (table, body) = if self.protocol == 1 {
            let json = serde_json::json!({
                "task": self.task, "id": self.id, "args": [], "kwargs": {}, "retries": self.retries,
                "eta": eta, "expires": expires, "utc": true,
            });
            (TableWriter::new(), self.padded(json))
        } else {
            let text = |moment: &Option<String>| moment.clone().map(String::into_bytes);
            let (eta, expires) = (text(&eta), text(&expires));
            let or_void = |bytes: &Option<Vec<u8>>, table: TableWriter, name| match bytes {
                Some(bytes) => table.str(name, bytes),
                None => table.with(name, Value::Void),
            };
            let table = TableWriter::new()
                .str("lang", b"py")
                .str("task", self.task.as_bytes())
                .str("id", self.id.as_bytes());
            let table = or_void(&expires, or_void(&eta, table, "eta"), "expires")
                .with("retries", Value::I32(self.retries));
            (table, self.padded(serde_json::json!([[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}])))
        };
        let table = self.headers.iter().fold(table, |table, (name, value)| header(table, name, value));
        let mut payload = Vec::new();
        NewHeader {
            body_size: u64_of(body.len()),
            content_type: Some(self.content_type.as_bytes()),
            content_encoding: Some(b"utf-8"),
            headers: Some(table.table()),
            delivery_mode: Some(2),
            priority: self.priority,
            correlation_id: Some(self.id.as_bytes()),
            ..NewHeader::default()
        }
        .write(&mut payload);
        Captured {
            exchange: self.exchange.clone().into_bytes(),
            routing_key: self.routing_key.clone().into_bytes(),
            mandatory: false,
            header: payload,
            body,
        }
    }

    /// Spaces before the end are nothing to JSON, and compress as well as any text that repeats itself.
    fn padded(&self, json: Json) -> Vec<u8> {
        let mut body = json.to_string().into_bytes();
        let missing = self.size.saturating_sub(body.len());
        body.splice(1..1, std::iter::repeat_n(b' ', missing));
        body
    }
}

/// A header from `name=value`: `true`, `false` and whole numbers are what they look like.
fn header(table: TableWriter, name: &str, value: &str) -> TableWriter {
    match (value, value.parse::<i64>()) {
        ("true", _) => table.with(name, Value::Bool(true)),
        ("false", _) => table.with(name, Value::Bool(false)),
        ("null", _) => table.with(name, Value::Void),
        (_, Ok(n)) => table.with(name, i32::try_from(n).map_or(Value::LongLong(n), Value::I32)),
        _ => table.str(name, value.as_bytes()),
    }
}

/// Reads a captured vector, a line of `umbel spool export`, or our own form:
/// `{"exchange": "", "routing_key": "celery", "properties": {"priority": 3}, "headers": {"task": "a.b", "id": "1"}, "body": "…"}`.
///
/// # Errors
/// What was expected.
pub fn parse(text: &str) -> Result<Captured, String> {
    let json: Json = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
    let object = json.as_object().ok_or("expected a JSON object")?;
    match (object.get("frames_hex"), object.get("header_b64")) {
        (Some(frames), _) => from_frames(frames),
        (None, Some(_)) => from_spool(object),
        (None, None) => from_parts(object),
    }
}

fn from_frames(frames: &Json) -> Result<Captured, String> {
    let list = frames.as_array().ok_or("expected `frames_hex` to be a list of strings")?;
    let mut captured: Option<Captured> = None;
    for (index, hex) in list.iter().enumerate() {
        let bytes = hex
            .as_str()
            .and_then(unhex)
            .ok_or_else(|| format!("frames_hex[{index}]: expected hex digits"))?;
        let whole = || format!("frames_hex[{index}]: expected one whole AMQP frame");
        let Frame { kind, payload, .. } = parse_frame(&bytes, FRAME_MAX).ok().flatten().ok_or_else(whole)?;
        match (kind, captured.as_mut()) {
            (FrameKind::Method, _) => {
                let (_, reader) = method::split(payload).map_err(|e| e.to_string())?;
                let publish =
                    method::publish(reader).map_err(|_| "expected basic.publish in the first frame")?;
                captured = Some(Captured {
                    exchange: publish.exchange.to_vec(),
                    routing_key: publish.routing_key.to_vec(),
                    mandatory: publish.mandatory,
                    header: Vec::new(),
                    body: Vec::new(),
                });
            }
            (FrameKind::Header, Some(captured)) => captured.header = payload.to_vec(),
            (FrameKind::Body, Some(captured)) => captured.body.extend_from_slice(payload),
            _ => return Err(format!("frames_hex[{index}]: expected a method, then a header, then bodies")),
        }
    }
    captured.filter(|c| !c.header.is_empty()).ok_or_else(|| "expected a method and a header frame".to_owned())
}

/// A line of `umbel spool export`: its exact bytes.
fn from_spool(object: &Map<String, Json>) -> Result<Captured, String> {
    let bytes = |key: &str| {
        let text = object.get(key).and_then(Json::as_str);
        text.and_then(unbase64).ok_or_else(|| format!("{key}: expected base64"))
    };
    let method = bytes("method_b64")?;
    let publish = method::split(&method).ok().and_then(|(_, reader)| method::publish(reader).ok());
    let publish = publish.ok_or("method_b64: expected basic.publish")?;
    Ok(Captured {
        exchange: publish.exchange.to_vec(),
        routing_key: publish.routing_key.to_vec(),
        mandatory: publish.mandatory,
        header: bytes("header_b64")?,
        body: bytes("body_b64")?,
    })
}

fn from_parts(object: &Map<String, Json>) -> Result<Captured, String> {
    const KNOWN: &[&str] =
        &["exchange", "routing_key", "mandatory", "properties", "headers", "body", "body_b64"];
    if let Some(unknown) = object.keys().find(|k| !KNOWN.contains(&k.as_str())) {
        return Err(format!("unknown key `{unknown}`; known: frames_hex, or {}", KNOWN.join(", ")));
    }
    let text = |key: &str| object.get(key).and_then(Json::as_str).unwrap_or_default();
    let body = match object.get("body_b64").and_then(Json::as_str) {
        Some(b64) => unbase64(b64).ok_or("body_b64: expected base64")?,
        None => match object.get("body") {
            Some(Json::String(body)) => body.clone().into_bytes(),
            Some(other) => other.to_string().into_bytes(),
            None => Vec::new(),
        },
    };
    let empty = Map::new();
    let table_of = |key: &str| {
        object.get(key).map_or(Ok(&empty), |v| v.as_object().ok_or(format!("{key}: expected an object")))
    };
    let mut table = Vec::new();
    encode(table_of("headers")?, &mut table, 8)?;
    let properties = table_of("properties")?;
    let bytes = |key: &str| properties.get(key).and_then(Json::as_str).map(str::as_bytes);
    let octet = |key: &str| properties.get(key).and_then(Json::as_u64).and_then(|n| u8::try_from(n).ok());
    let mut header = Vec::new();
    NewHeader {
        body_size: u64_of(body.len()),
        content_type: bytes("content_type").or(Some(b"application/json")),
        content_encoding: bytes("content_encoding").or(Some(b"utf-8")),
        headers: Some(Table::new(&table)),
        delivery_mode: octet("delivery_mode").or(Some(2)),
        priority: octet("priority"),
        correlation_id: bytes("correlation_id"),
        reply_to: bytes("reply_to"),
        expiration: bytes("expiration"),
        message_id: bytes("message_id"),
        ..NewHeader::default()
    }
    .write(&mut header);
    Ok(Captured {
        exchange: text("exchange").as_bytes().to_vec(),
        routing_key: text("routing_key").as_bytes().to_vec(),
        mandatory: object.get("mandatory").and_then(Json::as_bool).unwrap_or(false),
        header,
        body,
    })
}

/// JSON as a field table, with the tags that py-amqp would write. `depth` bounds the recursion.
fn encode(object: &Map<String, Json>, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    for (name, value) in object {
        crate::wire::table::write_entry(out, name.as_bytes(), &Value::Void);
        out.pop();
        encode_value(value, out, depth)?;
    }
    Ok(())
}

fn encode_value(value: &Json, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    let depth = depth.checked_sub(1).ok_or("headers are nested too deep")?;
    match value {
        Json::Null => Value::Void.write(out),
        Json::Bool(flag) => Value::Bool(*flag).write(out),
        Json::String(text) => Value::Str(text.as_bytes()).write(out),
        Json::Number(n) => match n.as_i64() {
            Some(n) => i32::try_from(n).map_or(Value::LongLong(n), Value::I32).write(out),
            None => Value::F64(n.as_f64().unwrap_or_default()).write(out),
        },
        Json::Array(items) => {
            let mut inner = Vec::new();
            for item in items {
                encode_value(item, &mut inner, depth)?;
            }
            Value::Array(crate::wire::table::Array::new(&inner)).write(out);
        }
        Json::Object(object) => {
            let mut inner = Vec::new();
            encode(object, &mut inner, depth)?;
            Value::Table(Table::new(&inner)).write(out);
        }
    }
    Ok(())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let value = |b: u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut out = Vec::new();
    let (mut bits, mut held) = (0u32, 0u32);
    for b in text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=') {
        bits = bits << 6 | u32::from(value(b)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ContentHeader;

    #[test]
    fn a_captured_vector_is_read_as_it_was_sent() {
        let text = include_str!("../../tests/data/vectors/c570-py311-v2-json-expires-float.json");
        let captured = parse(text).unwrap();
        assert_eq!((captured.exchange.as_slice(), captured.routing_key.as_slice()), (&b""[..], &b"vec"[..]));
        let header = ContentHeader::parse(&captured.header).unwrap();
        assert_eq!((header.body_size, captured.body.len()), (81, 81));
    }

    #[test]
    fn our_own_form_makes_a_publish_and_unknown_keys_are_named() {
        let text = r#"{"routing_key": "celery", "headers": {"task": "a.b", "id": "1", "n": [1, {"x": null}]}, "body": [[], {}, {}]}"#;
        let captured = parse(text).unwrap();
        let header = ContentHeader::parse(&captured.header).unwrap();
        assert_eq!(header.headers().and_then(|t| t.get(b"task")), Some(Value::Str(b"a.b")));
        assert_eq!(captured.body, b"[[],{},{}]");
        assert!(parse(r#"{"routing-key": "x"}"#).unwrap_err().contains("routing-key"));
    }

    #[test]
    fn base64_and_hex_are_read() {
        assert_eq!(unbase64("aGVsbG8=").unwrap(), b"hello");
        assert_eq!(unhex("00fF").unwrap(), [0, 255]);
        assert_eq!(unhex("0"), None);
    }
}
