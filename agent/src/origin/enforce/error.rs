//! Why plaintext cannot be blocked as configured.

use std::io;

/// Why enforcement could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EnforceError {
    /// Capabilities or the host's pid namespace are missing.
    #[error(
        "`plaintext: block` ends connections in the pods' network namespaces, and for that {}. Add the capabilities \
         NET_ADMIN, SYS_ADMIN and SYS_PTRACE to the container's securityContext and `hostPID: true` to the pod \
         (a separate process keeps them; the one that receives telemetry drops all), or set `plaintext` to `warn`",
        lacking(missing, *host_pid)
    )]
    Privileges {
        /// Names as Kubernetes writes them, without `CAP_`.
        missing: Vec<&'static str>,
        /// Whether this process is in the host's pid namespace.
        host_pid: bool,
    },
    /// `CONFIG_INET_DIAG_DESTROY` is off.
    #[error(
        "this kernel cannot destroy sockets (CONFIG_INET_DIAG_DESTROY is not set), so that applications would hang \
         instead of getting an error: use a distribution's kernel, or set `plaintext` to `warn`"
    )]
    Unsupported,
    /// Other threads are there already.
    #[error("{0} threads are running, and a process can only be forked safely by a single one")]
    Threads(usize),
    /// The helper could not be started.
    #[error("the process that ends blocked connections cannot be started: {0}")]
    Helper(io::Error),
    /// The helper did not say anything.
    #[error(
        "the process that ends blocked connections did not get ready in time; is the node out of memory or \
         processes (`ulimit -u`, pids.max)?"
    )]
    Silent,
    /// The maps are somebody else's.
    #[error("enforcement was prepared before: one agent does it once")]
    Taken,
}

fn lacking(missing: &[&str], host_pid: bool) -> String {
    let capabilities = match missing {
        [] => None,
        [one] => Some(format!("the capability {one}")),
        many => Some(format!("the capabilities {}", many.join(" and "))),
    };
    let pid = (!host_pid).then(|| "the host's pid namespace (hostPID)".to_owned());
    let all: Vec<String> = capabilities.into_iter().chain(pid).collect();
    format!("this process lacks {}", all.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        for (missing, host_pid, words) in [
            (vec!["SYS_ADMIN"], true, "lacks the capability SYS_ADMIN."),
            (vec!["SYS_ADMIN", "SYS_PTRACE"], true, "lacks the capabilities SYS_ADMIN and SYS_PTRACE."),
            (vec![], false, "lacks the host's pid namespace (hostPID)."),
            (vec!["SYS_PTRACE"], false, "SYS_PTRACE and the host's pid namespace (hostPID)."),
        ] {
            let text = EnforceError::Privileges { missing, host_pid }.to_string();
            assert!(text.contains(words), "{text}");
        }
    }
}
