//! What a vCPU's exits mean: port and MMIO accesses go to the buses, the rest ends the run.

use std::io;

use kvm_ioctls::VcpuExit;

use super::fd::KvmVcpu;
use crate::bus::Bus;
use crate::lifecycle::{Effect, StopReason};
use crate::sys;
use crate::sys::kvm::InternalError;

#[cfg(test)]
#[path = "exits_test.rs"]
mod exits_test;

/// What came of one `KVM_RUN`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The exit is served; the guest may go on.
    Continue,
    /// The exit is served, and the guest is to stop after it.
    Stop(StopReason),
    /// `KVM_RUN` returned because of a kick, or at once because it was told to; nothing is pending.
    Interrupted,
    /// KVM cannot go on.
    Failed(String),
    /// The kernel could not read or write guest memory.
    BadMemory(i32),
}

impl From<Effect> for Outcome {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Continue => Self::Continue,
            Effect::Stop(reason) => Self::Stop(reason),
        }
    }
}

impl KvmVcpu {
    /// Enters the guest once and serves the exit.
    pub(super) fn step(&mut self, pio: &Bus, mmio: &Bus) -> Outcome {
        match self.fd.run() {
            Ok(VcpuExit::IoIn(..) | VcpuExit::IoOut(..)) => self.port_io(pio),
            Ok(VcpuExit::MmioRead(addr, data)) => {
                mmio.read(addr, data);
                Outcome::Continue
            }
            Ok(VcpuExit::MmioWrite(addr, data)) => mmio.write(addr, data).into(),
            Ok(VcpuExit::Shutdown) => Outcome::Stop(StopReason::TripleFault),
            Ok(VcpuExit::Intr) => Outcome::Interrupted,
            // Comes with EFAULT on kernels that say where it happened.
            Ok(VcpuExit::MemoryFault { .. }) => Outcome::BadMemory(libc::EFAULT),
            Ok(VcpuExit::FailEntry(reason, cpu)) => Outcome::Failed(format!(
                "hardware refuses to enter the guest (reason {reason:#x} on CPU {cpu}){}",
                self.place()
            )),
            Ok(VcpuExit::InternalError) => {
                let error = sys::kvm::internal_error(&mut self.fd);
                Outcome::Failed(format!("{}{}", describe(&error), self.place()))
            }
            Ok(exit) => Outcome::Failed(format!("unexpected exit {exit:?}")),
            Err(e) => match e.errno() {
                libc::EINTR => Outcome::Interrupted,
                // A vCPU that waited for INIT or SIPI has got it (`kvm_arch_vcpu_ioctl_run`).
                libc::EAGAIN => Outcome::Continue,
                errno @ (libc::EFAULT | libc::EHWPOISON) => Outcome::BadMemory(errno),
                errno => Outcome::Failed(io::Error::from_raw_os_error(errno).to_string()),
            },
        }
    }

    /// Where the guest stands, for people.
    fn place(&self) -> String {
        self.fd.get_regs().map_or_else(|_| String::new(), |regs| format!(" at RIP {:#x}", regs.rip))
    }

    /// Serves every element of a string instruction on its own: a device sees what the CPU does.
    fn port_io(&mut self, pio: &Bus) -> Outcome {
        let Some(access) = sys::kvm::port_io(&mut self.fd, self.run_bytes) else {
            return Outcome::Failed("KVM described a port access outside its own page".into());
        };
        let port = u64::from(access.port);
        let mut outcome = Outcome::Continue;
        for element in access.data.chunks_exact_mut(access.size) {
            if access.is_in {
                pio.read(port, element);
            } else if let Effect::Stop(reason) = pio.write(port, element) {
                outcome = Outcome::Stop(reason);
            }
        }
        outcome
    }
}

/// `KVM_INTERNAL_ERROR_*` (linux/kvm.h).
const EMULATION: u32 = 1;
const SIMULTANEOUS_EXCEPTIONS: u32 = 2;
const DELIVERY: u32 = 3;
const UNEXPECTED_EXIT: u32 = 4;

/// An internal error for people, who may want to report it.
///
/// Of an instruction that cannot be emulated KVM gives the bytes since Linux 5.14: the flags are the first word of its data,
/// and their bit 0 says that a byte with the number and 15 bytes follow (`prepare_emulation_failure_exit`).
fn describe(error: &InternalError) -> String {
    let InternalError { suberror, count, data } = error;
    let words = &data[..data.len().min(*count as usize)];
    let what = match (*suberror, words) {
        (EMULATION, [flags, first, second, ..]) if flags & 1 != 0 => {
            let bytes = [first.to_le_bytes(), second.to_le_bytes()].concat();
            let given = &bytes[1..];
            let instruction = &given[..given.len().min(bytes[0].into())];
            let hex: Vec<_> = instruction.iter().map(|byte| format!("{byte:02x}")).collect();
            return format!("KVM cannot emulate the instruction that begins with {}", hex.join(" "));
        }
        (EMULATION, _) => return "KVM cannot emulate an instruction".to_owned(),
        (SIMULTANEOUS_EXCEPTIONS, _) => "exceptions at the same time",
        (DELIVERY, _) => "an exit while an event was delivered",
        (UNEXPECTED_EXIT, _) => "an exit of the hardware that it does not know",
        _ => "unknown",
    };
    let words: Vec<_> = words.iter().map(|word| format!("{word:#x}")).collect();
    let data = if words.is_empty() { String::new() } else { format!(", data {}", words.join(" ")) };
    format!("KVM internal error, suberror {suberror} ({what}{data})")
}
