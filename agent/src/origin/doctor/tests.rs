//! The form of a report.

#![forbid(unsafe_code)]

use super::*;

#[test]
fn json_has_every_key_of_the_schema() {
    let check = Check::fail("a", "b").because("c").remedy("d");
    let json = serde_json::to_value(&check).unwrap();
    let expected =
        serde_json::json!({"name": "a", "status": "fail", "detail": "b", "cause": "c", "remedy": "d"});
    assert_eq!(json, expected);
    let json = serde_json::to_value(Check::ok("a", "b")).unwrap();
    assert!(json["cause"].is_null() && json.get("cause").is_some());
}

#[test]
fn the_worst_counts() {
    assert!(Status::Fail > Status::Warn && Status::Warn > Status::Ok && Status::Ok > Status::Skipped);
}

#[test]
fn pins_need_a_bpffs() {
    assert_eq!(pins::check(None).status, Status::Skipped);
    for path in [std::env::temp_dir().join("nothing-there/v1"), PathBuf::from("relative")] {
        let check = pins::check(Some(&path));
        assert_eq!(check.status, Status::Fail);
        assert!(check.remedy.is_some());
    }
}
