use super::*;

fn event(what: What, start: u64, offset: u64) -> Event {
    Event { start, end: start + 100, what, offset, bytes: 65536 }
}

#[test]
fn every_delivery_has_a_box_in_the_colour_of_its_kind() {
    let picture = svg(&[event(What::Read, 0, 0), event(What::Prefetch, 200, 1 << 20)], "a trace");
    let boxes = |what| {
        let group = picture.split(&format!("<g fill=\"{}\"", style(what).1)).nth(1).unwrap();
        group.split("</g>").next().unwrap().matches("<rect").count()
    };
    assert_eq!(What::ALL.map(boxes), [1, 0, 1, 0]);
    assert!(picture.contains("read fault: 1, 0.062 MiB") && !picture.contains("drained:"));
}

#[test]
fn nothing_lies_outside_the_axes_and_every_number_is_one() {
    for events in [
        vec![Event { start: 0, end: 0, what: What::Read, offset: 0, bytes: 0 }],
        vec![event(What::Write, 604_800_000_000 - 100, 16 << 40), event(What::Read, 0, 0)],
        vec![event(What::Drain, 5, 3 << 30)],
    ] {
        let picture = svg(&events, "x");
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        for part in picture.split("<rect x=\"").skip(1) {
            let x: f64 = part.split('"').next().unwrap().parse().unwrap();
            assert!((LEFT..=RIGHT).contains(&x), "{part}");
        }
    }
}

#[test]
fn steps_are_round_numbers() {
    assert_eq!([0.3, 1.0, 1.1, 3.0, 7.0, 80.0].map(round_up), [0.5, 1.0, 2.0, 5.0, 10.0, 100.0]);
    let axis = Axis::new(0.0, 200.0 * MIB, MIB, true, (BOTTOM, TOP));
    assert_eq!(
        axis.marks().map(|mark| mark / MIB).collect::<Vec<_>>(),
        [0.0, 32.0, 64.0, 96.0, 128.0, 160.0, 192.0, 224.0]
    );
}

#[test]
fn a_name_is_no_markup() {
    assert!(svg(&[event(What::Read, 0, 0)], "<script>&\u{1b}").contains(">&lt;script&gt;&amp;<"));
}
