//! What each library error means to a script (its exit code) and to a person (a hint). Nowhere else is this decided.

use std::error::Error;
use std::io;
use std::path::Path;

use page_server::image;
use rustix::io::Errno;
use snapshot_format::{ErrorKind, dir, working_set};
use vmm::device::virtio;
use vmm::device::virtio::transport::Busy;
use vmm::device::virtio::{Outside, blk, net, vsock};
use vmm::memory::lazy;
use vmm::{config, control, machine, restore, snapshot, socket, supervisor, vcpu};

use super::doctor;
use super::ended::{GuestFailed, ImageLost};
use super::exit::{Exit, Failure};
use super::limits;
use super::written::PartOfImage;

/// Looks through the chain for the first error that says something about the exit code.
pub(crate) fn classify(error: anyhow::Error) -> Failure {
    let (exit, hint) = match error.chain().find_map(shortage) {
        Some(hint) => (Exit::Failed, Some(hint)),
        None => error.chain().find_map(meaning).unwrap_or((Exit::Failed, None)),
    };
    Failure { exit, error, hint }
}

/// What the process or the host has run out of says nothing of the image, the guest or what the host can do.
fn shortage(error: &(dyn Error + 'static)) -> Option<String> {
    let hint = match errno(error)? {
        Errno::MFILE | Errno::NFILE => "too many open files: raise `ulimit -n`",
        Errno::NOMEM => {
            "not enough memory: end something, or raise the limits (`ulimit -v`, cgroup, overcommit)"
        }
        Errno::AGAIN => return Some(limits::of_threads()),
        _ => return None,
    };
    Some(hint.to_owned())
}

/// The errno of a system call that failed, whichever of our libraries made it.
fn errno(error: &(dyn Error + 'static)) -> Option<Errno> {
    if let Some(error) = error.downcast_ref::<vmm_sys_util::errno::Error>() {
        return Some(Errno::from_raw_os_error(error.errno()));
    }
    // It has no source, so the chain ends here.
    if let Some(supervisor::Error::Events(event_manager::Error::Epoll(error))) = error.downcast_ref() {
        return Some(Errno::from_raw_os_error(error.errno()));
    }
    Errno::from_io_error(error.downcast_ref::<io::Error>()?)
}

fn meaning(error: &(dyn Error + 'static)) -> Option<(Exit, Option<String>)> {
    if error.is::<ImageLost>() {
        return Some((
            Exit::Damaged,
            Some("never modify an image that is in use; `rekindle verify` checks it".into()),
        ));
    }
    if error.is::<config::Error>() {
        return Some((Exit::Usage, None));
    }
    if let Some(error) = error.downcast_ref::<control::Error>() {
        let exit = match error {
            control::Error::Fault(fault) => Exit::from_code(fault.exit_code),
            _ => Exit::Failed,
        };
        return Some((exit, error.hint().map(str::to_owned)));
    }
    if error.is::<doctor::CannotRun>() {
        return Some((Exit::Unsupported, None));
    }
    if error.is::<PartOfImage>() {
        return Some((Exit::Usage, Some("give another path".to_owned())));
    }
    if let Some(failed) = error.downcast_ref() {
        let hint = match failed {
            GuestFailed::NotReady(_) => {
                Some("raise --timeout, or see what the guest says with --serial stdio".to_owned())
            }
            GuestFailed::Panic | GuestFailed::TripleFault | GuestFailed::EndedUnready(_) => None,
        };
        return Some((Exit::GuestFailed, hint));
    }
    if let Some(supervisor::Error::Image(_)) = error.downcast_ref() {
        let hint = "`rekindle verify IMAGE`; never modify an image that is in use";
        return Some((Exit::Damaged, Some(hint.to_owned())));
    }
    if error.is::<Busy>() {
        let hint =
            "see to the storage that the disk is on; requests that were on their way may or may not reach it";
        return Some((Exit::Failed, Some(hint.to_owned())));
    }
    if error.is::<lazy::Lost>() {
        return Some((Exit::GuestFailed, Some(lazy::Lost::HINT.to_owned())));
    }
    if let Some(error) = error.downcast_ref::<lazy::Error>() {
        return Some(of_lazy(error));
    }
    if let Some(error) = error.downcast_ref::<machine::Error>() {
        return of_machine(error);
    }
    if let Some(error) = error.downcast_ref::<restore::Error>() {
        return of_restore(error);
    }
    if let Some(error) = error.downcast_ref::<image::Error>() {
        return Some(of_served(error));
    }
    if let Some(error) = error.downcast_ref::<working_set::Error>() {
        let hint = "it is only a hint: remove the file `working-set`, or record it again";
        return Some((of_format(error.kind()), Some(hint.to_owned())));
    }
    if let Some(restore::record::Error::Store(dir::Error::Write { .. })) = error.downcast_ref() {
        let hint = "--record writes to the image's directory: see to it that you may, or record in a copy";
        return Some((Exit::Failed, Some(hint.to_owned())));
    }
    if let Some(error) = error.downcast_ref::<snapshot::Error>() {
        return Some((Exit::Failed, error.hint().map(str::to_owned)));
    }
    None
}

/// What a page server, or the host, lacks.
fn of_lazy(error: &lazy::Error) -> (Exit, Option<String>) {
    match error {
        lazy::Error::Uffd(_) => {
            let hint = "let this user open /dev/userfaultfd, or set `sysctl vm.unprivileged_userfaultfd=1`; or restore \
                with --memory-mode mmap";
            (Exit::Unsupported, Some(hint.to_owned()))
        }
        lazy::Error::Connect { source, .. } => {
            (Exit::Failed, Some(lazy::Error::connect_hint(source).to_owned()))
        }
        lazy::Error::Lost(_) | lazy::Error::Deliver { .. } => {
            (Exit::GuestFailed, Some(lazy::Lost::HINT.to_owned()))
        }
        lazy::Error::Handshake(_) | lazy::Error::HandOver(_) | lazy::Error::Watch(_) => (Exit::Failed, None),
    }
}

/// Without KVM nothing runs, whatever the verb; what the guest met is the guest's failure.
fn of_machine(error: &machine::Error) -> Option<(Exit, Option<String>)> {
    let hint = match error {
        machine::Error::NoKvm(_) => {
            "load KVM's module (`modprobe kvm_intel` or `modprobe kvm_amd`), with virtualization \
            enabled in the firmware; `rekindle doctor` says more"
        }
        machine::Error::KvmPermission(_) => {
            return Some((Exit::Unsupported, Some(doctor::how_to_open_kvm())));
        }
        machine::Error::OpenKvm(_)
        | machine::Error::ApiVersion { .. }
        | machine::Error::MissingCapability { .. }
        | machine::Error::AddressBits { .. } => "`rekindle doctor` says what this host lacks",
        machine::Error::Boot { .. } => {
            let hint =
                "give an ELF kernel or a bzImage for x86-64, and what it needs of --memory and --cmdline";
            return Some((Exit::Failed, Some(hint.to_owned())));
        }
        machine::Error::Open { source, .. } => return Some((Exit::Failed, path_hint(source))),
        machine::Error::Virtio(error) => return Some(of_virtio(error)),
        machine::Error::Run(_) => return Some((Exit::GuestFailed, None)),
        _ => return None,
    };
    Some((Exit::Unsupported, Some(hint.to_owned())))
}

/// Tells an image that is broken from one that this host or build cannot take.
fn of_restore(error: &restore::Error) -> Option<(Exit, Option<String>)> {
    let again = || Some("bake the image again, or take another copy of it".to_owned());
    let look = |path: &Path| Some(format!("`rekindle inspect {}` shows what it is", path.display()));
    match error {
        restore::Error::Directory(source) => Some(of_directory(source)),
        restore::Error::State { path, source } => match of_format(source.kind()) {
            Exit::Unsupported => Some((Exit::Unsupported, look(path))),
            exit => Some((exit, again())),
        },
        restore::Error::Memory { source, .. } => Some((of_format(source.kind()), again())),
        restore::Error::Disk { source, .. } => Some((of_format(source.kind()), again())),
        restore::Error::Contradiction { .. } | restore::Error::Device(_) => Some((Exit::Damaged, again())),
        restore::Error::Virtio(error) => Some(of_virtio(error)),
        restore::Error::Host { path, .. } => Some((Exit::Unsupported, look(path))),
        restore::Error::Vcpu(error) => Some(of_vcpu(error)),
        // The values are KVM's own, and any value of theirs is taken: what fails is the host.
        restore::Error::Chipset(_) | restore::Error::Clock(_) => {
            Some((Exit::Unsupported, Some("`rekindle doctor` says what this host lacks".to_owned())))
        }
        // The machine's own error, next in the chain, says more.
        restore::Error::Kvm(_)
        | restore::Error::Machine(_)
        | restore::Error::Map(_)
        | restore::Error::Pages(_)
        | restore::Error::Record(_) => None,
    }
}

fn of_directory(error: &dir::Error) -> (Exit, Option<String>) {
    if let dir::Error::Packed { .. } = error {
        let hint = "restore it with --memory-mode lazy, or without the option, or `rekindle unpack` it first";
        return (Exit::Failed, Some(hint.to_owned()));
    }
    if let dir::Error::WithinImage { .. } = error {
        return (Exit::Failed, Some("give --out a name beside the other image".to_owned()));
    }
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    (of_format(error.kind()), cause.and_then(path_hint))
}

/// What is packed, unpacked or served.
fn of_served(error: &image::Error) -> (Exit, Option<String>) {
    match error {
        image::Error::Directory(error) => of_directory(error),
        image::Error::AlreadyPacked { .. } | image::Error::NotPacked { .. } => {
            (Exit::Usage, Some("`rekindle inspect` shows how an image keeps its memory".to_owned()))
        }
        _ => {
            let exit = of_format(error.kind());
            let again = || "bake the image again, or take another copy of it".to_owned();
            (exit, (exit == Exit::Damaged).then(again))
        }
    }
}

/// What a device needs of the host is the command's failure; what the image says of one, the image's.
fn of_virtio(error: &virtio::Error) -> (Exit, Option<String>) {
    match error {
        virtio::Error::NoSuchDisk { .. } | virtio::Error::NoSuchNet { .. } | virtio::Error::NoVsock => {
            (Exit::Usage, Some("`rekindle inspect` shows the devices of an image".to_owned()))
        }
        virtio::Error::Untrusted { outside } => (Exit::Usage, Some(trust_hint(outside))),
        virtio::Error::TooMany { .. } => (Exit::Usage, Some("leave some out".to_owned())),
        virtio::Error::Restore { .. } | virtio::Error::SameSlot { .. } => (Exit::Damaged, None),
        virtio::Error::Disk { id, source } => of_disk(id, source),
        virtio::Error::Net { id, source } => of_net(id, source),
        virtio::Error::Vsock(error) => of_vsock(error),
        virtio::Error::SetUp(_) => (Exit::Failed, None),
    }
}

/// What to add to the command line. What checks that a disk is as it was comes first.
fn trust_hint(outside: &[Outside]) -> String {
    let options: Vec<String> = outside.iter().map(Outside::option).collect();
    let has_disk = outside.iter().any(|outside| matches!(outside, Outside::Disk { .. }));
    let root = if has_disk { ", or --disk-root DIR for disks beneath DIR" } else { "" };
    format!(
        "give --trust-paths if whoever made the image may choose what it uses here{root}; or name each yourself: `{}`",
        options.join(" ")
    )
}

fn of_disk(id: &str, error: &blk::Error) -> (Exit, Option<String>) {
    let hint = match error {
        blk::Error::Id { .. } | blk::Error::Record { .. } => return (Exit::Damaged, None),
        blk::Error::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            format!("check the path, and the working directory; `--disk {id}=PATH` names a file")
        }
        blk::Error::Open { .. } => {
            format!(
                "see to it that you may read it, and write to it; `--disk {id}=PATH,readonly` is for a guest that boots and never writes"
            )
        }
        blk::Error::Untrusted { .. } | blk::Error::LeadsOut { .. } => {
            return (Exit::Usage, Some(format!("name the file that it is to have: `--disk {id}=PATH`")));
        }
        blk::Error::Overlay { .. } => "name another directory with --overlay-dir".to_owned(),
        blk::Error::Kind { .. } => "give a raw disk image, or a block device".to_owned(),
        blk::Error::Length { .. } => {
            "make it a multiple of 512 bytes long, for example with `truncate`".to_owned()
        }
        blk::Error::Container { path, .. } => format!(
            "`qemu-img convert -O raw {} NEW`; or `--disk {id}={},format=raw`, if these bytes are the guest's own",
            path.display(),
            path.display()
        ),
        blk::Error::Busy { .. } => "end the other VM, or give each a copy of its own".to_owned(),
        blk::Error::Resized { .. } | blk::Error::Modified { .. } | blk::Error::Untold { .. } => {
            format!("give it back as it was, or name a copy of it from then with `--disk {id}=PATH`")
        }
    };
    (Exit::Failed, Some(hint))
}

fn of_net(id: &str, error: &net::Error) -> (Exit, Option<String>) {
    let hint = match error {
        net::Error::Id { .. } | net::Error::Record { .. } => return (Exit::Damaged, None),
        net::Error::NoSuch { tap } => {
            format!(
                "create it (`ip tuntap add dev {tap} mode tap`), or name another with `--net {id}=tap:NAME`"
            )
        }
        net::Error::Kind { .. } => {
            format!("`ip tuntap` shows the TAPs there are; `--net {id}=tap:NAME` names one")
        }
        net::Error::Denied { tap } => {
            format!("create it for yourself (`ip tuntap add dev {tap} mode tap user $USER`)")
        }
        net::Error::Open(_) => {
            "load the module (`modprobe tun`), and see to it that you may read and write the device"
                .to_owned()
        }
        net::Error::Mtu { tap, guest, .. } => {
            format!("`ip link set dev {tap} mtu {guest}`, or name another with `--net {id}=tap:NAME`")
        }
        net::Error::Busy { .. } | net::Error::SetUp { .. } => {
            format!("give each VM a TAP of its own: `--net {id}=tap:NAME`")
        }
    };
    (Exit::Failed, Some(hint))
}

fn of_vsock(error: &vsock::Error) -> (Exit, Option<String>) {
    let hint = match error {
        vsock::Error::Record { .. } => return (Exit::Damaged, None),
        vsock::Error::SetUp(_) => return (Exit::Failed, None),
        vsock::Error::PathTooLong { .. } | vsock::Error::Socket(socket::Error::PathTooLong { .. }) => {
            "use a shorter path, for example one below /run or /tmp"
        }
        vsock::Error::Socket(socket::Error::InUse { .. }) => {
            "give each VM a socket of its own with `--vsock uds=PATH`, or end the other one"
        }
        vsock::Error::Socket(socket::Error::NotASocket { .. }) => {
            "remove it, or give another path with `--vsock uds=PATH`"
        }
        vsock::Error::Socket(socket::Error::Listen { .. }) => {
            "the directory must exist and be writable; `--vsock uds=PATH` gives another"
        }
    };
    (Exit::Failed, Some(hint.to_owned()))
}

/// A value that KVM refuses on a host that has passed for fit is a value that no vCPU has.
fn of_vcpu(error: &vcpu::Error) -> (Exit, Option<String>) {
    let refused = |source: &io::Error| Errno::from_io_error(source) == Some(Errno::INVAL);
    let hint = match error {
        vcpu::Error::Impossible { .. } => return (Exit::Damaged, None),
        vcpu::Error::Ioctl { source, .. } if refused(source) => return (Exit::Damaged, None),
        vcpu::Error::TscFrequency { .. } => {
            "restore it on a host whose TSC runs at the same frequency, or that can scale it"
        }
        _ => {
            "restore it on a host with the same CPU model and kernel; `rekindle doctor` says what this one can do"
        }
    };
    (Exit::Unsupported, Some(hint.to_owned()))
}

/// A path that is wrong, or not ours to open.
fn path_hint(error: &io::Error) -> Option<String> {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "there is nothing at that path: check it, and the working directory",
        io::ErrorKind::PermissionDenied => {
            "its owner has to let you read it, and every directory above it be searched"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_format(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::NotAnImage | ErrorKind::Damaged | ErrorKind::MissingSection => Exit::Damaged,
        ErrorKind::Unsupported | ErrorKind::WrongArchitecture | ErrorKind::UnknownSection => {
            Exit::Unsupported
        }
        ErrorKind::Refused | ErrorKind::Io => Exit::Failed,
    }
}
