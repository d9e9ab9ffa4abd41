//! Moments: any string is read or not, and what is read is written as something that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel::celery::time::{format, parse};

/// 0001-01-01 to 9999-12-31, Python's calendar, in microseconds.
const CALENDAR: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

fuzz_target!(|text: &[u8]| {
    if let Some(instant) = parse(text)
        && CALENDAR.contains(&instant.unix_micros)
    {
        let again = parse(format(instant.unix_micros).as_bytes()).expect("our own form");
        assert_eq!((again.unix_micros, again.naive), (instant.unix_micros, false));
    }
});
