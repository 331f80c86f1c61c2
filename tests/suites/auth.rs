//! The gate in front of a listener over real sockets, with shared tokens: who is let in and what the others are told;
//! tokens that change; what one sender may cost the others; tokens that an exporter sends.

// The receiver's suite uses all of it.
#[allow(dead_code)]
#[path = "receiver/harness.rs"]
mod harness;

#[path = "auth/chain.rs"]
mod chain;
#[path = "auth/credentials.rs"]
mod credentials;
#[path = "auth/floods.rs"]
mod floods;
#[path = "auth/outgoing.rs"]
mod outgoing;
#[path = "auth/pods.rs"]
mod pods;

use std::{fs, path::PathBuf, sync::Arc};

use harness::TempDir;
use spanwarden::{
    auth::{Authenticator, bearer::Bearer, gate::Gate},
    config::auth::{BearerTokenExtension, BearerTokens},
    receiver::Gates,
};

/// A file of tokens and who reads it.
struct Tokens {
    directory: TempDir,
    bearer: Arc<Bearer>,
}

impl Tokens {
    fn new(name: &str, text: &str) -> Self {
        let directory = TempDir::new(&format!("auth-{name}"));
        let path = directory.0.join("tokens");
        fs::write(&path, text).unwrap();
        let config = BearerTokenExtension {
            header: "Authorization".to_owned(),
            scheme: "Bearer".to_owned(),
            tokens: BearerTokens::File(path),
        };
        let bearer = Arc::new(Bearer::new(format!("bearertokenauth/{name}"), &config).unwrap());
        Self { directory, bearer }
    }

    fn path(&self) -> PathBuf {
        self.directory.0.join("tokens")
    }

    /// As Secret volumes and editors do it.
    fn replace(&self, text: &str) {
        let next = self.directory.0.join("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.path()).unwrap();
    }

    /// Asks for one of them, at both protocols.
    fn gates(&self) -> Gates {
        gates(Arc::clone(&self.bearer) as _)
    }
}

fn gates(authenticator: Arc<dyn Authenticator>) -> Gates {
    let gate = Arc::new(Gate { authenticator: Some(authenticator), ..Gate::default() });
    Gates { grpc: Arc::clone(&gate), http: gate, ..Gates::default() }
}
