//! One run of a guest under QEMU, without hardware acceleration: the same everywhere.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::debian::Kernel;

/// What `kernel-guest` puts before an answer.
const MARK: &str = "@@ ";
/// A guest that says nothing for so long hangs: a test may take ten minutes, and is ended then.
const SILENCE: Duration = Duration::from_mins(12);
/// Lines of the kernel's messages in an error.
const SHOWN: usize = 40;
/// In the kernel's own messages: it has found a fault in itself, or is about to end.
const FAULTS: [&str; 6] =
    ["BUG:", "Oops", "Kernel panic", "general protection fault", "WARNING: CPU", "Unable to handle"];

/// A machine that QEMU emulates.
pub(super) struct Machine {
    /// QEMU's program.
    pub(super) qemu: &'static str,
    /// Its arguments of this architecture.
    pub(super) arguments: &'static [&'static str],
    /// The package that has it.
    pub(super) package: &'static str,
    /// The kernel's console.
    pub(super) console: &'static str,
    /// The device, in the guest, that QEMU connects with its standard output: answers go there.
    pub(super) answers: &'static str,
    /// The processor, for a kernel's release.
    pub(super) processor: fn(&str) -> &'static str,
    /// Parameters of the kernel on this architecture.
    pub(super) parameters: &'static str,
}

/// Parameters of every kernel. An emulated timer may be late on a busy machine. QEMU translates code again for every
/// address at which a program is mapped, so all processes have the same addresses: a quarter less work. Mitigations
/// stay on: `mitigations=off` also changes what the verifier accepts from an unprivileged loader.
const PARAMETERS: &str = "loglevel=6 panic=-1 random.trust_cpu=on norandmaps";

/// A PC: its second serial line has the answers, where no message of the kernel gets between.
pub(super) const PC: Machine = Machine {
    qemu: "qemu-system-x86_64",
    arguments: &["-M", "pc", "-serial", "stdio"],
    package: "qemu-system-x86",
    console: "ttyS0",
    answers: "/dev/ttyS1",
    processor: pc_processor,
    // Each jump that a retpoline makes of an indirect call is one that QEMU has to look up. The verifier does not ask
    // for these two.
    parameters: "no_timer_check spectre_v2=off retbleed=off",
};

/// What QEMU makes up for arm64: it has one serial line, so that the answers take a console of virtio's.
pub(super) const VIRT: Machine = Machine {
    qemu: "qemu-system-aarch64",
    arguments: &[
        "-M",
        "virt",
        "-chardev",
        "stdio,id=answers",
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtconsole,chardev=answers",
    ],
    package: "qemu-system-arm",
    console: "ttyAMA0",
    answers: "/dev/hvc0",
    processor: |_| "max",
    parameters: "",
};

/// Boots, gives every answer to `each`, and waits until the machine is off. The kernel's messages are in `log`.
pub(super) fn run(
    machine: &Machine,
    kernel: &Kernel,
    image: &Path,
    log: &Path,
    limit: Duration,
    mut each: impl FnMut(Value),
) -> Result<()> {
    let mut command = Command::new(machine.qemu);
    command
        .args([
            "-accel",
            // With a thread for each processor, one that runs code which the other is patching (a static branch) may
            // never leave it: 6.1 stood still so, with QEMU 7.2.
            "tcg,thread=single",
            "-cpu",
            (machine.processor)(&kernel.release),
            "-smp",
            "2",
            "-m",
            "2048",
        ])
        .args(["-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot", "-no-user-config"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        .args(["-serial", &format!("file:{}", log.display())])
        .args(machine.arguments)
        .args(["-append", &format!("console={} {PARAMETERS} {}", machine.console, machine.parameters)]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot run {}", machine.qemu))?;
    let result = listen(&mut child, limit, &mut each);
    // It has ended by itself unless something is wrong.
    let ended = result.is_ok() && ended(&mut child)?;
    if !ended {
        child.kill()?;
        child.wait()?;
    }
    let said = fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    let last = || lines[lines.len().saturating_sub(SHOWN)..].join("\n");
    match result {
        Err(error) => {
            bail!("{error:#}; the kernel's last messages (all of them: {}):\n{}", log.display(), last())
        }
        Ok(()) if !ended => bail!("the machine has said all and does not go off; see {}", log.display()),
        Ok(()) => {}
    }
    if let Some(fault) = lines.iter().find(|line| FAULTS.iter().any(|fault| line.contains(fault))) {
        bail!("the kernel has found a fault in itself, see {}:\n{fault}", log.display());
    }
    Ok(())
}

/// QEMU before 8.0 leaves garbage in the flags after CMPXCHG16B, with which kernels that use it for every allocation
/// crash now and then: those from 6.7 to 6.17. Later ones use it seldom, but without it they can't allocate what
/// programs store with a socket.
fn pc_processor(release: &str) -> &'static str {
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if version < (6, 18) { "max,cx16=off" } else { "max" }
}

/// Takes answers until the last one.
fn listen(child: &mut Child, limit: Duration, each: &mut impl FnMut(Value)) -> Result<()> {
    let stdout = child.stdout.take().context("no output of QEMU")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n') {
            let Ok(line) = line else { return };
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = match receiver.recv_timeout(left.min(SILENCE)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) if left > SILENCE => bail!("silent for {} s", SILENCE.as_secs()),
            Err(RecvTimeoutError::Timeout) => bail!("not done within {} s", limit.as_secs()),
            Err(RecvTimeoutError::Disconnected) => bail!("the machine went off before it had said all"),
        };
        match line.strip_prefix(MARK) {
            Some(answer) => {
                let answer: Value = serde_json::from_str(answer).with_context(|| answer.to_owned())?;
                if answer["done"] == true {
                    return Ok(());
                }
                each(answer);
            }
            None if line.is_empty() => {}
            None => println!("    said: {line}"),
        }
    }
}

fn ended(child: &mut Child) -> Result<bool> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

/// The same program on this machine's own kernel, with the same plan.
pub(super) fn here(program: &Path, plan: &Path, limit: Duration, mut each: impl FnMut(Value)) -> Result<()> {
    let log = plan.with_extension("log");
    let mut child = Command::new(program)
        .arg(plan)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?)
        .spawn()
        .with_context(|| program.display().to_string())?;
    let result = listen(&mut child, limit, &mut each);
    if result.is_err() {
        child.kill()?;
    }
    child.wait()?;
    result.with_context(|| format!("on this machine's kernel; see {}", log.display()))
}
