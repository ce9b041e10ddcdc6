//! Plain validated data: what a VM is to be. No descriptors, no I/O, no defaults that depend on the host.
//!
//! Every value that a person types has a newtype here whose constructor refuses what can never work, naming the
//! value, the reason and the remedy. What depends on the host or on a file's contents is refused by whoever opens it.

mod bake;
mod boot;
mod cpus;
mod devices;
mod disk;
mod duration;
mod memory;
mod net;
mod rate;
mod restore;
mod serial;
mod vsock;

pub use bake::{BakeConfig, ReadyConfig, ReadyPattern};
pub use boot::{BootConfig, KernelConfig, VmConfig};
pub use cpus::CpuCount;
pub use devices::{DeviceOverrides, DevicesConfig, OverlayDir, PathTrust};
pub use disk::{DiskConfig, DiskId, DiskPath};
pub use duration::{PagesTimeout, ReclaimLimit, RecordTime, Timeout};
pub use memory::MemorySize;
pub use net::{MacAddr, NetConfig, NetId, NetOverride, TapName};
pub use rate::{BucketConfig, RateLimitConfig, RateUnit};
pub use restore::{MemoryConfig, MemoryMode, ReportTarget, RestoreConfig, Switch};
pub use serial::{SerialConfig, SerialFile};
pub use vsock::{GuestCid, VsockConfig, VsockPath, VsockPort};

#[cfg(test)]
mod config_test;
#[cfg(test)]
mod net_test;

