use super::*;

#[test]
fn numbers_are_told_by_session_and_stay_when_it_ends() {
    let metrics = Metrics::new().unwrap();
    let stats = metrics.of_session("7", "images/a");
    stats.faults.inc();
    stats.copied.inc_by(4096);
    stats.latency.observe(std::time::Duration::from_micros(25));
    let text = String::from_utf8(metrics.text()).unwrap();
    assert!(text.contains("rekindle_pages_faults_total{image=\"images/a\",session=\"7\"} 1"), "{text}");
    assert!(
        text.contains("rekindle_pages_copied_bytes_total{image=\"images/a\",session=\"7\"} 4096"),
        "{text}"
    );
    assert!(
        text.contains(
            "rekindle_pages_fault_seconds_bucket{image=\"images/a\",session=\"7\",le=\"0.000032\"} 1"
        ),
        "{text}"
    );
    assert!(
        text.contains(
            "rekindle_pages_fault_seconds_bucket{image=\"images/a\",session=\"7\",le=\"0.000016\"} 0"
        ),
        "{text}"
    );
    metrics.forget("7", &stats);
    let text = String::from_utf8(metrics.text()).unwrap();
    assert!(!text.contains("session=\"7\""), "{text}");
    assert!(text.contains("rekindle_pages_faults_total{image=\"images/a\",session=\"ended\"} 1"), "{text}");
    // Its times are kept as well.
    let bucket = "fault_seconds_bucket{image=\"images/a\",session=\"ended\",le=\"0.000032\"} 1";
    assert!(text.contains(bucket), "{text}");
}
