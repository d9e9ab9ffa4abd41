//! Moments as Celery writes them: ISO 8601 strings, read as a worker reads them (dateutil's isoparse, Celery 5.3.5 and later).
//!
//! A naive moment is UTC to every worker since 4.0. What cannot be read is nobody's to judge.

use jiff::civil::Date;

const MICROS_PER_SECOND: i64 = 1_000_000;
/// 0001-01-01T00:00:00.
const FIRST: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999.
const LAST: i64 = 253_402_300_799_999_999;
const EPOCH: Date = Date::constant(1970, 1, 1);

/// A moment, and whether its string said where on Earth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// Microseconds since the epoch.
    pub unix_micros: i64,
    /// It had no offset, and was read as UTC.
    pub naive: bool,
}

/// Reads a date, or a date and a time: extended and basic forms, week and ordinal dates, fractions after a point or a comma (digits
/// past the sixth are dropped), 24:00, `Z`, `±hh`, `±hhmm`, `±hh:mm`. Any one octet may separate date and time.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Instant> {
    let mut digits = Digits { rest: text };
    let date = digits.calendar_date().or_else(|| {
        digits.rest = text;
        digits.week_or_ordinal_date()
    })?;
    let mut instant =
        Instant { unix_micros: days_since_epoch(date)? * 86_400 * MICROS_PER_SECOND, naive: true };
    if !digits.rest.is_empty() {
        digits.rest = digits.rest.get(1..)?;
        let (of_day, offset) = digits.time()?;
        // Python has no local time after the year 9999: 24:00 on its last day raises.
        instant.unix_micros = Some(instant.unix_micros + of_day).filter(|at| *at <= LAST)?;
        instant.unix_micros -= offset.unwrap_or(0) * MICROS_PER_SECOND;
        instant.naive = offset.is_none();
    }
    Some(instant)
}

/// AMQP's own timestamp, which is UTC to py-amqp; `None` past Python's calendar, where py-amqp itself fails.
#[must_use]
pub fn of_seconds(seconds: u64) -> Option<Instant> {
    let unix_micros = i64::try_from(seconds).ok()?.checked_mul(MICROS_PER_SECOND).filter(|at| *at <= LAST)?;
    Some(Instant { unix_micros, naive: false })
}

/// A Python `datetime` from the ten octets that it is pickled with (CPython's `datetime_getstate`: year, month with the fold on top, day,
/// hour, minute, second, microseconds), and its offset from UTC in seconds; `None` where Python has no such moment.
#[must_use]
pub(super) fn of_state(state: [u8; 10], offset_seconds: Option<i32>) -> Option<Instant> {
    let [century, year, month, day, hour, minute, second, high, middle, low] = state;
    let [year_of, month, day] = [i16::from_be_bytes([century, year]), (month & 0x7f).into(), day.into()];
    let date = Date::new(year_of, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let micros = i64::from(u32::from_be_bytes([0, high, middle, low]));
    if hour > 23 || minute > 59 || second > 59 || micros >= MICROS_PER_SECOND {
        return None;
    }
    let seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
    let of_day = (seconds - i64::from(offset_seconds.unwrap_or(0))) * MICROS_PER_SECOND + micros;
    let unix_micros = days_since_epoch(date)? * 86_400 * MICROS_PER_SECOND + of_day;
    Some(Instant { unix_micros, naive: offset_seconds.is_none() })
}

fn days_since_epoch(date: Date) -> Option<i64> {
    // Python's calendar begins with the year 1.
    if date.year() < 1 {
        return None;
    }
    Some(date.since(EPOCH).ok()?.get_days().into())
}

/// Takes digits from the front.
struct Digits<'a> {
    rest: &'a [u8],
}

