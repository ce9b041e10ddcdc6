use super::*;

const KIB: u64 = 1 << 10;

#[test]
fn a_jump_gets_the_block_around_it() {
    let mut walks = Walks::new(Grain::default());
    assert_eq!(walks.window(0x12_3000), 0x12_0000..0x13_0000);
    assert_eq!(walks.window(0x99_f000), 0x99_0000..0x9a_0000);
}

#[test]
fn a_walk_gets_more_and_more_up_to_a_limit() {
    let mut walks = Walks::new(Grain::default());
    let mut at = 0x10_0000;
    let mut sizes = Vec::new();
    for _ in 0..6 {
        let window = walks.window(at);
        assert!(window.contains(&at));
        sizes.push((window.end - window.start) / KIB);
        at = window.end;
    }
    assert_eq!(sizes, [64, 128, 256, 512, 1024, 1024]);
}

#[test]
fn eight_walks_at_once_are_told_apart() {
    let mut walks = Walks::new(Grain::default());
    let mut at: Vec<u64> = (1..=8).map(|walk| walk << 30).collect();
    for round in 0..5 {
        for address in &mut at {
            let window = walks.window(*address);
            assert_eq!(window.end - window.start, (64 * KIB) << round.min(4));
            *address = window.end;
        }
    }
}

#[test]
fn a_walk_that_skips_a_few_pages_goes_on() {
    let mut walks = Walks::new(Grain::default());
    let first = walks.window(0x10_0000);
    let second = walks.window(first.end + 8 * KIB);
    assert_eq!(second, first.end + 8 * KIB..first.end + 192 * KIB);
}

#[test]
fn page_by_page_is_page_by_page() {
    let mut walks = Walks::new(Grain::single());
    for address in (0x1000..0x9000).step_by(0x1000) {
        assert_eq!(walks.window(address), address..address + 0x1000);
    }
}

#[test]
fn a_walk_that_was_given_something_else_goes_on_behind_it() {
    let mut walks = Walks::new(Grain::default());
    walks.window(0x10_0000);
    walks.given_to(0x20_0000);
    assert_eq!(walks.window(0x20_0000), 0x20_0000..0x22_0000);
}

#[test]
fn a_large_block_is_no_long_walk() {
    let block = 0x10_0000..0x20_0000;
    assert!(Walks::new(Grain::default()).is_long(&block));
    assert!(!Walks::new(Grain { least: 1 << 20, most: 1 << 20 }).is_long(&block));
}
