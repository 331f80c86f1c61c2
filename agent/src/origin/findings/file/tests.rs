use super::*;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::os::unix::fs::PermissionsExt as _;

/// A directory that is removed with the test; on request a file system of its own, which can be full.
struct Dir {
    path: PathBuf,
    mounted: bool,
}

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("spanwarden-findings-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self { path, mounted: false }
    }

    fn full_after(name: &str, kibibytes: u32) -> Self {
        let mut dir = Self::new(name);
        let options = format!("size={kibibytes}k");
        mount(Some("tmpfs"), &dir.path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        dir.mounted = true;
        dir
    }

    fn file(&self) -> PathBuf {
        self.path.join("findings.jsonl")
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path.join(name)).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if self.mounted {
            let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[test]
fn lines_are_appended_to_a_file_for_its_owner_only() {
    let dir = Dir::new("append");
    for round in ["one\n", "two\n"] {
        FindingsFile::open(&dir.file()).unwrap().append(round.as_bytes()).unwrap();
    }
    assert_eq!(dir.lines("findings.jsonl"), ["one", "two"]);
    assert_eq!(fs::metadata(dir.file()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_rotated_or_removed_file_is_made_again() {
    let dir = Dir::new("rotate");
    let mut file = FindingsFile::open(&dir.file()).unwrap();
    file.append(b"one\n").unwrap();
    fs::rename(dir.file(), dir.path.join("findings.1")).unwrap();
    file.append(b"two\n").unwrap();
    fs::remove_file(dir.file()).unwrap();
    file.append(b"three\n").unwrap();
    // logrotate's `copytruncate`.
    fs::write(dir.file(), "").unwrap();
    file.append(b"four\n").unwrap();
    assert_eq!(
        (dir.lines("findings.1"), dir.lines("findings.jsonl")),
        (vec!["one".into()], vec!["four".into()])
    );
    // A directory that goes and comes back.
    fs::remove_dir_all(&dir.path).unwrap();
    assert!(file.append(b"lost\n").is_err());
    fs::create_dir(&dir.path).unwrap();
    file.append(b"five\n").unwrap();
    assert_eq!(dir.lines("findings.jsonl"), ["five"]);
}

#[test]
fn half_a_line_of_a_crash_does_not_spoil_the_next() {
    let dir = Dir::new("torn");
    fs::write(dir.file(), "{\"whole\":1}\n{\"half").unwrap();
    let mut file = FindingsFile::open(&dir.file()).unwrap();
    file.append(b"{}\n").unwrap();
    file.append(b"{}\n").unwrap();
    assert_eq!(dir.lines("findings.jsonl"), ["{\"whole\":1}", "{\"half", "{}", "{}"]);
}

#[test]
fn a_full_disk_leaves_whole_lines_and_is_got_over() {
    let dir = Dir::full_after("full", 16);
    let mut file = FindingsFile::open(&dir.file()).unwrap();
    let line = [&[b'x'; 999][..], b"\n"].concat();
    let written = (0..100).filter(|_| file.append(&line).is_ok()).count();
    assert!((4..=16).contains(&written), "{written}");
    let whole = |lines: Vec<String>| lines.iter().all(|line| line.len() == 999);
    assert!(whole(dir.lines("findings.jsonl")) && dir.lines("findings.jsonl").len() == written);
    fs::rename(dir.file(), dir.path.join("old")).unwrap();
    assert!(file.append(&line).is_err(), "still full");
    fs::remove_file(dir.path.join("old")).unwrap();
    file.append(&line).unwrap();
    assert!(whole(dir.lines("findings.jsonl")));
}

#[test]
fn what_is_no_file_is_refused_and_waits_for_nobody() {
    let dir = Dir::new("pipe");
    let pipe = dir.path.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [&pipe, Path::new("/dev/null")] {
        let error = FindingsFile::open(path).unwrap_err().to_string();
        assert!(error.contains("is no regular file"), "{error}");
    }
    for (path, part) in [(dir.path.as_path(), "directory"), (&dir.path.join("none/x"), "No such file")] {
        let error = FindingsFile::open(path).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("its directory must exist"), "{error}");
    }
}

#[test]
fn the_writer_writes_all_before_it_ends() {
    let dir = Dir::new("writer");
    let writer = FindingsFile::open(&dir.file()).unwrap().start().unwrap();
    for n in 0..1_000 {
        writer.write(format!("{n}\n").into_bytes());
    }
    drop(writer);
    assert_eq!(dir.lines("findings.jsonl").len(), 1_000);
}
