//! Build steps: compiles spark, the built-in guest.
//!
//! Spark is a bare-metal program and no crate of the workspace: Cargo would give it the flags, the target and the
//! start-up code of a Linux program. So the compiler is called directly; the stock toolchain's `core` for the host is all
//! that it needs. The ELF file's path is handed to the crate as the environment variable `SPARK_ELF`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What makes a Linux compiler produce a freestanding program.
const FLAGS: &[&str] = &[
    "--edition=2024",
    "--crate-name=spark",
    "--crate-type=bin",
    "-Cpanic=abort",
    "-Copt-level=s",
    "-Ccodegen-units=1",
    "-Cdebuginfo=0",
    "-Cstrip=symbols",
    "-Cforce-unwind-tables=no",
    // Spark runs where it is linked. The link must not look for start-up code, libc or a dynamic linker. Code that is
    // interrupted keeps its red zone: interrupts come at CPL 3 and are handled on the TSS's stack.
    "-Crelocation-model=static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    // Sections need not start at page boundaries in the file, and no build id, which would differ between linkers.
    "-Clink-arg=-Wl,--nmagic",
    "-Clink-arg=-Wl,--build-id=none",
];

fn main() -> ExitCode {
    match build_spark() {
        Ok(elf) => {
            println!("cargo::rustc-env=SPARK_ELF={}", elf.display());
            ExitCode::SUCCESS
        }
        Err(why) => {
            for line in why.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build_spark() -> Result<PathBuf, String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=spark/src");
    println!("cargo::rerun-if-changed=spark/link.ld");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");

    let source = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("spark");
    let elf = Path::new(&variable("OUT_DIR")?).join("spark.elf");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args(FLAGS).arg("--target").arg(target()?);
    rustc.arg(format!("-Clink-arg=-Wl,-T,{}", source.join("link.ld").display()));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut flag = std::ffi::OsString::from("-Clinker=");
        flag.push(linker);
        rustc.arg(flag);
    }
    rustc.arg("-o").arg(&elf).arg(source.join("src/main.rs"));

    let output = rustc.output().map_err(|why| format!("cannot run {:?}: {why}", rustc.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        // Warnings; Cargo shows them for the packages of the workspace.
        for line in said.lines().filter(|line| !line.is_empty()) {
            println!("cargo::warning={line}");
        }
        return Ok(elf);
    }
    let hint = if said.contains("linker") && said.contains("not found") {
        "the built-in guest is linked with the C compiler driver; install one (Debian: `apt-get install gcc`) or name \
         one in Cargo's `target.<triple>.linker`\n"
    } else {
        ""
    };
    Err(format!("cannot compile spark, the built-in guest ({}):\n{hint}{said}", output.status))
}

/// The target whose `core` is there for sure: the host's, as build scripts need it, if it is an x86-64 Linux.
fn target() -> Result<String, String> {
    let (host, target) = (variable("HOST")?, variable("TARGET")?);
    match [host, target]
        .into_iter()
        .find(|triple| triple.starts_with("x86_64-") && triple.contains("-linux-"))
    {
        Some(triple) => Ok(triple),
        None => Err("spark, the built-in guest, is compiled for x86_64 Linux targets only".into()),
    }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|why| format!("{name}: {why}; Cargo sets it for build scripts"))
}
