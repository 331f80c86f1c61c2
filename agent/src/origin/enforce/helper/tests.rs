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
    Helper::fork(root).unwrap()
}

fn ask(helper: &Helper, request: &Request) -> Outcome {
    helper.ask(request).unwrap();
    let reply = helper.wait_for_reply(LONG).expect("an answer");
    assert_eq!((reply.id, reply.socket_cookie), (request.id, request.socket_cookie), "{reply:?}");
    reply.outcome
}

/// The worker, once there is another one than `last`.
fn worker_of(helper: &Helper, last: Option<Pid>) -> Pid {
    let deadline = Instant::now() + LONG;
    let children = format!("/proc/{0}/task/{0}/children", helper.pid());
    loop {
        let text = fs::read_to_string(&children).unwrap();
        let worker = text.split_whitespace().next().map(|pid| Pid::from_raw(pid.parse().unwrap()));
        match worker {
            Some(worker) if worker != last.unwrap_or(helper.pid()) => return worker,
            _ if Instant::now() > deadline => panic!("no worker"),
            _ => thread::sleep(Duration::from_millis(5)),
        }
    }
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
    for (pid, name) in [(helper.pid(), "sock-keeper"), (worker_of(&helper, None), "sock-destroyer")] {
        has_little(pid, name);
    }
    drop(open);
}

fn has_little(pid: Pid, name: &str) {
    let status = status(pid);
    let bits = KEPT.iter().fold(0_u64, |all, (capability, _)| all | 1 << capability.index());
    for line in [
        format!("CapPrm:\t{bits:016x}"),
        format!("CapEff:\t{bits:016x}"),
        "CapInh:\t0000000000000000".to_owned(),
        "CapBnd:\t0000000000000000".to_owned(),
        "CapAmb:\t0000000000000000".to_owned(),
        "NoNewPrivs:\t1".to_owned(),
        format!("Name:\t{name}"),
    ] {
        assert!(status.lines().any(|found| found == line), "{line}\n{status}");
    }
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut links: Vec<String> =
        links.map(|fd| fs::read_link(fd.unwrap().path()).unwrap().to_string_lossy().into_owned()).collect();
    links.retain(|link| link != "/dev/null" && !link.starts_with("socket:") && !link.starts_with("net:"));
    // Standard error.
    assert!(links.len() <= 1 && !links.contains(&"/proc/version".to_owned()), "{links:?}");
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
    let worker = worker_of(&helper, None);
    kill(worker, Signal::SIGSTOP).unwrap();
    let full = (0..100_000).any(|id| helper.ask(&room.request(id)) == Err(NotSent::Full));
    kill(worker, Signal::SIGCONT).unwrap();
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
    for pid in [second.pid(), worker_of(&second, None)] {
        kill(pid, Signal::SIGINT).unwrap();
        kill(pid, Signal::SIGTERM).unwrap();
    }
    let room = Room::new();
    let request = room.request(1);
    assert_eq!(ask(&second, &request), Outcome::Destroyed);
    kill(second.pid(), Signal::SIGKILL).unwrap();
    assert_eq!(second.wait_for_reply(LONG), None);
    assert!(!second.is_running());
    assert_eq!(second.ask(&request), Err(NotSent::Ended));
}

#[test]
fn a_worker_that_ends_is_replaced_and_what_was_asked_meanwhile_is_done() {
    let helper = helper(Path::new("/nowhere"));
    let mut last = worker_of(&helper, None);
    for id in 1..3 {
        let mut room = Room::new();
        let request = room.request(id);
        kill(last, Signal::SIGKILL).unwrap();
        helper.ask(&request).unwrap();
        let replies = [0; 2].map(|_| helper.wait_for_reply(LONG).expect("an answer"));
        assert!(replies[0].is_ready(), "{replies:?}");
        assert_eq!((replies[1].id, replies[1].outcome), (id, Outcome::Destroyed));
        assert!(room.is_aborted() && helper.is_running());
        last = worker_of(&helper, Some(last));
    }
}

#[test]
fn a_worker_that_ends_again_and_again_is_the_end_of_the_helper() {
    let (mut falls, start) = (Falls::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    for (second, pause) in [(0, Some(100)), (1, Some(200)), (2, Some(400)), (3, Some(800)), (4, Some(1_600))]
    {
        assert_eq!(falls.next(at(second)), pause.map(Duration::from_millis), "{second}");
    }
    assert_eq!(falls.next(at(5)), None);
    // An hour later all of that is forgotten.
    assert_eq!(falls.next(at(3_600)), Some(FIRST_PAUSE));
}

#[test]
fn what_is_missing_is_said_before_anything_is_forked() {
    // Capabilities are a thread's own.
    thread::spawn(|| {
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_PTRACE).unwrap();
        let error = Helper::start(Path::new("/nowhere"), std::process::id()).unwrap_err();
        assert!(
            matches!(&error, EnforceError::Privileges { missing, host_pid: true } if *missing == ["SYS_PTRACE"]),
            "{error}"
        );
    })
    .join()
    .unwrap();
    // Another id in the initial pid namespace than here.
    let error = Helper::start(Path::new("/nowhere"), 1 << 23).unwrap_err();
    assert!(
        matches!(&error, EnforceError::Privileges { missing, host_pid: false } if missing.is_empty()),
        "{error}"
    );
    let error = Helper::start(Path::new("/nowhere"), std::process::id()).unwrap_err();
    assert!(matches!(error, EnforceError::Threads(2..)), "{error}");
}