impl Digits<'_> {
    /// Exactly `n` digits, at most four.
    fn take(&mut self, n: usize) -> Option<i16> {
        let (digits, rest) = self.rest.split_at_checked(n)?;
        let mut value = 0_i16;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            value = value * 10 + i16::from(digit - b'0');
        }
        self.rest = rest;
        Some(value)
    }

    fn two(&mut self) -> Option<i8> {
        i8::try_from(self.take(2)?).ok()
    }

    fn eat(&mut self, octet: u8) -> bool {
        if self.rest.first() == Some(&octet) {
            self.rest = self.rest.get(1..).unwrap_or_default();
            return true;
        }
        false
    }

    /// `YYYY`, `YYYY-MM`, `YYYY-MM-DD`, `YYYYMMDD`.
    fn calendar_date(&mut self) -> Option<Date> {
        let year = self.take(4)?;
        if self.rest.is_empty() {
            return Date::new(year, 1, 1).ok();
        }
        let dashes = self.eat(b'-');
        let month = self.two()?;
        if self.rest.is_empty() {
            return if dashes { Date::new(year, month, 1).ok() } else { None };
        }
        if dashes && !self.eat(b'-') {
            return None;
        }
        Date::new(year, month, self.two()?).ok()
    }

    /// `YYYY-Www`, `YYYY-Www-D`, `YYYYWww`, `YYYYWwwD`, `YYYY-DDD`, `YYYYDDD`.
    fn week_or_ordinal_date(&mut self) -> Option<Date> {
        let year = self.take(4)?;
        let dashes = self.eat(b'-');
        if self.eat(b'W') {
            let week = self.two()?;
            let mut day = 1;
            if !self.rest.is_empty() {
                if self.eat(b'-') != dashes {
                    return None;
                }
                day = i8::try_from(self.take(1)?).ok()?;
            }
            if !(1..=53).contains(&week) || !(1..=7).contains(&day) {
                return None;
            }
            // Week 1 has January 4th in it. A week 53 that a year has not is the next one's first to dateutil: so it is here.
            let fourth = Date::new(year, 1, 4).ok()?;
            let monday = i64::from(fourth.weekday().to_monday_zero_offset());
            let days = i64::from(week - 1) * 7 + i64::from(day - 1) - monday;
            return fourth.checked_add(jiff::Span::new().days(days)).ok();
        }
        let ordinal = self.take(3)?;
        let first = Date::new(year, 1, 1).ok()?;
        if ordinal < 1 || ordinal > first.days_in_year() {
            return None;
        }
        first.checked_add(jiff::Span::new().days(ordinal - 1)).ok()
    }

    /// Microseconds of the day, and the offset from UTC in seconds. Must use up everything.
    fn time(&mut self) -> Option<(i64, Option<i64>)> {
        let hour = i64::from(self.two()?);
        let mut minute = 0;
        let mut second = 0;
        let mut micros = 0;
        if self.in_time() {
            let colons = self.eat(b':');
            minute = i64::from(self.two()?);
            if self.in_time() {
                if colons && !self.eat(b':') {
                    return None;
                }
                second = i64::from(self.two()?);
                if self.eat(b'.') || self.eat(b',') {
                    micros = self.fraction()?;
                }
            }
        }
        let offset = self.offset()?;
        let in_range = hour < 24 && minute < 60 && second < 60;
        if !in_range && (hour, minute, second, micros) != (24, 0, 0, 0) {
            return None;
        }
        Some((((hour * 60 + minute) * 60 + second) * MICROS_PER_SECOND + micros, offset))
    }

    fn in_time(&self) -> bool {
        !matches!(self.rest.first(), None | Some(b'Z' | b'z' | b'+' | b'-'))
    }

    fn fraction(&mut self) -> Option<i64> {
        let (mut micros, mut scale) = (0, MICROS_PER_SECOND);
        let before = self.rest.len();
        while let Some(&digit @ b'0'..=b'9') = self.rest.first() {
            scale /= 10;
            micros += i64::from(digit - b'0') * scale;
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        (self.rest.len() < before).then_some(micros)
    }

    /// `None` for what is no offset; `Some(None)` where there is none. Uses up everything.
    #[expect(clippy::option_option, reason = "failing and having no offset are two things")]
    fn offset(&mut self) -> Option<Option<i64>> {
        let sign = match self.rest {
            [] => return Some(None),
            [b'Z' | b'z'] => return Some(Some(0)),
            [b'+', ..] => 1,
            [b'-', ..] => -1,
            _ => return None,
        };
        self.rest = self.rest.get(1..)?;
        let hours = i64::from(self.two()?);
        let minutes = if self.rest.is_empty() {
            0
        } else {
            self.eat(b':');
            i64::from(self.two()?)
        };
        (self.rest.is_empty() && hours < 24 && minutes < 60)
            .then_some(Some(sign * (hours * 60 + minutes) * 60))
    }
}

