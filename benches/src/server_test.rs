use super::*;

#[test]
fn the_metrics_of_all_sessions_are_added_up() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n# HELP rekindle_pages_faults_total Faults.\n\
                rekindle_pages_faults_total{session=\"1\"} 3\n\
                rekindle_pages_faults_total{session=\"ended\"} 4\n\
                rekindle_pages_prefetched_bytes_total{session=\"1\"} 8192\n\
                rekindle_pages_prefetched_bytes_total_of_something_else 5\n\
                rekindle_pages_sessions 1\n";
    assert_eq!(Done::parse(text), Done { prefetched: 8192.0, late: 0.0, faults: 7.0 });
}

#[test]
fn what_was_done_is_a_difference() {
    let before = Done { prefetched: 1.0, late: 2.0, faults: 3.0 };
    let after = Done { prefetched: 11.0, late: 22.0, faults: 33.0 };
    assert_eq!(after.since(before), Done { prefetched: 10.0, late: 20.0, faults: 30.0 });
}
