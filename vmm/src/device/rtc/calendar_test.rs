use super::calendar::*;

const BCD_24: Format = Format { binary: false, hours_24: true };
const BINARY_24: Format = Format { binary: true, hours_24: true };
const BCD_12: Format = Format { binary: false, hours_24: false };

#[test]
fn known_moments_show_in_the_registers() {
    // Each checked with date(1): `date -u -d @N`.
    let known = [
        (0, [0x00, 0x00, 0x00, 5, 0x01, 0x01, 0x70, 0x19]),
        (951_827_696, [0x56, 0x34, 0x12, 3, 0x29, 0x02, 0x00, 0x20]),
        (1_709_251_199, [0x59, 0x59, 0x23, 5, 0x29, 0x02, 0x24, 0x20]),
        (4_107_542_400, [0x00, 0x00, 0x00, 2, 0x01, 0x03, 0x00, 0x21]),
        (-1, [0x59, 0x59, 0x23, 4, 0x31, 0x12, 0x69, 0x19]),
        (clamp(i64::MIN), [0x00, 0x00, 0x00, 7, 0x01, 0x01, 0x00, 0x00]),
        (clamp(i64::MAX), [0x59, 0x59, 0x23, 6, 0x31, 0x12, 0x99, 0x99]),
    ];
    for (seconds, registers) in known {
        assert_eq!(Civil::from_unix(seconds).to_registers(BCD_24), registers, "{seconds}");
        assert_eq!(Civil::from_registers(registers, BCD_24).unwrap().to_unix(), seconds);
    }
}

#[test]
fn every_format_goes_there_and_back() {
    let formats = [BCD_24, BINARY_24, BCD_12, Format { binary: true, hours_24: false }];
    // A step of an odd length meets every hour, weekday, month and leap year.
    for seconds in (clamp(i64::MIN)..=clamp(i64::MAX)).step_by(86_400 * 29 + 3_607 * 7919) {
        for format in formats {
            let registers = Civil::from_unix(seconds).to_registers(format);
            let back = Civil::from_registers(registers, format).map(Civil::to_unix);
            assert_eq!(back, Some(seconds), "{registers:02x?}");
        }
    }
}

#[test]
fn a_12_hour_clock_calls_midnight_and_noon_twelve() {
    let hours = |hour: i64| Civil::from_unix(hour * 3_600).to_registers(BCD_12)[2];
    assert_eq!([0, 1, 11, 12, 13, 23].map(hours), [0x12, 0x01, 0x11, 0x92, 0x81, 0x91]);
}

#[test]
fn what_is_no_date_is_none() {
    let good = [0x56, 0x34, 0x12, 3, 0x28, 0x02, 0x23, 0x20];
    assert!(Civil::from_registers(good, BCD_24).is_some());
    let changes: [(usize, u8); 14] = [
        (0, 0x60),
        (0, 0x5a),
        (1, 0x60),
        (1, 0xf0),
        (2, 0x24),
        (2, 0x92),
        (4, 0x00),
        (4, 0x29),
        (4, 0xff),
        (5, 0x00),
        (5, 0x13),
        (6, 0xaa),
        (7, 0xff),
        (7, 0x0a),
    ];
    for (at, value) in changes {
        let mut registers = good;
        registers[at] = value;
        assert_eq!(Civil::from_registers(registers, BCD_24), None, "register {at} = {value:#04x}");
    }
    for hour in [0x00, 0x13, 0x80, 0x93] {
        let mut registers = good;
        registers[2] = hour;
        assert_eq!(Civil::from_registers(registers, BCD_12), None, "{hour:#04x} on a 12-hour clock");
    }
    assert_eq!(Civil::from_registers([0xff; 8], BINARY_24), None);
}
