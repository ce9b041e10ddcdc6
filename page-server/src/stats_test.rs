use super::*;

#[test]
fn numbers_are_told_by_session_and_stay_when_it_ends() {
    let metrics = Metrics::new().unwrap();
    let stats = metrics.of_session("7");
    stats.faults.inc();
    stats.copied.inc_by(4096);
    stats.latency.observe(25e-6);
    let text = String::from_utf8(metrics.text()).unwrap();
    assert!(text.contains("rekindle_pages_faults_total{session=\"7\"} 1"), "{text}");
    assert!(text.contains("rekindle_pages_copied_bytes_total{session=\"7\"} 4096"), "{text}");
    assert!(text.contains("rekindle_pages_fault_seconds_bucket{session=\"7\",le=\"0.000032\"} 1"), "{text}");
    assert!(text.contains("rekindle_pages_fault_seconds_bucket{session=\"7\",le=\"0.000016\"} 0"), "{text}");
    metrics.forget("7", &stats);
    let text = String::from_utf8(metrics.text()).unwrap();
    assert!(!text.contains("session=\"7\""), "{text}");
    assert!(text.contains("rekindle_pages_faults_total{session=\"ended\"} 1"), "{text}");
}
