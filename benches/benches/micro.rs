//! `cargo bench --bench micro`: the parts of a snapshot and a restore, each alone.
//!
//! The first half needs nothing. The second half works on an image of the built-in guest, which the `rekindle` built
//! beside this benchmark bakes; without it, or without `/dev/kvm`, that half says so and is left out.

use std::fs::File;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rekindle_benches::program::{Guest, Program};
use snapshot_format::codec::Blob;
use snapshot_format::pages::{ChunkSums, PageCount, chunk_sum, verify};
use snapshot_format::state::{ChipsetState, ClockState, ManifestState, MemoryState, VcpuState};
use snapshot_format::testing::samples;
use snapshot_format::{Architecture, MemoryIndex, StateReader, StateWriter};
use vm_memory::{Bytes, GuestAddress};
use vmm::config::DeviceOverrides;
use vmm::device::virtio::blk::Blk;
use vmm::device::virtio::rig::Rig;
use vmm::device::virtio::rng::Rng;
use vmm::machine::{Connections, Host, PausedVm};
use vmm::restore::{self, Report};

/// What a vCPU of the built-in guest has on a host of 2025: CPUID entries, MSRs, bytes of XSAVE area and LAPIC page.
const CPUID_ENTRIES: usize = 77;
const MSRS: usize = 182;
const XSAVE_BYTES: usize = 4096;
const LAPIC_BYTES: usize = 1024;

fn vcpu(id: u32) -> VcpuState {
    let mut vcpu = samples::vcpu(id);
    vcpu.cpuid = vcpu.cpuid.iter().cycle().take(CPUID_ENTRIES).cloned().collect();
    vcpu.msrs = vcpu.msrs.iter().cycle().take(MSRS).cloned().collect();
    vcpu.xsave = Blob(vec![0x5a; XSAVE_BYTES]);
    vcpu.lapic = Blob(vec![0xa5; LAPIC_BYTES]);
    vcpu
}

/// The sections of a state file with that many vCPUs.
fn encode(vcpus: &[VcpuState]) -> Vec<u8> {
    let mut file = StateWriter::new(Architecture::X86_64);
    let added = file
        .add("manifest", &samples::manifest())
        .and_then(|()| file.add("clock", &samples::clock()))
        .and_then(|()| file.add("chipset", &samples::chipset()))
        .and_then(|()| vcpus.iter().try_for_each(|vcpu| file.add(&format!("vcpu:{}", vcpu.id), vcpu)));
    added.and_then(|()| file.finish()).expect("samples can be encoded")
}

/// Header, table, checksum, and every section of [`encode`].
fn decode(file: &[u8], vcpus: u32) -> Result<Vec<VcpuState>, snapshot_format::Error> {
    let mut state = StateReader::parse(file)?;
    let _: ManifestState = state.take("manifest")?;
    let _: ClockState = state.take("clock")?;
    let _: ChipsetState = state.take("chipset")?;
    (0..vcpus).map(|id| state.take(&format!("vcpu:{id}"))).collect()
}

fn state_file(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("state-file");
    for count in [1, 32] {
        let vcpus: Vec<_> = (0..count).map(vcpu).collect();
        let file = encode(&vcpus);
        group.throughput(Throughput::Bytes(file.len() as u64));
        group.bench_with_input(BenchmarkId::new("encode", count), &vcpus, |bench, vcpus| {
            bench.iter(|| encode(black_box(vcpus)));
        });
        group.bench_with_input(BenchmarkId::new("decode", count), &file, |bench, file| {
            bench.iter(|| decode(black_box(file), count).expect("it was encoded here"));
        });
    }
}

fn checksums(criterion: &mut Criterion) {
    const MIB: usize = 1 << 20;
    let data: Vec<u8> = (0..MIB).map(|n| (n % 251) as u8).collect();
    let zeros = vec![0; MIB];
    let mut group = criterion.benchmark_group("chunk-sum");
    group.throughput(Throughput::Bytes(MIB as u64));
    for (name, bytes) in [("data", &data), ("zeros", &zeros)] {
        group.bench_with_input(name, bytes, |bench, bytes| bench.iter(|| chunk_sum(0, black_box(bytes))));
    }
    group.bench_function("add-pages", |bench| {
        let len = PageCount::from_bytes(MIB as u64).expect("whole pages");
        bench.iter_batched(
            || ChunkSums::new(len),
            |mut sums| {
                for (number, page) in (0..).zip(data.as_chunks().0) {
                    sums.add(number, page).expect("within the file");
                }
                sums
            },
            BatchSize::SmallInput,
        );
    });
}

/// An image of the built-in guest and the directory that it dies with.
struct Baked {
    _dir: tempfile::TempDir,
    image: PathBuf,
}

