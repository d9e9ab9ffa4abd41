//! Durations and sizes as people write them: `250ms`, `5s`, `1h30m`; `8KiB`, `1GiB`, `500kB`.

use std::time::Duration;

/// A duration: numbers with `us`, `ms`, `s`, `m`, `h`, `d` or `w`, one or several in a row.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, tail) = split(rest, |c| c.is_ascii_digit() || c == '.')?;
        let (unit, tail) = split(tail, |c| c.is_ascii_alphabetic())?;
        let seconds = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail.trim_start();
    }
    Some(total)
}

/// A size in bytes: a number with `B`, `kB`, `MB`, `GB`, `TB` (thousands) or `KiB`, `MiB`, `GiB`, `TiB` (1024s).
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text.trim(), |c| c.is_ascii_digit() || c == '.')?;
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(factor),
        Some((whole, fraction)) => {
            let digits = u32::try_from(fraction.len()).ok().filter(|n| (1..=9).contains(n))?;
            let part = fraction.parse::<u64>().ok()?.checked_mul(factor)? / 10u64.pow(digits);
            whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(part)
        }
    }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at_checked(end)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_they_are_written() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("0.2s"), Some(Duration::from_millis(200)));
        assert_eq!(duration("0s"), Some(Duration::ZERO));
        for bad in ["", "5", "s", "-1s", "5 parsecs", "1.2.3s", "99999999999999999999w"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_read_as_they_are_written() {
        assert_eq!(size("8KiB"), Some(8192));
        assert_eq!(size("1.5 MiB"), Some(1_572_864));
        assert_eq!(size("500kB"), Some(500_000));
        assert_eq!(size("17"), Some(17));
        for bad in ["", "KiB", "-1B", "1 XB", "1.B", "99999999999TiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
