use super::*;

#[test]
fn a_time_is_in_the_bucket_whose_bound_it_does_not_exceed() {
    let times = Times::default();
    for nanos in [0, 1000, 1001, 2000, 4_194_304_000, 4_194_304_001, u64::MAX / 2] {
        times.observe(Duration::from_nanos(nanos));
    }
    let metric = times.metric(&[("image", "i")]);
    let histogram = metric.get_histogram();
    let counts: Vec<u64> = histogram.get_bucket().iter().map(Bucket::cumulative_count).collect();
    assert_eq!((counts[0], counts[1], counts[2], counts[22]), (2, 4, 4, 5));
    assert_eq!((histogram.get_bucket()[22].upper_bound(), histogram.get_sample_count()), (4.194304, 7));
}

#[test]
fn the_times_of_sessions_that_ended_are_kept_by_image() {
    let latencies = Latencies::new().unwrap();
    for (session, image) in [("1", "a"), ("2", "a"), ("3", "b")] {
        latencies.of(session, image).observe(Duration::from_micros(30));
        latencies.bequeath(session, image, "ended");
    }
    let families = latencies.collect();
    let of: Vec<(String, u64)> = families[0]
        .get_metric()
        .iter()
        .map(|metric| {
            let labels: Vec<&str> = metric.get_label().iter().map(LabelPair::value).collect();
            (labels.join(" "), metric.get_histogram().get_sample_count())
        })
        .collect();
    assert_eq!(of, [("a ended".to_owned(), 2), ("b ended".to_owned(), 1)]);
}
