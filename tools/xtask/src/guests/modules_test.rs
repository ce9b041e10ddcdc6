//! Load order and selection, over a table instead of files.

use std::collections::BTreeMap;

use super::*;

struct Table(BTreeMap<&'static str, &'static str>);

impl Source for Table {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(name).map(|depends| format!("\0license=GPL\0depends={depends}\0name=x\0").into_bytes()))
    }
}

fn kvm() -> Table {
    Table(BTreeMap::from([("kvm_amd", "kvm,ccp"), ("kvm", "irqbypass"), ("irqbypass", ""), ("ccp", "")]))
}

#[test]
fn needs_come_first_and_once() {
    let (modules, absent) = closure(&kvm(), &["kvm_amd", "kvm"]).unwrap();
    let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(names, ["irqbypass", "kvm", "ccp", "kvm_amd"]);
    assert!(absent.is_empty());
}

#[test]
fn a_module_that_is_not_there_is_reported() {
    let (modules, absent) = closure(&kvm(), &["9p", "ccp"]).unwrap();
    assert_eq!(modules, [Module { name: "ccp".into(), needs: vec![] }]);
    assert_eq!(absent, ["9p"]);
}

#[test]
fn hyphens_in_a_dependency_are_underscores_in_its_name() {
    assert_eq!(needs(b"x\0depends=rng-core,virtio\0y"), ["rng_core", "virtio"]);
    assert_eq!(needs(b"no such entry\0"), Vec::<String>::new());
    assert_eq!(module_name(Path::new("a/kvm-amd.ko.xz")).as_deref(), Some("kvm_amd"));
    assert_eq!(module_name(Path::new("a/modules.order")), None);
}

#[test]
fn selection_follows_needs_and_keeps_the_order() {
    let (modules, _) = closure(&kvm(), &["kvm_amd"]).unwrap();
    assert_eq!(select(&modules, &["kvm"]).unwrap(), ["irqbypass", "kvm"]);
    assert!(select(&modules, &["kvm_intel"]).unwrap_err().to_string().contains("kvm_intel"));
}
