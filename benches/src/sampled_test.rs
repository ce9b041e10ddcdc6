use super::*;

#[test]
fn the_guests_answer_is_understood() {
    let ns = Duration::from_nanos;
    let run = Run { requests: 4, took: ns(1000), median: ns(200), p99: ns(300), worker: ns(0) };
    assert_eq!(Run::parse("4 requests in 1000 ns, median 200 p99 300"), Some(run));
    for other in ["", "4 requests in 1000 ns", "x requests in 1000 ns, median 200 p99 300"] {
        assert_eq!(Run::parse(other), None);
    }
}

#[test]
fn a_run_is_shared_among_its_requests() {
    let us = Duration::from_micros;
    let run = Run { requests: 4, took: us(1000), median: us(200), p99: us(300), worker: us(100) };
    let medians = series("x", &[run]).map(|series| series.summary.median);
    assert_eq!(medians, [250.0, 25.0, 200.0, 300.0]);
}
