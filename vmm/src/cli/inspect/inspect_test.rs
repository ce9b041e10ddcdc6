//! The view of an image, and its two renderings.

use std::path::Path;

use snapshot_format::codec::Blob;
use snapshot_format::state::{
    CpuidWordState, HostNeedsState, ManifestState, RateLimitState, TokenBucketState, VirtioBlkState,
    VirtioMmioState, VirtioNetState, VirtioRngState, VirtioVsockState,
};
use vmm::device::virtio::VirtioSetState;

use super::render::human;
use super::{MemoryView, OutsideView, SectionView, View, WorkingSetView, devices};

fn manifest() -> ManifestState {
    ManifestState {
        image_id: [0xab; 16],
        parent_id: [0; 16],
        generation: 1,
        created_ns: 1_795_424_677_000_000_001,
        written_by: "rekindle 0.1.0".into(),
        guest: "spark".into(),
        cmdline: "console=ttyS0".into(),
        vcpus: 2,
        memory_bytes: 256 << 20,
        host: HostNeedsState {
            cpu_vendor: "AuthenticAMD".into(),
            kvm_kind: "svm".into(),
            cpuid: vec![
                CpuidWordState { function: 7, index: 0, register: 1, bits: 0x20 },
                CpuidWordState { function: 1, index: 0, register: 2, bits: 1 << 26 },
            ],
            kvm_caps: vec![208, 9999],
            tsc_khz: 2_450_000,
            xsave_bytes: 4096,
        },
    }
}

fn view(manifest: ManifestState) -> View {
    let sections = vec![SectionView { name: "vcpu:0".into(), version: 1, bytes: 9000 }];
    let devices = (Some(devices::of(&virtio())), Some(OutsideView::of(&virtio())));
    View::new(Path::new("warm"), manifest, MemoryView::Plain, None, devices, sections)
}

fn virtio() -> VirtioSetState {
    let bandwidth = TokenBucketState { size: 1000, refill_ms: 500, ..Default::default() };
    let operations = TokenBucketState { size: 7, refill_ms: 1000, burst: 70, ..Default::default() };
    let disk = VirtioBlkState {
        path: Blob(b"/disks/base".to_vec()),
        overlay: true,
        len: 8192,
        limit: RateLimitState { bandwidth, operations },
        ..Default::default()
    };
    let net = VirtioNetState {
        transport: VirtioMmioState {
            device_features: 1 << 5,
            config: vec![2, 0, 0, 0, 0, 0xab, 1, 0, 0, 0, 0xdc, 5],
            ..Default::default()
        },
        tap: "tap0".into(),
        tx_limit: RateLimitState { bandwidth, ..Default::default() },
        ..Default::default()
    };
    VirtioSetState {
        rng: Some(VirtioRngState::default()),
        disks: [("root".to_owned(), disk)].into(),
        nets: [("eth0".to_owned(), net), ("made-up".to_owned(), VirtioNetState::default())].into(),
        vsock: Some(VirtioVsockState { cid: 3, path: Blob(b"/run/v".to_vec()), ..Default::default() }),
        ..Default::default()
    }
}

#[test]
fn a_person_sees_a_table() {
    let expected = "\
image         warm
id            abababababababababababababababab
parent        none: booted, not restored
generation    1
created       2026-11-23T09:04:37Z
written by    rekindle 0.1.0
guest         spark
command line  console=ttyS0
vCPUs         2
memory        256M
needs CPU     AuthenticAMD
needs KVM     svm
needs TSC     2450000 kHz
needs XSAVE   4096 bytes
needs caps    KVM_CAP_XSAVE2 9999
needs CPUID   0x7.0:ebx 0x00000020
needs CPUID   0x1.0:ecx 0x04000000
device        --rng
device        --disk root=/disks/base,overlay,bw=1000/500ms,iops=7/1000ms+70 (8192 bytes)
device        --net eth0=tap:tap0,mac=02:00:00:00:00:ab,tx-bw=1000/500ms (MTU 1500)
device        --net made-up=tap:
device        --vsock cid=3,uds=/run/v
not its own   disk `root` is `/disks/base`, to read
not its own   network interface `eth0` is TAP `tap0`
not its own   network interface `made-up` is TAP ``
not its own   the vsock device has socket `/run/v`
section       vcpu:0           version 1       9000 bytes
";
    assert_eq!(human(&view(manifest())), expected);
    // KVM keeps an area of 4096 bytes where there is no XSAVE, too.
    let mut without = manifest();
    without.host.cpuid.truncate(1);
    assert!(!human(&view(without)).contains("needs XSAVE"));
}

#[test]
fn a_script_sees_the_same_as_json() {
    let mut restored = manifest();
    restored.parent_id = [1; 16];
    let json = serde_json::to_value(view(restored)).unwrap();
    assert_eq!(json["parent_id"], "01010101010101010101010101010101");
    assert_eq!(json["memory_bytes"], 256 << 20);
    assert_eq!(json["host"]["kvm_caps"][0], "KVM_CAP_XSAVE2");
    assert_eq!(json["sections"][0]["name"], "vcpu:0");
    let expected = serde_json::json!({
        "type": "virtio-blk", "id": "root", "path": "/disks/base", "bytes": 8192, "read_only": false, "overlay": true,
        "limits": { "bw": "1000/500ms", "iops": "7/1000ms+70" },
    });
    assert_eq!(json["devices"][1], expected);
    let expected = serde_json::json!({
        "what": "disk `root` is `/disks/base`, to read", "option": "--disk root=/disks/base",
    });
    assert_eq!(json["outside"][0], expected);
    assert_eq!(json["devices"][0], serde_json::json!({ "type": "virtio-rng" }));
    assert_eq!(serde_json::to_value(view(manifest())).unwrap()["parent_id"], serde_json::Value::Null);
}

#[test]
fn a_hostile_image_steers_no_terminal_and_forges_no_line() {
    let mut hostile = manifest();
    hostile.guest = "x\nid            forged\u{1b}[2J\r\u{9b}".into();
    hostile.created_ns = u64::MAX;
    hostile.memory_bytes = u64::MAX;
    hostile.host.cpuid[0].register = 200;
    let text = human(&view(hostile));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert_eq!(text.lines().filter(|line| line.starts_with("id ")).count(), 1);
    assert!(text.contains("18446744073709551615 bytes"));
}

#[test]
fn how_memory_is_kept_and_what_is_touched_first_are_shown() {
    let line =
        |view: &View, name: &str| human(view).lines().find(|line| line.starts_with(name)).map(str::to_owned);
    let mut view = view(manifest());
    assert_eq!(line(&view, "working"), None);
    assert_eq!(serde_json::to_value(&view).unwrap()["memory"]["kept"], "plain");
    view.memory = MemoryView::Packed { bytes: 5 << 19 };
    view.working_set = Some(WorkingSetView::Good { pages: 300, written_pages: 20 });
    assert_eq!(line(&view, "memory").unwrap(), "memory        256M, packed, 2.5 MiB");
    assert_eq!(line(&view, "working").unwrap(), "working set   300 pages, 20 written");
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["memory"], serde_json::json!({ "kept": "packed", "bytes": 5 << 19 }));
    assert_eq!(json["working_set"], serde_json::json!({ "pages": 300, "written_pages": 20 }));
    view.memory = MemoryView::Elsewhere;
    view.working_set = Some(WorkingSetView::Unusable { error: "so".into() });
    assert_eq!(line(&view, "memory").unwrap(), "memory        256M, not in the image");
    assert_eq!(line(&view, "working").unwrap(), "working set   unusable: so");
}
