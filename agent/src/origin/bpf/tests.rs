//! The programs on this kernel: attached to a cgroup of the test's own, met by processes in it, over loopback.
//! Namespaces and NAT are the end-to-end suite's matter.

use super::*;
use crate::origin::{
    Evidence, Pod, capabilities,
    findings::{Place, Proof, Protocol, Signal},
};
use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

const UID: &str = "8dbc05c8-e6f9-4c36-8d3d-2d35b6e5a0ac";
const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const WAIT: Duration = Duration::from_secs(10);

/// A cgroup of the test's own, removed at the end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("a cgroup2 mount");
        let name = format!("spanwarden-test-{}-{:?}", std::process::id(), std::thread::current().id());
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "");
        let path = Path::new(mount.split(' ').nth(4).unwrap()).join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    // A process that just ended may still be counted.
    for _ in 0..100 {
        if fs::remove_dir(path).is_ok() || !path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs `body` in a process of its own that is in a cgroup of its own, `watched/agent`: a socket belongs to the
/// cgroup of the process that makes it, and the test runner must stay where it is. `body` gets the directory
/// above `watched`.
fn in_cgroup(test: &str, body: impl FnOnce(&Path)) {
    if let Some(cgroup) = env::var_os("TEST_CGROUP") {
        let cgroup = Path::new(&cgroup);
        enter(&child_of(cgroup, "watched/agent"));
        return body(cgroup);
    }
    let missing = capabilities::missing_for_bpf();
    if !missing.is_empty() {
        assert!(env::var_os("CI").is_none(), "CI must run this with {missing:?}");
        eprintln!("skipped: needs {missing:?}");
        return;
    }
    let cgroup = Cgroup::new();
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("origin::bpf::tests::{test}"), "--nocapture"])
        .env("TEST_CGROUP", &cgroup.0)
        .status()
        .unwrap();
    drop(cgroup);
    assert!(status.success(), "{test} in a process of its own: {status}");
}

/// Moves this process.
fn enter(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()).unwrap();
}

fn child_of(cgroup: &Path, below: &str) -> PathBuf {
    let path = cgroup.join(below);
    fs::create_dir_all(&path).unwrap();
    path
}

struct Pods(Arc<Pod>);

impl Pods {
    fn one() -> Arc<dyn PodSource> {
        let pod = Pod { uid: UID.into(), name: "shop".into(), namespace: "prod".into(), ..Pod::default() };
        Arc::new(Self(Arc::new(pod)))
    }
}

impl PodSource for Pods {
    fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        (uid == self.0.uid).then(|| Arc::clone(&self.0))
    }
    fn by_ip(&self, _: IpAddr) -> Option<Arc<Pod>> {
        None
    }
}

