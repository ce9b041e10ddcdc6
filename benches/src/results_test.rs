use super::*;

#[test]
fn a_summary_names_samples_and_makes_none_up() {
    let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
    let summary = Summary::of(&hundred);
    assert_eq!(summary, Summary { n: 100, min: 1.0, median: 50.0, p99: 99.0 });
    assert_eq!(Summary::of(&[7.0]), Summary { n: 1, min: 7.0, median: 7.0, p99: 7.0 });
    assert_eq!(Summary::of(&[]), Summary::default());
}

#[test]
fn samples_keep_their_order_and_their_unit() {
    let series = Series::times("a", [3, 1].map(Duration::from_micros));
    assert_eq!((series.samples.as_slice(), series.unit), ([3.0, 1.0].as_slice(), Unit::Us));
    let json = serde_json::to_value(Series::sizes("b", [4096])).unwrap();
    assert_eq!(json["unit"], "bytes");
    assert_eq!(json["summary"]["median"], 4096.0);
}
