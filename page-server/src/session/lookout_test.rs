use super::*;

#[test]
fn sessions_are_counted_by_epoch() {
    let busy = Busy(AtomicU64::new(0));
    busy.count(7);
    busy.count(7);
    assert_eq!([6, 7, 8, 9].map(|epoch| busy.sessions(epoch)), [0, 2, 2, 0]);
    busy.count(8);
    assert_eq!([busy.sessions(8), busy.sessions(9), busy.sessions(10)], [2, 1, 0]);
    // One that has read the clock before is counted as if it were now.
    busy.count(1 << 40);
    assert_eq!(busy.sessions(1 << 40), 1);
}

#[test]
fn nobody_looks_out_on_the_last_cpu() {
    let mut looks = 0;
    let seen = Lookout::default().look(Duration::from_millis(1), 1, || {
        looks += 1;
        Some(())
    });
    assert_eq!((seen, looks), (None, 0));
}

/// It has been away from its CPU while it looked.
#[test]
fn a_session_that_shares_its_cpu_stops_looking_out_for_a_while() {
    let mut lookout = Lookout::default();
    let mut looks = 0;
    // As if another thread had run in between.
    let mut look = |lookout: &mut Lookout| {
        lookout.look(Duration::from_secs(1), 64, || {
            looks += 1;
            std::thread::sleep(2 * AWAY);
            None::<()>
        })
    };
    let start = Instant::now();
    assert_eq!(look(&mut lookout), None);
    assert!(start.elapsed() < Duration::from_millis(500), "it has looked on for {:?}", start.elapsed());
    assert!(lookout.rest.is_some());
    lookout.rest = Some((Instant::now() + Duration::from_secs(60), REST.0));
    assert_eq!(look(&mut lookout), None);
    assert_eq!(looks, 2, "it has looked out while it was to rest");
    lookout.share(Instant::now());
    assert_eq!(lookout.rest.unwrap().1, 2 * REST.0);
}
