//! The pattern that spark fills memory with, so that anybody can say what a word must be from where it is.
//!
//! This file has no dependency, on spark or on anything else: a test on the host includes it as it is.

/// The 8-byte little-endian word at guest-physical `address` (a multiple of 8) of an area filled with `seed`.
///
/// The finaliser is a bijection, so no two words of one fill are alike; fills with two seeds differ nearly everywhere.
pub const fn word(seed: u64, address: u64) -> u64 {
    splitmix64(splitmix64(seed).wrapping_add(address))
}

/// One step of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub const fn splitmix64(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
