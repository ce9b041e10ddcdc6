//! Stacks of layers, against the plain idea of them.

use super::super::mock::Mock;
use super::*;

/// A layer of eight pages in which `data` says what each page is full of, or that it is a hole.
fn layer(data: [Option<u8>; 8]) -> Upper {
    let bytes = data.iter().flat_map(|byte| [byte.unwrap_or(0); 4096]).collect();
    let mut extents: Vec<Range<u64>> = Vec::new();
    for (page, byte) in (0..).zip(data) {
        match extents.last_mut() {
            _ if byte.is_none() => {}
            Some(last) if last.end == page * 4096 => last.end += 4096,
            _ => extents.push(page * 4096..(page + 1) * 4096),
        }
    }
    (Arc::new(Mock { bytes, knows_zeros: true, ..Mock::default() }), extents)
}

fn stack(layers: &[[Option<u8>; 8]]) -> Layered {
    let mut layers = layers.iter().map(|data| layer(*data));
    let (base, _) = layers.next().unwrap();
    Layered::new(base, layers.collect(), "stack").unwrap()
}

fn content(source: &Layered) -> [u8; 8] {
    let mut bytes = vec![0xff; 8 * 4096];
    source.read(0, &mut bytes).unwrap();
    std::array::from_fn(|page| {
        assert!(bytes[page * 4096..][..4096].iter().all(|byte| *byte == bytes[page * 4096]));
        bytes[page * 4096]
    })
}

const HOLE: Option<u8> = None;

#[test]
fn data_hides_what_lies_below_and_holes_show_it() {
    let base = [Some(1), HOLE, Some(1), Some(1), Some(1), Some(1), Some(1), Some(1)];
    let first = [HOLE, Some(2), HOLE, Some(2), HOLE, HOLE, Some(2), HOLE];
    let second = [HOLE, HOLE, HOLE, Some(3), HOLE, Some(0), HOLE, HOLE];
    let source = stack(&[base, first, second]);
    assert_eq!(content(&source), [1, 2, 1, 3, 1, 0, 2, 1]);
    let zeros: Vec<u64> = (0..8).map(|page| source.zeros(page * 4096) / 4096).collect();
    assert_eq!(zeros, [0, 0, 0, 0, 0, 1, 0, 0], "zeros that were written hide what lies below");
}

#[test]
fn zeros_go_on_from_layer_to_layer() {
    let base = [HOLE, HOLE, Some(1), HOLE, HOLE, Some(1), HOLE, HOLE];
    let upper = [HOLE, Some(0), Some(0), HOLE, HOLE, HOLE, HOLE, Some(9)];
    let source = stack(&[base, upper]);
    let zeros: Vec<u64> = (0..8).map(|page| source.zeros(page * 4096) / 4096).collect();
    assert_eq!(zeros, [5, 4, 3, 2, 1, 0, 1, 0]);
    assert_eq!(source.zeros(8 * 4096), 0);
}

#[test]
fn every_stack_of_two_is_what_the_plain_idea_says() {
    let base: [Option<u8>; 8] = std::array::from_fn(|page| Some(page as u8 + 100));
    for pattern in 0..=255_u8 {
        let data = |bits: u8, byte: u8| std::array::from_fn(|page| (bits >> page & 1 == 1).then_some(byte));
        let upper = pattern.wrapping_mul(37).wrapping_add(11);
        let source = stack(&[base, data(pattern, 1), data(upper, 2)]);
        let expected: [u8; 8] = std::array::from_fn(|page| match (upper >> page & 1, pattern >> page & 1) {
            (1, _) => 2,
            (_, 1) => 1,
            _ => page as u8 + 100,
        });
        assert_eq!(content(&source), expected, "{pattern:#b} under {upper:#b}");
    }
}

#[test]
fn layers_of_different_lengths_are_refused() {
    let shorter: Upper = (Arc::new(Mock::numbered(7)), Vec::new());
    let refused = Layered::new(Arc::new(Mock::numbered(8)), vec![shorter], "stack").unwrap_err();
    assert!(refused.to_string().contains("layer 1 has 28672 bytes, the base 32768"), "{refused}");
}
