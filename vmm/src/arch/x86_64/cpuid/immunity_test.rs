use super::*;

const RDCL_NO: u64 = 1 << 0;
const IBRS_ALL: u64 = 1 << 1;
const MDS_NO: u64 = 1 << 5;
const TAA_NO: u64 = 1 << 8;
const RSBA: u64 = 1 << 2;
const RRSBA: u64 = 1 << 19;

/// Ice Lake: nothing to isolate page tables for. Broadwell: everything to.
const ICE_LAKE: u64 = RDCL_NO | IBRS_ALL | MDS_NO | 1 << 3 | 1 << 6;
const BROADWELL: u64 = 1 << 6;

fn shown(leaf: u32, _: u32) -> Registers {
    if leaf == 7 { [0, 0, 0, SHOWN] } else { [0; 4] }
}

fn intel(told: u64, host: u64) -> Vec<String> {
    differences(shown, "GenuineIntel", told, Some(host))
}

#[test]
fn a_guest_without_page_table_isolation_does_not_wake_where_it_is_needed() {
    let said = intel(ICE_LAKE, BROADWELL);
    let expected = ["rdcl_no", "ibrs_all", "mds_no"];
    assert_eq!(said, expected.map(|name| format!("lacks {name}, which the guest was told of")));
    assert_eq!(intel(BROADWELL, ICE_LAKE), [""; 0], "a guest that defends itself may wake anywhere");
    assert_eq!(intel(ICE_LAKE, ICE_LAKE | TAA_NO), [""; 0]);
    // KVM does not say: then nobody knows.
    assert_eq!(differences(shown, "GenuineIntel", RDCL_NO, None).len(), 1);
}

#[test]
fn each_immunity_counts_and_each_flaw_counts_the_other_way() {
    for bit in 0..64 {
        let only = 1_u64 << bit;
        let is_flaw = FLAWS.iter().any(|(flaw, _)| *flaw == bit);
        let is_nothing = FOR_HYPERVISORS & only != 0;
        let lost = intel(only, 0);
        assert_eq!(lost.is_empty(), is_flaw || is_nothing, "bit {bit}: {lost:?}");
        let gained = intel(0, only);
        assert_eq!(!gained.is_empty(), is_flaw, "bit {bit}: {gained:?}");
    }
    assert_eq!(
        intel(0, RSBA | RRSBA),
        ["rsba", "rrsba"].map(|n| format!("has {n}, which the guest was not told of"))
    );
    assert_eq!(intel(1 << 50, 0), ["lacks bit 50 of ARCH_CAPABILITIES, which the guest was told of"]);
}

#[test]
fn on_amd_and_without_the_msr_it_means_nothing() {
    for vendor in WITHOUT {
        assert_eq!(differences(shown, vendor, ICE_LAKE, None), [""; 0]);
        assert_eq!(differences(shown, vendor, ICE_LAKE, Some(RSBA)), [""; 0]);
    }
    assert_eq!(differences(|_, _| [0; 4], "GenuineIntel", ICE_LAKE, Some(0)), [""; 0]);
}

#[test]
fn no_bit_has_two_names() {
    let mut bits: Vec<_> = FLAWS.iter().chain(IMMUNITIES).map(|(bit, _)| *bit).collect();
    bits.sort_unstable();
    assert!(bits.windows(2).all(|pair| pair[0] != pair[1]));
}
