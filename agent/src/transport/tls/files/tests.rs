use std::{
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;

/// A directory; removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("spanwarden-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// As Kubernetes publishes a version of a volume.
fn publish(root: &Path, version: usize, names: &[&str]) {
    let before = fs::read_link(root.join(DATA)).ok();
    let next = format!("..v{version}");
    fs::create_dir(root.join(&next)).unwrap();
    for name in names {
        fs::write(root.join(&next).join(name), format!("{name} {version}")).unwrap();
    }
    symlink(&next, root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join(DATA)).unwrap();
    for name in names {
        let _ = symlink(Path::new(DATA).join(name), root.join(name));
    }
    if let Some(before) = before {
        fs::remove_dir_all(root.join(before)).unwrap();
    }
}

#[test]
fn files_of_a_volume_are_of_one_version_however_often_it_is_swapped() {
    let names = ["tls.crt", "tls.key", "ca.crt"];
    let dir = Dir::new("tls-files-swap");
    publish(&dir.0, 0, &names);
    let paths = names.map(|name| dir.0.join(name));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1..=300 {
                publish(&dir.0, version, &names);
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut reads = 0;
        while !done.load(Ordering::Relaxed) || reads == 0 {
            // Swapped away five times during one read: the reloader tries again, and so does this.
            let Ok(snapshot) = Snapshot::read(&paths) else { continue };
            let versions = paths.each_ref().map(|path| {
                let text = String::from_utf8(snapshot.content(path).to_vec()).unwrap();
                text.split_once(' ').unwrap().1.to_owned()
            });
            assert!(versions.iter().all(|version| *version == versions[0]), "{versions:?}");
            reads += 1;
        }
    });
    assert_eq!(Snapshot::read(&paths).unwrap().content(&paths[0]), b"tls.crt 300");
}

#[test]
fn a_fingerprint_is_of_contents_and_where_they_end() {
    let dir = Dir::new("tls-files-print");
    let (a, b) = (dir.0.join("a"), dir.0.join("b"));
    let print = |first: &str, second: &str| {
        fs::write(&a, first).unwrap();
        fs::write(&b, second).unwrap();
        Snapshot::read(&[a.clone(), b.clone()]).unwrap().fingerprint()
    };
    let prints = [print("xy", "z"), print("x", "yz"), print("", "xyz"), print("xy", "Z")];
    for (n, one) in prints.iter().enumerate() {
        assert!(prints[n + 1..].iter().all(|other| other != one), "{n}");
    }
    assert_eq!(prints[0], print("xy", "z"));
}

#[test]
fn what_can_not_be_read_is_named() {
    let dir = Dir::new("tls-files-none");
    let missing = dir.0.join("missing.pem");
    let error = Snapshot::read(std::slice::from_ref(&missing)).err().unwrap().to_string();
    assert!(error.contains("missing.pem"), "{error}");
    let large = dir.0.join("large.pem");
    File::create(&large).unwrap().set_len(MAX_FILE + 1).unwrap();
    assert!(matches!(Snapshot::read(&[large]), Err(TlsError::TooLarge { .. })));
}
