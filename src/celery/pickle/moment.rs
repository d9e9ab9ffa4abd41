//! A pickled `datetime`, told from the opcodes that would build it: ten octets and an offset. Nothing is imported, nothing is called.
//!
//! ```text
//! datetime(state)  datetime(state, tzinfo)      state: ten octets; in protocols 0 to 2 of Python 3, _codecs.encode(text, 'latin1')
//! tzinfo: timezone(timedelta(d, s, 0))  pytz._UTC()  pytz._p(name, seconds, dst, abbreviation)  dateutil's tzutc()
//! ```
//!
//! Any other time zone is named, not written out (zoneinfo, tzlocal): such a moment is not read.

use super::machine::Item;
use crate::celery::time::{self, Instant};

const DAY_SECONDS: i32 = 86_400;

/// A callable that is known by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Datetime,
    Timedelta,
    Timezone,
    /// `pytz._UTC`, dateutil's `tzutc`.
    Utc,
    /// `pytz._p`.
    PytzZone,
    /// `_codecs.encode`.
    Encode,
}

/// What stands on the stack while a moment is built.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    Known(Known),
    /// `bytes`, or Python 2's `str` that is no ASCII.
    Octets(&'a [u8]),
    /// UTF-8 whose characters are the octets.
    Latin(&'a [u8]),
    Timedelta(i32),
    /// Seconds east of UTC.
    Zone(i32),
    Moment(Instant),
    /// Arguments, each a tuple.
    NoArguments,
    OfDatetime(Instant),
    OfTimedelta([i32; 3]),
    OfTimezone(i32),
    OfPytzZone(i32),
    OfEncode(&'a [u8]),
}

/// A global: one that is known, or anything.
pub(super) fn global<'a>(module: &[u8], name: &[u8]) -> Item<'a> {
    let known = match (module, name) {
        (b"datetime", b"datetime") => Known::Datetime,
        (b"datetime", b"timedelta") => Known::Timedelta,
        (b"datetime", b"timezone") => Known::Timezone,
        (b"pytz", b"_UTC") | (b"dateutil.tz" | b"dateutil.tz.tz", b"tzutc") => Known::Utc,
        (b"pytz", b"_p") => Known::PytzZone,
        (b"_codecs", b"encode") => Known::Encode,
        _ => return Item::Opaque,
    };
    Item::Part(Part::Known(known))
}

/// A tuple, where it may be arguments; a pair of numbers; or anything.
pub(super) fn tuple<'a>(items: &[Item<'a>]) -> Item<'a> {
    let part = match *items {
        [Item::Part(Part::Timedelta(seconds))] | [Item::Part(Part::Timedelta(seconds)), Item::Text(_)] => {
            Some(Part::OfTimezone(seconds))
        }
        [state] => datetime(state, None),
        [state, Item::Part(Part::Zone(seconds))] => datetime(state, Some(seconds)),
        [Item::Text(text), Item::Text(b"latin1")] => Some(Part::OfEncode(text)),
        [Item::Int(days), Item::Int(seconds), Item::Int(micros)] => of_timedelta([days, seconds, micros]),
        [Item::Text(_), Item::Int(seconds), Item::Int(_), Item::Text(_)] => {
            i32::try_from(seconds).ok().map(Part::OfPytzZone)
        }
        [first, second] => return Item::pair(first, second),
        _ => None,
    };
    part.map_or(Item::Opaque, Item::Part)
}

/// What a callable would make of its arguments, where both are known.
pub(super) const fn call<'a>(callable: Item<'a>, arguments: Item<'a>) -> Item<'a> {
    let (Item::Part(Part::Known(known)), Item::Part(arguments)) = (callable, arguments) else {
        return Item::Opaque;
    };
    let made = match (known, arguments) {
        (Known::Datetime, Part::OfDatetime(moment)) => Part::Moment(moment),
        (Known::Timedelta, Part::OfTimedelta([days, seconds, 0])) => {
            Part::Timedelta(days.saturating_mul(DAY_SECONDS).saturating_add(seconds))
        }
        (Known::Timezone, Part::OfTimezone(seconds)) | (Known::PytzZone, Part::OfPytzZone(seconds))
            if -DAY_SECONDS < seconds && seconds < DAY_SECONDS =>
        {
            Part::Zone(seconds)
        }
        (Known::Utc, Part::NoArguments) => Part::Zone(0),
        (Known::Encode, Part::OfEncode(text)) => Part::Latin(text),
        _ => return Item::Opaque,
    };
    Item::Part(made)
}

fn datetime<'a>(state: Item<'a>, offset: Option<i32>) -> Option<Part<'a>> {
    let mut octets = [0; 10];
    match state {
        Item::Text(state) | Item::Part(Part::Octets(state)) => octets = <[u8; 10]>::try_from(state).ok()?,
        Item::Part(Part::Latin(text)) => {
            let mut chars = std::str::from_utf8(text).ok()?.chars();
            for octet in &mut octets {
                *octet = u8::try_from(u32::from(chars.next()?)).ok()?;
            }
            if chars.next().is_some() {
                return None;
            }
        }
        _ => return None,
    }
    time::of_state(octets, offset).map(Part::OfDatetime)
}

fn of_timedelta<'a>(parts: [i64; 3]) -> Option<Part<'a>> {
    let [days, seconds, micros] = parts.map(|part| i32::try_from(part).ok());
    Some(Part::OfTimedelta([days?, seconds?, micros?]))
}

#[cfg(test)]
mod tests {
    use crate::celery::field::Stated;
    use crate::celery::pickle::fields;
    use crate::celery::time::{self, Instant};

    /// 2026-11-26T12:30:45.123456.
    const NAIVE: i64 = 1_795_696_245_123_456;
    const HOUR: i64 = 3_600_000_000;

