use super::*;
use crate::source::mock::Mock;
use crate::source::{Policy, Retry};
use crate::stats::Metrics;

#[test]
fn what_a_source_does_is_told_by_image() {
    let counts = Arc::new(Counts::default());
    let mock = Mock::numbered(4);
    *mock.failures.lock().unwrap() = vec![Mock::io_error(), Mock::io_error()];
    let policy = Policy { first_wait: std::time::Duration::from_millis(1), ..Policy::default() };
    let source = Retry::counted(Measured::new(mock, Arc::clone(&counts)), policy, Arc::clone(&counts));
    let mut page = [0; 4096];
    assert!(!source.read_now(4096, &mut page).unwrap());
    source.read(4096, &mut page).unwrap();
    assert_eq!(page, [1; 4096]);
    let metrics = Metrics::new().unwrap();
    metrics.watch("images/a", &counts);
    metrics.watch("images/a", &counts);
    let text = String::from_utf8(metrics.text()).unwrap();
    for line in [
        "rekindle_pages_source_hits_total{image=\"images/a\"} 0",
        "rekindle_pages_source_misses_total{image=\"images/a\"} 1",
        "rekindle_pages_source_errors_total{image=\"images/a\"} 2",
        "rekindle_pages_source_retries_total{image=\"images/a\"} 2",
        "rekindle_pages_source_read_seconds_count{image=\"images/a\"} 3",
    ] {
        assert_eq!(text.matches(line).count(), 1, "{line}: {text}");
    }
    // Another file under the same name.
    metrics.watch("images/a", &Arc::new(Counts { misses: AtomicU64::new(2), ..Counts::default() }));
    let text = String::from_utf8(metrics.text()).unwrap();
    assert!(text.contains("rekindle_pages_source_misses_total{image=\"images/a\"} 3"), "{text}");
}
