use page_server::stats::Metrics;

use super::*;

const SAID: &str = "HTTP/1.1 200 OK\r\n\r\n# HELP x y\n\
rekindle_pages_sessions 2\n\
rekindle_pages_faults_total{session=\"1\"} 100\n\
rekindle_pages_faults_total{session=\"ended\"} 7\n\
rekindle_pages_copied_bytes_total{session=\"1\"} 10485760\n\
rekindle_pages_fault_seconds_bucket{session=\"1\",le=\"0.000032\"} 60\n\
rekindle_pages_fault_seconds_bucket{session=\"1\",le=\"0.000064\"} 100\n\
rekindle_pages_fault_seconds_bucket{session=\"1\",le=\"+Inf\"} 100\n";

#[test]
fn what_a_server_says_becomes_a_line_for_each_session() {
    let numbers = parse(SAID);
    let table = table(&numbers, &Numbers::new(), None);
    let words: Vec<&str> = table.lines().nth(3).unwrap().split_whitespace().collect();
    assert_eq!(words[..5], ["1", "100", "32", "64", "10.0"], "{table}");
    assert!(table.starts_with("2 VMs served"), "{table}");
    assert!(table.lines().nth(4).unwrap().trim_start().starts_with("ended"), "{table}");
}

#[test]
fn rates_are_of_the_time_since_the_last_look() {
    let numbers = parse(SAID);
    let later = parse(&SAID.replace("} 100\n", "} 200\n"));
    let table = table(&later, &numbers, Some(Duration::from_secs(2)));
    let words: Vec<&str> = table.lines().nth(3).unwrap().split_whitespace().collect();
    assert_eq!(words[..3], ["1", "50", "64"], "{table}");
}

#[test]
fn control_codes_go_to_a_terminal_only() {
    assert_eq!(anew("a\nb\n", true), "\x1b[2J\x1b[Ha\nb\n");
    assert_eq!(anew("a\nb\n", false), "a\nb\n\n");
}

/// The metrics' names are those that are read here.
#[test]
fn the_table_understands_the_servers_own_words() {
    let metrics = Metrics::new().unwrap();
    let _stats = metrics.of_session("3", "image");
    let numbers = parse(&String::from_utf8(metrics.text()).unwrap());
    for name in ["sessions", "sessions_total", "refused_total", "lost_total"] {
        assert!(numbers[name].contains_key(""), "{name}");
    }
    for name in ["faults_total", "copied_bytes_total", "prefetched_bytes_total", "set_faults_total"] {
        assert!(numbers[name].contains_key("3"), "{name}");
    }
    assert!(quantile(&numbers, &Numbers::new(), "3", 0.5).is_none());
}
