//! Times and durations, in UTC.

#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Arguments, Fit, Function, Unfit, Value};

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

pub(super) fn call(function: Function, given: &Arguments<'_, '_>) -> Fit<Value<'static>> {
    let field = |read: fn(&Civil) -> i64| given.time(0).map(|nanos| Value::Int(read(&Civil::of(nanos))));
    let in_units = |unit: i64| given.duration(0).map(|nanos| Value::Double(nanos as f64 / unit as f64));
    let whole = |unit: i64| given.duration(0).map(|nanos| Value::Int(nanos / unit));
    let since = |unit: i64| given.time(0).map(|nanos| Value::Int(nanos.div_euclid(unit)));
    match function {
        Function::Now => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Ok(Value::Time(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)))
        }
        Function::Time => read(given.text(0)?, given.text(1)?).map(Value::Time),
        Function::FormatTime => write(given.time(0)?, given.text(1)?).map(Value::text),
        Function::TruncateTime => {
            let (time, unit) = (given.time(0)?, given.duration(1)?);
            // Go counts from the year 1, which is a whole number of any unit that divides a week before 1970.
            if unit > 0 { Ok(Value::Time(time - time.rem_euclid(unit))) } else { Ok(Value::Time(time)) }
        }
        Function::Unix => {
            let nanos = given.given(1).map_or(Ok(0), |_| given.int(1))?;
            let seconds = given.int(0)?.checked_mul(SECOND);
            seconds.and_then(|seconds| seconds.checked_add(nanos)).map(Value::Time).ok_or(Unfit)
        }
        Function::UnixNano => since(1),
        Function::UnixMicro => since(1_000),
        Function::UnixMilli => since(1_000_000),
        Function::UnixSeconds => since(SECOND),
        Function::Year => field(|civil| civil.year),
        Function::Month => field(|civil| civil.month),
        Function::Day => field(|civil| civil.day),
        Function::Hour => field(|civil| civil.hour),
        Function::Minute => field(|civil| civil.minute),
        Function::Second => field(|civil| civil.second),
        Function::Weekday => field(|civil| civil.weekday),
        Function::Duration => duration(given.text(0)?).map(Value::Duration),
        Function::Hours => in_units(3_600 * SECOND),
        Function::Minutes => in_units(60 * SECOND),
        Function::Seconds => in_units(SECOND),
        Function::Milliseconds => whole(1_000_000),
        Function::Microseconds => whole(1_000),
        Function::Nanoseconds => whole(1),
        _ => Err(Unfit),
    }
}

/// A moment in the Gregorian calendar.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    /// 0 is Sunday.
    weekday: i64,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: i64,
}

