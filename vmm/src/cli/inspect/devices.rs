//! What is shown of an image's virtio devices: what they use of the host, in the form of the options that ask for them.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use snapshot_format::codec::Blob;
use snapshot_format::state::{
    RateLimitState, TokenBucketState, VirtioBlkState, VirtioNetState, VirtioVsockState,
};
use vmm::device::virtio::{VirtioSetState, net};

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type")]
pub(in crate::cli) enum DeviceView {
    #[serde(rename = "virtio-rng")]
    Rng,
    #[serde(rename = "virtio-balloon")]
    Balloon,
    #[serde(rename = "virtio-blk")]
    Disk(DiskView),
    #[serde(rename = "virtio-net")]
    Net(NetView),
    #[serde(rename = "virtio-vsock")]
    Vsock(VsockView),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct DiskView {
    id: String,
    /// Where it was, or the base of its overlay.
    path: String,
    bytes: u64,
    read_only: bool,
    overlay: bool,
    limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct NetView {
    id: String,
    tap: String,
    /// None if the guest made one up.
    mac: Option<String>,
    mtu: Option<u16>,
    limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct VsockView {
    cid: u32,
    path: String,
}

/// What is limited: the option's key, and its value.
type Limits = BTreeMap<&'static str, String>;

/// All of them, each kind in the order of its names.
pub(super) fn of(state: &VirtioSetState) -> Vec<DeviceView> {
    let VirtioSetState { rng, balloon, disks, nets, vsock } = state;
    let mut devices = Vec::new();
    devices.extend(rng.iter().map(|_| DeviceView::Rng));
    devices.extend(balloon.iter().map(|_| DeviceView::Balloon));
    devices.extend(disks.iter().map(|(id, disk)| DeviceView::Disk(DiskView::new(id, disk))));
    devices.extend(nets.iter().map(|(id, net)| DeviceView::Net(NetView::new(id, net))));
    devices.extend(vsock.iter().map(|vsock| DeviceView::Vsock(VsockView::new(vsock))));
    devices
}

impl DiskView {
    fn new(id: &str, disk: &VirtioBlkState) -> Self {
        let VirtioBlkState { transport: _, path, read_only, overlay, len, modified_ns: _, limit } = disk;
        Self {
            id: id.to_owned(),
            path: text(path),
            bytes: *len,
            read_only: *read_only,
            overlay: *overlay,
            limits: limits(["bw", "iops"], limit),
        }
    }
}

impl NetView {
    fn new(id: &str, state: &VirtioNetState) -> Self {
        let VirtioNetState { transport: _, tap, rx_limit, tx_limit } = state;
        let net::Address { mac, mtu } = net::Address::of(state);
        let rx = limits(["rx-bw", "rx-ops"], rx_limit);
        Self {
            id: id.to_owned(),
            tap: tap.clone(),
            mac: mac.map(|mac| mac.to_string()),
            mtu,
            limits: rx.into_iter().chain(limits(["tx-bw", "tx-ops"], tx_limit)).collect(),
        }
    }
}

impl VsockView {
    fn new(vsock: &VirtioVsockState) -> Self {
        let VirtioVsockState { transport: _, cid, path, resets: _ } = vsock;
        Self { cid: *cid, path: text(path) }
    }
}

fn text(Blob(path): &Blob) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn limits(keys: [&'static str; 2], limit: &RateLimitState) -> Limits {
    let RateLimitState { bandwidth, operations } = limit;
    let value = |bucket: &TokenBucketState| {
        let TokenBucketState { size, refill_ms, burst, tokens: _, part: _, burst_left: _ } = bucket;
        let once = if *burst == 0 { String::new() } else { format!("+{burst}") };
        (*size != 0).then(|| format!("{size}/{refill_ms}ms{once}"))
    };
    let values = [value(bandwidth), value(operations)];
    keys.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))).collect()
}

/// As the option that asks for it, and what the option does not say.
impl fmt::Display for DeviceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = |f: &mut fmt::Formatter<'_>, limits: &Limits| {
            limits.iter().try_for_each(|(key, value)| write!(f, ",{key}={value}"))
        };
        match self {
            Self::Rng => f.write_str("--rng"),
            Self::Balloon => f.write_str("--balloon"),
            Self::Disk(DiskView { id, path, bytes, read_only, overlay, limits }) => {
                write!(f, "--disk {id}={path}")?;
                f.write_str(if *read_only { ",readonly" } else { "" })?;
                f.write_str(if *overlay { ",overlay" } else { "" })?;
                options(f, limits)?;
                write!(f, " ({bytes} bytes)")
            }
            Self::Net(NetView { id, tap, mac, mtu, limits }) => {
                write!(f, "--net {id}=tap:{tap}")?;
                mac.iter().try_for_each(|mac| write!(f, ",mac={mac}"))?;
                options(f, limits)?;
                mtu.iter().try_for_each(|mtu| write!(f, " (MTU {mtu})"))
            }
            Self::Vsock(VsockView { cid, path }) => write!(f, "--vsock cid={cid},uds={path}"),
        }
    }
}