/// The one form that every worker reads alike: `YYYY-MM-DDTHH:MM:SS.ffffff+00:00`. Moments outside the years 1 to 9999 are clamped.
#[must_use]
pub fn format(unix_micros: i64) -> String {
    let clamped = unix_micros.clamp(FIRST, LAST);
    let days = clamped.div_euclid(86_400 * MICROS_PER_SECOND);
    let of_day = clamped.rem_euclid(86_400 * MICROS_PER_SECOND);
    let date = EPOCH.saturating_add(jiff::Span::new().days(days));
    let (seconds, micros) = (of_day / MICROS_PER_SECOND, of_day % MICROS_PER_SECOND);
    let (minutes, second) = (seconds / 60, seconds % 60);
    let (hour, minute) = (minutes / 60, minutes % 60);
    format!(
        "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}+00:00",
        date.year(),
        date.month(),
        date.day(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::as_conversions, reason = "a test's moments are far from 2^53 microseconds")]
    fn unix(text: &str) -> Option<f64> {
        parse(text.as_bytes()).map(|at| at.unix_micros as f64 / 1e6)
    }

    #[test]
    fn what_workers_read_is_read_alike() {
        for (text, seconds) in [
            ("2026-11-22T07:21:34.330290+00:00", 1_795_332_094.330_29),
            ("2026-11-22T02:52:22.361151-05:00", 1_795_333_942.361_151),
            ("2040-01-02T03:04:05", 2_209_086_245.0),
            ("2040-01-02T03:04:05Z", 2_209_086_245.0),
            ("2040-01-02T03:04:05z", 2_209_086_245.0),
            ("2040-01-02 03:04:05", 2_209_086_245.0),
            ("20400102T030405", 2_209_086_245.0),
            ("20400102T030405Z", 2_209_086_245.0),
            ("2040-01-02T03:04:05.123456+05:30", 2_209_066_445.123_456),
            ("2040-01-02T03:04:05+0530", 2_209_066_445.0),
            ("2040-01-02T03:04:05-08", 2_209_115_045.0),
            ("2040-01-02T03:04:05,5Z", 2_209_086_245.5),
            ("2040-01-02T03:04:05.1234569Z", 2_209_086_245.123_456),
            ("2040-01-02T03:04", 2_209_086_240.0),
            ("2040-01-02T03", 2_209_086_000.0),
            ("2040-01-02T24:00", 2_209_161_600.0),
            ("2040-01-02", 2_209_075_200.0),
            ("2040-01", 2_208_988_800.0),
            ("2040", 2_208_988_800.0),
            ("2040-W01-1", 2_209_075_200.0),
            ("2040W011T030405", 2_209_086_245.0),
            ("2040-W01", 2_209_075_200.0),
            ("2040-W53-1", 2_240_524_800.0),
            ("2021-W01-1", 1_609_718_400.0),
            ("2040-002", 2_209_075_200.0),
            ("2040002", 2_209_075_200.0),
            ("1969-12-31T23:59:59Z", -1.0),
        ] {
            assert_eq!(unix(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_workers_refuse_is_not_guessed_at() {
        for text in [
            "",
            "now",
            "0000-01-01",
            "204",
            "204001",
            "2040-13-01",
            "2040-02-30",
            "2040-1-2",
            "2040-01-02T",
            "2040-01-02T3",
            "2040-01-02T25:00",
            "2040-01-02T24:01",
            "2040-01-02T03:04:60",
            "2040-01-02T03:0405",
            "2040-01-02T03:04:05+5",
            "2040-01-02T03:04:05+24:00",
            "2040-01-02T03:04:05 ",
            "2040-01-02T03:04:05.Z",
            "2040-W54-1",
            "2040-W00-1",
            "9999-12-31T24:00",
            "2040-W01-8",
            "2041-366",
            "1795333942.36",
            "1795333942",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_timestamp_is_utc_as_far_as_python_s_calendar_goes() {
        let at = |seconds| of_seconds(seconds).map(|at| (at.unix_micros, at.naive));
        assert_eq!(at(2_209_086_245), Some((2_209_086_245_000_000, false)));
        assert_eq!(at(253_402_300_799), Some((253_402_300_799_000_000, false)));
        assert_eq!((at(253_402_300_800), at(u64::MAX)), (None, None));
    }

    #[test]
    fn naive_is_said_to_be_naive() {
        assert!(parse(b"2040-01-02T03:04:05").unwrap().naive);
        assert!(!parse(b"2040-01-02T03:04:05+00:00").unwrap().naive);
    }

    #[test]
    fn what_is_written_has_six_digits_and_an_offset() {
        assert_eq!(format(2_209_086_245_000_000), "2040-01-02T03:04:05.000000+00:00");
        assert_eq!(format(-1), "1969-12-31T23:59:59.999999+00:00");
        assert_eq!(format(i64::MAX), "9999-12-31T23:59:59.999999+00:00");
        assert_eq!(format(i64::MIN), "0001-01-01T00:00:00.000000+00:00");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in -62_135_596_800_000_000..=253_402_300_799_999_999_i64) {
            prop_assert_eq!(parse(format(micros).as_bytes()), Some(Instant { unix_micros: micros, naive: false }));
        }

        #[test]
        fn nothing_panics(text in "[0-9TWZ:+., -]{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(text.as_bytes());
            let _ = parse(&bytes);
        }
    }
}
