use super::*;

#[test]
fn steps_are_small_in_order_and_whole() {
    let wanted = [(0, 300 << 10), (1 << 20, 4096), (4096 << 10, 0), (512 << 10, 128 << 10)];
    let mut queue = Queue::new(wanted.map(|(offset, len)| Step { offset, len }));
    let mut steps = Vec::new();
    while let Some(Step { offset, len }) = queue.next() {
        steps.push((offset >> 10, len >> 10));
    }
    assert_eq!(steps, [(0, 128), (128, 128), (256, 44), (1024, 4), (512, 128)]);
    assert!(queue.is_empty());
}

#[test]
fn whole_huge_pages_are_one_step_each() {
    const MIB: u64 = 1 << 20;
    let mut queue = Queue::new([Step { offset: 2 * MIB - 4096, len: 4 * MIB + 8192 }]);
    queue.prefer_huge_pages();
    let steps: Vec<_> = std::iter::from_fn(|| queue.next()).map(|step| (step.offset, step.len)).collect();
    assert_eq!(steps, [(2 * MIB - 4096, 4096), (2 * MIB, 2 * MIB), (4 * MIB, 2 * MIB), (6 * MIB, 4096)]);
}