impl Civil {
    /// Days to dates by eras of 400 years that begin in March (Howard Hinnant, "chrono-compatible low-level date
    /// algorithms").
    fn of(nanos: i64) -> Self {
        let (days, rest) = (nanos.div_euclid(DAY), nanos.rem_euclid(DAY));
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let seconds = rest / SECOND;
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            weekday: (days + 4).rem_euclid(7),
            hour: seconds / 3_600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            nanos: rest % SECOND,
        }
    }

    fn nanos(&self) -> Fit<i64> {
        let in_range = (1..=12).contains(&self.month)
            && (1..=31).contains(&self.day)
            && (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..60).contains(&self.second);
        if !in_range {
            return Err(Unfit);
        }
        let year = self.year - i64::from(self.month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let march_month = (self.month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let seconds = days * 86_400 + self.hour * 3_600 + self.minute * 60 + self.second;
        let nanos = seconds.checked_mul(SECOND).and_then(|nanos| nanos.checked_add(self.nanos));
        // A day that the month has not comes out as another date.
        nanos.filter(|nanos| Self::of(*nanos).day == self.day).ok_or(Unfit)
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The directives of `Time` and `FormatTime`, for the error of a format that has another.
pub(in crate::scrub::ottl) const DIRECTIVES: &str =
    "%Y %y %m %d %e %H %I %M %S %L %f %s %p %b %B %a %A %z %Z %F %T %D %R %n %t %%";

/// Whether a format can be used.
pub(in crate::scrub::ottl) fn is_format(format: &str) -> bool {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c == '%' && !chars.next().is_some_and(|c| "YymdeHIMSLfspbBaAzZFTDRnt%".contains(c)) {
            return false;
        }
    }
    true
}

/// Reads a time by a format of `strptime`.
fn read(text: &str, format: &str) -> Fit<i64> {
    let mut reader = Reader {
        text,
        civil: Civil { year: 1970, month: 1, day: 1, weekday: 0, hour: 0, minute: 0, second: 0, nanos: 0 },
        afternoon: None,
        offset: 0,
        unix: None,
    };
    reader.all(format)?;
    if !reader.text.is_empty() {
        return Err(Unfit);
    }
    if let Some(seconds) = reader.unix {
        return seconds.checked_mul(SECOND).ok_or(Unfit);
    }
    if let Some(afternoon) = reader.afternoon {
        if !(1..=12).contains(&reader.civil.hour) {
            return Err(Unfit);
        }
        reader.civil.hour = reader.civil.hour % 12 + if afternoon { 12 } else { 0 };
    }
    reader.civil.nanos()?.checked_sub(reader.offset * SECOND).ok_or(Unfit)
}

struct Reader<'t> {
    text: &'t str,
    civil: Civil,
    afternoon: Option<bool>,
    /// Seconds east of UTC.
    offset: i64,
    unix: Option<i64>,
}

impl Reader<'_> {
    fn all(&mut self, format: &str) -> Fit<()> {
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c == '%' { self.directive(chars.next().ok_or(Unfit)?)? } else { self.literal(c)? }
        }
        Ok(())
    }

    fn literal(&mut self, c: char) -> Fit<()> {
        self.text = self.text.strip_prefix(c).ok_or(Unfit)?;
        Ok(())
    }

    fn directive(&mut self, directive: char) -> Fit<()> {
        match directive {
            'Y' => self.civil.year = self.digits(4, 4)?,
            'y' => {
                let year = self.digits(2, 2)?;
                self.civil.year = year + if year < 69 { 2000 } else { 1900 };
            }
            'm' => self.civil.month = self.digits(1, 2)?,
            'd' => self.civil.day = self.digits(1, 2)?,
            'e' => {
                self.text = self.text.trim_start_matches(' ');
                self.civil.day = self.digits(1, 2)?;
            }
            'H' | 'I' => self.civil.hour = self.digits(1, 2)?,
            'M' => self.civil.minute = self.digits(1, 2)?,
            'S' => self.civil.second = self.digits(1, 2)?,
            'L' => self.civil.nanos = self.digits(3, 3)? * 1_000_000,
            'f' => {
                let before = self.text.len();
                let digits = self.digits(1, 9)?;
                let length = (before - self.text.len()) as u32;
                self.civil.nanos = digits * 10_i64.pow(9 - length);
            }
            's' => self.unix = Some(self.digits(1, 11)?),
            'p' => self.afternoon = Some(self.name(&["AM", "PM"], 2)? == 1),
            'b' => self.civil.month = self.name(&MONTHS, 3)? + 1,
            'B' => self.civil.month = self.name(&MONTHS, usize::MAX)? + 1,
            'a' => self.name(&WEEKDAYS, 3).map(|_| ())?,
            'A' => self.name(&WEEKDAYS, usize::MAX).map(|_| ())?,
            'z' => self.zone()?,
            'Z' => self.name(&["UTC", "GMT", "Z"], 3).map(|_| ())?,
            'F' => self.all("%Y-%m-%d")?,
            'T' => self.all("%H:%M:%S")?,
            'D' => self.all("%m/%d/%y")?,
            'R' => self.all("%H:%M")?,
            'n' => self.literal('\n')?,
            't' => self.literal('\t')?,
            '%' => self.literal('%')?,
            _ => return Err(Unfit),
        }
        Ok(())
    }

    fn digits(&mut self, least: usize, most: usize) -> Fit<i64> {
        let length = self.text.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if length < least {
            return Err(Unfit);
        }
        let (digits, rest) = self.text.split_at(length);
        self.text = rest;
        digits.parse().map_err(|_| Unfit)
    }

    fn name(&mut self, names: &[&str], letters: usize) -> Fit<i64> {
        for (number, name) in names.iter().enumerate() {
            let name = &name[..letters.min(name.len())];
            if self.text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) {
                self.text = &self.text[name.len()..];
                return Ok(number.cast_signed() as i64);
            }
        }
        Err(Unfit)
    }

    /// `Z`, `+0100`, `+01:00`.
    fn zone(&mut self) -> Fit<()> {
        if let Some(rest) = self.text.strip_prefix('Z') {
            self.text = rest;
            return Ok(());
        }
        let sign = match self.text.chars().next() {
            Some('+') => 1,
            Some('-') => -1,
            _ => return Err(Unfit),
        };
        self.text = &self.text[1..];
        let hours = self.digits(2, 2)?;
        self.text = self.text.strip_prefix(':').unwrap_or(self.text);
        let minutes = self.digits(2, 2)?;
        self.offset = sign * (hours * 3_600 + minutes * 60);
        Ok(())
    }
}

/// Writes a time by a format of `strftime`.
fn write(nanos: i64, format: &str) -> Fit<String> {
    let mut out = String::new();
    write_to(&mut out, nanos, format)?;
    Ok(out)
}