/// `None`, and the reason on stderr, where no guest can run.
fn bake(guest: Guest) -> Option<Baked> {
    if let Err(why) = Host::open() {
        eprintln!("left out: {why}");
        return None;
    }
    let own = std::env::current_exe().ok()?;
    let program = own.ancestors().nth(2)?.join("rekindle");
    let dir = tempfile::tempdir().expect("there is a directory for temporary files");
    let image = dir.path().join("image");
    match Program::new(program).bake(guest, &image) {
        Ok(()) => Some(Baked { _dir: dir, image }),
        Err(why) => {
            eprintln!("left out: {why:#}");
            None
        }
    }
}

fn images(criterion: &mut Criterion) {
    let Some(baked) = bake(Guest { memory: "256M", fill: "64M" }) else { return };
    criterion.bench_function("restore/plan", |bench| {
        bench.iter(|| {
            restore::plan(black_box(&baked.image), &DeviceOverrides::default()).expect("it was baked here")
        });
    });
    for name in ["create-vm", "vcpus"] {
        criterion.bench_function(&format!("restore/{name}"), |bench| {
            bench.iter_custom(|rounds| (0..rounds).map(|_| phase(&baked.image, name)).sum());
        });
    }
    let memory = File::open(baked.image.join("memory")).expect("it was baked here");
    let bytes = std::fs::read(baked.image.join("state")).expect("it was baked here");
    let mut state = StateReader::parse(&bytes).expect("it was baked here");
    let index: MemoryState = state.take("memory").expect("every image has one");
    let index = MemoryIndex::try_from(index).expect("it was baked here");
    let mut group = criterion.benchmark_group("memory");
    group.throughput(Throughput::Bytes(index.data_pages() * 4096));
    group.bench_function("verify", |bench| bench.iter(|| verify(&memory, &index).expect("it is whole")));
}

/// The phase `name` of a restore whose machine is dropped without having run, which does not count.
fn phase(image: &Path, name: &str) -> Duration {
    let mut report = Report::default();
    drop(paused(image, &mut report));
    let found = report.phases.iter().find(|phase| phase.name == name);
    found.expect("every restore has this phase").took
}

/// A machine at rest that is not run.
fn paused(image: &Path, report: &mut Report) -> PausedVm {
    let plan = restore::plan(image, &DeviceOverrides::default()).expect("it was baked here");
    let connections = Connections::new(None, None, false).expect("there are descriptors left");
    plan.restore(connections, report).expect("it was baked on this host")
}

/// How much of that memory was written since the restore.
const WRITTEN: usize = 64 << 20;

/// What of 2 GiB is the guest's own: the scan that a snapshot begins with.
fn page_scan(criterion: &mut Criterion) {
    let Some(baked) = bake(Guest { memory: "2G", fill: "8M" }) else { return };
    let vm = paused(&baked.image, &mut Report::default());
    let written = vm.memory().ram().write_slice(&vec![1; WRITTEN], GuestAddress(1 << 30));
    written.expect("a guest of 2 GiB has memory there");
    criterion.bench_function("own-pages/2G", |bench| {
        bench.iter(|| vm.memory().own_pages(&vm.quiesced(), &|| true).expect("the page map can be read"));
    });
}

/// What requests cost this side of an exit: a driver in the same thread makes 1 or 16 at a time, the device takes,
/// serves and answers them. Disk requests are for a file in the page cache.
fn queues(criterion: &mut Criterion) {
    let file = tempfile::NamedTempFile::new().expect("there is a directory for temporary files");
    std::fs::write(file.path(), vec![0x5a; 16 * LARGE as usize]).expect("a temporary file can be written");
    let mut group = criterion.benchmark_group("queue");
    for count in [1, Rig::<Rng>::REQUESTS] {
        group.throughput(Throughput::Elements(count.into()));
        let mut rig = Rig::<Rng>::rng(64);
        let id = BenchmarkId::new("rng-64", count);
        group.bench_function(id, |bench| bench.iter(|| rig.round(count)));
        for (name, reads, bytes) in [
            ("disk-read-4K", true, SMALL),
            ("disk-write-4K", false, SMALL),
            ("disk-read-128K", true, LARGE),
            ("disk-write-128K", false, LARGE),
        ] {
            // One after the other: a disk is locked by the one that has it.
            let mut rig = Rig::<Blk>::disk(file.path(), reads, bytes);
            let id = BenchmarkId::new(name, count);
            group.bench_function(id, |bench| bench.iter(|| rig.round(count)));
        }
    }
}

/// Bytes of disk requests.
const SMALL: u32 = 4096;
const LARGE: u32 = 128 << 10;

criterion_group!(benches, state_file, checksums, queues, images, page_scan);
criterion_main!(benches);
