//! The fixture table and the property tests are in `tests/suites/cgroup_paths.rs`; here only what is private.

use super::{names, parse};

const UID: &str = "7c6fb7c2-3e6b-4c57-9a1e-5b2f0c9d1e11";

#[test]
fn uids_are_uuids_or_configuration_hashes() {
    assert_eq!(names::pod_uid(UID).as_deref(), Some(UID));
    assert_eq!(names::pod_uid(&UID.replace('-', "_")).as_deref(), Some(UID));
    assert!(names::pod_uid("e039200acb850c82bb901653cc38ff6e").is_some());
    for wrong in ["", "x", &UID.to_uppercase(), &UID[1..], &UID.replace('-', "a"), &format!("{UID}0")] {
        assert_eq!(names::pod_uid(wrong), None, "{wrong}");
    }
}

#[test]
fn slices_must_be_nested_as_systemd_nests_them() {
    let depth = |path: &str| names::kubepods_root(path.split('/')).map(|root| root.depth);
    assert_eq!(depth("kubepods.slice"), Some(1));
    assert_eq!(depth("a.slice/a-kubepods.slice/x"), Some(2));
    assert_eq!(depth("a.slice/kubepods.slice"), None);
    assert_eq!(depth("a.slice/b-kubepods.slice"), None);
    assert_eq!(depth("a-kubepods.slice"), None);
    assert_eq!(depth("a.service/a-kubepods.slice"), None);
}

#[test]
fn hostile_names_are_made_printable_in_errors() {
    let name = format!("x-kubepods\u{1b}[2J.slice{}", "y".repeat(500));
    let name = name.replace("\u{1b}[2J", "-\u{1b}[2J");
    let message = parse(&format!("/user.slice/{name}")).unwrap_err().to_string();
    assert!(!message.chars().any(char::is_control), "{message:?}");
    assert!(message.len() < 300);
}
