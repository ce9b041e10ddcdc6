//! The socket device to and from its section.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use snapshot_format::codec::Blob;
use snapshot_format::state::{VirtioVsockState, VsockResetState};

use super::muxer::{MOST_CONNECTIONS, MOST_RESETS, Reset};
use super::packet::Ports;
use super::reset::TransportReset;
use super::{Error, Host, Vsock};
use crate::config::GuestCid;
use crate::device::virtio::transport::{self, Mmio};
use crate::lifecycle::{Persist, Quiesced};

/// The section's name.
pub const SECTION: &str = "virtio-vsock";

/// `Status`: the driver is ready, so the guest may have connections (virtio 1.2, 2.1).
const DRIVER_OK: u32 = 4;

/// A restored device's connections.
#[derive(Debug)]
pub struct Wiring {
    /// The transport's.
    pub transport: transport::Wiring,
    /// The device: from [`Vsock::reopen`].
    pub device: Vsock,
}

impl Persist for Mmio<Vsock> {
    type State = VirtioVsockState;
    type Wiring = Wiring;
    type Error = transport::Error;

    fn save(&self, at_rest: &Quiesced<'_>) -> VirtioVsockState {
        let transport = self.save_transport(at_rest);
        let vsock = self.device().expect("a machine at rest has quiesced its devices");
        let Vsock { muxer, config: _, reset: _ } = vsock;
        VirtioVsockState {
            transport,
            cid: muxer.cid(),
            path: Blob(muxer.host().path().as_os_str().as_bytes().to_vec()),
            resets: muxer.owed_resets().into_iter().map(save_reset).collect(),
        }
    }

    fn restore(state: VirtioVsockState, wiring: Wiring) -> Result<Self, transport::Error> {
        // The rest of the state is in the device already.
        let VirtioVsockState { transport, cid: _, path: _, resets: _ } = state;
        let Wiring { transport: wiring, device } = wiring;
        Self::restore_transport(&transport, device, wiring)
    }
}

impl Vsock {
    /// The device of an image, listening where it did, or at `instead`.
    ///
    /// # Errors
    /// As [`Host::listen`] and [`Vsock::new`]; or the state is none of such a device.
    pub fn reopen(saved: &VirtioVsockState, instead: Option<&Path>) -> Result<Self, Error> {
        let VirtioVsockState { transport, cid, path: Blob(path), resets } = saved;
        let recorded = Path::new(OsStr::from_bytes(path));
        let cid = GuestCid::new(*cid).ok_or(Error::Record { problem: "no guest can have its CID" })?;
        if !recorded.is_absolute() || path.contains(&0) {
            return Err(Error::Record { problem: "its socket has no absolute path" });
        }
        if resets.len() > MOST_CONNECTIONS + MOST_RESETS {
            return Err(Error::Record { problem: "it had more connections than possible" });
        }
        let host = Host::listen(instead.unwrap_or(recorded))?;
        let owed =
            if transport.status & DRIVER_OK != 0 { TransportReset::OWED } else { TransportReset::Done };
        Self::with(cid, host, None, resets.iter().map(restore_reset).collect(), owed)
    }
}

fn save_reset(reset: Reset) -> VsockResetState {
    let Reset { cid, kind, ports: Ports { host, guest } } = reset;
    VsockResetState { cid, kind, host_port: host, guest_port: guest }
}

fn restore_reset(saved: &VsockResetState) -> Reset {
    let VsockResetState { cid, kind, host_port, guest_port } = *saved;
    Reset { cid, kind, ports: Ports { host: host_port, guest: guest_port } }
}
