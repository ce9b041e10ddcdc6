//! Which module makes which kind of host.

use super::*;

#[test]
fn the_module_decides_what_runs_here() {
    let amd = Kvm::provided_by(|module| module == "kvm_amd");
    assert_eq!(amd, Kvm::Hardware("kvm_amd"));
    assert!(amd.is_usable() && amd.runs_stock_guests());

    let pvm = Kvm::provided_by(|module| module == "kvm_pvm");
    assert_eq!(pvm, Kvm::Emulating("kvm_pvm"));
    assert!(pvm.is_usable() && !pvm.runs_stock_guests());

    let none = Kvm::Unusable("no such file".into());
    assert!(!none.is_usable() && !none.runs_stock_guests());
    assert_eq!(Kvm::provided_by(|_| false), Kvm::Unknown);
}
