use super::*;

#[test]
fn the_kernels_files_are_understood() {
    assert_eq!(cpu_name("processor\t: 0\nmodel name\t: A CPU: fast\n"), Some("A CPU: fast"));
    assert_eq!(cpu_name("processor\t: 0\n"), None);
    assert_eq!(chosen("always [madvise] never"), "madvise");
    assert_eq!(chosen(UNKNOWN), UNKNOWN);
}

#[test]
fn a_quiet_host_gives_no_reason_for_caution() {
    let quiet = Conditions {
        cpus: 4,
        kvm: "vmx".into(),
        governor: "performance".into(),
        load: "0.30 2.00 2.00".into(),
        ..Default::default()
    };
    assert_eq!(quiet.cautions(), Vec::<String>::new());
    let busy = Conditions { load: "3.00 0.00 0.00".into(), ..quiet.clone() };
    assert!(busy.cautions()[0].contains("load average 3 on 4 CPUs"));
    let slow = Conditions { governor: "powersave".into(), ..quiet };
    assert!(slow.cautions()[0].contains("powersave"));
}