fn write_to(out: &mut String, nanos: i64, format: &str) -> Fit<()> {
    let civil = Civil::of(nanos);
    let month = MONTHS[(civil.month - 1).cast_unsigned() as usize];
    let weekday = WEEKDAYS[civil.weekday.cast_unsigned() as usize];
    let half = match civil.hour % 12 {
        0 => 12,
        hour => hour,
    };
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let written = match chars.next().ok_or(Unfit)? {
            'Y' => write!(out, "{:04}", civil.year),
            'y' => write!(out, "{:02}", civil.year.rem_euclid(100)),
            'm' => write!(out, "{:02}", civil.month),
            'd' => write!(out, "{:02}", civil.day),
            'e' => write!(out, "{:2}", civil.day),
            'H' => write!(out, "{:02}", civil.hour),
            'I' => write!(out, "{half:02}"),
            'M' => write!(out, "{:02}", civil.minute),
            'S' => write!(out, "{:02}", civil.second),
            'L' => write!(out, "{:03}", civil.nanos / 1_000_000),
            'f' => write!(out, "{:06}", civil.nanos / 1_000),
            's' => write!(out, "{}", nanos.div_euclid(SECOND)),
            'p' => write!(out, "{}", if civil.hour < 12 { "AM" } else { "PM" }),
            'b' => write!(out, "{}", &month[..3]),
            'B' => write!(out, "{month}"),
            'a' => write!(out, "{}", &weekday[..3]),
            'A' => write!(out, "{weekday}"),
            'z' => write!(out, "+0000"),
            'Z' => write!(out, "UTC"),
            'F' => return_to(out, nanos, "%Y-%m-%d"),
            'T' => return_to(out, nanos, "%H:%M:%S"),
            'D' => return_to(out, nanos, "%m/%d/%y"),
            'R' => return_to(out, nanos, "%H:%M"),
            'n' => out.write_char('\n'),
            't' => out.write_char('\t'),
            '%' => out.write_char('%'),
            _ => return Err(Unfit),
        };
        written.map_err(|_| Unfit)?;
    }
    Ok(())
}

fn return_to(out: &mut String, nanos: i64, format: &str) -> std::fmt::Result {
    write_to(out, nanos, format).map_err(|Unfit| std::fmt::Error)
}

/// Go's form: `1h30m`, `250ms`, `-1.5s`.
fn duration(text: &str) -> Fit<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut nanos = 0i64;
    while !rest.is_empty() {
        let number = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (digits, after) = rest.split_at(number);
        let unit = after.bytes().take_while(|byte| !byte.is_ascii_digit() && *byte != b'.').count();
        let (unit, after) = after.split_at(unit);
        let unit: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3_600 * SECOND,
            _ => return Err(Unfit),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || fraction.len() > 18 {
            return Err(Unfit);
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Unfit)? };
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| Unfit)? };
        let part = part * i128::from(unit) / 10_i128.pow(fraction.len() as u32);
        let sum = i128::from(nanos) + i128::from(whole) * i128::from(unit) + part;
        nanos = i64::try_from(sum).map_err(|_| Unfit)?;
        rest = after;
    }
    if text.is_empty() { Err(Unfit) } else { Ok(sign * nanos) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, format, nanos) in [
            ("1970-01-01T00:00:00Z", "%Y-%m-%dT%H:%M:%S%z", 0),
            ("2023-05-26 12:34:56", "%F %T", 1_685_104_496 * SECOND),
            ("2024-02-29", "%Y-%m-%d", 1_709_164_800 * SECOND),
            ("01/02/69", "%D", -364 * DAY),
            ("31 Dec 1969 23:59:59.5", "%d %b %Y %H:%M:%S.%f", -SECOND / 2),
            ("1:05 PM", "%I:%M %p", (13 * 3_600 + 5 * 60) * SECOND),
            ("12:00 AM", "%I:%M %p", 0),
            ("2026-11-21T10:00:00+01:30", "%FT%T%z", 1_795_249_800 * SECOND),
            ("Monday, March 02 2026", "%A, %B %d %Y", 1_772_409_600 * SECOND),
            ("1700000000", "%s", 1_700_000_000 * SECOND),
            ("1970 7%", "%Y %d%%", 6 * DAY),
        ] {
            assert_eq!(read(text, format), Ok(nanos), "{text}");
        }
        for (text, format) in [
            ("2023-02-29", "%F"),
            ("2023-13-01", "%F"),
            ("2023-01-01x", "%F"),
            ("24:00:00", "%T"),
            ("", "%Y"),
            ("2023", "%Q"),
        ] {
            assert_eq!(read(text, format), Err(Unfit), "{text}");
        }
        let nanos = 1_685_104_496 * SECOND + 7_000_000;
        assert_eq!(write(nanos, "%a %F %T.%L %z"), Ok("Fri 2023-05-26 12:34:56.007 +0000".into()));
        assert_eq!(write(0, "%I %p %e %%"), Ok("12 AM  1 %".into()));
    }

    #[test]
    fn every_day_is_itself_again() {
        for day in (-200_000..200_000).step_by(97) {
            let nanos = day * (DAY / 4);
            assert_eq!(Civil::of(nanos).nanos(), Ok(nanos), "{day}");
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("1h30m", Ok(5_400 * SECOND)),
            ("250ms", Ok(SECOND / 4)),
            ("-1.5s", Ok(-SECOND * 3 / 2)),
            ("0", Ok(0)),
            ("3µs", Ok(3_000)),
            ("", Err(Unfit)),
            ("5", Err(Unfit)),
            ("1x", Err(Unfit)),
            ("9999999h", Err(Unfit)),
        ] {
            assert_eq!(duration(text), nanos, "{text}");
        }
    }
}
