//! Whether this host can run a guest as it was saved: its kind of KVM, its processor, and what KVM offers of it.
//!
//! Asked before anything is created. Where the image says that its needs were met on this very host (`host-check`), that
//! is believed, because asking KVM takes long on a host that is a virtual machine itself.

use snapshot_format::state::{HostNeedsState, VcpuState};

use super::Error;
use super::plan::Contents;
use crate::arch::x86_64::cpuid::{self, InUse, Registers, immunity};
use crate::arch::x86_64::msr;
use crate::machine::host_check::{self, HostId};
use crate::machine::{Capability, Frame, Host, KvmKind};

#[cfg(test)]
#[path = "host_test.rs"]
mod host_test;

/// What a host offers a guest, as its KVM says.
#[derive(Clone, Debug, Default)]
pub(super) struct Offer {
    /// `KVM_GET_SUPPORTED_CPUID`.
    cpuid: Vec<kvm_bindings::kvm_cpuid_entry2>,
    /// `KVM_GET_MSR_INDEX_LIST`.
    msrs: Vec<u32>,
    /// `IA32_ARCH_CAPABILITIES` of a guest, if KVM tells.
    arch_capabilities: Option<u64>,
    /// Whether a guest has all features of the processor, whatever KVM says: PVM runs its user mode there, which no control
    /// holds back, and adds to the CPUID of a vCPU what the processor has.
    unhidden: bool,
}

impl Offer {
    fn of(host: &Host, kind: KvmKind) -> Result<Self, Error> {
        Ok(Self {
            cpuid: host.supported_cpuid().map_err(Error::Kvm)?,
            msrs: host.listed_msrs().map_err(Error::Kvm)?,
            arch_capabilities: host.feature_msr(immunity::ARCH_CAPABILITIES),
            unhidden: kind == KvmKind::Pvm,
        })
    }
}

/// `XCR0`'s number, and `IA32_XSS`'s.
const XCR0: u32 = 0;
const XSS: u32 = 0xDA0;

impl Contents {
    /// Compares what the image needs with this host, and opens its KVM.
    pub(super) fn check_host(&self) -> Result<Host, Error> {
        let (kind, processor) = (KvmKind::detect(), cpuid::remembered(cpuid::host));
        self.check_kind(kind, &cpuid::vendor(&processor))?;
        let host = Host::open().map_err(Error::Kvm)?;
        self.check_capabilities(&host)?;
        if !self.was_met_here(kind, &processor) {
            let lacks = lacking(&self.manifest.host, &self.vcpus, &Offer::of(&host, kind)?, &processor);
            if !lacks.is_empty() {
                return Err(self.lacks(lacks.join("; ")));
            }
        }
        Ok(host)
    }

    fn lacks(&self, lack: String) -> Error {
        Error::Host { path: self.path.clone(), lack }
    }

    fn check_kind(&self, kind: KvmKind, vendor: &str) -> Result<(), Error> {
        let HostNeedsState { cpu_vendor, kvm_kind, .. } = &self.manifest.host;
        if kvm_kind != kind.name() {
            return Err(
                self.lacks(format!("it was taken on KVM of kind `{kvm_kind}`, this host has `{kind}`"))
            );
        }
        if cpu_vendor != vendor {
            return Err(
                self.lacks(format!("it was taken on a CPU of `{cpu_vendor}`, this host's is of `{vendor}`"))
            );
        }
        Ok(())
    }

    fn check_capabilities(&self, host: &Host) -> Result<(), Error> {
        let lacking = |cap: &&u32| host.kvm().check_extension_raw((**cap).into()) <= 0;
        match self.manifest.host.kvm_caps.iter().find(lacking) {
            None => Ok(()),
            Some(cap) => Err(self.lacks(format!("its KVM lacks capability {}", Capability(*cap)))),
        }
    }

    fn was_met_here(&self, kind: KvmKind, processor: impl Fn(u32, u32) -> Registers) -> bool {
        let Some(met) = &self.host_check else { return false };
        let here = HostId::here(kind, processor);
        here.is_some_and(|here| host_check::digest_of(&here, &self.manifest.host, &self.vcpus) == *met)
    }

