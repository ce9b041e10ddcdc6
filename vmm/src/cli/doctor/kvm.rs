//! What `/dev/kvm` is: absent, closed to us, or open, and then what it offers.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use kvm_ioctls::{Cap, Kvm};

use super::caps;

const PATH: &str = "/dev/kvm";

/// The device, as far as one gets with it.
#[derive(Clone, Debug)]
pub(super) enum KvmState {
    /// There is no node.
    Absent,
    /// There is a node that we may not open.
    Denied {
        /// Its permission bits.
        mode: u32,
        /// The name of its group.
        group: Option<String>,
    },
    /// There is a node that does not open, mostly because no driver stands behind it.
    Dead(String),
    /// It is open.
    Open(Offer),
}

/// What an open `/dev/kvm` offers.
#[derive(Clone, Debug, Default)]
pub(super) struct Offer {
    /// `KVM_GET_API_VERSION`.
    pub(super) api_version: i32,
    /// Names of the capabilities of [`caps::all`] that are absent.
    pub(super) absent: Vec<&'static str>,
    /// `KVM_CAP_TSC_CONTROL`.
    pub(super) tsc_control: bool,
    /// `KVM_CAP_MAX_VCPUS`.
    pub(super) max_vcpus: usize,
    /// Why a VM could not be created.
    pub(super) vm_refused: Option<String>,
}

impl KvmState {
    /// Opens the device, and creates a VM on it for an instant.
    pub(super) fn look() -> Self {
        match Kvm::new() {
            Ok(kvm) => Self::Open(Offer {
                api_version: kvm.get_api_version(),
                absent: caps::all().filter(|c| !kvm.check_extension(c.cap)).map(|c| c.name).collect(),
                tsc_control: kvm.check_extension(Cap::TscControl),
                max_vcpus: kvm.get_max_vcpus(),
                vm_refused: kvm.create_vm().err().map(|errno| errno.to_string()),
            }),
            Err(errno) => match io::Error::from(errno) {
                error if error.kind() == io::ErrorKind::NotFound => Self::Absent,
                error if error.kind() == io::ErrorKind::PermissionDenied => Self::denied(),
                error => Self::Dead(error.to_string()),
            },
        }
    }

    pub(super) fn denied() -> Self {
        let node = fs::metadata(PATH);
        let mode = node.as_ref().map_or(0, |node| node.mode() & 0o7777);
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        Self::Denied { mode, group: node.ok().and_then(|node| group_name(&groups, node.gid())) }
    }
}

/// What lets this user open a node of these permission bits and this group.
pub(super) fn how_to_be_let_in(mode: u32, group: Option<&str>) -> String {
    match group {
        Some(group) if mode & 0o060 == 0o060 && group != "root" => {
            format!("join its group: `sudo usermod -aG {group} $USER`, then log in again")
        }
        _ => "give it to the group kvm: `sudo chgrp kvm /dev/kvm && sudo chmod 0660 /dev/kvm`, then join that group: \
              `sudo usermod -aG kvm $USER`, then log in again"
            .to_owned(),
    }
}

/// The name of a group in `/etc/group`.
pub(super) fn group_name(groups: &str, gid: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}