    /// The moment under `expires` of a dict whose value is pickled so.
    fn expires(head: &[u8], value: &[u8]) -> Stated<'static> {
        let body = [head, b"}(X\x07\0\0\0expires", value, b"u."].concat();
        let read = fields(&body, 1 << 16).unwrap().unwrap();
        match read.expires {
            Stated::Moment(at) => Stated::Moment(at),
            Stated::Other => Stated::Other,
            other => panic!("{other:?}"),
        }
    }

    fn at(unix_micros: i64, naive: bool) -> Stated<'static> {
        Stated::Moment(Instant { unix_micros, naive })
    }

    #[test]
    fn what_pythons_of_every_age_pickle_is_read() {
        assert_eq!(time::format(NAIVE), "2026-11-26T12:30:45.123456+00:00");
        let two = |zone: &[u8], tuple: &[u8]| {
            [
                b"cdatetime\ndatetime\nq\0U\n\x07\xea\x0b\x1a\x0c\x1e-\x01\xe2@q\x01",
                zone,
                tuple,
                b"q\x02Rq\x03",
            ]
            .concat()
        };
        // Python 2.7, protocol 2: naive, pytz.utc, and a zone of pytz.
        let head = b"\x80\x02";
        assert_eq!(expires(head, &two(b"", b"\x85")), at(NAIVE, true));
        assert_eq!(expires(head, &two(b"cpytz\n_UTC\nq\x02)Rq\x03", b"\x86")), at(NAIVE, false));
        let new_york =
            b"cpytz\n_p\nq\x02(U\x10America/New_Yorkq\x03J\xb0\xb9\xff\xffK\x00U\x03ESTq\x04tq\x05Rq\x06";
        assert_eq!(expires(head, &two(new_york, b"\x86")), at(NAIVE + 5 * HOUR, false));
        // Python 3, protocol 2: the state is text of Latin-1.
        let latin = b"cdatetime\ndatetime\nq\0c_codecs\nencode\nq\x01X\x0c\0\0\0\x07\xc3\xaa\x0b\x1a\x0c\x1e-\x01\xc3\xa2@q\x02X\x06\0\0\0latin1q\x03\x86q\x04Rq\x05";
        assert_eq!(expires(head, &[latin, &b"\x85q\x06Rq\x07"[..]].concat()), at(NAIVE, true));
        let utc = b"cdatetime\ntimezone\nq\x06cdatetime\ntimedelta\nq\x07K\0K\0K\0\x87q\x08Rq\t\x85q\nRq\x0b";
        assert_eq!(expires(head, &[latin, &utc[..], b"\x86q\x0cRq\r"].concat()), at(NAIVE, false));
        let tzutc = b"cdateutil.tz.tz\ntzutc\nq\x06)\x81q\x07";
        assert_eq!(expires(head, &[latin, &tzutc[..], b"\x86q\x0cRq\r"].concat()), at(NAIVE, false));
        // Python 3, protocol 4: names on the stack, octets as they are; five and a half hours west.
        let state =
            b"\x8c\x08datetime\x94\x8c\x08datetime\x94\x93\x94C\n\x07\xea\x0b\x1a\x0c\x1e-\x01\xe2@\x94";
        assert_eq!(expires(b"\x80\x04", &[state, &b"\x85\x94R\x94"[..]].concat()), at(NAIVE, true));
        let west = b"\x8c\x08datetime\x94\x8c\x08timezone\x94\x93\x94\x8c\x08datetime\x94\x8c\ttimedelta\x94\x93\x94J\xff\xff\xff\xffJ(\x04\x01\x00K\x00\x87\x94R\x94\x85\x94R\x94\x86\x94R\x94";
        assert_eq!(expires(b"\x80\x04", &[state, &west[..]].concat()), at(NAIVE + 11 * HOUR / 2, false));
    }

    #[test]
    fn what_is_no_moment_or_somebody_else_s_zone_is_left_alone() {
        let moment = |state: &[u8], rest: &[u8]| {
            expires(b"\x80\x03", &[b"cdatetime\ndatetime\nC", state, rest].concat())
        };
        let naive = b"\x85R";
        assert_eq!(moment(b"\n\x07\xea\x0b\x1a\x0c\x1e-\x01\xe2@", naive), at(NAIVE, true));
        for state in [
            &b"\n\x07\xea\x0d\x1a\x0c\x1e-\x01\xe2@"[..],
            b"\n\x07\xea\x0b\x1f\x0c\x1e-\x01\xe2@",
            b"\n\x07\xea\x0b\x1a\x18\x1e-\x01\xe2@",
            b"\n\x07\xea\x0b\x1a\x0c\x1e-\xff\xff\xff",
            b"\n\0\0\x0b\x1a\x0c\x1e-\x01\xe2@",
            b"\x04\x07\xea\x0b\x1a",
        ] {
            assert_eq!(moment(state, naive), Stated::Other, "{state:?}");
        }
        let good = b"\n\x07\xea\x0b\x1a\x0c\x1e-\x01\xe2@";
        assert_eq!(moment(good, b"cdateutil.tz.tz\ntzlocal\n)R\x86R"), Stated::Other);
        assert_eq!(
            moment(good, b"cpytz\n_p\n(X\x03\0\0\0FooJ\0\0\0\x7fK\0X\x03\0\0\0FootR\x86R"),
            Stated::Other
        );
        assert_eq!(moment(good, b"\x86"), Stated::Other, "not called");
        assert_eq!(
            expires(b"\x80\x03", b"cos\nsystem\nC\n\x07\xea\x0b\x1a\x0c\x1e-\x01\xe2@\x85R"),
            Stated::Other
        );
    }
}