    /// An XSAVE area longer than this KVM's would lose its end.
    pub(super) fn check_xsave(&self, frame: &Frame) -> Result<(), Error> {
        let (needed, there) = (self.manifest.host.xsave_bytes, frame.traits.xsave_bytes);
        if needed as usize <= there {
            return Ok(());
        }
        Err(self.lacks(format!("its KVM keeps {there} bytes of extended CPU state, {needed} are needed")))
    }
}

/// What a host lacks whose processor is `processor`, for vCPUs that were shown this and use this of it: one line each.
fn lacking(
    needs: &HostNeedsState,
    vcpus: &[VcpuState],
    offer: &Offer,
    processor: impl Fn(u32, u32) -> Registers,
) -> Vec<String> {
    let mut lacks = lacking_features(needs, vcpus, offer, processor);
    for lack in vcpus.iter().flat_map(|vcpu| lacking_of(vcpu, &needs.cpu_vendor, offer)) {
        // vCPUs are alike, and so is what they lack.
        if !lacks.contains(&lack) {
            lacks.push(lack);
        }
    }
    lacks
}

/// Features that the manifest lists or a vCPU was shown.
fn lacking_features(
    needs: &HostNeedsState,
    vcpus: &[VcpuState],
    offer: &Offer,
    processor: impl Fn(u32, u32) -> Registers,
) -> Vec<String> {
    let shown = vcpus
        .iter()
        .flat_map(|vcpu| cpuid::shown_words(|leaf, subleaf| cpuid::lookup_saved(&vcpu.cpuid, leaf, subleaf)));
    let words: Vec<_> = needs.cpuid.iter().copied().chain(shown).collect();
    let offered = |leaf, subleaf| cpuid::lookup(&offer.cpuid, leaf, subleaf);
    let missing = cpuid::missing(&words, offered, processor, offer.unhidden);
    let said = |withheld: bool, who: &str| {
        let mut names = Vec::new();
        for name in missing.iter().filter(|m| m.withheld == withheld).flat_map(|m| &m.names) {
            if !names.contains(&name.as_str()) {
                names.push(name.as_str());
            }
        }
        (!names.is_empty()).then(|| format!("{who} {}", names.join(", ")))
    };
    [said(false, "its CPU lacks"), said(true, "its KVM does not offer")].into_iter().flatten().collect()
}

/// What else one vCPU relies on.
fn lacking_of(vcpu: &VcpuState, vendor: &str, offer: &Offer) -> Vec<String> {
    let shown = |leaf, subleaf| cpuid::lookup_saved(&vcpu.cpuid, leaf, subleaf);
    let offered = |leaf, subleaf| cpuid::lookup(&offer.cpuid, leaf, subleaf);
    let msr = |index: u32| vcpu.msrs.iter().find(|msr| msr.index == index).map(|msr| msr.data);
    let numbers = cpuid::broken(shown, offered).into_iter().map(|broken| broken.to_string());
    let in_use = InUse {
        efer: vcpu.sregs.efer,
        xcr0: vcpu.xcrs.iter().find(|xcr| xcr.xcr == XCR0).map_or(0, |xcr| xcr.value),
        xss: msr(XSS).unwrap_or(0),
    };
    let in_use = cpuid::not_offered(in_use, offered).into_iter().map(|bit| format!("it does not have {bit}"));
    // Images of builds that did not save the MSR do not say what the guest was told.
    let told = msr(immunity::ARCH_CAPABILITIES);
    let immunities = told
        .map_or_else(Vec::new, |told| immunity::differences(shown, vendor, told, offer.arch_capabilities));
    let immunities = immunities.into_iter().map(|differs| format!("its CPU {differs}"));
    let values = vcpu.msrs.iter().map(|msr| (msr.index, msr.data));
    let msrs = msr::not_listed(values, &offer.msrs).into_iter();
    let msrs =
        msrs.map(|(index, data)| format!("its KVM does not have MSR {index:#x}, which holds {data:#x}"));
    numbers.chain(in_use).chain(immunities).chain(msrs).collect()
}