/// Why a value cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a number with an optional K, M or G.
    #[error("memory size `{value}` is not a whole number followed by K, M or G; write for example 256M")]
    MemorySyntax {
        /// What was given.
        value: String,
    },
    /// Not within [`MemorySize::MIN`] and [`MemorySize::MAX`].
    #[error("memory size `{value}` is out of range; give 16M to 1023G")]
    MemoryRange {
        /// What was given.
        value: String,
    },
    /// Not a whole number of pages.
    #[error("memory size `{value}` is not a multiple of 4 KiB; give a multiple of 4K")]
    MemoryAlignment {
        /// What was given.
        value: String,
    },
    /// Not a number from 1 to 32.
    #[error("`{value}` CPUs cannot be had; give 1 to 32")]
    CpuCount {
        /// What was given.
        value: String,
    },
    /// Not a console that exists.
    #[error("serial console `{value}` is unknown; give stdio, null or file:PATH[,size=BYTES][,rate=BYTES]")]
    Serial {
        /// What was given.
        value: String,
    },
    /// A limit of the console's file is no amount, or leaves no room for a word.
    #[error(
        "`{value}` is no limit of the console's file; give a whole number of 100 or more, K, M or G behind it"
    )]
    SerialLimit {
        /// What was given.
        value: String,
    },
    /// The same limit of the console's file more than once.
    #[error("a limit of the console's file is given twice; leave one out")]
    SerialTwice,
    /// What looks like an option of the console's file is none.
    #[error("option `{option}` of the console's file is unknown; give size= or rate=")]
    SerialOption {
        /// What was given.
        option: String,
    },
    /// The name is none that a disk can have.
    #[error("disk id `{id}` is not 1 to 20 of a-z A-Z 0-9 - _ .")]
    DiskId {
        /// What was given.
        id: String,
    },
    /// Not a name, an equals sign and a path.
    #[error("disk `{value}` is not ID=PATH; write for example root=disk.img")]
    DiskSyntax {
        /// What was given.
        value: String,
    },
    /// Not an option that a disk has.
    #[error(
        "option `{value}` of a disk is unknown or given twice; give readonly, overlay, bw= or iops=, and link to a file that has a comma in its name"
    )]
    DiskOption {
        /// What was given.
        value: String,
    },
    /// An overlay is there to be written to.
    #[error("disk `{id}` is both readonly and overlay; give one of them")]
    DiskReadonlyOverlay {
        /// The disk.
        id: String,
    },
    /// An option where the image says what kind of disk it is.
    #[error("disk `{value}` has options, which its image records; give ID=PATH")]
    DiskOptionsRecorded {
        /// What was given.
        value: String,
    },
    /// Two disks with one name.
    #[error("two disks are called `{id}`; give each a name of its own")]
    DiskTwice {
        /// The name.
        id: String,
    },
    /// Directories whose disks are trusted where everything is.
    #[error("--trust-paths trusts all paths, those beneath a --disk-root too; give one of them")]
    TrustTwice,
    /// Not a CID and a path.
    #[error("vsock `{value}` is not cid=N,uds=PATH; write for example cid=3,uds=vm.vsock")]
    VsockSyntax {
        /// What was given.
        value: String,
    },
    /// A context id that no guest can have.
    #[error("vsock CID `{value}` cannot be had; give 3 to 4294967294")]
    VsockCid {
        /// What was given.
        value: String,
    },
    /// No port of the host's.
    #[error("vsock port `{value}` cannot be had; give 0 to 4294967294")]
    VsockPort {
        /// What was given.
        value: String,
    },
    /// More than a path, where the image says the rest.
    #[error("vsock `{value}` is not uds=PATH, and the CID is the image's; write for example uds=vm.vsock")]
    VsockRecorded {
        /// What was given.
        value: String,
    },
    /// A guest that could not say that it is ready.
    #[error("readiness signal `vsock:{port}` needs a vsock device; give --vsock cid=N,uds=PATH as well")]
    ReadyWithoutVsock {
        /// The port.
        port: u32,
    },
    /// Not a readiness signal that exists.
    #[error("readiness signal `{value}` is unknown; give serial:REGEX, vsock:PORT or port")]
    Ready {
        /// What was given.
        value: String,
    },
    /// Not a regular expression.
    #[error(
        "readiness pattern `{value}` is not a regular expression; mend it, with \\ before what is meant literally"
    )]
    PatternSyntax {
        /// The pattern.
        value: String,
        /// What the expression's parser says.
        #[source]
        source: Box<regex::Error>,
    },
    /// A pattern that any console satisfies before its first byte.
    #[error("readiness pattern `{value}` matches an empty console; give one that needs at least one byte")]
    PatternMatchesNothing {
        /// The pattern.
        value: String,
    },
    /// Not a number with `ms`, `s` or `m`.
    #[error("time limit `{value}` is not a whole number followed by ms, s or m; write for example 60s")]
    TimeoutSyntax {
        /// What was given.
        value: String,
    },
    /// Not within [`Timeout::MIN`] and [`Timeout::MAX`].
    #[error("time limit `{value}` is out of range; give 1ms to 1440m")]
    TimeoutRange {
        /// What was given.
        value: String,
    },
    /// More than a minute.
    #[error("time limit `{value}` for free memory is out of range; give 1ms to 1m")]
    ReclaimRange {
        /// What was given.
        value: String,
    },
    /// Not a way to bring memory back.
    #[error("memory mode `{value}` is unknown; give mmap or lazy")]
    MemoryMode {
        /// What was given.
        value: String,
    },
    /// Not an interface and its TAP.
    #[error("network interface `{value}` has no id or no TAP; write for example eth0=tap:tap0")]
    NetSyntax {
        /// What was given.
        value: String,
    },
    /// An option that interfaces do not have, or that was given before.
    #[error(
        "`{value}` is no option of a network interface, or is given twice; give mac=, rx-bw=, rx-ops=, tx-bw= or \
        tx-ops="
    )]
    NetOption {
        /// The option.
        value: String,
    },
    /// An option where an image has its own.
    #[error(
        "`{value}` gives more than a TAP; a restored guest keeps its address and its limits, so give ID=tap:NAME"
    )]
    NetOverride {
        /// What was given.
        value: String,
    },
    /// Not a name of an interface of ours.
    #[error("network interface id `{value}` is not 1 to 20 of a-z A-Z 0-9 - _ .; give another")]
    NetId {
        /// What was given.
        value: String,
    },
    /// Not a name that an interface of the host can have.
    #[error("`{value}` cannot be the name of a TAP, which has 1 to 15 bytes; `ip link` shows what there is")]
    TapName {
        /// What was given.
        value: String,
    },
    /// Not the address of one interface.
    #[error("`{value}` is not the MAC address of one interface; write for example 02:00:00:00:00:01")]
    Mac {
        /// What was given.
        value: String,
    },
    /// Two interfaces with one name.
    #[error("two network interfaces are called `{id}`; give each a name of its own")]
    NetTwice {
        /// The name.
        id: String,
    },
    /// Two interfaces with one TAP.
    #[error("two network interfaces are to have TAP `{tap}`; give each its own")]
    TapTwice {
        /// The TAP.
        tap: String,
    },
    /// Not a rate.
    #[error("rate `{value}` is not an amount, or out of range; write for example {unit}")]
    Rate {
        /// What was given.
        value: String,
        /// What it is counted in.
        unit: RateUnit,
    },
    /// A page is given up on too soon, or never.
    #[error("time limit `{value}` for a page is out of range; give 100ms to 10m")]
    PagesTimeoutRange {
        /// What was given.
        value: String,
    },
    /// Watching takes its time from the guest.
    #[error("time `{value}` to watch a guest is out of range; give 1ms to 10m")]
    RecordRange {
        /// What was given.
        value: String,
    },
    /// Nobody could let the guest run.
    #[error("--paused leaves the guest to `rekindle resume`; give it an --api-socket as well")]
    PausedForEver,
    /// A time that would pass while nothing is to be seen.
    #[error(
        "--record watches a guest from its first instruction on, and --paused has it stand still; give one of them"
    )]
    PausedRecord,
    /// Memory is mapped, and nobody delivers it.
    #[error("{option} is of no use where memory is mapped; give --memory-mode lazy as well, or leave it out")]
    NobodyDelivers {
        /// The option.
        option: &'static str,
    },
    /// A page server writes its own trace.
    #[error("--trace is of the pages that this process delivers; with --pages, give it to the page server")]
    TraceElsewhere,
    /// Neither on nor off.
    #[error("`{value}` is neither on nor off")]
    Switch {
        /// What was given.
        value: String,
    },
    /// Neither a level nor filter directives.
    #[error("log level `{value}` is unknown; give off, error, warn, info, debug or trace")]
    LogLevel {
        /// What was given.
        value: String,
    },
    /// An initrd for the built-in guest, which has no use for one.
    #[error(
        "initrd `{value}` has no kernel to go with; give a kernel as well, or leave it out for the built-in guest"
    )]
    InitrdWithoutKernel {
        /// The initrd.
        value: String,
    },
    /// An empty path, which is mostly a script's unset variable.
    #[error("{what} is an empty path; name a file")]
    EmptyPath {
        /// What the path is of.
        what: &'static str,
    },
}
