//! The KVM calls that `kvm_ioctls` leaves unsafe or leaves out.

use std::io;
use std::mem::{offset_of, size_of};

use kvm_bindings::{
    KVM_EXIT_IO_IN, KVMIO, Xsave, kvm_device_attr, kvm_ioapic_state, kvm_ioapic_state__bindgen_ty_1,
    kvm_irqchip, kvm_pic_state, kvm_run, kvm_userspace_memory_region, kvm_xsave, kvm_xsave2,
};
use kvm_ioctls::{VcpuFd, VmFd};
use vmm_sys_util::fam::FamStruct;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

use super::ram::RamRegion;
use vm_memory::GuestMemoryRegion;

ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);
ioctl_iow_nr!(KVM_GET_DEVICE_ATTR, KVMIO, 0xe2, kvm_device_attr);

/// `KVM_VCPU_TSC_CTRL` and `KVM_VCPU_TSC_OFFSET` (Documentation/virt/kvm/devices/vcpu.rst, section 4).
const TSC_CTRL: u32 = 0;
const TSC_OFFSET: u64 = 0;

const _: () = assert!(size_of::<kvm_xsave>() == 4096, "the fixed part of KVM's XSAVE area is one page");
const _: () = assert!(size_of::<kvm_device_attr>() == 24);
const _: () =
    assert!(offset_of!(kvm_run, immediate_exit) == 1, "KVM_CAP_IMMEDIATE_EXIT fixes this byte's place");

/// Shows `region` to the guest as memory slot `slot`.
///
/// The caller keeps `region` mapped for as long as the VM can run; [`crate::memory::Memory`] does, by being owned
/// beside the VM's descriptor.
pub(crate) fn set_memory_slot(vm: &VmFd, slot: u32, region: &RamRegion) -> io::Result<()> {
    let description = kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr: region.start_addr().0,
        memory_size: region.len(),
        userspace_addr: region.host_address() as u64,
    };
    // SAFETY: the range is one whole live mapping, and it stays mapped by the contract above.
    unsafe { vm.set_user_memory_region(description) }.map_err(io::Error::from)
}

/// The vCPU's XSAVE area, `bytes` long: what `KVM_CAP_XSAVE2` reports for this VM, at least 4096.
pub(crate) fn xsave(vcpu: &VcpuFd, bytes: usize) -> io::Result<Vec<u8>> {
    if bytes <= size_of::<kvm_xsave>() {
        let area = vcpu.get_xsave()?;
        return Ok(area.region.iter().flat_map(|word| word.to_le_bytes()).collect());
    }
    let mut area = xsave_area(bytes)?;
    // SAFETY: the area is at least as long as KVM_CAP_XSAVE2 said, and no XSTATE feature is enabled dynamically.
    unsafe { vcpu.get_xsave2(&mut area) }?;
    let head = area.as_fam_struct_ref().xsave.region.iter();
    let words = head.chain(area.as_slice()).flat_map(|word| word.to_le_bytes());
    Ok(words.take(bytes).collect())
}

/// Sets the vCPU's XSAVE area. A kernel that wants `bytes` bytes gets as many, the missing ones zero.
pub(crate) fn set_xsave(vcpu: &VcpuFd, saved: &[u8], bytes: usize) -> io::Result<()> {
    let mut area = xsave_area(bytes.max(saved.len()).max(size_of::<kvm_xsave>()))?;
    let mut words = saved.chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_le_bytes(word)
    });
    let fixed = size_of::<kvm_xsave>() / 4;
    let head: Vec<u32> = words.by_ref().take(fixed).collect();
    let tail: Vec<u32> = words.collect();
    area.as_mut_slice()[..tail.len()].copy_from_slice(&tail);
    // SAFETY: the header is plain data; only its fixed-size array is written, not the length of the tail.
    let header = unsafe { area.as_mut_fam_struct() };
    header.xsave.region[..head.len()].copy_from_slice(&head);
    // SAFETY: the area is at least as long as KVM_CAP_XSAVE2 said for this VM (`bytes`).
    unsafe { vcpu.set_xsave2(&area) }.map_err(io::Error::from)
}

