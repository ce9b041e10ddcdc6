use super::*;

#[test]
fn zero_pages_are_holes_but_for_a_few_in_a_chunk() {
    assert_eq!(runs_to_write(&[]), []);
    assert_eq!(runs_to_write(&[false, true, true, false, true]), [1..3, 4..5]);
    let mut chunk = [true; CHUNK_PAGES as usize];
    chunk[..CHUNK_PAGES as usize / 8].fill(false);
    let whole = runs_to_write(&chunk);
    assert_eq!((whole.len(), &whole[0]), (1, &(0..512)));
    chunk[300] = false;
    assert_eq!(runs_to_write(&chunk), [64..300, 301..512]);
}
