//! The helper for real: forked, in other network namespaces. Needs root.

use super::*;
use nix::sched::{CloneFlags, unshare};
use socket2::SockRef;
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
};

const LONG: Duration = Duration::from_secs(10);

/// A namespace with a process in it (as the opener's would be) and a connection over its loopback.
struct Room {
    process: Child,
    client: TcpStream,
    server: TcpStream,
    netns_cookie: u64,
}

impl Room {
    fn new() -> Self {
        thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            let process = Command::new("sleep").arg("120").spawn().unwrap();
            let (client, server) = connect();
            let netns_cookie = crate::origin::bpf::netns_cookie_of(&client).unwrap();
            Self { process, client, server, netns_cookie }
        })
        .join()
        .unwrap()
    }

    fn request(&self, id: u64) -> Request {
        let remote = self.client.peer_addr().unwrap();
        Request {
            id,
            socket_cookie: SockRef::from(&self.client).cookie().unwrap(),
            netns_cookie: self.netns_cookie,
            tgid: self.process.id(),
            local: self.client.local_addr().unwrap(),
            remote,
            destination: remote,
            cgroup: String::new(),
        }
    }

    fn is_aborted(&mut self) -> bool {
        self.client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        match self.client.read(&mut [0; 8]) {
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Directories that look like cgroups.
struct Cgroups(PathBuf);

impl Cgroups {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("spanwarden-helper-{name}-{}", std::process::id())))
    }

    fn add(&self, below: &str, processes: &str) {
        fs::create_dir_all(self.0.join(below)).unwrap();
        fs::write(self.0.join(below).join("cgroup.procs"), processes).unwrap();
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn connect() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn helper(root: &Path) -> Helper {
    Helper::fork(root.to_owned()).unwrap()
}

fn ask(helper: &Helper, request: &Request) -> Outcome {
    helper.ask(request).unwrap();
    let reply = helper.wait_for_reply(LONG).expect("an answer");
    assert_eq!((reply.id, reply.socket_cookie), (request.id, request.socket_cookie), "{reply:?}");
    reply.outcome
}

fn status(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
}

#[test]
fn sockets_of_several_namespaces_are_destroyed_and_their_neighbours_are_not() {
    let helper = helper(Path::new("/nowhere"));
    let (mut neighbour, mut neighbours_peer) = connect();
    for id in 1..4 {
        let mut room = Room::new();
        let request = room.request(id);
        assert!(!room.is_aborted());
        assert_eq!(ask(&helper, &request), Outcome::Destroyed);
        assert!(room.is_aborted());
        // The namespace is known by now, and its cookie is enough.
        assert_eq!(ask(&helper, &Request { tgid: 0, ..request }), Outcome::Gone);
        assert!(room.server.write_all(b"x").is_err(), "the peer got a reset");
    }
    neighbour.write_all(b"x").unwrap();
    neighbours_peer.read_exact(&mut [0]).unwrap();
}

#[test]
fn an_opener_that_is_gone_is_replaced_by_its_neighbours() {
    let (cgroups, mut room) = (Cgroups::new("gone"), Room::new());
    // The opener's container has no process left; another of the same pod has.
    cgroups.add("kubepods/pod1/gone", "");
    cgroups.add("kubepods/pod1/sandbox", &format!("0\n{}\n", room.process.id()));
    let helper = helper(&cgroups.0);
    // A process id that is another's by now: of another namespace.
    let stranger = Request { tgid: std::process::id(), ..room.request(1) };
    assert_eq!(ask(&helper, &stranger), Outcome::NoNamespace);
    assert!(!room.is_aborted());
    let request = Request { cgroup: "/kubepods/pod1/gone".to_owned(), ..stranger };
    assert_eq!(ask(&helper, &request), Outcome::Destroyed);
    assert!(room.is_aborted());
}

#[test]
fn where_neither_opener_nor_namespace_is_known_the_cgroup_leads_to_it() {
    let (cgroups, mut room) = (Cgroups::new("old"), Room::new());
    cgroups.add("pod1/c1", &format!("{}\n{}\n", std::process::id(), room.process.id()));
    let helper = helper(&cgroups.0);
    let request = Request { tgid: 0, netns_cookie: 0, cgroup: "/pod1/c1".to_owned(), ..room.request(1) };
    assert_eq!(ask(&helper, &request), Outcome::Destroyed);
    assert!(room.is_aborted());
    assert_eq!(ask(&helper, &request), Outcome::Gone);
}

#[test]
fn the_helper_has_three_capabilities_and_no_descriptor_of_ours() {
    let open = fs::File::open("/proc/version").unwrap();
    let helper = helper(Path::new("/nowhere"));
    let status = status(helper.pid());
    let bits = KEPT.iter().fold(0_u64, |all, (capability, _)| all | 1 << capability.index());
    for line in [
        format!("CapPrm:\t{bits:016x}"),
        format!("CapEff:\t{bits:016x}"),
        "CapInh:\t0000000000000000".to_owned(),
        "CapBnd:\t0000000000000000".to_owned(),
        "CapAmb:\t0000000000000000".to_owned(),
        "NoNewPrivs:\t1".to_owned(),
        "Name:\tsock-destroyer".to_owned(),
    ] {
        assert!(status.lines().any(|found| found == line), "{line}\n{status}");
    }
    let links = fs::read_dir(format!("/proc/{}/fd", helper.pid())).unwrap();
    let mut links: Vec<String> =
        links.map(|fd| fs::read_link(fd.unwrap().path()).unwrap().to_string_lossy().into_owned()).collect();
    links.retain(|link| link != "/dev/null" && !link.starts_with("socket:") && !link.starts_with("net:"));
    // Standard error.
    assert!(links.len() <= 1 && !links.contains(&"/proc/version".to_owned()), "{links:?}");
    drop(open);
}

#[test]
fn what_is_no_request_is_declined_and_too_many_are() {
    let helper = helper(Path::new("/nowhere"));
    for garbage in [&[0_u8; 3][..], &[0xff; REQUEST], &[0; REQUEST + 1]] {
        send(helper.socket.as_raw_fd(), garbage, MsgFlags::empty()).unwrap();
        assert_eq!(helper.wait_for_reply(LONG).unwrap().outcome, Outcome::Declined);
    }
}

#[test]
fn requests_never_wait() {
    let room = Room::new();
    let helper = helper(Path::new("/nowhere"));
    kill(helper.pid(), Signal::SIGSTOP).unwrap();
    let full = (0..100_000).any(|id| helper.ask(&room.request(id)) == Err(NotSent::Full));
    kill(helper.pid(), Signal::SIGCONT).unwrap();
    assert!(full, "a helper that does not read takes no more than fits");
}

#[test]
fn it_ends_with_its_owner_and_its_end_is_seen() {
    let first = helper(Path::new("/nowhere"));
    let pid = first.pid();
    drop(first);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "ended, and no zombie");
    let second = helper(Path::new("/nowhere"));
    assert!(second.is_running());
    // Ctrl-C is not for it.
    kill(second.pid(), Signal::SIGINT).unwrap();
    kill(second.pid(), Signal::SIGTERM).unwrap();
    let room = Room::new();
    let request = room.request(1);
    assert_eq!(ask(&second, &request), Outcome::Destroyed);
    kill(second.pid(), Signal::SIGKILL).unwrap();
    assert_eq!(second.wait_for_reply(LONG), None);
    assert!(!second.is_running());
    assert_eq!(second.ask(&request), Err(NotSent::Ended));
}

#[test]
fn what_is_missing_is_said_before_anything_is_forked() {
    // Capabilities are a thread's own.
    thread::spawn(|| {
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_PTRACE).unwrap();
        let error = Helper::start("/nowhere".into(), std::process::id()).unwrap_err();
        assert!(
            matches!(&error, EnforceError::Privileges { missing, host_pid: true } if *missing == ["SYS_PTRACE"]),
            "{error}"
        );
    })
    .join()
    .unwrap();
    // Another id in the initial pid namespace than here.
    let error = Helper::start("/nowhere".into(), 1 << 23).unwrap_err();
    assert!(
        matches!(&error, EnforceError::Privileges { missing, host_pid: false } if missing.is_empty()),
        "{error}"
    );
    let error = Helper::start("/nowhere".into(), std::process::id()).unwrap_err();
    assert!(matches!(error, EnforceError::Threads(2..)), "{error}");
}
