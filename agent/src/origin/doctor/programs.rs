//! Every program loaded for real, so that the kernel's verifier has its say.

#![forbid(unsafe_code)]

use super::{Check, Status};
use crate::origin::{
    capabilities,
    loader::{OBJECT, chain},
};
use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError, ProgramInfo},
};

/// What came of loading.
pub(super) struct Loads {
    /// Whether every program loads.
    pub(super) all: bool,
    /// Their names.
    pub(super) names: Vec<String>,
}

/// Appends a check a program.
pub(super) fn checks(checks: &mut Vec<Check>) -> Loads {
    let mut bpf = match EbpfLoader::new().load(OBJECT) {
        Ok(bpf) => bpf,
        Err(error) => {
            checks.push(refused("maps", "the kernel does not create the maps", &chain(&error)));
            return Loads { all: false, names: Vec::new() };
        }
    };
    checks.push(Check::ok("maps", format!("all {} are created", bpf.maps().count())));
    let mut names: Vec<String> = bpf.programs().map(|(name, _)| name.to_owned()).collect();
    names.sort_unstable();
    let before = checks.len();
    checks.extend(names.iter().map(|name| load(&mut bpf, name)));
    let all = checks[before..].iter().all(|check| check.status == Status::Ok);
    Loads { all, names }
}

fn load(bpf: &mut Ebpf, name: &str) -> Check {
    let check = format!("program/{name}");
    let info = match bpf.program_mut(name) {
        Some(program) => load_program(program),
        None => return Check::fail(check, "not in the object"),
    };
    match info {
        Ok(info) => {
            let verified = info.verified_instruction_count();
            let detail = verified.map_or_else(
                || "loads; how much the verifier went through is told from 5.16 on".to_owned(),
                |count| format!("loads; the verifier went through {count} instructions"),
            );
            Check { verified_instructions: verified, ..Check::ok(check, detail) }
        }
        Err(error) => refused(&check, "the kernel does not load it", &chain(&error)),
    }
}

/// The kinds of program that the object is made of.
fn load_program(program: &mut Program) -> Result<ProgramInfo, ProgramError> {
    match program {
        Program::CgroupSkb(program) => program.load()?,
        Program::CgroupSockAddr(program) => program.load()?,
        Program::SockOps(program) => program.load()?,
        _ => return Err(ProgramError::UnexpectedProgramType),
    }
    program.info()
}

/// A lack of privilege in almost every case: say which.
fn refused(name: &str, detail: &str, said: &str) -> Check {
    let missing = capabilities::missing_for_bpf();
    if missing.is_empty() {
        Check::fail(name, detail)
            .because(last_lines(said))
            .remedy("is the kernel built with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF? Please report this with `uname -r`")
    } else {
        Check::unchecked(
            name,
            format!("this process lacks {} (the kernel said: {})", missing.join(" and "), last_lines(said)),
        )
        .remedy("see `capabilities`")
    }
}

/// The end of the kernel's answer: a verifier's log says why it refused in its last lines.
fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(8)..].join(" / ")
}