fn attach(cgroup: &Path) -> KernelOrigins {
    KernelOrigins::attach(Options::new(cgroup.join("watched"), Pods::one()))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// This test binary again, in `cgroup`: moves itself there, connects, sends `pieces` one write each (joined with
/// `|` in hex), waits for the other side to close, and ends.
fn client(cgroup: &Path, to: SocketAddr, pieces: &[&[u8]]) -> Child {
    let hex: Vec<String> = pieces
        .iter()
        .map(|piece| piece.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")))
        .collect();
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "origin::bpf::tests::as_client", "--nocapture", "--ignored"])
        .env("CLIENT_CGROUP", cgroup)
        .env("CLIENT_TO", to.to_string())
        .env("CLIENT_SENDS", hex.join("|"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "the client's side of the other tests"]
fn as_client() {
    let Some(cgroup) = env::var_os("CLIENT_CGROUP") else { return };
    enter(Path::new(&cgroup));
    let to: SocketAddr = env::var("CLIENT_TO").unwrap().parse().unwrap();
    let mut socket = TcpStream::connect(to).unwrap();
    socket.set_nodelay(true).unwrap();
    for piece in env::var("CLIENT_SENDS").unwrap().split('|').filter(|piece| !piece.is_empty()) {
        let bytes: Vec<u8> =
            (0..piece.len() / 2).map(|i| u8::from_str_radix(&piece[2 * i..2 * i + 2], 16).unwrap()).collect();
        socket.write_all(&bytes).unwrap();
    }
    socket.set_read_timeout(Some(WAIT)).unwrap();
    let _ = socket.read(&mut [0; 1]);
}

#[test]
fn a_connection_s_opener_is_known_with_its_container_and_pod_even_when_it_is_gone() {
    in_cgroup("a_connection_s_opener_is_known_with_its_container_and_pod_even_when_it_is_gone", |cgroup| {
        let container = child_of(cgroup, &format!("watched/kubepods/burstable/pod{UID}/{CONTAINER}"));
        let origins = attach(cgroup);
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let mut to = listener.local_addr().unwrap();
            if to.ip().is_unspecified() {
                to.set_ip("127.0.0.1".parse().unwrap()); // a v6 socket that is met by v4
            }
            let mut child = client(&container, to, &[]);
            let pid = child.id();
            let (socket, peer) = listener.accept().unwrap();
            if address == "[::1]:0" {
                socket.shutdown(std::net::Shutdown::Both).unwrap();
                child.wait().unwrap();
            }
            let origin = origins.origin(socket.as_fd(), peer);
            drop(socket);
            let _ = child.wait();
            assert_eq!(origin.evidence, Evidence::Kernel, "{address}");
            let process = origin.process.as_ref().unwrap();
            assert_eq!(process.pid, pid);
            assert_eq!(process.uid, 0);
            assert!(!process.comm.is_empty());
            assert_eq!(origin.container_id.as_deref(), Some(CONTAINER));
            assert_eq!(origin.pod_uid.as_deref(), Some(UID));
            assert_eq!(origin.pod.as_ref().unwrap().name, "shop");
        }
        assert!(origins.alive());
    });
}

#[test]
fn what_the_kernel_has_not_seen_is_none_and_an_unknown_destination_is_conflict() {
    in_cgroup("what_the_kernel_has_not_seen_is_none_and_an_unknown_destination_is_conflict", |cgroup| {
        let inside = child_of(cgroup, "watched/inside");
        let outside = child_of(cgroup, "outside");
        in_namespace("192.0.2.1");
        let origins = attach(cgroup);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut child = client(&outside, listener.local_addr().unwrap(), &[]);
        let (socket, peer) = listener.accept().unwrap();
        assert_eq!(origins.origin(socket.as_fd(), peer).evidence, Evidence::None);
        drop(socket);
        let _ = child.wait();
        // The same network namespace under another cookie: loopback is no longer the agent's own.
        origins
            .loaded
            .lock()
            .unwrap()
            .set_settings(abi::settings(1, 0, &[], &PlaintextPolicy::default(), &FindingsOutput::default()))
            .unwrap();
        let reached = |listener: &TcpListener| {
            let mut child = client(&inside, listener.local_addr().unwrap(), &[]);
            let (socket, peer) = listener.accept().unwrap();
            let origin = origins.origin(socket.as_fd(), peer);
            drop(socket);
            let _ = child.wait();
            origin
        };
        let origin = reached(&listener);
        assert_eq!((origin.evidence, &origin.process), (Evidence::None, &None));
        // An address of the agent's that it is not told of, as that of a Service may be; with any port, and with one on
        // which it receives.
        origins.loaded.lock().unwrap().set_own(&BTreeSet::new()).unwrap();
        let listener = TcpListener::bind("192.0.2.1:0").unwrap();
        let tell = |ports: &[u16]| {
            let settings =
                abi::settings(1, 0, ports, &PlaintextPolicy::default(), &FindingsOutput::default());
            origins.loaded.lock().unwrap().set_settings(settings).unwrap();
        };
        for ports in [vec![], vec![listener.local_addr().unwrap().port()]] {
            tell(&ports);
            let origin = reached(&listener);
            assert_eq!(origin.evidence, Evidence::Conflict);
            assert_eq!(origin.process, None, "a contradiction names nobody");
        }
        tell(&[4317]);
        let origin = reached(&listener);
        assert_eq!((origin.evidence, &origin.process), (Evidence::None, &None), "not a port of the agent's");
    });
}

/// A network namespace for this thread and what it starts, with an address besides loopback's.
fn in_namespace(address: &str) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("CAP_SYS_ADMIN");
    for arguments in ["link set lo up", &format!("address add {address}/32 dev lo")] {
        let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}: {status}");
    }
}

#[test]
fn an_agent_outside_of_the_watched_cgroup_is_told_so() {
    in_cgroup("an_agent_outside_of_the_watched_cgroup_is_told_so", |cgroup| {
        enter(&child_of(cgroup, "elsewhere"));
        let outcome = KernelOrigins::attach(Options::new(cgroup.join("watched"), Pods::one()));
        assert!(matches!(outcome, Err(OriginError::Outside)));
    });
}

#[test]
fn a_removed_cgroup_is_dead_evidence() {
    in_cgroup("a_removed_cgroup_is_dead_evidence", |cgroup| {
        let origins = attach(cgroup);
        assert!(origins.alive());
        enter(&child_of(cgroup, "elsewhere"));
        remove(&cgroup.join("watched"));
        assert!(!origins.alive());
    });
}

