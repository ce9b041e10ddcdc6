//! Which module makes which kind of host.

use super::*;

#[test]
fn the_module_decides_what_runs_here() {
    let amd = Kvm::provided_by(|module| module == "kvm_amd", "");
    assert_eq!(amd, Kvm::Hardware("kvm_amd"));
    assert!(amd.is_usable() && amd.runs_stock_guests());

    let pvm = Kvm::provided_by(|module| module == "kvm_pvm", "");
    assert_eq!(pvm, Kvm::Emulating("kvm_pvm"));
    assert!(pvm.is_usable() && !pvm.runs_stock_guests());

    let none = Kvm::Unusable("no such file".into());
    assert!(!none.is_usable() && !none.runs_stock_guests());
    assert_eq!(Kvm::provided_by(|_| false, ""), Kvm::Unknown);
}

#[test]
fn of_several_that_are_built_in_the_processors_is_meant() {
    const AMD: &str = "processor : 0\nflags : fpu svm\nvmx flags :\n";
    const INTEL: &str = "flags : fpu vmx\n";
    let built_in = |modules: &[&str], cpuinfo| Kvm::provided_by(|file| modules.contains(&file), cpuinfo);
    assert_eq!(built_in(&["kvm_intel", "kvm_amd"], AMD), Kvm::Hardware("kvm_amd"));
    assert_eq!(built_in(&["kvm_intel", "kvm_amd"], INTEL), Kvm::Hardware("kvm_intel"));
    assert_eq!(built_in(&["kvm_intel", "kvm_amd", "kvm_pvm"], "flags : fpu"), Kvm::Emulating("kvm_pvm"));
    assert_eq!(built_in(&["kvm_intel", "kvm_amd"], "flags : fpu"), Kvm::Unknown);
    // What was loaded has found what it needs.
    let loaded = &["kvm_intel", "kvm_pvm", "kvm_pvm/initstate"];
    assert_eq!(built_in(loaded, INTEL), Kvm::Emulating("kvm_pvm"));
}
