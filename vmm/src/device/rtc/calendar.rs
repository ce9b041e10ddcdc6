//! Between seconds since 1970 and the clock's registers. Knows the calendar and nothing of the device.

/// 0000-01-01 and the last second of 9999-12-31, which is all that two digits of century and two of year can say.
const FIRST: i64 = -62_167_219_200;
const LAST: i64 = 253_402_300_799;

const DAY: i64 = 86_400;
/// The Gregorian calendar repeats after 400 years.
const ERA_YEARS: i64 = 400;
const ERA_DAYS: i64 = 146_097;
/// From 0000-03-01, where the eras below start, to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;

/// PM, in the hours register of a 12-hour clock.
const PM: u8 = 1 << 7;

/// `seconds`, moved into the years that the registers can show.
pub(super) fn clamp(seconds: i64) -> i64 {
    seconds.clamp(FIRST, LAST)
}

/// How the registers hold their numbers (register B).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) binary: bool,
    pub(super) hours_24: bool,
}

impl Format {
    fn encode(self, value: u8) -> u8 {
        if self.binary { value } else { ((value / 10) << 4) | (value % 10) }
    }

    fn decode(self, register: u8) -> Option<u8> {
        let (tens, ones) = (register >> 4, register & 0xf);
        if self.binary { Some(register) } else { (tens < 10 && ones < 10).then_some(tens * 10 + ones) }
    }

    fn encode_hour(self, hour: u8) -> u8 {
        if self.hours_24 {
            return self.encode(hour);
        }
        // Midnight is 12 AM and noon is 12 PM.
        let on_the_dial = (hour + 11) % 12 + 1;
        self.encode(on_the_dial) | if hour >= 12 { PM } else { 0 }
    }

    fn decode_hour(self, register: u8) -> Option<u8> {
        if self.hours_24 {
            return self.decode(register).filter(|&hour| hour < 24);
        }
        let on_the_dial = self.decode(register & !PM).filter(|hour| (1..=12).contains(hour))?;
        Some(on_the_dial % 12 + if register & PM != 0 { 12 } else { 0 })
    }
}

/// A moment of the proleptic Gregorian calendar, UTC, years 0 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    year: i64,
    /// 1 to 12.
    month: u8,
    /// 1 to the length of the month.
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Civil {
    /// `seconds` since 1970, within [`clamp`].
    pub(super) fn from_unix(seconds: i64) -> Self {
        let (days, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // Years that begin in March have their leap day at the end, so the months' lengths repeat 153 days in five.
        let days = days + DAYS_TO_1970;
        let (era, of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = (from_march + 2) % 12 + 1;
        Self {
            year: era * ERA_YEARS + year_of_era + i64::from(month <= 2),
            month: month as u8,
            day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u8,
            hour: (of_day / 3_600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
        }
    }

    /// Days since 1970-01-01.
    fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (era, year_of_era) = (year.div_euclid(ERA_YEARS), year.rem_euclid(ERA_YEARS));
        let from_march = (i64::from(self.month) + 9) % 12;
        let day_of_year = (153 * from_march + 2) / 5 + i64::from(self.day) - 1;
        era * ERA_DAYS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - DAYS_TO_1970
    }

    /// Seconds since 1970.
    pub(super) fn to_unix(self) -> i64 {
        let of_day = i64::from(self.hour) * 3_600 + i64::from(self.minute) * 60 + i64::from(self.second);
        self.days() * DAY + of_day
    }

    /// Seconds, minutes, hours, day of the week (1 is Sunday), day, month, year, century.
    pub(super) fn to_registers(self, format: Format) -> [u8; 8] {
        // 1970-01-01 was a Thursday, the fifth day.
        let weekday = (self.days() + 4).rem_euclid(7) + 1;
        let plain = [weekday, self.day.into(), self.month.into(), self.year % 100, self.year / 100 % 100];
        let [weekday, day, month, year, century] = plain.map(|n| format.encode(n as u8));
        let [second, minute] = [self.second, self.minute].map(|n| format.encode(n));
        [second, minute, format.encode_hour(self.hour), weekday, day, month, year, century]
    }

    /// None if there is no such moment. The day of the week follows from the date and is not looked at.
    pub(super) fn from_registers(registers: [u8; 8], format: Format) -> Option<Self> {
        let [second, minute, hour, _weekday, day, month, year, century] = registers;
        let below = |register, limit| format.decode(register).filter(|&n| n < limit);
        let civil = Self {
            second: below(second, 60)?,
            minute: below(minute, 60)?,
            hour: format.decode_hour(hour)?,
            day: below(day, 32)?,
            month: below(month, 13)?,
            year: i64::from(below(century, 100)?) * 100 + i64::from(below(year, 100)?),
        };
        // The 31st of a short month, day 0 and month 0 come out as another date than they went in.
        (civil.month > 0 && Self::from_unix(civil.to_unix()) == civil).then_some(civil)
    }
}