/// Writes of a client, and what is found.
type Row<'a> = (&'a [&'a [u8]], Option<(Protocol, Proof, Signal)>);

#[test]
fn plaintext_is_told_from_tls_and_all_is_read_without_capabilities() {
    in_cgroup("plaintext_is_told_from_tls_and_all_is_read_without_capabilities", |cgroup| {
        let container = child_of(cgroup, &format!("watched/kubepods/burstable/pod{UID}/{CONTAINER}"));
        let origins = attach(cgroup);
        let (sender, found) = mpsc::channel();
        // The thread that reads findings inherits this thread's capabilities: none.
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                capabilities::drop_of_this_thread(false).unwrap();
                origins.watch_findings(move |finding| sender.send(finding).unwrap()).unwrap();
            });
            reader.join().unwrap();
        });
        let long = [
            b"POST http://collector.example.org:4318",
            "/long".repeat(30).as_bytes(),
            b"/v1/traces HTTP/1.1\r\n",
        ]
        .concat();
        // With the empty SETTINGS that must follow (RFC 9113 section 3.4).
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        // HEADERS that end a stream's head, with a literal `:path` (RFC 9113 section 6.2, RFC 7541 section 6.2.2).
        let headers = [&[0, 0, 13, 1, 4, 0, 0, 0, 1, 0x83, 0x04, 10][..], b"/v1/traces"].concat();
        let table: &[Row<'_>] = &[
            (
                &[b"POST /v1/traces HTTP/1.1\r\nHost: a\r\n\r\n"],
                Some((Protocol::Http1, Proof::Path, Signal::Traces)),
            ),
            (
                &[b"PO", b"ST /otlp/v1", b"/traces", b" HTTP/1.1\r\n"],
                Some((Protocol::Http1, Proof::Path, Signal::Traces)),
            ),
            (&[&long], Some((Protocol::Http1, Proof::Path, Signal::Traces))),
            (&[preface, &headers], Some((Protocol::H2c, Proof::Path, Signal::Traces))),
            (
                &[&preface[..16], &preface[16..], &headers[..12], &headers[12..]],
                Some((Protocol::H2c, Proof::Path, Signal::Traces)),
            ),
            (&[b"POST /v1/metrics HTTP/1.1\r\n"], Some((Protocol::Http1, Proof::Path, Signal::Metrics))),
            (
                &[b"GET / HTTP/1.1\r\n\r\n", b"POST /v1/logs HTTP/1.1\r\n\r\n"],
                Some((Protocol::Http1, Proof::Path, Signal::Logs)),
            ),
            (&[&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3], b"POST /v1/traces HTTP/1.1\r\n"], None),
            // HTTP/2 towards a port that is not OTLP's, and no more.
            (&[preface], None),
            // A header's text is no request.
            (&[b"GET / HTTP/1.1\r\nReferer: POST /v1/traces HTTP/1.1\r\n\r\n"], None),
            (&[b"*1\r\n$4\r\nPING\r\n"], None),
        ];
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let to = listener.local_addr().unwrap();
            for (pieces, expected) in table {
                let mut child = client(&container, to, pieces);
                let (mut socket, peer) = listener.accept().unwrap();
                let mut left: usize = pieces.iter().map(|piece| piece.len()).sum();
                while left > 0 {
                    left -= socket.read(&mut [0; 512]).unwrap();
                }
                drop(socket);
                child.wait().unwrap();
                let Some((protocol, proof, signal)) = expected else {
                    let wrong = found.recv_timeout(Duration::from_millis(300));
                    assert!(wrong.is_err(), "{pieces:?}: {wrong:?}");
                    continue;
                };
                let finding =
                    found.recv_timeout(WAIT).unwrap_or_else(|_| panic!("no finding for {pieces:?}"));
                assert_eq!((finding.protocol, finding.proof, finding.signal), (*protocol, *proof, *signal));
                assert_eq!((finding.local, finding.remote, finding.destination), (peer, to, to));
                assert_eq!(finding.origin.pod.as_ref().unwrap().name, "shop");
                assert_eq!(
                    finding.place,
                    Place::Agent,
                    "a loopback destination in the agent's own namespace"
                );
            }
        }
        let findings = table.iter().filter(|(_, expected)| expected.is_some()).count() as u64;
        drain_and_compare(&origins, &found, table.len() as u64, 2 * findings);
    });
}

/// Nothing more comes, and every event is accounted for.
fn drain_and_compare(origins: &KernelOrigins, found: &mpsc::Receiver<Finding>, rows: u64, findings: u64) {
    let deadline = std::time::Instant::now() + WAIT;
    let mut counters = origins.counters();
    // Two families, and the two connections of the self-test.
    let connects = 2 * rows + 2;
    while counters.connects < connects && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        counters = origins.counters();
    }
    assert!(found.try_recv().is_err(), "one finding a connection");
    assert_eq!(counters.connects, connects);
    let fate = (counters.seen, counters.delivered, counters.full, counters.throttled, counters.read);
    assert_eq!(fate, (findings, findings, 0, 0, findings));
    assert_eq!((counters.tls, counters.unreadable, counters.store_failed), (2, 0, 0), "{counters:?}");
    assert!(origins.alive());
}

