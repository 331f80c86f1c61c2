//! Loads and attaches each program for itself, and says what the verifier did.

use std::{
    fs::{self, File},
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{CgroupAttachMode, Program, ProgramError, ProgramInfo},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::{answer, own::Cgroup};

/// One answer a program: instructions the verifier went through, the time it took, time of the whole load. Whether
/// all of them are attached.
pub(crate) fn measure(object: &Path) -> Result<bool> {
    let bytes = fs::read(object).with_context(|| object.display().to_string())?;
    let mut bpf = EbpfLoader::new().verifier_log_level(VerifierLogLevel::STATS).load(&bytes)?;
    let mut names: Vec<String> = bpf.programs().map(|(name, _)| name.to_owned()).collect();
    names.sort();
    ensure!(!names.is_empty(), "{} has no programs", object.display());
    let cgroup = Cgroup::new()?;
    let directory = cgroup.open()?;
    let mut all = true;
    for name in names {
        let result = one(&mut bpf, &name, &directory);
        all &= result.is_ok();
        let result = result.map_err(|(loaded, error)| {
            // The log of one that is too complex has no end, and says no more.
            let with_log = !loaded && !format!("{error}").contains("too large");
            let refused = if with_log { refusal(&bytes, &name) } else { None };
            (loaded, refused.unwrap_or(error))
        });
        answer(&match result {
            Ok(value) => json!({ "program": name, "loaded": true, "attached": true, "verifier": value }),
            Err((loaded, error)) => {
                json!({ "program": name, "loaded": loaded, "attached": false, "error": format!("{error:#}") })
            }
        });
    }
    Ok(all)
}

/// What the verifier says; or whether the program was loaded at least, and why it could not be attached.
fn one(bpf: &mut Ebpf, name: &str, cgroup: &File) -> Result<Value, (bool, anyhow::Error)> {
    let program = bpf.program_mut(name).context("it is gone").map_err(|error| (false, error))?;
    let mut verifier = verify(program).map_err(|error| (false, error))?;
    let start = Instant::now();
    load(program).map_err(|error| (false, error.into()))?;
    verifier["load_us"] = json!(start.elapsed().as_micros());
    // Since 5.16 the kernel tells it of a loaded program; the log must have said the same.
    let told = info(program).map_err(|error| (true, error))?.verified_instruction_count();
    if let Some(told) = told
        && verifier["instructions"] != json!(told)
    {
        return Err((true, anyhow::anyhow!("{told} instructions, but the verifier's log says {verifier}")));
    }
    attach(program, cgroup).map_err(|error| (true, error))?;
    Ok(verifier)
}

/// The end of what the verifier says of a program that it refuses, with the instructions that led there.
fn refusal(object: &[u8], name: &str) -> Option<anyhow::Error> {
    const SHOWN: usize = 6_000;
    let mut bpf = EbpfLoader::new().load(object).ok()?;
    let error = load(bpf.program_mut(name)?).err()?;
    let ProgramError::LoadError { io_error, verifier_log } = error else { return Some(error.into()) };
    let log = verifier_log.to_string();
    let from = log.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
    Some(anyhow::anyhow!("{io_error}; the verifier says:\n{}", &log[from..]))
}

/// Has the program verified without loading it, because the log of a load that succeeds is lost: a process that may
/// have no more files fails only when the verifier is through.
fn verify(program: &mut Program) -> Result<Value> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard)?;
    let result = load(program);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    let Err(ProgramError::LoadError { io_error, verifier_log }) = result else {
        bail!("a process that may have no files has loaded a program: {result:?}")
    };
    let log = verifier_log.to_string();
    ensure!(io_error.raw_os_error() == Some(libc::EMFILE), "{io_error}; the verifier says:\n{log}");
    // Lines "verification time 123 usec" and "processed 4567 insns (limit 1000000) …", kernel/bpf/verifier.c
    let number = |before: &str| {
        let rest = log.lines().find_map(|line| line.strip_prefix(before))?;
        rest.split_once(' ')?.0.parse::<u64>().ok()
    };
    let instructions = number("processed ").with_context(|| format!("no count in {log:?}"))?;
    Ok(json!({ "instructions": instructions, "verification_us": number("verification time ") }))
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSkb(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn info(program: &Program) -> Result<ProgramInfo> {
    Ok(program.info()?)
}

fn attach(program: &mut Program, cgroup: &File) -> Result<()> {
    match program {
        Program::CgroupSkb(program) => {
            let kind = program.expected_attach_type().as_ref().copied().context("no direction")?;
            program.attach(cgroup, kind, CgroupAttachMode::Single)?;
        }
        Program::CgroupSockAddr(program) => {
            program.attach(cgroup, CgroupAttachMode::Single)?;
        }
        Program::SockOps(program) => {
            program.attach(cgroup, CgroupAttachMode::Single)?;
        }
        _ => bail!("a program of a kind that kernel-guest does not know"),
    }
    Ok(())
}
