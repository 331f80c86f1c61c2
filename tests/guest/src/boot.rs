//! The first process of a guest.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    net::UdpSocket,
    os::fd::AsRawFd as _,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    mount::{MsFlags, mount},
    sys::{
        resource::{RLIM_INFINITY, Resource, setrlimit},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, sync},
};

use crate::{answer, read};

/// Where xtask puts the plan.
const PLAN: &str = "/plan.json";
/// Where answers go when the plan names no device for them, between the kernel's own messages.
const CONSOLE: &str = "/dev/console";

/// How long a device may take to appear, and to work.
const PATIENCE: Duration = Duration::from_secs(30);

/// Source, place, type and data of what is mounted.
const MOUNTS: [(&str, &str, &str); 8] = [
    ("proc", "/proc", "proc"),
    ("sysfs", "/sys", "sysfs"),
    ("devtmpfs", "/dev", "devtmpfs"),
    ("devpts", "/dev/pts", "devpts"),
    ("tmpfs", "/dev/shm", "tmpfs"),
    ("tmpfs", "/run", "tmpfs"),
    ("bpf", "/sys/fs/bpf", "bpf"),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2"),
];

/// Makes the machine usable and powers it off when a child has run the plan; returns in that child only.
pub(crate) fn as_first_process() {
    if let Err(error) = prepare() {
        // There may be no device yet that anybody reads.
        let _ = fs::write("/dev/kmsg", format!("kernel-guest: {error:#}"));
        eprintln!("kernel-guest: {error:#}");
        power_off();
    }
    // SAFETY: this process has one thread, so the child may do all that its parent may (fork(2)).
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => {
            adopt_until(child);
            power_off()
        }
        Ok(ForkResult::Child) => {
            if let Err(error) = become_the_runner() {
                eprintln!("kernel-guest: {error:#}");
            }
        }
        Err(error) => {
            eprintln!("kernel-guest: fork: {error}");
            power_off()
        }
    }
}

/// Replaces itself by the program that the host runs too.
fn become_the_runner() -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    Err(Command::new("/proc/self/exe").arg(PLAN).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").exec().into())
}

fn prepare() -> Result<()> {
    for (source, place, kind) in MOUNTS {
        fs::create_dir_all(place).with_context(|| place.to_owned())?;
        mount(Some(source), place, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting {kind} on {place}"))?;
    }
    fs::create_dir_all("/tmp")?;
    let _ = symlink("/proc/self/fd", "/dev/fd");
    // Before 5.11 maps count against it.
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
    let plan = read(Path::new(PLAN))?;
    let modules = plan["modules"].as_array().into_iter().flatten().filter_map(|module| module.as_str());
    let loaded: Vec<_> = modules.map(|module| (module, load_module(Path::new(module)))).collect();
    // Only now: the device may be a module's, which finds it a little later.
    answer_on(plan["answers"].as_str().unwrap_or(CONSOLE))?;
    for (module, result) in loaded {
        if let Err(error) = result {
            answer(&serde_json::json!({ "module": module, "error": format!("{error:#}") }));
        }
    }
    loopback_up().context("the loopback interface")
}

/// What `ip link set lo up` does: netdevice(7).
fn loopback_up() -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: numbers, an array and a union of such: all zero is one of their values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is the kernel's struct, which the call only reads; it and the socket live until it returns.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error().into()) }
}

/// Standard input, output and error, as a terminal that changes nothing.
fn answer_on(device: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let console = loop {
        match OpenOptions::new().read(true).write(true).open(device) {
            Ok(console) => break console,
            Err(error) if Instant::now() > deadline => return Err(error).context(device.to_owned()),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    };
    dup2_stdin(&console)?;
    dup2_stdout(&console)?;
    dup2_stderr(&console)?;
    Ok(())
}

/// `finit_module(2)`. One that is there already, or built in, is fine.
fn load_module(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    let none = CString::default();
    // SAFETY: a file and a string that live until the call returns; the kernel only reads them.
    let done = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), none.as_ptr(), 0) };
    match (done, io::Error::last_os_error()) {
        (0, _) => Ok(()),
        (_, error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        (_, error) => Err(error.into()),
    }
}

/// Waits for every child, as the first process must, until `child` has ended.
fn adopt_until(child: Pid) {
    loop {
        match waitpid(None::<Pid>, None) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) if pid == child => return,
            Err(nix::errno::Errno::ECHILD) => return,
            _ => {}
        }
    }
}

fn power_off() -> ! {
    sync();
    // The serial line's buffer is not part of what sync(2) waits for.
    thread::sleep(Duration::from_millis(50));
    // SAFETY: no preconditions; nothing of this machine is worth keeping.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
    // Only reached without the right to: the kernel panics when its first process ends, and QEMU ends with it.
    std::process::abort()
}