#[test]
fn what_the_ring_buffer_cannot_take_is_counted() {
    in_cgroup("what_the_ring_buffer_cannot_take_is_counted", |cgroup| {
        let options = Options::new(cgroup.join("watched"), Pods::one());
        let findings = FindingsOutput { per_second: 0, ..FindingsOutput::default() };
        let origins = KernelOrigins::attach(Options { findings, ..options }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // More findings than the ring holds, each with a header of eight bytes, and nobody reads.
        let room = spanwarden_ebpf::abi::FINDINGS_BYTES / (size_of::<spanwarden_ebpf::abi::Finding>() + 8);
        let connections = room as u64 + 100;
        for _ in 0..connections {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(b"POST /v1/traces HTTP/1.1\r\n").unwrap();
            server.read_exact(&mut [0; 26]).unwrap();
        }
        let (sender, found) = mpsc::channel();
        origins.watch_findings(move |finding| sender.send(finding).unwrap()).unwrap();
        for _ in 0..room {
            found.recv_timeout(WAIT).unwrap();
        }
        let deadline = std::time::Instant::now() + WAIT;
        let mut counters = origins.counters();
        while counters.read < counters.delivered.max(1) && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            counters = origins.counters();
        }
        assert_eq!(counters.seen, connections);
        assert_eq!(counters.seen, counters.delivered + counters.full);
        assert_eq!(counters.read, counters.delivered);
        assert!(counters.full >= 100 - 1, "{counters:?}");
    });
}

#[test]
fn missing_capabilities_are_named() {
    in_cgroup("missing_capabilities_are_named", |cgroup| {
        capabilities::drop_of_this_thread(false).unwrap();
        let outcome = KernelOrigins::attach(Options::new(cgroup.join("watched"), Pods::one()));
        let Err(error) = outcome else { panic!("attached without a capability") };
        assert!(matches!(&error, OriginError::Capabilities { .. }), "{error}");
        assert!(error.to_string().contains("BPF and NET_ADMIN"), "{error}");
    });
}

/// Attaches one of our programs as an inconsiderate owner would: without a link and without the multi flag. It
/// goes away with the cgroup.
#[allow(unsafe_code)]
fn attach_exclusively(cgroup: &Path) {
    /// `bpf_attr` of `BPF_PROG_ATTACH`
    #[repr(C)]
    struct Attach {
        target_fd: u32,
        program_fd: u32,
        hook: u32,
        flags: u32,
    }
    const BPF_PROG_ATTACH: libc::c_int = 8;
    const BPF_CGROUP_INET_EGRESS: u32 = 1;
    let mut bpf = aya::EbpfLoader::new().load(loader::OBJECT).unwrap();
    let program = bpf.program_mut("plaintext_egress").unwrap();
    let program: &mut aya::programs::CgroupSkb = program.try_into().unwrap();
    program.load().unwrap();
    let directory = fs::File::open(cgroup).unwrap();
    let attach = Attach {
        target_fd: directory.as_raw_fd().cast_unsigned(),
        program_fd: program.fd().unwrap().as_fd().as_raw_fd().cast_unsigned(),
        hook: BPF_CGROUP_INET_EGRESS,
        flags: 0,
    };
    // SAFETY: the kernel reads as many bytes of the attribute as are said to be there; both descriptors are open.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_program_that_tolerates_no_other_is_named_as_the_cause() {
    in_cgroup("a_program_that_tolerates_no_other_is_named_as_the_cause", |cgroup| {
        attach_exclusively(&cgroup.join("watched"));
        let outcome = KernelOrigins::attach(Options::new(cgroup.join("watched"), Pods::one()));
        let Err(error) = outcome else { panic!("attached beside an exclusive program") };
        assert!(matches!(&error, OriginError::ForeignProgram { .. }), "{error}");
    });
}

/// Kernels allow a million instructions to be followed, and older ones follow more of them than this one does.
#[test]
fn the_verifier_is_far_from_its_limit() {
    in_cgroup("the_verifier_is_far_from_its_limit", |_| {
        let mut bpf = aya::EbpfLoader::new().load(loader::OBJECT).unwrap();
        for (name, program) in bpf.programs_mut() {
            let loaded = match program {
                aya::programs::Program::CgroupSkb(program) => program.load().and_then(|()| program.info()),
                aya::programs::Program::CgroupSockAddr(program) => {
                    program.load().and_then(|()| program.info())
                }
                aya::programs::Program::SockOps(program) => program.load().and_then(|()| program.info()),
                other => panic!("{name} is {other:?}"),
            };
            // Told since 5.16.
            let followed = loaded.unwrap().verified_instruction_count().unwrap_or(0);
            println!("{name}: {followed} instructions followed");
            assert!(followed < 250_000, "{name}: {followed}");
        }
    });
}