fn xsave_area(bytes: usize) -> io::Result<Xsave> {
    let tail = bytes.saturating_sub(size_of::<kvm_xsave>());
    let entries = tail.div_ceil(size_of::<<kvm_xsave2 as FamStruct>::Entry>());
    Xsave::new(entries).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

/// Guest TSC minus host TSC, where the kernel tells (Linux 5.16).
pub(crate) fn tsc_offset(vcpu: &VcpuFd) -> io::Result<u64> {
    let mut offset = 0u64;
    let attr = tsc_offset_attr(&raw mut offset as u64);
    // SAFETY: a vCPU descriptor, and an attribute whose address is a live u64, which the kernel fills in.
    let ret = unsafe { ioctl_with_ref(vcpu, KVM_GET_DEVICE_ATTR(), &attr) };
    if ret == 0 { Ok(offset) } else { Err(io::Error::last_os_error()) }
}

/// Sets guest TSC minus host TSC.
pub(crate) fn set_tsc_offset(vcpu: &VcpuFd, offset: u64) -> io::Result<()> {
    let attr = tsc_offset_attr(&raw const offset as u64);
    // SAFETY: a vCPU descriptor, and an attribute whose address is a live u64, which the kernel reads.
    let ret = unsafe { ioctl_with_ref(vcpu, KVM_SET_DEVICE_ATTR(), &attr) };
    if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn tsc_offset_attr(addr: u64) -> kvm_device_attr {
    kvm_device_attr { flags: 0, group: TSC_CTRL, attr: TSC_OFFSET, addr }
}

/// A port access that the guest waits on: `count` elements of `size` bytes.
pub(crate) struct PortIo<'a> {
    /// First and only port: string instructions repeat on the same one.
    pub port: u16,
    /// 1, 2 or 4.
    pub size: usize,
    /// Whether the guest reads.
    pub is_in: bool,
    /// All elements, one after the other.
    pub data: &'a mut [u8],
}

/// The port access of the last `KVM_RUN`. Call only after it returned with `KVM_EXIT_IO`.
///
/// `kvm_ioctls` gives the bytes without the element size, so that `outl` and `rep outsb` of four look alike.
pub(crate) fn port_io(vcpu: &mut VcpuFd, run_bytes: usize) -> Option<PortIo<'_>> {
    let run: &mut kvm_run = vcpu.get_kvm_run();
    // SAFETY: the caller saw KVM_EXIT_IO, so `io` is the live member; its fields are plain integers anyway.
    let io = unsafe { run.__bindgen_anon_1.io };
    let (size, offset) = (usize::from(io.size), usize::try_from(io.data_offset).ok()?);
    let len = size.checked_mul(usize::try_from(io.count).ok()?)?;
    let inside = offset.checked_add(len).is_some_and(|end| end <= run_bytes);
    if !inside || !matches!(size, 1 | 2 | 4) {
        return None;
    }
    let data = (run as *mut kvm_run).cast::<u8>().wrapping_add(offset);
    // SAFETY: `kvm_run` heads a mapping of `run_bytes` (KVM_GET_VCPU_MMAP_SIZE), the range lies inside it by the check
    // above, and the vCPU is borrowed for as long as the slice lives, so the kernel does not write it meanwhile.
    // `kvm_ioctls` makes its own slices of the data in the same way.
    let data = unsafe { std::slice::from_raw_parts_mut(data, len) };
    Some(PortIo { port: io.port, size, is_in: u32::from(io.direction) == KVM_EXIT_IO_IN, data })
}

/// What KVM says of an internal error: `kvm_run.internal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InternalError {
    /// `KVM_INTERNAL_ERROR_*`.
    pub suberror: u32,
    /// How many of `data` are valid.
    pub count: u32,
    /// Depends on `suberror`.
    pub data: [u64; 16],
}

/// The internal error of the last `KVM_RUN`. Meaningful after it returned with `KVM_EXIT_INTERNAL_ERROR`.
pub(crate) fn internal_error(vcpu: &mut VcpuFd) -> InternalError {
    // SAFETY: every member of the union is plain integers, so reading any of them is defined.
    let internal = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal };
    InternalError { suberror: internal.suberror, count: internal.ndata, data: internal.data }
}

/// The state of an 8259. Call only with what `KVM_GET_IRQCHIP` returned for one.
pub(crate) fn pic(chip: &kvm_irqchip) -> kvm_pic_state {
    // SAFETY: both members of the union are plain integers in all their bytes.
    unsafe { chip.chip.pic }
}

/// The state of the IOAPIC. Call only with what `KVM_GET_IRQCHIP` returned for it.
pub(crate) fn ioapic(chip: &kvm_irqchip) -> kvm_ioapic_state {
    // SAFETY: both members of the union are plain integers in all their bytes.
    unsafe { chip.chip.ioapic }
}

/// One redirection table entry as the 64 bits that it is.
pub(crate) fn redirection_bits(entry: kvm_ioapic_state__bindgen_ty_1) -> u64 {
    // SAFETY: the other member is a bit-field view of the same eight bytes.
    unsafe { entry.bits }
}
